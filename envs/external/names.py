"""Host worlds by the patterns of their names."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from gpgrad.envs.external.env import ExternalEnv
from gpgrad.envs.external.protocol import Recipe
from gpgrad.errors import SettingError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smac(ExternalEnv):
    """`smac_<map>`: StarCraft II by oxwhirl's SMAC. difficulty: of the built-in enemy, 1 to 9 and A."""

    difficulty: str = "7"

    @property
    def recipe(self) -> Recipe:
        """The map is what follows the prefix."""
        return Recipe(
            "gpgrad.envs.external.adapters.starcraft:smac", {"map": rest(self.name), "difficulty": self.difficulty}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmacV2(ExternalEnv):
    """`smacv2_<race>_<n>_vs_<m>`: StarCraft II with drawn teams. difficulty: of the built-in enemy."""

    difficulty: str = "7"

    @property
    def recipe(self) -> Recipe:
        """Race and sizes of the teams. Raises SettingError for other names."""
        race, *sizes = rest(self.name).split("_")
        if len(sizes) != 3 or sizes[1] != "vs" or not (sizes[0] + sizes[2]).isdigit():
            raise SettingError(f"SMACv2 has no environment {self.name!r}; a name must be such as smacv2_terran_5_vs_5")
        settings = {"race": race, "allies": int(sizes[0]), "enemies": int(sizes[2]), "difficulty": self.difficulty}
        return Recipe("gpgrad.envs.external.adapters.starcraft:smacv2", settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smaclite(ExternalEnv):
    """`smaclite_<map>`: SMAC's battles in NumPy. episode_limit: steps, 0 for SMAC's."""

    episode_limit: int = 0

    @property
    def recipe(self) -> Recipe:
        """The map is what follows the prefix."""
        settings = {"map": rest(self.name), "episode_limit": at_least_0(self, "episode_limit")}
        return Recipe("gpgrad.envs.external.adapters.smaclite:SmacliteSimulator", settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gym(ExternalEnv):
    """`gym_<id>`: a Gymnasium world with an entry per agent in observations, actions and rewards.

    episode_limit: steps, 0 for the world's own. team_reward: what the team earns, `sum` or `mean` of its agents'
    rewards. arguments: further ones for the world, as JSON.
    """

    episode_limit: int = 0
    team_reward: str = "sum"
    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """The id is what follows the prefix."""
        return Recipe(
            "gpgrad.envs.external.adapters.gymnasium_envs:GymSimulator", {"id": rest(self.name), **common(self)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zoo(ExternalEnv):
    """`pz_<module>`: a PettingZoo world in which all act at once; options as in `Gym`."""

    episode_limit: int = 0
    team_reward: str = "mean"
    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """The module is what follows the prefix."""
        return Recipe(
            "gpgrad.envs.external.adapters.pettingzoo_envs:ZooSimulator", {"module": rest(self.name), **common(self)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(ExternalEnv):
    """`host_<module>:<maker>`: a simulator of one's own, which workers get from the maker.

    arguments: keyword arguments of the maker, as JSON.
    """

    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """The maker is what follows the prefix. Raises SettingError where it is not named."""
        module, _, maker = rest(self.name).partition(":")
        if not module or not maker.isidentifier():
            raise SettingError(f"the name {self.name!r} has no maker; it must be such as host_my_module:MyWorld")
        return Recipe(rest(self.name), parsed(self))


def rest(name: str) -> str:
    """What follows the family's prefix."""
    return name.partition("_")[2]


def common(world: Gym | Zoo) -> dict[str, str | int]:
    """Settings of both, checked."""
    if world.team_reward not in ("sum", "mean"):
        raise SettingError(f"team_reward of {world.name} must be sum or mean (got {world.team_reward!r})")
    parsed(world)
    limit = at_least_0(world, "episode_limit")
    return {"episode_limit": limit, "team_reward": world.team_reward, "arguments": world.arguments}


def parsed(world: Gym | Zoo | Own) -> dict[str, Any]:
    """The arguments. Raises SettingError where they are no JSON of names with values."""
    try:
        arguments = json.loads(world.arguments)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise SettingError(
            f"arguments of {world.name} must be a JSON object such as '{{\"name\": 1}}' (got {world.arguments!r})"
        )
    return arguments


def at_least_0(world: ExternalEnv, option: str) -> int:
    """An option's value. Raises SettingError for a negative one."""
    value = getattr(world, option)
    if value < 0:
        raise SettingError(f"{option} of {world.name} must be 0 or more (got {value})")
    return value
