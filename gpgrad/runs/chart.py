"""Small line charts for terminals, drawn with braille characters of two by four dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def chart(x: Sequence[float], y: Sequence[float], width: int = 60, height: int = 8, right: float | None = None) -> str:
    """A line through (x, y), in order of x, from the first x to `right` (by default the last); lines of text.

    width, height: of the drawing in characters; the lowest and highest value are printed on its left.
    """
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    columns, rows = 2 * width, 4 * height
    end = xs[-1] if right is None else max(right, xs[-1])
    low, high = float(ys.min()), float(ys.max())
    places = np.linspace(xs[0], end, columns)
    shown = places <= xs[-1]
    shown[0] = True
    level = np.interp(places[shown], xs, ys)
    row = np.rint((high - level) / ((high - low) or 1.0) * (rows - 1)).astype(int)
    dots = np.zeros((rows, columns), bool)
    for column, (here, after) in enumerate(zip(row, [*row[1:], row[-1]], strict=True)):
        dots[min(here, after) : max(here, after) + 1, column] = True  # a steep line has no gaps
    cells = dots.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)
    lines = ["".join(chr(0x2800 + int((cell * _DOTS).sum())) for cell in line) for line in cells]
    names = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, names))
    return "\n".join(f"{name:>{margin}} {line}" for name, line in zip(names, lines, strict=True))
