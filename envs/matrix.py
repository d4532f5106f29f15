"""Matrix games: all agents act at once, and a table gives the team's reward, in one step or a few.

All agents observe the same vector, which is also the global state, and all actions are always available. Agents that
share parameters therefore act alike; an asymmetric game needs an agent id or another way to distinguish agents.

Axes in comments: A agents, U actions.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.errors import SettingError

NUMERICS = 1


class MatrixParams(NamedTuple):
    """payoff: float32, the rewards, as an array so that a family of games can be vmapped."""

    payoff: jax.Array


class MatrixState(NamedTuple):
    """time: int8 [], steps taken."""

    time: jax.Array


@dataclasses.dataclass(frozen=True)
class MatrixGame:
    """A one-step matrix game.

    name: name of the game. table: nested tuples of rewards [U] * A, indexed by agent 0's action first.
    Observation and state are the one-hot step, float32 [2]. The only step terminates the episode. Raises SettingError
    if the agents have different numbers of actions.
    """

    name: str
    table: tuple

    def __post_init__(self) -> None:
        """Check the table."""
        shape = np.shape(np.asarray(self.table, np.float32))
        if not shape or len(set(shape)) != 1:
            raise SettingError(f"the payoff table must have as many actions for every agent (got the shape {shape})")

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        table = np.asarray(self.table, np.float32)
        return _spec(self.name, table.ndim, table.shape[0], obs_dim=2, limit=1, best=float(table.max()))

    def params(self, key: jax.Array) -> MatrixParams:
        """The payoff table; not random."""
        del key
        return MatrixParams(jnp.asarray(self.table, jnp.float32))

    def payoff(self, params: MatrixParams) -> jax.Array:
        """The reward of every joint action, float32 [U] * A."""
        return params.payoff

    def reset(self, key: jax.Array, params: MatrixParams) -> MatrixState:
        """The state before the move."""
        del key, params
        return MatrixState(jnp.zeros((), jnp.int8))

    def step(self, key: jax.Array, params: MatrixParams, state: MatrixState, actions: jax.Array) -> Step:
        """The only step, with integer actions [A]."""
        del key
        return _step(MatrixState(_next(state.time, 1)), params.payoff[tuple(actions)], jnp.ones((), bool))

    def view(self, params: MatrixParams, state: MatrixState) -> View:
        """The one-hot step for all agents."""
        del params
        return _view(_one_hot(state.time, 2), self.spec)


class TwoStepState(NamedTuple):
    """node: int8 []; 0 start, 1 branch A, 2 branch B, 3 end."""

    node: jax.Array


@dataclasses.dataclass(frozen=True)
class TwoStepGame:
    """The two-step game of QMIX (Rashid et al., 2018).

    Agent 0's first action chooses a branch, with reward 0. The second joint action is rewarded by the branch's table:
    7 for all actions in branch A; [[0, 1], [1, 8]] in branch B.
    Observation and state are the one-hot node, float32 [4]. `params.payoff`: float32 [branch, U, U].
    """

    name: str = "two_step"

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        return _spec(self.name, n_agents=2, n_actions=2, obs_dim=4, limit=2, best=8.0)

    @property
    def paths(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Joint actions that lead to each decision node, by its name; for probes of learned values."""
        return {"start": (), "A": ((0, 0),), "B": ((1, 1),)}

    def params(self, key: jax.Array) -> MatrixParams:
        """The payoff tables; not random."""
        del key
        return MatrixParams(jnp.array([[[7, 7], [7, 7]], [[0, 1], [1, 8]]], jnp.float32))

    def reset(self, key: jax.Array, params: MatrixParams) -> TwoStepState:
        """The start node."""
        del key, params
        return TwoStepState(jnp.zeros((), jnp.int8))

    def step(self, key: jax.Array, params: MatrixParams, state: TwoStepState, actions: jax.Array) -> Step:
        """One step with integer actions [2]."""
        del key
        first, branch = state.node == 0, jnp.clip(state.node - 1, 0, 1)
        in_branch = (state.node == 1) | (state.node == 2)
        reward = jnp.where(in_branch, params.payoff[branch, actions[0], actions[1]], 0.0)
        node = jnp.where(first, 1 + actions[0], 3).astype(jnp.int8)
        return _step(TwoStepState(node), reward, ~first)

    def view(self, params: MatrixParams, state: TwoStepState) -> View:
        """The one-hot node for all agents."""
        del params
        return _view(_one_hot(state.node, 4), self.spec)


class NStepState(NamedTuple):
    """time: int16 [], steps taken. branch: int8 [], 2 * a + b of the first joint action (a, b); 0 before it."""

    time: jax.Array
    branch: jax.Array


@dataclasses.dataclass(frozen=True)
class NStepGame:
    """The k-step matrix game of MAVEN (Mahajan et al., 2019).

    The first joint action chooses one of four branches. Repeating it gives reward 1 per step; any other joint action
    ends the episode. In the last step of branch 0 `params.payoff`, [[1, 1], [1, 4]], gives the reward, so that the best
    joint action changes there.
    k: steps. good_branches: 4, or 2 if only branches of equal actions are rewarded; else SettingError.
    Observation and state are the one-hot step [k + 1] and branch [4], only the step if k = 1.
    """

    k: int = 10
    good_branches: int = 2
    name: str = "nstep"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 1 <= self.k <= 32767:
            raise SettingError(f"k must be between 1 and 32767 steps (got {self.k})")
        if self.good_branches not in (2, 4):
            raise SettingError(f"good_branches must be 2 or 4 (got {self.good_branches})")

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        obs_dim, best = (2, 1.0) if self.k == 1 else (self.k + 5, self.k + 3.0)
        return _spec(self.name, n_agents=2, n_actions=2, obs_dim=obs_dim, limit=self.k, best=best)

    def params(self, key: jax.Array) -> MatrixParams:
        """The payoff table of the last step; not random."""
        del key
        return MatrixParams(jnp.array([[1, 1], [1, 4]], jnp.float32))

    def reset(self, key: jax.Array, params: MatrixParams) -> NStepState:
        """The state before the first move."""
        del key, params
        return NStepState(jnp.zeros((), jnp.int16), jnp.zeros((), jnp.int8))

    def step(self, key: jax.Array, params: MatrixParams, state: NStepState, actions: jax.Array) -> Step:
        """One step with integer actions [2]."""
        del key
        played = (2 * actions[0] + actions[1]).astype(jnp.int8)
        branch = jnp.where(state.time == 0, played, state.branch)
        pays = (branch == 0) | (branch == 3) | (self.good_branches == 4)
        reward = (pays & (played == branch)).astype(jnp.float32)
        if self.k > 1:
            bonus = (state.time == self.k - 1) & (branch == 0)
            reward = jnp.where(bonus, params.payoff[actions[0], actions[1]], reward)
        time = _next(state.time, self.k)
        return _step(NStepState(time, branch), reward, (time >= self.k) | (reward <= 0))

    def view(self, params: MatrixParams, state: NStepState) -> View:
        """The one-hot step and branch for all agents."""
        del params
        seen = _one_hot(state.time, self.k + 1)
        if self.k > 1:
            seen = jnp.concatenate([seen, _one_hot(state.branch, 4)])
        return _view(seen, self.spec)


def gpvd3() -> MatrixGame:
    """The payoff matrix of GPVD, Figure 2(a): best 8 at (0, 0) beside -12; two local optima of 6."""
    return MatrixGame("matrix_gpvd", ((8, -12, -12), (-12, 6, 0), (-12, 0, 6)))


def gradps4(w: float = 1.0) -> MatrixGame:
    """The additive game of GradPS, Section 4.3: two agents, four actions, reward i + w * j for actions i and j.

    w: weight of agent 1's action; the game is symmetric only for w = 1.
    """
    return MatrixGame("matrix_additive", tuple(tuple(i + w * j for j in range(4)) for i in range(4)))


def qtran3() -> MatrixGame:
    """The matrix game of QTRAN and WQMIX: best 8 at (0, 0) beside -12; zeros elsewhere."""
    return MatrixGame("matrix_qtran", ((8, -12, -12), (-12, 0, 0), (-12, 0, 0)))


def pymarl2_easy() -> MatrixGame:
    """A matrix game of PyMARL2: best 12 at (0, 0) beside -0.1."""
    return MatrixGame("matrix_easy", ((12, -0.1, -0.1), (-0.1, 0, 0), (-0.1, 0, 0)))


def pymarl2_hard() -> MatrixGame:
    """A matrix game of PyMARL2: best 12 at (0, 0) beside -12."""
    return MatrixGame("matrix_hard", ((12, -12, -12), (-12, 0, 0), (-12, 0, 0)))


def pymarl2_12_10() -> MatrixGame:
    """A matrix game of PyMARL2: best 12 at (0, 0) beside five entries of 10."""
    return MatrixGame("matrix_12_10", ((12, 0, 10), (0, 0, 10), (10, 10, 10)))


def coord2(n_agents: int = 2) -> MatrixGame:
    """A coordination game with two actions: reward 1 if all agents choose the same action, else 0.

    n_agents: number of agents, 1 to 10; else SettingError.
    """
    if not 1 <= n_agents <= 10:
        raise SettingError(f"n_agents must be between 1 and 10 (got {n_agents})")
    table = np.zeros((2,) * n_agents, np.float32)
    table[(0,) * n_agents] = table[(1,) * n_agents] = 1.0
    return MatrixGame("matrix_coord", _nested(table))


def climbing() -> MatrixGame:
    """The climbing game (Claus and Boutilier, 1998): best 11 at (0, 0) beside -30; 7 and 6 are safer."""
    return MatrixGame("matrix_climbing", ((11, -30, 0), (-30, 7, 0), (0, 6, 5)))


def penalty(k: float = -100.0) -> MatrixGame:
    """The penalty game (Claus and Boutilier, 1998): best 10 at (0, 2) and (2, 0); miscoordination gives k.

    k: the penalty, at most 0; else SettingError.
    """
    if not k <= 0:
        raise SettingError(f"k must be at most 0 (got {k})")
    return MatrixGame("matrix_penalty", ((k, 0, 10), (0, 2, 0), (10, 0, k)))


def two_step() -> TwoStepGame:
    """The two-step game of QMIX: a safe branch of 7, and one with 8 for coordinated agents."""
    return TwoStepGame()


def nstep(k: int = 10, good_branches: int = 2) -> NStepGame:
    """The k-step matrix game of MAVEN, see `NStepGame`.

    k: number of steps. good_branches: number of rewarded branches, 2 or 4.
    """
    return NStepGame(k, good_branches)


def _spec(name: str, n_agents: int, n_actions: int, *, obs_dim: int, limit: int, best: float) -> EnvSpec:
    """The spec of a matrix game whose end is terminal and whose best return is `best`."""
    return EnvSpec(
        name=name,
        n_agents=n_agents,
        n_actions=n_actions,
        obs_dim=obs_dim,
        state_dim=obs_dim,
        own_state_dim=0,
        episode_limit=limit,
        limit_is_terminal=True,
        return_scale=abs(best) or 1.0,
    )


def _next(time: jax.Array, limit: int) -> jax.Array:
    """The step counter after a step; it stays at the limit, so that views of finished games are valid."""
    return jnp.minimum(time + 1, limit).astype(time.dtype)


def _one_hot(index: jax.Array, size: int) -> jax.Array:
    """A one at `index`, float32 [size]."""
    return jax.nn.one_hot(index, size, dtype=jnp.float32)


def _step(state: NamedTuple, reward: jax.Array, terminated: jax.Array) -> Step:
    """A step that is never truncated."""
    return Step(state, reward.astype(jnp.float32), terminated, jnp.zeros((), bool), {})


def _view(seen: jax.Array, spec: EnvSpec) -> View:
    """The same vector for all agents and critics, with all actions available."""
    obs = jnp.broadcast_to(seen, (spec.n_agents, spec.obs_dim))
    return View(obs, jnp.ones((spec.n_agents, spec.n_actions), bool), seen)


def _nested(table: np.ndarray) -> tuple:
    """The table as nested tuples of floats, which are hashable."""
    return tuple(_nested(row) if row.ndim else float(row) for row in table)
