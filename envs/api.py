"""The environment interface.

An environment is a set of pure functions over an explicit, compact state: a single environment without auto-reset or
hidden randomness. `jax.vmap` runs many in parallel.

Axes in comments: A agents, U actions, O observation size, D state size, M ones in a one-hot state.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from gpgrad.errors import SettingError

__all__ = ["Env", "EnvParams", "EnvSpec", "EnvState", "OneHot", "SettingError", "Step", "View"]

EnvParams = Any  # pytree: sampled once per run; may differ between seeds
EnvState = Any  # pytree: changes in every step; small integers, because the replay stores it


class EnvSpec(NamedTuple):
    """Static sizes and rules of an environment.

    name: the registered name.
    n_agents, n_actions: number of agents, and of actions per agent.
    obs_dim, state_dim: floats in each agent's observation and in the global state.
    own_state_dim: the first `n_agents * own_state_dim` entries of the state describe the agents; 0: none do.
    episode_limit: steps after which an episode is truncated.
    limit_is_terminal: whether the limit counts as terminal for the learner (no bootstrap), as in PyMARL's SMAC.
    has_win: whether `Step.info` has a boolean `won`.
    return_scale: the largest return that can be expected, for settings in units of reward.
    ends_early: whether most episodes end long before the limit, so that stopping early saves time.
    obs_sizes, action_counts: sizes of each agent if they differ. Observations are padded with zeros to `obs_dim`,
        actions with unavailable ones to `n_actions`. Empty: all agents have the full sizes.
    """

    name: str
    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int
    own_state_dim: int
    episode_limit: int
    limit_is_terminal: bool = False
    has_win: bool = False
    return_scale: float = 1.0
    ends_early: bool = False
    obs_sizes: tuple[int, ...] = ()
    action_counts: tuple[int, ...] = ()


@partial(jax.tree_util.register_dataclass, data_fields=["index"], meta_fields=["size"])
@dataclasses.dataclass(frozen=True)
class OneHot:
    """A 0/1 vector stored as the positions of its ones.

    index: integers [..., M], distinct; positions outside 0..size-1 are ignored.
    size: length D of the vector.
    """

    index: jax.Array
    size: int

    def dense(self) -> jax.Array:
        """The dense vector, float32 [..., D]."""
        present = (self.index >= 0) & (self.index < self.size)
        index = jnp.where(present, self.index, self.size).astype(jnp.int32)

        def scatter(positions: jax.Array) -> jax.Array:
            return jnp.zeros(self.size, jnp.float32).at[positions].set(1.0, mode="drop")

        flat = jax.vmap(scatter)(index.reshape(-1, index.shape[-1]))
        return flat.reshape(*index.shape[:-1], self.size)


class View(NamedTuple):
    """Inputs of agents and critics, computed from a state.

    obs: float32 [A, O], observations. avail: bool [A, U], available actions, at least one per agent. state: float32 [D]
    or a OneHot, the global state.
    """

    obs: jax.Array
    avail: jax.Array
    state: jax.Array | OneHot


class Step(NamedTuple):
    """The result of one joint action.

    state: the next state.
    reward: float32 [], of the team.
    terminated: bool [], a terminal state was reached, also at the last step before the limit.
    truncated: bool [], the time limit was reached in a state that is not terminal.
    info: dict of arrays of fixed shapes, summed over each episode in tests; `won` is true only at the winning step.
    """

    state: EnvState
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: dict[str, jax.Array]


class Roles(Protocol):
    """An environment's optional `roles`: which of its agents are of which kind, where that is hidden from them."""

    def __call__(self, params: EnvParams, /) -> jax.Array:
        """Each agent's role, int32 [A]."""
        ...


class Payoff(Protocol):
    """The optional `payoff` of a game of one step."""

    def __call__(self, params: EnvParams, /) -> jax.Array:
        """The reward of every joint action, float32 [U] * A."""
        ...


Paths = dict[str, tuple[tuple[int, ...], ...]]  # joint actions that lead to each node of a game, by the node's name


def roles_of(env: Env) -> Roles | None:
    """The environment's roles, None where it has none."""
    return getattr(env, "roles", None)


def payoff_of(env: Env) -> Payoff | None:
    """The environment's payoff table, None where it has none."""
    return getattr(env, "payoff", None)


def paths_of(env: Env) -> Paths | None:
    """The nodes of a game of a few steps and how they are reached, None where the environment names none."""
    return getattr(env, "paths", None)


@runtime_checkable
class Env(Protocol):
    """An environment as pure functions, which work under `jax.jit` and `jax.vmap`."""

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        ...

    def params(self, key: jax.Array) -> EnvParams:
        """Parameters sampled once per run, shared by training and tests."""
        ...

    def reset(self, key: jax.Array, params: EnvParams) -> EnvState:
        """An initial state."""
        ...

    def step(self, key: jax.Array, params: EnvParams, state: EnvState, actions: jax.Array) -> Step:
        """One step with integer actions [A]. Does not reset: the final state is kept."""
        ...

    def view(self, params: EnvParams, state: EnvState) -> View:
        """Observations, available actions and global state, a pure function of the state."""
        ...
