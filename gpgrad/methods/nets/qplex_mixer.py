"""QPLEX's mixer: a positive linear transformation of utilities, and advantages weighted by the joint action."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.methods.nets import layers
from gpgrad.methods.nets.layers import Dense
from gpgrad.types import Init, PyTree

LEAST = 1e-10  # added to positive weights


class DuplexWeights(NamedTuple):
    """At one state: w, v [..., A] transform utilities; key [..., K], agents [..., K, A] and action [..., K * F], what
    the state adds to the first layer on joint actions, make lambda.
    """

    w: jax.Array
    v: jax.Array
    key: jax.Array
    agents: jax.Array
    action: jax.Array


class Duplex(NamedTuple):
    """init(key, state) -> params. hyper(params, state) -> weights. attend(params, weights, actions [..., A]) -> lambda
    [..., A]. Then `mix`, or `mix_greedy` for utilities that are the agents' maxima.
    """

    init: Callable[[jax.Array, jax.Array | OneHot], PyTree]
    hyper: Callable[[PyTree, jax.Array | OneHot], DuplexWeights]
    attend: Callable[[PyTree, DuplexWeights, jax.Array], jax.Array]


def mix(w: jax.Array, v: jax.Array, attention: jax.Array, q: jax.Array, q_max: jax.Array) -> jax.Array:
    """Q_tot [...] = sum_i w_i q_i + v_i + (lambda_i - 1) A_i with A_i = w_i (q_i - max q_i), which carries no gradient.

    All [..., A]. Its derivative in q_i is w_i >= 0, in lambda_i it is A_i <= 0.

    Source: QPLEX (ICLR 2021), duplex dueling mixing, with the stop-gradient of its code.
    """
    advantage = jax.lax.stop_gradient(w * (q - q_max))
    return (w * q + v + (attention - 1) * advantage).sum(-1)


def mix_greedy(w: jax.Array, v: jax.Array, q_max: jax.Array) -> jax.Array:
    """Q_tot [...] where every agent's utility is its maximum: all advantages are 0, so lambda does not matter.

    Source: QPLEX (ICLR 2021), individual-global-max of the mixing network.
    """
    return (w * q_max + v).sum(-1)


def duplex(n_agents: int, n_actions: int, hidden: int, heads: int, depth: int, init_name: Init) -> Duplex:
    """The mixer for an environment's sizes. heads: K. depth: dense layers of each head's networks; w and v have 2.

    Source: QPLEX (ICLR 2021), transformation and dueling mixing networks.
    """
    last = {"key": 1, "agents": n_agents, "action": n_agents}
    first = dict.fromkeys(last, hidden) if depth > 1 else last

    def init(key: jax.Array, state: jax.Array | OneHot) -> PyTree:
        keys, n = list(jax.random.split(key, 4 + 3 * (depth - 1))), layers.size(state)
        joined = 2 * hidden + heads * (first["key"] + first["agents"])  # layers on the state side by side: it is wide

        def stack(name: str) -> list[Dense]:
            widths = [*[hidden] * (depth - 2), last[name]][: depth - 1]
            return [layers.init_stack(keys.pop(), heads, hidden, n_out, init_name) for n_out in widths]

        return {
            "state": layers.init_dense(keys.pop(), n, joined, init_name),
            "state_action": layers.init_dense(keys.pop(), n + n_agents * n_actions, heads * first["action"], init_name),
            "w": layers.init_dense(keys.pop(), hidden, n_agents, init_name),
            "v": layers.init_dense(keys.pop(), hidden, n_agents, init_name),
            **{name: stack(name) for name in last},
        }

    def finish(stack: list[Dense], x: jax.Array) -> jax.Array:  # [..., K * F] to [..., K, out]
        x = x.reshape(*x.shape[:-1], heads, -1)
        for layer in stack:
            x = layers.stacked(layer, jax.nn.relu(x))
        return x

    def hyper(params: PyTree, state: jax.Array | OneHot) -> DuplexWeights:
        joined = layers.dense(params["state"], state)
        w, v, key, agents = layers.cut(joined, hidden, hidden, heads * first["key"], heads * first["agents"])
        on_state, _ = layers.split(params["state_action"], layers.size(state))
        return DuplexWeights(
            w=jnp.abs(layers.dense(params["w"], jax.nn.relu(w))) + LEAST,
            v=layers.dense(params["v"], jax.nn.relu(v)),
            key=jnp.abs(finish(params["key"], key)[..., 0]) + LEAST,
            agents=jax.nn.sigmoid(finish(params["agents"], agents)),
            action=layers.dense(on_state, state),
        )

    def attend(params: PyTree, weights: DuplexWeights, actions: jax.Array) -> jax.Array:
        joint = jax.nn.one_hot(actions, n_actions).reshape(*actions.shape[:-1], -1)  # [..., A * U]
        kernel = params["state_action"]["kernel"][-joint.shape[-1] :]
        action = jax.nn.sigmoid(finish(params["action"], weights.action + joint @ kernel))  # [..., K, A]
        return (weights.key[..., None] * weights.agents * action).sum(-2)

    return Duplex(init, hyper, attend)
