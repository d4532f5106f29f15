"""A head that gives values at quantile fractions (implicit quantile networks, Dabney et al. 2018)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.methods.nets import heads, layers
from gpgrad.methods.nets.agent import AgentParams, Head, Trunk, head_inputs, step_keys
from gpgrad.types import AgentOut, Init, NetSpec, PyTree

COSINES = 64
BLOCK = 2**20  # numbers that the head is given at a time, so that they stay near the processor


class Quantiles(NamedTuple):
    """Head with values at random quantile fractions, drawn at every step and the same for all agents.

    fractions, acting_fractions: how many in an unroll and in acting; without a key there are none, and the head gives
    the values of its dense layer. `AgentOut.extra` has the fractions: [..., N], in [0, 1).

    Source: IQN (Dabney et al., ICML 2018), as DFAC (ICML 2021) uses it.
    """

    fractions: int
    acting_fractions: int

    def build(self, spec: EnvSpec, net: NetSpec) -> Head:
        """The head for an environment's sizes."""
        plain = heads.Utilities().build(spec, net)

        def start_params(key: jax.Array) -> dict[str, PyTree]:
            return {**plain.init(key), "cosine": init(jax.random.fold_in(key, 6), net.hidden, net.init)}

        def at(params: AgentParams, trunk: Trunk, fractions: jax.Array) -> AgentOut:
            q = values(params.cosine, params.head, head_inputs(params, trunk.hidden), fractions)
            return AgentOut(q, trunk.hidden, trunk.activation, extra=fractions)

        def step(params: AgentParams, trunk: Trunk, carry: PyTree, key: jax.Array | None) -> AgentOut:
            if key is None:
                return plain.step(params, trunk, carry, key)
            shape = (len(trunk.hidden), self.acting_fractions)
            return at(params, trunk, jax.random.uniform(key, shape))

        def unroll(params: AgentParams, trunk: Trunk, carry: PyTree, key: jax.Array | None, acting: bool) -> AgentOut:
            if key is None:
                return plain.unroll(params, trunk, carry, key, acting)
            keys = key if key.ndim else step_keys(key, len(trunk.hidden))
            count = self.acting_fractions if acting else self.fractions
            return at(params, trunk, draw(keys, trunk.hidden.shape[1], count))

        return Head(start_params, lambda n: None, step, unroll, random=True)


def mean_embedding(params: AgentParams, count: int = 1024) -> jax.Array:
    """The mean of the embedding phi over `count` midpoints of [0, 1]: [1 or A, H].

    The head is linear, so its mean over quantiles is the dense layer on hidden * mean phi.
    """
    middles = (jnp.arange(count) + 0.5) / count
    return embed(params.cosine, middles).mean(0)


def init(key: jax.Array, hidden: int, init_name: Init) -> layers.Dense:
    """The layer that embeds fractions: [64, H]."""
    return layers.init_dense(key, COSINES, hidden, init_name)


def draw(keys: jax.Array, episodes: int, count: int) -> jax.Array:
    """Fractions in [0, 1) of the first episodes of a batch in steps with these keys [T], the same however many of them
    are drawn for: [T, B, count]. keys: or one for each step and episode, [T, B].
    """
    own = keys if keys.ndim == 2 else jax.vmap(step_keys, (0, None))(keys, episodes)
    return jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (count,))))(own)


def embed(layer: layers.Dense, fractions: jax.Array) -> jax.Array:
    """relu(W cos(pi j tau) + b), j = 0..63: fractions [..., N] to [..., N, 1, H], or [..., N, A, H] per agent.

    Source: IQN (ICML 2018), the embedding phi(tau).
    """
    cosines = jnp.cos(jnp.pi * jnp.arange(COSINES) * fractions[..., None])[..., None, :]  # [..., N, 1, 64]
    if layer["kernel"].ndim == 3:
        cosines = jnp.broadcast_to(cosines, (*cosines.shape[:-2], layer["kernel"].shape[0], COSINES))
    return jax.nn.relu(layers.dense(layer, cosines))


def values(layer: layers.Dense, head: layers.Dense, hidden: jax.Array, fractions: jax.Array) -> jax.Array:
    """Values of every action at fractions [..., N] that all agents share: hidden [..., A, H] to [..., A, U, N].

    An unroll, with two leading axes, is computed some steps at a time, forward and backward: the input of the head, N
    times as wide as the hidden states, is never held for all steps.

    Source: IQN (ICML 2018), the head on hidden * phi(tau), as DFAC (ICML 2021) uses it.
    """

    def at(step: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, fractions = step
        q = layers.dense(head, hidden[..., None, :, :] * embed(layer, fractions))  # [..., N, A, U]
        return jnp.moveaxis(q, -3, -1)

    if hidden.ndim < 4:
        return at((hidden, fractions))
    size = max(BLOCK // (hidden[0].size * fractions.shape[-1]), 1)
    return jax.lax.map(jax.checkpoint(at), (hidden, fractions), batch_size=size)


def huber_loss(values: jax.Array, fractions: jax.Array, targets: jax.Array) -> jax.Array:
    """Quantile regression: values [..., N] at fractions [..., N] against samples [..., M] of the target: [...].

    |tau_i - 1[u <= 0]| huber_1(u) with u = target_j - value_i; mean over targets, sum over values. No gradient to
    fractions and targets.

    Source: quantile Huber loss of IQN (ICML 2018), as in DFAC (ICML 2021).
    """
    return _huber_loss(values, *jax.lax.stop_gradient((fractions, targets)))


@jax.custom_vjp
def _huber_loss(values: jax.Array, fractions: jax.Array, targets: jax.Array) -> jax.Array:
    return _loss_and_slopes(values, fractions, targets)[0]


def _loss_and_slopes(values: jax.Array, fractions: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss [...] and its derivatives in the values [..., N], without ever holding all pairs [..., N, M].

    With c = clip(u, -1, 1), huber_1(u) = c (u - c / 2) and its derivative in u is c; u falls as the value rises, hence
    the minus sign of the slopes.
    """
    loss, slopes, count = jnp.zeros_like(values), jnp.zeros_like(values), targets.shape[-1]
    for target in jnp.split(targets, count, axis=-1):
        error = target - values
        weight, inside = jnp.abs(fractions - (error <= 0)), jnp.clip(error, -1.0, 1.0)
        loss += weight * inside * (error - 0.5 * inside)
        slopes -= weight * inside
    return loss.sum(-1) / count, slopes / count


def _forward(values: jax.Array, fractions: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _loss_and_slopes(values, fractions, targets)


def _backward(slopes: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None, None]:
    return cotangent[..., None] * slopes, None, None


_huber_loss.defvjp(_forward, _backward)
