"""`watch`: a run as it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpgrad.cli.arguments import FOLDER, Number
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from gpgrad.runs.run_folder import RunFolder


@command(
    "watch",
    "follow a run, with a small chart, until it ends",
    needs="the folder of a run, as in: gpgrad watch runs/NAME",
)
@click.argument("folder", metavar="RUN", type=FOLDER)
@click.option("--metric", default="test_return", metavar="NAME", help="a number of the test rows")
@click.option("--every", type=Number(float), default=1.0, metavar="SECONDS", help="seconds between two readings")
def main(folder: Path, metric: str, every: float) -> int:
    """Show the progress of a run until it ends, once if it has ended; lines of tests where there is no terminal."""
    from rich.console import Console
    from rich.live import Live

    from gpgrad.cli.ls import require_metric
    from gpgrad.runs import run_folder

    if every <= 0:
        raise SettingError(f"--every must be more than 0 seconds (got {every:g})")
    console, told = Console(), 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            run = run_folder.read(folder)
            require_metric([run], metric)
            if console.is_terminal:
                live.update("\n".join(picture(run, metric, console.width)), refresh=True)
            else:
                told = tell(run, metric, told)
            if run.state != "running":
                break
            time.sleep(every)
    if not console.is_terminal:
        print("\n".join(picture(run, metric, console.width)))
    return 0


def tests(run: RunFolder, metric: str) -> list[tuple[int, float]]:
    """Mean steps and mean metric over the seeds of each test that all seeds which still run have made."""
    own: dict[int, list[tuple[int, float]]] = {}
    for row in run.metrics:
        if isinstance(row.get(metric), (int, float)):
            own.setdefault(row["seed"], []).append((row["env_steps"], row[metric]))
    if len(own) < run.settings["seeds"]:
        return []
    complete = min(len(points) for points in own.values())
    columns = [[points[i] for points in own.values()] for i in range(complete)]
    return [(sum(s for s, _ in column) // len(column), sum(v for _, v in column) / len(column)) for column in columns]


def tell(run: RunFolder, metric: str, told: int) -> int:
    """Print the tests that are new; how many have been told."""
    points = tests(run, metric)
    for steps, value in points[told:]:
        print(f"{steps:>12,} steps  {metric} {value:.4g}", flush=True)
    return len(points)


def picture(run: RunFolder, metric: str, width: int) -> list[str]:
    """Where a run stands, in lines."""
    from gpgrad.cli.ls import spread
    from gpgrad.runs import chart

    t_max, points = run.settings["t_max"], tests(run, metric)
    who = f"{run.settings['env']} {run.method}, {run.settings['seeds']} seeds"
    lines = [f"{run.folder}: {who}"]
    if len(points) > 1:
        room = max(10, min(width - 12, 100))
        steps, values = zip(*points, strict=True)
        lines += [f"{metric} over {t_max:,} steps", chart.chart(steps, values, room, right=t_max)]
    elif not points:
        lines.append(f"no test has {metric} yet")
    rate, left = run.steps / run.seconds if run.seconds else 0.0, ""
    if rate and run.state == "running":
        left = f", about {max(0, t_max - run.steps) / rate / 60:.0f} minutes left"
    lines.append(f"{run.status}: {run.steps:,} of {t_max:,} steps, {rate:,.0f} steps/s a seed{left}")
    lines.append(f"{metric} ± 95%: {spread(run.values(metric))}" + (" (final test)" if run.final else ""))
    return lines
