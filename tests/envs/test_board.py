"""Samples of cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.board import distinct


@pytest.mark.parametrize(("amount", "size"), [(1, 1), (1, 9), (2, 2), (16, 16), (12, 16), (45, 900)])
def test_samples_are_the_first_swaps_of_a_shuffle(amount, size):
    keys = jax.random.split(jax.random.key(0), 64)
    swaps = jax.vmap(lambda key: jax.random.randint(key, (amount,), jnp.arange(amount), size))(keys)
    expected = np.tile(np.arange(size), (64, 1))
    for row, there in zip(expected, np.asarray(swaps), strict=True):
        for here, place in enumerate(there):
            row[[here, place]] = row[[place, here]]
    sampled = jax.jit(jax.vmap(lambda key: distinct(key, amount, size)))(keys)
    np.testing.assert_array_equal(sampled, expected[:, :amount])
    assert sampled.dtype == jnp.int32
