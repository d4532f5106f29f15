"""`bench`: times of updates and their parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from gpgrad.cli.arguments import ENV, OUTPUT, Number
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

INTRODUCTION = """\
gpgrad bench --env NAME --algos NAME,NAME compiles each algorithm (up to a minute each on a CPU), then times its updates
and their parts in 30 rounds, in alternation. On pp_small a round takes seconds on a CPU.

A measurement of about a minute:
  gpgrad bench --env matrix_gpvd --algos qmix,vdn --rounds 3"""


@command("bench", "times of updates and their parts, ratios to the first", passes=("",), alone=lambda: INTRODUCTION)
@click.option("--env", default="pp_small", **ENV, help="the environment")
@click.option("--algos", default="qmix", metavar="NAME,NAME", help="algorithms to measure; ratios are to the first")
@click.option("--vary", default="", metavar="SETTING=VALUE,VALUE", help="a setting, each value of which is measured")
@click.option("--rounds", type=Number(int, 3), default=30, metavar="N", help="rounds of measurements, at least 3")
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write the rows as JSON")
def main(env: str, algos: str, vary: str, rounds: int, file: Path | None, settings: dict[str, str]) -> int:
    """Time updates of algorithms and their parts in alternation, and print ratios to the first.

    Further options are the settings of gpgrad train. Without arguments, print what a measurement would do.
    """
    from gpgrad import config

    varied, _, values = vary.partition("=")
    if varied and not values:
        raise SettingError(f"--vary must be a setting with values, such as seeds=1,8 (got {varied!r})")
    names = algos.split(",")
    loaded = {algo: config.load(env, algo, settings) for algo in names}
    if varied:
        loaded = {
            f"{algo} {varied}={value}": config.load(env, algo, {**settings, varied: value})
            for algo in names
            for value in values.split(",")
        }
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import bench

    setups = [bench.setup(algo, chosen) for algo, chosen in loaded.items()]
    rows = bench.report(setups, bench.measure(setups, rounds))
    table = Table("", *loaded, title=f"{env}, medians of {rounds} rounds")
    for name in list(rows[0])[1:]:
        table.add_row(name, *(f"{row[name]:.4g}" for row in rows))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if file:
        file.write_text(json.dumps(rows, indent=2))
    return 0
