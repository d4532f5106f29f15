"""The program `gpgrad COMMAND`, also `python -m gpgrad COMMAND`; every command is a file of gpgrad/cli."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
from collections.abc import Sequence

from gpgrad.cli import process
from gpgrad.cli.command import execute
from gpgrad.errors import SettingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns 0 if it succeeded, 1 if the system failed or a result is missing, 2 for a user's mistake, 130 if stopped.
    """
    let_all_be_printed()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return execute(arguments)
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
