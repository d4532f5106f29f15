"""Bar charts of final values with their seeds, and the same values as a LaTeX table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpgrad.plots.style import STYLE, line_style, panel_axes, require, write_csv
from gpgrad.runs import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_HEIGHT = 0.19  # inches, including its gap
AROUND = 0.62  # inches above and below the bars of a panel: title, axis, label


class Bar(NamedTuple):
    """The values of one algorithm by seed."""

    label: str
    values: Mapping[int, float]


class BarPanel(NamedTuple):
    """Bars with a common unit."""

    title: str
    bars: Sequence[Bar]


def bar_table(panels: Sequence[BarPanel], xlabel: str) -> Figure:
    """Bars of means over seeds, with Student's 95 percent interval, one dot per seed and the mean as a number.

    Bars are labelled directly, without a legend. A label has the same colour in all panels. Raises SettingError
    without matplotlib.
    """
    matplotlib = require()

    labels = list(dict.fromkeys(bar.label for panel in panels for bar in panel.bars))
    most = max(len(panel.bars) for panel in panels)
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = panel_axes(len(panels), AROUND + BAR_HEIGHT * most)
        for place, panel in zip(axes, panels, strict=True):
            _draw(place, panel, labels)
            place.set_xlabel(xlabel)
            place.set_ylim(most - 0.5, -0.5)  # the first on top
    return figure


def _draw(place: Axes, panel: BarPanel, labels: Sequence[str]) -> None:
    means = [stats.mean_interval(list(bar.values.values())) for bar in panel.bars]
    ends = [value for bar in panel.bars for value in bar.values.values()] + [mean.mean for mean in means]
    ends += [end for mean in means for end in mean.interval if math.isfinite(end)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = (high - low) or 1.0
    for row, (bar, mean) in enumerate(zip(panel.bars, means, strict=True)):
        colour = line_style(labels.index(bar.label))["color"]
        place.barh(row, mean.mean, height=0.72, color=colour, alpha=0.35, linewidth=0)
        place.plot([mean.mean] * 2, [row - 0.36, row + 0.36], color=colour, linewidth=1.5)
        if math.isfinite(mean.interval.low):
            place.plot(mean.interval, [row, row], color="#333333", linewidth=0.8)
        values = list(bar.values.values())
        spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [0.0]
        place.plot(values, row + np.asarray(spread), ".", color=colour, markersize=3)
        place.text(high + 0.03 * span, row, _digits(mean.mean), va="center", fontsize=7)
    place.set_xlim(low - (0.02 * span if low < 0 else 0.0), high + 0.2 * span)
    place.set_yticks(range(len(panel.bars)), [bar.label for bar in panel.bars])
    place.tick_params(axis="y", length=0)
    place.axvline(0, color="#333333", linewidth=0.8)
    place.set_title(panel.title)


def write_bars(panels: Sequence[BarPanel], stem: Path, metric: str) -> list[Path]:
    """Write STEM.csv, one row per seed, and STEM.tex, a table of means."""
    points, table = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.tex")
    rows = [
        (panel.title, bar.label, seed, value)
        for panel in panels
        for bar in panel.bars
        for seed, value in bar.values.items()
    ]
    write_csv(points, ("panel", "algorithm", "seed", metric), rows)
    table.write_text(latex(panels))
    return [points, table]


def latex(panels: Sequence[BarPanel]) -> str:
    """A booktabs table, one row per label, one column per panel: mean ± half of the 95 percent interval (Student's).

    The highest mean of a column is bold, whether or not the difference to the others is significant.
    """
    labels = list(dict.fromkeys(bar.label for panel in panels for bar in panel.bars))
    cells = {
        (panel.title, bar.label): stats.mean_interval(list(bar.values.values()))
        for panel in panels
        for bar in panel.bars
    }
    best = {
        panel.title: max(mean.mean for (title, _), mean in cells.items() if title == panel.title)
        for panel in panels
        if panel.bars
    }
    lines = [
        "% needs \\usepackage{booktabs}; \\pm: half of the 95 percent interval (Student's) over seeds",
        f"\\begin{{tabular}}{{l{'r' * len(panels)}}}",
        "\\toprule",
        " & ".join(["", *(escape(panel.title) for panel in panels)]).strip() + r" \\",
        "\\midrule",
    ]
    for label in labels:
        row = [_cell(cells.get((panel.title, label)), best.get(panel.title)) for panel in panels]
        lines.append(" & ".join([escape(label), *row]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _cell(mean: stats.Mean | None, best: float | None) -> str:
    if mean is None:
        return "--"
    text = _digits(mean.mean)
    number = f"\\mathbf{{{text}}}" if mean.mean == best else text
    decimals = len(text.partition(".")[2])
    half = "" if mean.n == 1 else f" \\pm {(mean.interval.high - mean.interval.low) / 2:,.{decimals}f}"
    return f"${number}{half}$"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def escape(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
