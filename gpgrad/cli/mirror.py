"""`mirror`: bring a run to wandb afterwards, with what was drawn since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gpgrad.cli.arguments import options, run_of
from gpgrad.errors import SettingError, suggest

USAGE = """\
  mirror RUN [--project NAME] [--wandb auto|online|offline]
                                                      rows, heat maps and GIFs of a run to wandb, also afterwards"""
OPTIONS = {
    "project NAME": "project in wandb, by default that of the run",
    "wandb auto|online|offline": "auto is online with a key, else offline",
}


def main(arguments: Sequence[str]) -> int:
    """Write all rows of a run, its final test, heat maps and films to wandb; 1 if wandb fails."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("mirror needs the folder of a run, as in: gpgrad mirror runs/NAME")
    folder, given = run_of(arguments[0]), options(arguments[1:])
    for name in given:
        if name not in ("project", "wandb"):
            raise SettingError(f"unknown option --{name}{suggest(name, ['project', 'wandb'])}")
    from gpgrad.config import validate
    from gpgrad.runs import logs, run_folder
    from gpgrad.training import wandb_media

    run = run_folder.read(folder)
    settings = {**run.settings, "label": run.method}
    project = given.get("project", str(run.settings.get("log.project", "gpgrad")))
    mode = validate.coerce(given.get("wandb", "auto"), Literal["auto", "online", "offline"], "--wandb")
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
