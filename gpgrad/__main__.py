"""The program `gpgrad COMMAND`, also `python -m gpgrad COMMAND`; every command is a file of gpgrad/cli."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence

import gpgrad
from gpgrad.cli import COMMANDS, process
from gpgrad.cli.arguments import help_text
from gpgrad.errors import SettingError, suggest

OWN_HELP = ("train", "experiment")  # commands that print their own help


def usage() -> str:
    """What every command does."""
    parts = [importlib.import_module(f"gpgrad.cli.{name}").USAGE for name in COMMANDS]
    ending = """\
  COMMAND --help says what each option does; train --help shows every setting with its value.
  --version                                           the version of gpgrad
  Completion: eval "$(gpgrad completion bash)", also zsh"""
    return "\n".join(["usage: gpgrad COMMAND [OPTIONS]", "", *parts, "", ending])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns 0 if it succeeded, 1 if the system failed or a result is missing, 2 for a user's mistake, 130 if stopped.
    """
    let_all_be_printed()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(arguments)
    except SettingError as error:
        print(f"gpgrad: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gpgrad: {error}; a run that has begun can be resumed with gpgrad train --resume RUN", file=sys.stderr)
        return 1
    except ArithmeticError as error:
        if not _is_diverged(error):
            raise
        print(f"gpgrad: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"gpgrad: {str(stop) or 'interrupted; what was written so far is kept'}", file=sys.stderr)
        return 130


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit code. Raises SettingError for a user's mistake."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = arguments
    if name in ("--version", "-V"):
        print(f"gpgrad {gpgrad.__version__}")
        return 0
    if name not in COMMANDS:
        raise SettingError(f"unknown command {name!r}{suggest(name, COMMANDS)}")
    command = importlib.import_module(f"gpgrad.cli.{name}")
    if name not in OWN_HELP and any(token in ("-h", "--help") for token in rest):
        print(help_text(command.USAGE, command.OPTIONS))
        return 0
    return command.main(rest)


def _is_diverged(error: ArithmeticError) -> bool:
    from gpgrad.runs.divergence import Diverged  # imported here, so that a restart of the process costs little

    return isinstance(error, Diverged)


def let_all_be_printed() -> None:
    """Print question marks for what a terminal's encoding lacks, and each line at once, also into a pipe."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)


def script() -> int:
    """The process of a command, of `python -m gpgrad` and of the installed script; its exit code."""
    codes: list[int] = []
    atexit.register(_leave, codes)  # the first to be registered is the last to run
    try:
        process.prepare(sys.argv[1:])
        codes.append(main())
    except SettingError as error:
        print(f"gpgrad: {error}", file=sys.stderr)
        codes.append(2)
    except KeyboardInterrupt:  # a second one, while the first was being reported
        codes.append(130)
    if codes[0] == 130:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
    return codes[0]


def _leave(codes: Sequence[int]) -> None:
    """After all other exit handlers: end an interrupted process without Python's teardown.

    An interrupt within a compilation leaves jaxlib with objects on which that teardown crashes.
    """
    if 130 in codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


if __name__ == "__main__":
    sys.exit(script())
