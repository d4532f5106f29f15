"""Gradient steps on episodes of unequal length, without the padding.

Padding costs as much as play. In worlds whose episodes mostly end long before the limit (`EnvSpec.ends_early`) a
batch is sorted, the longest episode first, and worked off in blocks of time: each has only as many rows as there are
episodes that reach it, and behind the longest there is none. Seen from the side the batch is a flight of stairs.

Compiled programs need fixed shapes, so there are a few flights and a batch takes the first that holds it. Hidden states
go on from block to block: no device makes more steps one after another than the longest episode has. What is left out
is padding, so nothing but the rounding of sums depends on it.

Axes in comments: B batch, T time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import Env, EnvParams, EnvState, View
from gpgrad.learning import early_exit_loops
from gpgrad.methods.nets import quantiles
from gpgrad.methods.nets.agent import AgentNet
from gpgrad.types import AgentOut, Episode, Gates, PyTree

# Shares of the batch in each quarter of the limit, the shortest flights first, then the cheapest; every block costs
# seconds of compilation. In battles one episode in four reaches the second quarter and few reach the last; of teams
# that run away, or fight long, more do.
FLIGHTS = ((1,), (1, 1), (1, 3 / 8, 1 / 8, 1 / 8), (1, 3 / 4, 3 / 8, 3 / 8), (1, 1, 1, 1))
_QUARTERS = 4


class Stairs(NamedTuple):
    """Blocks of time, one behind the other. ends: the step before which each ends. rows: the episodes in each."""

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

    def blocks(self) -> list[tuple[slice, slice]]:
        """Each block's observations and rows; the last block has the observation after its last step, too."""
        stops = (*self.ends[:-1], self.ends[-1] + 1)
        return [(slice(*ends), slice(rows)) for *ends, rows in zip(self.starts, stops, self.rows, strict=True)]


def whole(length: int, batch: int) -> Stairs:
    """All episodes to the end."""
    return Stairs((length,), (batch,))


def options(limit: int, batch: int) -> tuple[Stairs, ...]:
    """The flights for batches of so many episodes with at most `limit` steps; the last holds every batch."""
    flights = []
    for shares in FLIGHTS:
        ends = [max(1, round(limit * (i + 1) / _QUARTERS)) for i in range(len(shares))]
        steps = list(zip(ends, [math.ceil(share * batch) for share in shares], strict=True))
        kept = [at for at, after in zip(steps, [*steps[1:], (0, 0)], strict=True) if at[1] != after[1]]
        stairs = Stairs(*zip(*kept, strict=True))
        if all(a < b for a, b in zip((0, *stairs.ends), stairs.ends, strict=False)) and stairs not in flights:
            flights.append(stairs)
    return tuple(flights)


def choose(flights: Sequence[Stairs], played: jax.Array) -> jax.Array:
    """The place of the first flight that holds episodes of these lengths [B], the same for all that `jax.vmap` maps."""

    def reaching(t: int) -> jax.Array:
        return jnp.sum(played >= t, dtype=jnp.int32)

    holds = []
    for stairs in flights[:-1]:
        too_many = [reaching(start) > rows for start, rows in zip(stairs.starts, stairs.rows, strict=True)]
        holds.append(~jnp.any(jnp.stack([*too_many, reaching(stairs.ends[-1] + 1) > 0])))
    fails = early_exit_loops.largest(~jnp.stack([*holds, jnp.array(True)]))
    return jnp.argmin(fails).astype(jnp.int32)


def on_first(function: Callable[..., Any], episodes: Episode, *args: PyTree) -> Any:
    """function(stairs, episodes, *args) with the first stairs that hold the episodes [B, T, ...]: given to it sorted,
    the longest first, and cut where the stairs end.
    """
    batch, limit = episodes.valid.shape
    flights = options(limit, batch)
    played = episodes.valid.sum(1, dtype=jnp.int32)
    episodes = jax.tree.map(lambda leaf: leaf[jnp.argsort(-played)], episodes)

    def on(stairs: Stairs) -> Callable[..., Any]:
        return lambda episodes, *rest: function(stairs, cut(episodes, stairs.ends[-1]), *rest)

    return jax.lax.switch(choose(flights, played), [on(stairs) for stairs in flights], episodes, *args)


def cut(episodes: Episode, length: int) -> Episode:
    """The first steps of episodes [B, T, ...], and one state more."""
    states = jax.tree.map(lambda leaf: leaf[:, : length + 1], episodes.states)
    rest = jax.tree.map(lambda leaf: leaf[:, :length], episodes._replace(states=None))
    return rest._replace(states=states)


def view(stairs: Stairs, env: Env, env_params: EnvParams, states: EnvState) -> View:
    """What is seen in states [T+1, B, ...] of sorted episodes; beside the stairs some view of their block."""
    see = jax.vmap(jax.vmap(env.view, (None, 0)), (None, 0))

    def fill(leaf: jax.Array, missing: int) -> jax.Array:  # has to be a view: some action is available
        last = jnp.broadcast_to(leaf[:, -1:], (leaf.shape[0], missing, *leaf.shape[2:]))
        return jnp.concatenate([leaf, last], 1)

    blocks = [see(env_params, _block(states, time, rows)) for time, rows in stairs.blocks()]
    return _joined(stairs, blocks, fill)


def agent(stairs: Stairs, net: AgentNet) -> AgentNet:
    """The same agent, whose unroll computes what is on the stairs, for sorted episodes; it is zero beside them."""
    if len(stairs.ends) == 1:
        return net

    def unroll(params: PyTree, gates: Gates, obs, last_actions, key=None, acting=False, carry=None) -> AgentOut:
        outs, head = [], None
        keys = None if key is None else quantiles.step_keys(key, len(obs))
        for time, rows in stairs.blocks():
            own = None if keys is None else keys[time]
            seen, before = _block((obs, last_actions), time, rows)
            out = net.unroll(params, gates, seen, before, own, acting, _block(carry, rows))
            carry = out.carry
            head = out.head
            outs.append(out._replace(carry=None, head=None))
        joined = _joined(stairs, outs, lambda leaf, n: jnp.pad(leaf, [(0, 0), (0, n), *[(0, 0)] * (leaf.ndim - 2)]))
        return joined._replace(head=head)

    return net._replace(unroll=unroll)


def _block(tree: PyTree, *index: slice) -> PyTree:
    """A part of the leading axes of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _joined(stairs: Stairs, blocks: list[Any], fill: Callable[[jax.Array, int], jax.Array]) -> Any:
    """Leaves [t, rows, ...] of each block, filled to the rows of the first, as one [T+1, B, ...]."""

    def join(*leaves: jax.Array) -> jax.Array:
        missing = [stairs.rows[0] - rows for rows in stairs.rows]
        return jnp.concatenate([fill(leaf, n) if n else leaf for leaf, n in zip(leaves, missing, strict=True)])

    return jax.tree.map(join, *blocks)
