"""Kills workers whose trainer has died: `python -m gpgrad.envs.external.guardian`.

Reads process groups from stdin, `+123 FOLDER` for a started and `-123` for an ended one. When stdin closes, for example
because the trainer died, it kills the remaining groups and removes their folders of temporary files. It is a separate
process, because a worker that hangs inside its simulator, or the simulator's children, cannot detect the trainer's
death.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from typing import TextIO


def watch(lines: TextIO) -> None:
    """Read until the input ends, then kill the remaining process groups."""
    folders: dict[int, str] = {}
    for line in lines:
        group, _, folder = line[1:].rstrip("\n").partition(" ")
        if line[0] == "+":
            folders[int(group)] = folder
        else:
            folders.pop(int(group), None)
    for group, folder in folders.items():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)
