"""GradPS: futile neurons are cloned, one clone for each group of agents with little gradient conflict (ICML 2025).

Each target-update period adds up, per agent and neuron, the gradient on a gate of ones behind the activation. A
neuron that loses most of what its agents ask for is futile: the agents are grouped by conflict, and each group gets a
clone of the neuron's incoming weights. Now and then clones that are alike are drawn together and merged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, get_type_hints

import jax
import jax.numpy as jnp

from gpgrad.methods.nets.agent import AgentParams
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.sharing.gradps import clones
from gpgrad.methods.sharing.gradps import layer as gradps_layer
from gpgrad.methods.sharing.gradps.clones import layer_of, restore_penalty, with_layer
from gpgrad.methods.sharing.gradps.conflict import neuron_conflict, neuron_efficiency
from gpgrad.methods.sharing.gradps.layer import LayerState
from gpgrad.methods.sharing.gradps.lifecycle import RESTORING
from gpgrad.methods.sharing.gradps.settings import Settings, check
from gpgrad.types import Clock, Context, Metrics, PyTree, Signals

NUMERICS = 3

__all__ = ["make", "neuron_conflict", "neuron_efficiency", "restore_penalty"]

DORMANT = 0.1  # activity over the layer's mean


class State(NamedTuple):
    """layers: a LayerState each. periods: [], full ones so far. roles: int32 [A]. activity: [N], sum over the period
    at hand of the first layer's mean absolute activations; dormant: [], percentage in the last full period.
    """

    layers: tuple[LayerState, ...]
    periods: jax.Array
    roles: jax.Array
    activity: jax.Array
    dormant: jax.Array


def build(context: Context, settings: Settings) -> Sharing:
    """The scheme for checked settings.

    The gates are ones behind the activation: the gradient on them is the neuron gradient of Def. 2 (Appendix C.2).

    Source: GradPS (ICML 2025), Def. 2, Algorithm 1, Algorithm 2.
    """
    n_agents, width, depth = context.spec.n_agents, context.net.hidden, context.net.layers
    k = min(settings.k, n_agents)
    ones = tuple(jnp.ones((n_agents, width)) if i in settings.layers else None for i in range(depth))

    def init(key: jax.Array, agent_params: Callable[[jax.Array], AgentParams]) -> tuple[AgentParams, State]:
        params = agent_params(key)
        for index in settings.layers:
            cloned = clones.slots(layer_of(params, index), k, settings.clone_bias)
            params = with_layer(params, index, cloned)
        layers = tuple(gradps_layer.start(settings.T, n_agents, width) for _ in settings.layers)
        return params, begin(layers, jnp.zeros(n_agents, jnp.int32))

    def begin(layers: tuple[LayerState, ...], roles: jax.Array) -> State:
        return State(layers, jnp.int32(0), roles, jnp.zeros(width), jnp.full((), jnp.nan))

    def per_agent_params(params: AgentParams, state: State) -> AgentParams:
        for index, layer in zip(settings.layers, state.layers, strict=True):
            params = with_layer(params, index, clones.gather(layer_of(params, index), layer.life.assign))
        return params

    def observe(state: State, signals: Signals) -> State:
        grads = signals.gate_grads
        gates: tuple[Any, ...] = grads if isinstance(grads, tuple) else (grads,)
        layers = tuple(
            layer._replace(total=layer.total + jnp.asarray(gates[index]))
            for index, layer in zip(settings.layers, state.layers, strict=True)
        )
        return state._replace(layers=layers, activity=state.activity + signals.activity.mean(0))

    return Sharing(
        net=context.net,
        init=init,
        per_agent_params=per_agent_params,
        gates=lambda state: ones[0] if depth == 1 else ones,
        observe=observe,
        after_step=partial(_restore, settings, k),
        adapt=partial(_adapt, settings, k),
        report=partial(_report, settings),
        needs_roles=settings.groups == "roles",
        set_roles=lambda state, roles: state._replace(roles=roles),
        restart=lambda state: begin(tuple(map(gradps_layer.restart, state.layers)), state.roles),
    )


def _restore(settings: Settings, k: int, params: AgentParams, state: State) -> AgentParams:
    """Clones that are being restored, drawn a step closer to each other."""
    if settings.rho == 0 or settings.restore_lr == 0 or k == 1:
        return params
    for index, layer in zip(settings.layers, state.layers, strict=True):
        restoring = layer.life.status == RESTORING
        drawn = clones.pull(
            layer_of(params, index), layer.life.assign, restoring, settings.restore_lr, settings.restore_loss
        )
        params = with_layer(params, index, drawn)
    return params


def _adapt(
    settings: Settings,
    k: int,
    key: jax.Array,
    clock: Clock,
    params: AgentParams,
    moments: list[AgentParams],
    state: State,
) -> tuple[AgentParams, list[AgentParams], State]:
    """The end of a period in every watched layer, and the percentage of dormant neurons in it."""
    periods, layers = state.periods + 1, []
    for index, layer in zip(settings.layers, state.layers, strict=True):
        trees = [layer_of(tree, index) for tree in (params, *moments)]
        trees, layer = gradps_layer.end_period(
            jax.random.fold_in(key, index), settings, k, trees, layer, periods, clock.episodes, state.roles
        )
        layers.append(layer)
        params, *moments = (with_layer(tree, index, new) for tree, new in zip((params, *moments), trees, strict=True))
    score = state.activity / jnp.maximum(state.activity.mean(), 1e-9)
    dormant = 100 * (score <= DORMANT).mean()
    return params, moments, State(tuple(layers), periods, state.roles, jnp.zeros_like(state.activity), dormant)


def _report(settings: Settings, params: AgentParams, state: State) -> Metrics:
    metrics = {"dormant": state.dormant, "effective_params": _effective(params, settings.layers, state)}
    for index, layer in zip(settings.layers, state.layers, strict=True):
        suffix = "" if index == settings.layers[0] else f"_{index}"
        metrics |= {f"{name}{suffix}": value for name, value in gradps_layer.describe(settings, layer).items()}
    return metrics


def _effective(params: PyTree, layers: tuple[int, ...], state: State) -> jax.Array:
    """Agent parameters without the clones that no agent uses."""
    total = jnp.int32(sum(leaf.size for leaf in jax.tree.leaves(params)))
    for index, layer in zip(layers, state.layers, strict=True):
        kernel, bias = layer_of(params, index)["kernel"], layer_of(params, index)["bias"]
        idle = (~clones.used(layer.life.assign, kernel.shape[0])).sum()
        total -= idle * (kernel.shape[1] + (bias.ndim == 2))
    return total


class MakeSharing(Protocol):
    """A maker with the settings of `Settings`."""

    def __call__(self, context: Context, **options: Any) -> Sharing:
        """The scheme. Raises SettingError for settings that cannot be."""
        ...


def variant(summary: str, **defaults: Any) -> MakeSharing:
    """A maker whose settings and their descriptions are those of `Settings`, with other defaults."""
    base = Settings(**defaults)

    def make(context: Context, **options: Any) -> Sharing:
        settings = base._replace(**options)
        check(context.net, settings)
        return build(context, settings)

    kind = inspect.Parameter.KEYWORD_ONLY
    listed = [inspect.Parameter(name, kind, default=value) for name, value in base._asdict().items()]
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    make.__signature__ = inspect.Signature([first, *listed])  # type: ignore[attr-defined]
    make.__annotations__ = {"context": Context, **get_type_hints(Settings)}
    make.__doc__ = f"{summary}\n\n{inspect.getdoc(Settings)}"
    return make


make = variant("GradPS (ICML 2025), with the paper's values for SMAC.")
as_printed = variant("GradPS with the Laplacian that the paper prints (Appendix C.3).", laplacian="unnormalised")
as_released = variant(
    "GradPS with the choices of the released code, whose clones are never restored.",
    threshold="rel_mean",
    labels="discretize",
    clone_bias=False,
    copy_moments=False,
    rho=0.0,
    restore_by="variance_over_age",
    restore_loss="l2",
    restore_lr=0.0,
    close_below=0.0,
)
with_random_groups = variant("A control for GradPS: groups of the same sizes, agents dealt at random.", groups="random")
with_roles = variant("A control for GradPS: groups are the hidden roles of the environment.", groups="roles")
