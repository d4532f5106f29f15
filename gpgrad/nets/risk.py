"""Conditional values at risk of atoms, and RMIX's predictor of the level of risk (Qiu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.nets import layers
from gpgrad.types import AgentOut, Init, PyTree

LEVELS = 10
ROUNDING = 1e-3  # of level * M, whole for most levels
SAME = 1e-6  # relative difference of atoms that are taken for one
MAX_ATOMS = 1023  # what ten bits count
BLOCK = 2**20  # atoms searched at a time, so that they stay near the processor


def cvar(atoms: jax.Array, level: jax.Array) -> jax.Array:
    """Mean of the lowest share `level` in (0, 1] of atoms [..., M], level broadcast against [...]: [...].

    The atom at the edge counts in part, so that the mean is differentiable in the level; level * M atoms share the
    weight of one.
    """
    return _cvar(atoms, jnp.broadcast_to(level, atoms.shape[:-1]))


@jax.custom_vjp
def _cvar(atoms: jax.Array, level: jax.Array) -> jax.Array:
    return _forward(atoms, level)[0]


def _forward(atoms: jax.Array, level: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    # Compiled code may compute atoms anew for every sum over them, a last bit apart: of what lies below the edge only
    # the distance from it is summed, so that it does not matter on which side of it the atom at the edge is found.
    kept = level * atoms.shape[-1]
    edge = lowest(atoms, jnp.ceil(kept - ROUNDING).astype(jnp.int32))
    value = edge - _total(jnp.maximum(edge[..., None] - atoms, 0.0)) / kept
    return value, (atoms, kept, edge, value)


def _backward(found: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    atoms, kept, edge, value = found
    at = jnp.abs(atoms - edge[..., None]) <= SAME * jnp.abs(edge)[..., None]
    below = ((atoms < edge[..., None]) & ~at).astype(jnp.float32)
    each = (kept - _total(below)) / jnp.maximum(_total(at.astype(jnp.float32)), 1.0)
    weights = below + jnp.where(at, each[..., None], 0.0)
    return (cotangent / kept)[..., None] * weights, cotangent * atoms.shape[-1] * (edge - value) / kept


_cvar.defvjp(_forward, _backward)


def by_step(function: Callable[..., PyTree], out: AgentOut, n_atoms: int, *args: PyTree) -> PyTree:
    """function(atoms [B, A, U, M], *args) at every step of an unroll; arguments and results have its leading axis [T].

    A few steps at a time, forward and backward: the atoms of all of them are never held.
    """

    def at(step: tuple[jax.Array, PyTree]) -> PyTree:
        given, args = step
        q = layers.dense(out.head, given)
        return function(q.reshape(*q.shape[:-1], -1, n_atoms), *args)

    given, wide = out.given, out.head["bias"].shape[-1]
    size = max(BLOCK // (given[0].size // given.shape[-1] * wide), 1)
    return jax.lax.map(jax.checkpoint(at), (given, args), batch_size=size)


def lowest(atoms: jax.Array, rank: jax.Array) -> jax.Array:
    """The rank-th smallest of atoms [..., M], M up to 1023, rank in 1..M [...]: [...]. NaN if too many atoms are.

    A search for its bits, since floats without a sign are ordered as integers are, two at a time: many short sorts take
    ten times as long.
    """
    keys = _flip(jax.lax.bitcast_convert_type(atoms, jnp.int32)).reshape(-1, atoms.shape[-1])
    ranks = rank.reshape(-1)
    size = max(BLOCK // atoms.shape[-1], 1)
    missing = -len(keys) % size if len(keys) > size else 0

    def search(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        keys, rank = block

        def quarter(i: jax.Array, low: jax.Array) -> jax.Array:
            """Which quarter of what is left it is in, by how many atoms the first, two and three quarters hold."""
            width = jnp.left_shift(1, 30 - 2 * i)
            ends = [(low + (n * width - 1))[:, None] for n in (1, 2, 3)]
            held = jnp.sum(sum((keys <= end).astype(jnp.int32) << (10 * n) for n, end in enumerate(ends)), -1)
            return low + width * sum((((held >> 10 * n) & MAX_ATOMS) < rank).astype(jnp.int32) for n in range(3))

        low = jnp.full(rank.shape, jnp.iinfo(jnp.int32).min)
        return jax.lax.fori_loop(0, 16, quarter, low)

    blocks = jnp.pad(keys, ((0, missing), (0, 0))), jnp.pad(ranks, (0, missing))
    blocks = jax.tree.map(lambda leaf: leaf.reshape(-1, min(size, len(keys)), *leaf.shape[1:]), blocks)
    found = jax.lax.map(search, blocks).reshape(-1)[: len(keys)].reshape(rank.shape)
    return jax.lax.bitcast_convert_type(_flip(found), jnp.float32)


def _total(x: jax.Array) -> jax.Array:
    """Sums over the last axis as a product, which CPUs do faster, in full precision, which others would not."""
    return jnp.matmul(x, jnp.ones(x.shape[-1]), precision="highest")


def _flip(bits: jax.Array) -> jax.Array:
    """Between the bits of floats and integers in the same order; its own inverse."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(jnp.int32).max, bits)


class RiskPredictor(NamedTuple):
    """init(key) -> params. levels(params, out) -> [..., A] in {0.1, ..., 1}, of the outputs of a head that lags."""

    init: Callable[[jax.Array], PyTree]
    levels: Callable[[PyTree, AgentOut], jax.Array]


def predictor(n_actions: int, n_atoms: int, embed: int, init_name: Init) -> RiskPredictor:
    """Each level's logit is the product of embeddings of the distributions before and now, over 8.

    The embeddings are linear in the atoms, and these in what the head is given. The most likely level is taken;
    gradients pass through as if it were the expected one.
    """
    n = n_actions * n_atoms

    def init(key: jax.Array) -> PyTree:
        k_now, k_before = jax.random.split(key)
        return {
            "now": layers.init_dense(k_now, n, embed, init_name)["kernel"],
            "before": layers.init_dense(k_before, n, LEVELS * embed, init_name)["kernel"],
        }

    def levels(params: PyTree, out: AgentOut) -> jax.Array:
        head, given = jax.lax.stop_gradient((out.head, out.given))
        now = layers.project(head, given, params["now"])  # [..., A, E]
        before = layers.project(head, out.lagging, params["before"])  # [..., A, LEVELS * E]
        logits = (before.reshape(*before.shape[:-1], LEVELS, embed) * now[..., None, :]).sum(-1) / 8.0
        steps = jnp.arange(1, LEVELS + 1) / LEVELS
        expected = (jax.nn.softmax(logits) * steps).sum(-1)
        return expected + jax.lax.stop_gradient(steps[jnp.argmax(logits, -1)] - expected)

    return RiskPredictor(init, levels)
