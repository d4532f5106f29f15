"""Frames of a predator-prey episode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpgrad.envs.predator_prey.env import PredatorPrey, PredatorPreyParams
from gpgrad.plots.board import GROUPS, HARE, SPIKES, STAG, Scene, draw_board
from gpgrad.plots.style import STYLE, require
from gpgrad.viz.render import scenes
from gpgrad.viz.render.agent_colours import Grouping
from gpgrad.viz.render.episode import Episode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
BOARD = 4.0  # inches of the longer side
HEAD, FOOT = 0.42, 0.5  # inches above and below it


def frames(
    env: PredatorPrey, params: PredatorPreyParams, episode: Episode, grouping: Grouping, heading: str
) -> Iterator[np.ndarray]:
    """One frame uint8 [H, W, 3] per step with state, actions and outcomes, and one for the final state."""
    matplotlib = require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = BOARD / max(env.height, env.width)
    width, height = max(side * env.width, 2.6) + 0.2, side * env.height
    figure = Figure((width, height + HEAD + FOOT), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    total = HEAD + height + FOOT
    with matplotlib.rc_context(STYLE):
        for t in range(episode.length + 1):
            figure.clear()
            left = (width - side * env.width) / 2
            place = figure.add_axes((left / width, FOOT / total, side * env.width / width, height / total))
            shown = scenes.scene(env, params, episode.state(t), grouping.groups)
            if t < episode.length:
                found = scenes.outcomes(env, params, episode.state(t), episode.actions[t], episode.keys[t])
                shown = shown._replace(actions=episode.actions[t], outcomes=found)
            draw_board(place, shown, 72 * side)
            earned = float(episode.reward[: t + 1].sum())
            figure.text(0.1 / width, 1 - 0.06 / total, heading, va="top", fontsize=8)
            now = f"step {t} of {episode.length}" if t < episode.length else f"end after {episode.length} steps"
            figure.text(0.1 / width, 1 - 0.24 / total, f"{now}; return {earned:g}", va="top", fontsize=8)
            _key(figure, env, shown, grouping, width)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _key(figure: Figure, env: PredatorPrey, shown: Scene, grouping: Grouping, width: float) -> None:
    """The legend of shapes and colours."""
    from matplotlib.lines import Line2D

    disc: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 7}
    keys = []
    if env.n_stags:
        keys.append(Line2D([], [], marker="s", linestyle="", color=STAG, markersize=6, label="stag"))
    if env.n_hares:
        keys.append(Line2D([], [], marker="D", linestyle="", color=HARE, markersize=5, label="hare"))
    keys.append(Line2D([], [], color="black", markerfacecolor="none", label="catching", **disc))
    if shown.special.any():
        keys.append(Line2D([], [], marker=SPIKES, linestyle="", color="black", markersize=9, label="special"))
    groups = sorted(set(grouping.groups.tolist()))
    if len(groups) > 1:
        keys += [Line2D([], [], color=GROUPS[g % len(GROUPS)], label=f"group {g + 1}", **disc) for g in groups]
    style = {"loc": "lower left", "bbox_to_anchor": (0.02 / width, 0.0), "borderpad": 0.3, "alignment": "left"}
    style |= {"handletextpad": 0.1, "columnspacing": 0.8, "labelspacing": 0.25, "fontsize": 7, "title_fontsize": 7}
    figure.legend(handles=keys, ncols=4, title=grouping.words or None, **style)
