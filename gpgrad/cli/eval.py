"""`eval`: test the team of a finished run on fresh episodes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gpgrad.cli.arguments import file_to_write, finished_run_of, options
from gpgrad.errors import SettingError, suggest

USAGE = """\
  eval RUN [--episodes N] [--stream N] [--json FILE] [--env.SETTING VALUE ...]
                                                      test the team of a finished run on fresh episodes"""
OPTIONS = {
    "episodes N": "episodes of each seed, by default 200",
    "stream N": "which independent test episodes, by default 1; 0 is the final test of training",
    "json FILE": "write a row of numbers per seed",
    "env.SETTING VALUE": "a setting of the environment that differs from the one in training",
}


def main(arguments: Sequence[str]) -> int:
    """Test a finished run's team on new episodes, in its environment or a changed one; print a table.

    Seeds that have diverged have no team to test.
    """
    import dataclasses

    if not arguments or arguments[0].startswith("--"):
        raise SettingError("eval needs the folder of a finished run, as in: gpgrad eval runs/NAME")
    folder = finished_run_of(arguments[0])
    given = options(arguments[1:])
    file = file_to_write(given.pop("json")) if "json" in given else None
    changes = {name: given.pop(name) for name in list(given) if name.startswith("env.")}
    from gpgrad import config
    from gpgrad.config import validate
    from gpgrad.learning.program import make_program
    from gpgrad.runs import divergence
    from gpgrad.training import warm_start
    from gpgrad.training.loop import test_rows

    numbers = {"episodes": "200", "stream": "1"} | given
    for name in given:
        if name not in ("episodes", "stream"):
            raise SettingError(f"unknown option --{name}{suggest(name, ['episodes', 'stream', 'json', 'env.SETTING'])}")
    episodes, stream = (validate.coerce(numbers[name], int, f"--{name}") for name in ("episodes", "stream"))
    if episodes < 1:
        raise SettingError(f"--episodes must be at least 1 (got {episodes})")
    if not 0 <= stream <= validate.LARGEST:
        raise SettingError(f"--stream must be between 0 and {validate.LARGEST} (got {stream})")
    chosen = config.override(warm_start.finished(folder), changes)
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
