"""Joint critics: values of a state and a joint action, without any constraint."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from gpgrad.envs.api import OneHot
from gpgrad.methods.nets import layers
from gpgrad.methods.nets.layers import Dense
from gpgrad.types import Init, PyTree


def init_mlp(key: jax.Array, widths: tuple[int, ...], init_name: Init) -> list[Dense]:
    """Dense layers from the first width to the last."""
    keys = jax.random.split(key, len(widths) - 1)
    return [layers.init_dense(k, a, b, init_name) for k, a, b in zip(keys, widths[:-1], widths[1:], strict=True)]


def mlp(stack: list[Dense], x: jax.Array) -> jax.Array:
    """ReLU and a dense layer, again and again: of what a first layer gave [..., N] to [...], the only output."""
    for layer in stack:
        x = layers.dense(layer, jax.nn.relu(x))
    return x[..., 0]


class JointQ(NamedTuple):
    """QTRAN's pair of networks.

    init(key, state) -> params. baseline(params, state) -> V(s) [...].
    prepare(params, state, hidden [..., A, H]) -> what `value` needs of them, whatever is played.
    value(params, prepared, actions [..., A]) -> Q_jt [...].
    """

    init: Callable[[jax.Array, jax.Array | OneHot], PyTree]
    baseline: Callable[[PyTree, jax.Array | OneHot], jax.Array]
    prepare: Callable[[PyTree, jax.Array | OneHot, jax.Array], tuple[jax.Array, jax.Array]]
    value: Callable[[PyTree, tuple[jax.Array, jax.Array], jax.Array], jax.Array]


def joint_q(n_actions: int, n_hidden: int, embed: int, init_name: Init) -> JointQ:
    """Q_jt(s, u) = MLP(s, sum_i encode(h_i, u_i)) with encode of two layers of width H + U; V(s) = MLP(s).

    Source: QTRAN (ICML 2019), QTRAN-base, in the sizes of PyMARL.
    """
    code = n_hidden + n_actions

    def init(key: jax.Array, state: jax.Array | OneHot) -> PyTree:
        keys, n = jax.random.split(key, 6), layers.size(state)
        return {
            "encode": layers.init_dense(keys[0], code, code, init_name),
            "encoded": layers.init_dense(keys[1], code, code, init_name),
            "q_state": layers.init_dense(keys[2], n + code, embed, init_name),
            "q": init_mlp(keys[3], (embed, embed, 1), init_name),
            "v_state": layers.init_dense(keys[4], n, embed, init_name),
            "v": init_mlp(keys[5], (embed, embed, 1), init_name),
        }

    def baseline(params: PyTree, state: jax.Array | OneHot) -> jax.Array:
        return mlp(params["v"], layers.dense(params["v_state"], state))

    def prepare(params: PyTree, state: jax.Array | OneHot, hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
        on_state, _ = layers.split(params["q_state"], layers.size(state))
        on_hidden, _ = layers.split(params["encode"], n_hidden)
        return layers.dense(on_state, state), layers.dense(on_hidden, hidden)

    def value(params: PyTree, prepared: tuple[jax.Array, jax.Array], actions: jax.Array) -> jax.Array:
        from_state, from_hidden = prepared
        chosen = jax.nn.one_hot(actions, n_actions) @ params["encode"]["kernel"][n_hidden:]  # [..., A, H + U]
        # The second layer of the encoding is linear: agents are summed before it instead of after.
        summed = jax.nn.relu(from_hidden + chosen).sum(-2)
        encoded = summed @ params["encoded"]["kernel"] + actions.shape[-1] * params["encoded"]["bias"]
        return mlp(params["q"], from_state + encoded @ params["q_state"]["kernel"][-code:])

    return JointQ(init, baseline, prepare, value)


class FreeMixer(NamedTuple):
    """WQMIX's mixer without constraints: init(key, state) -> params, mix(params, state, q [..., A]) -> Q* [...]."""

    init: Callable[[jax.Array, jax.Array | OneHot], PyTree]
    mix: Callable[[PyTree, jax.Array | OneHot, jax.Array], jax.Array]


def free_mixer(n_agents: int, embed: int, init_name: Init) -> FreeMixer:
    """Q* = MLP(s, q) with three hidden layers, plus MLP(s) with one.

    Source: Weighted QMIX (NeurIPS 2020), the unrestricted mixing network of Q*.
    """

    def init(key: jax.Array, state: jax.Array | OneHot) -> PyTree:
        keys, n = jax.random.split(key, 4), layers.size(state)
        return {
            "q_state": layers.init_dense(keys[0], n + n_agents, embed, init_name),
            "q": init_mlp(keys[1], (embed, embed, embed, 1), init_name),
            "v_state": layers.init_dense(keys[2], n, embed, init_name),
            "v": init_mlp(keys[3], (embed, 1), init_name),
        }

    def mix(params: PyTree, state: jax.Array | OneHot, q: jax.Array) -> jax.Array:
        on_state, on_q = layers.split(params["q_state"], layers.size(state))
        value = mlp(params["q"], layers.dense(on_state, state) + q @ on_q)
        return value + mlp(params["v"], layers.dense(params["v_state"], state))

    return FreeMixer(init, mix)
