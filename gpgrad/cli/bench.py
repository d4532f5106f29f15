"""`bench`: times of updates and their parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpgrad.cli.arguments import ENV, OUTPUT, Number
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from gpgrad.config.schema import Config

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
@click.option("--depth", is_flag=True, help="count the steps that wait for each other, instead of times")
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write the rows as JSON")
def main(env: str, algos: str, vary: str, rounds: int, depth: bool, file: Path | None, settings: dict[str, str]) -> int:
    """Time updates of algorithms and their parts in alternation, and print ratios to the first.

    With --depth, print instead how many iterations of loops and launches of kernels of each part wait for each other,
    as the program is lowered for a CPU and for an accelerator. Loops whose length depends on values are run once.

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

    if depth:
        return _depth(env, loaded, file)
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


def _depth(env: str, loaded: dict[str, Config], file: Path | None) -> int:
    """Print the depth of each part of training, a column per algorithm and platform."""
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import depth

    rows = {label: depth.table(chosen) for label, chosen in loaded.items()}
    found = {(row.part, label, row.platform): row.depth for label in rows for row in rows[label]}
    columns = [(label, platform) for label in rows for platform in depth.PLATFORMS]
    table = Table("", *(f"{label}, {platform}" for label, platform in columns), title=f"{env}: loop steps / launches")
    for part in dict.fromkeys(part for part, _, _ in found):
        cells = (found.get((part, *column)) for column in columns)
        table.add_row(part, *(f"{cell.steps:,} / {cell.launches:,}" if cell else "" for cell in cells))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if file:
        flat = [{"configuration": label, "part": row.part, "platform": row.platform, **row.depth._asdict()}
                for label in rows for row in rows[label]]  # fmt: skip
        file.write_text(json.dumps(flat, indent=2))
    return 0
