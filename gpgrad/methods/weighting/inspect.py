"""Choose example transitions that show gradient protection."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gpgrad.methods.weighting.protection import Protection


def pick(buckets: jax.Array, found: Protection, td_error: jax.Array, n_buckets: int, n_members: int) -> jax.Array:
    """Transitions of the buckets with the most interference: int32 [n_buckets, 1 + n_members], N for none.

    First the protected one, then those that interfere with it, the largest absolute TD errors first.
    buckets: int32 [N]. td_error: float32 [N].
    """
    n = len(buckets)
    place = jnp.where(found.conflict, buckets, n)
    conflicts = jax.ops.segment_sum(jnp.ones(n, jnp.int32), place, n)
    counts, chosen = jax.lax.top_k(conflicts, n_buckets)

    def members(bucket: jax.Array, count: jax.Array) -> jax.Array:
        inside = found.conflict & (buckets == bucket)
        size, index = jax.lax.top_k(jnp.where(inside, jnp.abs(td_error), -1.0), n_members)
        star = jnp.min(jnp.where(inside, found.star, n))
        return jnp.where(count > 0, jnp.append(star, jnp.where(size >= 0, index, n)), n)

    return jax.vmap(members)(chosen, counts).astype(jnp.int32)
