"""Loops and learning that stop where the longest episode at hand does.

Padding costs as much as play. In worlds whose episodes mostly end long before the limit (`EnvSpec.ends_early`)
collection stops when no world goes on, and a gradient step sees its batch cut to the shortest of a few lengths that
holds it: fixed lengths, because the derivative of a loop needs to know how often it turned. What is cut off is not
valid, so nothing but the rounding of sums depends on it.

Axes in comments: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gpgrad.types import Episode, PyTree

SHARES = (0.25, 0.5)  # of the limit; each costs the compilation of a gradient step


@jax.custom_batching.custom_vmap
def largest(x: jax.Array) -> jax.Array:
    """The largest value over all that is mapped by `jax.vmap`: a number for all lanes alike.

    A branch or a loop that depends on a lane's own value runs for all lanes and selects; one on this stays real.
    """
    return x


@largest.def_vmap
def _largest_of_lanes(axis_size: int, in_batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size, in_batched
    return largest(jnp.max(x, axis=0)), False


def options(limit: int) -> tuple[int, ...]:
    """The lengths that batches are cut to, ascending; the last is the limit."""
    return tuple(sorted({max(1, round(share * limit)) for share in SHARES} | {limit}))


def cut(episodes: Episode, length: int) -> Episode:
    """The first steps of episodes [B, T, ...], and one state more."""
    states = jax.tree.map(lambda leaf: leaf[:, : length + 1], episodes.states)
    rest = jax.tree.map(lambda leaf: leaf[:, :length], episodes._replace(states=None))
    return rest._replace(states=states)


def on_shortest(function: Callable[..., Any], episodes: Episode, *args: PyTree) -> Any:
    """function(episodes cut as short as the longest of all lanes allows, *args)."""
    lengths = options(episodes.valid.shape[1])
    longest = largest(episodes.valid.sum(1, dtype=jnp.int32).max())
    place = sum((longest > length).astype(jnp.int32) for length in lengths[:-1])
    branches = [lambda e, *rest, length=length: function(cut(e, length), *rest) for length in lengths]
    return jax.lax.switch(place, branches, episodes, *args)


def scan_while_running(
    step: Callable[..., tuple[Any, PyTree]], start: Any, limit: int
) -> tuple[Any, PyTree, jax.Array]:
    """As `jax.lax.scan(step, start, jnp.arange(limit))`, but only while `carry.running` is true somewhere.

    Returns the last carry, the rows [limit, ...], zeros where no step was made, and the number of steps made.
    """
    row = jax.eval_shape(step, start, jnp.zeros((), jnp.int32))[1]
    rows = jax.tree.map(lambda leaf: jnp.zeros((limit, *leaf.shape), leaf.dtype), row)

    def goes_on(loop: tuple) -> jax.Array:
        t, on, _, _ = loop
        return (t < limit) & (on > 0)

    def turn(loop: tuple) -> tuple:
        t, _, carry, rows = loop
        carry, row = step(carry, t)
        rows = jax.tree.map(lambda all_, one: jax.lax.dynamic_update_index_in_dim(all_, one, t, 0), rows, row)
        return t + 1, largest(jnp.any(carry.running).astype(jnp.int32)), carry, rows

    steps, _, carry, rows = jax.lax.while_loop(goes_on, turn, (jnp.int32(0), jnp.int32(1), start, rows))
    return carry, rows, steps
