"""Predator-prey: start states, randomness, special predators, sizes, and returns of random play."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gpgrad import envs
from gpgrad.envs import SettingError
from gpgrad.envs.predator_prey.env import PredatorPrey, PredatorPreyParams
from tests.helpers.small_boards import KEY, cells, predator_prey, put, view_of

# Start states, chance and specials.


def test_start_cells_are_uniform_and_distinct():
    env = predator_prey(3, 2, 2)
    resets = 20_000
    start = jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(KEY, resets), env.params(KEY))
    where = np.concatenate([start.agents, start.prey], axis=1).astype(int)
    number = where[..., 0] * env.width + where[..., 1]  # [N, E]
    assert all(len(set(row)) == 7 for row in number[:2000])
    assert (np.sort(number, axis=1)[:, 1:] != np.sort(number, axis=1)[:, :-1]).all()
    for entity in range(7):
        counts = np.bincount(number[:, entity], minlength=30)
        assert len(counts) == 30
        assert stats.chisquare(counts).pvalue > 1e-4
    pair = np.bincount(number[:, 0] * 30 + number[:, 6], minlength=900).reshape(30, 30)
    assert stats.chisquare(pair[~np.eye(30, dtype=bool)]).pvalue > 1e-4
    assert bool(start.active.all() & start.alive.all() & (start.time == 0).all())


def test_a_full_board_can_be_filled():
    env = predator_prey(10, 10, 10)
    start = env.reset(KEY, env.params(KEY))
    assert len(set(cells(start.agents) + cells(start.prey))) == 30


def test_chance_is_uniform():
    env = predator_prey(3, 3)
    drawn = jax.device_get(jax.jit(jax.vmap(env.draws))(jax.random.split(KEY, 12_000)))
    for order in (drawn.agent_order, drawn.prey_order):
        assert (np.sort(order, axis=1) == np.arange(3)).all()
        counts = np.unique(order @ [9, 3, 1], return_counts=True)[1]
        assert len(counts) == 6
        assert stats.chisquare(counts).pvalue > 1e-4
    for prey in range(3):
        counts = np.bincount(drawn.prey_choice[:, prey], minlength=12)
        assert len(counts) == 12
        assert stats.chisquare(counts).pvalue > 1e-4
    both = np.unique(drawn.agent_order[:, 0] * 3 + drawn.prey_order[:, 0], return_counts=True)[1]
    assert stats.chisquare(both).pvalue > 1e-4


def test_specials_are_a_uniform_set_of_the_asked_size():
    env = predator_prey(4, 1, n_special=2)
    special = np.asarray(jax.vmap(env.params)(jax.random.split(KEY, 6000)).special)
    assert (special.sum(1) == 2).all()
    counts = np.unique(special @ [8, 4, 2, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4


def test_specials_follow_the_key_or_the_list_and_nothing_else():
    env = predator_prey(6, 1, n_special=2)
    np.testing.assert_array_equal(env.params(KEY).special, env.params(KEY).special)
    listed = predator_prey(6, 1, n_special=2, special_ids="3, 2")
    for seed in range(5):
        special = listed.params(jax.random.key(seed)).special
        np.testing.assert_array_equal(special, [False, False, True, True, False, False])

    @jax.jit
    def seen(special):
        params = PredatorPreyParams(special)
        state = env.reset(KEY, params)
        return state, env.view(params, state)

    everybody, nobody = seen(jnp.ones(6, bool)), seen(jnp.zeros(6, bool))
    jax.tree.map(np.testing.assert_array_equal, everybody, nobody)


# Sizes.


@functools.partial(jax.jit, static_argnums=(0, 1))
def random_play(env: PredatorPrey, worlds: int, key: jax.Array):
    """Uniformly random available actions. Returns [W] and the states [T, W]."""
    params = env.params(key)

    def step(carry, key):
        state, running = carry
        k_action, k_step = jax.random.split(key)
        avail = jax.vmap(env.view, (None, 0))(params, state).avail
        scores = jnp.where(avail, jax.random.uniform(k_action, avail.shape), -1.0)
        keys = jax.random.split(k_step, worlds)
        after = jax.vmap(env.step, (0, None, 0, 0))(keys, params, state, jnp.argmax(scores, -1))
        still = running & ~after.terminated & ~after.truncated
        return (after.state, still), (after.state, jnp.where(running, after.reward, 0.0))

    start = jax.vmap(env.reset, (0, None))(jax.random.split(key, worlds), params)
    keys = jax.random.split(jax.random.fold_in(key, 1), env.episode_limit)
    (_, running), (states, rewards) = jax.lax.scan(step, (start, jnp.ones(worlds, bool)), keys)
    return rewards.sum(0), states, running


@pytest.mark.parametrize(
    ("n_agents", "n_stags", "n_hares", "freeze"),
    [(1, 0, 1, False), (2, 1, 0, True), (27, 9, 4, False), (50, 3, 25, True)],
)
def test_any_team_size_on_any_board(n_agents, n_stags, n_hares, freeze):
    env = predator_prey(n_agents, n_stags, n_hares, height=9, width=14, episode_limit=30, freeze=freeze, penalty=-1.0)
    returns, states, running = jax.device_get(random_play(env, 8, KEY))
    assert not running.any()
    assert np.isfinite(returns).all()
    assert states.agents.shape == (30, 8, n_agents, 2)
    where = np.concatenate([states.agents, states.prey], axis=2).astype(int)
    there = np.concatenate([states.active, states.alive], axis=2)
    assert ((where >= 0) & (where < [9, 14])).all()
    number = np.where(there, where[..., 0] * 14 + where[..., 1], -1 - np.arange(there.shape[-1]))
    ordered = np.sort(number, axis=-1)
    assert (ordered[..., 1:] != ordered[..., :-1]).all()


@pytest.mark.parametrize(
    ("name", "changes", "scale"),
    [
        ("pp_small", {}, 120.0),
        ("pp_medium", {}, 200.0),
        ("pp_large", {}, 300.0),
        ("pp_small", {"n_special": 0}, 72.0),
        ("pp_p0", {}, 40.0),
        ("pp_p2", {"penalty": -1.0}, 40.0),
        ("pp_p0", {"n_stags": 3}, 30.0),
        ("pp_p0", {"n_stags": 1, "n_hares": 3, "n_special": 1}, 10.0 + 10.0 + 2 * 2.0),
        ("pp_p0", {"n_agents": 1}, 1.0),
    ],
)
def test_return_scale(name, changes, scale):
    assert envs.make(name, **changes).spec.return_scale == scale


def test_positions_of_the_state_fit_their_dtype():
    small, large = predator_prey(1, 1, height=100, width=100), predator_prey(1, 1, height=127, width=127)
    corner = put([(126, 126)], [(126, 125)])
    assert jax.eval_shape(small.view, small.params(KEY), corner).state.index.dtype == jnp.int16
    state = view_of(large, corner).state
    assert state.index.dtype == jnp.int32
    assert np.flatnonzero(state.dense()).tolist() == [3 * (127 * 127 - 2) + 1, 3 * (127 * 127 - 1)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n_special": 7}, "n_special must be at most n_agents = 6"),
        ({"n_special": -1}, "n_special must be at least 0 \\(got -1"),
        ({"height": 4, "width": 4}, "do not fit on 4 x 4 cells"),
        ({"height": 0}, "height must be at least 1"),
        ({"width": 128}, "width must be at most 127"),
        ({"height": 128}, "height must be at most 127"),
        ({"n_agents": 0}, "n_agents must be at least 1"),
        ({"n_stags": -1}, "n_stags must be at least 0"),
        ({"n_hares": -1}, "n_hares must be at least 0"),
        ({"n_stags": 0, "n_hares": 0}, "n_stags \\+ n_hares must be at least 1"),
        ({"view_radius": -1}, "view_radius must be at least 0"),
        ({"episode_limit": 0}, "episode_limit must be at least 1"),
        ({"episode_limit": 40_000}, "episode_limit must be at most 32767 \\(got 40000"),
        ({"special_ids": "1"}, "special_ids must be n_special = 2"),
        ({"special_ids": "1,1"}, "special_ids must be n_special = 2 different"),
        ({"special_ids": "1,6"}, "from 0 to 5"),
        ({"special_ids": "-1,2"}, "from 0 to 5"),
        ({"special_ids": "one,two"}, "predator numbers such as"),
    ],
)
def test_bad_sizes_are_refused_in_one_sentence(bad, message):
    with pytest.raises(SettingError, match=message) as caught:
        envs.make("pp_small", **bad)
    assert "\n" not in str(caught.value)


# Random play: mean return and standard error of uniformly random available actions, computed elsewhere.


@pytest.mark.parametrize(
    ("name", "references"),
    [
        ("pp_small", [(15.17, 0.29), (15.12, 0.10)]),
        pytest.param("pp_medium", [(25.11, 0.23)], marks=pytest.mark.slow),
        pytest.param("pp_large", [(40.41, 0.66)], marks=pytest.mark.slow),
        ("pp_p0", [(5.34, 0.14)]),
        ("pp_p2", [(-94.2, 0.7), (-93.0, 0.33)]),
    ],
)
def test_random_play_earns_what_it_should(name, references):
    returns = np.asarray(random_play(envs.make(name), 1024, jax.random.key(7))[0])
    error = returns.std(ddof=1) / np.sqrt(len(returns))
    for mean, their_error in references:
        assert abs(returns.mean() - mean) <= 4 * np.hypot(error, their_error), (returns.mean(), error)
