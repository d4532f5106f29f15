"""`dashboard`: the layout of the project in wandb."""

from __future__ import annotations

import click

from gpgrad.cli.command import command


@command("dashboard", "save the layout of configs/dashboard.yaml as a view in wandb")
@click.option("--entity", required=True, metavar="NAME", help="the user or team that owns the project")
@click.option("--project", default="gpgrad", metavar="NAME", help="project in wandb")
def main(entity: str, project: str) -> int:
    """Save the layout of configs/dashboard.yaml as a view in wandb, and print its address."""
    from gpgrad.viz.dashboard import save

    print(save(entity, project))
    return 0
