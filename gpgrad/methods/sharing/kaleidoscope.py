"""Kaleidoscope: one network with a learned mask for each agent (Li et al. 2024).

Every weight of the dense layers has a threshold per mask; what is below it is off, what is above it loses as much. A
penalty drives the masks apart, and weights that all masks hide are drawn anew now and then. GRU and biases are shared.

Axes in comments: A agents, M masks, D inputs, N outputs of a layer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.errors import SettingError
from gpgrad.methods.nets import layers
from gpgrad.methods.nets.agent import AgentParams
from gpgrad.methods.nets.layers import Dense
from gpgrad.methods.sharing.base import Sharing, own_key
from gpgrad.types import Clock, Context, Metrics, PyTree, Signals

NUMERICS = 3

WINDOW = 100  # updates over which the penalty is balanced against the TD loss
LOWEST, SPREAD = -10.0, 5.0  # of thresholds at the start, through a sigmoid


class Params(NamedTuple):
    """net: an agent network that all share. thresholds: [M, D, N] for each of its dense layers."""

    net: AgentParams
    thresholds: tuple[jax.Array, ...]


class State(NamedTuple):
    """td_losses, diversity: float32 [WINDOW], of the last updates, newest first, zeros at the start. intervals: int32
    [], those between resets that have passed. reset: int32 [], weights drawn anew so far.
    """

    td_losses: jax.Array
    diversity: jax.Array
    intervals: jax.Array
    reset: jax.Array


def make(
    context: Context,
    masks: int | None = None,
    diversity: float = 0.5,
    reset_steps: int = 200_000,
    reset_ratio: float = 0.1,
) -> Sharing:
    """Kaleidoscope with the published settings for MPE; those for SMAC are diversity 5, 1M steps, ratio 0.2.

    masks: how many, dealt to the agents in turn; one for each by default. diversity: the penalty's weight, at which
    it is as large as that share of the TD loss. reset_steps: full-length steps between resets, which wait for the next
    copy of the target network; none in the last interval of a run, where episodes end at their limit: elsewhere its
    end cannot be foreseen. reset_ratio: share of the hidden weights drawn anew.

    Embeddings of quantile fractions and the lagging path of RMIX have no masks.

    Source: Kaleidoscope (NeurIPS 2024).
    """
    spec = context.spec
    count = spec.n_agents if masks is None else masks
    _check(spec.n_agents, count, diversity, reset_steps, reset_ratio)
    owner = np.arange(spec.n_agents) % count
    every = max(1, -(-reset_steps // spec.episode_limit))
    last = math.inf if spec.ends_early else context.t_max // spec.episode_limit - every  # episodes, for a reset

    def init(key: jax.Array, agent_params: Callable[[jax.Array], AgentParams]) -> tuple[Params, State]:
        net = agent_params(key)
        dense = dense_layers(net)
        keys = jax.random.split(own_key(key), len(dense))
        thresholds = [new_thresholds(k, (count, *d["kernel"].shape)) for k, d in zip(keys, dense, strict=True)]
        return Params(net, tuple(thresholds)), begin()

    def per_agent_params(params: Params, state: State) -> AgentParams:
        del state

        def seen(layer: Dense, thresholds: jax.Array) -> Dense:
            kernel = effective(layer["kernel"], thresholds)
            return {"kernel": kernel[0] if count == 1 else kernel[owner], "bias": layer["bias"]}

        pairs = zip(dense_layers(params.net), params.thresholds, strict=True)
        return with_dense_layers(params.net, [seen(*pair) for pair in pairs])

    def observe(state: State, signals: Signals) -> State:
        return push(state, signals.td_loss, signals.penalty_aux)

    def adapt(
        key: jax.Array, clock: Clock, params: Params, moments: list[Params], state: State
    ) -> tuple[Params, list[Params], State]:
        intervals = clock.episodes // every
        due = (intervals > state.intervals) & (clock.episodes < last)
        params, drawn = redraw(key, params, jnp.where(due, reset_ratio, 0.0), context.net.init)
        return params, moments, state._replace(intervals=intervals, reset=state.reset + drawn)

    return Sharing(
        net=context.net,
        init=init,
        per_agent_params=per_agent_params,
        penalty=partial(_penalty, diversity),
        observe=observe,
        adapt=adapt,
        report=_report,
        restart=lambda state: begin(),
    )


@functools.wraps(make, assigned=("__annotations__",))
def make_deep(context: Context, **settings: Any) -> Sharing:
    """Kaleidoscope on the network it was published with: two more layers between GRU and head.

    Source: Kaleidoscope (NeurIPS 2024), network 1R3 of its code.
    """
    return make(context._replace(net=context.net._replace(after=2)), **settings)


def _penalty(
    diversity: float, params: Params, state: State, td_loss: jax.Array, separate_optimiser: jax.Array | bool
) -> tuple[jax.Array, PyTree]:
    """The balanced diversity loss, and its value for the window."""
    kernels = [layer["kernel"] for layer in dense_layers(params.net)]
    loss = diversity_loss(kernels, params.thresholds)
    value = jax.lax.stop_gradient(loss)
    # As in the published code, the current update is in the window already when its penalty is balanced.
    pushed = push(state, td_loss, value)
    weight = jnp.where(separate_optimiser, balance(state, diversity), balance(pushed, diversity))
    return weight * loss, value


def _report(params: Params, state: State) -> Metrics:
    """Percentages of weights that masks hide, and the weights drawn anew so far."""
    kernels, count = [layer["kernel"] for layer in dense_layers(params.net)], params.thresholds[0].shape[0]
    shown = [mask(w, s).reshape(count, -1) for w, s in zip(kernels, params.thresholds, strict=True)]
    live = jnp.concatenate(shown, axis=1)  # [M, all weights]
    most, least = live.max(0), live.min(0)
    return {
        "masked": 100 * (1 - live.mean()),
        "masked_by_all": 100 * (most == 0).mean(),
        "masked_by_some": 100 * (most > least).mean(),
        "reset_weights": state.reset,
    }


def _check(n_agents: int, masks: int, diversity: float, reset_steps: int, reset_ratio: float) -> None:
    """Raise SettingError for values that are not allowed."""
    if not 1 <= masks <= n_agents:
        raise SettingError(
            f"sharing.masks must be between 1 and the number of agents, {n_agents}, or none (got {masks})"
        )
    if diversity < 0:
        raise SettingError(f"sharing.diversity must be at least 0 (got {diversity})")
    if reset_steps < 1:
        raise SettingError(f"sharing.reset_steps must be at least 1 (got {reset_steps})")
    if not 0 <= reset_ratio <= 1:
        raise SettingError(f"sharing.reset_ratio must be between 0 and 1 (got {reset_ratio})")


def begin() -> State:
    """Nothing seen, nothing reset."""
    none = jnp.zeros(WINDOW)
    return State(none, none, jnp.int32(0), jnp.int32(0))


def dense_layers(net: AgentParams) -> list[Dense]:
    """The layers that are masked, from the input on."""
    return [net.fc1, *net.deep, *net.after, net.head]


def with_dense_layers(net: AgentParams, dense: list[Dense]) -> AgentParams:
    """The network with those layers exchanged."""
    deep, after = dense[1 : 1 + len(net.deep)], dense[1 + len(net.deep) : -1]
    return net._replace(fc1=dense[0], deep=tuple(deep), after=tuple(after), head=dense[-1])


def new_thresholds(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """So low that at first next to nothing is hidden."""
    return jax.random.uniform(key, shape, jnp.float32, LOWEST, LOWEST + SPREAD)


def effective(kernel: jax.Array, thresholds: jax.Array) -> jax.Array:
    """Weights under each mask, sign(w) relu(|w| - sigmoid(s)): kernel [D, N] and thresholds [M, D, N] to [M, D, N].

    Source: Kaleidoscope (NeurIPS 2024), masked weights by soft thresholds.
    """
    return jnp.sign(kernel) * jax.nn.relu(jnp.abs(kernel) - jax.nn.sigmoid(thresholds))


def mask(kernel: jax.Array, thresholds: jax.Array) -> jax.Array:
    """Ones for the weights that each mask shows, float32 [M, D, N]; straight through to the thresholds.

    Source: Kaleidoscope (NeurIPS 2024), the masks of the diversity loss.
    """
    return step(jax.lax.stop_gradient(jnp.abs(kernel)) - jax.nn.sigmoid(thresholds))


@jax.custom_vjp
def step(x: jax.Array) -> jax.Array:
    """One where x is positive, else zero; the backward pass gives the tanh of the incoming gradient.

    A step has no useful derivative; the straight-through estimator passes the gradient on, bounded by tanh.

    Source: Kaleidoscope (NeurIPS 2024), the straight-through estimator of its code.
    """
    return (x > 0).astype(x.dtype)


step.defvjp(lambda x: (step(x), None), lambda _, d: (jnp.tanh(d),))


def diversity_loss(kernels: list[jax.Array], thresholds: tuple[jax.Array, ...]) -> jax.Array:
    """-1 / (M (M - 1) P) sum over layers l of 2^l sum over pairs of masks || (m_i - m_j) |w| ||_1, P all weights.

    0 for a single mask.

    Source: Kaleidoscope (NeurIPS 2024), diversity regularisation, with the layer weights of its code.
    """
    count, size = thresholds[0].shape[0], sum(w.size for w in kernels)
    total = jnp.zeros(())
    for index, (kernel, s) in enumerate(zip(kernels, thresholds, strict=True)):
        differing = _differences(mask(kernel, s))
        total += 2**index * (jax.lax.stop_gradient(jnp.abs(kernel)) * differing).sum()
    return -total / (max(count * (count - 1), 1) * size)


def _differences(masks: jax.Array) -> jax.Array:
    """Sum over ordered pairs of |m_i - m_j| for masks of zeros and ones [M, D, N], and its derivative: [D, N].

    The sum over ordered pairs of (m_i - m_j)^2 is 2 (M sum m^2 - (sum m)^2), without a loop over pairs. For zeros and
    ones it equals the sum of |m_i - m_j|, but its derivative is twice as large: half of it has the right derivative,
    and the constant other half restores the value.
    """
    count = masks.shape[0]
    half = count * jnp.square(masks).sum(0) - jnp.square(masks.sum(0))
    return half + jax.lax.stop_gradient(half)


def push(state: State, td_loss: jax.Array, diversity: jax.Array) -> State:
    """The state with one more update's losses, float32 [] each, in its windows."""

    def first(new: jax.Array, window: jax.Array) -> jax.Array:
        return jnp.concatenate([jax.lax.stop_gradient(new)[None], window[:-1]])

    return state._replace(td_losses=first(td_loss, state.td_losses), diversity=first(diversity, state.diversity))


def balance(state: State, diversity: float) -> jax.Array:
    """The penalty's weight: |diversity * mean TD loss / mean diversity loss| over the window, `diversity` at 0 / 0.

    Source: Kaleidoscope (NeurIPS 2024), the adaptive coefficient of its code.
    """
    td, spread = state.td_losses.mean(), state.diversity.mean()
    return jnp.where(spread == 0, diversity, jnp.abs(diversity * td / jnp.where(spread == 0, 1.0, spread)))


def redraw(key: jax.Array, params: Params, ratio: jax.Array, init: layers.Init) -> tuple[Params, jax.Array]:
    """Draw weights that all masks hide anew with a probability, thresholds too, but none in the first layer; count.

    Source: Kaleidoscope (NeurIPS 2024), the resetting mechanism.
    """
    dense, thresholds, count = dense_layers(params.net), list(params.thresholds), jnp.int32(0)
    for index in range(1, len(dense)):
        k_which, k_weights, k_thresholds = jax.random.split(jax.random.fold_in(key, index), 3)
        kernel, s = dense[index]["kernel"], thresholds[index]
        hidden = mask(kernel, s).max(0) == 0
        drawn = hidden & jax.random.bernoulli(k_which, ratio, kernel.shape)
        n_in, n_out = kernel.shape
        fresh = layers.init_dense(k_weights, n_in, n_out, init)["kernel"]
        dense[index] = {"kernel": jnp.where(drawn, fresh, kernel), "bias": dense[index]["bias"]}
        thresholds[index] = jnp.where(drawn, new_thresholds(k_thresholds, s.shape), s)
        count += drawn.sum()
    return Params(with_dense_layers(params.net, dense), tuple(thresholds)), count
