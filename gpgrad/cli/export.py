"""`export`: a team's decentralised policies as plain arrays."""

from __future__ import annotations

from pathlib import Path

import click

from gpgrad.cli.arguments import PATH, RUN, Number
from gpgrad.cli.command import command


@command(
    "export",
    "a team's policies as arrays, to act without JAX",
    needs="the folder of a finished run, as in: gpgrad export runs/NAME --out team.npz",
)
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--out", type=PATH, required=True, metavar="FILE", help="a name ending in .npz or .safetensors")
@click.option("--seed", type=Number(int), metavar="N", help="which seed, by default the first")
def main(folder: Path, out: Path, seed: int | None) -> int:
    """Write one seed's policies as plain arrays, and print what is in the file."""
    from gpgrad.policies import export
    from gpgrad.policies.load import load_team

    team = load_team(folder, seed, finished=True)
    arrays = export.write(team, out)
    numbers = sum(array.size for array in arrays.values())
    print(f"{out}: {len(arrays)} arrays, {numbers:,} numbers, seed {team.seed} of {folder}")
    return 0
