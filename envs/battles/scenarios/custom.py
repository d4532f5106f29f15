"""Custom battles: a YAML file of units and positions.

ours:
- {at: [9, 16], units: {marine: 2, medivac: 1}}
enemies:
- {at: [23, 16], units: {marine: 3}}
attack_point: [9, 16]    # enemies without a target walk here; default: position of the first allied group
terrain: SIMPLE          # default: OPEN, without walls
limit: 100               # steps
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from gpgrad.envs.battles.scenarios import terrain
from gpgrad.envs.battles.scenarios.maps import BOARD, OURS, THEIRS, BattleMap, Group, type_order
from gpgrad.envs.battles.scenarios.units import UNITS
from gpgrad.errors import SettingError, suggest
from gpgrad.yaml_loader import read_yaml

MOST_UNITS = 127  # maximum of target numbers in a state
EXAMPLE = Path(__file__).with_name("example.yaml")
_KEYS = ("ours", "enemies", "attack_point", "terrain", "limit")


@functools.cache
def custom_map(file: str) -> BattleMap:
    """The map of a file, or the example for "". Raises SettingError."""
    path = Path(os.path.expanduser(file)) if file else EXAMPLE
    content = read_yaml(path, "the battle")
    if not isinstance(content, dict):
        raise SettingError(f"the battle {path} must be a mapping of {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise SettingError(f"the battle {path} has no setting {key!r}" + suggest(str(key), _KEYS))
    ours, enemies = (_groups(path, content, key, side) for key, side in (("ours", OURS), ("enemies", THEIRS)))
    groups = (*ours, *enemies)
    total = sum(amount for group in groups for _, amount in group.units)
    if total > MOST_UNITS:
        raise SettingError(f"the battle {path} must have at most {MOST_UNITS} units (got {total})")
    ground = content.get("terrain", "OPEN")
    if ground not in terrain.names():
        raise SettingError(f"terrain in {path} is {ground!r}" + suggest(str(ground), terrain.names()))
    point = _place(path, "attack_point", content.get("attack_point", list(ours[0].place)))
    return BattleMap(groups, point, ground, _whole(path, "limit", content.get("limit", 100), 32767), type_order(groups))


def _groups(path: Path, content: dict[str, Any], key: str, side: int) -> tuple[Group, ...]:
    given = content.get(key)
    if not isinstance(given, list) or not given:
        raise SettingError(f"{key} in {path} must be a list of groups such as {{at: [9, 16], units: {{marine: 3}}}}")
    found = []
    for entry in given:
        if not isinstance(entry, dict) or set(entry) != {"at", "units"} or not isinstance(entry["units"], dict):
            raise SettingError(f"a group of {key} in {path} must be such as {{at: [9, 16], units: {{marine: 3}}}}")
        for name in entry["units"]:
            if name not in UNITS:
                raise SettingError(f"{path} has an unknown unit {name!r}" + suggest(str(name), UNITS))
        units = tuple((name, _whole(path, name, amount, MOST_UNITS)) for name, amount in entry["units"].items())
        if not units:
            raise SettingError(f"a group of {key} in {path} must have at least one unit")
        found.append(Group(side, _place(path, f"at of {key}", entry["at"]), units))
    return tuple(found)


def _place(path: Path, key: str, given: Any) -> tuple[float, float]:
    numbers = [z for z in given if isinstance(z, int | float) and not isinstance(z, bool)] if _is_pair(given) else []
    if len(numbers) != 2 or not all(0 <= z <= BOARD for z in numbers):
        raise SettingError(f"{key} in {path} must be two numbers from 0 to {BOARD} (got {given!r})")
    return float(numbers[0]), float(numbers[1])


def _is_pair(given: Any) -> bool:
    return isinstance(given, list | tuple) and len(given) == 2


def _whole(path: Path, key: str, given: Any, most: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= most:
        raise SettingError(f"{key} in {path} must be a whole number from 1 to {most} (got {given!r})")
    return given
