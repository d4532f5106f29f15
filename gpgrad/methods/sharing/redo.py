"""ReDo: dormant neurons are reinitialised (Sokar et al. 2023), under full sharing.

Futile and dormant neurons are measured as in GradPS with a single clone, so that they can be drawn beside the other
methods.

Axes in comments: A agents, D inputs, N neurons of the first layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.errors import SettingError
from gpgrad.methods.nets import gru, layers
from gpgrad.methods.nets.agent import AgentParams
from gpgrad.methods.nets.layers import Dense
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.sharing.gradps import scheme
from gpgrad.types import Clock, Context, Metrics

NUMERICS = 1

REPORTED = ("dormant", "futile", "futile_chance", "efficiency")


class State(NamedTuple):
    """watched: of the neurons. intervals: int32 [], of updates that have passed. recycled: int32 [], neurons so far."""

    watched: scheme.State
    intervals: jax.Array
    recycled: jax.Array


def make(context: Context, tau: float = 0.1, every_updates: int = 1000, T: int = 20, alpha: float = 0.2) -> Sharing:
    """At the first copy of the target network after every so many updates, dormant neurons of the first layer start
    anew: incoming weights and bias redrawn, outgoing weights zero, so that no output jumps; optimiser slots zero.

    every_updates: gradient steps between searches for dormant neurons.
    tau: a neuron is dormant whose mean activity over the target-update period is at most this share of the layer's.
    T, alpha: window and level of the futile neurons reported, as in `gradps`.

    Source: ReDo (ICML 2023).
    """
    if not 0 <= tau < 1:
        raise SettingError(f"sharing.tau must be at least 0 and less than 1 (got {tau})")
    if every_updates < 1:
        raise SettingError(f"sharing.every_updates must be at least 1 (got {every_updates})")
    watch, width, init_name = scheme.make(context, k=1, T=T, alpha=alpha), context.net.hidden, context.net.init

    def init(key: jax.Array, agent_params: Callable[[jax.Array], AgentParams]) -> tuple[AgentParams, State]:
        params, watched = watch.init(key, agent_params)
        return params, State(watched, jnp.int32(0), jnp.int32(0))

    def adapt(
        key: jax.Array, clock: Clock, params: AgentParams, moments: list[AgentParams], state: State
    ) -> tuple[AgentParams, list[AgentParams], State]:
        intervals = clock.updates // every_updates
        dead = (dormancy(state.watched.activity) <= tau) & (intervals > state.intervals)
        k_watch, k_new = jax.random.split(key)
        params, moments, watched = watch.adapt(k_watch, clock, params, moments, state.watched)
        kernel = params.fc1["kernel"]
        new = layers.init_dense(k_new, kernel.shape[-2], width, init_name)
        nothing = jax.tree.map(jnp.zeros_like, new)
        moments = [recycle(slots, nothing, dead) for slots in moments]
        return recycle(params, new, dead), moments, State(watched, intervals, state.recycled + dead.sum())

    def report(params: AgentParams, state: State) -> Metrics:
        metrics = watch.report(params, state.watched)
        return {name: metrics[name] for name in REPORTED} | {"recycled": state.recycled}

    return watch._replace(
        init=init,
        per_agent_params=lambda params, state: watch.per_agent_params(params, state.watched),
        gates=lambda state: watch.gates(state.watched),
        observe=lambda state, signals: state._replace(watched=watch.observe(state.watched, signals)),
        after_step=lambda params, state: params,
        adapt=adapt,
        report=report,
        set_roles=lambda state, roles: state,
        restart=lambda state: State(watch.restart(state.watched), jnp.int32(0), jnp.int32(0)),
    )


def dormancy(activity: jax.Array) -> jax.Array:
    """Every neuron's mean activity [N] as a share of the layer's mean.

    Source: ReDo (ICML 2023), the score of tau-dormant neurons.
    """
    return activity / jnp.maximum(activity.mean(), 1e-9)


def recycle(tree: AgentParams, new: Dense, dead: jax.Array) -> AgentParams:
    """The first layer's neurons that `dead` bool [N] marks with new weights into them and zeros out of them.

    Source: ReDo (ICML 2023): incoming weights are reinitialised, outgoing weights become 0.
    """
    fc1: Dense = {
        "kernel": jnp.where(dead, new["kernel"], tree.fc1["kernel"]),
        "bias": jnp.where(dead, new["bias"], tree.fc1["bias"]),
    }
    tree = tree._replace(fc1=fc1)

    def cut(kernel: jax.Array) -> jax.Array:  # [N, H]
        return jnp.where(dead[:, None], 0.0, kernel)

    if tree.deep:
        following, *rest = tree.deep
        layer: Dense = {"kernel": cut(following["kernel"]), "bias": following["bias"]}
        return tree._replace(deep=(layer, *rest))
    return tree._replace(gru=tree.gru._replace(w_in=gru.Gates(*map(cut, tree.gru.w_in))))
