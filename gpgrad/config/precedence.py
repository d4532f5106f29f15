"""Which file in `configs/` may set what, and which sharing scheme results.

A training preset defines optimiser, returns, batch size, updates, parallel environments, exploration, networks and
`t_max`. An environment's file may change these only for presets that it names under `presets:`; an algorithm's file may
not change them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gpgrad.config.presets import mapping
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError

Level = tuple[str, Mapping[str, Any]]  # a file and its settings

# Settings (or groups, with a dot) that a preset defines, and exceptions that belong to the environment.
DEFINING = ("t_max", "parts", "agent.", "decomposition.", "learner.", "replay.", "rollout.")
OF_WORLDS = ("agent.last_action", "learner.reward_scale")

WITHOUT_ID, WITH_ID = "fups", "fups_id"  # full sharing without and with an agent id


def defines(name: str) -> bool:
    """Whether a training preset defines the setting of that dotted name."""
    return name.startswith(DEFINING) and name not in OF_WORLDS


def check_world(name: str, content: Mapping[str, Any]) -> None:
    """Raise SettingError if an environment's file changes settings of presets for all presets at once."""
    _refuse(content, f"configs/env/{name}.yaml", "it must be under presets: NAME: for each preset that it is meant for")


def check_algorithm(name: str, content: Mapping[str, Any]) -> None:
    """Raise SettingError if an algorithm's file changes settings of the training preset."""
    rest = {key: value for key, value in content.items() if key != "parts"}
    _refuse(rest, f"configs/algo/{name}.yaml", "algorithms must differ in their parts alone")


def _refuse(content: Mapping[str, Any], place: str, reason: str) -> None:
    for key, value in content.items():
        names = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) else [str(key)]
        for name in names:
            if key != "presets" and defines(name):
                raise SettingError(f"{place} sets {name}, which a training preset defines: {reason}")


def scheme(method: Mapping[str, Any], levels: Sequence[Level]) -> str:
    """The sharing scheme: of the algorithm if it names one, else of the last level that does, else `fups_id`."""
    if "sharing" in method["parts"]:
        return method["parts"]["sharing"]
    found = WITH_ID
    for source, content in levels:
        parts = mapping(content.get("parts", {}), f"parts in configs/{source}.yaml")
        if set(parts) - {"sharing"}:
            raise SettingError(f"parts in configs/{source}.yaml must be sharing alone (got {dict(parts)!r})")
        found = parts.get("sharing", found)
    return found


def settle(config: Config) -> Config:
    """The configuration with `agent.agent_id` resolved to true or false.

    Raises SettingError if it contradicts the sharing scheme, so that each network has exactly one name.
    """
    given, name = config.agent.agent_id, config.sharing.name
    if (given is True and name == WITHOUT_ID) or (given is False and name == WITH_ID):
        has, other = ("always", WITHOUT_ID) if name == WITH_ID else ("never", WITH_ID)
        raise SettingError(
            f"agent.agent_id is {str(given).lower()}, but sharing {name} {has} has the agent's id; "
            f"use --sharing {other}, or leave out agent.agent_id"
        )
    return dataclasses.replace(
        config, agent=dataclasses.replace(config.agent, agent_id=given if given is not None else name == WITH_ID)
    )


def upgrade_parts(versions: Mapping[str, int], sharing: str) -> dict[str, int]:
    """Numerics versions of an older run, with `sharing.fups` renamed if its scheme is `fups_id` today."""
    old, new = f"sharing.{WITHOUT_ID}", f"sharing.{WITH_ID}"
    return {new if name == old and sharing == WITH_ID else name: number for name, number in versions.items()}


def upgrade(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Resolved settings of earlier versions under today's names.

    Earlier, `sharing: fups` had an agent id if `agent.agent_id` was true, and `fups_id` had one regardless of it.
    """
    result = dict(settings)
    if result.get("sharing") == WITHOUT_ID and result.get("agent.agent_id") is True:
        result["sharing"] = WITH_ID
        if result.get("algo") == WITHOUT_ID:
            result["algo"] = WITH_ID
    if result.get("sharing") == WITH_ID:
        result["agent.agent_id"] = True
    return result
