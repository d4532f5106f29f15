"""`check`: whether a world keeps the contract that learners rely on."""

from __future__ import annotations

from collections.abc import Sequence

from gpgrad.cli.arguments import options
from gpgrad.errors import SettingError

USAGE = """\
  check WORLD [--plugin MODULE] [--env.OPTION VALUE ...]
                                                      what is wrong with a world, by tracing and playing it"""
OPTIONS = {
    "plugin MODULE": "module that registers the environment",
    "env.OPTION VALUE": "a setting of the environment",
}


def main(arguments: Sequence[str]) -> int:
    """Print a line for each finding; 1 where there are any."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("check needs an environment, as in: gpgrad check pp_small")
    world, given = arguments[0], options(arguments[1:])
    for name in given:
        if name != "plugin" and not name.startswith("env."):
            raise SettingError(f"unknown option --{name}, must be --plugin or --env.OPTION")
    from gpgrad import config

    settings = config.load(world, "vdn", given)
    from gpgrad import envs
    from gpgrad.envs import checking

    report = checking.examine(envs.make(settings.env.name, **settings.env.options))
    for finding in report.findings:
        print(f"{world}: {finding}")
    if not report.findings:
        print(report.summary)
    return int(bool(report.findings))
