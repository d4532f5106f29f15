"""SMAClite: SMAC's battles in NumPy, without StarCraft II."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad.envs.external.adapters.gymnasium_envs import package, versions
from gpgrad.envs.external.adapters.starcraft import BEST_RETURN
from gpgrad.envs.external.protocol import Missing, Outcome, Seen, Sizes
from gpgrad.errors import suggest

# SMAClite pins rtree 1.0.0, which needs the system's libspatialindex; later ones bring theirs.
RTREE = "pip install --no-deps 'rtree>=1.3'"

CUSTOM = "custom"
ARGUMENTS = ("map_file", "use_cpp_rvo2")

# Steps: SMAC's limits of these maps, since SMAClite has none.
LIMITS = {
    "10m_vs_11m": 150,
    "27m_vs_30m": 180,
    "2c_vs_64zg": 400,
    "2s3z": 120,
    "2s_vs_1sc": 300,
    "3s5z": 150,
    "3s5z_vs_3s6z": 170,
    "3s_vs_5z": 250,
    "bane_vs_bane": 200,
    "corridor": 400,
    "MMM": 150,
    "MMM2": 180,
}


class SmacliteSimulator:
    """A map of SMAClite, or `custom` with the argument `map_file`.

    maker: the module with gymnasium's `make`. episode_limit: steps; 0: the limit in SMAC. arguments: `ARGUMENTS` of
    SMACliteEnv, as JSON.
    """

    def __init__(self, map: str, episode_limit: int = 0, arguments: str = "{}", maker: str = "gymnasium") -> None:
        env_name = f"smaclite_{map}"
        if maker == "gymnasium":
            package("smaclite", "git+https://github.com/uoe-agents/smaclite.git", env_name, RTREE)
        given = json.loads(arguments)
        for name in given:
            if name not in ARGUMENTS:
                raise Missing(f"{env_name} has no argument {name!r}" + suggest(name, ARGUMENTS))
        if (map == CUSTOM) != ("map_file" in given):
            raise Missing(
                f'a map of your own must be smaclite_{CUSTOM} with --env.arguments \'{{"map_file": "PATH"}}\''
            )
        if map == CUSTOM and not Path(given["map_file"]).is_file():
            raise Missing(f"map_file of {env_name} must be a file (got {given['map_file']!r})")
        if map == CUSTOM and not episode_limit:
            raise Missing(f"{env_name} has no time limit of its own; set one with --env.episode_limit")
        if map not in (CUSTOM, *LIMITS):
            raise Missing(
                f"{env_name} needs the map {map}, which SMAClite does not have; its maps are {', '.join(LIMITS)}"
            )
        if given.get("use_cpp_rvo2"):
            package("rvo2", "git+https://github.com/micadam/SMAClite-Python-RVO2", env_name)
        self._env = importlib.import_module(maker).make(f"smaclite/{map}-v0", **given)
        self._battle = battle = self._env.unwrapped
        self._limit, self._time = episode_limit or LIMITS[map], 0
        self.sizes = Sizes(
            n_agents=int(battle.n_agents),
            n_actions=int(battle.n_actions),
            obs_dim=int(battle.obs_size),
            state_dim=int(battle.state_size),
            own_state_dim=int(getattr(battle, "ally_state_feat_size", 0)),
            episode_limit=self._limit,
            limit_is_terminal=True,
            has_win=True,
            return_scale=BEST_RETURN,
            ends_early=True,
            info=("won", "timed_out"),
            versions=versions({"smaclite", "gymnasium"}),
        )

    def reset(self, seed: int) -> Seen:
        """Start a battle and clear the last actions, which the state would otherwise keep from the previous one."""
        self._time = 0
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002, SMAClite samples from it
        self._battle.last_actions = np.zeros_like(self._battle.last_actions)
        return self._observe(self._env.reset(seed=seed % 2**31)[0])

    def step(self, actions: list[int]) -> Outcome:
        """One step; reaching the limit is a loss, as in SMAC."""
        obs, reward, over, _, info = self._env.step(actions)
        self._time += 1
        cut = not over and self._time >= self._limit
        info = {"won": bool(over and info["battle_won"]), "timed_out": cut}
        return Outcome(self._observe(obs), float(reward), bool(over), cut, info)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observe(self, obs: Any) -> Seen:
        return Seen(obs, self._battle.get_avail_actions(), self._battle.get_state())
