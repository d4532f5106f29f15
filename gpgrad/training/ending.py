"""How a run ends before its time, or while its last files are written: signals, checkpoints, the command to go on."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpgrad.config.schema import Config
from gpgrad.learning import multiprocess
from gpgrad.training import checkpoint
from gpgrad.training.checkpoint import Position
from gpgrad.training.recorder import Listener, Recorder, run_of

PARENT = "GPGRAD_PARENT"  # the process whose end ends this one, set where a run trains its seeds as processes


class Stopped(KeyboardInterrupt):
    """A signal ended the run; all of it is in a checkpoint."""


class Saver:
    """Writes checkpoints when they are due, and ends a run on SIGINT or SIGTERM once all of it is saved.

    It lasts until the team and the final rows are written. A second SIGINT interrupts at once. Signals are left alone
    outside the main thread. A run that is one seed of another process's run also ends when that process is gone.
    """

    def __init__(self, settings: Config, folder: Path, recorder: Recorder | Listener) -> None:
        self._settings, self._folder, self._recorder = settings.checkpoint, folder, recorder
        self._last = time.monotonic()
        self._signal: int | None = None
        self._hurried = False
        self._previous: dict[int, Any] = {}
        self._parent = os.environ.get(PARENT)

    def __enter__(self) -> Saver:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._hurried and not (kind and issubclass(kind, KeyboardInterrupt)):
            raise KeyboardInterrupt  # a library has made another error of it, or none

    def visit(self, position: Position) -> None:
        """Between two chunks. Raises Stopped after a signal."""
        if self._signal is None and self._parent not in (None, str(os.getppid())):
            self._note(signal.SIGHUP, None)
        due = multiprocess.agree(time.monotonic() - self._last >= 60 * self._settings.every_minutes)
        if not self._told() and due:
            self._save(position)
        self.leave_if_told(position)

    def leave_if_told(self, position: Position) -> None:
        """Save and raise Stopped if a signal has come."""
        if not self._told():
            return
        saved, name = self._save(position), self._name()
        if not saved:
            raise Stopped(f"{name} ended the run, without a checkpoint")
        raise Stopped(f"{name} ended the run; continue with: {to_resume(run_of(self._folder))}")

    def end(self) -> None:
        """After everything is written. Raises Stopped if a signal has come, since what would follow is to be left."""
        if self._told():
            raise Stopped(f"{self._name()} came when the run in {self._folder} was at its end: all of it is written")

    def _told(self) -> bool:
        self._signal = multiprocess.largest(self._signal or 0) or self._signal
        return self._signal is not None

    def _name(self) -> str:
        return signal.Signals(self._signal or 0).name

    def _save(self, position: Position) -> bool:
        try:
            checkpoint.save(self._folder, position, self._recorder.offsets(), self._settings.keep)
        except OSError as error:
            self._recorder.say(str(error))
            return False
        finally:
            self._last = time.monotonic()
        return True

    def _note(self, number: int, frame: object) -> None:
        if self._signal is not None and number == signal.SIGINT:
            self._hurried = True
            raise KeyboardInterrupt
        self._signal = number
        self._recorder.say("finishing this step, then saving; again to leave at once")


@contextlib.contextmanager
def undisturbed(what: str) -> Iterator[None]:
    """Work that SIGINT and SIGTERM do not interrupt: Stopped is raised after it. A second SIGINT interrupts."""
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if caught:
        raise Stopped(f"{signal.Signals(caught[0]).name} came at the end of {what}: all of it is written")


def to_resume(folder: Path) -> str:
    """The command that goes on with a run, as a shell takes it."""
    return shlex.join(["gpgrad", "train", "--resume", str(folder)])
