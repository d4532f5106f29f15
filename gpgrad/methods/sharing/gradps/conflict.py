"""Gradient conflict and gradient efficiency of shared neurons, and both with random signs.

phi [T, A, N] is the neuron gradient: the gradient of the loss on neuron n that comes from agent i's data, summed over
one target-update period each (GradPS, ICML 2025, Def. 2). It is taken on a factor of one behind the activation, as in
the paper's Appendix C.2.

Axes in comments: T periods, A agents, N neurons, R draws.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

Threshold = Literal["fixed", "rel_mean", "mad", "null"]
DRAWS = 16  # of random signs, for efficiencies by chance
_TO_DEVIATION = 1.4826  # a normal distribution's standard deviation over its median absolute deviation


def neuron_conflict(phi: jax.Array, normalise: bool = False) -> jax.Array:
    """C_ij = sum over periods of |phi_i| + |phi_j| - |phi_i + phi_j|: [T, A, N] to [N, A, A].

    normalise: divided by the sum of |phi_i| + |phi_j|, so between 0 and 1; 0 where there is no gradient.

    Source: GradPS (ICML 2025), Def. 3, Eq. 1.
    """
    phi = jnp.moveaxis(phi, -1, 0)  # [N, T, A]: agents innermost is several times faster
    one, other = phi[..., :, None], phi[..., None, :]
    size = jnp.abs(one) + jnp.abs(other)  # [N, T, A, A]
    conflict = (size - jnp.abs(one + other)).sum(1)
    if not normalise:
        return conflict
    total = size.sum(1)
    return jnp.where(total > 0, conflict / jnp.where(total > 0, total, 1.0), 0.0)


def neuron_efficiency(phi: jax.Array, counted: jax.Array | None = None) -> jax.Array:
    """Mean over periods of |sum_i phi_i| / sum_i |phi_i|: [..., T, A, N] to [..., N].

    A period without any gradient counts as 1. counted: bool [T], the periods of the mean, all by default; 1 if none.

    Source: GradPS (ICML 2025), Def. 4, Eq. 2.
    """
    return _mean_ratio(jnp.abs(phi.sum(-2)), jnp.abs(phi).sum(-2), counted)


def group_efficiency(phi: jax.Array, groups: jax.Array, k: int, counted: jax.Array | None = None) -> jax.Array:
    """Efficiency where only agents of one group share: phi [T, A, N], groups int [N, A] in 0..k-1, to [N].

    mean_t [sum_g |sum_{i in g} phi_i|] / [sum_i |phi_i|]: the paper's efficiency once neurons are cloned.

    Source: GradPS (ICML 2025), Eq. 2, applied to each clone's agents.
    """
    members = jax.nn.one_hot(groups, k)  # [N, A, K]
    pulls = jnp.abs(jnp.einsum("tan,nak->tkn", phi, members)).sum(1)
    return _mean_ratio(pulls, jnp.abs(phi).sum(1), counted)


def chance_efficiency(key: jax.Array, phi: jax.Array, counted: jax.Array | None = None) -> jax.Array:
    """Efficiencies with the sign of every agent and period drawn at random: [T, A, N] to [R, N].

    The efficiency of agents that neither agree nor disagree, at the magnitudes they have.

    Source: a null distribution of this project for GradPS (ICML 2025), Eq. 2.
    """
    signs = jax.random.rademacher(key, (DRAWS, *phi.shape[:2]), phi.dtype)
    pulls = jnp.abs(jnp.einsum("rta,tan->rtn", signs, phi))
    return _mean_ratio(pulls, jnp.broadcast_to(jnp.abs(phi).sum(-2), pulls.shape), counted)


def futile_below(
    efficiency: jax.Array,
    chance: jax.Array,
    ready: jax.Array,
    rule: Threshold,
    alpha: float = 0.2,
    ratio: float = 0.5,
    deviations: float = 2.5,
) -> jax.Array:
    """The efficiency below which each neuron is futile: float32 [N].

    efficiency [N]. chance [N], expected of random signs. ready bool [N], the neurons that may be opened; all where
    none is. `fixed`: alpha (Eq. 3). `rel_mean`: ratio times the mean of the ready ones (the released code). `mad`: that
    many median absolute deviations (scaled to standard deviations) below their median. `null`: ratio times chance.

    Source: GradPS (ICML 2025), Def. 5, Eq. 3.
    """
    among = jnp.where(ready.any(), ready, True)
    if rule == "fixed":
        level = jnp.float32(alpha)
    elif rule == "rel_mean":
        level = ratio * jnp.where(among, efficiency, 0.0).sum() / among.sum()
    elif rule == "mad":
        middle = masked_median(efficiency, among)
        level = middle - deviations * _TO_DEVIATION * masked_median(jnp.abs(efficiency - middle), among)
    else:
        level = ratio * chance
    return jnp.broadcast_to(level, efficiency.shape)


def masked_median(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Median of the entries of x [N] that the mask marks; there must be one."""
    ordered, count = jnp.sort(jnp.where(mask, x, jnp.inf)), mask.sum()
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _mean_ratio(part: jax.Array, whole: jax.Array, counted: jax.Array | None) -> jax.Array:
    """Mean over T of part / whole [..., T, N], 0/0 being 1, over the counted periods."""
    ratio = jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), 1.0)
    if counted is None:
        return ratio.mean(-2)
    count = counted.sum()
    mean = jnp.where(counted[:, None], ratio, 0.0).sum(-2) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, 1.0)
