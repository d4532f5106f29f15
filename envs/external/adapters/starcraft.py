"""StarCraft II battles: SMAC (Samvelyan et al., 2019) and SMACv2 (Ellis et al., 2023).

Time limits are terminal, as in PyMARL. StarCraft II crashes occasionally, and the interface hides it: `step` then
reports a terminal step without info, and `reset` returns observations of the previous battle. This adapter detects
both and raises Aborted, which ends the worker; a new worker builds the interface again.
"""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad.envs.external.adapters.gymnasium_envs import package, versions
from gpgrad.envs.external.protocol import Aborted, Missing, Outcome, Seen, Sizes
from gpgrad.errors import suggest

INFO = ("won", "timed_out", "dead_allies", "dead_enemies")
BEST_RETURN = 20.0  # enemies' health, deaths and the win, as scaled by SMAC
GAME = "https://blzdistsc2-a.akamaihd.net/Linux/SC2.4.10.zip (its password is iagreetotheeula)"
MAPS = "https://github.com/oxwhirl/smac/releases/download/v0.1-beta1/SMAC_Maps.zip"
V2_MAPS = "https://github.com/oxwhirl/smacv2/releases/download/maps/SMAC_Maps.zip"
V2_MAP = "32x32_flat"  # the map of all of SMACv2's battles
EXCEPTIONS = {"terran": "medivac", "zerg": "baneling"}  # unit types that cannot make up the whole team
TEAMS = {  # SMACv2's published unit types with their weights
    "terran": {"marine": 0.45, "marauder": 0.45, "medivac": 0.1},
    "protoss": {"stalker": 0.45, "zealot": 0.45, "colossus": 0.1},
    "zerg": {"zergling": 0.45, "hydralisk": 0.45, "baneling": 0.1},
}


class StarcraftSimulator:
    """An environment with StarCraft2Env's methods.

    make(seed): builds one, without starting the game. seen: versions. sparse: whether only the end is rewarded.
    """

    def __init__(self, make: Callable[[int], Any], seen: dict[str, str] | None = None, sparse: bool = False) -> None:
        self._make, self._battle, self._started = make, make(0), False
        about = self._battle.get_env_info()
        self._limit, self._time = int(about["episode_limit"]), 0
        # The state begins with a row for each agent: health, cooldown, position, shield, type, in SMACv2 capabilities.
        row = getattr(self._battle, "get_ally_num_attributes", lambda: 0)
        self.sizes = Sizes(
            n_agents=int(about["n_agents"]),
            n_actions=int(about["n_actions"]),
            obs_dim=int(about["obs_shape"]),
            state_dim=int(about["state_shape"]),
            own_state_dim=0 if getattr(self._battle, "obs_instead_of_state", False) else int(row()),
            episode_limit=self._limit,
            limit_is_terminal=True,
            has_win=True,
            return_scale=1.0 if sparse else BEST_RETURN,
            ends_early=True,
            info=INFO,
            versions=seen or {},
        )

    def reset(self, seed: int) -> Seen:
        """Start a battle. StarCraft II uses a seed only at its start; SMACv2's teams and positions use every seed."""
        if not self._started:
            self._battle, self._started = self._make(seed % 2**31), True
        reseed(getattr(self._battle, "env_key_to_distribution_map", {}), seed)
        self._time, before = 0, self._battle.force_restarts
        self._battle.reset()
        self._refuse_restart(before)
        return self._observe()

    def step(self, actions: list[int]) -> Outcome:
        """One step. Raises Aborted if the game was restarted meanwhile."""
        before = self._battle.force_restarts
        reward, over, info = self._battle.step(actions)
        self._refuse_restart(before)
        if over and not info:
            raise Aborted("the battle ended without info, a sign that StarCraft II crashed")
        self._time += 1
        won = bool(over and info.get("battle_won"))
        cut = bool(over and not won and self._time >= self._limit)
        told: dict[str, float] = {"won": won, "timed_out": cut}
        if over:
            told.update({name: info.get(name, 0) for name in ("dead_allies", "dead_enemies")})
        return Outcome(self._observe(), float(reward), bool(over and not cut), cut, told)

    def close(self) -> None:
        """Close the game if it was started."""
        if self._started:
            self._battle.close()

    def save_replay(self, folder: str) -> str:
        """Save StarCraft II's replay of the battle so far; returns its path."""
        inner = getattr(self._battle, "env", self._battle)  # of SMACv2's wrapper
        inner.replay_dir = folder
        inner.save_replay()
        return next((str(path) for path in Path(folder).rglob("*.SC2Replay")), "")

    def _observe(self) -> Seen:
        battle = self._battle
        return Seen(battle.get_obs(), battle.get_avail_actions(), battle.get_state())

    def _refuse_restart(self, before: int) -> None:
        if self._battle.force_restarts != before:
            raise Aborted("StarCraft II crashed and was restarted")


def smac(map: str, difficulty: str = "7", arguments: str = "{}") -> StarcraftSimulator:
    """A map of SMAC. arguments: of StarCraft2Env, as JSON. Raises Missing."""
    env_name = f"smac_{map}"
    speak_python()
    module = package("smac.env", "git+https://github.com/oxwhirl/smac.git", env_name)
    found = {**versions({"smac", "pysc2"}), **installation(env_name, map, MAPS, "Maps")}
    settings = {"difficulty": difficulty, **checked(env_name, module.StarCraft2Env, arguments)}

    def make(seed: int) -> Any:
        try:
            return module.StarCraft2Env(map_name=map, seed=seed, **settings)
        except KeyError:
            raise Missing(f"{env_name} needs the map {map}, which smac does not know") from None

    return StarcraftSimulator(make, found, bool(settings.get("reward_sparse")))


def smacv2(race: str, allies: int, enemies: int, difficulty: str = "7", arguments: str = "{}") -> StarcraftSimulator:
    """SMACv2 with teams of a race sampled for each battle.

    arguments: of StarCraft2Env, as JSON; `capability_config` replaces the published distributions, and the numbers of
    units in the name are added to it. Raises Missing.
    """
    env_name = f"smacv2_{race}_{allies}_vs_{enemies}"
    if race not in TEAMS:
        raise Missing(f"{env_name} needs a race of {', '.join(TEAMS)}")
    address = "git+https://github.com/oxwhirl/smacv2.git"
    speak_python()
    module = package("smacv2.env.starcraft2.wrapper", address, env_name)
    found = {**versions({"smacv2", "pysc2"}), **installation(env_name, V2_MAP, V2_MAPS, "Maps/SMAC_Maps")}
    given = checked(env_name, module.StarCraft2Env, arguments)
    published = {
        "obs_own_pos": True,
        "use_unit_ranges": True,
        "min_attack_range": 2,
        "conic_fov": False,
        "capability_config": distributions(race),
    }
    settings = {"difficulty": difficulty, **published, **given}

    def make(seed: int) -> Any:
        # A new dict each time, since the wrapper modifies it.
        own = copy.deepcopy({**settings["capability_config"], "n_units": allies, "n_enemies": enemies})
        others = {**settings, "capability_config": own}
        return module.StarCraftCapabilityEnvWrapper(map_name=f"10gen_{race}", seed=seed, **others)

    return StarcraftSimulator(make, found, bool(settings.get("reward_sparse")))


def distributions(race: str) -> dict[str, Any]:
    """SMACv2's published distributions of unit types and positions."""
    team: dict[str, Any] = {"dist_type": "weighted_teams", "unit_types": list(TEAMS[race])}
    if race in EXCEPTIONS:
        team["exception_unit_types"] = [EXCEPTIONS[race]]
    team.update(weights=list(TEAMS[race].values()), observe=True)
    return {
        "team_gen": team,
        "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32},
    }


def checked(env_name: str, maker: Callable[..., Any], arguments: str) -> dict[str, Any]:
    """The user's arguments. Raises Missing for names that the environment does not have or that its name decides."""
    given = json.loads(arguments)
    known = [name for name in inspect.signature(maker).parameters if name not in ("self", "map_name", "seed")]
    for name in given:
        if name not in known:
            raise Missing(f"{env_name} has no argument {name!r}" + suggest(name, known))
    return given


def speak_python() -> None:
    """Let protobuf use its implementation in Python.

    pysc2's messages were generated for protobuf 3; since protobuf 4 only that implementation reads them.
    """
    try:
        major = int(importlib.metadata.version("protobuf").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return
    if major > 3:
        os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")


def installation(env_name: str, map: str, maps: str, target: str) -> dict[str, str]:
    """The newest build of StarCraft II. Raises Missing if the game or the map is not installed.

    maps: the address of the zip file with the map. target: where it must be unpacked, below the game's folder.
    """
    root = Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()
    builds = sorted(path.name for path in root.glob("Versions/Base*"))
    if not builds:
        raise Missing(f"{env_name} needs StarCraft II, which is not in {root} (set SC2PATH): unzip {GAME} there")
    if not any(root.glob(f"[Mm]aps/SMAC_Maps/{map}.SC2Map")):
        place = root / "Maps" / "SMAC_Maps"
        raise Missing(f"{env_name} needs the map {map}, which is not in {place}: unzip {maps} in {root / target}")
    return {"StarCraftII": builds[-1]}


def reseed(distributions: Any, seed: int) -> None:
    """Seed the generators of SMACv2's distributions, also nested ones, and Python's own."""
    random.seed(seed)
    sequence, waiting = np.random.SeedSequence(seed), list(distributions.values())
    while waiting:
        one = waiting.pop(0)
        if hasattr(one, "rng"):
            one.rng = np.random.default_rng(sequence.spawn(1)[0])
        waiting += [value for value in vars(one).values() if hasattr(value, "generate")]
