"""`sweep`: train every point of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from gpgrad.cli.arguments import FOLDER, OUTPUT, PATH, Choice
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

ELSEWHERE = "settings belong in the sweep's file"


@command(
    "sweep",
    "train worlds x algorithms x settings; go on where it stopped",
    needs="a file, as in: gpgrad sweep my_sweep.yaml",
    passes=("log.", "checkpoint.", "slurm."),
    elsewhere=ELSEWHERE,
)
@click.argument("path", metavar="FILE", type=PATH)
@click.option("--dry-run", is_flag=True, help="train nothing; print what is finished and what would run next")
@click.option(
    "--choose", "chosen", is_flag=True, help="train nothing; write each algorithm's best point to FILE.chosen.yaml"
)
@click.option("--log.dir", "root", default="runs", metavar="DIR", type=FOLDER, help="folder of runs")
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write the table as JSON")
@click.option("--jobs", type=Choice(["slurm", "local"]), help="submit jobs with submitit instead of training here")
@click.option("--seeds-mode", metavar="MODE", help="layout of the seeds of a run, see gpgrad train --help")
def main(
    path: Path,
    dry_run: bool,
    chosen: bool,
    root: Path,
    file: Path | None,
    jobs: Literal["slurm", "local"] | None,
    seeds_mode: str | None,
    settings: dict[str, str],
) -> int:
    """Train what is missing of a sweep, here or as jobs, then print a table.

    Options --log.NAME and --checkpoint.NAME are passed to the runs that are started, --slurm.NAME to the jobs. The exit
    code is 1 if something failed.
    """
    if dry_run and chosen:
        raise SettingError("--dry-run and --choose cannot be combined; must be one of them")
    if "log.name" in settings:
        raise SettingError(f"unknown option --log.name: it would name all runs of a sweep alike; {ELSEWHERE}")
    slurm = {name.removeprefix("slurm."): settings.pop(name) for name in list(settings) if name.startswith("slurm.")}
    if slurm and not jobs:
        raise SettingError("--slurm.NAME needs --jobs slurm")
    extra = [f"--{name}={value}" for name, value in settings.items()]
    extra += [f"--seeds-mode={seeds_mode}"] if seeds_mode is not None else []
    from gpgrad.jobs import scheduler, sweep
    from gpgrad.jobs import slurm as cluster
    from gpgrad.runs import run_folder

    loaded = sweep.load(path)
    points = sweep.points(loaded)
    if dry_run:
        return preview(points, root, extra)
    if chosen:
        return choose(path, points, root, loaded.metric)
    if jobs:
        failures = cluster.submit(points, root, extra, jobs, slurm, print)
    else:
        failures = scheduler.execute(points, root, extra, print)
    found = run_folder.scan(root)[0]
    show(points, sweep.results(points, found, loaded.metric), loaded.metric, file)
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def preview(points, root: Path, extra: Sequence[str]) -> int:
    """What there is of every point, and what would be run next."""
    from gpgrad.jobs import scheduler
    from gpgrad.runs import run_folder, wanted_seeds
    from gpgrad.runs.progress import seeds_text

    found, problems = run_folder.scan(root)
    for problem in problems:
        print(problem)
    for point in points:
        for line in wanted_seeds.overview(found, point.identity, point.seeds, point.settings_id):
            print(f"{point.label}, {seeds_text(line.seeds)}: {line.text}")
        job = wanted_seeds.next_job(found, point.identity, point.seeds)
        if job is not None and job.action != "wait":
            print(f"  {scheduler.shown(scheduler.command_of(job, point, root, extra))}")
    count = len(points[0].seeds)
    print(f"{len(points)} points with {count} seeds each: {len(points) * count} seeds to train in all")
    return 0


def choose(file: Path, points, root: Path, metric: str) -> int:
    """Write the best point of each algorithm, of those whose seeds are all finished; 1 where there is none."""
    import yaml

    from gpgrad.jobs import sweep
    from gpgrad.runs import run_folder

    rows = sweep.choices(points, sweep.results(points, run_folder.scan(root)[0], metric), metric)
    target = file.with_suffix(".chosen.yaml")
    target.write_text(yaml.safe_dump(rows, sort_keys=False))
    for row in rows:
        done = sum(tried[metric] is not None for tried in row["tries"])
        outcome = "nothing is chosen" if row["chosen"] is None else f"chosen: {row['chosen']}"
        print(f"{row['algorithm']} on {row['world']}, {done} of {len(row['tries'])} points finished: {outcome}")
    print(f"written to {target}")
    return 0 if all(row["chosen"] is not None for row in rows) else 1


def show(points, results, metric: str, file: Path | None) -> None:
    """A table, a row per point, and the same as JSON."""
    from rich.console import Console
    from rich.table import Column, Table

    names = list(dict.fromkeys(name for point in points for name in point.varied))
    wrapped = [Column(name, overflow="fold") for name in ("world", "algorithm", *names)]  # cut they would look alike
    table = Table(*wrapped, "seeds", f"{metric} ± 95%")
    rows = []
    for point in points:
        mean = results[point.identity]
        values = [str(point.varied.get(name, "-")) for name in names]
        ends = list(mean.interval) if mean and mean.n > 1 else None
        half = f" ± {(ends[1] - ends[0]) / 2:.2g}" if ends else " (1 seed)"
        shown = f"{mean.mean:.4g}{half}" if mean else "-"
        count = mean.n if mean else 0
        table.add_row(point.env, point.algo, *values, f"{count} of {len(point.seeds)}", shown)
        row = {"world": point.env, "algorithm": point.algo, "settings": dict(point.options), "seeds": count}
        rows.append({**row, metric: mean.mean if mean else None, "interval": ends})
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if file:
        file.write_text(json.dumps(rows, indent=2))
