"""Stopping at the longest episode: the same numbers, real loops and branches under vmap."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import lengths
from gpgrad.compose import compose
from gpgrad.initial import example_episode, make_init, start_clock
from gpgrad.learner import Learning, make_learn
from gpgrad.types import Episode
from tests.systems import tiny


class Counter(NamedTuple):
    """Runs until its number is used up."""

    left: jax.Array
    running: jax.Array


def count_down(carry: Counter, t: jax.Array):
    left = carry.left - 1
    return Counter(left, carry.running & (left > 0)), (jnp.where(carry.running, carry.left, 0), t)


def run(numbers: jax.Array, limit: int = 6):
    return lengths.scan_while_running(count_down, Counter(numbers, numbers > 0), limit)


@pytest.mark.parametrize(("numbers", "steps"), [([2, 3], 3), ([1, 1], 1), ([9, 2], 6)])
def test_a_loop_stops_with_the_last_that_runs(numbers, steps):
    carry, (rows, times), made = run(jnp.array(numbers))
    assert int(made) == steps
    _, (expected, _) = jax.lax.scan(count_down, Counter(jnp.array(numbers), jnp.array(numbers) > 0), jnp.arange(6))
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(times, np.where(np.arange(6) < steps, np.arange(6), 0))
    np.testing.assert_array_equal(carry.left, np.array(numbers) - steps)


def test_lanes_stop_together_and_nothing_is_selected():
    numbers = jnp.array([[1, 2], [4, 3]])
    _, (rows, _), made = jax.vmap(run)(numbers)
    np.testing.assert_array_equal(made, [4, 4])
    np.testing.assert_array_equal(rows[0], [[1, 2], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]])
    text = str(jax.make_jaxpr(jax.vmap(run))(numbers))
    assert text.count("while[") == 1
    single = str(jax.make_jaxpr(run)(numbers[0]))
    assert text.count("select_n[") == single.count("select_n[")


def test_the_largest_of_all_lanes():
    x = jnp.array([[3, 1], [2, 7]])
    assert int(lengths.largest(x[0, 0])) == 3
    np.testing.assert_array_equal(jax.vmap(jax.vmap(lengths.largest))(x), [[7, 7], [7, 7]])


def test_options():
    assert lengths.options(100) == (25, 50, 100)
    assert lengths.options(1) == (1,)


def played(lasted: list[int], limit: int = 8) -> Episode:
    valid = jnp.arange(limit) < jnp.array(lasted)[:, None]
    steps = jnp.broadcast_to(jnp.arange(limit), valid.shape)
    return Episode(jnp.zeros((len(lasted), limit + 1)), steps[..., None].astype(jnp.int8), steps + 0.0, valid, valid)


@pytest.mark.parametrize(("lasted", "length"), [([1, 2], 2), ([3, 1], 4), ([4, 4], 4), ([5, 1], 8)])
def test_the_shortest_length_that_holds_all(lasted, length):
    seen = []

    def look(episodes: Episode) -> jax.Array:
        seen.append(episodes.reward.shape[1])
        assert episodes.states.shape[1] == episodes.reward.shape[1] + 1
        return jnp.int32(episodes.reward.shape[1])

    assert int(lengths.on_shortest(look, played(lasted))) == length
    assert sorted(set(seen)) == [2, 4, 8]


def test_branches_stay_real_over_lanes():
    lanes = jax.tree.map(lambda a, b: jnp.stack([a, b]), played([1, 2]), played([1, 4]))

    def total(episodes: Episode) -> jax.Array:
        return jnp.where(episodes.valid, episodes.reward, 0).sum()

    both = jax.vmap(lambda e: lengths.on_shortest(total, e))
    np.testing.assert_array_equal(both(lanes), [0 + 0 + 1, 0 + 0 + 1 + 2 + 3])
    assert str(jax.make_jaxpr(both)(lanes)).count("cond[") == 1


def test_a_gradient_step_is_the_same_when_it_stops_early():
    settings = tiny("vdn", "pp_small", env__episode_limit=8)
    parts = compose(settings)
    state = make_init(settings, parts)(jnp.int32(0))
    example = example_episode(parts)
    world = parts.env
    start = jax.vmap(world.reset, (0, None))(jax.random.split(jax.random.key(1), 4), state.env_params)
    valid = jnp.arange(8) < jnp.array([2, 4, 1, 3])[:, None]
    episodes = Episode(
        states=jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], 9, 1), start),
        actions=jnp.broadcast_to(jnp.arange(8, dtype=jnp.int8)[:, None] % 5, (4, *example.actions.shape)),
        reward=jnp.where(valid, 1.0, jnp.nan),
        terminated=valid & (jnp.arange(8) == 1),
        valid=valid,
    )
    learning = Learning(state.params, state.opt_state, state.sharing, state.weighting)

    class Early:
        spec = world.spec._replace(ends_early=True)
        view = staticmethod(world.view)

    def learn(parts):
        step = jax.jit(make_learn(parts))
        return step(jax.random.key(2), start_clock(), learning, state.target, state.env_params, episodes)

    whole, cut = learn(parts), learn(parts._replace(env=Early()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, cut)
    assert float(whole[1]["grad_norm"]) > 0
