"""The runs that there are, whoever began them, and what is still to do for some seeds of a configuration.

What counts is in the run's folder alone: its settings, its rows, its checkpoints, its lock.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from gpgrad import config
from gpgrad.config import numerics
from gpgrad.config.numerics import Versions
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.runs import divergence, lock, logs, provenance
from gpgrad.runs.logs import Row


class Run(NamedTuple):
    """One folder.

    identity: what names its numbers, with the numerics versions of its day. settings_id: the same for any versions.
    versions: by part, those that it was trained with. holder: the process that trains it now, None if nobody does.
    finished: nothing of it is left to train. diverged: seeds that have no result.
    """

    folder: Path
    config: Config
    identity: str
    settings_id: str
    versions: Versions
    seeds: range
    finished: bool
    holder: int | None
    diverged: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """Environment steps at its last test."""
        rows = logs.read_rows(self.folder / "metrics.jsonl")
        return rows[-1]["env_steps"] if rows else 0

    @property
    def checkpoint(self) -> str:
        """The name of its newest checkpoint, which grows with iterations; empty if there is none."""
        return max((path.name for path in (self.folder / "checkpoints").glob("*-*[0-9]")), default="")


class Job(NamedTuple):
    """The next thing to do. run: to resume, or to wait for; None for a new run of these seeds."""

    action: Literal["resume", "start", "wait"]
    seeds: range
    run: Run | None


class Line(NamedTuple):
    """Some seeds of which there is the same to say."""

    seeds: list[int]
    text: str


class Share(NamedTuple):
    """What a finished run says about some of its seeds: their rows of metrics.jsonl and final.jsonl."""

    run: Run
    seeds: list[int]
    metrics: list[Row]
    final: list[Row]


def scan(root: Path) -> tuple[list[Run], list[str]]:
    """All runs in a folder, in order of names, and a sentence for each whose files cannot be read."""
    found, problems = [], []
    for path in sorted(root.glob("*/config.yaml")):
        try:
            found.append(_run(path))
        except SettingError as error:
            problems.append(f"passing over {path.parent}: {error}")
    return found, problems


def _run(path: Path) -> Run:
    folder = path.parent
    settings, identity, settings_id, used = _settings(path, path.stat().st_mtime_ns)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    # Asked before the rows are counted, so that a run that ends now is not taken for an interrupted one.
    holder = lock.holder(folder / lock.NAME)
    diverged, final = divergence.seeds(folder), logs.read_rows(folder / "final.jsonl")
    finished = divergence.is_over(config.flat(settings), final, diverged)
    return Run(folder, settings, identity, settings_id, used, seeds, finished, holder, tuple(diverged))


@functools.cache
def _settings(path: Path, changed: int) -> tuple[Config, str, str, Versions]:
    """Settings, identity, settings_id and versions, read once as long as the file stays as it is."""
    del changed
    settings, manifest = config.parse(path), logs.read_manifest(path.parent)
    used = provenance.versions_of(manifest, settings)
    identity, settings_id = (provenance.identity_of(manifest, settings, each) for each in (used, {}))
    return settings, identity, settings_id, used


def next_job(runs: Iterable[Run], identity: str, wanted: Sequence[int]) -> Job | None:
    """What to do next for seeds of a configuration; None if all are finished.

    A seed that has diverged is not tried again: it would again. An interrupted run of any of the seeds is continued
    first, the one that has most of them and then the furthest; then the first stretch of seeds that nobody has begun is
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


def overview(runs: Sequence[Run], identity: str, wanted: Sequence[int], settings_id: str = "") -> list[Line]:
    """What there is of each wanted seed, those together of which it is the same, in order of seeds.

    settings_id: `config.identity` without versions, by which finished runs of other versions are found.
    """
    lines: dict[str, list[int]] = {}
    for seed in wanted:
        lines.setdefault(_state(runs, identity, seed, settings_id), []).append(seed)
    return [Line(seeds, text) for text, seeds in lines.items()]


def outdated(runs: Iterable[Run], identity: str, settings_id: str, seed: int) -> str:
    """A finished run of these settings and seed with other numerics versions, for people; empty if there is none."""
    for run in runs:
        trained = run.finished and seed in run.seeds and seed not in run.diverged
        if run.settings_id == settings_id and run.identity != identity and trained:
            return f"{run.folder} is outdated ({numerics.changes(run.versions, numerics.versions(run.config))})"
    return ""


def _state(runs: Sequence[Run], identity: str, seed: int, settings_id: str) -> str:
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


def finished(runs: Iterable[Run], identity: str, wanted: Sequence[int]) -> list[Share]:
    """Each wanted seed that is finished and has not diverged, from the first run, by name, that has it."""
    left, result = set(wanted), []
    for run in runs:
        seeds = sorted(left.intersection(run.seeds).difference(run.diverged))
        if run.identity != identity or not run.finished or not seeds:
            continue
        left -= set(seeds)
        rows = [
            [row for row in logs.read_rows(run.folder / name) if row["seed"] in seeds]
            for name in ("metrics.jsonl", "final.jsonl")
        ]
        result.append(Share(run, seeds, *rows))
    return result


def minutes(run: Run) -> float:
    """How long it trained, all seeds together."""
    return logs.seconds(logs.read_rows(run.folder / "timing.jsonl")) / 60
