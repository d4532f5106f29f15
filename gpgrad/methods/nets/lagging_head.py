"""RMIX's head: atoms for each action, and a second recurrent path that is one step behind."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.methods.nets import gru, heads, layers
from gpgrad.methods.nets.agent import AgentParams, Head, Trunk, head_inputs, head_key, input_size
from gpgrad.types import AgentOut, NetSpec, PyTree


class Path(NamedTuple):
    """Parameters of the second recurrent path: a dense layer and a GRU. It shares the agent's head."""

    fc: layers.Dense
    gru: gru.GRU


class HeadInputs(NamedTuple):
    """`AgentOut.extra`: the inputs of the head now, and those of the lagging path, which has not seen the present
    input; both [..., A, H]. Gradients of the second reach the path's own layers only.
    """

    now: jax.Array
    lagging: jax.Array


class LaggingHead(NamedTuple):
    """Head of `width` atoms for each action with a lagging path. around: an action's atoms begin around the value of a
    layer of width 1. `AgentOut.head_params` is the head's layer, for what is made of atoms too many to hold.

    Source: RMIX (NeurIPS 2021), the history path of the risk level predictor.
    """

    width: int = 1
    around: bool = False

    def build(self, spec: EnvSpec, net: NetSpec) -> Head:
        """The head for an environment's sizes."""

        def init(key: jax.Array) -> dict[str, PyTree]:
            k_fc, k_gru = jax.random.split(jax.random.fold_in(key, 5))
            path = Path(
                layers.init_dense(k_fc, input_size(spec, net), net.hidden, net.init),
                gru.init(k_gru, net.hidden, net.hidden, net.init),
            )
            return {"head": self._init_layer(head_key(key), spec.n_actions, net), "lagging": path}

        def out(params: AgentParams, trunk: Trunk, before: jax.Array, carry: jax.Array) -> AgentOut:
            now = head_inputs(params, trunk.hidden)
            q = heads.values(params.head, now, spec.n_actions, self.width)
            lagging = head_inputs(jax.lax.stop_gradient(params), before)
            return AgentOut(q, trunk.hidden, trunk.activation, carry, HeadInputs(now, lagging), params.head)

        def step(params: AgentParams, trunk: Trunk, carry: PyTree, key: jax.Array | None) -> AgentOut:
            path = params.lagging
            projected = gru.project(path.gru, jax.nn.relu(layers.dense(path.fc, trunk.inputs)))
            return out(params, trunk, carry, gru.cell(path.gru, projected, carry))

        def unroll(params: AgentParams, trunk: Trunk, carry: PyTree, key: jax.Array | None, acting: bool) -> AgentOut:
            path = params.lagging
            after = gru.unroll(path.gru, jax.nn.relu(layers.dense(path.fc, trunk.inputs)), carry)
            first = jnp.zeros_like(after[0]) if carry is None else carry
            return out(params, trunk, jnp.concatenate([first[None], after[:-1]]), after[-1])

        def start(n: int) -> jax.Array:
            return jnp.zeros((n, spec.n_agents, net.hidden))

        return Head(init, start, step, unroll, losses_of_q=False)

    def _init_layer(self, key: jax.Array, n_actions: int, net: NetSpec) -> layers.Dense:
        layer = layers.init_dense(key, net.hidden, n_actions * self.width, net.init)
        if not self.around:
            return layer
        centre = layers.init_dense(jax.random.fold_in(key, 2), net.hidden, n_actions, net.init)
        return jax.tree.map(lambda wide, narrow: wide + jnp.repeat(narrow, self.width, -1), layer, centre)
