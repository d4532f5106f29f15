"""`params`: count a method's parameters."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gpgrad.cli.arguments import CHOICES, options

USAGE = """\
  params --env NAME --algo NAME [--GROUP.SETTING VALUE ...]
                                                      parameters: trained, in use, and as the GradPS paper counts"""
OPTIONS = {
    "env NAME": "the environment, by default pp_small",
    "algo NAME": "the algorithm, by default qmix",
    "GROUP.SETTING VALUE": "any setting of gpgrad train",
}


def main(arguments: Sequence[str]) -> int:
    """Count a method's parameters, and those of the paper's tables for this world."""
    from gpgrad import config

    given = options(arguments)
    chosen = {name: given.pop(name) for name in CHOICES if name in given}
    settings = config.load(**chosen, overrides=given)
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import parameter_counts

    where = f"{settings.env.name} {config.label(settings)}"
    table = Table("parameters", "agents", settings.decomposition.name, "together", title=where)
    for row in parameter_counts.account(settings):
        table.add_row(row.what, *(f"{n:,}" for n in (row.agents, row.decomposition, row.agents + row.decomposition)))
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    if settings.decomposition.name == "qmix":
        sizes = parameter_counts.sizes(settings)
        mixer = parameter_counts.paper_mixer(sizes)
        title = f"as the GradPS paper counts, K = {sizes.groups}; percent of FuPS as in its tables 13 and 12"
        table = Table("method", "agents", "together", "agents %", "together %", title=title)
        for method in parameter_counts.METHODS:
            agents = parameter_counts.paper_agents(method, sizes)
            percent = parameter_counts.paper_percent(method, sizes)
            table.add_row(method, f"{agents:,}", f"{agents + mixer:,}", *(f"{p:.1f}" for p in percent))
        console.print(table)
    return 0
