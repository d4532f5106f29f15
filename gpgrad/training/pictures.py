"""Pictures of a run for its loggers: heat maps of tables in its rows, and the GIFs in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad import plots
from gpgrad.plots import Grid
from gpgrad.runs.loggers import Guarded
from gpgrad.runs.logs import Row

PICTURES = 10  # heat maps of each seed, evenly over its steps
WITH_PICTURES = ("wandb", "tensorboard")


class Gallery:
    """Shows a run's pictures in its loggers: heat maps now and then, films at the end."""

    def __init__(self, loggers: Sequence[Guarded], total: int) -> None:
        """`total`: environment steps of a seed."""
        self._loggers = [logger for logger in loggers if logger.name in WITH_PICTURES]
        self._total = total
        self._shown: dict[int, int] = {}

    def visit(self, row: Row) -> None:
        """A row of a test."""
        seed, steps = row["seed"], row["env_steps"]
        part = steps * PICTURES // self._total
        if self._on() and self._shown.get(seed) != part:
            self._shown[seed] = part
            drawn = heat_maps(row)
            for logger in self._on():
                logger.show(seed, steps, drawn)

    def end(self, rows: Iterable[Row], folder: Path) -> None:
        """The last row of each seed."""
        found = films(folder) if self._on() else []
        for row in rows if found else []:
            for logger in self._on():
                logger.show(row["seed"], row["env_steps"], {}, found)

    def _on(self) -> list[Guarded]:
        return [logger for logger in self._loggers if logger.on]


def heat_maps(row: Mapping[str, Any]) -> dict[str, bytes]:
    """A PNG of every square or oblong table in a row; none without matplotlib, which is not needed for training."""
    tables = plots.logged_tables(row)
    if not tables or not plots.installed():
        return {}
    return {name: _png(_grid(name, table, row), _meaning(name)) for name, table in tables.items()}


def _meaning(name: str) -> str:
    """The meaning of a table's colours."""
    return "conflict between agents" if name == "conflict" else "Q_tot"


def films(folder: Path) -> list[Path]:
    """GIFs in a run's folder."""
    return sorted(folder.rglob("*.gif"))


def _grid(name: str, table: np.ndarray, row: Mapping[str, Any]) -> Grid:
    """Rows and columns are agents, of which those with hidden roles stand out, or the actions of two agents."""
    rows, columns = ([str(i + 1) for i in range(n)] for n in table.shape)
    roles = row.get("roles") or [] if name == "conflict" else []
    marked = frozenset(str(i + 1) for i, role in enumerate(roles) if role)
    return Grid(f"seed {row.get('seed', 0)}", table, rows, columns, marked)


def _png(grid: Grid, label: str) -> bytes:
    stream = BytesIO()
    plots.heat_maps([grid], label).savefig(stream, format="png", dpi=150)
    return stream.getvalue()
