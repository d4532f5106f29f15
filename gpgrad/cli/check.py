"""`check`: whether a world keeps the contract that learners rely on."""

from __future__ import annotations

import click

from gpgrad.cli.arguments import ENV
from gpgrad.cli.command import command


@command(
    "check",
    "what is wrong with an environment, by tracing and playing it",
    needs="an environment, as in: gpgrad check pp_small",
    passes=("env.",),
)
@click.argument("world", **ENV)
@click.option("--plugin", multiple=True, metavar="MODULE", help="module that registers the environment")
def main(world: str, plugin: tuple[str, ...], settings: dict[str, str]) -> int:
    """Trace and play an environment, and print a line for each finding.

    Options --env.NAME are settings of the environment. The exit code is 1 where there are findings.
    """
    from gpgrad import config

    if plugin:
        settings["plugin"] = ",".join(plugin)
    chosen = config.load(world, "vdn", settings)
    from gpgrad import envs
    from gpgrad.envs import checking

    report = checking.examine(envs.make(chosen.env.name, **chosen.env.options))
    for finding in report.findings:
        print(f"{world}: {finding}")
    if not report.findings:
        print(report.summary)
    return int(bool(report.findings))
