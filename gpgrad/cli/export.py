"""`export`: a team as one file, as plain arrays for NumPy or whole for gpgrad."""

from __future__ import annotations

from pathlib import Path

import click

from gpgrad.cli.arguments import PATH, TEAM, Choice, Number
from gpgrad.cli.command import command


@command(
    "export",
    "a team as one file, with a card: arrays to act without JAX, or all of it",
    needs="the folder of a run, as in: gpgrad export runs/NAME --out team.npz",
)
@click.argument("source", metavar="RUN", type=TEAM)
@click.option("--out", type=PATH, required=True, metavar="FILE", help="a name ending in .npz or .safetensors")
@click.option("--seed", type=Number(int), metavar="N", help="which seed, by default the first")
@click.option("--best", is_flag=True, help="the team of the best test, if checkpoint.keep_best kept it")
@click.option(
    "--for",
    "reader",
    type=Choice(["numpy", "gpgrad"]),
    default="numpy",
    help="numpy: a network per agent; gpgrad: all of it (.npz), for load_team, eval and render",
)
def main(source: Path, out: Path, seed: int | None, best: bool, reader: str) -> int:
    """Write one seed's team to a file, and print what is in it.

    RUN is the folder of a run, of which an unfinished one has the team of its newest checkpoint; a file of gpgrad
    export --for gpgrad; or team:NAME, a team of the package.
    """
    from gpgrad.policies import card, export, team_file
    from gpgrad.policies.load import load_team

    kinds = {"numpy": export.write, "gpgrad": team_file.write}
    team = load_team(source, seed, best=best)
    arrays = kinds[reader](team, out)
    numbers = sum(array.size for array in arrays.values())
    print(f"{out}: {len(arrays)} arrays, {numbers:,} numbers, seed {team.seed} of {source}\n{card.shown(team.card)}")
    return 0
