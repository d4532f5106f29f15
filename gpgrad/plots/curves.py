"""Learning curves: panels with one line and band per algorithm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from gpgrad.errors import SettingError, suggest
from gpgrad.plots.style import PANEL_HEIGHT, STYLE, line_style, panel_axes, require, write_csv
from gpgrad.runs import stats
from gpgrad.runs.stats import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Centre = Literal["mean", "iqm"]
NULL, NULL_DASH = "by chance", (0, (1, 1.5))
CROWD = 4  # names in a legend
NAME_WIDTH, KEY_WIDTH = 0.055, 0.5  # inches of a letter, and of the line beside a name


class Line(NamedTuple):
    """Curves of all seeds of one algorithm. null: the values expected by chance alone, if known."""

    label: str
    curves: Mapping[int, Curve]
    null: Mapping[int, Curve] | None = None


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    lines: Sequence[Line]


class Band(NamedTuple):
    """Statistics over seeds at steps [K]: centre [K] and 95 percent interval [K], NaN for a single seed."""

    steps: np.ndarray
    centre: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(curves: Mapping[int, Curve], centre: Centre = "mean") -> Band:
    """Mean with Student's interval, or interquartile mean with its bootstrap interval, at every test.

    Seeds whose episodes end early are tested at different steps. All curves are interpolated linearly at the steps of
    the first seed, up to the shortest curve. Raises ValueError without curves or common steps, SettingError for another
    centre.
    """
    if centre not in get_args(Centre):
        raise SettingError(f"centre is {centre!r}{suggest(str(centre), get_args(Centre))}")
    if not curves:
        raise ValueError("curves must have at least one seed")
    first, *_ = curves.values()
    begin, end = max(c.steps[0] for c in curves.values()), min(c.steps[-1] for c in curves.values())
    steps = first.steps[(first.steps >= begin) & (first.steps <= end)]
    if not steps.size:
        raise ValueError(f"curves of seeds {list(curves)} must have steps in common")
    values = np.array([np.interp(steps, c.steps, c.returns) for c in curves.values()])  # [seeds, K]
    if centre == "mean":
        means = [stats.mean_interval(column) for column in values.T]
        points = [(mean.mean, *mean.interval) for mean in means]
    else:
        rng = np.random.default_rng(0)
        estimates = [stats.iqm_interval(column[None], rng) for column in values.T]
        points = [(estimate.value, *estimate.interval) for estimate in estimates]
    middle, low, high = np.array(points).T
    unknown = len(curves) == 1
    return Band(steps, middle, *(np.where(unknown, math.nan, side) for side in (low, high)))


def learning_curves(
    panels: Sequence[Panel], ylabel: str, centre: Centre = "mean", xlabel: str = "environment steps"
) -> Figure:
    """Lines with bands; one column wide for a single panel, else a page wide with three panels per row.

    xlabel: the unit of the curves' steps. A label has the same colour in all panels. Raises SettingError without
    matplotlib.
    """
    matplotlib = require()
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    with matplotlib.rc_context(STYLE):
        figure, axes = panel_axes(len(panels), PANEL_HEIGHT)
        for place, panel in zip(axes, panels, strict=True):
            _draw(place, panel, labels, centre)
            place.set_xlabel(xlabel)
        for place in axes[::3]:
            place.set_ylabel(ylabel)
        _explain(figure, axes)
    return figure


def _explain(figure: Figure, axes: Sequence[Axes]) -> None:
    """A legend on each panel, or a common one below if all are equal and would hide lines."""
    keys = [place.get_legend_handles_labels() for place in axes]
    if all(labels == keys[0][1] for _, labels in keys) and len(keys[0][1]) >= CROWD:
        widest = NAME_WIDTH * max(map(len, keys[0][1])) + KEY_WIDTH
        columns = max(1, int(figure.get_size_inches()[0] / widest))
        legend = figure.legend(*keys[0], loc="outside lower center", ncols=columns)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + legend.get_window_extent().height / figure.dpi)
        return
    for place, (handles, labels) in zip(axes, keys, strict=True):
        if labels:
            place.legend(handles, labels, loc="best")


def _draw(place: Axes, panel: Panel, labels: Sequence[str], centre: Centre) -> None:
    for line in panel.lines:
        style, n = line_style(labels.index(line.label)), len(line.curves)
        points = band(line.curves, centre)
        seeds = f"{n} seeds" if n > 1 else "1 seed"
        place.plot(points.steps, points.centre, label=f"{line.label} ({seeds})", **style)
        place.fill_between(points.steps, points.low, points.high, color=style["color"], alpha=0.2, linewidth=0)
        if line.null:
            chance = band(line.null, centre)
            place.plot(chance.steps, chance.centre, color=style["color"], linestyle=NULL_DASH, linewidth=0.9)
    if any(line.null for line in panel.lines):
        place.plot([], [], color="#333333", linestyle=NULL_DASH, linewidth=0.9, label=NULL)
    place.set_title(panel.title)
    place.margins(x=0)
    place.xaxis.set_major_formatter(lambda value, _: steps_text(value))


def steps_text(steps: float) -> str:
    """A number of environment steps as text, in thousands (k) or millions (M)."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(steps) >= size:
            return f"{steps / size:.3g}{unit}"
    return f"{steps:.3g}"


def write_data(
    panels: Sequence[Panel], stem: Path, metric: str, centre: Centre = "mean", place: str = "env_steps"
) -> list[Path]:
    """Write STEM.csv, one row per seed and test, and STEM_CENTRE.csv, one row per point of a line."""
    points, bands = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}_{centre}.csv")
    lines = [(panel.title, line) for panel in panels for drawn in panel.lines for line in _with_null(drawn)]
    write_csv(
        points,
        ("panel", "algorithm", "seed", place, metric),
        [
            (title, line.label, seed, *point)
            for title, line in lines
            for seed, curve in line.curves.items()
            for point in zip(curve.steps.tolist(), curve.returns.tolist(), strict=True)
        ],
    )
    write_csv(
        bands,
        ("panel", "algorithm", place, "seeds", centre, "low", "high"),
        [
            (title, line.label, step, len(line.curves), *("" if math.isnan(value) else value for value in point))
            for title, line in lines
            for step, *point in zip(*(part.tolist() for part in band(line.curves, centre)), strict=True)
        ],
    )
    return [points, bands]


def _with_null(line: Line) -> list[Line]:
    return [line, Line(f"{line.label}, {NULL}", line.null)] if line.null else [line]
