"""Loops that stop with the last lane: the same numbers, and real loops under vmap."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.learning import early_exit_loops


class Counter(NamedTuple):
    """Runs until its number is used up."""

    left: jax.Array
    running: jax.Array


def count_down(carry: Counter, t: jax.Array):
    left = carry.left - 1
    return Counter(left, carry.running & (left > 0)), (jnp.where(carry.running, carry.left, 0), t)


def run(numbers: jax.Array, limit: int = 6):
    return early_exit_loops.scan_while_running(count_down, Counter(numbers, numbers > 0), limit)


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
    assert int(early_exit_loops.largest(x[0, 0])) == 3
    np.testing.assert_array_equal(jax.vmap(jax.vmap(early_exit_loops.largest))(x), [[7, 7], [7, 7]])
