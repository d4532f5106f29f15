"""Gradient steps on episodes of unequal length, without the padding.

Padding costs as much as play. In environments whose episodes mostly end long before the limit (`EnvSpec.ends_early`) a
batch is sorted, the longest episode first, and computed in blocks of time: each block has only as many rows as there
are episodes that reach it, and after the longest episode there is none.

Compiled programs need fixed shapes, so there are a few layouts of blocks, and a batch uses the first layout that holds
it. Hidden states are carried from block to block: no device makes more steps one after another than the longest episode
has. Only padding is left out, so nothing but the rounding of sums depends on the layout.

Axes in comments: B batch, T time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gpgrad.envs.api import Env, EnvParams, EnvState, View
from gpgrad.learning import early_exit_loops
from gpgrad.methods.nets.agent import AgentNet, step_keys
from gpgrad.shards import WHOLE, Shards
from gpgrad.types import AgentOut, Episode, Gates, PyTree

# Shares of the batch in each quarter of the limit, the shortest layouts first, then the cheapest; every block costs
# seconds of compilation. In battles one episode in four reaches the second quarter and few reach the last; of teams
# that run away, or fight long, more do.
LAYOUTS = ((1,), (1, 1), (1, 3 / 8, 1 / 8, 1 / 8), (1, 3 / 4, 3 / 8, 3 / 8), (1, 1, 1, 1))
_QUARTERS = 4


class TimeBlocks(NamedTuple):
    """A layout: consecutive blocks of time. ends: the step before which each ends. rows: the episodes in each."""

    ends: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """The step with which each block begins."""
        return (0, *self.ends[:-1])

    @property
    def size(self) -> int:
        """Steps of episodes that are computed."""
        return sum((end - start) * rows for start, end, rows in zip(self.starts, self.ends, self.rows, strict=True))

    def slices(self) -> list[tuple[slice, slice]]:
        """Each block's observations and rows; the last block has the observation after its last step, too."""
        stops = (*self.ends[:-1], self.ends[-1] + 1)
        return [(slice(*ends), slice(rows)) for *ends, rows in zip(self.starts, stops, self.rows, strict=True)]


def whole(length: int, batch: int) -> TimeBlocks:
    """One block with all episodes to the end."""
    return TimeBlocks((length,), (batch,))


def options(limit: int, batch: int) -> tuple[TimeBlocks, ...]:
    """The layouts for batches of so many episodes with at most `limit` steps; the last holds every batch."""
    layouts = []
    for shares in LAYOUTS:
        ends = [max(1, round(limit * (i + 1) / _QUARTERS)) for i in range(len(shares))]
        steps = list(zip(ends, [math.ceil(share * batch) for share in shares], strict=True))
        kept = [at for at, after in zip(steps, [*steps[1:], (0, 0)], strict=True) if at[1] != after[1]]
        blocks = TimeBlocks(*zip(*kept, strict=True))
        if all(a < b for a, b in zip((0, *blocks.ends), blocks.ends, strict=False)) and blocks not in layouts:
            layouts.append(blocks)
    return tuple(layouts)


def choose(layouts: Sequence[TimeBlocks], played: jax.Array, shards: Shards = WHOLE) -> jax.Array:
    """Index of the first layout that holds episodes of these lengths [B], the same for all that `jax.vmap` maps and on
    all devices.
    """

    def reaching(t: int) -> jax.Array:
        return jnp.sum(played >= t, dtype=jnp.int32)

    holds = []
    for blocks in layouts[:-1]:
        too_many = [reaching(start) > rows for start, rows in zip(blocks.starts, blocks.rows, strict=True)]
        holds.append(~jnp.any(jnp.stack([*too_many, reaching(blocks.ends[-1] + 1) > 0])))
    fails = early_exit_loops.largest(shards.largest(~jnp.stack([*holds, jnp.array(True)])))
    return jnp.argmin(fails).astype(jnp.int32)


class OnBlocks(Protocol):
    """A function of episodes that computes only given time blocks."""

    def __call__(self, blocks: TimeBlocks, episodes: Episode, /, *args: Any, **named: Any) -> Any:
        """episodes: [B, T, ...], sorted, the longest first, and cut where the last block ends."""
        ...


def on_first(function: OnBlocks, episodes: Episode, *args: PyTree, shards: Shards = WHOLE) -> Any:
    """function(blocks, episodes, *args) with the first layout that holds the episodes [B, T, ...], which are sorted,
    the longest first, and cut where the last block ends.

    Over several devices the batch must have been sorted before it was shared; all use the same layout.
    """
    batch, limit = episodes.valid.shape
    layouts = options(limit, batch)
    played = episodes.valid.sum(1, dtype=jnp.int32)
    episodes = jax.tree.map(lambda leaf: leaf[jnp.argsort(-played)], episodes)

    branches = [partial(_on, function, blocks) for blocks in layouts]
    return jax.lax.switch(choose(layouts, played, shards), branches, episodes, *args)


def _on(function: OnBlocks, blocks: TimeBlocks, episodes: Episode, *args: PyTree) -> Any:
    return function(blocks, cut(episodes, blocks.ends[-1]), *args)


def cut(episodes: Episode, length: int) -> Episode:
    """The first steps of episodes [B, T, ...], and one state more."""
    states = jax.tree.map(lambda leaf: leaf[:, : length + 1], episodes.states)
    rest = jax.tree.map(lambda leaf: leaf[:, :length], episodes._replace(states=None))
    return rest._replace(states=states)


def view(blocks: TimeBlocks, env: Env, env_params: EnvParams, states: EnvState) -> View:
    """Views of states [T+1, B, ...] of sorted episodes; outside the blocks an arbitrary view of the same block."""
    see = jax.vmap(jax.vmap(env.view, (None, 0)), (None, 0))

    def fill(leaf: jax.Array, missing: int) -> jax.Array:  # has to be a view: some action is available
        last = jnp.broadcast_to(leaf[:, -1:], (leaf.shape[0], missing, *leaf.shape[2:]))
        return jnp.concatenate([leaf, last], 1)

    pieces = [see(env_params, _block(states, time, rows)) for time, rows in blocks.slices()]
    return _joined(blocks, pieces, fill)


def agent(blocks: TimeBlocks, net: AgentNet) -> AgentNet:
    """The same agent, whose unroll computes only the blocks, for sorted episodes; outside them outputs are zero."""
    if len(blocks.ends) == 1:
        return net

    def unroll(params: PyTree, gates: Gates, obs, last_actions, key=None, acting=False, carry=None) -> AgentOut:
        outs, head_params = [], None
        keys = step_keys(key, len(obs)) if key is not None and not key.ndim else key
        for time, rows in blocks.slices():
            own = None if keys is None else keys[(time, rows)[: keys.ndim]]
            seen, before = _block((obs, last_actions), time, rows)
            out = net.unroll(params, gates, seen, before, own, acting, _block(carry, rows))
            carry = out.carry
            head_params = out.head_params
            outs.append(out._replace(carry=None, head_params=None))
        joined = _joined(blocks, outs, lambda leaf, n: jnp.pad(leaf, [(0, 0), (0, n), *[(0, 0)] * (leaf.ndim - 2)]))
        return joined._replace(head_params=head_params)

    return net._replace(unroll=unroll)


def _block(tree: PyTree, *index: slice) -> PyTree:
    """A part of the leading axes of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _joined(blocks: TimeBlocks, pieces: list[Any], fill: Callable[[jax.Array, int], jax.Array]) -> Any:
    """Leaves [t, rows, ...] of each block, filled to the rows of the first, as one [T+1, B, ...]."""

    def join(*leaves: jax.Array) -> jax.Array:
        missing = [blocks.rows[0] - rows for rows in blocks.rows]
        return jnp.concatenate([fill(leaf, n) if n else leaf for leaf, n in zip(leaves, missing, strict=True)])

    return jax.tree.map(join, *pieces)
