"""The simulator interface of external environments. Uses NumPy only, since workers do not import jax.

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
    """Sizes and rules of a simulator; names shared with `gpgrad.envs.api.EnvSpec` mean the same.

    state_dim: size of the simulator's own global state; 0: none, the concatenation of observations is used.
    info: names of the numbers in `Outcome.info`, summed over each episode in tests.
    obs_bytes: whether observations are whole numbers of 0 to 255, such as pixels: stored as bytes, seen divided by 255.
    versions: of packages and programs, for the manifest.
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
    obs_bytes: bool = False
    versions: Mapping[str, str] = {}

    def dumps(self) -> str:
        """The sizes as one line of JSON; NumPy numbers become Python numbers."""
        return json.dumps(self._asdict(), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"sizes must be numbers, names and tuples of these (got {value!r})")


def loads(text: str) -> Sizes:
    """Sizes from their JSON."""
    content = json.loads(text)
    lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return Sizes(**{**content, **lists})


class Seen(NamedTuple):
    """Observations at one time.

    obs: [A, O], an array or a list of rows. avail: truth values [A, U], at least one action per agent; a done agent has
    one action without effect. state: [D]; None if there is none.
    """

    obs: Any
    avail: Any
    state: Any = None


class Outcome(NamedTuple):
    """The result of a joint action; reward, terminated, truncated and info as in `gpgrad.envs.api.Step`."""

    seen: Seen
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, float] = {}


class Simulator(Protocol):
    """A simulator inside a worker. Any exception ends the worker; its episode is discarded and repeated."""

    @property
    def sizes(self) -> Sizes:
        """Sizes, known after construction."""
        ...

    def reset(self, seed: int) -> Seen:
        """Start an episode. seed: 0 to 2^64 - 1; determines its randomness as far as the simulator allows."""
        ...

    def step(self, actions: list[int]) -> Outcome:
        """One step. actions: one available action per agent, as Python ints. Does not reset after the end."""
        ...

    def close(self) -> None:
        """Release all resources."""
        ...


class Missing(Exception):
    """A package, program or file that a simulator needs is missing; the message says where it was expected."""


class Aborted(Exception):
    """The simulator failed without reporting it, so that the results of this episode are invalid."""


class VectorSimulator(Protocol):
    """Several simulators in parallel lanes, numbered from 0; arrays have the last result of each lane.

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
        """Start episodes; return the failed lanes."""
        ...

    def step(self, lanes: Sequence[int], actions: np.ndarray) -> list[int]:
        """Step the given lanes with actions int32 [N, A]; return the failed lanes, whose episode is lost."""
        ...

    def close(self) -> None:
        """End all workers and release all resources."""
        ...


class Recipe(NamedTuple):
    """How a worker builds its simulator.

    maker: `module:attribute`. settings: its keyword arguments. python: another interpreter to run it; none: this one.
    """

    maker: str
    settings: Mapping[str, Any]
    python: str | None = None

    def dumps(self) -> str:
        """The recipe as JSON, equal for equal recipes."""
        return json.dumps(self._asdict(), sort_keys=True)


def build(text: str) -> Simulator:
    """The simulator of a recipe's JSON. Raises Missing if the maker does not exist or takes other arguments."""
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
