"""File locks that the operating system releases when their process ends, however it ends: no lock is ever stale."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gpgrad.errors import SettingError

NAME = "lock"  # in the folder of a run
_TRIES, _PAUSE = 10, 0.1  # a look by `holder` takes the lock for an instant


class Taken(SettingError):
    """Another process has the lock."""


@contextlib.contextmanager
def hold(path: Path, what: str) -> Iterator[int]:
    """Hold the lock exclusively, with this process's id in its file; yields the file descriptor.

    A child process that inherits the descriptor holds the lock, too. Raises Taken if another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(descriptor):
            pid = _pid(descriptor)
            raise Taken(f"{what} is in use by process {pid}: wait until that has ended")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The id of the process that holds the lock (0 while it has not written it yet), None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).decode().strip()
    return int(text) if text.isdigit() else 0
