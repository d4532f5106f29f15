"""Cooperative Gymnasium environments with one observation and action per agent: LBF, robot warehouse."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpgrad.envs.external.adapters import rivals, spaces
from gpgrad.envs.external.protocol import Missing, Outcome, Seen, Sizes


class Family(NamedTuple):
    """Facts about a package's environments, whose ids have a common prefix.

    module: registers them when imported. limit: the step at which the environment truncates and reports a terminal
    step. over: whether the state is terminal. return_scale: the largest return, summed over agents. ends_early: as in
    `EnvSpec`. forget: removes state of the last episode that a reset would read.
    """

    module: str
    limit: Callable[[Any], int]
    over: Callable[[Any], bool]
    return_scale: float = 1.0
    ends_early: bool = False
    forget: Callable[[Any], None] = lambda env: None


def forget_players(env: Any) -> None:
    """Clear the foragers' last positions, which a reset would treat as occupied."""
    for player in env.players:
        player.position = None


FAMILIES = {
    "Foraging": Family(
        "lbforaging",
        lambda w: w._max_episode_steps,
        lambda w: not w.field.any(),
        ends_early=True,
        forget=forget_players,
    ),
    # Deliveries never end, so no state is terminal.
    "rware": Family("rware", lambda w: w.max_steps, lambda w: False, return_scale=10.0),
}


class GymSimulator:
    """An environment of `gymnasium.make` whose observations and actions are tuples with one entry per agent.

    An environment whose actions are not a tuple is a team of one agent. Rewards and both flags are one for all agents
    or one per agent, in any container. Masks are those in the observations, in `info["action_mask"]` or of the method
    `action_masks()`, one per agent. The episode ends when all agents are done. An agent that is done earlier observes
    zeros and has only its first action, which is passed on, since the tuple has an entry for it.

    id: of Gymnasium; `module:id` imports the module that registers it.
    episode_limit: steps; 0: the environment's own limit. A truncation is never reported as terminal, even if the
        environment does so.
    team_reward: sum or mean over agents.
    arguments: of `gymnasium.make`, as JSON.
    """

    def __init__(self, id: str, episode_limit: int = 0, team_reward: str = "sum", arguments: str = "{}") -> None:
        gymnasium = package("gymnasium", "gymnasium", id)
        self._family = next((f for start, f in FAMILIES.items() if id.startswith(start)), None)
        if self._family:
            package(self._family.module, self._family.module, id)
        elif ":" in id:
            package(id.split(":")[0], id.split(":")[0], id)
        try:
            self._env = gymnasium.make(id, disable_env_checker=True, **json.loads(arguments))
        except gymnasium.error.Error as error:
            unknown = isinstance(error, gymnasium.error.UnregisteredEnv)
            what = f"Gymnasium {'has no environment' if unknown else 'cannot make'} {id!r}"
            raise Missing(f"{what}: {' '.join(str(error).split())}") from None
        self._how, self._balance = team_reward, rivals.Balance()
        self._own_masks = getattr(self._env.unwrapped, "action_masks", None)
        actions, seen = self._env.action_space, self._env.observation_space
        self._alone = not isinstance(actions, gymnasium.spaces.Tuple)
        if self._alone:
            actions, seen = gymnasium.spaces.Tuple([actions]), gymnasium.spaces.Tuple([seen])
        if not isinstance(seen, gymnasium.spaces.Tuple):
            raise Missing(
                f"the observations of {id} must be a tuple with one entry per agent (got {spaces.short(seen)})"
            )
        if len(actions.spaces) != len(seen.spaces):
            raise Missing(
                f"{id} must have as many observations as actions (got {len(seen.spaces)} and {len(actions.spaces)})"
            )
        self._choices = [spaces.choice(space, id) for space in actions.spaces]
        self._counts = [choice.size for choice in self._choices]
        self._spaces = [spaces.visible(space, id) for space in seen.spaces]
        self._widths = [spaces.width(space) for space in self._spaces]
        self._limit = episode_limit or self._own_limit()
        if not self._limit:
            raise Missing(f"{id} has no time limit of its own; set one with --env.episode_limit")
        self._time, self._gone = 0, np.zeros(len(self._counts), bool)
        modules = {"gymnasium", *([self._family.module] if self._family else []), *(id.split(":")[:1] * (":" in id))}
        self.sizes = sizes_of(self._widths, self._counts, self._limit, modules)._replace(
            obs_bytes=all(map(spaces.is_bytes, self._spaces)),
            return_scale=self._family.return_scale if self._family else 1.0,
            ends_early=bool(self._family and self._family.ends_early),
        )

    def reset(self, seed: int) -> Seen:
        """Start an episode; the seed determines the environment's randomness."""
        self._time, self._gone = 0, np.zeros(len(self._counts), bool)
        if self._family:
            self._family.forget(self._env.unwrapped)
        return self._seen(*self._env.reset(seed=seed % 2**31))

    def step(self, actions: list[int]) -> Outcome:
        """One step; terminal steps that are only the environment's limit become truncations."""
        chosen = tuple(choice.sent(action) for action, choice in zip(actions, self._choices))
        obs, rewards, terminated, truncated, info = self._env.step(chosen[0] if self._alone else chosen)
        self._time += 1
        n, before = len(self._counts), self._gone
        over, cut = spaces.flags(terminated, n, "terminated"), spaces.flags(truncated, n, "truncated")
        if over.all() and self._family and self._time >= self._own_limit():
            over[:] = self._family.over(self._env.unwrapped)
            cut = ~over
        self._gone = before | over | cut
        ended = bool(self._gone.all())
        was_cut = ended and bool((cut & ~over & ~before).any())
        if ended:  # at the last step, agents that acted keep their actions
            self._gone = before
        earned = spaces.team(rewards, n, self._how)
        self._balance.add(rewards)
        return Outcome(
            self._seen(obs, info, ended),
            earned,
            ended and not was_cut,
            was_cut or (not ended and self._time >= self._limit),
        )

    def doubts(self) -> list[str]:
        """Signs, after some episodes, that the agents are no team."""
        return self._balance.doubts("")

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def frame(self) -> Any:
        """A picture, with the argument `render_mode` of `rgb_array`."""
        return self._env.render()

    def _own_limit(self) -> int:
        if self._family:
            return int(self._family.limit(self._env.unwrapped) or 0)
        return int(self._env.spec.max_episode_steps or 0)

    def _seen(self, obs: Any, info: dict[str, Any], last: bool = False) -> Seen:
        n, avail = len(self._counts), available(self._counts)
        given = info.get(spaces.MASK)
        if given is None and self._own_masks:  # as those of SB3's MaskablePPO
            given = self._own_masks()
        obs, given = ((obs,), [given]) if self._alone else (obs, given)
        masks = spaces.of_agents(given, n, "the action mask")
        rows = [np.zeros(width, np.float32) for width in self._widths]
        if spaces.is_single(obs) or len(obs) != n:
            raise ValueError(
                f"the observation is a {type(obs).__name__}, must be a tuple with one entry for each of {n} agents"
            )
        for i, (space, one) in enumerate(zip(self._spaces, obs)):
            if self._gone[i]:
                avail[i] = spaces.nothing(avail.shape[1])
                continue
            seen, mask = spaces.unmask(space, one)
            mask = masks[i] if mask is None else mask
            rows[i] = spaces.flat(space, seen)
            if mask is not None:
                avail[i] = spaces.allowed(mask, self._choices[i], avail.shape[1], last)
        return Seen(padded(rows, self._widths), avail)


def package(module: str, distribution: str, env_name: str, hint: str = "") -> Any:
    """An imported module. Raises Missing if it is not installed or cannot be imported.

    hint: the command that mends a package that is installed and cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Missing(
            f"{env_name} needs the package {error.name}, which is not installed: pip install {distribution}"
        ) from None
    except (ImportError, OSError) as error:  # OSError: a shared library is absent
        why = " ".join(str(error).split())
        mend = hint or f"pip install --force-reinstall {distribution}"
        raise Missing(
            f"{env_name} needs {module}, which cannot be imported ({type(error).__name__}: {why}): {mend}"
        ) from None


def versions(modules: set[str]) -> dict[str, str]:
    """Versions of the modules' distributions."""
    names = {name for module in modules for name in owners().get(module.split(".")[0], ())}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


@functools.lru_cache(maxsize=1)
def owners() -> Mapping[str, Sequence[str]]:
    """The names of distributions by their modules. It reads the list of every distribution's files."""
    if sys.version_info >= (3, 10):
        return importlib.metadata.packages_distributions()
    found: dict[str, list[str]] = {}
    for one in importlib.metadata.distributions():
        for top in (one.read_text("top_level.txt") or "").split():
            found.setdefault(top, []).append(one.metadata["Name"])
    return found


def sizes_of(widths: list[int], counts: list[int], limit: int, modules: set[str]) -> Sizes:
    """Sizes of an environment without its own state, whose agents may differ."""
    same = len(set(widths)) == 1
    return Sizes(
        n_agents=len(widths),
        n_actions=max(counts),
        obs_dim=max(widths),
        state_dim=0,
        episode_limit=limit,
        own_state_dim=widths[0] if same else 0,
        obs_sizes=() if same else tuple(widths),
        action_counts=() if len(set(counts)) == 1 else tuple(counts),
        versions=versions(modules),
    )


def padded(obs: Any, widths: list[int]) -> np.ndarray:
    """Flattened observations of all agents, float32 [A, O], padded with zeros."""
    rows = np.zeros((len(widths), max(widths)), np.float32)
    for row, one, width in zip(rows, obs, widths):
        row[:width] = np.asarray(one, np.float32).ravel()
    return rows


def available(counts: list[int]) -> np.ndarray:
    """The actions that each agent has, bool [A, U]."""
    return np.arange(max(counts)) < np.array(counts)[:, None]
