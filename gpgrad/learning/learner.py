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
from gpgrad.methods.nets.agent import AgentNet, last_actions, step_keys
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.weighting.base import Weighting
from gpgrad.shards import WHOLE, Shards
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
    """The parts of a learner. reward_scale: factor of the environment's rewards in everything that is learned. shards:
    the devices that share a seed's batches; everything made from the parts then runs inside their `jax.shard_map`.
    """

    env: Env
    agent: AgentNet
    sharing: Sharing
    decomposition: Decomposition
    weighting: Weighting
    optimiser: optax.GradientTransformationExtraArgs
    clip: float
    reward_scale: float = 1.0
    shards: Shards = WHOLE


class LearnerState(NamedTuple):
    """The part of a seed's state that a gradient step changes."""

    params: Params
    opt_state: PyTree
    sharing: PyTree
    weighting: PyTree


class _Aux(NamedTuple):
    """td_loss: this device's part. log: of the weighting, the same on all devices."""

    terms: Terms
    weights: jax.Array
    activation: jax.Array
    td_loss: jax.Array
    penalty_aux: PyTree
    log: Metrics


class _Sums(NamedTuple):
    """What the devices that share a batch add up, once in an update. means: of the batch, for the metrics."""

    loss: jax.Array
    td_loss: jax.Array
    grads: Params
    gate_grads: Gates
    activity: jax.Array
    means: Metrics


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
    parts: Parts, env_params: EnvParams, ring: Episode, collected: jax.Array
) -> Callable[[jax.Array, int], Transitions]:
    """draw(key, count) -> Transitions, random steps of stored episodes, rewards in the learner's unit."""
    shards = parts.shards

    def draw(key: jax.Array, count: int) -> Transitions:
        slot, time = replay.sample_steps(key, ring, collected, count, shards)

        def seen(at: jax.Array) -> jax.Array:  # [M, A, O]
            states = shards.look(ring.states, slot, at)
            return jax.vmap(parts.env.view, (None, 0))(env_params, states).obs

        actions, rewards = shards.look((ring.actions, ring.reward), slot, time)
        return Transitions(seen(time), actions.astype(jnp.int32), seen(time + 1), rewards * parts.reward_scale)

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
    """update(key, clock, learner, target, batch) -> (learner, metrics), for one seed.

    Over several devices the batch is this device's share. Weightings see all rows of it, so that what they group and
    count does not depend on the devices; gradients are summed before they are clipped.
    """
    sharing, weighting, shards = parts.sharing, parts.weighting, parts.shards
    grad_fn = jax.value_and_grad(_make_loss(parts), has_aux=True)

    def update(key, clock, learner: LearnerState, target: Params, batch: Batch) -> tuple[LearnerState, Metrics]:
        weighting_state, aux = weighting.prepare(learner.weighting, clock, shards.whole(batch, 1))
        learner = learner._replace(weighting=weighting_state)
        bonus = shards.own(weighting.bonus(weighting_state, aux), 1)
        rewarded = batch._replace(reward=batch.reward + bonus)
        trained = (learner.params, sharing.gates(learner.sharing))
        (loss, info), (grads, gate_grads) = grad_fn(trained, key, clock, learner, target, rewarded, aux)
        part = _make_part(shards, batch.valid)
        activity, means = part((_activity(info.activation, batch.valid), _means(info, bonus, batch)))
        sums: _Sums = shards.total(_Sums(loss, info.td_loss, grads, gate_grads, activity, means))
        grads = sums.grads

        scale, norm = optimisers.clip_scale(grads, parts.clip)
        grads = jax.tree.map(lambda g: g * scale, grads)
        separate = info.terms.separate_optimiser
        steps, opt_state = parts.optimiser.update(grads, learner.opt_state, learner.params, separate_optimiser=separate)
        params: Params = optax.apply_updates(learner.params, steps)  # type: ignore[assignment]
        params = params._replace(agent=sharing.after_step(params.agent, learner.sharing))
        signals = Signals(
            jax.tree.map(lambda g: g * scale, sums.gate_grads),
            sums.activity,
            sums.td_loss,
            info.penalty_aux,
        )
        # The loss of the separate optimiser can be far larger than the usual one: in the statistics of sharing schemes
        # its gradients would hide those of the usual loss.
        observed, unobserved = sharing.observe(learner.sharing, signals), learner.sharing
        chex.assert_trees_all_equal_shapes(observed, unobserved)
        observed = jax.tree.map(lambda new, old: jnp.where(separate, old, new), observed, unobserved)
        learner = LearnerState(params, opt_state, observed, weighting_state)
        return learner, {"loss": sums.loss, "td_loss": sums.td_loss, "grad_norm": norm, **sums.means, **info.log}

    return update


def _make_loss(parts: Parts) -> Loss:
    """The loss of one seed; over several devices a device's part of it."""
    agent, sharing, decomposition, weighting = parts.agent, parts.sharing, parts.decomposition, parts.weighting
    shards = parts.shards

    def loss_fn(
        trained: tuple[Params, Gates], key, clock, learner: LearnerState, target: Params, batch, aux
    ) -> tuple[jax.Array, _Aux]:
        params, gates = trained
        last = last_actions(batch.actions)
        k_online, k_target, k_terms = jax.random.split(key, 3)

        def unroll(agent_params: PyTree, gates: Gates, key: jax.Array) -> AgentOut:
            arranged = sharing.per_agent_params(agent_params, learner.sharing)
            if shards.split and agent.head.random:
                key = _row_keys(shards, key, *last.shape[:2])
            return agent.unroll(arranged, gates, batch.view.obs, last, key)

        online = unroll(params.agent, gates, k_online)
        target_out = jax.lax.stop_gradient(unroll(target.agent, sharing.gates(learner.sharing), k_target))
        terms = decomposition.terms(
            TermInputs(params.decomposition, target.decomposition, online, target_out, batch, clock, k_terms)
        )
        chex.assert_equal_shape([batch.reward, terms.loss, terms.q_tot, terms.q_tot_max, terms.target])
        chex.assert_shape(terms.aux, ())
        all_terms = _whole_terms(shards, jax.lax.stop_gradient(terms))
        weights, log = weighting.weights(learner.weighting, aux, shards.whole(batch, 1), all_terms)
        weights = shards.own(weights, 1)
        part = _make_part(shards, batch.valid)
        td_loss, aux_loss = part((masked_mean(jax.lax.stop_gradient(weights) * terms.loss, batch.valid), terms.aux))
        fixed = shards.total(jax.lax.stop_gradient(td_loss))
        penalty, penalty_aux = sharing.penalty(params.agent, learner.sharing, fixed, terms.separate_optimiser)
        if shards.split:  # it does not depend on the batch and is counted on one device
            penalty = jnp.where(shards.index() == 0, penalty, 0.0)
        return td_loss + aux_loss + penalty, _Aux(terms, weights, online.activation, td_loss, penalty_aux, log)

    return loss_fn


def _make_part(shards: Shards, valid: jax.Array) -> Callable[[PyTree], PyTree]:
    """part(means over this device's valid steps) -> its parts of the means over all, which add up to them."""
    if not shards.split:
        return lambda means: means
    share = shards.share(jnp.sum(valid))
    return lambda means: jax.tree.map(lambda mean: mean * share, means)


def _whole_terms(shards: Shards, terms: Terms) -> Terms:
    """Terms of all rows of the batch; means and flags stay those of this device."""
    fields = ("loss", "q_tot", "q_tot_max", "target", "one_step")  # [T, B]
    return terms._replace(**{name: shards.whole(getattr(terms, name), 1) for name in fields})


def _row_keys(shards: Shards, key: jax.Array, steps: int, rows: int) -> jax.Array:
    """The keys of this device's rows, those that the whole batch has on one device: [steps, rows]."""
    of_row = jax.vmap(jax.random.fold_in, (None, 0))
    return jax.vmap(of_row, (0, None))(step_keys(key, steps), shards.rows(rows))


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
            return ragged_batches.on_first(on, episodes, *args, shards=parts.shards)
        return on(ragged_batches.whole(episodes.valid.shape[1], episodes.valid.shape[0]), episodes, *args)

    return gradient_step


def _activity(activation: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean absolute activation [T+1, B, A, N] over valid steps: [A, N]."""
    total = jnp.sum(jnp.where(valid[..., None, None], jnp.abs(activation[:-1]), 0.0), axis=(0, 1))
    return total / jnp.maximum(jnp.sum(valid), 1)


def _means(info: _Aux, bonus: jax.Array, batch: Batch) -> Metrics:
    """Means over valid steps; those of the decomposition's log are such means already."""

    def mean(x: jax.Array) -> jax.Array:
        return masked_mean(x, batch.valid)

    return {
        "q_tot": mean(info.terms.q_tot),
        "target": mean(info.terms.target),
        "td_error_abs": mean(jnp.abs(info.terms.q_tot - info.terms.target)),
        "weight": mean(info.weights),
        "bonus": mean(bonus),
        **info.terms.log,
    }
