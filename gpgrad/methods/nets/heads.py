"""The plain head: a dense layer with a number, or several, for each action."""

from __future__ import annotations

from typing import NamedTuple

import jax

from gpgrad.envs.api import EnvSpec
from gpgrad.methods.nets import layers
from gpgrad.methods.nets.agent import AgentParams, Head, Trunk, head_inputs, head_key
from gpgrad.types import AgentOut, NetSpec, PyTree


class Utilities(NamedTuple):
    """Head of `width` numbers for each action; 1 means a utility for each action."""

    width: int = 1

    def build(self, spec: EnvSpec, net: NetSpec) -> Head:
        """The head for an environment's sizes."""

        def init(key: jax.Array) -> dict[str, PyTree]:
            return {"head": layers.init_dense(head_key(key), net.hidden, spec.n_actions * self.width, net.init)}

        def out(params: AgentParams, trunk: Trunk) -> AgentOut:
            q = values(params.head, head_inputs(params, trunk.hidden), spec.n_actions, self.width)
            return AgentOut(q, trunk.hidden, trunk.activation)

        return Head(
            init,
            start=lambda n: None,
            step=lambda params, trunk, carry, key: out(params, trunk),
            unroll=lambda params, trunk, carry, key, acting: out(params, trunk),
        )


def values(layer: layers.Dense, x: jax.Array, n_actions: int, width: int) -> jax.Array:
    """The layer's outputs by action: x [..., A, H] to [..., A, U], or [..., A, U, width] where it is wider than 1."""
    q = layers.dense(layer, x)
    return q if width == 1 else q.reshape(*q.shape[:-1], n_actions, width)
