"""GPVD, Figure 6: the protected joint action of a bucket and those that interfere with it, on the board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpgrad.plots.board import GAIN, LOSS, Scene, draw_board
from gpgrad.plots.style import PAGE, STYLE, require, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIONS = ("right", "down", "left", "up", "stay", "catch")
OTHER = "#999999"
KEY = {GAIN: "protected", LOSS: "shared with it", OTHER: "not shared"}


class Member(NamedTuple):
    """A transition: its scene with the joint action, TD error, target, and step in its episode."""

    scene: Scene
    td_error: float
    target: float
    step: int


class Bucket(NamedTuple):
    """A protected transition, those that interfere with it, and the number of visits of the bucket."""

    protected: Member
    interfering: Sequence[Member]
    visits: int


def draw_buckets(buckets: Sequence[Bucket]) -> Figure:
    """One row per bucket, with the protected joint action first.

    Arrows are moves, rings catches, lines below a predator staying. Green: the protected joint action; vermilion:
    actions that an interfering joint action shares with it, whose utilities it pulls down; grey: its other actions.
    Raises SettingError without matplotlib.
    """
    matplotlib = require()
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = 1 + max(len(bucket.interfering) for bucket in buckets)
    first = buckets[0].protected.scene
    side = PAGE / max(columns, 3)
    cell = 72 * 0.94 * side / first.width
    height = 0.94 * side * first.height / first.width + 0.36
    with matplotlib.rc_context({**STYLE, "axes.titlesize": 7}):
        figure = Figure((side * columns, height * len(buckets) + 0.2), layout="constrained")
        axes = figure.subplots(len(buckets), columns, squeeze=False)
        for row, bucket in zip(axes, buckets, strict=True):
            shown = [bucket.protected, *bucket.interfering]
            for place, member in zip(row, shown, strict=False):
                draw_board(place, member.scene._replace(strokes=_strokes(bucket, member)), cell)
                place.set_title(_heading(bucket, member), loc="left")
            for place in row[len(shown) :]:
                place.remove()
        key = [Line2D([], [], color=colour, linewidth=2, label=text) for colour, text in KEY.items()]
        figure.legend(handles=key, loc="outside lower center", ncols=3)
    return figure


def _strokes(bucket: Bucket, member: Member) -> list[str]:
    if member is bucket.protected:
        return [GAIN] * len(member.scene.predators)
    return [LOSS if same else OTHER for same in _shared(bucket, member)]


def _shared(bucket: Bucket, member: Member) -> np.ndarray:
    return np.equal(bucket.protected.scene.actions, member.scene.actions)  # type: ignore[arg-type]


def _heading(bucket: Bucket, member: Member) -> str:
    if member is bucket.protected:
        return f"protected, TD error {member.td_error:+.2g}\nvisited {bucket.visits} times; step {member.step}"
    shared, of = int(_shared(bucket, member).sum()), len(member.scene.predators)
    return f"interferes, TD error {member.td_error:+.2g}\n{shared} of {of} actions shared; step {member.step}"


def write_buckets(buckets: Sequence[Bucket], stem: Path) -> Path:
    """Write STEM.csv, one row per transition."""
    path = stem.with_name(f"{stem.name}.csv")
    rows = [
        (
            number,
            "protected" if member is bucket.protected else "interfering",
            " ".join(ACTIONS[action] for action in np.asarray(member.scene.actions)),
            int(_shared(bucket, member).sum()),
            member.td_error,
            member.target,
            member.step,
            bucket.visits,
        )
        for number, bucket in enumerate(buckets, 1)
        for member in (bucket.protected, *bucket.interfering)
    ]
    write_csv(path, ("bucket", "kind", "actions", "shared", "td_error", "target", "step", "visits"), rows)
    return path
