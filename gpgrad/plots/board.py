"""Drawings of predator-prey boards: positions, actions and their outcomes.

Predators are numbered discs in the colour of their group; special ones have black spikes. Stags are dark squares, hares
light diamonds. Shapes differ as well as colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpgrad.plots.style import COLOURS, is_dark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # row and column changes of the first actions
CATCH = 5
STAG, HARE = "#4d4d4d", "#d9c3a0"
SPIKES = (10, 1, 0)  # matplotlib's marker of a star with ten points
GAIN, LOSS = "#009E73", "#D55E00"
GROUPS = (COLOURS[0], COLOURS[3], COLOURS[4], COLOURS[5], COLOURS[7], "#999999")  # GAIN and LOSS are taken


class Outcomes(NamedTuple):
    """The outcomes of a step by cell, with texts of rewards. caught: captures. lone: catches with too few predators."""

    caught: Mapping[tuple[int, int], str]
    lone: Mapping[tuple[int, int], str]


class Scene(NamedTuple):
    """A state to be drawn. Cells are (row, column).

    predators: int [A, 2]. active, special: bool [A]. groups: int [A], from 0.
    stags, hares: int [n, 2], living ones.
    actions: int [A], right, down, left, up, stay, catch; None: not shown.
    strokes: colour of each predator's action; None: black.
    outcomes: of the actions; None: not shown.
    """

    height: int
    width: int
    predators: np.ndarray
    active: np.ndarray
    special: np.ndarray
    groups: np.ndarray
    stags: np.ndarray
    hares: np.ndarray
    actions: np.ndarray | None = None
    strokes: Sequence[str] | None = None
    outcomes: Outcomes | None = None


def draw_board(place: Axes, scene: Scene, cell: float) -> None:
    """Draw a scene. cell: side of a cell in points, which determines the sizes of text and lines."""
    from matplotlib.patches import Rectangle

    place.set(xlim=(-0.5, scene.width - 0.5), ylim=(scene.height - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    place.grid(False)
    for side in place.spines.values():
        side.set(visible=True, linewidth=0.6, color="#888888")
    lines = {"color": "#e4e4e4", "linewidth": 0.4, "zorder": 0}
    place.vlines(np.arange(scene.width - 1) + 0.5, -0.5, scene.height - 0.5, **lines)
    place.hlines(np.arange(scene.height - 1) + 0.5, -0.5, scene.width - 0.5, **lines)
    for row, column in scene.stags:
        place.add_patch(Rectangle((column - 0.3, row - 0.3), 0.6, 0.6, color=STAG, linewidth=0, zorder=2))
    for row, column in scene.hares:
        style = {
            "angle": 45,
            "rotation_point": "center",
            "facecolor": HARE,
            "edgecolor": STAG,
            "linewidth": 0.05 * cell,
        }
        place.add_patch(Rectangle((column - 0.22, row - 0.22), 0.44, 0.44, zorder=2, **style))
    for agent in np.flatnonzero(scene.active):
        _predator(place, scene, int(agent), cell)
    if scene.outcomes:
        _outcomes(place, scene, scene.outcomes, cell)


def _predator(place: Axes, scene: Scene, agent: int, cell: float) -> None:
    from matplotlib.patches import Circle

    row, column = scene.predators[agent]
    colour, special = GROUPS[int(scene.groups[agent]) % len(GROUPS)], bool(scene.special[agent])
    if special:
        place.plot(column, row, marker=SPIKES, color="black", markersize=1.15 * cell, markeredgewidth=0, zorder=2.5)
    place.add_patch(Circle((column, row), 0.36, facecolor=colour, linewidth=0, zorder=3))
    ink = "white" if is_dark(colour) else "black"
    text = {"ha": "center", "va": "center", "color": ink, "fontsize": 0.42 * cell, "zorder": 5}
    place.text(column, row + 0.02, str(agent + 1), **text)
    if scene.actions is not None:
        stroke = scene.strokes[agent] if scene.strokes else "black"
        _action(place, row, column, int(scene.actions[agent]), stroke, cell)


def _action(place: Axes, row: int, column: int, action: int, stroke: str, cell: float) -> None:
    """Draw an arrow for a move, a ring for a catch, a line below the predator for staying."""
    from matplotlib.patches import Circle

    if action < len(MOVES):
        down, right = MOVES[action]
        arrow = {"arrowstyle": "-|>", "color": stroke, "linewidth": 0.1 * cell, "mutation_scale": 0.5 * cell}
        arrow |= {"shrinkA": 0, "shrinkB": 0}
        start, end = (column + 0.34 * right, row + 0.34 * down), (column + 0.86 * right, row + 0.86 * down)
        place.annotate("", end, start, arrowprops=arrow, zorder=4, annotation_clip=False)
    elif action == CATCH:
        ring = {"facecolor": "none", "edgecolor": stroke, "linewidth": 0.1 * cell}
        place.add_patch(Circle((column, row), 0.47, zorder=4, **ring))
    else:
        place.plot([column - 0.3, column + 0.3], [row + 0.43] * 2, color=stroke, linewidth=0.1 * cell, zorder=4)


def _outcomes(place: Axes, scene: Scene, found: Outcomes, cell: float) -> None:
    taken = {tuple(position) for position in scene.predators[scene.active].tolist()}
    for cells, marker, colour in ((found.caught, "o", GAIN), (found.lone, "x", LOSS)):
        for (row, column), text in cells.items():
            style = {"markeredgewidth": 0.14 * cell, "markerfacecolor": "none", "markeredgecolor": colour}
            place.plot(column, row, marker, markersize=0.85 * cell, zorder=7, **style)
            below = row == 0 or ((row - 1, column) in taken and row < scene.height - 1)
            _text(place, row + (0.75 if below else -0.75), column, text, colour, cell)


def _text(place: Axes, row: float, column: int, text: str, colour: str, cell: float) -> None:
    from matplotlib.patheffects import withStroke

    letters = place.text(column, row, text, ha="center", va="center", color=colour, fontsize=0.55 * cell, zorder=8)
    letters.set(fontweight="bold", path_effects=[withStroke(linewidth=0.16 * cell, foreground="white")])
