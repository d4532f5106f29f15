"""The ring of episodes against a Python list."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.learning import replay
from gpgrad.types import Episode


def episodes(numbers: range) -> Episode:
    """Episodes that carry their own number in every leaf."""
    values = jnp.array(list(numbers))
    fill = lambda dtype, *shape: jnp.broadcast_to(values.reshape(-1, *[1] * len(shape)), (len(values), *shape)).astype(
        dtype
    )
    return Episode(fill(jnp.int32, 3), fill(jnp.int8, 2, 2), fill(jnp.float32, 2), fill(bool, 2), fill(bool, 2))


insert, sample = jax.jit(replay.insert), jax.jit(replay.sample, static_argnums=3)


@given(
    worlds=st.sampled_from([1, 2, 4]),
    blocks=st.sampled_from([1, 3]),
    writes=st.integers(1, 12),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=40)
def test_ring_is_a_list_of_the_newest(worlds, blocks, writes, seed):
    capacity = worlds * blocks
    ring = replay.init(jax.tree.map(lambda leaf: leaf[0], episodes(range(1))), capacity)
    model: list[int] = []
    for i in range(writes):
        numbers = range(i * worlds, (i + 1) * worlds)
        ring = insert(ring, episodes(numbers), jnp.int32(i * worlds))
        model = [*model, *numbers][-capacity:]
    collected = writes * worlds
    everything = sample(jax.random.key(seed), ring, jnp.int32(collected), len(model))
    assert sorted(np.asarray(everything.reward[:, 0]).tolist()) == model
    some = sample(jax.random.key(seed), ring, jnp.int32(collected), max(1, len(model) // 2))
    drawn = np.asarray(some.reward[:, 0]).tolist()
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(model)
    np.testing.assert_array_equal(some.states[:, 0], some.reward[:, 0])


def test_sampling_is_uniform():
    draw = jax.jit(jax.vmap(lambda k: replay.sample_indices(k, jnp.int32(10), 4)))
    indices = np.asarray(draw(jax.random.split(jax.random.key(0), 5000)))
    assert all(len(set(row)) == 4 for row in indices[:200].tolist())
    counts = np.bincount(indices.ravel(), minlength=10)
    expected = 5000 * 4 / 10
    assert len(counts) == 10
    assert (((counts - expected) ** 2) / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_capacity_must_hold_whole_writes():
    ring = replay.init(jax.tree.map(lambda leaf: leaf[0], episodes(range(1))), 5)
    with pytest.raises(ValueError, match="no multiple"):
        replay.insert(ring, episodes(range(2)), jnp.int32(0))


def test_nbytes_counts_the_ring():
    example = jax.tree.map(lambda leaf: leaf[0], episodes(range(1)))
    ring = replay.init(example, 7)
    assert replay.nbytes(example, 7) == sum(leaf.nbytes for leaf in jax.tree.leaves(ring))
