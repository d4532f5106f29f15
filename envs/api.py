"""The contract between worlds and everything that learns in them.

A world is a record of pure functions over an explicit, compact, integer state: one world, no auto-reset,
no hidden randomness. `jax.vmap` makes many of it. This file imports nothing of gpgrad.

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

EnvParams = Any  # pytree: what is drawn once per run and may differ between seeds
EnvState = Any  # pytree: what changes in a step; small integers, because replay stores it


class EnvSpec(NamedTuple):
    """Static sizes and rules of a world.

    obs_dim, state_dim: floats per agent's observation and in the global state.
    own_state_dim: the state's leading `n_agents * own_state_dim` entries describe the agents; 0: none do.
    episode_limit: steps after which an episode is cut.
    limit_is_terminal: whether the cut counts as a true end (no bootstrap).
    has_win: whether `Step.info` holds a boolean `won`.
    return_scale: the largest return that can be expected, for settings in reward units.
    ends_early: whether episodes mostly end long before the limit, so that stopping there pays.
    obs_sizes, action_counts: each agent's own, where they differ; observations are padded with zeros to `obs_dim`,
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
    """A 0/1 vector kept as the positions of its ones.

    index: integers [..., M]; a position outside 0..size-1 is absent. Present positions are distinct.
    size: length D of the vector.
    """

    index: jax.Array
    size: int

    def dense(self) -> jax.Array:
        """The vector itself, float32 [..., D]."""
        present = (self.index >= 0) & (self.index < self.size)
        index = jnp.where(present, self.index, self.size).astype(jnp.int32)

        def scatter(positions: jax.Array) -> jax.Array:
            return jnp.zeros(self.size, jnp.float32).at[positions].set(1.0, mode="drop")

        flat = jax.vmap(scatter)(index.reshape(-1, index.shape[-1]))
        return flat.reshape(*index.shape[:-1], self.size)


class View(NamedTuple):
    """What agents and critics see of a state.

    obs: float32 [A, O]. avail: bool [A, U], never empty for an agent. state: float32 [D] or a OneHot of it.
    """

    obs: jax.Array
    avail: jax.Array
    state: jax.Array | OneHot


class Step(NamedTuple):
    """The outcome of one joint action.

    reward: float32 [], the team's. terminated: bool [], the game truly ended, also when that happens on the
    last allowed step. truncated: bool [], the time limit cut a game that could go on. info: dict of arrays of
    fixed shapes, summed over an episode in evaluation; `won` is true on the winning step alone.
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
    """One world as pure functions; all of them work under `jax.jit` and `jax.vmap`."""

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        ...

    def params(self, key: jax.Array) -> EnvParams:
        """What is drawn once per run, shared by training and tests."""
        ...

    def reset(self, key: jax.Array, params: EnvParams) -> EnvState:
        """A start state."""
        ...

    def step(self, key: jax.Array, params: EnvParams, state: EnvState, actions: jax.Array) -> Step:
        """One step of integer actions [A]. The state after the end is kept, not exchanged for a new one."""
        ...

    def view(self, params: EnvParams, state: EnvState) -> View:
        """A pure function of the state."""
        ...
