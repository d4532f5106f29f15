"""A head that gives values at quantile fractions (implicit quantile networks, Dabney et al. 2018)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gpgrad.nets import layers
from gpgrad.types import Init

COSINES = 64


def init(key: jax.Array, hidden: int, init_name: Init) -> layers.Dense:
    """The layer that embeds fractions: [64, H]."""
    return layers.init_dense(key, COSINES, hidden, init_name)


def embed(layer: layers.Dense, fractions: jax.Array) -> jax.Array:
    """relu(W cos(pi j tau) + b), j = 0..63: fractions [..., N] to [..., N, 1, H], or [..., N, A, H] per agent."""
    cosines = jnp.cos(jnp.pi * jnp.arange(COSINES) * fractions[..., None])[..., None, :]  # [..., N, 1, 64]
    if layer["kernel"].ndim == 3:
        cosines = jnp.broadcast_to(cosines, (*cosines.shape[:-2], layer["kernel"].shape[0], COSINES))
    return jax.nn.relu(layers.dense(layer, cosines))


def values(layer: layers.Dense, head: layers.Dense, hidden: jax.Array, fractions: jax.Array) -> jax.Array:
    """Values of every action at fractions [..., N] that all agents share: hidden [..., A, H] to [..., A, U, N]."""
    q = layers.dense(head, hidden[..., None, :, :] * embed(layer, fractions))  # [..., N, A, U]
    return jnp.moveaxis(q, -3, -1)


def huber_loss(values: jax.Array, fractions: jax.Array, targets: jax.Array) -> jax.Array:
    """Quantile regression: values [..., N] at fractions [..., N] against samples [..., M] of the target: [...].

    |tau_i - 1[u <= 0]| huber_1(u) with u = target_j - value_i; mean over targets, sum over values. The targets carry no
    gradient.
    """
    error = jax.lax.stop_gradient(targets)[..., None, :] - values[..., :, None]  # [..., N, M]
    size = jnp.abs(error)
    huber = jnp.where(size <= 1, 0.5 * jnp.square(error), size - 0.5)
    return (jnp.abs(fractions[..., None] - (error <= 0)) * huber).mean(-1).sum(-1)
