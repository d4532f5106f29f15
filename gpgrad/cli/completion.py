"""`completion`: what the Tab key offers in a shell."""

from __future__ import annotations

import click

from gpgrad.cli.arguments import Choice
from gpgrad.cli.command import COMPLETE, command, program


@command(
    "completion",
    'a script for the Tab key: eval "$(gpgrad completion bash)"',
    needs="a shell: bash, zsh or fish",
)
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
def main(shell: str) -> int:
    """Print the script for a shell, which asks gpgrad for commands, options, settings, environments and algorithms."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # it is one of click's
    print(kind(program, {}, "gpgrad", COMPLETE).source())
    return 0
