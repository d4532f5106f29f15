"""`import-pymarl`: the equal of a PyMARL configuration."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from gpgrad.cli.arguments import ENV, PATH
from gpgrad.cli.command import command


@command(
    "import-pymarl",
    "the command that equals a configuration of PyMARL, PyMARL2 or EPyMARL",
    needs="a file, as in: gpgrad import-pymarl config.yaml",
)
@click.argument("path", metavar="FILE", type=PATH)
@click.option("--env", **ENV, help="the environment here, instead of the one that the file names")
def main(path: Path, env: str | None) -> int:
    """Print the equal command of a YAML or JSON file, and each setting of the file that has no equal.

    The exit code is 1 if some have none.
    """
    from gpgrad.config import presets, pymarl

    found = pymarl.translate(presets.mapping(presets.read_yaml(path, "the configuration"), str(path)), env)
    print(shlex.join(found.words))
    for line in found.missing:
        print(f"# no equal: {line}")
    return 1 if found.missing else 0
