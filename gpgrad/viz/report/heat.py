"""Matrices that runs logged, as pictures for a page: conflict between agents, payoffs that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpgrad import plots
from gpgrad.plots import Grid
from gpgrad.runs.logs import Row
from gpgrad.viz.report.collect import Entry

MOST = 4  # seeds of an entry that get a heat map


def heat_pictures(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Draw them into a folder, for the last row of the first seeds of each entry; none where nothing was logged."""
    made = []
    names = dict.fromkeys(name for entry in entries for seed in entry.rows for name in _tables(entry, seed))
    for name in names:
        for index, entry in enumerate(entries):
            grids = [grid for seed in sorted(entry.rows)[:MOST] if (grid := _grid(entry, seed, name))]
            if grids:
                stem = folder / f"{index + 1} {entry.config.env.name} {entry.name}, {name}".replace("/", "-")
                plots.save(plots.heat_maps(grids, name.replace("_", " ")), stem)
                made.append(stem.with_name(f"{stem.name}.svg"))
    return made


def _row(entry: Entry, seed: int) -> Row:
    return entry.final.get(seed) or entry.rows[seed][-1]


def _tables(entry: Entry, seed: int) -> dict[str, np.ndarray]:
    return plots.logged_tables(_row(entry, seed))


def _grid(entry: Entry, seed: int, name: str) -> Grid | None:
    values = _tables(entry, seed).get(name)
    if values is None:
        return None
    roles = np.array(_row(entry, seed).get("roles") or [0] * len(values))
    if name != "conflict" or len(roles) != len(values):
        rows, columns = ([str(i + 1) for i in range(size)] for size in values.shape)
        return Grid(f"seed {seed}", values, rows, columns)
    return plots.by_role(f"seed {seed}", values, roles)
