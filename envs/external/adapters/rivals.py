"""Opponents: agents of a world that do not learn, and signs that a world has some.

A team learns one value of its joint action, which means nothing for agents who play against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gpgrad.envs.external.protocol import Missing
from gpgrad.errors import suggest

ALL = "all"
POLICIES = ("random", "still")
COOPERATIVE = ("simple_speaker_listener", "knights_archers_zombies")  # several groups of agents, with one aim


def groups(agents: Iterable[str]) -> dict[str, list[str]]:
    """Agents by their names without the number at the end; one group if a name has no number."""
    names = [str(agent) for agent in agents]
    parts = [re.fullmatch(r"(.*?)[_-]?\d+", name) for name in names]
    found: dict[str, list[str]] = {}
    for name, part in zip(names, parts):
        found.setdefault(part.group(1) if part and all(parts) else "", []).append(name)
    return found


def team_of(agents: Sequence[str], wanted: str, env_name: str) -> list[str]:
    """The agents that learn, in the order of `agents`.

    wanted: names of agents or groups, separated by commas; `all`; empty: all, unless they may be opponents. Raises
    Missing for unknown names, and for agents of several groups if nothing is wanted.
    """
    by_group = groups(agents)
    if not wanted and len(by_group) > 1 and re.sub(r"_v\d+$", "", env_name.split(".")[-1]) not in COOPERATIVE:
        first = next(iter(by_group))
        raise Missing(
            f"{env_name} has the groups of agents {', '.join(by_group)}, which may play against each other; name those "
            f"that learn together, such as --env.team {first}, or --env.team {ALL}"
        )
    if wanted in ("", ALL):
        return list(agents)
    chosen: set[str] = set()
    for name in filter(None, (part.strip() for part in wanted.split(","))):
        if name not in by_group and name not in agents:
            raise Missing(f"team of {env_name} has no agent or group {name!r}" + suggest(name, [*by_group, *agents]))
        chosen.update(by_group.get(name, [name]))
    return [agent for agent in agents if agent in chosen]


class Rivals:
    """The policy of agents that do not learn. how: `random`, an available action; `still`, the first available one."""

    def __init__(self, how: str) -> None:
        self._how, self._rng = how, np.random.default_rng(0)

    def begin(self, seed: int) -> None:
        """Start an episode."""
        self._rng = np.random.default_rng(seed)

    def act(self, avail: np.ndarray) -> int:
        """An action of one agent. avail: bool [U]."""
        possible = np.flatnonzero(avail)
        return int(self._rng.choice(possible) if self._how == "random" else possible[0])


class Balance:
    """Whether the rewards of agents always sum to zero, as those of opponents do."""

    def __init__(self) -> None:
        self._zero = self._other = 0

    def add(self, rewards: Any) -> None:
        """One step's rewards, in any container. A single reward is one of the whole team."""
        values = np.array(list(rewards.values()) if isinstance(rewards, Mapping) else rewards, np.float64).ravel()
        if values.size > 1 and values.any():
            is_zero = abs(values.sum()) <= 1e-6 * np.abs(values).max()
            self._zero, self._other = self._zero + is_zero, self._other + (not is_zero)

    def doubts(self, mend: str) -> list[str]:
        """A sentence if all rewards so far have summed to zero."""
        if not self._zero or self._other:
            return []
        return [f"the rewards of the agents sum to zero in every step, so they play against each other{mend}"]
