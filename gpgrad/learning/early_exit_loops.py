"""Loops that stop as soon as every lane has ended.

Padding costs as much as play. In environments whose episodes mostly end long before the limit (`EnvSpec.ends_early`)
collection stops when no environment runs any more; `gpgrad.learning.ragged_batches` does the same for gradient steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gpgrad.types import PyTree


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


def scan_while_running(
    step: Callable[[Any, jax.Array], tuple[Any, PyTree]], start: Any, limit: int
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
