"""The constants of a battle: sizes, sides, numbers of its units, and switches.

Axes in comments: N units in their fixed order; A ours; E enemies; W environments.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.scenarios import terrain, units
from gpgrad.envs.battles.scenarios.maps import OURS, THEIRS, BattleMap, places, unit_names
from gpgrad.envs.battles.scenarios.units import UNITS

Numbers = Any  # NumPy arrays if units are fixed, JAX arrays if a reset samples them
NEIGHBOURS = 10  # maximum number that a unit avoids; the largest number observed in SMAClite's battles


class Facts(NamedTuple):
    """Numbers of each unit's type, each [N, 1], or [N, W] if a reset samples types.

    against, build: codes of attributes; a bonus applies where they are equal. cooldown, seconds: time between shots, in
    whole ticks and in exact seconds. strike: kind of shot, see `units`.
    """

    health: Numbers
    shield: Numbers
    armor: Numbers
    damage: Numbers
    attacks: Numbers
    bonus: Numbers
    against: Numbers
    build: Numbers
    range: Numbers
    scan: Numbers
    speed: Numbers
    cooldown: Numbers
    seconds: Numbers
    radius: Numbers
    flies: Numbers
    hits_air: Numbers
    regenerates: Numbers
    strike: Numbers


def largest_radius(facts: Facts) -> Numbers:
    """The largest radius of all units of a battle, dead or alive, [1] or [W]."""
    return facts.radius.max(axis=0)


@dataclasses.dataclass(frozen=True)
class Switches:
    """Rules that can be changed, see `env.Battle`."""

    sight: float = 9.0
    raises: bool = False
    wall_slip: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Rules:
    """The constants of a battle.

    types: type of each unit [N], an index into `kinds`; None if a reset samples them.
    kinds: unit types that can take part, in the order of one-hot vectors.
    shown: whether observations and state have types.
    ours, theirs: the units of agents and of enemies.
    agent_units: unit of each agent [A].
    start: float32 [N, 2], start positions.
    healers: units that may be medivacs.
    """

    types: np.ndarray | None
    kinds: tuple[str, ...]
    shown: bool
    ours: slice
    theirs: slice
    agent_units: np.ndarray
    start: np.ndarray
    attack_point: tuple[float, float] | None
    terrain: str
    healers: np.ndarray
    switches: Switches

    @property
    def n_units(self) -> int:
        """Number of all units."""
        return self.ours.stop - self.ours.start + self.n_enemies

    @property
    def n_agents(self) -> int:
        """Number of agents."""
        return self.ours.stop - self.ours.start

    @property
    def n_enemies(self) -> int:
        """Number of enemies."""
        return self.theirs.stop - self.theirs.start

    @functools.cached_property
    def table(self) -> Facts:
        """Numbers of unit types [kinds]."""
        return table_of(self.kinds)

    @functools.cached_property
    def walls(self) -> terrain.Walls:
        """The wall edges that units of this battle can reach within a second."""
        ground = ~self.table.flies
        return terrain.walls(self.terrain, float((self.table.speed + self.table.radius)[ground].max(initial=0.0)))

    @functools.cached_property
    def walkable(self) -> np.ndarray:
        """Walkable cells, bool [BOARD, BOARD] by (row, column)."""
        return terrain.walkable(self.terrain)

    def join(self, ours, theirs):
        """Arrays of allied units [A, ...] and of enemies [E, ...] as one array of all units [N, ...]."""
        return jnp.concatenate([ours, theirs] if self.ours.start == 0 else [theirs, ours])

    def any(self, fact: str, equals: object = True, side: slice | None = None) -> bool:
        """Whether a fact of any possible unit, of one side or of both, equals a value."""
        values = getattr(self.table, fact) == equals
        return bool((values if self.types is None else values[self.types[side or slice(None)]]).any())

    @property
    def _shields(self) -> np.ndarray:
        """Full shields of units [N]; the largest possible ones if types are sampled."""
        return np.full(self.n_units, self.table.shield.max()) if self.types is None else self.table.shield[self.types]

    @functools.cached_property
    def has_shields(self) -> tuple[bool, bool]:
        """Whether allied units and enemies have shields."""
        return tuple(bool((self._shields[side] > 0).any()) for side in (self.ours, self.theirs))  # type: ignore[return-value]


@functools.cache
def table_of(kinds: tuple[str, ...]) -> Facts:
    """The numbers of unit types [kinds]."""
    chosen = [UNITS[kind] for kind in kinds]
    attributes = [units.OTHER, units.LIGHT, units.ARMORED]
    number = {attribute: code for code, attribute in enumerate(attributes)}

    def column(get, dtype: Any = np.float32) -> np.ndarray:
        return np.array([get(unit) for unit in chosen], dtype)

    return Facts(
        health=column(lambda u: u.health),
        shield=column(lambda u: u.shield),
        armor=column(lambda u: u.armor),
        damage=column(lambda u: u.damage),
        attacks=column(lambda u: u.attacks, np.int32),
        bonus=column(lambda u: u.bonus),
        against=column(lambda u: number[u.against], np.int32),
        build=column(lambda u: number[u.build], np.int32),
        range=column(lambda u: u.range),
        scan=column(lambda u: u.scan),
        speed=column(lambda u: u.speed),
        cooldown=column(lambda u: u.cooldown_ticks if u.cooldown else 0, np.int32),
        seconds=column(lambda u: u.cooldown),
        radius=column(lambda u: u.radius),
        flies=column(lambda u: u.flies, bool),
        hits_air=column(lambda u: u.hits_air, bool),
        regenerates=column(lambda u: u.regenerates, bool),
        strike=column(lambda u: u.strike, np.int32),
    )


def rules_of(battle: BattleMap, switches: Switches) -> Rules:
    """The constants of a map."""
    names = [name for group in battle.groups for name in unit_names(group)]
    sides = [group.side for group in battle.groups for _ in unit_names(group)]
    kinds = battle.order or tuple(dict.fromkeys(names))
    types = np.array([kinds.index(name) for name in names])
    ours, theirs = (_span(sides, side) for side in (OURS, THEIRS))
    own = np.arange(ours.start, ours.stop)
    return Rules(
        types=types,
        kinds=kinds,
        shown=bool(battle.order),
        ours=ours,
        theirs=theirs,
        agent_units=own[np.argsort(types[own], kind="stable")] if battle.order else own,
        start=np.concatenate([places(group) for group in battle.groups]),
        attack_point=battle.attack_point,
        terrain=battle.terrain,
        healers=np.flatnonzero(table_of(kinds).strike[types] == units.HEAL),
        switches=switches,
    )


def _span(sides: list[int], side: int) -> slice:
    """The units of a side, which are contiguous."""
    first = sides.index(side)
    return slice(first, first + sides.count(side))
