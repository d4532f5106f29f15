"""Replay of whole episodes: a ring of compact states, sampled without replacement.

The ring has no counter of its own: the shared clock gives the next slots and the number of stored episodes,
so all seeds use the same slots and no control flow depends on a seed. Views are recomputed from the sampled
states, because storing them would take a hundred times the memory.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gpgrad.shards import WHOLE, Shards
from gpgrad.types import Episode


def init(example: Episode, capacity: int) -> Episode:
    """An empty ring: every leaf of one episode [...] becomes zeros [capacity, ...]."""
    return jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), example)


def size(ring: Episode, shards: Shards) -> int:
    """The capacity of the whole ring, of which each of several devices holds a part."""
    return ring.reward.shape[0] * shards.count


def insert(ring: Episode, episodes: Episode, collected: jax.Array, shards: Shards = WHOLE) -> Episode:
    """Write episodes [E, ...], the same on all devices, to the slots from `collected` modulo capacity on.

    The capacity must be a multiple of E, since a write beyond the end would be moved back onto newer episodes, and a
    device's part must hold E.
    """
    capacity, count = size(ring, shards), episodes.reward.shape[0]
    if capacity % count:
        raise ValueError(f"capacity {capacity} is no multiple of the {count} episodes written at once")
    slot = collected % capacity
    if shards.split:
        return _insert_own(ring, episodes, slot, shards)
    return jax.tree.map(
        lambda stored, new: jax.lax.dynamic_update_slice_in_dim(stored, new.astype(stored.dtype), slot, 0),
        ring,
        episodes,
    )


def _insert_own(ring: Episode, episodes: Episode, slot: jax.Array, shards: Shards) -> Episode:
    """Write those of the episodes whose slots, from `slot` on, this device holds.

    Its E slots nearest to them are read and written again, changed or not: a branch would copy the ring.
    """
    held, count = ring.reward.shape[0], episodes.reward.shape[0]
    if held < count:
        raise ValueError(f"a device holds {held} slots, fewer than the {count} episodes written at once")
    first = shards.index() * held
    start = jnp.clip(slot - first, 0, held - count)
    which = first + start + jnp.arange(count) - slot  # of the episodes, for each of these slots
    mine = (which >= 0) & (which < count)

    def write(stored: jax.Array, new: jax.Array) -> jax.Array:
        old = jax.lax.dynamic_slice_in_dim(stored, start, count)
        new = new.astype(stored.dtype)[jnp.clip(which, 0, count - 1)]
        kept = jnp.where(mine.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        return jax.lax.dynamic_update_slice_in_dim(stored, kept, start, 0)

    return jax.tree.map(write, ring, episodes)


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


def sample(
    key: jax.Array,
    ring: Episode,
    collected: jax.Array,
    count: int,
    shards: Shards = WHOLE,
    longest_first: bool = False,
) -> Episode:
    """`count` different episodes of those stored, [count, ...]; at least as many must have been collected.

    Over several devices these are the same episodes: all devices draw the same slots, and each gets its share of the
    rows, [count / n, ...]. longest_first: the batch is sorted before it is shared, as `ragged_batches` needs it; on one
    device it sorts the batch itself.
    """
    filled = jnp.minimum(collected, size(ring, shards)).astype(jnp.int32)
    indices = sample_indices(key, filled, count)
    if shards.split and longest_first:
        lengths = shards.look(ring.valid, indices).sum(1, dtype=jnp.int32)
        indices = indices[jnp.argsort(-lengths)]
    return shards.deal(ring, indices)


def sample_steps(
    key: jax.Array, ring: Episode, collected: jax.Array, count: int, shards: Shards = WHOLE
) -> tuple[jax.Array, jax.Array]:
    """`count` steps that happened, each of a uniform episode with replacement: slot and time, int32 [count] each."""
    k_slot, k_time = jax.random.split(key)
    filled = jnp.minimum(collected, size(ring, shards))
    slot = jax.random.randint(k_slot, (count,), 0, filled)
    time = jax.random.randint(k_time, (count,), 0, jnp.maximum(shards.look(ring.valid, slot).sum(-1), 1))
    return slot, time


def nbytes(example: Episode, capacity: int) -> int:
    """Bytes of a ring of `capacity` episodes like the example (arrays or shape structs)."""
    return capacity * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(example))
