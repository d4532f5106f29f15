"""Lengths of vectors that are bit-identical in every compiled program.

A compiler may fuse a product and a sum (one rounding) or not (two roundings). Splitting float32 values into halves with
exact products makes both results equal.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def _squares(value: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Three exact float32 numbers whose sum is the square, the largest first."""
    bits = jax.lax.bitcast_convert_type(value, jnp.uint32) & np.uint32(0xFFFFF000)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    low = value - high
    return high * high, 2 * high * low, low * low


def length(dx: jax.Array, dy: jax.Array) -> jax.Array:
    """Euclidean length of float32 vectors."""
    large, middle, small = (a + b for a, b in zip(_squares(dx), _squares(dy), strict=True))
    return jnp.sqrt(large + (middle + small))


def farther(dx: jax.Array, dy: jax.Array, reach: jax.Array) -> jax.Array:
    """Whether float32 vectors are longer than `reach`, computed in twice the precision.

    Avoidance moves units to exactly the distance at which they are neighbours and touch, so the last bit matters. The
    sum is compensated: it carries its rounding errors.
    """
    total, lost = jnp.zeros_like(dx), jnp.zeros_like(dx)
    for value, sign in ((dx, 1), (dy, 1), (reach + jnp.zeros_like(dx), -1)):
        for product in _squares(value):
            term = sign * product
            now = total + term
            part = now - total
            lost = lost + ((total - (now - part)) + (term - part))
            total = now
    return total + lost > 0
