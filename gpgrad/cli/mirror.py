"""`mirror`: bring a run to wandb afterwards, with what was drawn since."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gpgrad.cli.arguments import RUN, Choice
from gpgrad.cli.command import command


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
    from gpgrad.runs import logs, run_folder
    from gpgrad.training import wandb_media

    run = run_folder.read(folder)
    settings = {**run.settings, "label": run.method}
    project = project or str(run.settings.get("log.project", "gpgrad"))
    made = logs.Mirror(mode, project, folder, run.seeds, settings, folder)
    gallery = wandb_media.Gallery(made, run.settings["t_max"])
    for row in run.metrics:
        made.write(row["seed"], row)
        gallery.visit(row)
    for row in run.final:
        made.summarise(row["seed"], {f"final_{name}": value for name, value in row.items()})
    gallery.end({row["seed"]: row for row in run.metrics}.values(), folder)
    made.close()
    if made.problem:
        print(made.problem)
        return 1
    print(f"{len(run.metrics)} rows of {len(run.seeds)} seeds")
    return 0
