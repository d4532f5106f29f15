"""Dense layers whose weights are shared or per agent, on dense or one-hot inputs, and their initialisers.

A kernel says by its shape how it is shared: [D, N] is one for all agents, [A, D, N] is one per agent and
meets inputs [..., A, D].
"""

from __future__ import annotations

from typing import TypedDict

import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.types import Init


class Dense(TypedDict):
    """kernel [D, N] or [A, D, N]; bias [N] or [A, N]."""

    kernel: jax.Array
    bias: jax.Array


def uniform(key: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear layers and their biases."""
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def init_dense(key: jax.Array, n_in: int, n_out: int, init: Init = "torch") -> Dense:
    """A shared layer. `torch`: weight and bias uniform in 1/sqrt(n_in). `flax`: lecun normal, zero bias."""
    k_kernel, k_bias = jax.random.split(key)
    if init == "torch":
        return {"kernel": uniform(k_kernel, (n_in, n_out), n_in), "bias": uniform(k_bias, (n_out,), n_in)}
    kernel = jax.nn.initializers.lecun_normal()(k_kernel, (n_in, n_out), jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros(n_out, jnp.float32)}


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """X [..., D] times [D, N], or x [..., A, D] times [A, D, N]: [..., N] or [..., A, N]."""
    if kernel.ndim == 2:
        return _unrolled(x, kernel) if x.ndim >= 4 else x @ kernel
    rows = x.reshape(-1, *x.shape[-2:])
    own = jnp.swapaxes(rows, 0, 1) @ kernel  # [A, rows, N]: with agents first each is one large product
    return jnp.swapaxes(own, 0, 1).reshape(*x.shape[:-1], kernel.shape[-1])


@jax.custom_vjp
def _unrolled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A product over time, x [T, ..., A, D] times [D, N], whose gradient to the kernel is `kernel_grad`."""
    return x @ kernel


def _unrolled_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _unrolled_backward(kept: tuple[jax.Array, jax.Array], d: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return d @ kernel.T, kernel_grad(x, d, 2)


_unrolled.defvjp(_unrolled_forward, _unrolled_backward)


@jax.custom_vjp
def pick_rows(kernel: jax.Array, index: jax.Array) -> jax.Array:
    """Sums of rows: kernel [D, N], index int [..., M] to [..., N]; positions outside 0..D-1 add nothing.

    One position after the other, forward and backward: M gathers fuse into their sum, and M scatters of one row per
    entry are several times faster than one scatter of M. In two halves, one after the other: a loop is what no compiler
    fuses with what comes after, which would take every gather apart, and keep it, for each of those who read the sum.
    """
    padded, index = _padded(kernel, index)
    entries = index.reshape(-1, index.shape[-1])
    rows, half = len(entries), -(-len(entries) // 2)
    halves = jnp.pad(entries, ((0, 2 * half - rows), (0, 0))).reshape(2, half, -1)
    picked = jax.lax.map(lambda part: _sum(padded, part), halves).reshape(2 * half, -1)
    return picked[:rows].reshape(*index.shape[:-1], -1)


def _sum(padded: jax.Array, index: jax.Array) -> jax.Array:
    return sum(padded.at[index[..., m]].get(mode="promise_in_bounds") for m in range(index.shape[-1]))  # type: ignore


def _padded(kernel: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A row of zeros below the kernel, and absent positions pointing at it."""
    size = kernel.shape[0]
    index = jnp.where((index >= 0) & (index < size), index, size).astype(jnp.int32)
    return jnp.concatenate([kernel, jnp.zeros_like(kernel[:1])]), index


def _pick_forward(kernel: jax.Array, index: jax.Array):
    return pick_rows(kernel, index), (kernel, index)


def _pick_backward(residuals: tuple[jax.Array, jax.Array], d: jax.Array) -> tuple[jax.Array, None]:
    padded, index = _padded(*residuals)
    d = d.reshape(-1, d.shape[-1])

    def add(total: jax.Array, positions: jax.Array) -> tuple[jax.Array, None]:
        return total.at[positions].add(d, mode="promise_in_bounds"), None

    positions = index.reshape(-1, index.shape[-1]).T  # [M, rows]
    return jax.lax.scan(add, jnp.zeros_like(padded), positions)[0][:-1], None


pick_rows.defvjp(_pick_forward, _pick_backward)


def dense(layer: Dense, x: jax.Array | OneHot) -> jax.Array:
    """The layer's output [..., N]. A one-hot input picks and sums rows of a shared kernel."""
    if isinstance(x, OneHot):
        return pick_rows(layer["kernel"], x.index) + layer["bias"]
    return matmul(x, layer["kernel"]) + layer["bias"]


def project(layer: Dense, x: jax.Array, matrix: jax.Array) -> jax.Array:
    """The layer's output times a matrix [N, M]: [..., M]; of many inputs without ever holding the output."""
    (width, between), wanted = layer["kernel"].shape[-2:], matrix.shape[-1]
    rows = x.size // (width * (layer["kernel"].size // (width * between)))  # that meet one kernel
    if rows * between * (width + wanted) <= width * wanted * (between + rows):
        return dense(layer, x) @ matrix
    return dense({"kernel": layer["kernel"] @ matrix, "bias": layer["bias"] @ matrix}, x)


def size(x: jax.Array | OneHot) -> int:
    """Length of a dense or one-hot vector, leading axes aside."""
    return x.size if isinstance(x, OneHot) else x.shape[-1]


def split(layer: Dense, n: int) -> tuple[Dense, jax.Array]:
    """A shared layer on [x, y] with x [..., n] as a layer on x, which keeps the bias, and the kernel of y.

    What x adds is then computed once for several y.
    """
    kernel = layer["kernel"]
    return {"kernel": kernel[:n], "bias": layer["bias"]}, kernel[n:]


def init_stack(key: jax.Array, count: int, n_in: int, n_out: int, init: Init = "torch") -> Dense:
    """Independent layers side by side: kernel [K, n_in, n_out], bias [K, n_out]."""
    return jax.vmap(lambda k: init_dense(k, n_in, n_out, init))(jax.random.split(key, count))


def stacked(layer: Dense, x: jax.Array) -> jax.Array:
    """Independent layers on inputs [..., K, n_in]: [..., K, n_out]."""
    return jnp.einsum("...ki,kio->...ko", x, layer["kernel"]) + layer["bias"]


def cut(x: jax.Array, *widths: int) -> list[jax.Array]:
    """Pieces of these widths of the last axis."""
    return jnp.split(x, [sum(widths[:i]) for i in range(1, len(widths))], axis=-1)


def kernel_grad(x: jax.Array, d: jax.Array, ndim: int) -> jax.Array:
    """Gradient of `matmul`'s kernel: inputs x [T, ..., A, D] and cotangents d [T, ..., A, N] to [D, N] or [A, D, N].

    Of a shared kernel one product per step and then a sum: a single product with a reduction over all steps is far from
    the machine's speed. Of one per agent, with agents first, one product each.
    """
    if ndim == 2:
        flat = (x.reshape(x.shape[0], -1, x.shape[-1]), d.reshape(d.shape[0], -1, d.shape[-1]))
        return jnp.einsum("tmd,tmn->tdn", *flat).sum(0)
    x, d = (jnp.swapaxes(y.reshape(-1, *y.shape[-2:]), 0, 1) for y in (x, d))  # [A, rows, .]
    return jnp.swapaxes(x, 1, 2) @ d


def bias_grad(d: jax.Array, ndim: int) -> jax.Array:
    """Gradient of a bias: d [..., A, N] to [N] or [A, N]."""
    return d.sum(tuple(range(d.ndim - ndim)))
