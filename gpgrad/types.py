"""Records shared by the rooms of the package.

Axes in comments: B batch, E environments, T time, A agents, U actions, S seeds, H hidden units, N neurons of the
first layer, O observation size, D state size.
"""

from __future__ import annotations

import enum
from typing import Any, Literal, NamedTuple

import jax

from gpgrad.envs.api import EnvParams, EnvSpec, EnvState, View

PyTree = Any
Metrics = dict[str, jax.Array]
Init = Literal["torch", "flax"]  # initialisers


class Purpose(enum.IntEnum):
    """What a random key is for; folded into a seed's key so that streams never meet."""

    WORLD = 0
    PARAMS = 1
    ROLLOUT = 2
    SAMPLE = 3
    LOSS = 4
    ADAPT = 5
    EVALUATE = 6
    FINAL = 7
    WEIGHTING = 8
    FIT = 9


class Clock(NamedTuple):
    """Shared by all seeds and never vmapped, so that `lax.cond` and loop bounds on it stay real branches.

    int32 scalars: episodes collected, gradient steps taken, iterations (one collection each) per seed.
    """

    episodes: jax.Array
    updates: jax.Array
    iterations: jax.Array


class Episode(NamedTuple):
    """One episode, padded to T = episode_limit; a batch of them has leading axes [E] or [capacity].

    states: compact environment states [T+1, ...]; after the end the last one is repeated.
    actions: int8 [T, A]. reward: float32 [T]. terminated: bool [T], no bootstrap beyond this step.
    valid: bool [T], the step happened.
    """

    states: EnvState
    actions: jax.Array
    reward: jax.Array
    terminated: jax.Array
    valid: jax.Array


class Batch(NamedTuple):
    """Sampled episodes as the learner sees them, time first.

    view: obs float32 [T+1, B, A, O], avail bool [T+1, B, A, U], state [T+1, B, D] or OneHot.
    actions: int32 [T, B, A]. reward: float32 [T, B]. terminated, valid: bool [T, B].
    Where `valid` is false actions, reward and terminated may hold anything, NaN included; views must be finite, since
    they pass through the networks.
    """

    view: View
    actions: jax.Array
    reward: jax.Array
    terminated: jax.Array
    valid: jax.Array


class Transitions(NamedTuple):
    """Steps of episodes, drawn one by one.

    obs, next_obs: float32 [M, A, O]. actions: int32 [M, A]. reward: float32 [M].
    """

    obs: jax.Array
    actions: jax.Array
    next_obs: jax.Array
    reward: jax.Array


class NetSpec(NamedTuple):
    """Shape of the agent network.

    hidden: width of the dense layers and of the GRU. agent_id, last_action: one-hot inputs beside the
    observation. init: `torch` or `flax` initialisers. layers: dense layers before the GRU; after: between it and the
    head.
    """

    hidden: int = 64
    agent_id: bool = False
    last_action: bool = True
    init: Init = "torch"
    layers: int = 1
    after: int = 0


class Returns(NamedTuple):
    """How targets are made: discount, lambda, whether the online net selects the next action, loss factor."""

    gamma: float = 0.99
    td_lambda: float = 0.0
    double_q: bool = True
    loss_factor: float = 1.0


class Context(NamedTuple):
    """Arguments of every maker of a decomposition, sharing scheme or weighting. t_max: environment steps of a run."""

    spec: EnvSpec
    net: NetSpec
    returns: Returns
    t_max: int = 2**30


class AgentOut(NamedTuple):
    """An agent network's outputs; the leading axes are [T+1, B] in an unroll and [E] when acting.

    q: [..., A, U], or [..., A, U, width] of heads with several numbers for each action. hidden: [..., A, H].
    activation: first layer after its non-linearity and gate [..., A, N]. carry: what the next step needs.
    extra: what the head gives its decomposition besides q, leaves with the same leading axes. head_params: parameters
    of the head that its decomposition needs, without these axes.
    """

    q: jax.Array
    hidden: jax.Array
    activation: jax.Array
    carry: PyTree = None
    extra: PyTree = None
    head_params: PyTree = None


class TermInputs(NamedTuple):
    """What a decomposition computes its terms from.

    params, target_params: the decomposition's parameters, trained and target. online, target: the agents' outputs
    over T+1 steps, of the trained and of the target network. key: for terms that draw random numbers.
    """

    params: PyTree
    target_params: PyTree
    online: AgentOut
    target: AgentOut
    batch: Batch
    clock: Clock
    key: jax.Array


class Terms(NamedTuple):
    """What a decomposition says of a batch.

    loss: [T, B], the decomposition's own weights and factors inside. q_tot, q_tot_max, target: [T, B], the TD error
    is q_tot - target. one_step: [T, B], the target without lambda, which `target` equals where lambda is 0. aux: [],
    further losses, already averaged. log: scalars for the metrics. separate_optimiser: [] bool, the loss is of another
    kind and the decomposition's separate optimiser takes the step.
    aux and log must be means over valid steps, or linear in such means: devices that share a batch add up their parts.
    """

    loss: jax.Array
    q_tot: jax.Array
    q_tot_max: jax.Array
    target: jax.Array
    one_step: jax.Array
    aux: jax.Array
    log: Metrics
    separate_optimiser: jax.Array | bool = False


Gates = jax.Array | tuple[jax.Array | None, ...] | None  # [A, N] of the first layer, or one or none for each


class Signals(NamedTuple):
    """What a sharing scheme observes of a gradient step; steps of the separate optimiser are left out.

    gate_grads: [A, N], gradient of the loss on each agent's gate, scaled as the clipped gradient is; None without
    gates; shaped as the gates are.
    activity: [A, N], mean absolute activation over valid steps. td_loss: []. penalty_aux: pytree.
    """

    gate_grads: Gates
    activity: jax.Array
    td_loss: jax.Array
    penalty_aux: PyTree


class Params(NamedTuple):
    """Everything trained: the sharing scheme's agent parameters and the decomposition's."""

    agent: PyTree
    decomposition: PyTree


PATIENCE = 10  # updates in a row that are not finite until a seed counts as diverged


class Divergence(NamedTuple):
    """Whether a seed's updates are still finite; int32 scalars.

    streak: updates since the last finite one, 0 after a finite one; from `PATIENCE` on it only grows.
    env_steps: environment steps when the streak began; meaningless while there is none.
    """

    streak: jax.Array
    env_steps: jax.Array


class SeedState(NamedTuple):
    """The whole state of one seed of a run. `learning.program` adds a leading axis S to every leaf, nobody else does.

    env_steps: int32 [], environment steps of stored episodes. key: the seed's root key, constant.
    stats: sums since the last written row.
    """

    env_params: EnvParams
    params: Params
    target: Params
    opt_state: PyTree
    sharing: PyTree
    weighting: PyTree
    replay: Episode
    env_steps: jax.Array
    key: jax.Array
    stats: Metrics
    divergence: Divergence
