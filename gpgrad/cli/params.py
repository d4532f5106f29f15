"""`params`: count a method's parameters."""

from __future__ import annotations

import sys

import click

from gpgrad.cli.arguments import ALGO, ENV
from gpgrad.cli.command import command


@command("params", "parameters: trained, in use, and as the GradPS paper counts", passes=("",))
@click.option("--env", default="pp_small", **ENV, help="the environment")
@click.option("--algo", default="qmix", **ALGO, help="the algorithm")
def main(env: str, algo: str, settings: dict[str, str]) -> int:
    """Count a method's parameters, and those of the paper's tables for this environment.

    Further options are the settings of gpgrad train.
    """
    from gpgrad import config

    chosen = config.load(env, algo, settings)
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import parameter_counts

    where = f"{chosen.env.name} {config.label(chosen)}"
    table = Table("parameters", "agents", chosen.decomposition.name, "together", title=where)
    for row in parameter_counts.account(chosen):
        table.add_row(row.what, *(f"{n:,}" for n in (row.agents, row.decomposition, row.agents + row.decomposition)))
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    if chosen.decomposition.name == "qmix":
        sizes = parameter_counts.sizes(chosen)
        mixer = parameter_counts.paper_mixer(sizes)
        title = f"as the GradPS paper counts, K = {sizes.groups}; percent of FuPS as in its tables 13 and 12"
        table = Table("method", "agents", "together", "agents %", "together %", title=title)
        for method in parameter_counts.METHODS:
            agents = parameter_counts.paper_agents(method, sizes)
            percent = parameter_counts.paper_percent(method, sizes)
            table.add_row(method, f"{agents:,}", f"{agents + mixer:,}", *(f"{p:.1f}" for p in percent))
        console.print(table)
    return 0
