"""The interface of value decompositions and their common parts: greedy utilities, double Q, returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gpgrad.envs.api import View
from gpgrad.errors import SettingError
from gpgrad.methods.nets.agent import HeadMaker
from gpgrad.types import AgentOut, Batch, PyTree, Returns, TermInputs, Terms


class Decomposition(NamedTuple):
    """How utilities become a joint value and a loss.

    head: the head of the agent network, such as `heads.Utilities()`.
    init(key, state) -> params; `state` is an example of `View.state` without batch axes.
    utilities(params, out, key) -> [..., A, U], what rollout, evaluation and double Q maximise.
    terms(TermInputs) -> Terms, joint values, targets and losses of a batch.
    separate_optimiser: an optimiser with its own state, for gradient steps whose `Terms.separate_optimiser` is true.
    export_scale(agent params) -> [1 or A, H]: factor of the head's inputs with which the head's layer gives the
        utilities, so that policies can be written as plain layers. None: the utilities are the head's outputs
        (`plain_utilities`), or more than a layer.
    """

    head: HeadMaker
    init: Callable[[jax.Array, PyTree], PyTree]
    utilities: Callable[[PyTree, AgentOut, jax.Array], jax.Array]
    terms: Callable[[TermInputs], Terms]
    separate_optimiser: optax.GradientTransformation | None = None
    export_scale: Callable[[PyTree], jax.Array] | None = None


Hyper = Callable[[PyTree, View], Any]  # a mixer's weights from its parameters and what is seen
Mix = Callable[[Any, jax.Array], jax.Array]  # from weights and utilities [T, B, A] to Q_tot [T, B]


def check_sizes(**sizes: float) -> None:
    """Raise SettingError for settings that must be 1 or more and are not."""
    for name, value in sizes.items():
        if value < 1:
            raise SettingError(f"decomposition.{name} must be at least 1 (got {value})")


def plain_utilities(params: PyTree, out: AgentOut, key: jax.Array) -> jax.Array:
    """The head's values are the utilities."""
    del params, key
    return out.q


def greedy_actions(utilities: jax.Array, avail: jax.Array) -> jax.Array:
    """The best available action of each agent, lowest index on ties: [..., A, U] to int32 [..., A].

    With individual-global-max, Q_tot's greedy joint action.

    Source: QTRAN (ICML 2019), the condition of individual-global-max (IGM).
    """
    return jnp.argmax(jnp.where(avail, utilities, -jnp.inf), axis=-1)


def take(q: jax.Array, actions: jax.Array) -> jax.Array:
    """The values of given actions: q [..., A, U], actions [..., A] to [..., A].

    A masked sum rather than a gather: its gradient is a product instead of a scatter.
    """
    chosen = actions[..., None] == jnp.arange(q.shape[-1])
    return jnp.sum(jnp.where(chosen, q, 0.0), axis=-1)


def take_wide(values: jax.Array, actions: jax.Array) -> jax.Array:
    """Of a head wider than one: values [..., A, U, width], actions [..., A] to [..., A, width]."""
    chosen = actions[..., None] == jnp.arange(values.shape[-2])
    return jnp.sum(jnp.where(chosen[..., None], values, 0.0), axis=-2)


def masked_mean(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean of x [T, B] over valid entries, 0 if there is none; NaN in padding stays out."""
    return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def steps(tree: PyTree, index: slice) -> PyTree:
    """A slice of the leading time axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


class Utilities(NamedTuple):
    """Utilities of one batch, all [T, B, A]: of the actions taken, of the online greedy ones at the same step,
    and the target network's of the next step's selected actions.
    """

    taken: jax.Array
    greedy: jax.Array
    next: jax.Array


class Choices(NamedTuple):
    """Joint actions [T+1, B, A]: the online greedy ones, and those that targets value at each next step."""

    best: jax.Array
    selected: jax.Array


def choose(online: jax.Array, target: jax.Array, avail: jax.Array, double_q: bool) -> Choices:
    """Choices by online and target utilities [T+1, B, A, U].

    With double Q the online network selects the next action and the target network values it; else the target
    network does both.

    Source: Double DQN (van Hasselt et al., AAAI 2016).
    """
    best = greedy_actions(jax.lax.stop_gradient(online), avail)
    return Choices(best, best if double_q else greedy_actions(target, avail))


def select(online: jax.Array, target: jax.Array, batch: Batch, double_q: bool) -> Utilities:
    """Pick the utilities that a TD loss needs from online and target [T+1, B, A, U].

    The greedy values carry no gradient.
    """
    best, selected = choose(online, target, batch.view.avail, double_q)
    return Utilities(
        taken=take(online[:-1], batch.actions),
        greedy=take(jax.lax.stop_gradient(online[:-1]), best[:-1]),
        next=take(target[1:], selected[1:]),
    )


def lambda_returns(
    rewards: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    valid: jax.Array,
    gamma: float,
    lam: float,
) -> jax.Array:
    """Peng's Q(lambda) targets that know where each episode ends; lambda 0 is the one-step target exactly.

    G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) V_{t+1} + lambda G_{t+1}], and beyond the last valid step
    G is that step's V_{t+1}.

    rewards, next_values: float [T, B], next_values[t] values the state after step t. terminated, valid: bool
    [T, B]. Returns float [T, B], zero where not valid.

    Source: Q(lambda) of Peng and Williams (1996), without a cut of the traces, as in PyMARL2.
    """
    rewards = jnp.where(valid, rewards, 0.0)
    bootstrap = jnp.where(valid & ~terminated, next_values, 0.0)
    if lam == 0.0:
        return jnp.where(valid, rewards + gamma * bootstrap, 0.0)
    next_valid = jnp.concatenate([valid[1:], jnp.zeros_like(valid[:1])])

    def step(following: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, value, end, ok, next_ok = x
        following = jnp.where(next_ok, following, value)
        mixed = (1.0 - lam) * value + lam * jnp.where(end, 0.0, following)
        result = jnp.where(ok, reward + gamma * mixed, 0.0)
        return result, result

    start = jnp.zeros_like(rewards[0])
    inputs = (rewards, bootstrap, terminated, valid, next_valid)
    return jax.lax.scan(step, start, inputs, reverse=True)[1]


def targets(next_values: jax.Array, batch: Batch, returns: Returns) -> jax.Array:
    """The returns [T, B] of a batch from the values [T, B] after each step, without gradient."""
    return jax.lax.stop_gradient(
        lambda_returns(batch.reward, next_values, batch.terminated, batch.valid, returns.gamma, returns.td_lambda)
    )


def one_step(next_values: jax.Array, batch: Batch, returns: Returns) -> jax.Array:
    """`targets` with lambda 0."""
    return targets(next_values, batch, returns._replace(td_lambda=0.0))


def mixed_terms(inputs: TermInputs, returns: Returns, hyper: Hyper, mix: Mix) -> Terms:
    """TD terms of a monotone mix of utilities: mix(hyper(params, view), utilities).

    The maximum of Q_tot is exact: the mix of the greedy utilities.
    """
    batch = inputs.batch
    u = select(inputs.online.q, inputs.target.q, batch, returns.double_q)
    now = hyper(inputs.params, steps(batch.view, slice(None, -1)))
    following = hyper(inputs.target_params, steps(batch.view, slice(1, None)))
    return td_terms(mix(now, u.taken), mix(now, u.greedy), mix(following, u.next), batch, returns)


def td_terms(q_tot: jax.Array, q_tot_max: jax.Array, next_values: jax.Array, batch: Batch, returns: Returns) -> Terms:
    """Squared TD error of a joint value against the returns; q_tot, q_tot_max, next_values [T, B].

    Source: the TD loss of QMIX (ICML 2018), with the factor of PyMARL's learner.
    """
    target = targets(next_values, batch, returns)
    loss = returns.loss_factor * jnp.square(q_tot - target)
    return Terms(loss, q_tot, q_tot_max, target, one_step(next_values, batch, returns), jnp.zeros(()), {})
