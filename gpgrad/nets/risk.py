"""Conditional values at risk of atoms, and RMIX's predictor of the level of risk (Qiu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.nets import layers
from gpgrad.types import PyTree

LEVELS = 10
ROUNDING = 1e-3  # of level * M, whole for most levels
SAME = 1e-6  # relative difference of atoms that are taken for one


def cvar(atoms: jax.Array, level: jax.Array) -> jax.Array:
    """Mean of the lowest share `level` in (0, 1] of atoms [..., M]: [...].

    The atom at the edge counts in part, so that the mean is differentiable in the level; level * M atoms share the
    weight of one.
    """
    kept = level * atoms.shape[-1]
    found = lowest(*jax.lax.stop_gradient((atoms, jnp.ceil(kept - ROUNDING))))
    edge = found[..., None]
    # Compiled code may compute atoms anew where they are compared: what it found stays right if none is equal to it.
    at = (jnp.abs(atoms - edge) <= SAME * jnp.abs(edge)).astype(jnp.float32)
    mean = _total(jnp.where(at > 0, atoms, 0.0)) / jnp.maximum(_total(at), 1.0)
    below = atoms < edge
    rest = (kept - _total(below.astype(jnp.float32))) * (found + mean - jax.lax.stop_gradient(mean))
    return (_total(jnp.where(below, atoms, 0.0)) + rest) / kept


def lowest(atoms: jax.Array, rank: jax.Array) -> jax.Array:
    """The rank-th smallest of atoms [..., M], rank in 1..M broadcast against [...]: [...]. NaN if too many atoms are.

    A binary search for its bits, since floats without a sign are ordered as integers are: many short sorts take ten
    times as long.
    """
    keys = _flip(jax.lax.bitcast_convert_type(atoms, jnp.int32))

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        enough = _total((keys <= middle[..., None]).astype(jnp.float32)) >= rank
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    limits = jnp.iinfo(jnp.int32)
    low = jnp.full(atoms.shape[:-1], limits.min, jnp.int32)
    low, _ = jax.lax.fori_loop(0, 32, halve, (low, jnp.full_like(low, limits.max)))
    return jax.lax.bitcast_convert_type(_flip(low), jnp.float32)


def _total(x: jax.Array) -> jax.Array:
    """Sums over the last axis as a product, which CPUs do faster, in full precision, which others would not."""
    return jnp.matmul(x, jnp.ones(x.shape[-1]), precision="highest")


def _flip(bits: jax.Array) -> jax.Array:
    """Between the bits of floats and integers in the same order; its own inverse."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(jnp.int32).max, bits)


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
