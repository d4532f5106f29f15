"""A gated recurrent unit over time, with PyTorch's equations and six bias vectors.

r = s(W_r x + b_r + U_r h + c_r);  z likewise;  n = tanh(W_n x + b_n + r (U_n h + c_n));  h' = (1 - z) n + z h.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.methods.nets import layers
from gpgrad.types import Init


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
    projected = project(gru, x)
    if start is None:
        start = jnp.zeros(projected.r.shape[1:], projected.r.dtype)
    return _scan(gru.w_rec, gru.b_rec, projected, start)


class _Saved(NamedTuple):
    """What the backward pass needs of every step beside the hidden states, all [T, ..., H]: the gates, and the
    candidate's recurrent part before the reset gate.
    """

    r: jax.Array
    z: jax.Array
    n: jax.Array
    rec_n: jax.Array


def _forward(w_rec: Gates, b_rec: Gates, projected: Gates, start: jax.Array) -> tuple[jax.Array, _Saved]:
    def step(hidden: jax.Array, p: Gates) -> tuple[jax.Array, tuple[jax.Array, _Saved]]:
        rec = Gates(*(layers.matmul(hidden, w) + b for w, b in zip(w_rec, b_rec, strict=True)))
        r = jax.nn.sigmoid(p.r + rec.r)
        z = jax.nn.sigmoid(p.z + rec.z)
        n = jnp.tanh(p.n + r * rec.n)
        after = n + z * (hidden - n)
        return after, (after, _Saved(r, z, n, rec.n))

    return jax.lax.scan(step, start, projected)[1]


@jax.custom_vjp
def _scan(w_rec: Gates, b_rec: Gates, projected: Gates, start: jax.Array) -> jax.Array:
    """Hidden states [T, ..., H] from projected inputs [T, ..., H] and the hidden states [..., H] before them.

    Its own derivative, because the automatic one accumulates weight gradients inside the time loop; here they are
    one product after it.
    """
    return _forward(w_rec, b_rec, projected, start)[0]


def _scan_forward(w_rec: Gates, b_rec: Gates, projected: Gates, start: jax.Array):
    hiddens, saved = _forward(w_rec, b_rec, projected, start)
    return hiddens, (w_rec, b_rec, start, hiddens, saved)


def _scan_backward(
    residuals: tuple[Gates, Gates, jax.Array, jax.Array, _Saved], cotangent: jax.Array
) -> tuple[Gates, Gates, Gates, jax.Array]:
    # Backpropagation through time by hand. With h' = n + z (h - n), n = tanh(x_n + r rec_n) and d = dL/dh':
    #   d_n = d (1 - z) (1 - n^2), at the input of tanh     d_z = d (h - n) z (1 - z), at the input of the sigmoid
    #   d_r = d_n rec_n r (1 - r), likewise                 dL/dh = d z + (d_r, d_z, d_n r) times transposed kernels
    # The projected inputs get (d_r, d_z, d_n); the recurrent products get the same with d_n multiplied by r.
    w_rec, b_rec, start, hiddens, saved = residuals
    before = jnp.concatenate([start[None], hiddens[:-1]])
    transposed = Gates(*(jnp.swapaxes(w, -1, -2) for w in w_rec))

    def step(d_after: jax.Array, x: tuple[jax.Array, jax.Array, _Saved]) -> tuple[jax.Array, Gates]:
        d_out, hidden, s = x
        d = d_after + d_out
        d_n = d * (1 - s.z) * (1 - s.n * s.n)
        d_z = d * (hidden - s.n) * s.z * (1 - s.z)
        d_r = d_n * s.rec_n * s.r * (1 - s.r)
        back = Gates(d_r, d_z, d_n * s.r)
        d_before = d * s.z + sum(layers.matmul(g, w) for g, w in zip(back, transposed, strict=True))
        return d_before, Gates(d_r, d_z, d_n)

    end = jnp.zeros_like(cotangent[0])
    d_start, d_projected = jax.lax.scan(step, end, (cotangent, before, saved), reverse=True)
    d_rec = d_projected._replace(n=d_projected.n * saved.r)
    d_w = Gates(*(layers.kernel_grad(before, d, w.ndim) for d, w in zip(d_rec, w_rec, strict=True)))
    d_b = Gates(*(layers.bias_grad(d, b.ndim) for d, b in zip(d_rec, b_rec, strict=True)))
    return d_w, d_b, d_projected, d_start


_scan.defvjp(_scan_forward, _scan_backward)
