"""Qatten's mixer: attention heads over agents, weighted by the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.methods.nets import layers
from gpgrad.types import Init, PyTree


class AttentionWeights(NamedTuple):
    """At one state: slope [..., A] >= 0 of each utility, all heads together, and offset [...]."""

    slope: jax.Array
    offset: jax.Array


class AttentionMixer(NamedTuple):
    """init(key, state) -> params. hyper(params, state, own [..., A, n_own]) -> weights, where own is what keys are made
    of.
    """

    init: Callable[[jax.Array, jax.Array | OneHot], PyTree]
    hyper: Callable[[PyTree, jax.Array | OneHot, jax.Array], AttentionWeights]


def mix(weights: AttentionWeights, q: jax.Array) -> jax.Array:
    """Q_tot [...] = sum_h w_h sum_i alpha_hi q_i + c of utilities q [..., A]; the sum over heads h is in the slope.

    Source: Qatten (Yang et al., 2020).
    """
    return (weights.slope * q).sum(-1) + weights.offset


def attention(n_own: int, heads: int, embed: int, hidden: int, init_name: Init) -> AttentionMixer:
    """alpha_h = softmax_i(query_h(s) . key_h(own_i) / sqrt(E)), w_h = |W(s)|_h, c(s) with E hidden units.

    Source: Qatten (Yang et al., 2020), the weighted variant.
    """

    def init(key: jax.Array, state: jax.Array | OneHot) -> PyTree:
        keys = jax.random.split(key, 5)
        joined = heads * hidden + hidden + embed  # layers on the state side by side: it is wide
        return {
            "state": layers.init_dense(keys[0], layers.size(state), joined, init_name),
            "query": layers.init_stack(keys[1], heads, hidden, embed, init_name),
            "key": layers.init_dense(keys[2], n_own, heads * embed, init_name),
            "head": layers.init_dense(keys[3], hidden, heads, init_name),
            "offset": layers.init_dense(keys[4], embed, 1, init_name),
        }

    def hyper(params: PyTree, state: jax.Array | OneHot, own: jax.Array) -> AttentionWeights:
        joined = jax.nn.relu(layers.dense(params["state"], state))
        query, head, offset = layers.cut(joined, heads * hidden, hidden, embed)
        query = layers.stacked(params["query"], query.reshape(*query.shape[:-1], heads, hidden))  # [..., K, E]
        key = layers.dense(params["key"], own)
        key = key.reshape(*key.shape[:-1], heads, embed)  # [..., A, K, E]
        scores = (query[..., None, :, :] * key).sum(-1) / embed**0.5  # [..., A, K]
        weight = jnp.abs(layers.dense(params["head"], head))  # [..., K]
        slope = (jax.nn.softmax(scores, axis=-2) * weight[..., None, :]).sum(-1)
        return AttentionWeights(slope, layers.dense(params["offset"], offset)[..., 0])

    return AttentionMixer(init, hyper)
