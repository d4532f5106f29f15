"""One gradient step: sharing, decomposition and weighting composed.

The learner knows none of them by name. Gates are factors of one behind an activation, one for each agent and neuron:
the gradient on a gate is the part of the loss's gradient that reaches the neuron from that agent's data. They are
differentiated beside the parameters, so the conflict statistics of sharing schemes cost no second backward pass, and
they enter neither the clipping norm nor the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from gpgrad.envs.api import Env, EnvParams
from gpgrad.learning import ragged_batches, replay
from gpgrad.learning.ragged_batches import Stairs
from gpgrad.methods import optimisers
from gpgrad.methods.decomposition.base import Decomposition, masked_mean
from gpgrad.methods.nets.agent import AgentNet, last_actions
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.weighting.base import Weighting
from gpgrad.types import AgentOut, Batch, Clock, Episode, Gates, Metrics, Params, PyTree, Signals, Terms, Transitions

NUMERICS = 1


class Parts(NamedTuple):
    """What a learner is composed of. reward_scale: factor of the world's rewards in everything that is learned."""

    env: Env
    agent: AgentNet
    sharing: Sharing
    decomposition: Decomposition
    weighting: Weighting
    optimiser: optax.GradientTransformationExtraArgs
    clip: float
    reward_scale: float = 1.0


class Learning(NamedTuple):
    """What a gradient step changes."""

    params: Params
    opt_state: PyTree
    sharing: PyTree
    weighting: PyTree


class _Aux(NamedTuple):
    terms: Terms
    weights: jax.Array
    activation: jax.Array
    td_loss: jax.Array
    penalty_aux: PyTree
    log: Metrics


def make_batch(
    env: Env, env_params: EnvParams, episodes: Episode, reward_scale: float = 1.0, flight: Stairs | None = None
) -> Batch:
    """Sampled episodes [B, ...] as the learner sees them: time first, views recomputed, rewards in its own unit.

    With stairs, for sorted episodes, only what is on them is computed.
    """
    flight = flight or ragged_batches.whole(episodes.valid.shape[1], episodes.valid.shape[0])
    episodes = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), episodes)
    view = ragged_batches.view(flight, env, env_params, episodes.states)
    rewards = episodes.reward * reward_scale
    return Batch(view, episodes.actions.astype(jnp.int32), rewards, episodes.terminated, episodes.valid)


def make_draw(
    env: Env, env_params: EnvParams, ring: Episode, collected: jax.Array, reward_scale: float
) -> Callable[[jax.Array, int], Transitions]:
    """draw(key, count) -> Transitions, random steps of stored episodes, rewards in the learner's unit."""

    def draw(key: jax.Array, count: int) -> Transitions:
        slot, time = replay.sample_steps(key, ring, collected, count)

        def seen(at: jax.Array) -> jax.Array:  # [M, A, O]
            states = jax.tree.map(lambda leaf: leaf[slot, at], ring.states)
            return jax.vmap(env.view, (None, 0))(env_params, states).obs

        actions = ring.actions[slot, time].astype(jnp.int32)
        return Transitions(seen(time), actions, seen(time + 1), ring.reward[slot, time] * reward_scale)

    return draw


Update = Callable[[jax.Array, Clock, Learning, Params, Batch], tuple[Learning, Metrics]]


def make_update(parts: Parts) -> Update:
    """update(key, clock, learning, target, batch) -> (learning, metrics), for one seed."""
    agent, sharing, decomposition, weighting = parts.agent, parts.sharing, parts.decomposition, parts.weighting

    def loss_fn(trained: tuple[Params, Gates], key, clock, learning: Learning, target: Params, batch, aux):
        params, gates = trained
        last = last_actions(batch.actions)
        k_online, k_frozen, k_terms = jax.random.split(key, 3)

        def unroll(agent_params: PyTree, gates: Gates, key: jax.Array) -> AgentOut:
            arranged = sharing.materialise(agent_params, learning.sharing)
            return agent.unroll(arranged, gates, batch.view.obs, last, key)

        online = unroll(params.agent, gates, k_online)
        frozen = jax.lax.stop_gradient(unroll(target.agent, sharing.gates(learning.sharing), k_frozen))
        terms = decomposition.terms(params.decomposition, target.decomposition, online, frozen, batch, clock, k_terms)
        chex.assert_equal_shape([batch.reward, terms.loss, terms.q_tot, terms.q_tot_max, terms.target])
        chex.assert_shape(terms.aux, ())
        weights, log = weighting.weights(learning.weighting, aux, batch, jax.lax.stop_gradient(terms))
        td_loss = masked_mean(jax.lax.stop_gradient(weights) * terms.loss, batch.valid)
        told = jax.lax.stop_gradient(td_loss), terms.apart
        penalty, penalty_aux = sharing.penalty(params.agent, learning.sharing, *told)
        info = _Aux(terms, weights, online.activation, td_loss, penalty_aux, {**terms.log, **log})
        return td_loss + terms.aux + penalty, info

    def update(key, clock, learning: Learning, target: Params, batch: Batch) -> tuple[Learning, Metrics]:
        weighting_state, aux = weighting.prepare(learning.weighting, clock, batch)
        learning = learning._replace(weighting=weighting_state)
        bonus = weighting.bonus(weighting_state, aux)
        rewarded = batch._replace(reward=batch.reward + bonus)
        trained = (learning.params, sharing.gates(learning.sharing))
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, info), (grads, gate_grads) = grad_fn(trained, key, clock, learning, target, rewarded, aux)

        scale, norm = optimisers.clip_scale(grads, parts.clip)
        grads = jax.tree.map(lambda g: g * scale, grads)
        steps, opt_state = parts.optimiser.update(grads, learning.opt_state, learning.params, apart=info.terms.apart)
        params: Params = optax.apply_updates(learning.params, steps)  # type: ignore[assignment]
        params = params._replace(agent=sharing.after_step(params.agent, learning.sharing))
        signals = Signals(
            jax.tree.map(lambda g: g * scale, gate_grads),
            _activity(info.activation, batch.valid),
            info.td_loss,
            info.penalty_aux,
        )
        # A loss apart can be far larger than the usual one: it would drown what schemes are to see of that.
        seen, unseen = sharing.observe(learning.sharing, signals), learning.sharing
        chex.assert_trees_all_equal_shapes(seen, unseen)
        seen = jax.tree.map(lambda new, old: jnp.where(info.terms.apart, old, new), seen, unseen)
        learning = Learning(params, opt_state, seen, weighting_state)
        return learning, _metrics(loss, norm, info, bonus, batch)

    return update


def make_learn(parts: Parts) -> Callable[..., tuple[Learning, Metrics]]:
    """learn(key, clock, learning, target, env_params, episodes) -> (learning, metrics): a gradient step on sampled
    episodes [B, ...] of one seed, without most of the padding if the world's episodes end early.
    """

    def on(flight: Stairs, episodes: Episode, key, clock, learning: Learning, target: Params, env_params: EnvParams):
        batch = make_batch(parts.env, env_params, episodes, parts.reward_scale, flight)
        update = make_update(parts._replace(agent=ragged_batches.agent(flight, parts.agent)))
        return update(key, clock, learning, target, batch)

    def learn(key, clock, learning, target, env_params, episodes: Episode) -> tuple[Learning, Metrics]:
        args = (key, clock, learning, target, env_params)
        if parts.env.spec.ends_early:
            return ragged_batches.on_first(on, episodes, *args)
        return on(ragged_batches.whole(episodes.valid.shape[1], episodes.valid.shape[0]), episodes, *args)

    return learn


def _activity(activation: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean absolute activation [T+1, B, A, N] over valid steps: [A, N]."""
    total = jnp.sum(jnp.where(valid[..., None, None], jnp.abs(activation[:-1]), 0.0), axis=(0, 1))
    return total / jnp.maximum(jnp.sum(valid), 1)


def _metrics(loss: jax.Array, norm: jax.Array, info: _Aux, bonus: jax.Array, batch: Batch) -> Metrics:
    def mean(x: jax.Array) -> jax.Array:
        return masked_mean(x, batch.valid)

    return {
        "loss": loss,
        "td_loss": info.td_loss,
        "grad_norm": norm,
        "q_tot": mean(info.terms.q_tot),
        "target": mean(info.terms.target),
        "td_error_abs": mean(jnp.abs(info.terms.q_tot - info.terms.target)),
        "weight": mean(info.weights),
        "bonus": mean(bonus),
        **info.log,
    }
