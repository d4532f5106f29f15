"""SMAC's maps and those of both papers: units, start positions, terrain and limits.

Teams, limits and the order of agents are those of SMAC's map registry (Samvelyan et al., 2019), start positions those
of SMAClite. Maps in `UNPUBLISHED` are only named in the papers; their limits are ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gpgrad.envs.battles.scenarios.units import UNITS

BOARD = 32  # cells per side
OURS, THEIRS = 0, 1
GAP = 0.05  # distance between the edges of a group's units


class Group(NamedTuple):
    """Units that start together. side: `OURS` or `THEIRS`. place: (x, y). units: pairs of type and number."""

    side: int
    place: tuple[float, float]
    units: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class BattleMap:
    """A map.

    groups: in the order of unit numbers, all of one side before the other.
    attack_point: goal of enemies without a target.
    terrain: a name in terrains.yaml.
    limit: steps, those of SMAC.
    order: unit types in the order of one-hot vectors and agent numbers; empty if each side has one type.
    """

    groups: tuple[Group, ...]
    attack_point: tuple[float, float]
    terrain: str
    limit: int
    order: tuple[str, ...] = ()


def places(group: Group) -> np.ndarray:
    """Start positions float32 [n, 2]: a square grid, filled row by row; the enemies' grid is rotated by 180 degrees."""
    radii = [UNITS[name].radius for name, amount in group.units for _ in range(amount)]
    side = math.ceil(math.sqrt(len(radii)))
    rows = [radii[i * side : (i + 1) * side] for i in range(side)]
    widest = [max(row, default=0.0) for row in rows]
    height = 2 * sum(widest) + GAP * (side - 1)
    width = max(2 * sum(row) for row in rows)
    turn = 1.0 if group.side == OURS else -1.0
    left, y = group.place[0] - turn * width / 2, group.place[1] - turn * height / 2
    found, above = [], 0.0
    for row, radius in zip(rows, widest, strict=True):
        y += turn * (above + radius)
        x, before = left, None
        for own in row:
            x += turn * (own if before is None else GAP + before + own)
            before = own
            found.append((x, y))
        y += turn * GAP
        above = radius
    return np.array(found, np.float32)


def unit_names(group: Group) -> list[str]:
    """The type of each unit of a group."""
    return [name for name, amount in group.units for _ in range(amount)]


def type_order(groups: Iterable[Group]) -> tuple[str, ...]:
    """Unit types of a map, sorted by name; empty if each side has one type."""
    by_side = [{name for g in groups if g.side == side for name, _ in g.units} for side in (OURS, THEIRS)]
    return () if max(map(len, by_side)) == 1 else tuple(sorted(by_side[0] | by_side[1]))


_SHORT = {"m": "marine", "M": "marauder", "+": "medivac", "s": "stalker", "z": "zealot", "c": "colossus"}
_SHORT |= {"zg": "zergling", "b": "baneling", "sc": "spine_crawler", "h": "hydralisk"}
_WEST, _EAST = (9.0, 16.0), (23.0, 16.0)


def _team(text: str) -> tuple[tuple[str, int], ...]:
    """Units from a text such as "3 s 5 z"."""
    words = text.split()
    return tuple((_SHORT[kind], int(amount)) for amount, kind in zip(words[::2], words[1::2], strict=True))


def _duel(ours: str, theirs: str, limit: int, terrain: str = "SIMPLE", at=_WEST, their=_EAST, point=None) -> BattleMap:
    """A map with one group per side."""
    groups = Group(OURS, at, _team(ours)), Group(THEIRS, their, _team(theirs))
    return BattleMap(groups, point or at, terrain, limit, type_order(groups))


def _enemies_first(duel: BattleMap) -> BattleMap:
    return dataclasses.replace(duel, groups=duel.groups[::-1])


_FAR, _BASE = (27.91, 28.24), (4.47, 4.33)  # corridor's far end, and where its enemies walk to
MAPS: dict[str, BattleMap] = {
    "3m": _duel("3 m", "3 m", 60),
    "5m": _duel("5 m", "5 m", 70),
    "8m": _duel("8 m", "8 m", 120),
    "15m": _duel("15 m", "15 m", 150),
    "25m": _duel("25 m", "25 m", 150),
    "5m_vs_6m": _duel("5 m", "6 m", 70),
    "8m_vs_9m": _duel("8 m", "9 m", 120),
    "10m_vs_11m": _duel("10 m", "11 m", 150),
    "27m_vs_30m": _duel("27 m", "30 m", 180),
    "MMM": _duel("1 + 7 m 2 M", "1 + 7 m 2 M", 150),
    "MMM2": _duel("1 + 7 m 2 M", "1 + 8 m 3 M", 180),
    "2s3z": _duel("2 s 3 z", "2 s 3 z", 120),
    "3s5z": _duel("3 s 5 z", "3 s 5 z", 150),
    "3s5z_vs_3s6z": _duel("3 s 5 z", "3 s 6 z", 170),
    "3s6z": _duel("3 s 6 z", "3 s 6 z", 170),
    "9z": _duel("9 z", "9 z", 150),
    "1c3s5z": _duel("1 c 3 s 5 z", "1 c 3 s 5 z", 180),
    "1c3s8z_vs_1c3s9z": _duel("1 c 3 s 8 z", "1 c 3 s 9 z", 180),
    "3s_vs_3z": _duel("3 s", "3 z", 150, "ALL_GREEN"),
    "3s_vs_4z": _duel("3 s", "4 z", 200, "ALL_GREEN"),
    "3s_vs_5z": _duel("3 s", "5 z", 250, "ALL_GREEN"),
    "2c_vs_64zg": _duel("2 c", "64 zg", 400, "RAVINE", (16.0, 16.0), (16.0, 9.0)),
    "bane_vs_bane": BattleMap(
        (
            Group(THEIRS, (16.0, 24.0), _team("4 b")),
            Group(THEIRS, (16.0, 21.0), _team("20 zg")),
            Group(OURS, (16.0, 11.0), _team("20 zg")),
            Group(OURS, (16.0, 8.0), _team("4 b")),
        ),
        (16.0, 8.0),
        "OCTAGON",
        200,
        ("baneling", "zergling"),
    ),
    "corridor": _enemies_first(_duel("6 z", "24 zg", 400, "CORRIDOR", (19.04, 19.12), _FAR, _BASE)),
    "2s_vs_1sc": BattleMap(
        (
            Group(THEIRS, (13.92, 20.04), _team("1 sc")),
            Group(OURS, (11.12, 10.34), _team("1 s")),
            Group(OURS, (16.98, 10.37), _team("1 s")),
        ),
        (13.92, 20.04),
        "PENTAGON",
        300,
    ),
    "2m_vs_1z": BattleMap(
        (
            Group(OURS, (13.0, 12.0), _team("1 m")),
            Group(OURS, (19.0, 12.0), _team("1 m")),
            Group(THEIRS, (16.0, 19.0), _team("1 z")),
        ),
        (16.0, 12.0),
        "OCTAGON",
        150,
    ),
    "so_many_baneling": _duel("7 z", "32 b", 100, "CORRIDOR", (11.469, 12.023), _FAR, _BASE),
    "6h_vs_8z": _duel("6 h", "8 z", 150, "OCTAGON", (14.60, 9.49), (14.41, 16.76)),
}
UNPUBLISHED = ("5m", "15m", "9z", "1c3s8z_vs_1c3s9z")
OTHER_CLIFFS = ("so_many_baneling", "6h_vs_8z")  # maps whose terrain is unknown; they use another map's
