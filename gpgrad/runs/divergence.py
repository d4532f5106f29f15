"""Seeds whose updates are no longer finite: how they are counted, kept on disk and reported. Imports no jax.

A loss or gradient that is not finite makes every parameter NaN. Agents with NaN parameters always take their first
action, so their returns mean nothing. Such a seed has diverged; `diverged.jsonl` in the run's folder has a row for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpgrad.runs import logs
from gpgrad.runs.logs import Row
from gpgrad.runs.progress import seeds_text

NAME = "diverged"  # of the file, with .jsonl
ADVICE = "try a lower learner.lr or learner.clip, or a learner.reward_scale that brings returns to the order of one"


class Diverged(ArithmeticError):
    """Seeds of a run have diverged. All that the run wrote is kept; the others, if any, are trained to their end."""


def seeds(folder: Path) -> list[int]:
    """The seeds of a run's folder that have diverged, in order."""
    return sorted(row["seed"] for row in logs.read_rows(folder / f"{NAME}.jsonl"))


def is_over(settings: Mapping[str, Any], final: Sequence[Row], diverged: Collection[int]) -> bool:
    """Whether nothing of a run is left to train: each seed has its final row, or has diverged and was stopped.

    settings: by dotted names, of which those from before `learner.stop_on_nan` lack it.
    """
    stopped = set(diverged) if settings.get("learner.stop_on_nan", True) else set()
    return len({row["seed"] for row in final} | stopped) == settings["seeds"]


def describe(row: Row) -> str:
    """A seed and when it diverged, in words, from its row."""
    return f"seed {row['seed']} after {row['updates']:,} updates, at {row['env_steps']:,} environment steps"


def sentence(rows: Sequence[Row], folder: Path) -> str:
    """A sentence on a run's diverged seeds: which, when, what to try, and where the run is kept."""
    who = "; ".join(map(describe, rows))
    return f"updates are no longer finite: {who}; {ADVICE}; the run is kept in {folder}"


def short(diverged: Collection[int]) -> str:
    """The diverged seeds in a few words, for lists of runs."""
    return f"diverged ({seeds_text(sorted(diverged))})"
