"""Replay of whole episodes: a ring of compact states, sampled without replacement.

The ring has no counter of its own: the shared clock gives the next slots and the number of stored episodes,
so all seeds use the same slots and no control flow depends on a seed. Views are recomputed from the sampled
states, because storing them would take a hundred times the memory.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gpgrad.types import Episode


def init(example: Episode, capacity: int) -> Episode:
    """An empty ring: every leaf of one episode [...] becomes zeros [capacity, ...]."""
    return jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), example)


def insert(ring: Episode, episodes: Episode, collected: jax.Array) -> Episode:
    """Write episodes [E, ...] to the slots from `collected` modulo capacity on.

    The capacity must be a multiple of E, since a write beyond the end would be moved back onto newer episodes.
    """
    capacity, count = ring.reward.shape[0], episodes.reward.shape[0]
    if capacity % count:
        raise ValueError(f"capacity {capacity} is no multiple of the {count} episodes written at once")
    slot = collected % capacity
    return jax.tree.map(
        lambda stored, new: jax.lax.dynamic_update_slice_in_dim(stored, new.astype(stored.dtype), slot, 0),
        ring,
        episodes,
    )


def sample_indices(key: jax.Array, filled: jax.Array, count: int) -> jax.Array:
    """A uniform set of `count` different integers below `filled` >= count, int32 [count].

    Turn j of `count` draws from 0..m with m = filled - count + j. A number that is in the set already is replaced by
    m, which cannot be in it yet, since earlier turns drew from smaller ranges. Each of the sets of `count` numbers is
    then equally likely, after `count` draws and without a permutation of all of `filled`, which is a traced value.

    Source: Floyd's algorithm (Bentley and Floyd, Communications of the ACM 30(9), 1987).
    """
    slots = jnp.arange(count, dtype=jnp.int32)
    last = filled - count + slots
    candidates = jax.random.randint(key, (count,), 0, last + 1)

    def draw(chosen: jax.Array, turn: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        slot, last, candidate = turn
        picked = jnp.where(jnp.any(chosen == candidate), last, candidate)
        return jnp.where(slots == slot, picked, chosen), None

    return jax.lax.scan(draw, jnp.full(count, -1, jnp.int32), (slots, last, candidates))[0]


def sample(key: jax.Array, ring: Episode, collected: jax.Array, count: int) -> Episode:
    """`count` different episodes of those stored, [count, ...]; at least as many must have been collected."""
    filled = jnp.minimum(collected, ring.reward.shape[0]).astype(jnp.int32)
    indices = sample_indices(key, filled, count)
    return jax.tree.map(lambda leaf: leaf[indices], ring)


def sample_steps(key: jax.Array, ring: Episode, collected: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`count` steps that happened, each of a uniform episode with replacement: slot and time, int32 [count] each."""
    k_slot, k_time = jax.random.split(key)
    filled = jnp.minimum(collected, ring.reward.shape[0])
    slot = jax.random.randint(k_slot, (count,), 0, filled)
    time = jax.random.randint(k_time, (count,), 0, jnp.maximum(ring.valid[slot].sum(-1), 1))
    return slot, time


def nbytes(example: Episode, capacity: int) -> int:
    """Bytes of a ring of `capacity` episodes like the example (arrays or shape structs)."""
    return capacity * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(example))
