"""`separation`: whether conflicts tell hidden roles apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from gpgrad.cli.arguments import FOLDER, OUTPUT
from gpgrad.cli.command import command
from gpgrad.errors import SettingError


@command(
    "separation",
    "whether conflicts of a GradPS run tell hidden roles apart",
    needs="the folder of a run, as in: gpgrad separation runs/NAME",
)
@click.argument("folder", metavar="RUN", type=FOLDER)
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write the numbers per seed as JSON")
def main(folder: Path, file: Path | None) -> int:
    """Print whether conflicts tell which agents the environment made different, at the last test of every seed."""
    if not (folder / "metrics.jsonl").is_file():
        raise SettingError(f"{folder} holds no run, which is a folder with metrics.jsonl")
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import role_separation
    from gpgrad.runs import logs

    newest = {row["seed"]: row for row in logs.read_rows(folder / "metrics.jsonl") if row.get("conflict") is not None}
    found = {}
    for seed, row in sorted(newest.items()):
        if "roles" not in row:
            raise SettingError(f"{folder}'s environment has no hidden agent roles (pp_small has)")
        found[seed] = role_separation.separation(row)
    if not found:
        raise SettingError(f"{folder} has no rows with conflicts; separation needs a run trained with --sharing gradps")
    table = Table("seed", *role_separation.Separation._fields, title=f"conflict and hidden roles in {folder}")
    for seed, answer in found.items():
        table.add_row(
            str(seed), *(("-",) * len(role_separation.Separation._fields) if answer is None else map(_short, answer))
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if file:
        rows = [{"seed": seed, **(answer._asdict() if answer else {})} for seed, answer in found.items()]
        file.write_text(json.dumps(rows, indent=2))
    return 0


def _short(value: float) -> str:
    return f"{value:.4g}"
