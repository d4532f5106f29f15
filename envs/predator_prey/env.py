"""Predator-prey ("stag hunt") on a bounded board: a stag needs two catchers, a hare one.

The rules are those of PyMARL's stag hunt (DCG, Boehmer et al., 2020; WQMIX, Rashid et al., 2020; PyMARL2). `pp_p0` and
`pp_p2` are the 8-predator board of GPVD without and with a penalty of 2 for lone catches. `pp_small`, `pp_medium` and
`pp_large` are the boards of GradPS, in which special predators multiply the reward of hares by 5. Nobody observes which
predators are special; they are fixed for a run, so `params` samples them, not `reset`.
`tests/envs/test_traces.py` replays recordings of the reference implementation.

Axes in comments: A predators, P prey (stags first, then hares), E both, U actions, W window cells.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.envs.board import GONE, MOVES, NO_TARGET, Board, count, distinct, is_in, random_order
from gpgrad.envs.predator_prey import sizes
from gpgrad.envs.predator_prey.moves import BY_PLATFORM, Moves, Prey
from gpgrad.envs.predator_prey.view import available, global_state, windows

NUMERICS = 1

N_ACTIONS = 6
RIGHT, DOWN, LEFT, UP, STAY, CATCH = range(N_ACTIONS)
SPECIAL_FACTOR = 5.0  # default ratio of special to ordinary hare reward, as in GradPS's code


class PredatorPreyParams(NamedTuple):
    """Fixed for a run. special: bool [A], predators with a higher reward for hares."""

    special: jax.Array


class PredatorPreyState(NamedTuple):
    """agents: int8 [A, 2], prey: int8 [P, 2], (row, column), the last position of those that left the board.

    active: bool [A], False once frozen. alive: bool [P], False once captured. time: int16 [], steps taken.
    """

    agents: jax.Array
    prey: jax.Array
    active: jax.Array
    alive: jax.Array
    time: jax.Array


class Draws(NamedTuple):
    """All randomness of one step.

    agent_order: int32 [A], prey_order: int32 [P], permutations, the order of moves.
    prey_choice: int32 [P] by prey id, uniform on 0..11, hence also uniform modulo 1 to 4 free cells; the index into the
    free cells among right, down, left, up.
    """

    agent_order: jax.Array
    prey_order: jax.Array
    prey_choice: jax.Array


class Outcome(NamedTuple):
    """The events of one step; the prey axis is in the order of `Draws.prey_order`.

    state: after the step. catchers: bool [P, A], predators that tried to catch each prey. captured: bool [P].
    free: int32 [P], number of free cells of each prey; 0 if it was captured, dead or boxed in.
    """

    state: PredatorPreyState
    catchers: jax.Array
    captured: jax.Array
    free: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredatorPrey:
    """The predator-prey environment. Raises SettingError for invalid sizes.

    height, width: cells, at most 127 each.
    n_agents, n_stags, n_hares: number of predators, stags and hares.
    n_special: number of special predators.
    view_radius: observations are windows of 2 * view_radius + 1 cells per side.
    episode_limit: steps after which an episode is truncated.
    penalty: reward for each prey with too few catchers in a step; usually negative.
    freeze: whether the catchers of a captured prey leave the board.
    stag_reward, hare_reward: reward of a capture.
    special_hare_reward: reward of a hare with a special predator among its catchers; None: 5 * hare_reward.
    special_ids: the special predators, for example "2,3"; empty: sampled by `params`.
    name: the registered name.

    Actions: 0 right, 1 down, 2 left, 3 up, 4 stay, 5 catch.
    """

    height: int
    width: int
    n_agents: int
    n_stags: int
    n_hares: int
    view_radius: int
    episode_limit: int
    n_special: int = 0
    penalty: float = 0.0
    freeze: bool = False
    stag_reward: float = 10.0
    hare_reward: float = 2.0
    special_hare_reward: float | None = None
    special_ids: str = ""
    name: str = "predator_prey"

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes.check(self)

    @property
    def n_prey(self) -> int:
        """Number of stags and hares."""
        return self.n_stags + self.n_hares

    @property
    def board(self) -> Board:
        """The board."""
        return Board(self.height, self.width)

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        return EnvSpec(
            name=self.name,
            n_agents=self.n_agents,
            n_actions=N_ACTIONS,
            obs_dim=3 * (2 * self.view_radius + 1) ** 2,
            state_dim=3 * self.height * self.width,
            own_state_dim=0,
            episode_limit=self.episode_limit,
            limit_is_terminal=False,
            has_win=False,
            return_scale=sizes.best_return(self),
        )

    def params(self, key: jax.Array) -> PredatorPreyParams:
        """The special predators: those of `special_ids`, else `n_special` sampled uniformly."""
        if self.special_ids:
            special = np.zeros(self.n_agents, bool)
            special[sizes.parse_ids(self.special_ids)] = True
            return PredatorPreyParams(jnp.asarray(special))
        return PredatorPreyParams(random_order(jax.random.bits(key, (self.n_agents,))) < self.n_special)

    def roles(self, params: PredatorPreyParams) -> jax.Array:
        """Hidden roles, for analysis and controls only: 1 for special predators, else 0, int32 [A]."""
        return params.special.astype(jnp.int32)

    def reset(self, key: jax.Array, params: PredatorPreyParams) -> PredatorPreyState:
        """Predators and prey on distinct cells, uniformly."""
        del params
        return self.reset_from_cells(distinct(key, self.n_agents + self.n_prey, self.height * self.width))

    def reset_from_cells(self, cells: jax.Array) -> PredatorPreyState:
        """The initial state from distinct cells, integers [E]: row * width + column, predators first."""
        cells = jnp.asarray(cells, jnp.int32)
        positions = jnp.stack([cells // self.width, cells % self.width], -1).astype(jnp.int8)  # [E, 2]
        return PredatorPreyState(
            agents=positions[: self.n_agents],
            prey=positions[self.n_agents :],
            active=jnp.ones(self.n_agents, bool),
            alive=jnp.ones(self.n_prey, bool),
            time=jnp.zeros((), jnp.int16),
        )

    def draws(self, key: jax.Array) -> Draws:
        """The randomness of one step."""
        agents, prey = self.n_agents, self.n_prey
        bits = jax.random.bits(
            key, (agents + 2 * prey,)
        )  # one call, since random bits are a considerable share of a step's time
        return Draws(
            agent_order=random_order(bits[:agents]),
            prey_order=random_order(bits[agents : agents + prey]),
            prey_choice=(bits[agents + prey :] % 12).astype(jnp.int32),
        )

    def step(self, key: jax.Array, params: PredatorPreyParams, state: PredatorPreyState, actions: jax.Array) -> Step:
        """One step with integer actions [A]. Unavailable actions do nothing."""
        return self.transition(params, state, actions, self.draws(key))

    def transition(
        self, params: PredatorPreyParams, state: PredatorPreyState, actions: jax.Array, draws: Draws
    ) -> Step:
        """The rules of one step, given its randomness.

        info, all int32:
        agent_stags, agent_hares [A]: prey that each predator helped to capture.
        agent_lone [A]: prey that each predator tried to catch with too few others.
        stags, hares, special_hares []: prey captured; the last are hares with a special catcher.
        special_captures, ordinary_captures []: participations in captures, summed over special and over ordinary
        predators; special_hare_captures, ordinary_hare_captures []: the same for hares.
        """
        after, catchers, captured, _ = self.outcome(state, actions, draws)
        is_stag = draws.prey_order < self.n_stags  # [P]
        stags, hares = captured & is_stag, captured & ~is_stag
        special_hares = hares & jnp.any(catchers & params.special, axis=1)
        lone = jnp.any(catchers, axis=1) & ~captured

        agent_stags = count(catchers & stags[:, None], axis=0)  # [A]
        agent_hares = count(catchers & hares[:, None], axis=0)
        taken = agent_stags + agent_hares
        info = {
            "agent_stags": agent_stags,
            "agent_hares": agent_hares,
            "agent_lone": count(catchers & lone[:, None], axis=0),
            "stags": count(stags),
            "hares": count(hares),
            "special_hares": count(special_hares),
            "special_captures": count(jnp.where(params.special, taken, 0)),
            "ordinary_captures": count(jnp.where(params.special, 0, taken)),
            "special_hare_captures": count(jnp.where(params.special, agent_hares, 0)),
            "ordinary_hare_captures": count(jnp.where(params.special, 0, agent_hares)),
        }
        reward = (
            self.stag_reward * info["stags"].astype(jnp.float32)
            + self.hare_reward * (info["hares"] - info["special_hares"])
            + self._special_hare_reward * info["special_hares"]
            + self.penalty * count(lone)
        )
        terminated = ~jnp.any(after.alive) | ~jnp.any(after.active)
        truncated = (after.time >= self.episode_limit) & ~terminated
        return Step(after, reward, terminated, truncated, info)

    def price(self, is_stag: bool, special: bool) -> float:
        """The reward of a capture. special: whether a special predator is among the catchers."""
        if is_stag:
            return self.stag_reward
        return self._special_hare_reward if special else self.hare_reward

    def outcome(
        self, state: PredatorPreyState, actions: jax.Array, draws: Draws, moves: Moves = BY_PLATFORM
    ) -> Outcome:
        """Moves and captures of one step, without rewards.

        First the predators move one by one; then each prey in turn is captured or moves to a free neighbouring cell.
        moves: the form in which this is computed; all forms give the same results.
        """
        actions = actions.astype(jnp.int32)
        prey_cell = jnp.where(state.alive, self.board.cell(state.prey), GONE)  # [P]
        agent_cell = jnp.where(state.active, self.board.cell(state.agents), GONE)  # [A]

        is_move = (actions[:, None] == np.arange(len(MOVES))) & state.active[:, None]  # [A, 4]
        target = jnp.max(jnp.where(is_move, self.board.around(state.agents), NO_TARGET), axis=1)  # [A]
        target = jnp.where(is_in(target, prey_cell), NO_TARGET, target)  # no prey moves in this phase
        agent_cell = moves.predators(draws.agent_order, agent_cell, target)

        # Catching predators did not move, and no prey moves before its own turn. So the catchers of each prey and its
        # neighbouring cells are known before the turns begin.
        order = draws.prey_order
        near = self.board.around(state.prey)[order]  # [P, 4]
        catching = jnp.where(actions == CATCH, agent_cell, GONE)
        tries = jnp.any(near[:, :, None] == catching, axis=1)  # [P, A]
        need = jnp.where(order < self.n_stags, sizes.STAG_CATCHERS, 1)
        prey = Prey(state.prey[order], near, tries, need, draws.prey_choice[order])
        prey_cell, standing, events = moves.prey(self.freeze, order, prey_cell, agent_cell, prey)
        after = PredatorPreyState(
            agents=self.board.position(agent_cell, state.agents),
            prey=self.board.position(prey_cell, state.prey),
            active=standing != GONE,
            alive=prey_cell != GONE,
            time=state.time + jnp.int16(1),
        )
        return Outcome(after, *events)

    def view(self, params: PredatorPreyParams, state: PredatorPreyState) -> View:
        """0/1 maps with channels for active predators, living stags and living hares.

        obs: float32 [A, O], the window around each predator, flattened (row, column, channel); zeros if frozen.
        state: `OneHot` over the whole board, flattened likewise.
        avail: moves that stay on the board, also into occupied cells; staying; catching if a living prey is on a
        neighbouring cell. A frozen predator can only stay.
        """
        del params
        return View(windows(self, state), available(self, state), global_state(self, state))

    @property
    def _special_hare_reward(self) -> float:
        given = self.special_hare_reward
        return SPECIAL_FACTOR * self.hare_reward if given is None else given
