"""Frames of matrix games: a table of joint actions and rewards that fills with the steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpgrad.plots.style import require
from gpgrad.viz.render.episode import Episode
from gpgrad.viz.render.simulators import canvas_of, image

MOST_ROWS = 12  # the latest steps of a longer game


def frames(episode: Episode, words: str) -> Iterator[np.ndarray]:
    """One frame uint8 [H, W, 3] per state: the steps so far with each agent's action, the reward and the return."""
    require()
    n_agents = episode.actions.shape[1]
    canvas, place = canvas_of((1.2 * (n_agents + 3), 1.2 + 0.3 * min(episode.length, MOST_ROWS)))
    names = ["step", *(f"agent {i}" for i in range(n_agents)), "reward", "return"]
    for t in range(episode.length + 1):
        place.clear()
        place.set_axis_off()
        place.set_title(f"{words}\nstep {t} of {episode.length}", fontsize=9)
        place.table(cells(episode, t), colLabels=names, loc="center", cellLoc="center")
        yield image(canvas)


def cells(episode: Episode, t: int) -> list[list[str]]:
    """The rows of the table after t steps; those of steps to come are empty."""
    first = max(0, t - MOST_ROWS)
    rows = []
    for step in range(first, min(episode.length, first + MOST_ROWS)):
        earned = [f"{episode.reward[step]:g}", f"{episode.reward[: step + 1].sum():g}"]
        row = [str(step + 1), *map(str, episode.actions[step].tolist()), *earned]
        rows.append(row if step < t else [""] * len(row))
    return rows
