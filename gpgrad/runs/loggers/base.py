"""The interface of loggers.

A row is a dict of JSON values: numbers, None for what is not known or not finite, and nested lists. The row of a test
has `seed`, `env_steps` and the metrics of that seed; the row of a final test has `seed` and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gpgrad.runs.logs import Row


class Logger(Protocol):
    """Writes the rows of one run. All seeds of the run share a logger; rows of each seed come in order of steps."""

    def write(self, row: Row) -> None:
        """Write the row of a test."""
        ...

    def diverged(self, row: Row) -> None:
        """Write that a seed has diverged: `seed`, `env_steps` and `updates` of its last finite update."""
        ...

    def final(self, row: Row) -> None:
        """Write the row of a final test, apart from the rows of tests during training."""
        ...

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """Write pictures (PNG, by name) and films (GIF) at a number of environment steps, if the logger can."""
        ...

    def close(self) -> None:
        """Write everything that is left, and release files and connections."""
        ...
