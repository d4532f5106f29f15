"""Loggers whose failures do not stop a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpgrad.runs.loggers.base import Logger
from gpgrad.runs.logs import Row


class Guarded:
    """A `Logger` that ends with its first failure, of which `problem` is one sentence.

    JSON lines are the results of a run and are written without this guard.
    """

    def __init__(self, name: str, make: Callable[[], Logger]) -> None:
        self.name, self._logger = name, None
        self.problem: str | None = None
        try:
            self._logger = make()
        except Exception as error:
            self._give_up(error)

    @property
    def on(self) -> bool:
        """Whether rows are still written."""
        return self._logger is not None

    def write(self, row: Row) -> None:
        """See `Logger`."""
        self._call("write", row)

    def diverged(self, row: Row) -> None:
        """See `Logger`."""
        self._call("diverged", row)

    def final(self, row: Row) -> None:
        """See `Logger`."""
        self._call("final", row)

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """See `Logger`."""
        self._call("show", seed, steps, images, films)

    def close(self) -> None:
        """See `Logger`."""
        self._call("close")
        self._logger = None

    def _call(self, method: str, *values: Any) -> None:
        if self._logger is None:
            return
        try:
            getattr(self._logger, method)(*values)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.problem = f"{self.name} is off for the rest of this run: {type(error).__name__}: {error}"
        self._logger = None
