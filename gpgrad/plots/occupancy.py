"""Occupancy of GPVD's buckets by code length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpgrad.plots.style import PANEL_HEIGHT, STYLE, line_style, panel_axes, require, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {"shared": "in buckets of two or more", "largest": "in the largest bucket"}
MARKERS = "os^Dv"


def draw_occupancy(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Shares of transitions by code length k, one line per preprocessing g; rows are those of `gpgrad occupancy`.

    Raises SettingError without matplotlib.
    """
    matplotlib = require()
    from matplotlib.ticker import PercentFormatter

    bits = sorted({row["k"] for row in rows})
    kinds = list(dict.fromkeys(row["g"] for row in rows))
    with matplotlib.rc_context(STYLE):
        figure, axes = panel_axes(len(PANELS), PANEL_HEIGHT)
        for place, (name, title) in zip(axes, PANELS.items(), strict=True):
            for index, g in enumerate(kinds):
                points = [(bits.index(row["k"]), row[name]) for row in rows if row["g"] == g]
                style = {"marker": MARKERS[index % len(MARKERS)], "markersize": 3.5, "markerfacecolor": "none"}
                place.plot(*zip(*sorted(points), strict=True), label=g, **style, **line_style(index))
            place.set_xticks(range(len(bits)), [str(k) for k in bits])
            place.set_title(title)
            place.set_xlabel("code length k (bits)")
            place.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes[0].set_ylim(-0.03, 1.03)
        axes[1].set_yscale("log")
        axes[1].yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
        axes[0].set_ylabel("transitions of a batch")
        axes[-1].legend(loc="upper right", title="states")
    return figure


def write_occupancy(rows: Sequence[Mapping[str, Any]], stem: Path) -> Path:
    """Write STEM.csv, one row per preprocessing and code length."""
    path = stem.with_name(f"{stem.name}.csv")
    write_csv(path, list(rows[0]), [list(row.values()) for row in rows])
    return path
