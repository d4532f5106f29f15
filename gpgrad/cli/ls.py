"""`ls`: the runs in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gpgrad.cli.arguments import FOLDER
from gpgrad.cli.command import command
from gpgrad.errors import SettingError, suggest


@command("ls", "the runs in a folder: what they are, how far, how good")
@click.argument("root", default="runs", metavar="[DIR]", type=FOLDER)
@click.option("--metric", default="test_return", metavar="NAME", help="a number of the test rows")
def main(root: Path, metric: str) -> int:
    """Print a table of all runs in a folder, by default `runs`."""
    if not root.is_dir():
        raise SettingError(f"there is no folder {root}; must be a folder of runs")
    from rich.console import Console
    from rich.table import Column, Table

    from gpgrad.runs import run_folder

    found, problems = run_folder.scan(root, parsed=False)
    for problem in problems:
        print(problem)
    if not found:
        raise SettingError(f"{root} holds no runs, which are folders with config.yaml")
    require_metric(found, metric)
    # Names are wrapped, not cut: what tells runs apart is at their ends.
    names = [Column(name, overflow="fold", min_width=n) for name, n in (("run", 20), ("world", 8), ("method", 8))]
    table = Table(*names, "seeds", "state", "steps", f"{metric} ± 95%", "minutes", title=f"runs in {root}")
    for run in found:
        n, t_max = run.settings["seeds"], run.settings["t_max"]
        cells = (run.folder.name, run.settings["env"], run.method, str(n), run.status, f"{run.steps:,} of {t_max:,}")
        table.add_row(*cells, spread(run.values(metric)), f"{run.seconds / 60:.0f}")
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


def require_metric(runs: Sequence[Any], metric: str) -> None:
    """Raise SettingError where rows of runs have numbers, but none of this name."""
    rows = (row for run in runs for row in (*run.metrics, *run.final))
    names = {name for row in rows for name, value in row.items() if isinstance(value, (int, float))}
    if names and metric not in names:
        raise SettingError(f"no test has the metric {metric!r}{suggest(metric, sorted(names))}")


def spread(values: dict[int, float]) -> str:
    """The mean over seeds and half of its 95 percent interval, which a single seed does not have."""
    from gpgrad.runs import stats

    return stats.shown(list(values.values())) if values else "-"
