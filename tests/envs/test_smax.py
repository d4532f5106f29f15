"""SMAX against JaxMARL: equal keys give equal battles, views and rewards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import envs
from gpgrad.envs import SettingError, jaxmarl_import, registry
from gpgrad.envs.smax import rules as smax_rules
from gpgrad.envs.smax.battle import N_MOVES, SmaxState
from gpgrad.envs.smax.env import Smax
from tests.helpers.jaxmarl_battles import jaxmarl_state

ROOT = Path(__file__).parents[2]
MAP = "3s_vs_5z"  # two types of unit and teams of different sizes
LANES, STEPS = 12, 60


@pytest.fixture(scope="module")
def both() -> SimpleNamespace:
    """Every step of some battles by both programs from the same states and keys; axes [LANES, STEPS]."""
    env = Smax(MAP)
    heuristic = jaxmarl_import.load("environments.smax.heuristic_enemy_smax_env").HeuristicEnemySMAX
    reference = heuristic(scenario=smax_rules.scenario(MAP))

    def battle(key: jax.Array):
        k_reset, k_steps = jax.random.split(key)

        def step(state: SmaxState, key: jax.Array):
            k_choice, k_step = jax.random.split(key)
            theirs = jaxmarl_state(env, reference, state)
            obs, avail = reference.get_obs(theirs), reference.get_avail_actions(theirs)
            view = env.view((), state)
            scores = jnp.where(view.avail, jax.random.uniform(k_choice, view.avail.shape), -1.0)
            eager = jnp.where(jnp.arange(scores.shape[1]) >= N_MOVES, 2 * scores, scores)
            actions = jnp.argmax(eager, -1)
            chosen = {agent: actions[i] for i, agent in enumerate(reference.agents)}
            _, after, rewards, dones, _ = reference.step_env(k_step, theirs, chosen)
            seen = (jnp.stack([obs[a] for a in reference.agents]), jnp.stack([avail[a] for a in reference.agents]))
            ours = env.step(k_step, (), state, actions)
            told = (rewards["ally_0"], dones["__all__"])
            return ours.state, (state, view, ours, seen, reference.get_world_state(theirs), after, told)

        start = env.reset(k_reset, ())
        first = reference.reset(k_reset)[1].state
        return start, first, jax.lax.scan(step, start, jax.random.split(k_steps, STEPS))[1]

    start, first, rows = jax.jit(jax.vmap(battle))(jax.random.split(jax.random.key(3), LANES))
    names = ("states", "views", "steps", "seen", "world_states", "after", "told")
    found = SimpleNamespace(env=env, start=start, first=first, **dict(zip(names, rows, strict=True)))
    ended = np.asarray(found.steps.terminated)
    found.on = np.cumsum(ended, 1) - ended == 0  # up to and including the last step
    return found


def test_starts_are_jaxmarls(both):
    places = np.stack([both.start.x, both.start.y], -1)
    np.testing.assert_allclose(places, both.first.unit_positions, atol=1e-5)
    np.testing.assert_array_equal(both.start.health, both.first.unit_health)


def test_views_are_jaxmarls(both):
    obs, avail = both.seen
    np.testing.assert_allclose(both.views.obs[both.on], obs[both.on], atol=1e-6)
    np.testing.assert_array_equal(both.views.avail[both.on], avail[both.on].astype(bool))
    told = (np.asarray(obs)[both.on] != 0).any((0, 1))
    assert told.sum() == 7 * 8 + 5  # everything but the types that a unit is not of


def test_the_state_is_jaxmarls_brought_to_0_to_1(both):
    rules = both.env.rules
    n = rules.n_units
    theirs = np.array(both.world_states[both.on])
    units = theirs[:, : 10 * n].reshape(-1, n, 10)
    units[..., 1:3] /= 32
    units[..., 3] = np.clip(units[..., 3] / rules.cooldown[rules.types], 0, 1)
    theirs[:, : 10 * n] = units.reshape(-1, 10 * n)
    theirs[:, 11 * n :] /= 5
    ours = np.asarray(both.views.state[both.on])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (ours.min(), ours.max()) == (0, 1)


def test_steps_are_jaxmarls(both):
    ours, theirs, on = both.steps.state, both.after.state, both.on
    places = np.stack([ours.x, ours.y], -1)
    np.testing.assert_allclose(places[on], theirs.unit_positions[on], atol=3e-5)
    np.testing.assert_array_equal(ours.health[on], theirs.unit_health[on])
    np.testing.assert_allclose(ours.cooldown[on], theirs.unit_weapon_cooldowns[on], atol=1e-5)
    np.testing.assert_array_equal(ours.attacked[on], both.after.enemy_policy_state.last_attacked_enemy[on])
    np.testing.assert_allclose(ours.target.swapaxes(-1, -2)[on], both.after.enemy_policy_state.default_target[on])
    attacks = np.where(ours.action >= N_MOVES, ours.action, 0)
    alive = np.asarray(both.states.health > 0) & on[..., None]
    np.testing.assert_array_equal(attacks[alive], theirs.prev_attack_actions[alive])


def test_rewards_and_ends_are_jaxmarls(both):
    reward, done = both.told
    np.testing.assert_allclose(both.steps.reward[both.on], reward[both.on], atol=1e-6)
    np.testing.assert_array_equal(both.steps.terminated[both.on], done[both.on])
    left = np.asarray(both.states.health)[both.on]
    assert (left[:, :3] == 0).any()
    assert (left[:, 3:].min(0) < both.env.rules.health[both.env.rules.types[3:]]).all()
    assert np.asarray(both.steps.terminated & both.on).any()


@pytest.fixture(scope="module")
def duel() -> SimpleNamespace:
    """Three marines against three, a step away from each other; `act(healths, time, actions)` is one step of theirs."""
    env = Smax("3m", episode_limit=10)
    rest = jax.eval_shape(env.reset, jax.random.key(0), ())
    base = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), rest)
    places = jnp.array([15.0, 15.0, 15.0, 17.0, 17.0, 17.0]), jnp.array([12.0, 16.0, 20.0] * 2)
    base = base._replace(x=places[0], y=places[1], attacked=jnp.full(3, -1, jnp.int8))
    step = jax.jit(env.step)

    def act(health, time=0, actions=(5, 6, 7)):
        state = base._replace(health=jnp.array(health, jnp.uint8), time=jnp.int16(time))
        return step(jax.random.key(0), (), state, jnp.array(actions))

    return SimpleNamespace(act=act, step=step)


def flags(step) -> dict:
    told = {name: int(step.info[name]) for name in ("won", "draw", "timed_out", "dead_allies", "dead_enemies")}
    return told | {"terminated": bool(step.terminated), "truncated": bool(step.truncated)}


NOTHING = {"won": 0, "draw": 0, "timed_out": 0, "dead_allies": 0, "dead_enemies": 0}


def test_a_win_counts_once(duel):
    done = duel.act([45, 45, 45, 1, 1, 1])
    assert flags(done) == NOTHING | {"won": 1, "dead_enemies": 3, "terminated": True, "truncated": False}
    np.testing.assert_allclose(done.reward, 1 + 3 / 45 / 3, rtol=1e-6)
    again = duel.step(jax.random.key(1), (), done.state, jnp.array([4, 4, 4]))
    assert flags(again) == NOTHING | {"terminated": True, "truncated": False}
    assert float(again.reward) == 0


def test_draws_losses_and_timeouts_are_no_wins(duel):
    draw = duel.act([1, 1, 1, 1, 1, 1])
    assert flags(draw) == NOTHING | {
        "draw": 1,
        "dead_allies": 3,
        "dead_enemies": 3,
        "terminated": True,
        "truncated": False,
    }
    np.testing.assert_allclose(draw.reward, 3 / 45 / 3, rtol=1e-6)
    loss = duel.act([1, 1, 1, 45, 45, 45], actions=(4, 4, 4))
    assert flags(loss) == NOTHING | {"dead_allies": 3, "terminated": True, "truncated": False}
    late = duel.act([45] * 6, time=9)
    assert flags(late) == NOTHING | {"timed_out": 1, "terminated": False, "truncated": True}
    assert flags(duel.act([45] * 6, time=8))["truncated"] is False
    last_moment = duel.act([45, 45, 45, 1, 1, 1], time=9)
    assert flags(last_moment) == NOTHING | {"won": 1, "dead_enemies": 3, "terminated": True, "truncated": False}


def test_every_map_of_jaxmarl_has_a_name():
    for name in smax_rules.ADDED:
        smax_rules.scenario(name)
    known = jaxmarl_import.load(smax_rules.SMAX).MAP_NAME_TO_SCENARIO
    assert set(registry.SMAX_MAPS) == set(known)


@pytest.mark.parametrize(
    ("name", "agents", "enemies", "types"),
    [("5m", 5, 5, {0}), ("15m", 15, 15, {0}), ("9z", 9, 9, {3}), ("3s6z", 9, 9, {2, 3}), ("8m_vs_9m", 8, 9, {0})],
)
def test_added_maps(name, agents, enemies, types):
    env = envs.make(f"smax_{name}")
    assert env.spec.n_agents == agents
    assert env.spec.n_actions == 5 + enemies
    assert env.spec.obs_dim == 13 * (agents + enemies - 1) + 10
    assert set(np.asarray(env.rules.types).tolist()) == types


@pytest.mark.parametrize("name", ["MMM2", "1c3s5z", "1c3s8z_vs_1c3s9z", "2c_vs_64zg", "2s_vs_1sc"])
def test_maps_without_units_in_smax_are_refused_with_the_reason(name):
    with pytest.raises(SettingError, match=f"{name} needs [a-z ]+, and SMAX has") as caught:
        envs.make(f"smax_{name}")
    assert "\n" not in str(caught.value)


def test_mistakes_in_maps_and_limits():
    with pytest.raises(SettingError, match="'3s5z'"):
        Smax("3s5")
    with pytest.raises(SettingError, match="episode_limit must be between 1 and 32767"):
        envs.make("smax_3m", episode_limit=0)


def test_jaxmarl_is_imported_when_a_battle_is_made_and_prints_nothing():
    code = (
        "import sys, gpgrad.envs.smax.env, gpgrad.envs.mpe; from gpgrad import envs; "
        "envs.names(); envs.options('smax_3m'); "
        "assert 'jaxmarl' not in sys.modules; "
        "envs.make('smax_3m'); assert 'jaxmarl' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == ""
