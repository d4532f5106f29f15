"""`mirror`: bring a run to wandb afterwards, with what was drawn since."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gpgrad.cli.arguments import RUN, Choice
from gpgrad.cli.command import command
from gpgrad.errors import SettingError


@command(
    "mirror",
    "rows, heat maps and GIFs of a run to wandb, also afterwards",
    needs="the folder of a run, as in: gpgrad mirror runs/NAME",
)
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--project", metavar="NAME", help="project in wandb, by default that of the run")
@click.option(
    "--wandb",
    "mode",
    type=Choice(["auto", "online", "offline"]),
    default="auto",
    help="auto is online with a key, else offline",
)
def main(folder: Path, project: str | None, mode: Literal["auto", "online", "offline"]) -> int:
    """Write all rows of a run, its final test, heat maps and films to wandb.

    The exit code is 1 if wandb fails.
    """
    from functools import partial

    from gpgrad.runs import run_folder
    from gpgrad.runs.loggers import Guarded
    from gpgrad.runs.loggers.wandb_runs import WandbLogger, mode_of
    from gpgrad.training import pictures

    run = run_folder.read(folder)
    settings = {**run.settings, "label": run.method}
    project = project or str(run.settings.get("log.project", "gpgrad"))
    chosen = mode_of(mode)
    if chosen == "disabled":
        raise SettingError("wandb is disabled by WANDB_MODE; must be unset, or pass --wandb online or offline")
    made = Guarded("wandb", partial(WandbLogger, chosen, project, folder, run.seeds, settings, folder))
    gallery = pictures.Gallery([made], run.settings["t_max"])
    for row in run.metrics:
        made.write(row)
        gallery.visit(row)
    for row in run.final:
        made.final(row)
    gallery.end({row["seed"]: row for row in run.metrics}.values(), folder)
    made.close()
    if made.problem:
        print(made.problem)
        return 1
    print(f"{len(run.metrics)} rows of {len(run.seeds)} seeds")
    return 0
