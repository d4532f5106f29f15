"""Batches worked off in blocks: every episode is held, the numbers are the same, branches stay real under vmap."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.learning import ragged_batches
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.learner import LearnerState, make_batch, make_gradient_step
from gpgrad.learning.ragged_batches import TimeBlocks
from gpgrad.methods.nets.agent import last_actions, make_agent
from gpgrad.methods.nets.lagging_head import LaggingHead
from gpgrad.types import Episode, NetSpec
from tests.helpers.tiny_runs import tiny


def on_blocks(blocks: TimeBlocks, limit: int, batch: int) -> np.ndarray:
    """Which observations [B, limit + 1] are computed, by the blocks."""
    computed = np.zeros((batch, limit + 1), bool)
    for time, rows in blocks.slices():
        assert not computed[rows, time].any(), "blocks overlap"
        computed[rows, time] = True
    return computed


def test_options():
    assert ragged_batches.options(100, 32) == (
        TimeBlocks((25,), (32,)),
        TimeBlocks((50,), (32,)),
        TimeBlocks((25, 50, 100), (32, 12, 4)),
        TimeBlocks((25, 50, 100), (32, 24, 12)),
        TimeBlocks((100,), (32,)),
    )
    assert ragged_batches.options(1, 4) == (ragged_batches.whole(1, 4),)
    assert ragged_batches.options(8, 1) == (
        ragged_batches.whole(2, 1),
        ragged_batches.whole(4, 1),
        ragged_batches.whole(8, 1),
    )
    assert [blocks.size for blocks in ragged_batches.options(100, 32)] == [800, 1600, 1300, 2000, 3200]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.data())
def test_the_first_flight_that_holds_the_batch(limit, batch, data):
    played = sorted(data.draw(st.lists(st.integers(1, limit), min_size=batch, max_size=batch)), reverse=True)
    needed = np.arange(limit + 1) <= np.array(played)[:, None]  # the observation after the last step, too
    layouts = ragged_batches.options(limit, batch)
    assert layouts[-1] == ragged_batches.whole(limit, batch)
    holds = [bool((on_blocks(blocks, limit, batch) | ~needed).all()) for blocks in layouts]
    assert int(ragged_batches.choose(layouts, jnp.array(played))) == holds.index(True)


def played(lasted: list[int], limit: int = 8) -> Episode:
    valid = jnp.arange(limit) < jnp.array(lasted)[:, None]
    steps = jnp.broadcast_to(jnp.arange(limit), valid.shape)
    return Episode(jnp.zeros((len(lasted), limit + 1)), steps[..., None].astype(jnp.int8), steps + 0.0, valid, valid)


def test_the_function_gets_sorted_and_cut_episodes():
    seen = []

    def look(blocks: TimeBlocks, episodes: Episode) -> tuple[jax.Array, jax.Array]:
        seen.append(blocks)
        assert episodes.states.shape[1] == episodes.reward.shape[1] + 1 == blocks.ends[-1] + 1
        lasted = jnp.pad(episodes.valid, [(0, 0), (0, 8 - blocks.ends[-1])]).sum(1)
        return jnp.int32(blocks.ends[-1]), lasted

    length, lasted = ragged_batches.on_first(look, played([1, 4, 2, 1]))
    assert int(length) == 4
    np.testing.assert_array_equal(lasted, [4, 2, 1, 1])
    assert {blocks.ends[-1] for blocks in seen} == {2, 4, 8}


def test_branches_stay_real_over_lanes():
    lanes = jax.tree.map(lambda a, b: jnp.stack([a, b]), played([1, 2]), played([1, 4]))

    def total(blocks: TimeBlocks, episodes: Episode) -> jax.Array:
        return jnp.where(episodes.valid, episodes.reward, 0).sum()

    both = jax.vmap(lambda e: ragged_batches.on_first(total, e))
    np.testing.assert_array_equal(both(lanes), [0 + 0 + 1, 0 + 0 + 1 + 2 + 3])
    assert str(jax.make_jaxpr(both)(lanes)).count("cond[") == 1


# Lengths of eight episodes, at most eight steps, for each flight.
BATCHES = {
    "a quarter": [2, 1, 2, 1, 1, 2, 1, 2],
    "a half": [1, 4, 2, 4, 3, 3, 1, 2],
    "few to the end": [1, 1, 8, 2, 3, 1, 1, 1],
    "more to the end": [1, 2, 8, 4, 3, 8, 1, 1],
    "all": [8] * 8,
}


@pytest.mark.parametrize(
    ("algo", "changes"),
    [
        ("gpvd_gradps", {"weighting": "gpvd_random", "weighting__k": 2}),
        pytest.param("gpvd_gradps", {}, marks=pytest.mark.slow),
        pytest.param("qtran", {}, marks=pytest.mark.slow),
        pytest.param("dmix", {"weighting": "gpvd_random", "weighting__k": 2}, marks=pytest.mark.slow),
    ],
)
def test_a_gradient_step_is_the_same_without_the_padding(algo, changes):
    config = tiny(algo, "pp_small", env__episode_limit=8, **changes)
    parts = compose(config)
    state = make_init(config, parts)(jnp.int32(0))
    world = parts.env
    start = jax.vmap(world.reset, (0, None))(jax.random.split(jax.random.key(1), 8), state.env_params)
    states = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], 9, 1), start)
    actions = jax.random.randint(jax.random.key(3), (8, 8, world.spec.n_agents), 0, 5).astype(jnp.int8)
    learning = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)

    class Early:
        spec = world.spec._replace(ends_early=True)
        view = staticmethod(world.view)

    layouts = ragged_batches.options(8, 8)
    assert len(layouts) == len(BATCHES)
    steps = [jax.jit(make_gradient_step(each)) for each in (parts, parts._replace(env=Early()))]
    for place, batch in enumerate(BATCHES.values()):
        lasted = sorted(batch, reverse=True) if changes else batch  # what is drawn is drawn for episodes by their place
        valid = jnp.arange(8) < jnp.array(lasted)[:, None]
        reward, terminated = jnp.where(valid, 1.0, jnp.nan), valid & (jnp.arange(8) == 1)
        episodes = Episode(states, actions, reward, terminated, valid)
        assert int(ragged_batches.choose(layouts, jnp.array(lasted))) == place
        padded, cut = (
            step(jax.random.key(2), start_clock(), learning, state.target, state.env_params, episodes) for step in steps
        )
        for a, b in zip(*map(numbers, (padded, cut)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        assert float(padded[1]["grad_norm"]) > 0


def numbers(tree) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]


def test_hidden_states_go_on_from_block_to_block():
    spec = tiny_spec()
    net = make_agent(spec, NetSpec(hidden=4), LaggingHead())
    params = net.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (9, 8, spec.n_agents, spec.obs_dim))
    last = last_actions(jax.random.randint(jax.random.key(2), (8, 8, spec.n_agents), 0, spec.n_actions))
    for blocks in ragged_batches.options(8, 8)[2:]:
        inside = jnp.array(on_blocks(blocks, 8, 8)).T  # [T+1, B]

        def read(params, unroll, inside=inside):
            out = unroll(params, None, obs, last)
            leaves = (out.q, out.hidden, out.extra.now, out.extra.lagging)
            kept = [jnp.where(jnp.expand_dims(inside, range(2, leaf.ndim)), leaf, 0.0) for leaf in leaves]
            time = jnp.arange(1.0, 10.0)
            return sum(jnp.einsum("t,t...->...", time, jnp.sin(leaf)).sum() for leaf in kept), kept

        plain, cut = (
            jax.jit(jax.value_and_grad(partial(read, unroll=unroll), has_aux=True))(params)
            for unroll in (net.unroll, ragged_batches.agent(blocks, net).unroll)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, cut)


def tiny_spec():
    return compose(tiny("qmix", "pp_small", env__episode_limit=8)).env.spec


def test_views_beside_the_stairs_let_agents_act():
    config = tiny("qmix", "pp_small", env__episode_limit=8)
    parts = compose(config)
    state = make_init(config, parts)(jnp.int32(0))
    start = jax.vmap(parts.env.reset, (0, None))(jax.random.split(jax.random.key(1), 8), state.env_params)
    states = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], 9, 1), start)
    episodes = played([8, 1, 1, 1, 1, 1, 1, 1])._replace(states=states)
    blocks = ragged_batches.options(8, 8)[2]
    see = jax.jit(lambda blocks: make_batch(parts.env, state.env_params, episodes, blocks=blocks), static_argnums=0)
    whole, cut = see(None), see(blocks)
    inside = jnp.array(on_blocks(blocks, 8, 8)).T
    for a, b in zip(jax.tree.leaves(cut.view), jax.tree.leaves(whole.view), strict=True):
        np.testing.assert_array_equal(a[inside], b[inside])
    assert not np.array_equal(cut.view.obs, whole.view.obs), "nothing was left out"
    assert bool(cut.view.avail.any(-1).all())
