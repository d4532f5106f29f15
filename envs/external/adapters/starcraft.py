"""StarCraft II battles: SMAC (Samvelyan et al., 2019) and SMACv2 (Ellis et al., 2023).

Time limits are terminal, as in PyMARL. StarCraft II crashes occasionally, and the interface hides it: `step` then
reports a terminal step without info, and `reset` returns observations of the previous battle. This adapter detects
both and raises Aborted, which ends the worker; a new worker builds the interface again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad.envs.external.adapters.gymnasium_envs import package, versions
from gpgrad.envs.external.protocol import Aborted, Missing, Outcome, Seen, Sizes

INFO = ("won", "timed_out", "dead_allies", "dead_enemies")
BEST_RETURN = 20.0  # enemies' health, deaths and the win, as scaled by SMAC
GAME = "https://blzdistsc2-a.akamaihd.net/Linux/SC2.4.10.zip (its password is iagreetotheeula)"
MAPS = "https://github.com/oxwhirl/smac/releases/download/v0.1-beta1/SMAC_Maps.zip"
V2_MAPS = "https://github.com/oxwhirl/smacv2/releases/download/maps/SMAC_Maps.zip"
TEAMS = {  # SMACv2's published unit types with their weights; a team never has only the last type
    "terran": {"marine": 0.45, "marauder": 0.45, "medivac": 0.1},
    "protoss": {"stalker": 0.45, "zealot": 0.45, "colossus": 0.1},
    "zerg": {"zergling": 0.45, "hydralisk": 0.45, "baneling": 0.1},
}


class StarcraftSimulator:
    """An environment with StarCraft2Env's methods. make(seed): builds one, without starting the game."""

    def __init__(self, make: Callable[[int], Any], seen: dict[str, str] | None = None) -> None:
        self._make, self._battle, self._started = make, make(0), False
        about = self._battle.get_env_info()
        self._limit, self._time = int(about["episode_limit"]), 0
        # SMAC's state begins with the agents: health, cooldown, position, then shield and type if there are any.
        own = [getattr(self._battle, name, None) for name in ("shield_bits_ally", "unit_type_bits")]
        self.sizes = Sizes(
            n_agents=int(about["n_agents"]),
            n_actions=int(about["n_actions"]),
            obs_dim=int(about["obs_shape"]),
            state_dim=int(about["state_shape"]),
            own_state_dim=0 if None in own or "cap_shape" in about else 4 + sum(int(bits or 0) for bits in own),
            episode_limit=self._limit,
            limit_is_terminal=True,
            has_win=True,
            return_scale=BEST_RETURN,
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

    def _observe(self) -> Seen:
        battle = self._battle
        return Seen(battle.get_obs(), battle.get_avail_actions(), battle.get_state())

    def _refuse_restart(self, before: int) -> None:
        if self._battle.force_restarts != before:
            raise Aborted("StarCraft II crashed and was restarted")


def smac(map: str, difficulty: str = "7") -> StarcraftSimulator:
    """A map of SMAC. Raises Missing."""
    env_name = f"smac_{map}"
    module = package("smac.env", "git+https://github.com/oxwhirl/smac.git", env_name)
    found = {**versions({"smac", "pysc2"}), **installation(env_name, map, MAPS)}

    def make(seed: int) -> Any:
        try:
            return module.StarCraft2Env(map_name=map, difficulty=difficulty, seed=seed)
        except KeyError:
            raise Missing(f"{env_name} needs the map {map}, which smac does not know") from None

    return StarcraftSimulator(make, found)


def smacv2(race: str, allies: int, enemies: int, difficulty: str = "7") -> StarcraftSimulator:
    """SMACv2 with teams of a race sampled for each battle. Raises Missing."""
    env_name, map = f"smacv2_{race}_{allies}_vs_{enemies}", f"10gen_{race}"
    if race not in TEAMS:
        raise Missing(f"{env_name} needs a race of {', '.join(TEAMS)}")
    address = "git+https://github.com/oxwhirl/smacv2.git"
    module = package("smacv2.env.starcraft2.wrapper", address, env_name)
    found = {**versions({"smacv2", "pysc2"}), **installation(env_name, map, V2_MAPS)}

    def make(seed: int) -> Any:
        units = TEAMS[race]
        # A new dict each time, since the wrapper modifies it.
        capabilities = {
            "n_units": allies,
            "n_enemies": enemies,
            "team_gen": {
                "dist_type": "weighted_teams",
                "unit_types": list(units),
                "exception_unit_types": list(units)[-1:],
                "weights": list(units.values()),
                "observe": True,
            },
            "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32},
        }
        return module.StarCraftCapabilityEnvWrapper(
            capability_config=capabilities,
            map_name=map,
            difficulty=difficulty,
            seed=seed,
            obs_own_pos=True,
            use_unit_ranges=True,
            min_attack_range=2,
            conic_fov=False,
        )

    return StarcraftSimulator(make, found)


def installation(env_name: str, map: str, maps: str) -> dict[str, str]:
    """The newest build of StarCraft II. Raises Missing if the game or the map is not installed."""
    root = Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()
    builds = sorted(path.name for path in root.glob("Versions/Base*"))
    if not builds:
        raise Missing(f"{env_name} needs StarCraft II, which is not in {root} (set SC2PATH): unzip {GAME} there")
    if not any(root.glob(f"[Mm]aps/**/{map}.SC2Map")):
        raise Missing(f"{env_name} needs the map {map}, which is not in {root / 'Maps'}: unzip {maps} there")
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
