"""The x axes of learning curves: environment steps, gradient updates, or hours of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpgrad.experiments.reporting.report import Result
from gpgrad.experiments.schema import Axis
from gpgrad.runs import logs
from gpgrad.runs.logs import Row
from gpgrad.runs.stats import Curve
from gpgrad.runs.wanted_seeds import Share

LABELS: dict[Axis, str] = {"steps": "environment steps", "updates": "updates", "hours": "hours"}
COLUMNS: dict[Axis, str] = {"steps": "env_steps", "updates": "updates", "hours": "hours"}
REMARKS: dict[Axis, str] = {
    "steps": "",
    "updates": "",
    "hours": " Hours: wall-clock time of the run with all of its seeds; other load on the machine is included.",
}


def against(result: Result, axis: Axis) -> dict[int, Curve]:
    """The curves of an arm by seed, with steps replaced by another axis."""
    if axis == "steps":
        return result.curves
    return {
        seed: Curve(_places(share, seed, axis, result.curves[seed].steps), result.curves[seed].returns)
        for share in result.shares
        for seed in share.seeds
    }


def _places(share: Share, seed: int, axis: Axis, steps: np.ndarray) -> np.ndarray:
    rows = [row for row in share.metrics if row["seed"] == seed]
    if axis == "updates":
        places = [row["updates"] for row in rows]
    else:
        timing = [row for row in share.run.timing if row.get("seed", seed) == seed]
        known = [row["iterations"] for row in timing]
        places = np.interp([row["iterations"] for row in rows], known, hours(timing))
    return np.interp(steps, [row["env_steps"] for row in rows], places)


def hours(rows: Sequence[Row]) -> list[float]:
    """Hours of training until each row of timing.jsonl."""
    return [logs.seconds(rows[: i + 1]) / 3600 for i in range(len(rows))]
