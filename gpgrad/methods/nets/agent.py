"""The recurrent agent: dense layers, a GRU and a head that the decomposition brings; weights shared or per agent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.methods.nets import gru, layers
from gpgrad.types import AgentOut, Gates, NetSpec, PyTree


class AgentParams(NamedTuple):
    """fc1 [D, N], gru, head [H, U * width]. deep: [N, N] each, the further layers between fc1 and the GRU. after:
    [H, H] each, those between the GRU and the head. Each leaf may have a leading axis A. cosine, lagging: further
    parameters of the heads that have them (`Head.init`); checkpoints know them by these names.
    """

    fc1: layers.Dense
    gru: gru.GRU
    head: layers.Dense
    deep: tuple[layers.Dense, ...] = ()
    after: tuple[layers.Dense, ...] = ()
    cosine: PyTree = None
    lagging: PyTree = None


class Trunk(NamedTuple):
    """What the head is computed from: inputs [..., A, D], activation of the first layer [..., A, N], and the GRU's
    hidden states [..., A, H].
    """

    inputs: jax.Array
    activation: jax.Array
    hidden: jax.Array


class HeadStep(Protocol):
    """A head's step of acting."""

    def __call__(self, params: AgentParams, trunk: Trunk, carry: PyTree, key: jax.Array | None) -> AgentOut:
        """One step with leading axis [E]. The result's carry is the head's own."""
        ...


class HeadUnroll(Protocol):
    """A head's unroll over time."""

    def __call__(
        self, params: AgentParams, trunk: Trunk, carry: PyTree, key: jax.Array | None, acting: bool
    ) -> AgentOut:
        """All steps, leading axes [T, B]. acting: with as many random numbers as a step of acting has."""
        ...


class Head(NamedTuple):
    """The part of the agent network that a decomposition brings: everything that follows the GRU.

    init(key) -> fields of `AgentParams`, `head` among them; `key` is the agent's, `head_key(key)` the head layer's.
    start(n) -> the head's own carry at the first step of n environments, None where it has none.
    random: outputs depend on random numbers, so steps need a key. losses_of_q: losses are functions of `AgentOut.q`;
    false where a decomposition computes them from `AgentOut.extra`.
    """

    init: Callable[[jax.Array], dict[str, PyTree]]
    start: Callable[[int], PyTree]
    step: HeadStep
    unroll: HeadUnroll
    random: bool = False
    losses_of_q: bool = True


class HeadMaker(Protocol):
    """The settings of a head, as in `Decomposition.head`."""

    def build(self, spec: EnvSpec, net: NetSpec) -> Head:
        """The head for an environment's sizes."""
        ...


class Carry(NamedTuple):
    """What the next step needs. hidden: [..., A, H]. head: the head's own carry."""

    hidden: jax.Array
    head: PyTree = None


class StepAgent(Protocol):
    """An agent's step of acting."""

    def __call__(
        self,
        params: AgentParams,
        gates: Gates,
        obs: jax.Array,
        last_actions: jax.Array,
        carry: Carry,
        key: jax.Array | None = None,
    ) -> AgentOut:
        """One step in E environments: obs [E, A, O], last_actions [E, A]."""
        ...


class UnrollAgent(Protocol):
    """An agent's unroll over time."""

    def __call__(
        self,
        params: AgentParams,
        gates: Gates,
        obs: jax.Array,
        last_actions: jax.Array,
        key: jax.Array | None = None,
        acting: bool = False,
        carry: Carry | None = None,
    ) -> AgentOut:
        """All steps of B episodes: obs [T, B, A, O], last_actions [T, B, A]; from the start or on from `carry`."""
        ...


class AgentNet(NamedTuple):
    """An agent network as pure functions.

    init(key) -> AgentParams, one set for all agents.
    start(n) -> the carry of the first step of n environments.
    step(params, gates, obs [E, A, O], last_actions [E, A], carry, key) -> AgentOut, one step of acting.
    unroll(params, gates, obs [T, B, A, O], last_actions [T, B, A], key, acting=False, carry=None) -> AgentOut over
        time, from the start or on from `carry`; `acting` draws as many random numbers as a step does.
    gates: [A, N], multiplied to the first activation; or a tuple with one array or None for each dense layer; or None.
    A last action of -1 means none. Only random heads need the key; in an unroll one key, or one for each step, or for
    each step and episode [T, B].
    """

    init: Callable[[jax.Array], AgentParams]
    start: Callable[[int], Carry]
    step: StepAgent
    unroll: UnrollAgent
    n_inputs: int
    n_hidden: int
    head: Head


def input_size(spec: EnvSpec, net: NetSpec) -> int:
    """Numbers in one agent's input."""
    return spec.obs_dim + net.last_action * spec.n_actions + net.agent_id * spec.n_agents


def make_agent(spec: EnvSpec, net: NetSpec, head: HeadMaker) -> AgentNet:
    """The agent for an environment's sizes: dense layers, a GRU, a head.

    Source: the recurrent agent of QMIX (ICML 2018), as in PyMARL.
    """
    built = head.build(spec, net)

    def start(n: int) -> Carry:
        return Carry(jnp.zeros((n, spec.n_agents, net.hidden)), built.start(n))

    def step(params, gates, obs, last_actions, carry, key=None) -> AgentOut:
        inputs = _inputs(spec, net, obs, last_actions)
        first, x = _embed(params, gates, inputs)
        hidden = gru.cell(params.gru, gru.project(params.gru, x), carry.hidden)
        out = built.step(params, Trunk(inputs, first, hidden), carry.head, key)
        return out._replace(carry=Carry(hidden, out.carry))

    def unroll(params, gates, obs, last_actions, key=None, acting: bool = False, carry=None) -> AgentOut:
        hidden, own = carry if carry is not None else (None, None)
        inputs = _inputs(spec, net, obs, last_actions)
        first, x = _embed(params, gates, inputs)
        out = built.unroll(params, Trunk(inputs, first, gru.unroll(params.gru, x, hidden)), own, key, acting)
        return out._replace(carry=Carry(out.hidden[-1], out.carry))

    init = partial(_init, spec, net, built)
    return AgentNet(init, start, step, unroll, input_size(spec, net), net.hidden, built)


def _init(spec: EnvSpec, net: NetSpec, head: Head, key: jax.Array) -> AgentParams:
    k_fc1, k_gru, _ = jax.random.split(key, 3)  # the third is `head_key`
    deep_keys = jax.random.split(jax.random.fold_in(key, 3), net.layers - 1)
    after_keys = jax.random.split(jax.random.fold_in(key, 4), net.after)
    return AgentParams(
        fc1=layers.init_dense(k_fc1, input_size(spec, net), net.hidden, net.init),
        gru=gru.init(k_gru, net.hidden, net.hidden, net.init),
        deep=tuple(layers.init_dense(k, net.hidden, net.hidden, net.init) for k in deep_keys),
        after=tuple(layers.init_dense(k, net.hidden, net.hidden, net.init) for k in after_keys),
        **head.init(key),
    )


def _inputs(spec: EnvSpec, net: NetSpec, obs: jax.Array, last_actions: jax.Array) -> jax.Array:
    """Observation, last action and agent id, as the network has them: [..., A, D]."""
    parts = [obs]
    if net.last_action:
        parts.append(jax.nn.one_hot(last_actions, spec.n_actions, dtype=obs.dtype))
    if net.agent_id:
        parts.append(jnp.broadcast_to(jnp.eye(spec.n_agents, dtype=obs.dtype), (*obs.shape[:-1], spec.n_agents)))
    return jnp.concatenate(parts, -1)


def _embed(params: AgentParams, gates: Gates, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the last dense layer's activations [..., A, N]."""
    each = gates if isinstance(gates, tuple) else (gates, *[None] * len(params.deep))
    first = x = activate(params.fc1, each[0], x)
    for layer, gate in zip(params.deep, each[1:], strict=True):
        x = activate(layer, gate, x)
    return first, x


def head_key(key: jax.Array) -> jax.Array:
    """The key of the head layer's initialiser, from the agent's key."""
    return jax.random.split(key, 3)[2]


def head_inputs(params: AgentParams, hidden: jax.Array) -> jax.Array:
    """The GRU's hidden states after the layers behind it, which the head gets: [..., A, H]."""
    x = hidden
    for layer in params.after:
        x = activate(layer, None, x)
    return x


def step_keys(key: jax.Array, steps: int) -> jax.Array:
    """A key for each step, the same however many there are: [steps]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(steps))


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
