"""One gradient step: sharing, decomposition and weighting composed.

The learner knows none of them by name. Gates are factors of one behind an activation, one for each agent and neuron:
the gradient on a gate is the part of the loss's gradient that reaches the neuron from that agent's data. They are
differentiated beside the parameters, so the conflict statistics of sharing schemes cost no second backward pass, and
they enter neither the clipping norm nor the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import optax

from gpgrad.envs.api import Env, EnvParams
from gpgrad.learning import ragged_batches, replay
from gpgrad.learning.ragged_batches import TimeBlocks
from gpgrad.methods import optimisers
from gpgrad.methods.decomposition.base import Decomposition, masked_mean
from gpgrad.methods.nets.agent import AgentNet, last_actions
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.weighting.base import Weighting
from gpgrad.types import (
    AgentOut,
    Batch,
    Clock,
    Episode,
    Gates,
    Metrics,
    Params,
    PyTree,
    Signals,
    TermInputs,
    Terms,
    Transitions,
)

NUMERICS = 1


class Parts(NamedTuple):
    """The parts of a learner. reward_scale: factor of the environment's rewards in everything that is learned."""

    env: Env
    agent: AgentNet
    sharing: Sharing
    decomposition: Decomposition
    weighting: Weighting
    optimiser: optax.GradientTransformationExtraArgs
    clip: float
    reward_scale: float = 1.0


class LearnerState(NamedTuple):
    """The part of a seed's state that a gradient step changes."""

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
    env: Env, env_params: EnvParams, episodes: Episode, reward_scale: float = 1.0, blocks: TimeBlocks | None = None
) -> Batch:
    """Sampled episodes [B, ...] as the learner sees them: time first, views recomputed, rewards in its own unit.

    blocks: for episodes sorted by length, only the steps in these time blocks are computed.
    """
    blocks = blocks or ragged_batches.whole(episodes.valid.shape[1], episodes.valid.shape[0])
    episodes = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), episodes)
    view = ragged_batches.view(blocks, env, env_params, episodes.states)
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


class Loss(Protocol):
    """The loss of an update, and what its metrics and signals are made of."""

    def __call__(
        self,
        trained: tuple[Params, Gates],
        key: jax.Array,
        clock: Clock,
        learner: LearnerState,
        target: Params,
        batch: Batch,
        aux: PyTree,
    ) -> tuple[jax.Array, _Aux]:
        """trained: the arguments that gradients are taken of. aux: of the weighting's `prepare`."""
        ...


Update = Callable[[jax.Array, Clock, LearnerState, Params, Batch], tuple[LearnerState, Metrics]]


def make_update(parts: Parts) -> Update:
    """update(key, clock, learner, target, batch) -> (learner, metrics), for one seed."""
    sharing, weighting = parts.sharing, parts.weighting
    grad_fn = jax.value_and_grad(_make_loss(parts), has_aux=True)

    def update(key, clock, learner: LearnerState, target: Params, batch: Batch) -> tuple[LearnerState, Metrics]:
        weighting_state, aux = weighting.prepare(learner.weighting, clock, batch)
        learner = learner._replace(weighting=weighting_state)
        bonus = weighting.bonus(weighting_state, aux)
        rewarded = batch._replace(reward=batch.reward + bonus)
        trained = (learner.params, sharing.gates(learner.sharing))
        (loss, info), (grads, gate_grads) = grad_fn(trained, key, clock, learner, target, rewarded, aux)

        scale, norm = optimisers.clip_scale(grads, parts.clip)
        grads = jax.tree.map(lambda g: g * scale, grads)
        separate = info.terms.separate_optimiser
        steps, opt_state = parts.optimiser.update(grads, learner.opt_state, learner.params, separate_optimiser=separate)
        params: Params = optax.apply_updates(learner.params, steps)  # type: ignore[assignment]
        params = params._replace(agent=sharing.after_step(params.agent, learner.sharing))
        signals = Signals(
            jax.tree.map(lambda g: g * scale, gate_grads),
            _activity(info.activation, batch.valid),
            info.td_loss,
            info.penalty_aux,
        )
        # The loss of the separate optimiser can be far larger than the usual one: in the statistics of sharing schemes
        # its gradients would hide those of the usual loss.
        observed, unobserved = sharing.observe(learner.sharing, signals), learner.sharing
        chex.assert_trees_all_equal_shapes(observed, unobserved)
        observed = jax.tree.map(lambda new, old: jnp.where(separate, old, new), observed, unobserved)
        learner = LearnerState(params, opt_state, observed, weighting_state)
        return learner, _metrics(loss, norm, info, bonus, batch)

    return update


def _make_loss(parts: Parts) -> Loss:
    agent, sharing, decomposition, weighting = parts.agent, parts.sharing, parts.decomposition, parts.weighting

    def loss_fn(
        trained: tuple[Params, Gates], key, clock, learner: LearnerState, target: Params, batch, aux
    ) -> tuple[jax.Array, _Aux]:
        params, gates = trained
        last = last_actions(batch.actions)
        k_online, k_target, k_terms = jax.random.split(key, 3)

        def unroll(agent_params: PyTree, gates: Gates, key: jax.Array) -> AgentOut:
            arranged = sharing.per_agent_params(agent_params, learner.sharing)
            return agent.unroll(arranged, gates, batch.view.obs, last, key)

        online = unroll(params.agent, gates, k_online)
        target_out = jax.lax.stop_gradient(unroll(target.agent, sharing.gates(learner.sharing), k_target))
        terms = decomposition.terms(
            TermInputs(params.decomposition, target.decomposition, online, target_out, batch, clock, k_terms)
        )
        chex.assert_equal_shape([batch.reward, terms.loss, terms.q_tot, terms.q_tot_max, terms.target])
        chex.assert_shape(terms.aux, ())
        weights, log = weighting.weights(learner.weighting, aux, batch, jax.lax.stop_gradient(terms))
        td_loss = masked_mean(jax.lax.stop_gradient(weights) * terms.loss, batch.valid)
        fixed = jax.lax.stop_gradient(td_loss)
        penalty, penalty_aux = sharing.penalty(params.agent, learner.sharing, fixed, terms.separate_optimiser)
        info = _Aux(terms, weights, online.activation, td_loss, penalty_aux, {**terms.log, **log})
        return td_loss + terms.aux + penalty, info

    return loss_fn


class GradientStep(Protocol):
    """An update of one seed on sampled episodes."""

    def __call__(
        self,
        key: jax.Array,
        clock: Clock,
        learner: LearnerState,
        target: Params,
        env_params: EnvParams,
        episodes: Episode,
    ) -> tuple[LearnerState, Metrics]:
        """The learner after an update on episodes [B, ...], and the update's metrics."""
        ...


def make_gradient_step(parts: Parts) -> GradientStep:
    """gradient_step(key, clock, learner, target, env_params, episodes) -> (learner, metrics): an update on sampled
    episodes [B, ...] of one seed, without most of the padding if the environment's episodes end early.
    """

    def on(
        blocks: TimeBlocks, episodes: Episode, key, clock, learner: LearnerState, target: Params, env_params: EnvParams
    ):
        batch = make_batch(parts.env, env_params, episodes, parts.reward_scale, blocks)
        update = make_update(parts._replace(agent=ragged_batches.agent(blocks, parts.agent)))
        return update(key, clock, learner, target, batch)

    def gradient_step(key, clock, learner, target, env_params, episodes: Episode) -> tuple[LearnerState, Metrics]:
        args = (key, clock, learner, target, env_params)
        if parts.env.spec.ends_early:
            return ragged_batches.on_first(on, episodes, *args)
        return on(ragged_batches.whole(episodes.valid.shape[1], episodes.valid.shape[0]), episodes, *args)

    return gradient_step


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
