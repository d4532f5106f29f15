"""The recurrent agent: a dense layer, a GRU, a dense head; weights shared or per agent, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.methods.nets import gru, layers, quantiles
from gpgrad.types import AgentOut, Gates, HeadSpec, NetSpec, PyTree


class Lagging(NamedTuple):
    """The second recurrent path: a dense layer and a GRU; its head is the agent's."""

    fc: layers.Dense
    gru: gru.GRU


class AgentParams(NamedTuple):
    """fc1 [D, N], gru, head [H, U * width], deep: [N, N] each, the further layers between fc1 and the GRU, after:
    [H, H] each, those between the GRU and the head; each leaf may have a leading axis A. cosine [64, H], lagging: of
    heads that have them.
    """

    fc1: layers.Dense
    gru: gru.GRU
    head: layers.Dense
    deep: tuple[layers.Dense, ...] = ()
    after: tuple[layers.Dense, ...] = ()
    cosine: layers.Dense | None = None
    lagging: Lagging | None = None


class AgentNet(NamedTuple):
    """An agent network as pure functions.

    init(key) -> AgentParams, one set for all agents.
    start(n) -> what the first step of n worlds is given as carry.
    step(params, gates, obs [E, A, O], last_actions [E, A], carry, key) -> AgentOut, one step of acting.
    unroll(params, gates, obs [T, B, A, O], last_actions [T, B, A], key, acting=False, carry=None) -> AgentOut over
        time, from the start or on from `carry`; with `acting` it draws as many fractions as a step does.
    gates is [A, N], multiplied to the first activation, or one array or None for each dense layer's, or None. A last
    action of -1 means none. Only heads that draw fractions need the key; of an unroll one, or one for each step.
    """

    init: Callable[[jax.Array], AgentParams]
    start: Callable[[int], PyTree]
    step: Callable[..., AgentOut]
    unroll: Callable[..., AgentOut]
    n_inputs: int
    n_hidden: int


def input_size(spec: EnvSpec, net: NetSpec) -> int:
    """Numbers in one agent's input."""
    return spec.obs_dim + net.last_action * spec.n_actions + net.agent_id * spec.n_agents


def make_agent(spec: EnvSpec, net: NetSpec, head: HeadSpec) -> AgentNet:
    """The agent for an environment's sizes: dense layers, a GRU, a head.

    Source: the recurrent agent of QMIX (ICML 2018), as in PyMARL.
    """
    n_inputs = input_size(spec, net)

    def init(key: jax.Array) -> AgentParams:
        k_fc1, k_gru, k_head = jax.random.split(key, 3)
        deep_keys = jax.random.split(jax.random.fold_in(key, 3), net.layers - 1)
        after_keys = jax.random.split(jax.random.fold_in(key, 4), net.after)
        return AgentParams(
            layers.init_dense(k_fc1, n_inputs, net.hidden, net.init),
            gru.init(k_gru, net.hidden, net.hidden, net.init),
            init_head(k_head),
            tuple(layers.init_dense(k, net.hidden, net.hidden, net.init) for k in deep_keys),
            tuple(layers.init_dense(k, net.hidden, net.hidden, net.init) for k in after_keys),
            quantiles.init(jax.random.fold_in(key, 6), net.hidden, net.init) if head.fractions else None,
            init_lagging(jax.random.fold_in(key, 5)) if head.lagging else None,
        )

    def init_head(key: jax.Array) -> layers.Dense:
        layer = layers.init_dense(key, net.hidden, spec.n_actions * head.width, net.init)
        if not head.around:
            return layer
        centre = layers.init_dense(jax.random.fold_in(key, 2), net.hidden, spec.n_actions, net.init)
        return jax.tree.map(lambda wide, narrow: wide + jnp.repeat(narrow, head.width, -1), layer, centre)

    def init_lagging(key: jax.Array) -> Lagging:
        k_fc, k_gru = jax.random.split(key)
        return Lagging(
            layers.init_dense(k_fc, n_inputs, net.hidden, net.init),
            gru.init(k_gru, net.hidden, net.hidden, net.init),
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

    def values(layer: layers.Dense, hidden: jax.Array) -> jax.Array:  # [..., A, U] or [..., A, U, width]
        q = layers.dense(layer, hidden)
        return q if head.width == 1 else q.reshape(*q.shape[:-1], spec.n_actions, head.width)

    def read(params: AgentParams, hidden: jax.Array) -> jax.Array:  # [..., A, H], what the head sees of the GRU
        x = hidden
        for layer in params.after:
            x = activate(layer, None, x)
        return x

    def finish(params: AgentParams, activation: jax.Array, hidden: jax.Array, fractions: jax.Array | None) -> AgentOut:
        if params.cosine is None or fractions is None:
            return AgentOut(values(params.head, read(params, hidden)), hidden, activation)
        q = quantiles.values(params.cosine, params.head, read(params, hidden), fractions)
        return AgentOut(q, hidden, activation, fractions=fractions)

    def lag(params: AgentParams, out: AgentOut, before: jax.Array, carry: PyTree) -> AgentOut:
        lagging = read(jax.lax.stop_gradient(params), before)
        return out._replace(carry=carry, given=read(params, out.hidden), lagging=lagging, head=params.head)

    def start(n: int) -> PyTree:
        zeros = jnp.zeros((n, spec.n_agents, net.hidden))
        return (zeros, zeros) if head.lagging else zeros

    def step(params, gates, obs, last_actions, carry, key=None) -> AgentOut:
        hidden, behind = carry if head.lagging else (carry, None)
        seen = inputs(obs, last_actions)
        first, x = embed(params, gates, seen)
        hidden = gru.cell(params.gru, gru.project(params.gru, x), hidden)
        count = head.acting_fractions
        fractions = jax.random.uniform(key, (len(obs), count)) if key is not None and count else None
        out = finish(params, first, hidden, fractions)
        if behind is None:
            return out._replace(carry=hidden)
        path = params.lagging
        after = gru.cell(path.gru, gru.project(path.gru, jax.nn.relu(layers.dense(path.fc, seen))), behind)
        return lag(params, out, behind, (hidden, after))

    def unroll(params, gates, obs, last_actions, key=None, acting: bool = False, carry=None) -> AgentOut:
        hidden, behind = carry if head.lagging and carry is not None else (carry, None)
        seen = inputs(obs, last_actions)
        first, x = embed(params, gates, seen)
        count, fractions = head.acting_fractions if acting else head.fractions, None
        if key is not None and count:
            keys = key if key.ndim else quantiles.step_keys(key, len(obs))
            fractions = quantiles.draw(keys, obs.shape[1], count)
        out = finish(params, first, gru.unroll(params.gru, x, hidden), fractions)
        if not head.lagging:
            return out._replace(carry=out.hidden[-1])
        path = params.lagging
        after = gru.unroll(path.gru, jax.nn.relu(layers.dense(path.fc, seen)), behind)
        behind = jnp.zeros_like(after[0]) if behind is None else behind
        before = jnp.concatenate([behind[None], after[:-1]])
        return lag(params, out, before, (out.hidden[-1], after[-1]))

    return AgentNet(init, start, step, unroll, n_inputs, net.hidden)


def last_actions(actions: jax.Array) -> jax.Array:
    """Actions [T, B, A] as each of the T+1 observations finds them; -1 before the first."""
    return jnp.concatenate([jnp.full_like(actions[:1], -1), actions])


def activate(layer: layers.Dense, gate: jax.Array | None, x: jax.Array) -> jax.Array:
    """A dense layer, ReLU and the gate: [..., A, D] to [..., A, N]."""
    activation = jax.nn.relu(layers.dense(layer, x))
    return activation if gate is None else activation * gate


def count(params: PyTree) -> int:
    """Number of scalars in a pytree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
