"""Conversion of Gymnasium's spaces and containers to vectors, action numbers and arrays over agents.

Imports gymnasium only when a space is converted.

Axes in comments: A agents; U actions; O observation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpgrad.envs.external.protocol import Missing

MOST_ACTIONS = 127  # since actions are stored as int8
MASK = "action_mask"  # the key of available actions in observations and infos, as in PettingZoo


class Choice(NamedTuple):
    """The actions of an agent. size: their number. space: the environment's space of them."""

    size: int
    space: Any

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of choices that an action is made of."""
        return tuple(int(count) for count in np.ravel(getattr(self.space, "nvec", 2 * np.ones(self.space.shape, int))))

    def sent(self, action: int) -> Any:
        """The environment's form of an action number; those of several choices count in the order of C arrays."""
        if not self.space.shape:
            return action + int(self.space.start)
        parts = np.reshape(np.unravel_index(action, self.counts), self.space.shape)
        return (parts + getattr(self.space, "start", 0)).astype(self.space.dtype)

    def allowed(self, mask: Any) -> np.ndarray:
        """A mask as bool [size]; of several choices also from one mask for each, as Gymnasium and SB3 have them."""
        pieces = [np.ravel(part) for part in mask] if isinstance(mask, (tuple, list)) and self.space.shape else [mask]
        row = np.concatenate([np.ravel(piece) for piece in pieces]).astype(bool)
        if self.space.shape and row.size == sum(self.counts):
            each = np.split(row, np.cumsum(self.counts)[:-1])
            return functools.reduce(np.logical_and.outer, each).ravel()
        return row


def choice(space: Any, env_name: str) -> Choice:
    """The actions of a Discrete space, or the joint ones of a MultiDiscrete or MultiBinary space.

    Raises Missing for other spaces, and for more than 127 actions.
    """
    from gymnasium import spaces

    if not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        raise Missing(
            f"{env_name} has actions {short(space)}; they must be Discrete, MultiDiscrete or MultiBinary, since an "
            "agent chooses one of n actions"
        )
    found = Choice(0, space)
    size = int(space.n) if isinstance(space, spaces.Discrete) else math.prod(found.counts)
    if size > MOST_ACTIONS:
        raise Missing(f"{env_name} has {size} actions for an agent in {short(space)}, must be at most {MOST_ACTIONS}")
    return found._replace(size=size)


def visible(space: Any, env_name: str) -> Any:
    """An agent's observation space without the mask. Raises Missing for spaces without a fixed width."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        rest = {name: one for name, one in space.spaces.items() if name != MASK}
        space = spaces.Dict(rest) if len(rest) != 1 else next(iter(rest.values()))
    if not _is_fixed(space):
        raise Missing(
            f"{env_name} has observations {short(space)}; they must be Box, Discrete, MultiBinary, MultiDiscrete, or a "
            "Dict or Tuple of these"
        )
    return space


def is_bytes(space: Any) -> bool:
    """Whether elements are arrays of bytes, such as images."""
    from gymnasium import spaces

    return isinstance(space, spaces.Box) and space.dtype == np.uint8


def width(space: Any) -> int:
    """Size of a flattened element of the space."""
    from gymnasium import spaces

    return int(spaces.flatdim(space))


def flat(space: Any, value: Any) -> np.ndarray:
    """A flattened element, float32 [O]: arrays flattened, Discrete one-hot, parts of a Dict in the order of its space.

    Raises ValueError for values outside the space.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or not space.spaces.keys() <= value.keys():
            raise ValueError(f"an observation must have the keys {', '.join(map(str, space.spaces))} (got {value!r})")
        return np.concatenate([flat(one, value[name]) for name, one in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        if len(value) != len(space.spaces):
            raise ValueError(f"an observation must have {len(space.spaces)} parts (got {len(value)})")
        return np.concatenate([flat(one, part) for one, part in zip(space.spaces, value)])
    if isinstance(space, spaces.Box):
        row = np.asarray(value, np.float32).ravel()
        if row.size != width(space):
            raise ValueError(f"an observation must have the shape {space.shape} (got {np.shape(value)})")
        return row
    if not space.contains(value):
        raise ValueError(f"an observation must be in {short(space)} (got {value!r})")
    return np.asarray(spaces.flatten(space, value), np.float32)


def unmask(space: Any, value: Any) -> tuple[Any, Any]:
    """An observation without its mask, and the mask or None."""
    from gymnasium import spaces

    if not isinstance(value, Mapping) or MASK not in value:
        return value, None
    if isinstance(space, spaces.Dict):
        return value, value[MASK]
    return next(part for name, part in value.items() if name != MASK), value[MASK]


def allowed(mask: Any, choice: Choice, n_actions: int, last: bool) -> np.ndarray:
    """An agent's mask as bool [U], padded with False. Raises ValueError for another length.

    last: whether the episode has ended; an empty mask is then allowed and becomes the first action alone.
    """
    row = choice.allowed(mask)
    if row.size not in (choice.size, n_actions):
        raise ValueError(f"an action mask must have {choice.size} entries (got {row.size})")
    row = row[: choice.size]
    return nothing(n_actions) if last and not row.any() else np.pad(row, (0, n_actions - choice.size))


def nothing(n_actions: int) -> np.ndarray:
    """The mask of a done agent, bool [U]: its first action alone."""
    return np.arange(n_actions) == 0


def of_agents(value: Any, n_agents: int, what: str) -> list[Any]:
    """One value per agent, from one for all, a sequence, or a mapping in the order of agents.

    Raises ValueError for another number of agents.
    """
    if isinstance(value, Mapping):
        if value.keys() == set(range(n_agents)):
            return [value[agent] for agent in range(n_agents)]
        value = list(value.values())
    if is_single(value):
        return [value] * n_agents
    if len(value) != n_agents:
        raise ValueError(f"{what} must have one entry for all or one for each of {n_agents} agents (got {len(value)})")
    return list(value)


def flags(value: Any, n_agents: int, what: str) -> np.ndarray:
    """Truth values of agents, bool [A]; an entry `__all__` applies to all, as in RLlib."""
    if isinstance(value, Mapping) and "__all__" in value:
        rest = {name: one for name, one in value.items() if name != "__all__"}
        value = True if truth(value["__all__"], what) else rest or False
    return np.array([truth(one, what) for one in of_agents(value, n_agents, what)])


def truth(value: Any, what: str) -> bool:
    """A single truth value. Raises ValueError for anything else, such as a list."""
    try:
        array = np.asarray(value)
        if array.size == 1 and array.ravel()[0] in (False, True):
            return bool(array.ravel()[0])
    except ValueError:  # a ragged list
        pass
    raise ValueError(f"{what} must be True or False (got {value!r})")


def team(rewards: Any, n_agents: int, how: str) -> float:
    """The team reward: a single reward, else the `sum` or `mean` over agents. Raises as `of_agents`."""
    if not isinstance(rewards, Mapping) and (is_single(rewards) or len(rewards) == 1):
        return single(rewards, "the reward")
    values = [single(one, "the reward of an agent") for one in of_agents(rewards, n_agents, "the reward")]
    return float((np.sum if how == "sum" else np.mean)(values))


def single(value: Any, what: str) -> float:
    """A number, or the number in an array of one. Raises ValueError for anything else."""
    try:
        array = np.asarray(value, np.float64) if value is not None else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise ValueError(f"{what} must be a number (got {value!r})")
    if array.size != 1:
        raise ValueError(f"{what} must be a single number (got the shape {array.shape})")
    return float(array.ravel()[0])


def is_single(value: Any) -> bool:
    """Whether a value is one for all agents: neither a list nor an array with an axis."""
    return not isinstance(value, (list, tuple, Mapping)) and np.ndim(value) == 0


def short(space: Any) -> str:
    """A space as one line of text."""
    text = " ".join(str(space).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_fixed(space: Any) -> bool:
    from gymnasium import spaces

    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        parts: Sequence[Any] = list(space.spaces.values()) if isinstance(space, spaces.Dict) else space.spaces
        return bool(parts) and all(_is_fixed(part) for part in parts)
    return isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete))
