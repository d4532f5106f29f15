"""Style and output of figures: one palette, embedded fonts, no dates, no random ids.

Imports no jax; matplotlib only when something is drawn. The same data give the same bytes.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), safe for colour-blind readers; colours with high contrast on white come first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("-", "--", ":", "-.")  # used in turn after all colours
COLUMN, PAGE = 3.25, 6.75  # inches, widths of a two-column paper
PANEL_HEIGHT = 2.2  # inches
FORMATS: dict[str, dict[str, Any]] = {  # metadata without date and version
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType, embedded; type 3 is refused by some publishers
    "svg.fonttype": "path",  # text as paths, so that no font is needed
    "svg.hashsalt": "gpgrad",
}


def line_style(index: int) -> dict[str, Any]:
    """Colour and dash of the index-th line: all colours, then all colours with the next dash."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def is_dark(colour: Any) -> np.ndarray:
    """Whether white text has a higher contrast than black on colours (matplotlib's or RGBA [..., 4]), bool [...]."""
    if isinstance(colour, str):
        from matplotlib.colors import to_rgba

        colour = to_rgba(colour)
    return np.asarray(colour)[..., :3] @ (0.299, 0.587, 0.114) < 0.5


def panel_axes(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes of a height in inches; one column wide for one, else a page wide, three per row."""
    from matplotlib.figure import Figure

    columns = max(1, min(count, 3))
    rows = -(-count // columns)
    figure = Figure((COLUMN if count == 1 else PAGE, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for place in axes[count:]:
        place.remove()
    return figure, axes[:count]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG, SVG and PDF; equal figures give equal bytes."""
    matplotlib = require()
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    with matplotlib.rc_context(STYLE):
        for path, metadata in zip(paths, FORMATS.values(), strict=True):
            figure.savefig(path, metadata=metadata)
    return paths


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def installed() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def require() -> Any:
    """The matplotlib module. Raises SettingError if it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise SettingError("pictures need matplotlib, which is not installed: pip install 'gpgrad[plot]'") from None
    return matplotlib
