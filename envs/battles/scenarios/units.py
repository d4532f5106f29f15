"""Unit types of SMAC, with the numbers of SMAClite.

Lengths are in map cells, speeds in cells per second; a second has `TICKS_PER_SECOND` ticks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

TICKS_PER_SECOND = 16
STEP_TICKS = 8  # ticks of an environment step
LIGHT, ARMORED, OTHER = "light", "armored", "other"
SINGLE, BEAM, BURST, HEAL = range(4)  # kinds of shots
TERRAN, PROTOSS, ZERG = "terran", "protoss", "zerg"

SHIELD_WAIT = 160  # ticks after a hit until a shield recovers
SHIELD_GAIN = 0.125  # per tick
HEALTH_GAIN = 0.38 / TICKS_PER_SECOND  # per tick, of zerg units
ENERGY_START, ENERGY_MOST, ENERGY_GAIN = 50.0, 200.0, 0.5625 / TICKS_PER_SECOND
HEAL_GAIN = 9.0 / TICKS_PER_SECOND  # health per tick
HEAL_PER_ENERGY = 3.0
HEAL_LEAST_ENERGY = 5.0  # needed to start healing a new unit
BEAM_LENGTH, BEAM_DEPTH = 2.8, 0.3  # across the line of fire, and along it
BEAM_REACH = math.hypot(BEAM_LENGTH, BEAM_DEPTH) / 2
BURST_REACH, BURST_DAMAGE = 2.2, 80.0


class Unit(NamedTuple):
    """A unit type.

    letter: its abbreviation in names of maps and in drawings.
    damage: of each of the `attacks` hits of a shot; `bonus` is added against units with the attribute `against`.
    range: between the edges of two units. scan: distance at which enemies acquire targets. cooldown: seconds.
    size: diameter. build: its attribute, for bonuses. hits_air: whether it can attack flying units.
    """

    name: str
    race: str
    letter: str
    health: float
    shield: float
    armor: float
    damage: float
    attacks: int
    bonus: float
    against: str
    range: float
    scan: float
    speed: float
    cooldown: float
    size: float
    build: str
    flies: bool = False
    hits_air: bool = False
    strike: int = SINGLE

    @property
    def radius(self) -> float:
        """Half the size."""
        return self.size / 2

    @property
    def cooldown_ticks(self) -> int:
        """Ticks between two shots."""
        return math.ceil(TICKS_PER_SECOND * self.cooldown)

    @property
    def regenerates(self) -> bool:
        """Whether health grows by itself."""
        return self.race == ZERG


# fmt: off
# name, race, letter, health, shield, armor, damage, attacks, bonus, against, range, scan, speed, cooldown, size, build
_ALL = (
    Unit("marine", TERRAN, "m", 45, 0, 0, 6, 1, 0, OTHER, 5, 5, 3.15, 0.61, 0.75, LIGHT, hits_air=True),
    Unit("marauder", TERRAN, "M", 125, 0, 1, 10, 1, 10, ARMORED, 6, 5, 3.15, 1.07, 1.125, ARMORED),
    Unit("medivac", TERRAN, "+", 150, 0, 1, 0, 1, 0, OTHER, 4, 5, 3.5, 0, 1.5, ARMORED, flies=True, strike=HEAL),
    Unit("zergling", ZERG, "zg", 35, 0, 0, 5, 1, 0, OTHER, 0.1, 5, 4.13, 0.497, 0.75, LIGHT),
    Unit("baneling", ZERG, "b", 30, 0, 0, BURST_DAMAGE, 1, 0, OTHER, 0.25, 5, 3.15, 1, 0.75, OTHER, strike=BURST),
    Unit("spine_crawler", ZERG, "sc", 300, 0, 2, 25, 1, 5, ARMORED, 7, 10, 0, 1.32, 1, ARMORED),
    Unit("zealot", PROTOSS, "z", 100, 50, 1, 8, 2, 0, OTHER, 0.1, 5, 3.15, 0.86, 1, LIGHT),
    Unit("stalker", PROTOSS, "s", 80, 80, 1, 13, 1, 5, ARMORED, 6, 5, 4.13, 1.34, 1.25, ARMORED, hits_air=True),
    Unit("colossus", PROTOSS, "c", 200, 150, 1, 10, 2, 5, LIGHT, 7, 5, 3.15, 1.07, 2, ARMORED, strike=BEAM),
    Unit("hydralisk", ZERG, "h", 90, 0, 0, 12, 1, 0, OTHER, 5, 5, 3.15, 0.59, 1.25, LIGHT, hits_air=True),
)
# fmt: on
UNITS = {unit.name: unit for unit in _ALL}
