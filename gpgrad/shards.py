"""A seed split over devices: each computes a share of the episodes of every batch.

All devices hold the same parameters, statistics and counts, and make the same random draws for the whole batch. Each
holds an equal part of the replay: slots [d * C / n, (d + 1) * C / n) of C on device d of n. Row i of a batch is on
device i % n, so that a batch sorted by length is shared evenly.

Axes in comments: B rows of a batch, n devices, K bytes of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gpgrad.types import PyTree

AXIS = "episodes"


@dataclass(frozen=True)
class Shards:
    """How many devices a seed is split over. With one, every method returns its argument as it is.

    With more, the methods must run inside `jax.shard_map` over the axis `AXIS`, on all devices alike.
    """

    count: int = 1

    @property
    def split(self) -> bool:
        """Whether there is more than one device."""
        return self.count > 1

    def index(self) -> jax.Array:
        """The number of this device, int32 []."""
        return jax.lax.axis_index(AXIS) if self.split else jnp.int32(0)

    def total(self, tree: PyTree) -> PyTree:
        """The sum of float32 leaves over devices, in one collective operation."""
        if not self.split:
            return tree
        flat, unravel = ravel_pytree(tree)
        return unravel(jax.lax.psum(flat, AXIS))

    def largest(self, x: jax.Array) -> jax.Array:
        """The elementwise maximum over devices of a number or bool."""
        return jax.lax.pmax(x.astype(jnp.int32), AXIS).astype(x.dtype) if self.split else x

    def share(self, count: jax.Array) -> jax.Array:
        """The factor that turns a mean over this device's `count` elements into its part of the mean over all:
        float32 []. The parts of all devices add up to that mean.
        """
        total = jax.lax.psum(count, AXIS) if self.split else count
        return (jnp.maximum(count, 1) / jnp.maximum(total, 1)).astype(jnp.float32)

    def rows(self, count: int) -> jax.Array:
        """The numbers in the whole batch of this device's `count` rows, int32 [count]."""
        return jnp.arange(count) * self.count + self.index()

    def own(self, tree: PyTree, axis: int) -> PyTree:
        """Own rows of leaves that are the same everywhere: B along `axis` becomes B / n."""
        if not self.split:
            return tree

        def pick(leaf: jax.Array) -> jax.Array:
            before, after = leaf.shape[:axis], leaf.shape[axis + 1 :]
            apart = leaf.reshape(*before, leaf.shape[axis] // self.count, self.count, *after)
            return jax.lax.dynamic_index_in_dim(apart, self.index(), axis + 1, keepdims=False)

        return jax.tree.map(pick, tree)

    def whole(self, tree: PyTree, axis: int) -> PyTree:
        """The rows of all devices in their order: B / n along `axis` becomes B."""
        if not self.split:
            return tree

        def gather(leaf: jax.Array) -> jax.Array:
            apart = jax.lax.all_gather(leaf, AXIS, axis=axis + 1)
            return apart.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 1 :])

        return jax.tree.map(gather, tree)

    def whole_rows(self, tree: PyTree) -> PyTree:
        """As `whole` with axis 0, for leaves of any dtype, random keys too, in one collective operation."""
        return unpack(self.whole(pack(tree), 0), tree) if self.split else tree

    def look(self, ring: PyTree, slots: jax.Array, *index: jax.Array) -> PyTree:
        """ring[slots, *index] of leaves of the replay, the same on all devices. slots, index: int32 [M]."""
        if not self.split:
            return jax.tree.map(lambda leaf: leaf[slots, *index], ring)
        data, like = self._held(ring, slots, *index)
        return unpack(jax.lax.psum(data, AXIS), like)

    def deal(self, ring: PyTree, slots: jax.Array) -> PyTree:
        """Own rows of ring[slots], whichever device holds them: slots int32 [B] to leaves [B / n, ...]."""
        if not self.split:
            return jax.tree.map(lambda leaf: leaf[slots], ring)
        data, like = self._held(ring, slots)
        apart = data.reshape(-1, self.count, data.shape[-1]).swapaxes(0, 1)  # [n, B / n, K]
        return unpack(jax.lax.psum_scatter(apart, AXIS, scatter_dimension=0), like)

    def _held(self, ring: PyTree, slots: jax.Array, *index: jax.Array) -> tuple[jax.Array, PyTree]:
        """The bytes of the rows that this device holds, zeros for the others, uint8 [M, K]; and rows of their shape.

        Exactly one device holds a row, so the sum over devices has its very bits.
        """
        held = len(jax.tree.leaves(ring)[0])
        at = slots - self.index() * held
        rows = jax.tree.map(lambda leaf: leaf[jnp.clip(at, 0, held - 1), *index], ring)
        here = (at >= 0) & (at < held)
        return jnp.where(here[:, None], pack(rows), jnp.uint8(0)), rows


WHOLE = Shards()


def pack(tree: PyTree) -> jax.Array:
    """The bytes of rows, leaves [N, ...] of any dtype to uint8 [N, K]."""
    return jnp.concatenate([_bytes(leaf) for leaf in jax.tree.leaves(tree)], axis=1)


def unpack(data: jax.Array, like: PyTree) -> PyTree:
    """The rows whose bytes `pack` gave, uint8 [N, K]. like: leaves [any, ...] of the rows' shapes and dtypes."""
    leaves, start = [], 0
    for leaf in jax.tree.leaves(like):
        raw = _raw(leaf)
        shape = (*raw.shape[1:], *([raw.dtype.itemsize] if raw.dtype.itemsize > 1 else []))
        end = start + math.prod(shape)
        values = jax.lax.bitcast_convert_type(data[:, start:end].reshape(len(data), *shape), raw.dtype)
        leaves.append(_revive(values, leaf))
        start = end
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _bytes(leaf: jax.Array) -> jax.Array:
    raw = _raw(leaf)
    return jax.lax.bitcast_convert_type(raw, jnp.uint8).reshape(len(raw), -1)


def _raw(leaf: jax.Array) -> jax.Array:
    """Numbers: keys as those under them, bools as bytes."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf


def _revive(values: jax.Array, like: Any) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(values, impl=jax.random.key_impl(like))
    return values.astype(bool) if like.dtype == bool else values
