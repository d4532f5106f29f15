"""Conditional values at risk of atoms, and RMIX's predictor of the level of risk (Qiu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.nets import layers
from gpgrad.types import PyTree

LEVELS = 10


def cvar(atoms: jax.Array, level: jax.Array) -> jax.Array:
    """Mean of the lowest share `level` in (0, 1] of atoms [..., M]: [...].

    The atom at the edge counts in part, so that the mean is differentiable in the level; level * M atoms share the
    weight of one.
    """
    kept = level * atoms.shape[-1]
    weights = jnp.clip(kept[..., None] - jnp.arange(atoms.shape[-1]), 0.0, 1.0)
    return (jnp.sort(atoms, axis=-1) * weights).sum(-1) / kept


class RiskPredictor(NamedTuple):
    """init(key) -> params. levels(params, now, before) -> [..., A] in {0.1, ..., 1}, of atoms [..., A, U, M]."""

    init: Callable[[jax.Array], PyTree]
    levels: Callable[[PyTree, jax.Array, jax.Array], jax.Array]


def predictor(n_actions: int, n_atoms: int, embed: int) -> RiskPredictor:
    """Each level's logit is the product of embeddings of the distributions before and now, over 8.

    The most likely level is taken; gradients pass through as if it were the expected one.
    """
    n = n_actions * n_atoms

    def init(key: jax.Array) -> PyTree:
        k_now, k_before = jax.random.split(key)
        return {
            "now": layers.uniform(k_now, (n, embed), n),
            "before": layers.uniform(k_before, (n, LEVELS * embed), n),
        }

    def levels(params: PyTree, now: jax.Array, before: jax.Array) -> jax.Array:
        flat = now.reshape(*now.shape[:-2], n) @ params["now"]  # [..., A, E]
        past = before.reshape(*before.shape[:-2], n) @ params["before"]
        logits = (past.reshape(*past.shape[:-1], LEVELS, embed) * flat[..., None, :]).sum(-1) / 8.0
        steps = jnp.arange(1, LEVELS + 1) / LEVELS
        expected = (jax.nn.softmax(logits) * steps).sum(-1)
        return expected + jax.lax.stop_gradient(steps[jnp.argmax(logits, -1)] - expected)

    return RiskPredictor(init, levels)
