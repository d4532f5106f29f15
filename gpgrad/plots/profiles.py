"""Performance profiles: the fraction of runs above each score.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpgrad.plots.style import PANEL_HEIGHT, STYLE, line_style, panel_axes, require, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 201
LEVEL = 0.95
REPETITIONS = 2000


class Scores(NamedTuple):
    """The final scores of one algorithm, [tasks][seeds]; seeds of different tasks are independent."""

    label: str
    tasks: Sequence[Sequence[float]]


class ProfilePanel(NamedTuple):
    """Algorithms on the same tasks; all scores must have the same unit."""

    title: str
    scores: Sequence[Scores]


class Profile(NamedTuple):
    """At thresholds [K]: fraction of runs with a higher score, averaged over tasks, with its interval."""

    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def profile(scores: Scores, thresholds: np.ndarray, rng: np.random.Generator) -> Profile:
    """The profile with its pointwise 95 percent bootstrap interval; seeds are resampled within each task.

    The bootstrap interval is too narrow for few seeds and has no width for one. Raises ValueError for a task without
    seeds and scores that are not finite.
    """
    shares, drawn = [], []
    for task in scores.tasks:
        values = np.asarray(task, float)
        if not values.size or not np.isfinite(values).all():
            raise ValueError(f"scores of {scores.label} must be finite numbers, at least one (got {values.tolist()})")
        above = values[:, None] > thresholds  # [seeds, K]
        shares.append(above.mean(0))
        times = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=REPETITIONS)  # [R, seeds]
        drawn.append(times @ above / len(values))
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Profile(thresholds, np.mean(shares, axis=0), low, high)


def profiles_of(panel: ProfilePanel) -> dict[str, Profile]:
    """The profiles of all algorithms at common thresholds, from below the lowest score to the highest."""
    values = np.array([value for scores in panel.scores for task in scores.tasks for value in task])
    margin = 0.02 * (np.ptp(values) or 1.0)
    thresholds = np.linspace(values.min() - margin, values.max(), POINTS)
    return {scores.label: profile(scores, thresholds, np.random.default_rng(0)) for scores in panel.scores}


def performance_profiles(panels: Sequence[ProfilePanel], xlabel: str) -> Figure:
    """Profiles in panels; a label has the same colour in all panels. Raises SettingError without matplotlib."""
    matplotlib = require()
    from matplotlib.lines import Line2D
    from matplotlib.ticker import PercentFormatter

    labels = list(dict.fromkeys(scores.label for panel in panels for scores in panel.scores))
    with matplotlib.rc_context(STYLE):
        figure, axes = panel_axes(len(panels), PANEL_HEIGHT)
        for place, panel in zip(axes, panels, strict=True):
            for label, found in profiles_of(panel).items():
                style = line_style(labels.index(label))
                place.step(found.thresholds, found.share, where="post", **style)
                place.fill_between(
                    found.thresholds,
                    found.low,
                    found.high,
                    step="post",
                    color=style["color"],
                    alpha=0.15,
                    linewidth=0,
                )
            place.set_title(panel.title)
            place.set_xlabel(xlabel)
            place.set_ylim(-0.02, 1.02)
            place.yaxis.set_major_formatter(PercentFormatter(1.0))
            place.margins(x=0)
        axes[0].set_ylabel("fraction of runs above the score")
        handles = [
            Line2D([], [], label=f"{label} ({_runs(panels, label)})", **line_style(labels.index(label)))
            for label in labels
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2 if len(panels) == 1 else 4)
    return figure


def _runs(panels: Sequence[ProfilePanel], label: str) -> str:
    counts = [sum(map(len, s.tasks)) for panel in panels for s in panel.scores if s.label == label]
    low, high = min(counts), max(counts)
    return f"{high} run{'s' if high > 1 else ''}" if low == high else f"{low} to {high} runs"


def write_profiles(panels: Sequence[ProfilePanel], stem: Path, metric: str) -> Path:
    """Write STEM.csv, one row per algorithm and threshold."""
    path = stem.with_name(f"{stem.name}.csv")
    rows = [
        (panel.title, label, *point)
        for panel in panels
        for label, found in profiles_of(panel).items()
        for point in zip(*(part.tolist() for part in found), strict=True)
    ]
    write_csv(path, ("panel", "algorithm", metric, "share", "low", "high"), rows)
    return path
