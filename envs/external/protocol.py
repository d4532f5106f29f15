"""What a simulator must offer to be driven, and what drives it. NumPy alone: workers never import jax.

Axes in comments: N lanes; A agents; U actions; O observation; D state.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpgrad.errors import suggest


class Sizes(NamedTuple):
    """Sizes and rules of a simulated world; the names shared with `gpgrad.envs.api.EnvSpec` mean the same.

    state_dim: floats of the simulator's own global state; 0: it has none, and the observations stand for it.
    info: names of numbers that each step reports, `Outcome.info`, summed over an episode in tests.
    versions: of the packages and programs behind it.
    """

    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int
    episode_limit: int
    own_state_dim: int = 0
    limit_is_terminal: bool = False
    has_win: bool = False
    return_scale: float = 1.0
    ends_early: bool = False
    obs_sizes: tuple[int, ...] = ()
    action_counts: tuple[int, ...] = ()
    info: tuple[str, ...] = ()
    versions: Mapping[str, str] = {}

    def dumps(self) -> str:
        """As text of one line; NumPy's numbers become Python's."""
        return json.dumps(self._asdict(), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"sizes must be numbers, names and tuples of these (got {value!r})")


def loads(text: str) -> Sizes:
    """Sizes from their text."""
    content = json.loads(text)
    lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return Sizes(**(content | lists))


class Seen(NamedTuple):
    """What agents see of a moment.

    obs: [A, O], as rows or a list of them. avail: truth values [A, U], something for every agent; an agent that is
    gone has one action that does nothing. state: [D]; None where there is none.
    """

    obs: Any
    avail: Any
    state: Any = None


class Outcome(NamedTuple):
    """What a joint action led to; reward, terminated, truncated and info as in `gpgrad.envs.api.Step`."""

    seen: Seen
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, float] = {}


class Simulator(Protocol):
    """One world inside a worker. Any exception ends the worker: its episode never happened and is played again."""

    @property
    def sizes(self) -> Sizes:
        """Known once it is constructed."""
        ...

    def reset(self, seed: int) -> Seen:
        """A new episode; the seed, 0 to 2^64 - 1, decides all of its randomness where the simulator allows that."""
        ...

    def step(self, actions: list[int]) -> Outcome:
        """One available action per agent, as exact Python ints. The terminal observation is kept."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class Missing(Exception):
    """A package, program or file that a simulator needs is not there; one sentence with where it was looked for."""


class Aborted(Exception):
    """The simulator broke down and hides it: what it says of this episode must not be believed."""


class Lanes(Protocol):
    """Many simulators at once. Lanes are numbered from 0; arrays are as of the last call for each lane.

    obs: float32 [N, A, O]. avail: bool [N, A, U]. state: float32 [N, D]. reward: float32 [N]. terminated, truncated:
    bool [N]. info: float32 [N, K].
    """

    sizes: Sizes
    obs: np.ndarray
    avail: np.ndarray
    state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: np.ndarray

    def reset(self, lanes: Sequence[int], seeds: Sequence[int]) -> list[int]:
        """Begin episodes; returns the lanes that failed."""
        ...

    def step(self, lanes: Sequence[int], actions: np.ndarray) -> list[int]:
        """Take actions int32 [N, A] of the named lanes; returns the lanes that failed, whose episode is lost."""
        ...

    def close(self) -> None:
        """End all workers and leave nothing behind."""
        ...


class Recipe(NamedTuple):
    """How a worker builds its simulator: `module:attribute`, called with these settings."""

    maker: str
    settings: Mapping[str, Any]

    def dumps(self) -> str:
        """As text, the same for equal recipes."""
        return json.dumps(self._asdict(), sort_keys=True)


def build(text: str) -> Simulator:
    """The simulator of a recipe's text. Raises Missing where there is no such maker or it takes other settings."""
    recipe = Recipe(**json.loads(text))
    module, _, attribute = recipe.maker.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise Missing(f"there is no module {module!r}; it must be one that Python can import") from None
    maker: Callable[..., Simulator] | None = getattr(found, attribute, None)
    if not callable(maker):
        public = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
        raise Missing(f"the module {module} has nothing to call named {attribute!r}{suggest(attribute, public)}")
    try:
        inspect.signature(maker).bind(**recipe.settings)
    except TypeError as error:
        raise Missing(f"{recipe.maker} does not take the arguments {dict(recipe.settings)}: {error}") from None
    simulator = maker(**recipe.settings)
    if not isinstance(getattr(simulator, "sizes", None), Sizes):
        kind = type(getattr(simulator, "sizes", None)).__name__
        raise Missing(f"the sizes of {recipe.maker} must be gpgrad.envs.external.protocol.Sizes (got {kind})")
    return simulator
