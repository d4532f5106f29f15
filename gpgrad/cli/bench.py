"""`bench`: times of updates and their parts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from gpgrad.cli.arguments import file_to_write, options
from gpgrad.errors import SettingError

USAGE = """\
  bench --env NAME --algos NAME,NAME [--vary SETTING=VALUE,VALUE] [--rounds N] [--json FILE]
        [--GROUP.SETTING VALUE ...]                   times of updates and their parts, ratios to the first"""
OPTIONS = {
    "env NAME": "the environment, by default pp_small",
    "algos NAME,NAME": "algorithms to measure in alternation; ratios are to the first",
    "vary SETTING=VALUE,VALUE": "measure each algorithm with each value of a setting",
    "rounds N": "rounds of measurements, by default 30, at least 3",
    "json FILE": "write the rows as JSON",
    "GROUP.SETTING VALUE": "any setting of gpgrad train",
}

INTRODUCTION = """\
gpgrad bench --env NAME --algos NAME,NAME compiles each algorithm (up to a minute each on a CPU), then times its updates
and their parts in 30 rounds, in alternation. On pp_small a round takes seconds on a CPU.

A measurement of about a minute:
  gpgrad bench --env matrix_gpvd --algos qmix,vdn --rounds 3"""


def main(arguments: Sequence[str]) -> int:
    """Measure algorithms in alternation; a table, and the rows as JSON. Without arguments, print what it would do."""
    if not arguments:
        print(INTRODUCTION)
        return 0
    given = options(arguments)
    env, algos = given.pop("env", "pp_small"), given.pop("algos", "qmix").split(",")
    file = file_to_write(given.pop("json")) if "json" in given else None
    from gpgrad import config
    from gpgrad.config import validate

    rounds = validate.coerce(given.pop("rounds", "30"), int, "--rounds")
    if rounds < 3:
        raise SettingError(f"--rounds must be at least 3 (got {rounds})")
    varied, _, values = given.pop("vary", "").partition("=")
    if varied and not values:
        raise SettingError(f"--vary must be a setting with values, such as seeds=1,8 (got {varied!r})")
    loaded = {algo: config.load(env, algo, given) for algo in algos}
    if varied:
        loaded = {
            f"{algo} {varied}={value}": config.load(env, algo, {**given, varied: value})
            for algo in algos
            for value in values.split(",")
        }
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import bench

    setups = [bench.setup(algo, settings) for algo, settings in loaded.items()]
    rows = bench.report(setups, bench.measure(setups, rounds))
    table = Table("", *loaded, title=f"{env}, medians of {rounds} rounds")
    for name in list(rows[0])[1:]:
        table.add_row(name, *(f"{row[name]:.4g}" for row in rows))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if file:
        file.write_text(json.dumps(rows, indent=2))
    return 0
