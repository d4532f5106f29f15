"""External environments by the patterns of their names."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from gpgrad.envs.external.adapters.rivals import POLICIES
from gpgrad.envs.external.env import ExternalEnv
from gpgrad.envs.external.protocol import Recipe
from gpgrad.errors import SettingError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smac(ExternalEnv):
    """`smac_<map>`: SMAC (Samvelyan et al., 2019) in StarCraft II.

    difficulty: of the built-in enemy, 1 to 9 and A.
    arguments: further arguments of StarCraft2Env, as JSON.
    """

    difficulty: str = "7"
    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """The map is the part after the prefix."""
        settings = {"map": rest(self.name), **of_battle(self)}
        return Recipe("gpgrad.envs.external.adapters.starcraft:smac", settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmacV2(ExternalEnv):
    """`smacv2_<race>_<n>_vs_<m>`: SMACv2 (Ellis et al., 2023) in StarCraft II, with sampled teams.

    difficulty: of the built-in enemy, 1 to 9 and A.
    arguments: further arguments of StarCraft2Env, as JSON; `capability_config` has distributions of your own.
    """

    difficulty: str = "7"
    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """Race and team sizes from the name. Raises SettingError for other names."""
        race, *sizes = rest(self.name).split("_")
        if len(sizes) != 3 or sizes[1] != "vs" or not (sizes[0] + sizes[2]).isdigit():
            raise SettingError(f"SMACv2 has no environment {self.name!r}; a name must be such as smacv2_terran_5_vs_5")
        settings = {"race": race, "allies": int(sizes[0]), "enemies": int(sizes[2]), **of_battle(self)}
        return Recipe("gpgrad.envs.external.adapters.starcraft:smacv2", settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smaclite(ExternalEnv):
    """`smaclite_<map>`: SMAClite, SMAC's battles in NumPy.

    episode_limit: steps; 0: the map's limit in SMAC.
    arguments: `map_file` (of `smaclite_custom`) and `use_cpp_rvo2`, as JSON.
    """

    episode_limit: int = 0
    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """The map is the part after the prefix."""
        parsed(self)
        limit = at_least_0(self, "episode_limit")
        settings = {"map": rest(self.name), "episode_limit": limit, "arguments": self.arguments}
        return Recipe("gpgrad.envs.external.adapters.smaclite:SmacliteSimulator", settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gym(ExternalEnv):
    """`gym_<id>`: a Gymnasium environment with one entry per agent in observations, actions and rewards.

    episode_limit: steps; 0: the environment's own limit.
    team_reward: `sum` or `mean` of the agents' rewards.
    arguments: further arguments of the environment, as JSON.
    """

    episode_limit: int = 0
    team_reward: str = "sum"
    arguments: str = "{}"

    @property
    def drawn(self) -> ExternalEnv:
        """With Gymnasium's argument for pictures."""
        return dataclasses.replace(self, arguments=json.dumps({**parsed(self), "render_mode": "rgb_array"}))

    @property
    def recipe(self) -> Recipe:
        """The id is the part after the prefix."""
        return Recipe(
            "gpgrad.envs.external.adapters.gymnasium_envs:GymSimulator", {"id": rest(self.name), **common(self)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zoo(ExternalEnv):
    """`pz_<module>`: a PettingZoo environment with `parallel_env`, or with `env` if it can be converted.

    episode_limit: steps; 0: the environment's own limit.
    team_reward: `sum` or `mean` of the agents' rewards.
    team: the agents that learn, names or groups such as `adversary` separated by commas, or `all`.
    others: how the other agents act, `random` or `still`.
    arguments: further arguments of the environment, as JSON.
    """

    episode_limit: int = 0
    team_reward: str = "mean"
    team: str = ""
    others: str = "random"
    arguments: str = "{}"

    @property
    def drawn(self) -> ExternalEnv:
        """With PettingZoo's argument for pictures."""
        return dataclasses.replace(self, arguments=json.dumps({**parsed(self), "render_mode": "rgb_array"}))

    @property
    def recipe(self) -> Recipe:
        """The module is the part after the prefix. Raises SettingError for an unknown policy of others."""
        if self.others not in POLICIES:
            raise SettingError(f"others of {self.name} must be {' or '.join(POLICIES)} (got {self.others!r})")
        settings = {"module": rest(self.name), "team": self.team, "others": self.others, **common(self)}
        return Recipe("gpgrad.envs.external.adapters.pettingzoo_envs:ZooSimulator", settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(ExternalEnv):
    """`host_<module>:<maker>`: your own simulator, which workers build by calling the maker.

    arguments: keyword arguments of the maker, as JSON.
    """

    arguments: str = "{}"

    @property
    def recipe(self) -> Recipe:
        """The maker is the part after the prefix. Raises SettingError if it is missing."""
        module, _, maker = rest(self.name).partition(":")
        if not module or not maker.isidentifier():
            raise SettingError(f"the name {self.name!r} has no maker; it must be such as host_my_module:MyWorld")
        return Recipe(rest(self.name), parsed(self))


def rest(name: str) -> str:
    """The part of a name after the family's prefix."""
    return name.partition("_")[2]


def common(env: Gym | Zoo) -> dict[str, str | int]:
    """The checked settings that Gymnasium and PettingZoo environments share."""
    if env.team_reward not in ("sum", "mean"):
        raise SettingError(f"team_reward of {env.name} must be sum or mean (got {env.team_reward!r})")
    parsed(env)
    limit = at_least_0(env, "episode_limit")
    return {"episode_limit": limit, "team_reward": env.team_reward, "arguments": env.arguments}


def of_battle(env: Smac | SmacV2) -> dict[str, str]:
    """The checked settings that SMAC and SMACv2 share. Raises SettingError."""
    parsed(env)
    return {"difficulty": env.difficulty, "arguments": env.arguments}


def parsed(env: Smac | SmacV2 | Smaclite | Gym | Zoo | Own) -> dict[str, Any]:
    """The parsed arguments. Raises SettingError unless they are a JSON object."""
    try:
        arguments = json.loads(env.arguments)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise SettingError(
            f"arguments of {env.name} must be a JSON object such as '{{\"name\": 1}}' (got {env.arguments!r})"
        )
    return arguments


def at_least_0(env: ExternalEnv, option: str) -> int:
    """The value of an option. Raises SettingError if it is negative."""
    value = getattr(env, option)
    if value < 0:
        raise SettingError(f"{option} of {env.name} must be 0 or more (got {value})")
    return value
