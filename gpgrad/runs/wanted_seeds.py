"""Wanted seeds of a configuration: which are finished, in which run, and what to do next for the others.

What counts is in the runs' folders alone: their settings, rows, checkpoints and locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from gpgrad.config import numerics
from gpgrad.runs.logs import Row
from gpgrad.runs.run_folder import RunFolder


class Job(NamedTuple):
    """What to do next. run: the run to resume or to wait for; None to start a new run of these seeds."""

    action: Literal["resume", "start", "wait"]
    seeds: range
    run: RunFolder | None


class Status(NamedTuple):
    """The state of some seeds, in words."""

    seeds: list[int]
    text: str


class Share(NamedTuple):
    """Some seeds of a finished run, with their rows of metrics.jsonl and final.jsonl."""

    run: RunFolder
    seeds: list[int]
    metrics: list[Row]
    final: list[Row]


def next_job(runs: Iterable[RunFolder], identity: str, wanted: Sequence[int]) -> Job | None:
    """What to do next for seeds of a configuration; None if all are finished.

    A diverged seed is not trained again, since it would diverge again. First an interrupted run of any of the seeds is
    continued, the one that has most of them and of those the furthest; then the first stretch of seeds without a run is
    started. Seeds that another process trains are waited for.
    """
    own = [run for run in runs if run.identity == identity]
    left = set(wanted).difference(*(run.seeds for run in own if run.finished))
    if not left:
        return None
    held = [run for run in own if run.holder is not None and not run.finished and left.intersection(run.seeds)]
    free = left.difference(*(run.seeds for run in held))
    if not free:
        return Job("wait", held[0].seeds, held[0])
    interrupted = [run for run in own if run.holder is None and not run.finished and free.intersection(run.seeds)]
    if interrupted:
        best = max(interrupted, key=lambda run: (len(free.intersection(run.seeds)), run.checkpoint))
        return Job("resume", best.seeds, best)
    first = min(free)
    end = next(seed for seed in range(first, max(free) + 2) if seed not in free)
    return Job("start", range(first, end), None)


def overview(runs: Sequence[RunFolder], identity: str, wanted: Sequence[int], settings_id: str = "") -> list[Status]:
    """The state of each wanted seed; seeds with the same state are put together.

    settings_id: `config.identity` without versions, by which finished runs of other versions are found.
    """
    lines: dict[str, list[int]] = {}
    for seed in wanted:
        lines.setdefault(_state(runs, identity, seed, settings_id), []).append(seed)
    return [Status(seeds, text) for text, seeds in lines.items()]


def outdated(runs: Iterable[RunFolder], identity: str, settings_id: str, seed: int) -> str:
    """A finished run of these settings and seed with other numerics versions, for people; empty if there is none."""
    for run in runs:
        trained = run.finished and seed in run.seeds and seed not in run.diverged
        if run.settings_id == settings_id and run.identity != identity and trained:
            return f"{run.folder} is outdated ({numerics.changes(run.versions, numerics.versions(run.config))})"
    return ""


def _state(runs: Sequence[RunFolder], identity: str, seed: int, settings_id: str) -> str:
    job = next_job(runs, identity, [seed])
    if job is None:
        done = [run for run in runs if run.identity == identity and run.finished and seed in run.seeds]
        whole = next((run for run in done if seed not in run.diverged), None)
        return f"finished in {whole.folder}" if whole else f"diverged in {done[0].folder}"
    if job.run is None:
        old = outdated(runs, identity, settings_id, seed)
        return f"not begun; {old}" if old else "not begun"
    where = f"{job.run.steps:,} of {job.run.config.t_max:,} steps in {job.run.folder}"
    return f"interrupted after {where}" if job.action == "resume" else f"running, process {job.run.holder}, {where}"


def finished(runs: Iterable[RunFolder], identity: str, wanted: Sequence[int]) -> list[Share]:
    """Each wanted seed that is finished and has not diverged, from the first run, by name, that has it."""
    left, result = set(wanted), []
    for run in runs:
        seeds = sorted(left.intersection(run.seeds).difference(run.diverged))
        if run.identity != identity or not run.finished or not seeds:
            continue
        left -= set(seeds)
        rows = ([row for row in own if row["seed"] in seeds] for own in (run.metrics, run.final))
        result.append(Share(run, seeds, *rows))
    return result
