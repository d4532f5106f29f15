"""The contract of `gpgrad.envs.api`, for every registered environment."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import envs
from gpgrad.envs import checking
from gpgrad.envs.api import Env, Step

NAMES = [name for name in envs.names() if envs.family(name) != "jaxmarl"]  # those have test_jaxmarl.py
# Battles take seconds to compile: one of a fixed map and one with drawn units of each kind are played. The steps of
# SMAC's take long to trace as well, and differ in what units they have: shapes are checked of some.
BATTLES = ("smax_3m", "smax_smacv2_5_units", "battle_custom", "battle_zerg_5_vs_5")
PLAYED = [name for name in NAMES if envs.family(name) not in ("smax", "battle") or name in BATTLES]
TRACED = (*BATTLES, "battle_MMM2", "battle_bane_vs_bane", "battle_2s_vs_1sc", "battle_1c3s5z", "battle_terran_5_vs_5")
SHAPED = [name for name in NAMES if envs.family(name) != "battle" or name in TRACED]
CONTINUOUS = ("smax", "battle", "mpe")  # families whose places are no cells of a board
KEYS = jax.random.split(jax.random.key(1), 3)


@functools.cache
def world(name: str) -> Env:
    return envs.make(name)


@functools.cache
def player(name: str):
    """Plays episodes of several worlds by their keys [W], stepped on after their ends."""
    return checking.make_player(world(name))


@functools.cache
def play(name: str) -> checking.Play:
    return checking.play(world(name), KEYS, player(name))


def nbytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def lifetime(steps: Step) -> np.ndarray:
    """Steps up to and including the first that ends each world's episode, [W]."""
    return np.argmax(steps.terminated | steps.truncated, axis=0) + 1


def test_every_expected_world_is_registered():
    matrix = ["gpvd", "additive", "qtran", "easy", "hard", "12_10", "coord", "climbing", "penalty"]
    hunts = ["pp_small", "pp_medium", "pp_large", "pp_p0", "pp_p2"]
    battles = [f"smax_{name}" for name in ("3m", "5m_vs_6m", "27m_vs_30m", "smacv2_20_units", "8m_vs_9m", "3s6z")]
    own = [f"battle_{name}" for name in ("MMM2", "5m_vs_6m", "2c_vs_64zg", "6h_vs_8z", "terran_5_vs_5", "custom")]
    particles = [f"mpe_simple_{name}" for name in ("spread", "reference", "speaker_listener")]
    games = {f"matrix_{name}" for name in matrix}
    assert games | {"two_step", "nstep", *hunts, *battles, *own, *particles} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_spec(name):
    env = world(name)
    spec = env.spec
    assert isinstance(env, Env)
    assert spec.name == name
    assert checking.sizes(spec) == []
    assert hash(env) == hash(envs.make(name))
    assert env == envs.make(name)


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_and_dtypes(name):
    """The checker's rules, and two more for worlds of the package: no weak types, and states that are small."""
    env, key = world(name), jax.random.key(0)
    assert checking.shapes(env) == []
    params = jax.eval_shape(env.params, key)
    state = jax.eval_shape(env.reset, key, params)
    view = jax.eval_shape(env.view, params, state)
    step = jax.eval_shape(env.step, key, params, state, jax.ShapeDtypeStruct((env.spec.n_agents,), jnp.int32))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((params, state, step)))
    leaves = jax.tree.leaves(state)
    if envs.family(name) in CONTINUOUS:
        assert {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)} == {jnp.dtype(jnp.float32)}
        assert 2 * nbytes(leaves) < nbytes((view.obs, view.state))
    else:
        assert all(jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool for leaf in leaves)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_single_agents_are_said_where_they_differ(name):
    spec = world(name).spec
    assert all(not sizes or len(set(sizes)) > 1 for sizes in (spec.obs_sizes, spec.action_counts))


@pytest.mark.parametrize("name", SHAPED)
def test_params_can_differ_between_lanes(name):
    env = world(name)
    keys = jax.random.split(jax.random.key(0), 2)

    def run(key):
        params = env.params(key)
        return env.step(key, params, env.reset(key, params), jnp.zeros(env.spec.n_agents, jnp.int32))

    assert jax.eval_shape(jax.vmap(run), keys).reward.shape == (2,)


@pytest.mark.parametrize("name", PLAYED)
def test_the_checker_finds_nothing(name):
    """Values, ends, pure views, the same from the same key in any lane, and under jit alone as under vmap."""
    assert checking.judge(world(name), player(name), KEYS, play(name)) == []


@pytest.mark.parametrize("name", PLAYED)
def test_an_episode_is_cut_at_its_limit_alone(name):
    steps, spec = play(name).steps, world(name).spec
    assert not steps.truncated[: spec.episode_limit - 1].any()
    assert (lifetime(steps) <= spec.episode_limit).all()


@pytest.mark.parametrize("name", PLAYED)
def test_the_return_stays_below_its_scale(name):
    steps, spec = play(name).steps, world(name).spec
    alive = np.arange(spec.episode_limit)[:, None] < lifetime(steps)
    assert ((steps.reward * alive).sum(0) <= spec.return_scale + 1e-4).all()


@pytest.mark.parametrize("name", [name for name in PLAYED if world(name).spec.episode_limit >= 10])
def test_keys_give_different_episodes(name):
    leaves = jax.tree.leaves(play(name).states)
    assert any((leaf[:, :1] != leaf[:, 1:]).any() for leaf in leaves)


@pytest.mark.parametrize("name", NAMES)
def test_params_depend_on_the_key_alone(name):
    first, second = (world(name).params(jax.random.key(5)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
