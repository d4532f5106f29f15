"""The figures of an experiment, from logged rows to panels and heat maps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpgrad import plots
from gpgrad.errors import SettingError, suggest
from gpgrad.experiments import x_axes
from gpgrad.experiments.reporting.report import Result
from gpgrad.experiments.schema import Axis, Definition, Drawing
from gpgrad.plots import Bar, BarPanel, Grid, Line, Panel, ProfilePanel, Scores
from gpgrad.runs.logs import Row
from gpgrad.runs.stats import Curve

CENTRES = {
    "mean": "mean over seeds, with Student's 95 percent interval",
    "iqm": "interquartile mean over seeds, with its bootstrap 95 percent interval",
}
PLACE = re.compile(r"((?P<over>mean|sum) )?(?P<name>\w+)(\[(?P<index>\d+(,\d+)*)\])?")
OVER = {"mean": np.mean, "sum": np.sum}


class Picture(NamedTuple):
    """A figure. stem: name of its files. title, words: caption. data: a line about each file of numbers."""

    stem: str
    title: str
    words: str
    data: list[str]


def draw(definition: Definition, results: Sequence[Result], folder: Path) -> list[Picture]:
    """Draw all figures of an experiment, without arms that have no finished seed. Raises SettingError."""
    wanted = [(drawing, drawn(drawing, results)) for drawing in definition.drawings]
    return [_draw(definition, drawing, its, folder) for drawing, its in wanted if any(r.curves for r in its)]


def drawn(drawing: Drawing, results: Sequence[Result]) -> list[Result]:
    """The results that a drawing shows."""
    return [result for result in results if not drawing.arms or result.setup.arm.label in drawing.arms]


def _draw(definition: Definition, drawing: Drawing, results: Sequence[Result], folder: Path) -> Picture:
    if drawing.kind == "grids":
        return _grids(drawing, results, folder)
    if drawing.kind in ("bars", "profiles"):
        return _finals(definition, drawing, results, folder)
    made = curves(definition, results, drawing.by) if drawing.kind == "curves" else traces(drawing, results)
    if drawing.kind == "chance":
        made = against_chance(definition, drawing, results)
    metric = definition.metric if drawing.kind == "curves" else drawing.metric or drawing.name
    stem, label = folder / drawing.name, drawing.ylabel or metric_text(metric)
    along = x_axes.LABELS[drawing.by]
    plots.save(plots.learning_curves(made, label, drawing.centre, along), stem)
    plots.write_data(made, stem, metric, drawing.centre, x_axes.COLUMNS[drawing.by])
    data = [
        f"`{drawing.name}.csv`: one row per seed and test",
        f"`{drawing.name}_{drawing.centre}.csv`: one row per point of a line",
    ]
    words = f"Lines and bands: {CENTRES[drawing.centre]}; tests during training." + x_axes.REMARKS[drawing.by]
    if drawing.kind == "chance":
        words += " Dotted: the same number under random signs, which is what chance alone gives."
    return Picture(drawing.name, f"{label} by {along}", words, data)


def _finals(definition: Definition, drawing: Drawing, results: Sequence[Result], folder: Path) -> Picture:
    metric = drawing.metric or definition.metric
    stem, label = folder / drawing.name, drawing.ylabel or metric_text(metric)
    values = finals(definition, drawing, results)
    if drawing.kind == "profiles":
        panels = [
            ProfilePanel(panel, [Scores(arm, [list(seeds.values())]) for arm, seeds in arms.items()])
            for panel, arms in values.items()
        ]
        plots.save(plots.performance_profiles(panels, label), stem)
        plots.write_profiles(panels, stem, metric)
        words = "Fraction of finished runs above each score, with its bootstrap 95 percent interval over seeds."
        return Picture(drawing.name, f"runs by {label}", words, [f"`{drawing.name}.csv`: one row per score of a line"])
    panels = [BarPanel(panel, [Bar(arm, seeds) for arm, seeds in arms.items()]) for panel, arms in values.items()]
    plots.save(plots.bar_table(panels, label), stem)
    plots.write_bars(panels, stem, metric)
    data = [f"`{drawing.name}.csv`: one row per seed", f"`{drawing.name}.tex`: a LaTeX table"]
    words = "Means over seeds after training with Student's 95 percent interval; one dot per seed."
    return Picture(drawing.name, f"{label} after training", words, data)


def finals(
    definition: Definition, drawing: Drawing, results: Sequence[Result]
) -> dict[str, dict[str, dict[int, float]]]:
    """The value of each finished seed after training, by panel and arm. Raises SettingError if it is not a number."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for result in (result for result in results if result.curves):
        arm = result.setup.arm
        values = result.final if drawing.metric in ("", definition.metric) else _logged_final(result, drawing.metric)
        found.setdefault(arm.panel, {})[arm.label] = values
    return found


def _logged_final(result: Result, place: str) -> dict[int, float]:
    values = {row["seed"]: logged(row, place) for share in result.shares for row in share.final}
    for seed, value in values.items():
        if value is None or np.ndim(value) != 0:
            raise SettingError(f"{place} of {result.setup.arm.label}, seed {seed}, must be a number (got {value!r})")
    return {seed: float(value) for seed, value in sorted(values.items())}


def metric_text(metric: str) -> str:
    """A metric's name as shown in figures and tables."""
    return metric.replace("_", " ")


def curves(definition: Definition, results: Sequence[Result], by: Axis = "steps") -> list[Panel]:
    """Learning curves of the experiment's metric over finished seeds, a panel each."""
    drawn_arms = [(r.setup.arm, x_axes.against(r, by)) for r in results if r.curves]
    return [
        Panel(name, [Line(arm.label, lines) for arm, lines in drawn_arms if arm.panel == name])
        for name in definition.panels
    ]


def traces(drawing: Drawing, results: Sequence[Result]) -> list[Panel]:
    """Several logged numbers, one panel per arm. Rows in which a value is not a number are left out of its line."""
    return [
        Panel(title(result, results), [Line(label, _trace(result, place)) for label, place in drawing.lines.items()])
        for result in results
        if result.curves
    ]


def against_chance(definition: Definition, drawing: Drawing, results: Sequence[Result]) -> list[Panel]:
    """One logged number and its value under chance, for arms that log both; one panel per panel of the experiment.

    Raises SettingError if no arm logs both.
    """
    logging = [r for r in results if r.curves and _logs(r, drawing.metric) and _logs(r, drawing.chance)]
    if not logging:
        raise SettingError(f"no finished arm of {definition.name} logs both {drawing.metric} and {drawing.chance}")
    lines = [
        (r.setup.arm.panel, Line(r.setup.arm.label, _trace(r, drawing.metric), _trace(r, drawing.chance)))
        for r in logging
    ]
    return [Panel(name, made) for name in definition.panels if (made := [line for p, line in lines if p == name])]


def _logs(result: Result, place: str) -> bool:
    return any(_names(place, row) for share in result.shares for row in share.metrics)


def title(result: Result, results: Sequence[Result]) -> str:
    """An arm's label, with its panel if there are several."""
    arm = result.setup.arm
    several = len({other.setup.arm.panel for other in results}) > 1
    return f"{arm.label}, {arm.panel}" if several else arm.label


def _trace(result: Result, place: str) -> dict[int, Curve]:
    found: dict[int, list[tuple[float, float]]] = {}
    rows = [row for share in result.shares for row in share.metrics]
    having = [row for row in rows if _names(place, row)] or rows  # older runs may not log the number
    for row in having:
        value = logged(row, place)
        if value is not None and np.ndim(value) == 0:
            found.setdefault(row["seed"], []).append((row["env_steps"], float(value)))
    if not found:
        raise SettingError(f"{result.setup.arm.label} has no number {place!r} in the rows of its runs")
    return {seed: Curve(*np.array(points).T) for seed, points in found.items()}


def _names(place: str, row: Row) -> bool:
    match = PLACE.fullmatch(place)
    return match is not None and match["name"] in row


def logged(row: Row, place: str) -> Any:
    """The value of `name` in a row, of `name[i,j]` of an array, or the `mean` or `sum` of either.

    Raises SettingError for an unknown name or an index outside the array.
    """
    match = PLACE.fullmatch(place)
    if match is None or match["name"] not in row:
        raise SettingError(f"rows have no {place!r}{suggest(place, row)}")
    value = row[match["name"]]
    if value is None:
        return None
    if match["index"] is not None:
        try:
            value = np.array(value)[tuple(map(int, match["index"].split(",")))]
        except IndexError:
            raise SettingError(f"{place} is outside an array of shape {np.shape(value)}") from None
    return OVER[match["over"]](value) if match["over"] else value


def _grids(drawing: Drawing, results: Sequence[Result], folder: Path) -> Picture:
    made = [grid for result in results if result.curves for grid in grids(drawing, result, title(result, results))]
    label, stem = drawing.ylabel or metric_text(drawing.metric), folder / drawing.name
    plots.save(plots.heat_maps(made, label), stem)
    plots.write_grids(made, stem, drawing.metric)
    words = "After training; " + ("one heat map per seed." if drawing.seeds else "mean over seeds.")
    return Picture(drawing.name, label, words, [f"`{drawing.name}.csv`: one row per cell"])


def grids(drawing: Drawing, result: Result, name: str) -> list[Grid]:
    """The heat maps of an arm: its first seeds, or the mean over seeds."""
    rows = sorted((row for share in result.shares for row in share.final), key=lambda row: row["seed"])
    if not drawing.seeds:
        beside = np.mean([logged(row, drawing.beside) for row in rows], axis=0) if drawing.beside else None
        return [plain_grid(name, np.mean([_matrix(row, drawing.metric) for row in rows], axis=0), beside)]
    return [_grid(drawing, row, f"{name}, seed {row['seed']}") for row in rows[: drawing.seeds]]


def _grid(drawing: Drawing, row: Row, heading: str) -> Grid:
    values = _matrix(row, drawing.metric)
    if drawing.marked:
        return plots.by_role(heading, values, np.array(logged(row, drawing.marked)))
    return plain_grid(heading, values, np.array(logged(row, drawing.beside)) if drawing.beside else None)


def plain_grid(heading: str, values: np.ndarray, beside: np.ndarray | None = None) -> Grid:
    """A heat map whose rows and columns are numbered from 1. beside: float [2, U], values shown at rows and columns."""
    rows, columns = ([str(i + 1) for i in range(n)] for n in values.shape)
    if beside is not None:
        rows, columns = (
            [f"{name}\n({value:.2g})" for name, value in zip(names, numbers, strict=True)]
            for names, numbers in zip((rows, columns), beside, strict=True)
        )
    return Grid(heading, values, rows, columns)


def _matrix(row: Row, metric: str) -> np.ndarray:
    values = np.array(logged(row, metric), float)
    if values.ndim != 2:
        raise SettingError(f"{metric} must be a matrix to be drawn as a heat map (got the shape {values.shape})")
    return values
