"""The recurrent agent: a dense layer, a GRU, a dense head; weights shared or per agent, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs.api import EnvSpec
from gpgrad.nets import gru, layers
from gpgrad.types import AgentOut, Gates, HeadSpec, NetSpec, PyTree


class AgentParams(NamedTuple):
    """fc1 [D, N], gru, head [H, U * width], deep: [N, N] each, the further layers between fc1 and the GRU, after:
    [H, H] each, those between the GRU and the head; each leaf may have a leading axis A.
    """

    fc1: layers.Dense
    gru: gru.GRU
    head: layers.Dense
    deep: tuple[layers.Dense, ...] = ()
    after: tuple[layers.Dense, ...] = ()


class AgentNet(NamedTuple):
    """An agent network as pure functions.

    init(key) -> AgentParams, one set for all agents.
    step(params, gates, obs [E, A, O], last_actions [E, A], hidden [E, A, H]) -> AgentOut, one step of acting.
    unroll(params, gates, obs [T, B, A, O], last_actions [T, B, A]) -> AgentOut over time, from zero hidden.
    gates is [A, N], multiplied to the first activation, or one array or None for each dense layer's, or None. A last
    action of -1 means none.
    """

    init: Callable[[jax.Array], AgentParams]
    step: Callable[..., AgentOut]
    unroll: Callable[..., AgentOut]
    n_inputs: int
    n_hidden: int


def input_size(spec: EnvSpec, net: NetSpec) -> int:
    """Numbers in one agent's input."""
    return spec.obs_dim + net.last_action * spec.n_actions + net.agent_id * spec.n_agents


def make_agent(spec: EnvSpec, net: NetSpec, head: HeadSpec) -> AgentNet:
    """The agent for a world's sizes."""
    n_inputs = input_size(spec, net)

    def init(key: jax.Array) -> AgentParams:
        k_fc1, k_gru, k_head = jax.random.split(key, 3)
        deep_keys = jax.random.split(jax.random.fold_in(key, 3), net.layers - 1)
        after_keys = jax.random.split(jax.random.fold_in(key, 4), net.after)
        return AgentParams(
            layers.init_dense(k_fc1, n_inputs, net.hidden, net.init),
            gru.init(k_gru, net.hidden, net.hidden, net.init),
            layers.init_dense(k_head, net.hidden, spec.n_actions * head.width, net.init),
            tuple(layers.init_dense(k, net.hidden, net.hidden, net.init) for k in deep_keys),
            tuple(layers.init_dense(k, net.hidden, net.hidden, net.init) for k in after_keys),
        )

    def inputs(obs: jax.Array, last_actions: jax.Array) -> jax.Array:  # [..., A, n_inputs]
        parts = [obs]
        if net.last_action:
            parts.append(jax.nn.one_hot(last_actions, spec.n_actions, dtype=obs.dtype))
        if net.agent_id:
            parts.append(jnp.broadcast_to(jnp.eye(spec.n_agents, dtype=obs.dtype), (*obs.shape[:-1], spec.n_agents)))
        return jnp.concatenate(parts, -1)

    def embed(params: AgentParams, gates: Gates, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The first and the last dense layer's activations [..., A, N]."""
        each = gates if isinstance(gates, tuple) else (gates, *[None] * len(params.deep))
        first = x = activate(params.fc1, each[0], x)
        for layer, gate in zip(params.deep, each[1:], strict=True):
            x = activate(layer, gate, x)
        return first, x

    def finish(params: AgentParams, activation: jax.Array, hidden: jax.Array) -> AgentOut:
        x = hidden
        for layer in params.after:
            x = activate(layer, None, x)
        q = layers.dense(params.head, x)
        if head.width > 1:
            q = q.reshape(*q.shape[:-1], spec.n_actions, head.width)
        return AgentOut(q, hidden, activation)

    def step(params, gates, obs, last_actions, hidden) -> AgentOut:
        first, x = embed(params, gates, inputs(obs, last_actions))
        hidden = gru.cell(params.gru, gru.project(params.gru, x), hidden)
        return finish(params, first, hidden)

    def unroll(params, gates, obs, last_actions) -> AgentOut:
        first, x = embed(params, gates, inputs(obs, last_actions))
        return finish(params, first, gru.unroll(params.gru, x))

    return AgentNet(init, step, unroll, n_inputs, net.hidden)


def activate(layer: layers.Dense, gate: jax.Array | None, x: jax.Array) -> jax.Array:
    """A dense layer, ReLU and the gate: [..., A, D] to [..., A, N]."""
    activation = jax.nn.relu(layers.dense(layer, x))
    return activation if gate is None else activation * gate


def count(params: PyTree) -> int:
    """Number of scalars in a pytree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
