"""Heat maps of matrices: learned payoff tables, conflict between agents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpgrad.plots.style import PAGE, STYLE, is_dark, require, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_IN_NUMBERS = 8  # maximum rows or columns with values written in cells
IN_A_ROW = 4
MARK = "#D55E00"


class Grid(NamedTuple):
    """One heat map. values: [R, C]. rows, columns: names. marked: highlighted names."""

    title: str
    values: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    marked: frozenset[str] = frozenset()


def logged_tables(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The matrices in a row of metrics.jsonl by name: conflict between agents, learned payoff tables."""
    names = (name for name in row if name == "conflict" or name.startswith("payoff_table"))
    found = {name: np.array(row[name], float) for name in names if row[name] is not None}
    return {name: table for name, table in found.items() if table.ndim == 2}


def by_role(title: str, values: np.ndarray, roles: np.ndarray) -> Grid:
    """A heat map over agents [A, A], numbered from 1; agents with a role [A] other than 0 come first, highlighted."""
    order = np.argsort(roles == 0, kind="stable")
    names = [str(agent + 1) for agent in order]
    marked = frozenset(str(agent + 1) for agent in np.flatnonzero(roles))
    return Grid(title, values[np.ix_(order, order)], names, names, marked)


def heat_maps(grids: Sequence[Grid], label: str) -> Figure:
    """Heat maps side by side with a common colour scale, symmetric about zero if any value is negative.

    Raises SettingError without matplotlib.
    """
    matplotlib = require()
    from matplotlib.figure import Figure

    columns = min(len(grids), IN_A_ROW)
    rows = -(-len(grids) // columns)
    width = PAGE * min(1.0, (columns + 0.6) / IN_A_ROW)
    values = np.concatenate([grid.values.ravel() for grid in grids])
    top = float(np.nanmax(np.abs(values))) or 1.0
    signed = bool((values < 0).any())
    image_style = {"cmap": "PuOr_r" if signed else "cividis", "vmin": -top if signed else 0.0, "vmax": top}
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure((width, PAGE / IN_A_ROW * 1.1 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        images = [_draw(place, grid, image_style, top) for grid, place in zip(grids, axes, strict=False)]
        for place in axes[len(grids) :]:
            place.remove()
        bar = figure.colorbar(images[0], ax=list(axes[: len(grids)]), label=label, shrink=0.8)
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _draw(place: Axes, grid: Grid, image_style: dict, top: float):
    image = place.imshow(grid.values, **image_style)
    for axis, names in ((place.yaxis, grid.rows), (place.xaxis, grid.columns)):
        axis.set_ticks(range(len(names)), names)
        for text, name in zip(axis.get_ticklabels(), names, strict=True):
            if name in grid.marked:
                text.set(color=MARK, fontweight="bold")
    place.tick_params(length=0)
    place.set_title(grid.title)
    if max(grid.values.shape) <= LARGEST_IN_NUMBERS:
        dark = is_dark(image.to_rgba(grid.values))
        for (row, column), value in np.ndenumerate(grid.values):
            colour = "white" if dark[row, column] else "black"
            place.text(column, row, number(value, top), ha="center", va="center", color=colour, fontsize=6)
    return image


def number(value: float, top: float) -> str:
    """The text of a cell, rounded by the largest magnitude of the figure, to two significant digits of it."""
    digits = 0 if top >= 100 else 1 if top >= 10 else max(2, 1 - math.floor(math.log10(top)))
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def write_grids(grids: Sequence[Grid], stem: Path, metric: str) -> Path:
    """Write STEM.csv, one row per cell."""
    path = stem.with_name(f"{stem.name}.csv")
    cells = [
        (grid.title, grid.rows[row], grid.columns[column], value)
        for grid in grids
        for (row, column), value in np.ndenumerate(grid.values)
    ]
    write_csv(path, ("panel", "row", "column", metric), cells)
    return path
