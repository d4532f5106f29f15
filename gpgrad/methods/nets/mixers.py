"""Mixers: from the agents' utilities to a joint value, with hypernetworks on the state kept apart from the mix.

`weights = hyper(params, state)` then `mix(weights, q)`: a second joint action at the same state, such as the
greedy one, costs no second hypernetwork.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.methods.nets import layers
from gpgrad.types import Init, PyTree

Positive = Literal["abs", "softplus", "quadratic"]
POSITIVE: dict[str, Callable[[jax.Array], jax.Array]] = {
    "abs": jnp.abs,
    "softplus": jax.nn.softplus,
    "quadratic": lambda x: 0.5 * x**2,
}


class Linear(nn.Module):
    """A dense layer on dense or one-hot inputs, with the project's initialisers."""

    features: int
    init_name: Init = "torch"

    @nn.compact
    def __call__(self, x: jax.Array | OneHot) -> jax.Array:
        """[..., D] or a OneHot of size D to [..., features]."""
        n_in = x.size if isinstance(x, OneHot) else x.shape[-1]
        layer = self.param("layer", layers.init_dense, n_in, self.features, self.init_name)
        return layers.dense(layer, x)


class MixWeights(NamedTuple):
    """QMIX's weights at one state: w1 [..., A, E] and w2 [..., E] non-negative, b1 [..., E], v [...]."""

    w1: jax.Array
    b1: jax.Array
    w2: jax.Array
    v: jax.Array


class QmixHyper(nn.Module):
    """QMIX's four hypernetworks; their layers on the state stand side by side in one, since the state is wide."""

    n_agents: int
    embed: int = 32
    hidden: int = 64
    n_layers: int = 2
    positive: Positive = "abs"
    init_name: Init = "torch"

    @nn.compact
    def __call__(self, state: jax.Array | OneHot) -> MixWeights:
        """State [..., D] to the mixing weights."""
        n_w1, n_w2 = self.n_agents * self.embed, self.embed
        first = (self.hidden, self.hidden) if self.n_layers == 2 else (n_w1, n_w2)
        joined = Linear(sum(first) + 2 * self.embed, self.init_name, name="state")(state)
        ends = (first[0], sum(first), sum(first) + self.embed)
        w1, w2, b1, v = jnp.split(joined, ends, axis=-1)
        if self.n_layers == 2:
            w1 = Linear(n_w1, self.init_name, name="w1")(jax.nn.relu(w1))
            w2 = Linear(n_w2, self.init_name, name="w2")(jax.nn.relu(w2))
        v = Linear(1, self.init_name, name="v")(jax.nn.relu(v))
        positive = POSITIVE[self.positive]
        return MixWeights(positive(w1).reshape(*w1.shape[:-1], self.n_agents, self.embed), b1, positive(w2), v[..., 0])


def mix(weights: MixWeights, q: jax.Array) -> jax.Array:
    """QMIX's joint value [...] of utilities q [..., A]: ELU(q W1 + b1) W2 + V, monotone in each utility.

    Source: QMIX (ICML 2018), the mixing network.
    """
    hidden = jax.nn.elu((q[..., None] * weights.w1).sum(-2) + weights.b1)  # [..., E]
    return (hidden * weights.w2).sum(-1) + weights.v


class Mixer(NamedTuple):
    """init(key, state) -> params. hyper(params, state) -> weights of the mix, such as `MixWeights`.
    mix(weights, q [..., A]) -> [...].
    """

    init: Callable[[jax.Array, jax.Array | OneHot], PyTree]
    hyper: Callable[[PyTree, jax.Array | OneHot], Any]
    mix: Callable[[Any, jax.Array], jax.Array]


def total() -> Mixer:
    """VDN's mixer: the sum of utilities; no parameters.

    Source: VDN (AAMAS 2018).
    """
    return Mixer(lambda key, state: {}, lambda params, state: (), lambda weights, q: q.sum(-1))


def qmix(n_agents: int, embed: int, hidden: int, n_layers: int, positive: Positive, init_name: Init) -> Mixer:
    """QMIX's mixer for a number of agents.

    Source: QMIX (ICML 2018), the mixing network and its hypernetworks.
    """
    module = QmixHyper(n_agents, embed, hidden, n_layers, positive, init_name)
    return Mixer(
        init=lambda key, state: module.init(key, state)["params"],
        hyper=lambda params, state: module.apply({"params": params}, state),  # type: ignore[return-value]
        mix=mix,
    )
