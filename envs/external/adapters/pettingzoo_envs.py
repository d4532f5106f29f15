"""Cooperative PettingZoo environments in which all agents act at once; some may be done before the end."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np

from gpgrad.envs.external.adapters import spaces
from gpgrad.envs.external.adapters.gymnasium_envs import available, padded, sizes_of
from gpgrad.envs.external.protocol import Missing, Outcome, Seen

PACKAGES = {"mpe2": "mpe2", "pettingzoo.butterfly": "pettingzoo[butterfly]", "pettingzoo.sisl": "pettingzoo[sisl]"}
STATES_ARE_OBSERVATIONS = ("mpe2",)  # packages whose `state()` is the concatenation of observations
_LIMITS = ("max_cycles", "max_steps")  # attributes with the environment's own limit


class ZooSimulator:
    """An environment with `parallel_env`.

    An agent is done once it was terminated, truncated or removed from `agents`. It then observes zeros and has only its
    first action, which is not passed on. The episode ends when all agents are done. `state()` is the global state if it
    has at most two axes; images are not used.

    module: such as `simple_spread_v3`, searched in `PACKAGES`, or with its package, `mpe2.simple_spread_v3`.
    episode_limit: steps; 0: the environment's own limit.
    team_reward: sum or mean over all agents, including done ones.
    arguments: of `parallel_env`, as JSON.
    """

    def __init__(self, module: str, episode_limit: int = 0, team_reward: str = "mean", arguments: str = "{}") -> None:
        found = find(module)
        self._env = found.parallel_env(**json.loads(arguments))
        self._agents = list(self._env.possible_agents)
        self._choices = [spaces.choice(self._env.action_space(agent), module) for agent in self._agents]
        self._spaces = [spaces.visible(self._env.observation_space(agent), module) for agent in self._agents]
        self._widths = [spaces.width(space) for space in self._spaces]
        self._counts = [choice.size for choice in self._choices]
        inside = self._env.unwrapped
        sources = (inside, getattr(inside, "aec_env", inside), getattr(inside, "env", inside))
        own = [getattr(getattr(s, "unwrapped", s), name, 0) for s in sources for name in _LIMITS]
        self._limit = episode_limit or next((int(limit) for limit in own if limit), 0)
        if not self._limit:
            raise Missing(f"{module} has no time limit of its own; set one with --env.episode_limit")
        self._how, self._time = team_reward, 0
        self._alive, self._ended = set(self._agents), set()
        self.sizes = sizes_of(self._widths, self._counts, self._limit, {found.__name__, "pettingzoo"})
        if width := self._state_width(found.__name__):
            self.sizes = self.sizes._replace(state_dim=width, own_state_dim=0)

    def reset(self, seed: int) -> Seen:
        """Start an episode; the seed determines the environment's randomness."""
        obs, infos = self._env.reset(seed=seed % 2**31)
        self._time, self._alive, self._ended = 0, set(self._env.agents), set()
        return self._seen(obs, infos, self._alive)

    def step(self, actions: list[int]) -> Outcome:
        """One step. It is terminal if all agents are done and none of those that acted was only truncated."""
        places, before = zip(self._agents, actions, self._choices), self._alive
        chosen = {agent: action + choice.start for agent, action, choice in places if agent in before}
        obs, rewards, terminations, truncations, infos = self._env.step(chosen)
        self._time += 1
        over, cut = self._flags(terminations, "terminations"), self._flags(truncations, "truncations")
        self._ended |= over | cut
        self._alive = set(self._agents).intersection(self._env.agents) - self._ended
        ended = not self._alive
        was_cut = ended and bool((cut - over) & before)
        earned = [spaces.single(rewards.get(agent, 0.0), f"the reward of {agent}") for agent in self._agents]
        return Outcome(
            # At the end all agents are done, but in the last state all of them could have acted.
            self._seen(obs, infos, before if ended else self._alive, ended),
            spaces.team(earned, len(earned), self._how),
            ended and not was_cut,
            was_cut or (not ended and self._time >= self._limit),
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _flags(self, flags: dict[str, Any], what: str) -> set[str]:
        """The agents whose flag is true."""
        return {agent for agent in self._agents if spaces.truth(flags.get(agent, False), f"{what}[{agent!r}]")}

    def _seen(self, obs: dict[str, Any], infos: dict[str, Any], present: set[str], last: bool = False) -> Seen:
        rows = [np.zeros(width, np.float32) for width in self._widths]
        avail = available(self._counts)
        for i, agent in enumerate(self._agents):
            if agent not in obs or agent not in present:
                avail[i] = spaces.nothing(avail.shape[1])
                continue
            seen, mask = spaces.unmask(self._spaces[i], obs[agent])
            mask = infos.get(agent, {}).get(spaces.MASK) if mask is None else mask
            rows[i] = spaces.flat(self._spaces[i], seen)
            if mask is not None:
                avail[i] = spaces.allowed(mask, self._counts[i], avail.shape[1], last)
        state = np.asarray(self._env.state(), np.float32).ravel() if self.sizes.state_dim else None
        return Seen(padded(rows, self._widths), avail, state)

    def _state_width(self, module: str) -> int:
        """Size of the environment's own state; 0 if there is none, it is an image, or it is the observations."""
        if module.split(".")[0] in STATES_ARE_OBSERVATIONS:
            return 0
        shape = getattr(getattr(self._env, "state_space", None), "shape", None)
        if shape is None:
            self._env.reset(seed=0)
            try:
                shape = np.shape(self._env.state())
            except (AttributeError, NotImplementedError):  # `ParallelEnv.state` itself raises the second
                return 0
        return int(np.prod(shape)) if len(shape) <= 2 else 0


def find(module: str) -> Any:
    """The module of an environment. Raises Missing if it is not installed or its agents take turns."""
    places = [module] if "." in module else [f"{package}.{module}" for package in PACKAGES]
    tried = []
    for place in places:
        try:
            found = importlib.import_module(place)
        except ImportError as error:
            tried.append(f"{place} ({error})")
            continue
        if callable(getattr(found, "parallel_env", None)):
            return found
        turns = "; in its `env` agents take turns" if hasattr(found, "env") else ""
        raise Missing(
            f"{place} has no parallel_env; it must be a PettingZoo environment in which all agents act at once{turns}"
        )
    owner = next((name for package, name in PACKAGES.items() if module.startswith(package)), None)
    install = f"pip install '{owner}'" if owner else "pip install mpe2 'pettingzoo[butterfly,sisl]'"
    raise Missing(f"there is no PettingZoo environment {module!r} in {', '.join(tried)}: {install}")
