"""Clones of neurons: K slots of a dense layer, of which every agent uses one per neuron.

Where a neuron is not cloned all agents use slot 0 and the other slots are idle. Gradients reach only the slots in
use, each the sum over its agents.

Axes in comments: K slots, D inputs, N neurons, A agents.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from gpgrad.methods.nets.agent import AgentParams
from gpgrad.methods.nets.layers import Dense
from gpgrad.types import PyTree

RestoreLoss = Literal["l1", "l2"]


def layer_of(params: AgentParams, index: int) -> Dense:
    """The index-th dense layer before the GRU."""
    return params.fc1 if index == 0 else params.deep[index - 1]


def with_layer(params: AgentParams, index: int, layer: Dense) -> AgentParams:
    """The parameters with the index-th dense layer before the GRU exchanged."""
    if index == 0:
        return params._replace(fc1=layer)
    return params._replace(deep=(*params.deep[: index - 1], layer, *params.deep[index:]))


def slots(layer: Dense, k: int, clone_bias: bool) -> Dense:
    """A shared layer [D, N] as k equal slots [K, D, N]; the bias stays [N] where it is not cloned.

    Source: GradPS (ICML 2025), Section 5.2.
    """

    def repeat(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (k, *leaf.shape))

    return {"kernel": repeat(layer["kernel"]), "bias": repeat(layer["bias"]) if clone_bias else layer["bias"]}


def gather(layer: Dense, assign: jax.Array) -> Dense:
    """Every agent's own layer: kernel [K, D, N] and assign int32 [N, A] to [A, D, N], the bias alike.

    Each agent sees the clone of its group. The paper prints a sum over all clones, which would multiply the
    pre-activation by about K and couple the groups; its code uses the agent's own clone, as here. The product with a
    one-hot matrix is a selection whose gradient is a product too: slot k gets the sum over its agents, without scatter.

    Source: GradPS (ICML 2025), Section 5.2.
    """
    k = layer["kernel"].shape[0]
    if k == 1:
        return {"kernel": layer["kernel"][0], "bias": layer["bias"].reshape(-1)}
    chosen = jax.nn.one_hot(assign, k)  # [N, A, K]
    bias = layer["bias"] if layer["bias"].ndim == 1 else jnp.einsum("nak,kn->an", chosen, layer["bias"])
    return {"kernel": jnp.einsum("nak,kdn->adn", chosen, layer["kernel"]), "bias": bias}


def used(assign: jax.Array, k: int) -> jax.Array:
    """Which slots have an agent: assign [N, A] to bool [K, N]."""
    return (assign[None] == jnp.arange(k)[:, None, None]).any(-1)


def used_mean(leaf: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the slots in use: leaf [K, ..., N] and mask bool [K, N] to [..., N]."""
    mask = _between(mask, leaf.ndim)
    return jnp.where(mask, leaf, 0.0).sum(0) / mask.sum(0)


def restore_penalty(weights: jax.Array, bias: jax.Array, members: jax.Array, loss: RestoreLoss = "l1") -> jax.Array:
    """How far each neuron's clones are from their mean: weights [K, D, N], bias [K, N], members [N, A] to [N].

    `l1` is Eq. 4. `l2`: sum of squares of the weights alone, as in the released code. members: the slot of each agent;
    slots that no agent uses do not count. The mean is a constant of the derivative.

    Source: GradPS (ICML 2025), Eq. 4.
    """
    mask = used(members, weights.shape[0])
    away, bias_away = (_away(leaf, mask) for leaf in (weights, bias))
    if loss == "l2":
        return jnp.square(away).sum((0, 1))
    return jnp.abs(away).sum((0, 1)) + jnp.abs(bias_away).sum(0)


def pull(layer: Dense, assign: jax.Array, restoring: jax.Array, lr: float, loss: RestoreLoss) -> Dense:
    """One step of gradient descent on `restore_penalty` for the neurons that `restoring` bool [N] marks.

    The derivative is written out: sign(w - mean) for `l1`, 2 (w - mean) for `l2`, since the mean is a constant of it.

    Source: GradPS (ICML 2025), Section 5.3, SGD on Eq. 4.
    """
    mask = used(assign, layer["kernel"].shape[0])

    def step(leaf: jax.Array) -> jax.Array:
        away = _away(leaf, mask)
        slope = jnp.sign(away) if loss == "l1" else 2 * away
        return leaf - lr * jnp.where(restoring, slope, 0.0)

    moves = layer["bias"].ndim == 2 and loss == "l1"
    return {"kernel": step(layer["kernel"]), "bias": step(layer["bias"]) if moves else layer["bias"]}


def spread(kernel: jax.Array, assign: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How much the clones in use differ, per neuron: unbiased variance and mean absolute deviation, both [N].

    Both are means over inputs; 0 for a single clone.

    Source: GradPS (ICML 2025), Section 5.3: the variance that selects clones for restoring.
    """
    mask = used(assign, kernel.shape[0])
    away, count = _away(kernel, mask), mask.sum(0)
    variance = jnp.square(away).sum(0) / jnp.maximum(count - 1, 1)  # [D, N]
    return variance.mean(0), (jnp.abs(away).sum(0) / count).mean(0)


def open_slots(tree: PyTree, opened: jax.Array) -> PyTree:
    """Slot 0 in every slot of the neurons that open, bool [N]. Leaves [K, ..., N]; a shared bias [N] stays.

    Source: GradPS (ICML 2025), Algorithm 2, line 22.
    """
    return jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else jnp.where(opened, leaf[:1], leaf), tree)


def clear_clones(tree: PyTree, opened: jax.Array) -> PyTree:
    """Zeros in every slot but the first of the neurons that open."""

    def clear(leaf: jax.Array) -> jax.Array:
        rest = jnp.arange(leaf.shape[0]).reshape(-1, *[1] * (leaf.ndim - 1)) > 0
        return leaf if leaf.ndim == 1 else jnp.where(opened & rest, 0.0, leaf)

    return jax.tree.map(clear, tree)


def merge_slots(tree: PyTree, closed: jax.Array, assign: jax.Array) -> PyTree:
    """The mean of the slots in use, in every slot of the neurons that close, bool [N]; assign is the old assignment.

    Source: GradPS (ICML 2025), Section 5.3, Algorithm 2, line 31.
    """

    def merge(leaf: jax.Array) -> jax.Array:
        if leaf.ndim == 1:
            return leaf
        return jnp.where(closed, used_mean(leaf, used(assign, leaf.shape[0])), leaf)

    return jax.tree.map(merge, tree)


def _between(mask: jax.Array, ndim: int) -> jax.Array:
    """[K, N] as [K, 1, ..., N] of that many axes."""
    return mask.reshape(mask.shape[0], *[1] * (ndim - 2), mask.shape[1])


def _away(leaf: jax.Array, mask: jax.Array) -> jax.Array:
    """Distance from the mean of the slots in use, 0 for the others: [K, ..., N]."""
    mean = jax.lax.stop_gradient(used_mean(leaf, mask))
    return jnp.where(_between(mask, leaf.ndim), leaf - mean, 0.0)
