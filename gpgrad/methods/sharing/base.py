"""The interface of parameter-sharing schemes: how trained parameters become each agent's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gpgrad.types import Clock, Gates, Metrics, NetSpec, PyTree, Signals, Transitions


def _no_gates(state: PyTree) -> None:
    del state


def _no_penalty(
    params: PyTree, state: PyTree, td_loss: jax.Array, separate_optimiser: jax.Array | bool
) -> tuple[jax.Array, PyTree]:
    del params, state, td_loss, separate_optimiser
    return jnp.zeros(()), ()


def _keep_state(state: PyTree, signals: Signals) -> PyTree:
    del signals
    return state


def _keep_params(params: PyTree, state: PyTree) -> PyTree:
    del state
    return params


def _no_adaptation(
    key: jax.Array, clock: Clock, params: PyTree, moments: list[PyTree], state: PyTree
) -> tuple[PyTree, list[PyTree], PyTree]:
    del key, clock
    return params, moments, state


def _keep_secret(state: PyTree, roles: jax.Array) -> PyTree:
    del roles
    return state


def _keep_learned(state: PyTree) -> PyTree:
    return state


def _no_report(params: PyTree, state: PyTree) -> Metrics:
    del params, state
    return {}


def own_key(key: jax.Array) -> jax.Array:
    """For what a scheme draws itself: apart from all that `agent_params(key)` draws, whose keys are counted from 0."""
    return jax.random.fold_in(key, 2**16)


Draw = Callable[[jax.Array, int], Transitions]  # draw(key, count): random steps of stored episodes
Adapted = tuple[PyTree, list[PyTree], PyTree]  # agent parameters, the optimiser's moments of them, sharing state


class Adapt(Protocol):
    """What a scheme does when the target network is copied."""

    def __call__(self, key: jax.Array, clock: Clock, params: PyTree, moments: list[PyTree], state: PyTree) -> Adapted:
        """The same three, changed. moments: the optimiser's slots of the shape of params."""
        ...


class RunFit(Protocol):
    """What a scheme does once, after the first episodes."""

    def __call__(self, key: jax.Array, params: PyTree, moments: list[PyTree], state: PyTree, draw: Draw) -> Adapted:
        """The same three, changed, from random steps of the first episodes."""
        ...


class Fit(NamedTuple):
    """A step of the scheme once, after the first episodes have been collected.

    episodes: how many; the replay must hold them. run(key, params, moments, state, draw) -> (params, moments, state),
    where draw(key, count) -> Transitions are random steps of them. The target network is copied afterwards.
    """

    episodes: int
    run: RunFit


class Sharing(NamedTuple):
    """A sharing scheme. Shapes define what is shared: a leaf of the agent's parameters with a leading axis A is
    per agent. The networks know nothing else of the scheme.

    net: the network's shape as the scheme needs it.
    init(key, agent_params) -> (params, state), from one agent's freshly initialised parameters and their
        initialiser `agent_params(key)`; for anything else there is `own_key(key)`.
    per_agent_params(params, state) -> agent parameters, the trained ones arranged for the network.
    gates(state) -> float32 [A, N] or None, multiplied to the first activation in training and acting alike; or a
        tuple with one of these for each dense layer before the GRU.
    penalty(params, state, td_loss float32 [], separate_optimiser bool []) -> (float32 [], aux), added to the loss.
        td_loss: of the current update, without gradient. separate_optimiser: `Terms.separate_optimiser`; the td_loss is
        then of another kind.
    observe(state, Signals) -> state, after every gradient step.
    after_step(params, state) -> params, after the optimiser in every gradient step.
    adapt(key, clock, params, moments, state) -> (params, moments, state), when the target network is copied;
        moments are the optimiser's slots of the shape of params.
    report(params, state) -> metrics for the rows of a test; `effective_params` is the number of agent parameters in
        use where that is not all of them.
    set_roles(state, roles int32 [A]) -> state, after `init`: the agents' hidden roles, for controls that may know them.
    restart(state) -> state, for training a finished run's team further: the assignment of parameters to agents stays,
        windows, counters and schedules start from zero.
    needs_roles: the scheme works only in environments with hidden roles.
    fit: what happens once after the first episodes, or None.
    """

    net: NetSpec
    init: Callable[[jax.Array, Callable[[jax.Array], PyTree]], tuple[PyTree, PyTree]]
    per_agent_params: Callable[[PyTree, PyTree], PyTree]
    gates: Callable[[PyTree], Gates] = _no_gates
    penalty: Callable[[PyTree, PyTree, jax.Array, jax.Array | bool], tuple[jax.Array, PyTree]] = _no_penalty
    observe: Callable[[PyTree, Signals], PyTree] = _keep_state
    after_step: Callable[[PyTree, PyTree], PyTree] = _keep_params
    adapt: Adapt = _no_adaptation
    report: Callable[[PyTree, PyTree], Metrics] = _no_report
    set_roles: Callable[[PyTree, jax.Array], PyTree] = _keep_secret
    restart: Callable[[PyTree], PyTree] = _keep_learned
    needs_roles: bool = False
    fit: Fit | None = None
