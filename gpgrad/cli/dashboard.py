"""`dashboard`: the layout of the project in wandb."""

from __future__ import annotations

from collections.abc import Sequence

from gpgrad.cli.arguments import options
from gpgrad.errors import SettingError, suggest

USAGE = """\
  dashboard --entity NAME [--project NAME]            save the layout of configs/dashboard.yaml as a view in wandb"""
OPTIONS = {
    "entity NAME": "user or team that the project belongs to",
    "project NAME": "project in wandb, by default gpgrad",
}


def main(arguments: Sequence[str]) -> int:
    """Make the saved view, and print its address."""
    given = {"project": "gpgrad"} | options(arguments)
    for name in given:
        if name not in ("entity", "project"):
            raise SettingError(f"unknown option --{name}{suggest(name, ['entity', 'project'])}")
    if "entity" not in given:
        raise SettingError("dashboard needs --entity, the user or team that owns the project")
    from gpgrad.viz.dashboard import save

    print(save(given["entity"], given["project"]))
    return 0
