"""Which of the files in `configs/` may set what, and which sharing scheme results.

A training preset is defined by its optimiser, returns, batch, updates, worlds, exploration, networks and `t_max`. A
world changes these for a preset that it names, under `presets:`, and nowhere else; an algorithm changes none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gpgrad.config.presets import mapping
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError

Level = tuple[str, Mapping[str, Any]]  # the file that settings come from, and the settings

# Settings that define a preset, whole groups by their dot, and those in such groups that are the world's own.
DEFINING = ("t_max", "parts", "agent.", "decomposition.", "learner.", "replay.", "rollout.")
OF_WORLDS = ("agent.last_action", "learner.reward_scale")

WITHOUT_ID, WITH_ID = "fups", "fups_id"  # full sharing, two schemes that differ in the agent's id alone


def defines(name: str) -> bool:
    """Whether a setting, by its dotted name, is one of those that define a preset."""
    return name.startswith(DEFINING) and name not in OF_WORLDS


def check_world(name: str, content: Mapping[str, Any]) -> None:
    """Refuse a world's file that changes what defines a preset for all presets at once. Raises SettingError."""
    _refuse(content, f"configs/env/{name}.yaml", "it must be under presets: NAME: for each preset that it is meant for")


def check_algorithm(name: str, content: Mapping[str, Any]) -> None:
    """Refuse an algorithm's file that changes how all methods are trained. Raises SettingError."""
    rest = {key: value for key, value in content.items() if key != "parts"}
    _refuse(rest, f"configs/algo/{name}.yaml", "algorithms must differ in their parts alone")


def _refuse(content: Mapping[str, Any], place: str, reason: str) -> None:
    for key, value in content.items():
        names = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) else [str(key)]
        for name in names:
            if key != "presets" and defines(name):
                raise SettingError(f"{place} sets {name}, which a training preset defines: {reason}")


def scheme(method: Mapping[str, Any], levels: Sequence[Level]) -> str:
    """The sharing scheme: the algorithm's if it names one, else that of the last level that does, else PyMARL's."""
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
    """The configuration with `agent.agent_id` true or false as the network will be.

    Raises SettingError where it contradicts the sharing scheme, so that one network has one name.
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
    """Numerics versions of a run whose sharing scheme is called so today, under that name."""
    old, new = f"sharing.{WITHOUT_ID}", f"sharing.{WITH_ID}"
    return {new if name == old and sharing == WITH_ID else name: number for name, number in versions.items()}


def upgrade(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Resolved settings as an earlier version wrote them, by the names that their network has today.

    `sharing: fups` once took its id from `agent.agent_id`, and `fups_id` had one whatever that said.
    """
    result = dict(settings)
    if result.get("sharing") == WITHOUT_ID and result.get("agent.agent_id") is True:
        result["sharing"] = WITH_ID
        if result.get("algo") == WITHOUT_ID:
            result["algo"] = WITH_ID
    if result.get("sharing") == WITH_ID:
        result["agent.agent_id"] = True
    return result
