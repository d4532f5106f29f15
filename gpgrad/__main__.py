"""Command line: `python -m gpgrad COMMAND`; every command is a file of gpgrad/cli."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence

from gpgrad.cli import COMMANDS
from gpgrad.errors import SettingError, suggest
from gpgrad.runs.divergence import Diverged


def usage() -> str:
    """What every command does."""
    parts = [importlib.import_module(f"gpgrad.cli.{name}").USAGE for name in COMMANDS]
    title = "usage: python -m gpgrad COMMAND [OPTIONS]"
    ending = "  train --help shows every setting of the chosen world, algorithm and preset with its value."
    return "\n".join([title, "", *parts, "", ending])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did, 1 if the system failed it, 2 for a mistake in what was asked, 130 if stopped."""
    let_all_be_printed()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage())
            return 0
        if arguments[0] not in COMMANDS:
            raise SettingError(f"unknown command {arguments[0]!r}{suggest(arguments[0], COMMANDS)}")
        command = importlib.import_module(f"gpgrad.cli.{arguments[0]}")
        if arguments[0] != "train" and any(token in ("-h", "--help") for token in arguments[1:]):
            print(f"usage: python -m gpgrad\n\n{command.USAGE}")
            return 0
        return command.main(arguments[1:])
    except SettingError as error:
        print(f"gpgrad: {error}", file=sys.stderr)
        return 2
    except Diverged as error:
        print(f"gpgrad: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"gpgrad: {error}; a run that has begun can go on with --resume", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"gpgrad: {str(stop) or 'interrupted; what was written so far is kept'}", file=sys.stderr)
        return 130


def let_all_be_printed() -> None:
    """What a terminal's encoding lacks is printed as question marks, and stops nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def script() -> int:
    """The process of a command, of `python -m gpgrad` and of the installed script; its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    codes: list[int] = []
    atexit.register(_leave, codes)  # the first to be registered is the last to run
    try:
        codes.append(main())
    except KeyboardInterrupt:  # a second one, while the first was being told
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
