"""`eval`: test the team of a finished run on fresh episodes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gpgrad.cli.arguments import FINISHED, OUTPUT, Number
from gpgrad.cli.command import command

LARGEST = 2**31 - 1  # streams are counted in int32


@command(
    "eval",
    "test the team of a finished run on fresh episodes",
    needs="the folder of a finished run, as in: gpgrad eval runs/NAME",
    passes=("env.",),
)
@click.argument("folder", metavar="RUN", type=FINISHED)
@click.option("--episodes", type=Number(int, 1), default=200, metavar="N", help="episodes of each seed")
@click.option(
    "--stream",
    type=Number(int, 0, LARGEST),
    default=1,
    metavar="N",
    help="which independent test episodes; 0 is the final test of training",
)
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write a row of numbers per seed")
def main(folder: Path, episodes: int, stream: int, file: Path | None, settings: dict[str, str]) -> int:
    """Test a finished run's team on new episodes, in its environment or a changed one; print a table.

    Options --env.NAME are settings of the environment that differ from those in training. Seeds that have diverged
    have no team to test.
    """
    import dataclasses

    from gpgrad import config
    from gpgrad.learning.program import make_program
    from gpgrad.runs import divergence
    from gpgrad.training import warm_start
    from gpgrad.training.loop import test_rows

    chosen = config.override(warm_start.finished(folder), settings)
    tests = dataclasses.replace(chosen.evaluation, final_episodes=episodes)
    chosen = dataclasses.replace(chosen, evaluation=tests, devices=1)
    program = make_program(chosen)
    team = warm_start.load_into(folder, program, chosen.seeds)
    lost = divergence.seeds(folder)
    rows = [row for row in test_rows(chosen, program.final(team, stream)) if row["seed"] not in lost]
    show(rows, episodes, f"{folder} on {chosen.env.name}")
    if file:
        file.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def show(rows: Sequence[Mapping[str, Any]], episodes: int, title: str) -> None:
    """A table of the metrics that are numbers: a column per seed, the mean over seeds with its interval."""
    from rich.console import Console
    from rich.table import Column, Table

    from gpgrad.runs import stats

    numbers = [name for name, value in rows[0].items() if name != "seed" and isinstance(value, (int, float))]
    names = sorted(numbers, key=lambda name: (name != "test_return", not name.startswith("test_")))
    table = Table(Column("", overflow="fold"), "mean ± 95%", *(f"seed {row['seed']}" for row in rows), title=title)
    for name in names:
        values = [row[name] for row in rows]
        finite = [value for value in values if value is not None]
        mean = stats.shown(finite, alone="") if finite else "-"
        table.add_row(name, mean, *("-" if value is None else f"{value:.4g}" for value in values))
    table.add_section()
    table.add_row("episodes", str(episodes * len(rows)), *(str(episodes) for _ in rows))
    Console(width=None if sys.stdout.isatty() else max(80, 30 + 12 * len(rows))).print(table)
