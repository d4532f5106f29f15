"""Conditional values at risk of atoms, and RMIX's predictor of the level of risk (Qiu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gpgrad.methods.nets import layers
from gpgrad.types import AgentOut, Init, PyTree

LEVELS = 10
ROUNDING = 1e-3  # of level * M, whole for most levels
BLOCK = 2**18  # atoms made at a time
NEAR = 2**17  # of these, what a CPU searches at a time: they stay near it for all passes


def cvar(atoms: jax.Array, level: jax.Array) -> jax.Array:
    """Mean of the lowest share `level` in (0, 1] of atoms [..., M], level broadcast against [...]: [...].

    The atom at the edge counts in part, so that the mean is differentiable in the level; level * M atoms share the
    weight of one. Equal atoms share what falls to them. NaN where an atom is.

    Source: conditional value at risk of atoms of equal mass, as in RMIX (NeurIPS 2021); divided by the number of atoms
    kept, where the released code divides by one less.
    """
    return _cvar(atoms, jnp.broadcast_to(level, atoms.shape[:-1]))


class Edge(NamedTuple):
    """Where the kept atoms end: between two cuts [...] there is one atom, or several that are equal."""

    lower: jax.Array  # atoms below it are kept whole
    upper: jax.Array  # atoms from it on are not kept
    atom: jax.Array  # what lies between
    value: jax.Array  # the mean of what is kept


@jax.custom_vjp
def _cvar(atoms: jax.Array, level: jax.Array) -> jax.Array:
    return _forward(atoms, level)[0]


def _forward(atoms: jax.Array, level: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Edge]]:
    kept = level * atoms.shape[-1]
    edge = jax.lax.platform_dependent(atoms, kept, cpu=_find_in_blocks, default=_find)
    return edge.value, (atoms, kept, edge)


def _backward(found: tuple[jax.Array, jax.Array, Edge], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    # value = (sum of atoms below the edge + (kept - count below) * edge atom) / kept. An atom below the edge has slope
    # 1 / kept, the atoms at the edge share the rest of `kept`, and d value / d kept = (edge atom - value) / kept with
    # kept = level * M. Compiled code may compute atoms anew with another last bit: they are counted again, so that the
    # weights add up.
    atoms, kept, edge = found
    below = atoms < edge.lower[..., None]
    at = (atoms < edge.upper[..., None]) & ~below
    each = (kept - _count(below)) / jnp.maximum(_count(at), 1.0)
    weights = jnp.where(below, 1.0, jnp.where(at, each[..., None], 0.0))
    return (cotangent / kept)[..., None] * weights, cotangent * atoms.shape[-1] * (edge.atom - edge.value) / kept


_cvar.defvjp(_forward, _backward)


def _find(atoms: jax.Array, kept: jax.Array) -> Edge:
    """The edge of the lowest `kept` [...], in (0, M], of atoms [..., M]; a sort of so many short rows takes longer.

    Between a cut too low and one too high the next is the mean of the atoms there, until none or all of them are below
    it: about a dozen passes for a hundred atoms. Of each cut: where, how many atoms are below, and their sum.
    """
    total = atoms.sum(-1)
    none = jnp.zeros_like(total)
    first = (none - jnp.inf, none, none), (none + jnp.inf, none + atoms.shape[-1], total)

    def mean(low: tuple[jax.Array, ...], high: tuple[jax.Array, ...]) -> jax.Array:
        return (high[2] - low[2]) / (high[1] - low[1])

    def narrow(state):
        low, high, _ = state
        where = mean(low, high)
        below = atoms < where[..., None]
        cut = where, _count(below), jnp.where(below, atoms, 0.0).sum(-1)
        inside = (low[1] < cut[1]) & (cut[1] < high[1])
        up = inside & (cut[1] < kept - ROUNDING)
        low = tuple(jnp.where(up, new, old) for new, old in zip(cut, low, strict=True))
        high = tuple(jnp.where(inside & ~up, new, old) for new, old in zip(cut, high, strict=True))
        return low, high, jnp.any(inside)

    low, high, _ = jax.lax.while_loop(lambda state: state[-1], narrow, (*first, jnp.bool_(True)))
    atom = mean(low, high)
    return Edge(low[0], high[0], atom, (low[2] + (kept - low[1]) * atom) / kept)


def _find_in_blocks(atoms: jax.Array, kept: jax.Array) -> Edge:
    rows = atoms.reshape(-1, atoms.shape[-1]), kept.reshape(-1)
    size = max(NEAR // atoms.shape[-1], 1)
    found = jax.lax.map(lambda row: _find(*row), rows, batch_size=size) if kept.size > size else _find(*rows)
    return jax.tree.map(lambda leaf: leaf.reshape(kept.shape), found)


def _count(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32).sum(-1)


class OfAtoms(Protocol):
    """A function of atoms and further arguments."""

    def __call__(self, atoms: jax.Array, /, *args: Any, **named: Any) -> PyTree:
        """Atoms [B, A, U, M] and arguments of one step."""
        ...


def by_step(function: OfAtoms, out: AgentOut, n_atoms: int, *args: PyTree) -> PyTree:
    """function(atoms [B, A, U, M], *args) at every step of an unroll; arguments and results have its leading axis [T].

    A few steps at a time, forward and backward: the atoms of all of them are never held.
    """

    def at(block: tuple[jax.Array, PyTree]) -> PyTree:
        given, args = block
        q = layers.dense(out.head_params, given)
        return function(q.reshape(*q.shape[:-1], -1, n_atoms), *args)

    given, wide = out.extra.now, out.head_params["bias"].shape[-1]
    size = max(BLOCK // (given[0].size // given.shape[-1] * wide), 1)
    return _map_blocks(jax.checkpoint(at), (given, args), size)


def _map_blocks(function: Callable[[PyTree], PyTree], xs: PyTree, size: int) -> PyTree:
    """`lax.map` over blocks [size, ...] of leaves [T, ...], the last one shorter: the results' blocks end to end.

    Not its `batch_size`, which is a vmap: what vmap makes of a head's product transposes the cotangents of all atoms to
    get the kernel's gradient, which `layers.matmul` on a block does not.
    """
    steps = len(jax.tree.leaves(xs)[0])
    size = min(size, steps)
    count, rest = divmod(steps, size)
    blocks = jax.tree.map(lambda x: x[: count * size].reshape(count, size, *x.shape[1:]), xs)
    done = jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), jax.lax.map(function, blocks))
    if not rest:
        return done
    last = function(jax.tree.map(lambda x: x[count * size :], xs))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), done, last)


class RiskPredictor(NamedTuple):
    """init(key) -> params. levels(params, out) -> [..., A] in {0.1, ..., 1}, of the outputs of a `LaggingHead`."""

    init: Callable[[jax.Array], PyTree]
    levels: Callable[[PyTree, AgentOut], jax.Array]


def predictor(n_actions: int, n_atoms: int, embed: int, init_name: Init) -> RiskPredictor:
    """Each level's logit is the product of embeddings of the distributions before and now, over 8.

    The embeddings are linear in the atoms, and these in the input of the head. The most likely level is taken;
    gradients pass through as if it were the expected one (straight-through): the published argmax has no gradient.

    Source: RMIX (NeurIPS 2021), dynamic risk level predictor.
    """
    n = n_actions * n_atoms

    def init(key: jax.Array) -> PyTree:
        k_now, k_before = jax.random.split(key)
        return {
            "now": layers.init_dense(k_now, n, embed, init_name)["kernel"],
            "before": layers.init_dense(k_before, n, LEVELS * embed, init_name)["kernel"],
        }

    def levels(params: PyTree, out: AgentOut) -> jax.Array:
        head, given = jax.lax.stop_gradient((out.head_params, out.extra.now))
        now = layers.project(head, given, params["now"])  # [..., A, E]
        before = layers.project(head, out.extra.lagging, params["before"])  # [..., A, LEVELS * E]
        logits = (before.reshape(*before.shape[:-1], LEVELS, embed) * now[..., None, :]).sum(-1) / 8.0
        steps = jnp.arange(1, LEVELS + 1) / LEVELS
        expected = (jax.nn.softmax(logits) * steps).sum(-1)
        return expected + jax.lax.stop_gradient(steps[jnp.argmax(logits, -1)] - expected)

    return RiskPredictor(init, levels)
