"""`compare`: what differs between two runs, and whether one is better."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gpgrad.cli.arguments import FOLDER
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

ASIDE = ("log.", "checkpoint.", "seeds_mode", "devices", "shard", "learner.stop_on_nan")  # say nothing about results


@command(
    "compare",
    "settings that differ, final results, whether A is better",
    needs="two runs, as in: gpgrad compare runs/A runs/B",
)
@click.argument("a", type=FOLDER, metavar="A")
@click.argument("b", type=FOLDER, metavar="B")
@click.option("--metric", default="test_return", metavar="NAME", help="a number of the test rows")
def main(a: Path, b: Path, metric: str) -> int:
    """Print settings and results of two runs side by side, and the verdict on the claim that A is better."""
    from rich.console import Console
    from rich.table import Column, Table

    from gpgrad.cli.ls import require_metric, spread
    from gpgrad.runs import provenance, run_folder

    one, other = (run_folder.read(folder) for folder in (a, b))
    env, other_env = (run.settings["env"] for run in (one, other))
    if env != other_env:
        raise SettingError(
            f"{one.folder} is a run on {env} and {other.folder} one on {other_env}; both must be of one environment"
        )
    require_metric([one, other], metric)
    columns = [Column(name, overflow="fold") for name in ("A", "B")]
    table = Table("", *columns, title=f"A: {one.folder}\nB: {other.folder}", title_justify="left")
    for name, values in differences(one.settings, other.settings).items():
        table.add_row(name, *values)
    manifests = (provenance.compared(run.manifest) for run in (one, other))
    for name, values in differences(*manifests).items():
        table.add_row(f"manifest: {name}", *values, style="dim")
    table.add_section()
    results = [run.values(metric) for run in (one, other)]
    table.add_row("state", *(run.status if run.diverged else run.state for run in (one, other)))
    table.add_row("steps", f"{one.steps:,}", f"{other.steps:,}")
    table.add_row(f"{metric} ± 95%, seeds", *(f"{spread(values)}, {len(values)}" for values in results))
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    changed = [name for name in differences(one.settings, other.settings) if name.startswith("env.")]
    verdict = judge(results[0], results[1], metric)
    if changed:
        verdict = [f"no verdict: the environments differ in {', '.join(changed)}"]
    for line in verdict:
        console.print(line, highlight=False, soft_wrap=True)
    if "running" in (one.state, other.state) or "interrupted" in (one.state, other.state):
        console.print("not both are finished: these are results so far", highlight=False)
    return 0


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs, as text; "-" for what one does not have."""
    names = [name for name in dict.fromkeys([*one, *other]) if not name.startswith(ASIDE)]
    return {name: (_text(one, name), _text(other, name)) for name in names if _text(one, name) != _text(other, name)}


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, "-")
    whole = isinstance(value, float) and value.is_integer()  # 1 and 1.0 are the same
    return str(int(value) if whole else value)


def judge(one: Mapping[int, float], other: Mapping[int, float], metric: str) -> list[str]:
    """The difference over the seeds that both have, and what it says of the claim that A is better, tested alone."""
    import numpy as np

    from gpgrad.runs import stats, verdicts

    if not one.keys() & other.keys():
        return [f"no verdict: no seed has {metric} in both runs"]
    (found,) = verdicts.judge([stats.common_seeds(one, other)], np.random.default_rng(0))
    assert found is not None  # it had data
    difference, verdict = found.difference, found.verdict
    low, high = difference.interval
    interval = f", 95% interval {low:.4g} to {high:.4g}" if np.isfinite(low) else ""
    few = f" ({difference.n} of {found.needed} seeds)" if verdict == "not conclusive" else ""
    seeds = f"{difference.n} seed{'s' * (difference.n > 1)} in common"
    return [
        f"A - B: {difference.mean:.4g}{interval}, p = {found.adjusted:.2g}, {seeds}",
        f"A is better: {verdict}{few}",
    ]
