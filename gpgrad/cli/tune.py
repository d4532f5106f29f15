"""`tune`: search settings with Optuna."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gpgrad.cli.arguments import FOLDER, PATH
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

ELSEWHERE = "settings belong in the tuning's file"


@command(
    "tune",
    "search settings with Optuna, on seeds of their own; go on where it stopped",
    needs="a file, as in: gpgrad tune my_tuning.yaml",
    passes=("log.", "checkpoint."),
    elsewhere=ELSEWHERE,
)
@click.argument("path", metavar="FILE", type=PATH)
@click.option("--report", "only_report", is_flag=True, help="train nothing; report the trials that are done")
@click.option("--log.dir", "root", default="runs", metavar="DIR", type=FOLDER, help="folder of runs and of the study")
def main(path: Path, only_report: bool, root: Path, settings: dict[str, str]) -> int:
    """Do the trials of a file that are left, then write FILE.tuned.yaml and print a table.

    The study is DIR/NAME.tuning.db, a SQLite file that Optuna's own tools can open. Options --log.NAME and
    --checkpoint.NAME are passed to the runs. The exit code is 1 if nothing could be chosen for some algorithm.
    """
    import yaml

    from gpgrad.jobs import scheduler, search_space, tune

    if "log.name" in settings:
        raise SettingError(f"unknown option --log.name: it would name all runs of a tuning alike; {ELSEWHERE}")
    tuning = search_space.load(path)
    database = root / f"{path.stem}.tuning.db"
    tune.require()
    if not only_report:
        extra = [f"--{name}={value}" for name, value in settings.items()]
        with scheduler.Child() as child:
            tune.execute(tuning, database, tune.Runs(root, extra, tuning.metric, child), print)
    elif not database.is_file():
        raise SettingError(f"{database} is not there; run gpgrad tune {path} without --report first")
    rows = tune.report(tuning, tune.studies(tuning, database))
    target = path.with_suffix(".tuned.yaml")
    target.write_text(yaml.safe_dump(rows, sort_keys=False))
    show(rows, tuning.metric)
    for row in rows:
        if row["chosen"] is not None:
            print(f"to report it on other seeds: {tune.command(tuning, row)}")
    print(f"written to {target}")
    return 0 if all(row["chosen"] is not None for row in rows) else 1


def show(rows, metric: str) -> None:
    """A table, a row per environment and algorithm."""
    from rich.console import Console
    from rich.table import Table

    table = Table("world", "algorithm", "trials", "pruned", "failed", f"{metric} of the best", "its settings")
    for row in rows:
        counts, best = row["trials"], row[metric]
        chosen = "\n".join(f"{name}: {value}" for name, value in (row["chosen"] or {}).items())
        shown = "-" if best is None else f"{best:.4g}"
        total = str(sum(counts.values()))
        table.add_row(row["world"], row["algorithm"], total, str(counts["pruned"]), str(counts["fail"]), shown, chosen)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
