"""Ends workers whose trainer is gone, however it went: `python -m gpgrad.envs.external.guardian`.

Reads process groups from its input, `+123` for one that began and `-123` for one that ended, and kills those left
when the input closes, as it does when the trainer dies. A process of its own, because a worker that hangs inside its
simulator cannot look after itself, and neither can the simulator's own children.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TextIO


def watch(lines: TextIO) -> None:
    """Until the input ends; then kill."""
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
