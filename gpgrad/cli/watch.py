"""`watch`: a run as it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpgrad.cli.arguments import options, path_of
from gpgrad.errors import SettingError, suggest

if TYPE_CHECKING:
    from gpgrad.runs.run_folder import RunFolder

USAGE = """\
  watch RUN [--metric NAME] [--every SECONDS]         follow a run, with a small chart, until it ends"""
OPTIONS = {
    "metric NAME": "a number of the test rows, by default test_return",
    "every SECONDS": "time between looks, by default 1",
}


def main(arguments: Sequence[str]) -> int:
    """Show where a run stands until it ends; at once if it has ended. Lines of tests where there is no terminal."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("watch needs the folder of a run, as in: gpgrad watch runs/NAME")
    folder, given = path_of(arguments[0]), options(arguments[1:])
    metric, every = given.pop("metric", "test_return"), given.pop("every", "1")
    for name in given:
        raise SettingError(f"unknown option --{name}{suggest(name, ['metric', 'every'])}")
    from rich.console import Console
    from rich.live import Live

    from gpgrad.cli.ls import require_metric
    from gpgrad.config import validate
    from gpgrad.runs import run_folder

    seconds = validate.coerce(every, float, "--every")
    if seconds <= 0:
        raise SettingError(f"--every must be more than 0 seconds (got {every})")
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
            time.sleep(seconds)
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
