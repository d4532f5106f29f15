"""Cooperative PettingZoo worlds in which all agents act at once, and some may be gone before the end."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np

from envs.host.gymnasium_worlds import available, padded, sizes_of
from envs.host.protocol import Missing, Outcome, Seen

PACKAGES = {"mpe2": "mpe2", "pettingzoo.butterfly": "pettingzoo[butterfly]", "pettingzoo.sisl": "pettingzoo[sisl]"}
_LIMITS = ("max_cycles", "max_steps")  # attributes that hold the world's own limit


class ZooSimulator:
    """A world with `parallel_env`. An agent that is gone sees zeros and has its first action alone, which is not sent.

    module: such as `simple_spread_v3`, looked for in `PACKAGES`, or one with its package, `mpe2.simple_spread_v3`.
    episode_limit: steps, 0 for the world's own. team_reward: sum or mean over all agents, gone or not.
    """

    def __init__(self, module: str, episode_limit: int = 0, team_reward: str = "mean", arguments: str = "{}") -> None:
        found = find(module)
        self._world = found.parallel_env(**json.loads(arguments))
        self._agents = list(self._world.possible_agents)
        self._seen_spaces = [self._world.observation_space(agent) for agent in self._agents]
        actions = [self._world.action_space(agent) for agent in self._agents]
        if not all(hasattr(space, "n") for space in actions):
            raise Missing(f"{module} has actions {actions[0]}, expected discrete ones")
        self._spaces = [getattr(space, "spaces", {}).get("observation", space) for space in self._seen_spaces]
        self._widths = [int(np.prod(space.shape)) for space in self._spaces]
        self._counts = [int(space.n) for space in actions]
        inside = self._world.unwrapped
        sources = (inside, getattr(inside, "aec_env", inside), getattr(inside, "env", inside))
        own = [getattr(getattr(s, "unwrapped", s), name, 0) for s in sources for name in _LIMITS]
        self._limit = episode_limit or next((int(limit) for limit in own if limit), 0)
        if not self._limit:
            raise Missing(f"{module} tells no time limit of its own, give one with --env.episode_limit")
        self._team = np.sum if team_reward == "sum" else np.mean
        self._time = 0
        self.sizes = sizes_of(self._widths, self._counts, self._limit, {found.__name__, "pettingzoo"})

    def reset(self, seed: int) -> Seen:
        """A new episode; the world's own randomness starts from the seed."""
        self._time = 0
        obs, infos = self._world.reset(seed=seed % 2**31)
        return self._seen(obs, infos)

    def step(self, actions: list[int]) -> Outcome:
        """The team earns what all agents do; the game is over when nobody is left who was not merely cut."""
        alive = set(self._world.agents)
        chosen = {agent: action for agent, action in zip(self._agents, actions, strict=True) if agent in alive}
        obs, rewards, terminations, truncations, infos = self._world.step(chosen)
        self._time += 1
        earned = [float(rewards.get(agent, 0.0)) for agent in self._agents]
        over = not self._world.agents
        cut = over and any(truncations.get(agent) and not terminations.get(agent) for agent in alive)
        return Outcome(
            self._seen(obs, infos),
            float(self._team(earned)),
            over and not cut,
            cut or (not over and self._time >= self._limit),
        )

    def close(self) -> None:
        """End the world."""
        self._world.close()

    def _seen(self, obs: dict[str, Any], infos: dict[str, Any]) -> Seen:
        rows: list[Any] = [np.zeros(space.shape, np.float32) for space in self._spaces]
        avail = available(self._counts)
        for i, agent in enumerate(self._agents):
            # When the game is over nobody is left, but the last moment is still one in which all could have acted.
            if agent not in obs or (self._world.agents and agent not in self._world.agents):
                avail[i] = np.arange(avail.shape[1]) == 0
                continue
            seen, mask = obs[agent], infos.get(agent, {}).get("action_mask")
            if isinstance(seen, dict):
                seen, mask = seen["observation"], seen.get("action_mask", mask)
            rows[i] = seen
            if mask is not None:
                avail[i, : self._counts[i]] = np.asarray(mask, bool)
        return Seen(padded(rows, self._widths), avail)


def find(module: str) -> Any:
    """The module of a world. Raises Missing with what to install."""
    places = [module] if "." in module else [f"{package}.{module}" for package in PACKAGES]
    tried = []
    for place in places:
        try:
            return importlib.import_module(place)
        except ImportError as error:
            tried.append(f"{place} ({error})")
    owner = next((name for package, name in PACKAGES.items() if module.startswith(package)), None)
    install = f"pip install '{owner}'" if owner else "pip install mpe2 'pettingzoo[butterfly,sisl]'"
    raise Missing(f"there is no PettingZoo world {module!r} in {', '.join(tried)}: {install}")
