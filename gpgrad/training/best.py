"""The team of each seed's best test, kept beside the checkpoints if `checkpoint.keep_best` is on.

RUN/best has the teams of all seeds, as RUN/team; RUN/best.json has the test of each seed's team. They are written after
the row of a test. A run that is resumed from an earlier checkpoint meets the same tests again, with the same numbers,
so that the best team stays the best.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.errors import SettingError
from gpgrad.learning.program import Actor
from gpgrad.runs.logs import Row
from gpgrad.training import checkpoint

FOLDER, NOTES, METRIC = "best", "best.json", "test_return"


class Best:
    """Compares the teams of each test with the best so far."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the run's, or that of a single seed."""
        self._folder = folder
        self._tests = read(folder)
        self._kept: Actor | None = None

    def visit(self, rows: Sequence[Row], running: np.ndarray, team: Actor) -> None:
        """Keep the better ones of the teams [S] of a test.

        rows: one per seed. running: bool [S], seeds to look at. Raises OSError if they cannot be written.
        """
        better = np.array([on and self._is_better(row) for row, on in zip(rows, running, strict=True)])
        if not better.any():
            return
        kept = team if self._kept is None else self._kept
        if self._kept is None and self._tests and (self._folder / FOLDER).is_dir():
            kept = checkpoint.load_team_like(self._folder, team, FOLDER)

        def pick(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        self._kept = kept = jax.tree.map(pick, team, kept)
        checkpoint.save_team(self._folder, kept, FOLDER)
        for row in [row for row, is_better in zip(rows, better, strict=True) if is_better]:
            self._tests[row["seed"]] = {name: row[name] for name in ("env_steps", METRIC)}
        draft = self._folder / f"{NOTES}.draft"
        draft.write_text(json.dumps(self._tests))
        draft.replace(self._folder / NOTES)

    def _is_better(self, row: Row) -> bool:
        value, before = row[METRIC], self._tests.get(row["seed"])
        return value is not None and (before is None or value > before[METRIC])


def read(folder: Path) -> dict[int, Row]:
    """The best test of each seed: `env_steps` and `test_return`; empty if none is kept. Raises SettingError."""
    path = folder / NOTES
    if not path.is_file():
        return {}
    try:
        return {int(seed): dict(row) for seed, row in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError):
        raise SettingError(f"{path} is damaged; remove it to keep the best team of later tests") from None
