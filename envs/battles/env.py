"""SMAC's battles as a JAX environment, with the maps of both papers.

Units, ticks and enemies follow SMAClite, a reimplementation of SMAC in NumPy. They are written from a description of
its rules and tested against its recordings (`tests/envs/test_battle_traces.py`). Observations, available actions and
rewards follow SMAC (Samvelyan et al., 2019). docs/battles.md lists all differences.

Axes in comments: N units in their fixed order; A agents; E enemies; U actions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.envs.battles import actions, tables, view
from gpgrad.envs.battles.rules import Rules, Switches, rules_of
from gpgrad.envs.battles.scenarios import drawn, units
from gpgrad.envs.battles.scenarios.custom import custom_map
from gpgrad.envs.battles.scenarios.maps import MAPS
from gpgrad.envs.battles.state import BattleState, Field, facts, pack, unpack
from gpgrad.envs.battles.ticks import tick
from gpgrad.envs.battles.ticks.turns import DEATH_REWARD
from gpgrad.envs.board import random_order
from gpgrad.errors import SettingError, suggest

NUMERICS = 1  # version of this family's numbers; raised when a change alters them
WIN_REWARD = 200.0  # points; a death gives `DEATH_REWARD`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Battle:
    """A battle between agents and scripted enemies. Raises SettingError for invalid settings.

    map: a name in `maps.MAPS`, RACE_N_vs_M for teams sampled at each reset, or "" for `file`.
    file: a YAML file of units and positions (docs/battles.md); "": an example, two marines and a medivac against three.
    episode_limit: steps, terminal for the learner; None: the map's limit in SMAC.
    ticks: ticks of 1/16 s per step.
    sight: distance up to which agents observe other units.
    raises: whether medivacs also heal units that died in the same tick, which revives them, as in SMAClite.
    wall_slip: whether units may come one radius closer to walls that run from west to east, as in SMAClite.
    draw_wins: whether the death of both teams in one step gives the reward of a win, as in SMAClite.
    medivac_ends: whether a team with only medivacs left has lost, as in SMAC.
    reward_scale: the return of a win against enemies that do not recover.
    name: the registered name.
    """

    map: str = ""
    file: str = ""
    episode_limit: int | None = None
    ticks: int = units.STEP_TICKS
    sight: float = 9.0
    raises: bool = False
    wall_slip: bool = True
    draw_wins: bool = False
    medivac_ends: bool = True
    reward_scale: float = 20.0
    name: str = "battle"

    def __post_init__(self) -> None:
        """Check the settings. Raises SettingError."""
        if not 1 <= self.limit <= 32767:
            raise SettingError(f"episode_limit must be between 1 and 32767 (got {self.limit})")
        if not 1 <= self.ticks <= 160:
            raise SettingError(f"ticks must be between 1 and 160 (got {self.ticks})")
        for field in ("sight", "reward_scale"):
            if not 0 < getattr(self, field) < np.inf:
                raise SettingError(f"{field} must be above 0 (got {getattr(self, field)})")
        assert self.rules.n_units > 1

    @functools.cached_property
    def limit(self) -> int:
        """Steps after which a battle ends."""
        if self.episode_limit is not None:
            return self.episode_limit
        return drawn.LIMIT if self.draw else self._map.limit

    @functools.cached_property
    def draw(self) -> drawn.Draw | None:
        """The kind of sampled battle; None if the teams are fixed."""
        return drawn.parse(self.map)

    @functools.cached_property
    def _map(self):
        if not self.map:
            return custom_map(self.file)
        if self.map not in MAPS:
            raise SettingError(f"there is no battle {self.map!r}" + suggest(self.map, [*MAPS, *drawn.names()]))
        return MAPS[self.map]

    @functools.cached_property
    def rules(self) -> Rules:
        """The constants of the battle."""
        switches = Switches(self.sight, self.raises, self.wall_slip)
        return drawn.rules_of(self.draw, switches) if self.draw else rules_of(self._map, switches)

    @property
    def agent_units(self) -> np.ndarray:
        """The unit of each agent, int [A]: agents are numbered by type as in SMAC, units as in SMAClite."""
        return self.rules.agent_units

    @property
    def roles(self) -> Callable[[tuple[()]], jax.Array]:
        """roles(params) -> int32 [A], each agent's unit type. For analysis only; agents observe types as well.

        Raises AttributeError if types are sampled or all equal.
        """
        r = self.rules
        if r.types is None or len(set(r.types[r.agent_units].tolist())) == 1:
            raise AttributeError(f"{self.name} has no roles")
        numbers = r.types[r.agent_units]
        return lambda params: jnp.asarray(numbers, jnp.int32)

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        r = self.rules
        return EnvSpec(
            name=self.name,
            n_agents=r.n_agents,
            n_actions=actions.N_NO_TARGET + actions.n_targets(r),
            obs_dim=view.obs_dim(r),
            state_dim=view.state_dim(r),
            own_state_dim=view.own_state_dim(r),
            episode_limit=self.limit,
            limit_is_terminal=True,
            has_win=True,
            return_scale=self.reward_scale,
            ends_early=True,
        )

    def params(self, key: jax.Array) -> tuple[()]:
        """No parameters."""
        del key
        return ()

    def reset(self, key: jax.Array, params: tuple[()]) -> BattleState:
        """All units at full health at the map's start positions; sampled teams get types and positions from the key."""
        del params
        r = self.rules
        types, point, start = None, None, jnp.asarray(r.start)
        if self.draw:
            k_types, k_places = jax.random.split(key)
            types = drawn.teams(k_types, self.draw)
            start = drawn.places(k_places, self.draw, types)
            point = jnp.mean(start[r.ours], axis=0)
        own = facts(r, None if types is None else types[:, None])
        health, shield, strike = (jnp.asarray(column)[:, 0] for column in (own.health, own.shield, own.strike))
        zero, none = jnp.zeros(r.n_units), jnp.zeros(r.n_units, jnp.int32)
        energy = jnp.where(strike == units.HEAL, np.float32(units.ENERGY_START), zero)
        idle, living = none > 0, none == 0
        field = Field(
            start[:, 0], start[:, 1], zero, zero, health, shield, energy, zero, none, none, none - 1, idle, living
        )
        return pack(r, field, jnp.full(r.n_agents, -1, jnp.int8), jnp.zeros((), jnp.int16), types, point)

    def draws(self, key: jax.Array) -> jax.Array:
        """The randomness of one step: the order of turns in each tick, int32 [ticks, N]."""
        return jax.vmap(random_order)(jax.random.bits(key, (self.ticks, self.rules.n_units)))

    def step(self, key: jax.Array, params: tuple[()], state: BattleState, actions: jax.Array) -> Step:
        """One step with integer actions [A], see `actions.py`. Unavailable actions mean stop."""
        return self.transition(params, state, actions, self.draws(key))

    def transition(self, params: tuple[()], state: BattleState, actions: jax.Array, order: jax.Array) -> Step:
        """The rules of one step, given its randomness.

        order: int [ticks, N], units in the order of their turns; dead units may be left out, with -1 at the end.
        reward: shield and health that enemies lost, 10 per death and 200 for the win, scaled such that the largest
        return against enemies that do not recover is `reward_scale`.
        info, set in the step of the event: won; draw, both teams died in the same step; timed_out, the limit came
        first; dead_allies, dead_enemies, int32 counts.
        """
        del params
        return tick.worlds_last(self._transition)(state, actions, order)

    def _transition(self, state: BattleState, chosen: jax.Array, order: jax.Array) -> Step:
        """`transition` of many environments, which are the last axis of all arrays."""
        r = self.rules
        own = facts(r, state.types)
        before = unpack(r, state)
        point = r.attack_point if state.point is None else state.point
        commands = actions.commands(r, own, before, chosen, tuple(point))  # type: ignore[arg-type]
        after, points = tick.play(r, own, before, commands, _positions(order))
        time = state.time + jnp.int16(1)
        stored = pack(r, after, chosen.astype(jnp.int8), time, state.types, state.point)

        over = jnp.logical_or(*self._beaten(own, before))
        lost, beaten = self._beaten(own, after)
        won = beaten & ~lost & ~over
        draw = beaten & lost & ~over
        terminated = lost | beaten
        truncated = (time >= self.limit) & ~terminated
        best = jnp.sum(jnp.broadcast_to(own.health + own.shield, before.x.shape)[r.theirs], axis=0)
        best = best + DEATH_REWARD * r.n_enemies + np.float32(WIN_REWARD)
        paid = won | (draw & self.draw_wins)
        reward = (points + jnp.where(paid, np.float32(WIN_REWARD), 0.0)) * np.float32(self.reward_scale) / best
        died = before.alive & ~after.alive
        info = {
            "won": paid,
            "draw": draw,
            "timed_out": truncated,
            "dead_allies": jnp.sum(died[r.ours], axis=0, dtype=jnp.int32),
            "dead_enemies": jnp.sum(died[r.theirs], axis=0, dtype=jnp.int32),
        }
        return Step(stored, reward, terminated, truncated, info)

    def _beaten(self, own, field: Field) -> tuple[jax.Array, jax.Array]:
        """Whether the allied and the enemy team have lost, bool [W]."""
        counts = field.alive & (own.strike != units.HEAL) if self.medivac_ends else field.alive
        ours, theirs = self.rules.ours, self.rules.theirs
        return ~jnp.any(counts[ours], axis=0), ~jnp.any(counts[theirs], axis=0)

    def view(self, params: tuple[()], state: BattleState) -> View:
        """Observations and state in SMAC's layout.

        obs: float32 [A, O], zeros for dead agents. Available moves; then for each enemy and each other agent in sight:
        whether it can be attacked (agents: 1), distance and offset divided by `sight`, health, shield and type; then
        own health, shield and type. Shields and types only if the side has them.
        state: float32 [D]. For each agent health, cooldown (a medivac's energy), position, shield, type; for each enemy
        the same without cooldown; zeros for dead units; then all last actions.
        avail: bool [A, U], see `actions.py`. Attacks are available up to a distance of 6, for all unit types.
        """
        del params
        return view.observe(self.rules, state)

    def from_table(self, floats: jax.Array, ints: jax.Array) -> BattleState:
        """The state of a table, float [N, 10] and int [N, 5], see `tables.py`."""
        return tables.from_table(self.rules, floats, ints)

    def to_table(self, state: BattleState) -> tuple[jax.Array, jax.Array]:
        """The table of a state, float32 [N, 10] and int32 [N, 5], see `tables.py`."""
        return tables.to_table(self.rules, state)


def _positions(order: jax.Array) -> jax.Array:
    """The position of each unit in the order of turns, int32 [ticks, N, W]; N for units that are left out."""
    n_units = order.shape[1]
    ids = np.arange(n_units)[:, None, None]
    rank = np.arange(n_units, dtype=np.int32)[:, None]
    found = jnp.where(order[:, None] == ids, rank - n_units, 0)  # [ticks, N, N, W]
    return n_units + jnp.sum(found, axis=2, dtype=jnp.int32)
