"""`eval`: test the team of a run on fresh episodes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gpgrad.cli.arguments import OUTPUT, TEAM, Number
from gpgrad.cli.command import command

LARGEST = 2**31 - 1  # streams are counted in int32


@command(
    "eval",
    "test the team of a run on fresh episodes",
    needs="the folder of a run, as in: gpgrad eval runs/NAME",
    passes=("env.",),
)
@click.argument("source", metavar="RUN", type=TEAM)
@click.option("--episodes", type=Number(int, 1), default=200, metavar="N", help="episodes of each seed")
@click.option(
    "--stream",
    type=Number(int, 0, LARGEST),
    default=1,
    metavar="N",
    help="which independent test episodes; 0 is the final test of training",
)
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write a row of numbers per seed")
@click.option("--best", is_flag=True, help="the teams of the best tests, if checkpoint.keep_best kept them")
def main(source: Path, episodes: int, stream: int, file: Path | None, best: bool, settings: dict[str, str]) -> int:
    """Test a run's team on new episodes, in its environment or a changed one; print a table.

    RUN is the folder of a run, of which an unfinished one has the teams of its newest checkpoint; a file of gpgrad
    export --for gpgrad; or team:NAME, a team of the package. Options --env.NAME are settings of the environment that
    differ from those in training. Seeds that have diverged have no team to test.
    """
    rows, world = (
        finished(source, episodes, stream, settings)
        if (source / "team").is_dir() and not best
        else any_team(source, episodes, stream, settings, best)
    )
    show(rows, episodes, f"{source} on {world}")
    if file:
        file.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def finished(folder: Path, episodes: int, stream: int, settings: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
    """Rows of the teams of a finished run, and the environment's name."""
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
    return rows, chosen.env.name


def any_team(
    source: Path, episodes: int, stream: int, settings: dict[str, str], best: bool
) -> tuple[list[dict[str, Any]], str]:
    """Rows of the teams of checkpoints, of best tests or of a file, and the environment's name."""
    import dataclasses

    import jax
    import jax.numpy as jnp

    from gpgrad import config
    from gpgrad.learning.program import make_program
    from gpgrad.policies.load import load_teams
    from gpgrad.training import warm_start
    from gpgrad.training.loop import test_rows

    teams = load_teams(source, best)
    first = dataclasses.replace(teams[0].config, seeds=len(teams))
    chosen = config.override(first, settings)
    chosen = dataclasses.replace(
        chosen, evaluation=dataclasses.replace(chosen.evaluation, final_episodes=episodes), devices=1
    )
    program = make_program(chosen)
    warm_start.check_fit(source, make_program(first), program)
    actor = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(team.actor for team in teams))
    actor = actor._replace(env_params=jax.vmap(lambda key: warm_start.world_of(program.parts, key))(actor.key))
    rows = test_rows(chosen, program.final(actor, stream))
    return [{**row, "seed": team.seed} for row, team in zip(rows, teams, strict=True)], chosen.env.name


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
