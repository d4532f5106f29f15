"""Terrain: walkable cells, and walls as edges near every cell.

Rectangles cover the blocked cells; an edge of a rectangle is a wall if there is open ground on its outer side.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpgrad.envs.battles.scenarios.maps import BOARD
from gpgrad.yaml_loader import read_yaml

MARGIN = 4  # cells beyond the board for which nearby edges are listed too
_FILE = Path(__file__).with_name("terrains.yaml")


class Walls(NamedTuple):
    """Wall edges, counterclockwise around blocked rectangles, so that open ground is on the right.

    start, end: float32 [W, 2]. near: int16 [BOARD + 2 MARGIN, BOARD + 2 MARGIN, M] by (row, column), the edges within
    reach of any position in a cell, ascending; padded with -1.
    """

    start: np.ndarray
    end: np.ndarray
    near: np.ndarray


@functools.cache
def names() -> tuple[str, ...]:
    """Names of all terrains."""
    return tuple(_read())


@functools.cache
def walkable(name: str) -> np.ndarray:
    """Walkable cells, bool [BOARD, BOARD] by (row from the south, column)."""
    cells = np.zeros((BOARD, BOARD), bool)
    for run in _read()[name]:
        for first, last in run["columns"]:
            cells[slice(*run["rows"]), first:last] = True
    return cells


@functools.cache
def _read() -> dict[str, list[dict]]:
    return read_yaml(_FILE, "the terrains")


@functools.cache
def walls(name: str, reach: float) -> Walls:
    """The edges of a terrain, and those within `reach` of each cell."""
    start, end = _edges(walkable(name))
    low, high = np.minimum(start, end), np.maximum(start, end)  # [W, 2]
    cells = np.arange(-MARGIN, BOARD + MARGIN)
    corner = np.stack(np.meshgrid(cells, cells), -1)[:, :, None]  # [R, C, 1, 2], (x, y) of the cell's lower left
    gap = np.maximum(np.maximum(low - corner - 1, corner - high), 0)  # [R, C, W, 2]
    inner = (end - start) / np.abs(end - start).sum(-1, keepdims=True)  # unit directions
    outward = np.stack([inner[:, 1], -inner[:, 0]], -1)  # to the right of the edge
    # Some position of the cell is on the outer side of the edge.
    farthest = np.where(outward > 0, corner + 1, corner)
    outside = np.sum((farthest - start) * outward, -1) > 0
    close = (np.sum(gap**2, -1) <= reach**2) & outside  # [R, C, W]
    most = int(close.sum(-1).max(initial=0))
    near = np.full((*close.shape[:2], most), -1, np.int16)
    for row, column in np.ndindex(close.shape[:2]):
        found = np.flatnonzero(close[row, column])
        near[row, column, : len(found)] = found
    return Walls(start.astype(np.float32), end.astype(np.float32), near)


def _edges(open_ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end points [W, 2] of the edges with open ground on their outer side."""
    starts, ends = [], []
    padded = np.pad(open_ground, 1)

    def is_open(rows: slice, columns: slice) -> bool:
        shift = lambda s: slice(s.start + 1, s.stop + 1)  # noqa: E731
        return bool(padded[shift(rows), shift(columns)].any())

    for left, low, right, high in _rectangles(~open_ground):
        sides = (
            ((left, low), (right, low), slice(low - 1, low), slice(left, right)),
            ((right, low), (right, high), slice(low, high), slice(right, right + 1)),
            ((right, high), (left, high), slice(high, high + 1), slice(left, right)),
            ((left, high), (left, low), slice(low, high), slice(left - 1, left)),
        )
        for start, end, rows, columns in sides:
            if is_open(rows, columns):
                starts.append(start)
                ends.append(end)
    return np.array(starts, float).reshape(-1, 2), np.array(ends, float).reshape(-1, 2)


def _rectangles(blocked: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Rectangles (left, low, right, high) that cover the blocked cells; each as wide, then as high as possible."""
    left_over = blocked.copy()
    found = []
    for row, column in np.ndindex(blocked.shape):
        if not left_over[row, column]:
            continue
        right = column
        while right < blocked.shape[1] and left_over[row, right]:
            right += 1
        high = row
        while high < blocked.shape[0] and left_over[high, column:right].all():
            high += 1
        left_over[row:high, column:right] = False
        found.append((column, row, right, high))
    return found
