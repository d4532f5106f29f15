"""Cooperative PettingZoo environments in which all agents act at once; some may be done before the end."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpgrad.envs.external.adapters import rivals, spaces
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
    team_reward: sum or mean over all agents of the team, including done ones.
    team: the agents that learn, see `rivals.team_of`; the episode ends when these are done.
    others: how the other agents act, see `rivals.Rivals`.
    arguments: of `parallel_env` or `env`, as JSON.
    """

    def __init__(
        self,
        module: str,
        episode_limit: int = 0,
        team_reward: str = "mean",
        team: str = "",
        others: str = "random",
        arguments: str = "{}",
    ) -> None:
        found = find(module)
        self._env = built(found, json.loads(arguments))
        everyone = list(self._env.possible_agents)
        self._agents = rivals.team_of(everyone, team, module)
        self._choices = {agent: spaces.choice(self._env.action_space(agent), module) for agent in everyone}
        seen = {agent: spaces.visible(self._env.observation_space(agent), module) for agent in everyone}
        self._spaces = [seen[agent] for agent in self._agents]
        self._widths = [spaces.width(space) for space in self._spaces]
        self._counts = [self._choices[agent].size for agent in self._agents]
        inside = self._env.unwrapped
        sources = (inside, getattr(inside, "aec_env", inside), getattr(inside, "env", inside))
        own = [getattr(getattr(s, "unwrapped", s), name, 0) for s in sources for name in _LIMITS]
        self._limit = episode_limit or next((int(limit) for limit in own if limit), 0)
        if not self._limit:
            raise Missing(f"{module} has no time limit of its own; set one with --env.episode_limit")
        self._how, self._time = team_reward, 0
        self._alive, self._ended = set(everyone), set()
        self._everyone, self._rivals, self._balance = everyone, rivals.Rivals(others), rivals.Balance()
        self._has_team, self._masks = bool(team), {}
        self.sizes = sizes_of(self._widths, self._counts, self._limit, {found.__name__, "pettingzoo"})
        self.sizes = self.sizes._replace(obs_bytes=all(map(spaces.is_bytes, self._spaces)))
        if width := self._state_width(found.__name__):
            self.sizes = self.sizes._replace(state_dim=width, own_state_dim=0)

    def reset(self, seed: int) -> Seen:
        """Start an episode; the seed determines the environment's randomness and that of agents that do not learn."""
        obs, infos = self._env.reset(seed=seed % 2**31)
        self._rivals.begin(seed)
        self._time, self._alive, self._ended = 0, set(self._env.agents), set()
        self._look(obs, infos)
        return self._seen(obs, infos, self._alive)

    def step(self, actions: list[int]) -> Outcome:
        """One step. It is terminal if all agents are done and none of those that acted was only truncated."""
        team, before = set(self._agents), self._alive
        ours = dict(zip(self._agents, actions))
        chosen = {
            agent: self._choices[agent].sent(ours[agent] if agent in ours else self._rivals.act(self._masks[agent]))
            for agent in self._everyone
            if agent in before
        }
        obs, rewards, terminations, truncations, infos = self._env.step(chosen)
        self._time += 1
        over, cut = self._flags(terminations, "terminations"), self._flags(truncations, "truncations")
        self._ended |= over | cut
        self._alive = set(self._everyone).intersection(self._env.agents) - self._ended
        ended = not self._alive & team
        was_cut = ended and bool((cut - over) & before & team)
        earned = [spaces.single(rewards.get(agent, 0.0), f"the reward of {agent}") for agent in self._agents]
        self._balance.add(earned)
        self._look(obs, infos)
        return Outcome(
            # At the end all agents are done, but in the last state all of them could have acted.
            self._seen(obs, infos, before if ended else self._alive, ended),
            spaces.team(earned, len(earned), self._how),
            ended and not was_cut,
            was_cut or (not ended and self._time >= self._limit),
        )

    def doubts(self) -> list[str]:
        """Signs, after some episodes, that the agents are no team."""
        mend = f"; name those that learn with --env.team, such as --env.team {self._agents[0]}"
        return [] if self._has_team else self._balance.doubts(mend)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def frame(self) -> Any:
        """A picture, with the argument `render_mode` of `rgb_array`."""
        return self._env.render()

    def _flags(self, flags: dict[str, Any], what: str) -> set[str]:
        """The agents whose flag is true."""
        return {agent for agent in self._everyone if spaces.truth(flags.get(agent, False), f"{what}[{agent!r}]")}

    def _look(self, obs: dict[str, Any], infos: dict[str, Any]) -> None:
        """Keep the available actions of agents that do not learn."""
        for agent in set(self._everyone) - set(self._agents):
            mask = obs[agent].get(spaces.MASK) if isinstance(obs.get(agent), Mapping) else None
            mask = infos.get(agent, {}).get(spaces.MASK) if mask is None else mask
            size = self._choices[agent].size
            given = np.ones(size, bool) if mask is None else spaces.allowed(mask, self._choices[agent], size, True)
            self._masks[agent] = given

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
                avail[i] = spaces.allowed(mask, self._choices[agent], avail.shape[1], last)
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
            # `ParallelEnv.state` itself raises the second; some classic games have a `state` that is no method.
            except (AttributeError, NotImplementedError, TypeError):
                return 0
        return int(np.prod(shape)) if len(shape) <= 2 else 0


def find(module: str) -> Any:
    """The module of an environment. Raises Missing if it is not installed or has no environment."""
    places = [module] if "." in module else [f"{package}.{module}" for package in PACKAGES]
    broken = []
    for place in places:
        try:
            found = importlib.import_module(place)
        except (ImportError, OSError) as error:
            if not f"{place}.".startswith(f"{getattr(error, 'name', None)}."):  # it is there, but it cannot be imported
                broken.append(f"{place} ({' '.join(str(error).split())})")
            continue
        if callable(getattr(found, "parallel_env", None)) or callable(getattr(found, "env", None)):
            return found
        raise Missing(f"{place} has no parallel_env or env, which a module of a PettingZoo environment must have")
    owner = next((name for package, name in PACKAGES.items() if module.startswith(package)), None)
    install = f"pip install '{owner}'" if owner else "pip install mpe2 'pettingzoo[butterfly,sisl]'"
    if broken:
        raise Missing(f"the PettingZoo environment {', '.join(broken)} cannot be imported: {install}")
    newest = newest_version(places)
    hint = f"; the newest version is {newest}" if newest else f": {install}"
    raise Missing(f"there is no PettingZoo environment {module!r} in {', '.join(places)}{hint}")


def built(found: Any, arguments: dict[str, Any]) -> Any:
    """The environment of a module in which all agents act at once, converted if they take turns that do not matter."""
    if callable(getattr(found, "parallel_env", None)):
        return found.parallel_env(**arguments)
    env = found.env(**arguments)
    if not getattr(env, "metadata", {}).get("is_parallelizable"):
        raise Missing(
            f"{found.__name__} has no parallel_env, and in its env agents take turns; it must be one in which all "
            "agents act at once, or whose metadata has is_parallelizable"
        )
    from pettingzoo.utils.conversions import aec_to_parallel

    return aec_to_parallel(env)


def newest_version(places: list[str]) -> str | None:
    """The module with the highest version among those that differ from one of these in the version alone."""
    found = []
    for place in places:
        package, _, module = place.rpartition(".")
        base = re.sub(r"_v\d+$", "", module)
        try:
            folder = importlib.import_module(package).__path__
        except (ImportError, OSError, ValueError, AttributeError):
            continue
        names = [re.fullmatch(re.escape(base) + r"_v(\d+)", name) for _, name, _ in pkgutil.iter_modules(folder)]
        found += [(int(match.group(1)), f"{package}.{match.group(0)}") for match in names if match]
    return max(found)[1] if found else None
