"""Kills workers whose trainer has died: `python -m gpgrad.envs.external.guardian`.

Reads process groups from stdin, `+123` for a started and `-123` for an ended one. When stdin closes, for example
because the trainer died, it kills the remaining groups. It is a separate process, because a worker that hangs inside
its simulator, or the simulator's children, cannot detect the trainer's death.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TextIO


def watch(lines: TextIO) -> None:
    """Read until the input ends, then kill the remaining process groups."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)
