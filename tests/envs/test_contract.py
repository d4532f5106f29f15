"""What `envs.api` promises, for every registered world."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.api import Env, OneHot, Step, View

NAMES = envs.names()
# Battles take seconds to compile: one of a fixed map and one with drawn units of each kind are played. The steps of
# SMAC's take long to trace as well, and differ in what units they have: shapes are checked of some.
BATTLES = ("smax_3m", "smax_smacv2_5_units", "battle_custom", "battle_zerg_5_vs_5")
PLAYED = [name for name in NAMES if envs.family(name) not in ("smax", "battle") or name in BATTLES]
TRACED = (*BATTLES, "battle_MMM2", "battle_bane_vs_bane", "battle_2s_vs_1sc", "battle_1c3s5z", "battle_terran_5_vs_5")
SHAPED = [name for name in NAMES if envs.family(name) != "battle" or name in TRACED]
CONTINUOUS = ("smax", "battle", "mpe")  # families whose places are no cells of a board
KEYS = jax.random.split(jax.random.key(1), 3)


class Play(NamedTuple):
    """One episode a world, stepped on after its end. Axes: time, then world."""

    states: object  # [T, W], before each step
    views: View  # [T, W], of these states
    steps: Step  # [T, W]


@functools.cache
def world(name: str) -> Env:
    return envs.make(name)


def episode(env: Env, params, key: jax.Array) -> Play:
    """Uniformly random available actions for `episode_limit` steps; state is a scan carry."""
    k_reset, k_steps = jax.random.split(key)

    def step(state, key):
        k_action, k_step = jax.random.split(key)
        view = env.view(params, state)
        scores = jnp.where(view.avail, jax.random.uniform(k_action, view.avail.shape), -1.0)
        after = env.step(k_step, params, state, jnp.argmax(scores, -1))
        return after.state, (state, view, after)

    start = env.reset(k_reset, params)
    _, play = jax.lax.scan(step, start, jax.random.split(k_steps, env.spec.episode_limit))
    return Play(*play)


@functools.cache
def player(name: str):
    """Episodes of several worlds by their keys [W]."""
    env = world(name)
    params = env.params(jax.random.key(0))
    run = jax.jit(jax.vmap(functools.partial(episode, env, params), 0, 1))
    return lambda keys: jax.device_get(run(keys))


@functools.cache
def play(name: str) -> Play:
    return player(name)(KEYS)


def dense(state: jax.Array | OneHot) -> np.ndarray:
    return np.asarray(state.dense() if isinstance(state, OneHot) else state)


def nbytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def avals(tree) -> list:
    """Shape, dtype and weak type of every leaf: what a scan carry must keep."""
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]


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
    assert min(spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) >= 1
    assert spec.return_scale > 0
    assert 0 <= spec.own_state_dim * spec.n_agents <= spec.state_dim
    assert hash(env) == hash(envs.make(name))
    assert env == envs.make(name)


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_and_dtypes(name):
    env = world(name)
    spec = env.spec
    key = jax.random.key(0)
    params = jax.eval_shape(env.params, key)
    state = jax.eval_shape(env.reset, key, params)
    view = jax.eval_shape(env.view, params, state)
    assert (view.obs.shape, view.obs.dtype) == ((spec.n_agents, spec.obs_dim), jnp.float32)
    assert (view.avail.shape, view.avail.dtype) == ((spec.n_agents, spec.n_actions), jnp.bool)
    if isinstance(view.state, OneHot):
        assert view.state.size == spec.state_dim
        assert jnp.issubdtype(view.state.index.dtype, jnp.signedinteger)
        assert jnp.iinfo(view.state.index.dtype).max >= spec.state_dim
    else:
        assert (view.state.shape, view.state.dtype) == ((spec.state_dim,), jnp.float32)

    for dtype in (jnp.int8, jnp.int32):
        actions = jax.ShapeDtypeStruct((spec.n_agents,), dtype)
        step = jax.eval_shape(env.step, key, params, state, actions)
        assert avals(step.state) == avals(state)
        assert avals(step.reward) == [((), jnp.float32, False)]
        assert avals([step.terminated, step.truncated]) == [((), jnp.bool, False)] * 2
        assert all(not weak for _, _, weak in avals([step.info, params]))
        assert ("won" in step.info) == spec.has_win
    leaves = jax.tree.leaves(state)
    if envs.family(name) in CONTINUOUS:
        assert {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)} == {jnp.dtype(jnp.float32)}
        assert 2 * nbytes(leaves) < nbytes((view.obs, view.state))
    else:
        assert all(jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool for leaf in leaves)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_single_agents_are_said_where_they_differ(name):
    spec = world(name).spec
    for sizes, largest in ((spec.obs_sizes, spec.obs_dim), (spec.action_counts, spec.n_actions)):
        assert not sizes or (len(sizes) == spec.n_agents and max(sizes) == largest and len(set(sizes)) > 1)


@pytest.mark.parametrize("name", SHAPED)
def test_params_can_differ_between_lanes(name):
    env = world(name)
    keys = jax.random.split(jax.random.key(0), 2)

    def run(key):
        params = env.params(key)
        return env.step(key, params, env.reset(key, params), jnp.zeros(env.spec.n_agents, jnp.int32))

    assert jax.eval_shape(jax.vmap(run), keys).reward.shape == (2,)


@pytest.mark.parametrize("name", PLAYED)
def test_something_is_always_available_and_all_values_are_finite(name):
    steps, views = play(name).steps, play(name).views
    assert views.avail.any(-1).all()
    assert np.isfinite(views.obs).all()
    assert np.isfinite(steps.reward).all()
    assert np.isfinite(dense(views.state)).all()


@pytest.mark.parametrize("name", PLAYED)
def test_one_hot_positions_are_distinct(name):
    state = play(name).views.state
    if isinstance(state, OneHot):
        present = (state.index >= 0) & (state.index < state.size)
        assert (dense(state).sum(-1) == present.sum(-1)).all()


@pytest.mark.parametrize("name", PLAYED)
def test_an_episode_ends_once_and_by_the_limit(name):
    steps, spec = play(name).steps, world(name).spec
    assert not (steps.terminated & steps.truncated).any()
    assert (steps.terminated | steps.truncated).any(0).all()
    assert not steps.truncated[: spec.episode_limit - 1].any()
    assert (lifetime(steps) <= spec.episode_limit).all()


@pytest.mark.parametrize("name", PLAYED)
def test_the_return_stays_below_its_scale(name):
    steps, spec = play(name).steps, world(name).spec
    alive = np.arange(spec.episode_limit)[:, None] < lifetime(steps)
    assert ((steps.reward * alive).sum(0) <= spec.return_scale + 1e-4).all()


@pytest.mark.parametrize("name", PLAYED)
def test_the_key_decides_and_lanes_do_not_mix(name):
    others = player(name)(KEYS[jnp.array([1, 1, 0])])
    expected = jax.tree.map(lambda leaf: leaf[:, [1, 1, 0]], play(name))
    jax.tree.map(np.testing.assert_array_equal, others, expected)
    if world(name).spec.episode_limit >= 10:
        leaves = jax.tree.leaves(play(name).states)
        assert any((leaf[:, :1] != leaf[:, 1:]).any() for leaf in leaves)


@pytest.mark.parametrize("name", PLAYED)
def test_the_view_is_a_function_of_the_state(name):
    env, (states, views, _) = world(name), play(name)
    params = env.params(jax.random.key(0))
    over_time_and_worlds = jax.vmap(jax.vmap(env.view, (None, 0)), (None, 0))
    again = jax.jit(over_time_and_worlds)(params, states)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), views)


@pytest.mark.parametrize("name", NAMES)
def test_params_depend_on_the_key_alone(name):
    first, second = (world(name).params(jax.random.key(5)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
