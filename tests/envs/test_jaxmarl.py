"""JaxMARL's other environments: the contract, and equal episodes by JaxMARL itself."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import envs
from gpgrad.envs import SettingError, checking, jaxmarl_import
from gpgrad.envs.api import Env
from gpgrad.envs.jaxmarl import storm
from gpgrad.envs.jaxmarl.env import JaxMarl, rows
from gpgrad.envs.jaxmarl.names import REFUSED, TRAINS

LANES = 4
SHORT: dict[str, dict[str, Any]] = {  # sizes that compile and run in little time; rewards come within these limits
    "MPE_simple_v3": {"episode_limit": 9},
    "switch_riddle": {"n_agents": 4},
    "coin_game": {},
    "storm": {},
    "storm_2p": {},
    "storm_np": {"n_agents": 3},
    "hanabi": {"n_colours": 2, "n_ranks": 2, "hand_size": 2, "info_tokens": 2},
    "overcooked": {"episode_limit": 300, "random_reset": True, "shaping": 0.5},
    "overcooked_v2": {"episode_limit": 300, "random_reset": True, "shaping": 0.5},
    "jaxnav": {"episode_limit": 30, "beams": 4, "map_size": 7},
}
QUICK = ("MPE_simple_v3", "switch_riddle", "coin_game", "hanabi", "overcooked")  # the others take long to compile
PLAYED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TRAINS]


@functools.cache
def default(name: str) -> Env:
    return envs.make(f"jaxmarl_{name}")


@functools.cache
def world(name: str) -> JaxMarl:
    env = envs.make(f"jaxmarl_{name}", **SHORT[name])
    assert isinstance(env, JaxMarl)
    return env


def direct(name: str, game: Any, seen: Any) -> jax.Array:
    """JaxMARL's own observations as float32 [A, O]."""
    return storm.LOOKS[name](seen) if name in storm.LOOKS else rows(game, seen)


@functools.cache
def both(name: str) -> Any:
    """Episodes by gpgrad from its stored states, and by JaxMARL from its own; leaves [T, LANES, ...]."""
    env = world(name)
    game, spec = env.world.game, env.spec

    def episode(key: jax.Array) -> Any:
        k_reset, k_steps = jax.random.split(key)

        def step(carry: Any, key: jax.Array) -> Any:
            ours, theirs, seen = carry
            k_act, k_step = jax.random.split(key)
            view = env.view((), ours)
            actions = jnp.argmax(jnp.where(view.avail, jax.random.uniform(k_act, view.avail.shape), -1.0), -1)
            done = env.step(k_step, (), ours, actions)
            chosen = {agent: actions[i] for i, agent in enumerate(game.agents)}
            new, theirs, rewards, dones, _ = game.step_env(k_step, theirs, chosen)
            theirs = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), theirs, carry[1])
            earned = jnp.stack([jnp.asarray(rewards[agent], jnp.float32) for agent in game.agents])
            return (done.state, theirs, new), (view, done, actions, direct(name, game, seen), earned, dones["__all__"])

        seen, theirs = game.reset(k_reset)
        start = env.reset(k_reset, ()), jax.tree.map(jnp.asarray, theirs), seen
        return jax.lax.scan(step, start, jax.random.split(k_steps, spec.episode_limit))[1]

    with jaxmarl_import.silence():
        run = jax.jit(jax.vmap(episode, 0, 1))
        return jax.device_get(run(jax.random.split(jax.random.key(4), LANES)))


def alive(name: str) -> np.ndarray:
    steps = both(name)[1]
    ended = steps.terminated | steps.truncated
    return np.cumsum(ended, 0) - ended == 0


def test_every_registered_name_trains_or_is_refused():
    registered = jaxmarl_import.load("registration").registered_envs
    assert set(TRAINS) | set(REFUSED) == set(registered)
    assert not set(TRAINS) & set(REFUSED)
    assert {name for name in envs.names() if envs.family(name) == "jaxmarl"} == {f"jaxmarl_{name}" for name in TRAINS}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_has_its_reason(name):
    with pytest.raises(SettingError) as refused:
        envs.make(f"jaxmarl_{name}")
    assert str(refused.value) == f"there is no environment 'jaxmarl_{name}': {REFUSED[name]}"


def test_every_name_that_a_refusal_recommends_exists():
    there = [
        word.strip(",;")
        for reason in REFUSED.values()
        for word in reason.split()
        if word.startswith(("mpe_", "smax_3"))
    ]
    assert len(there) == 4
    assert set(there) <= set(envs.names())


def test_the_table_of_names_is_complete():
    text = (Path(__file__).parents[2] / "docs" / "jaxmarl.md").read_text()
    rows = re.findall(r"^\| `(\S+)` \| (trains|refused): (.*) \|$", text, re.MULTILINE)
    told = {name.replace("\\|", "|"): (verdict, words) for name, verdict, words in rows}
    assert set(told) == {*TRAINS, *REFUSED}
    for name, (verdict, words) in told.items():
        assert (verdict == "trains") == (name in TRAINS or REFUSED[name].startswith("it is ")), name
        assert name not in TRAINS or f"`jaxmarl_{name}`" in words


@pytest.mark.parametrize("name", TRAINS)
def test_the_table_of_sizes_is_true(name):
    text = (Path(__file__).parents[2] / "docs" / "jaxmarl.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `jaxmarl_{name}` |")]
    _, agents, *told, early, _ = [cell.strip() for cell in row.strip("|").split("|")]
    env = default(name)
    spec, state = env.spec, jax.eval_shape(lambda: env.reset(jax.random.key(0), env.params(jax.random.key(0))))
    stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    seen = 4 * (spec.n_agents * spec.obs_dim + spec.state_dim)
    sizes = [spec.obs_dim, spec.state_dim, spec.n_actions, spec.episode_limit, stored, seen]
    assert [int(re.match(r"\d+", cell)[0]) for cell in (agents, *told)] == [spec.n_agents, *sizes]  # type: ignore[index]
    assert early == ("yes" if spec.ends_early else "no")


@pytest.mark.parametrize("name", TRAINS)
def test_shapes_and_dtypes(name):
    """Found by tracing. States take less than half of what is seen of them, except where both are little."""
    env, key = default(name), jax.random.key(0)
    assert checking.shapes(env) == []
    assert checking.sizes(env.spec) == []
    state = jax.eval_shape(env.reset, key, ())
    view = jax.eval_shape(env.view, (), state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, view)))
    stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert stored < 64 or 2 * stored < 4 * (view.obs.size + view.state.size)


@pytest.mark.parametrize("name", PLAYED)
def test_agents_see_what_jaxmarl_shows(name):
    """Through the stored state, so storing loses nothing that is seen."""
    views, _, _, seen, _, _ = both(name)
    on = alive(name)
    np.testing.assert_allclose(views.obs[on], seen[on], atol=1e-6)
    assert (seen[1:] != seen[:-1]).any(), "nothing moves"


# Random play of storm and storm_2p earned nothing in 2,400 steps, so there would be nothing to compare.
EARNING = [one for one in PLAYED if getattr(one, "values", [one])[0] not in ("storm", "storm_2p")]


@pytest.mark.parametrize("name", EARNING)
def test_the_team_earns_what_jaxmarl_gives(name):
    _, steps, _, _, earned, _ = both(name)
    on = alive(name)
    shaped = 0.5 * steps.info.get("shaped_reward", np.zeros_like(steps.reward))
    assert (earned[on] != 0).any() or shaped[on].any(), "nothing is earned"
    np.testing.assert_allclose((steps.reward - shaped)[on], earned.mean(-1)[on], atol=1e-6)
    if name != "storm_np":
        np.testing.assert_allclose(np.ptp(earned, -1)[on], 0, atol=1e-6)  # equal for all agents


@pytest.mark.parametrize("name", PLAYED)
def test_true_ends_terminate_and_the_limit_truncates(name):
    env = world(name)
    _, steps, _, _, _, dones = both(name)
    on, limit = alive(name), env.spec.episode_limit
    last = (np.arange(len(on)) == limit - 1)[:, None]
    if env.world.over is None:
        assert not steps.terminated.any()
    else:
        np.testing.assert_array_equal(steps.terminated[on & ~last], dones[on & ~last])
    np.testing.assert_array_equal(steps.truncated[on], (last & ~steps.terminated)[on])


@pytest.mark.parametrize("name", ["switch_riddle", "hanabi"])
def test_a_final_state_is_kept(name):
    _, steps, _, _, _, _ = both(name)
    on = alive(name)
    assert (~on).any(), "no episode ended"
    assert (steps.reward[~on] == 0).all()
    clock = steps.state["step"]
    np.testing.assert_array_equal(clock[-1], on.sum(0))


def test_hanabi_has_one_player_at_a_time():
    views, _, actions, _, _, _ = both("hanabi")
    idle = views.avail[..., -1]
    assert (idle.sum(-1) == 1).all()
    assert (views.avail[idle].sum(-1) == 1).all()
    assert (actions[idle] == views.avail.shape[-1] - 1).all()


def test_no_hanabi_reaches_its_limit():
    """8 tokens and 40 cards of the deck, each with at most one hint, then a last turn of each of two players."""
    assert default("hanabi").spec.episode_limit == 8 + 2 * (50 - 10 + 2 + 1)


def test_the_riddles_limit_is_its_papers():
    """A learner that bootstraps at the limit waits for ever: telling later is always safer."""
    assert default("switch_riddle").spec.limit_is_terminal
    assert [envs.make("jaxmarl_switch_riddle", n_agents=n).spec.episode_limit for n in (3, 4)] == [6, 10]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("overcooked", {"layout": "cramped_rom"}, "'cramped_room'"),
        ("overcooked_v2", {"layout": "cramped_rom"}, "'cramped_room"),
        ("overcooked", {"shaping": -1.0}, "shaping must be 0 or more"),
        ("overcooked_v2", {"agent_view_size": 0}, "agent_view_size must be"),
        ("storm", {"payoff": "prisoners"}, "agents earn different rewards"),
        ("storm_np", {"n_agents": 1}, "n_agents must be between 2 and 20"),
        ("switch_riddle", {"n_agents": 2}, "n_agents must be 3 or more"),
        ("hanabi", {"n_agents": 6}, "n_agents must be between 2 and 5"),
        ("hanabi", {"hand_size": 26}, "hand_size must be between 1 and 25"),
        ("jaxnav", {"beams": 0}, "beams must be 1 or more"),
        ("coin_game", {"episode_limit": 0}, "episode_limit must be between 1 and 32767"),
    ],
)
def test_mistakes(name, options, words):
    with pytest.raises(SettingError, match=words):
        envs.make(f"jaxmarl_{name}", **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINS)
def test_the_checker_finds_nothing(name):
    assert checking.examine(world(name)).findings == []
