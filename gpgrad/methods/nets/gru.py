"""A gated recurrent unit over time, with PyTorch's equations and six bias vectors.

r = s(W_r x + b_r + U_r h + c_r);  z likewise;  n = tanh(W_n x + b_n + r (U_n h + c_n));  h' = (1 - z) n + z h.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.methods.nets import layers
from gpgrad.types import Init, PyTree


class Gates(NamedTuple):
    """One tensor per gate: reset, update, candidate. Separate, because slices of a fused block do not vectorise."""

    r: jax.Array
    z: jax.Array
    n: jax.Array


class GRU(NamedTuple):
    """Input kernels [D, H], recurrent kernels [H, H], biases [H]; a leading axis A where they are per agent."""

    w_in: Gates
    w_rec: Gates
    b_in: Gates
    b_rec: Gates


def init(key: jax.Array, n_in: int, hidden: int, init: Init = "torch") -> GRU:
    """`torch`: everything uniform in 1/sqrt(hidden). `flax`: lecun normal and orthogonal kernels, zero biases."""
    keys = Gates(*jax.random.split(key, 3))
    if init == "torch":

        def draw(index: int, *shape: int) -> Gates:
            return Gates(*(layers.uniform(jax.random.fold_in(k, index), shape, hidden) for k in keys))

        return GRU(draw(0, n_in, hidden), draw(1, hidden, hidden), draw(2, hidden), draw(3, hidden))
    lecun, orthogonal = jax.nn.initializers.lecun_normal(), jax.nn.initializers.orthogonal()
    zeros = Gates(*(jnp.zeros(hidden, jnp.float32) for _ in range(3)))
    return GRU(
        Gates(*(lecun(jax.random.fold_in(k, 0), (n_in, hidden), jnp.float32) for k in keys)),
        Gates(*(orthogonal(jax.random.fold_in(k, 1), (hidden, hidden), jnp.float32) for k in keys)),
        zeros,
        zeros,
    )


def project(gru: GRU, x: jax.Array) -> Gates:
    """The inputs' share of every gate, independent of time: x [..., D] gives three [..., H]."""
    return Gates(*(layers.matmul(x, w) + b for w, b in zip(gru.w_in, gru.b_in, strict=True)))


def cell(gru: GRU, projected: Gates, hidden: jax.Array) -> jax.Array:
    """One step from `project`ed inputs: hidden [..., A, H] to hidden [..., A, H].

    Source: GRU (Cho et al., 2014), in PyTorch's form.
    """
    rec = Gates(*(layers.matmul(hidden, w) + b for w, b in zip(gru.w_rec, gru.b_rec, strict=True)))
    r = jax.nn.sigmoid(projected.r + rec.r)
    z = jax.nn.sigmoid(projected.z + rec.z)
    n = jnp.tanh(projected.n + r * rec.n)
    return n + z * (hidden - n)


def unroll(gru: GRU, x: jax.Array, start: jax.Array | None = None) -> jax.Array:
    """Hidden states after each step: x [T, ..., A, D] to [T, ..., A, H], from `start` [..., A, H] or zero."""
    hidden = gru.b_rec.r.shape[-1]
    return _unroll(gru, x, jnp.zeros((*x.shape[1:-1], hidden), x.dtype) if start is None else start)


class _Saved(NamedTuple):
    """What the backward pass needs of every step beside the hidden states, all [T, ..., H]: the gates, and the
    candidate's recurrent part before the reset gate.
    """

    r: jax.Array
    z: jax.Array
    n: jax.Array
    rec_n: jax.Array


def _forward(gru: GRU, x: jax.Array, start: jax.Array, hoist: bool) -> tuple[jax.Array, _Saved]:
    """hoist: whether the inputs' products precede the loop, as one per gate, or are taken in its steps."""

    def step(hidden: jax.Array, x: jax.Array | Gates) -> tuple[jax.Array, tuple[jax.Array, _Saved]]:
        projected = x if isinstance(x, Gates) else project(gru, x)
        rec = Gates(*(layers.matmul(hidden, w) + b for w, b in zip(gru.w_rec, gru.b_rec, strict=True)))
        r = jax.nn.sigmoid(projected.r + rec.r)
        z = jax.nn.sigmoid(projected.z + rec.z)
        n = jnp.tanh(projected.n + r * rec.n)
        after = n + z * (hidden - n)
        return after, (after, _Saved(r, z, n, rec.n))

    return jax.lax.scan(step, start, project(gru, x) if hoist else x)[1]


def _by_platform(function: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """The function with few dependent steps on accelerators, and on CPUs with arrays that stay in the cache."""
    return jax.lax.platform_dependent(*args, cpu=partial(function, hoist=False), default=partial(function, hoist=True))


@jax.custom_vjp
def _unroll(gru: GRU, x: jax.Array, start: jax.Array) -> jax.Array:
    """Hidden states [T, ..., A, H] from inputs [T, ..., A, D] and the hidden states [..., A, H] before them.

    Its own derivative, because the automatic one keeps more of each step and multiplies each gate apart.
    """
    return _by_platform(_forward, gru, x, start)[0]


def _unroll_forward(gru: GRU, x: jax.Array, start: jax.Array):
    hiddens, saved = _by_platform(_forward, gru, x, start)
    return hiddens, (gru, x, start, hiddens, saved)


def _unroll_backward(
    residuals: tuple[GRU, jax.Array, jax.Array, jax.Array, _Saved], cotangent: jax.Array
) -> tuple[GRU, jax.Array, jax.Array]:
    return _by_platform(_backward, *residuals, cotangent)


def _backward(
    gru: GRU, x: jax.Array, start: jax.Array, hiddens: jax.Array, saved: _Saved, cotangent: jax.Array, hoist: bool
) -> tuple[GRU, jax.Array, jax.Array]:
    # Backpropagation through time by hand. With h' = n + z (h - n), n = tanh(x_n + r rec_n) and d = dL/dh':
    #   d_n = d (1 - z) (1 - n^2), at the input of tanh     d_z = d (h - n) z (1 - z), at the input of the sigmoid
    #   d_r = d_n rec_n r (1 - r), likewise                 dL/dh = d z + (d_r, d_z, d_n r) times transposed kernels
    # The inputs' products get (d_r, d_z, d_n), the recurrent products the same with d_n multiplied by r. Each triple is
    # one array [..., 3 H]: one product with the three kernels below each other is faster than three.
    before = jnp.concatenate([start[None], hiddens[:-1]])
    transposed_in, transposed_rec = (
        jnp.concatenate([jnp.swapaxes(w, -1, -2) for w in kernels], -2) for kernels in (gru.w_in, gru.w_rec)
    )

    def gradients(x: jax.Array, hidden: jax.Array, d_in: jax.Array, d_rec: jax.Array) -> _Fused:
        """Of kernels and biases, summed over the steps [T, ...]."""
        ndim = gru.w_in.r.ndim
        kernels = layers.kernel_grad(x, d_in, ndim), layers.kernel_grad(hidden, d_rec, ndim)
        return _Fused(*kernels, layers.bias_grad(d_in, ndim - 1), layers.bias_grad(d_rec, ndim - 1))

    def step(carry: tuple[jax.Array, _Fused], at: tuple[jax.Array, jax.Array, jax.Array, _Saved]):
        (d_after, total), (d_out, x, hidden, s) = carry, at
        d = d_after + d_out
        d_n = d * (1 - s.z) * (1 - s.n * s.n)
        d_z = d * (hidden - s.n) * s.z * (1 - s.z)
        d_r = d_n * s.rec_n * s.r * (1 - s.r)
        d_in, d_rec = (jnp.concatenate([d_r, d_z, last], -1) for last in (d_n, d_n * s.r))
        d_before = d * s.z + layers.matmul(d_rec, transposed_rec)
        if hoist:
            return (d_before, total), (d_in, d_rec)
        steps = gradients(*(y[None] for y in (x, hidden, d_in, d_rec)))
        return (d_before, jax.tree.map(jnp.add, total, steps)), layers.matmul(d_in, transposed_in)  # d_x

    triple = [jnp.concatenate(tuple(gates), -1) for gates in gru]
    carry = jnp.zeros_like(start), _Fused(*(jnp.zeros_like(leaf) for leaf in triple))
    (d_start, total), out = jax.lax.scan(step, carry, (cotangent, x, before, saved), reverse=True)
    if isinstance(out, tuple):  # (d_in, d_rec) of all steps, where hoist
        total, out = gradients(x, before, *out), layers.matmul(out[0], transposed_in)
    return GRU(*(Gates(*jnp.split(leaf, 3, -1)) for leaf in total)), out, d_start


class _Fused(NamedTuple):
    """Gradients as in `GRU`, the three gates side by side in the last axis."""

    w_in: jax.Array
    w_rec: jax.Array
    b_in: jax.Array
    b_rec: jax.Array


_unroll.defvjp(_unroll_forward, _unroll_backward)
