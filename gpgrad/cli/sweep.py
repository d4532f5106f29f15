"""`sweep`: train every point of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gpgrad.cli.arguments import file_to_write, options, path_of
from gpgrad.errors import SettingError, suggest

USAGE = """\
  sweep FILE [--dry-run | --choose] [--log.dir DIR] [--json FILE] [--jobs slurm|local [--slurm.NAME VALUE ...]]
                                                      train worlds x algorithms x settings; go on where it stopped"""
OPTIONS = {
    "dry-run": "print what is finished and what would run next, and train nothing",
    "choose": "train nothing; write the best point of each algorithm to FILE.chosen.yaml",
    "log.dir DIR": "folder of runs, by default runs",
    "json FILE": "write the table as JSON",
    "jobs slurm|local": "submit jobs with submitit instead of training here",
    "slurm.NAME VALUE": "a parameter of the Slurm jobs, such as slurm.partition",
    "seeds-mode MODE": "how seeds of a run are laid out, see gpgrad train --help",
    "log.* and checkpoint.* VALUE": "passed to the runs that are started",
}

KNOWN = ("log.dir", "json", "jobs", "seeds_mode", "log.*", "checkpoint.*", "slurm.*")
CLUSTERS = ("slurm", "local")
FLAGS = ("--dry-run", "--choose")


def main(arguments: Sequence[str]) -> int:
    """Train what is missing of a sweep, here or as jobs, then a table; 1 if something failed.

    `--choose` trains nothing and writes what came out best for each algorithm beside the file.
    """
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("sweep needs a file, as in: gpgrad sweep my_sweep.yaml")
    flags = [word for word in arguments if word in FLAGS]
    if len(flags) > 1:
        raise SettingError(f"{' and '.join(flags)} cannot be combined; must be one of {', '.join(FLAGS)}")
    given = options([word for word in arguments[1:] if word not in FLAGS])
    _check(given)
    root, jobs = path_of(given.pop("log.dir", "runs")), given.pop("jobs", None)
    file = file_to_write(given.pop("json")) if "json" in given else None
    slurm = {name.removeprefix("slurm."): given.pop(name) for name in list(given) if name.startswith("slurm.")}
    extra = [f"--{name.replace('_', '-') if name == 'seeds_mode' else name}={value}" for name, value in given.items()]
    from gpgrad.jobs import scheduler, sweep
    from gpgrad.jobs import slurm as cluster
    from gpgrad.runs import run_folder

    loaded = sweep.load(path_of(arguments[0]))
    points = sweep.points(loaded)
    if "--dry-run" in flags:
        return preview(points, root, extra)
    if "--choose" in flags:
        return choose(path_of(arguments[0]), points, root, loaded.metric)
    if jobs:
        failures = cluster.submit(points, root, extra, jobs, slurm, _say)  # type: ignore[arg-type]
    else:
        failures = scheduler.execute(points, root, extra, _say)
    found = run_folder.scan(root)[0]
    show(points, sweep.results(points, found, loaded.metric), loaded.metric, file)
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def _check(given: dict[str, str]) -> None:
    for name in given:
        if name == "log.name" or not any(name == k or (k[-1] == "*" and name.startswith(k[:-1])) for k in KNOWN):
            raise SettingError(f"unknown option --{name}{suggest(name, KNOWN)}; settings belong in the sweep's file")
    if given.get("jobs", "slurm") not in CLUSTERS:
        raise SettingError(f"--jobs is {given['jobs']!r}{suggest(given['jobs'], CLUSTERS)}")
    if "jobs" not in given and any(name.startswith("slurm.") for name in given):
        raise SettingError("--slurm.NAME needs --jobs slurm")


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


def _say(line: str) -> None:
    print(line, flush=True)
