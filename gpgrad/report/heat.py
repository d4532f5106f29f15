"""Matrices that runs logged, as pictures for a page: conflict between agents, payoffs that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpgrad import plots
from gpgrad.logs import Row
from gpgrad.plots import Grid
from gpgrad.report.collect import Entry

MATRICES = ("conflict", "payoff_table")
MOST = 4  # seeds of an entry that get a heat map


def heat_pictures(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Draw them into a folder, for the last row of the first seeds of each entry; none where nothing was logged."""
    made = []
    for name in MATRICES:
        for index, entry in enumerate(entries):
            grids = [grid for seed in sorted(entry.rows)[:MOST] if (grid := _grid(entry, seed, name))]
            if grids:
                stem = folder / f"{index + 1} {entry.config.env.name} {entry.name}, {name}".replace("/", "-")
                plots.save(plots.heat_maps(grids, name.replace("_", " ")), stem)
                made.append(stem.with_name(f"{stem.name}.svg"))
    return made


def _grid(entry: Entry, seed: int, name: str) -> Grid | None:
    row: Row = entry.final.get(seed) or entry.rows[seed][-1]
    if row.get(name) is None:
        return None
    values = np.array(row[name], float)
    if values.ndim != 2:
        return None
    roles = np.array(row.get("roles") or [0] * len(values))
    if name != "conflict" or len(roles) != len(values):
        rows, columns = ([str(i + 1) for i in range(size)] for size in values.shape)
        return Grid(f"seed {seed}", values, rows, columns)
    return plots.by_role(f"seed {seed}", values, roles)
