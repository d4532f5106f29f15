"""Cells of a bounded board as numbers, random orders and samples; vectorised over many environments."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Row and column changes of the moves, in the order of the actions.
MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)], np.int32)
# Cell numbers of entities that are not on the board; different, so that a missing target never equals a missing entity.
NO_TARGET, GONE = -1, -2


class Board(NamedTuple):
    """A board of height x width cells; cell (row, column) has the number row * width + column."""

    height: int
    width: int

    def cell(self, positions: jax.Array) -> jax.Array:
        """Cell numbers, int32 [...], of positions [..., 2]."""
        positions = positions.astype(jnp.int32)
        return positions[..., 0] * self.width + positions[..., 1]

    def position(self, cells: jax.Array, last: jax.Array) -> jax.Array:
        """Positions int8 [..., 2] of cells [...]; `last` where the cell is GONE."""
        now = jnp.stack([cells // self.width, cells % self.width], -1).astype(jnp.int8)
        return jnp.where((cells != GONE)[..., None], now, last)

    def around(self, positions: jax.Array) -> jax.Array:
        """The four neighbours of positions [..., 2] as cells, int32 [..., 4]; NO_TARGET off the board."""
        to = positions.astype(jnp.int32)[..., None, :] + MOVES  # [..., 4, 2]
        inside = jnp.all((to >= 0) & (to < np.array([self.height, self.width])), axis=-1)
        return jnp.where(inside, self.cell(to), NO_TARGET)


def random_order(bits: jax.Array) -> jax.Array:
    """A uniform permutation, int32 [N], from independent random words [N].

    Computes the rank of each word by pairwise comparison, since sorting many short rows is slow.
    """
    ids = jnp.arange(bits.shape[0])
    mine, other = bits[:, None], bits[None, :]
    before = (other < mine) | ((other == mine) & (ids[None, :] < ids[:, None]))
    return count(before, axis=1)


def distinct(key: jax.Array, amount: int, size: int) -> jax.Array:
    """A uniform ordered sample of `amount` distinct numbers from 0..size-1, int32 [amount].

    The first swaps of a Fisher-Yates shuffle, which is much cheaper than shuffling the whole board, and without a loop.
    Swap i exchanges place i with a place at or after it and takes the number from there. That is the place's own number
    unless an earlier swap went there. The last such swap j brought the number that place j had, which is j unless an
    earlier swap went to place j, and so on. Each round follows twice as many of these steps as the last.
    """
    swaps = jax.random.randint(key, (amount,), jnp.arange(amount), size)
    turns = np.arange(amount)
    earlier = turns[None, :] < turns[:, None]  # [amount, amount]

    def last_to(places: jax.Array | np.ndarray) -> jax.Array:
        """The last swap before swap i that went to places[i], -1 if there was none."""
        return jnp.max(jnp.where(earlier & (places[:, None] == swaps[None, :]), turns, -1), axis=1)

    before, source = last_to(swaps), last_to(turns)
    had = jnp.where(source < 0, turns, source)  # the number of place i when its turn comes, after all rounds
    for _ in range((amount - 1).bit_length()):
        had = had[had]
    return jnp.where(before < 0, swaps, had[before]).astype(jnp.int32)


def is_in(cells: jax.Array, others: jax.Array) -> jax.Array:
    """Whether each cell [...] is among others [N]."""
    return jnp.any(cells[..., None] == others, axis=-1)


def count(flags: jax.Array, axis: int | None = None) -> jax.Array:
    """Sum of flags or counts as int32, over all entries or one axis."""
    return jnp.sum(flags, axis=axis, dtype=jnp.int32)
