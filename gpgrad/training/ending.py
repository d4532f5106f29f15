"""Checkpoints while a run is trained, and its early end by a signal, with the command that continues it."""

from __future__ import annotations

import os
import shlex
import signal
import time
from pathlib import Path

from gpgrad.config.schema import Config
from gpgrad.learning import multiprocess
from gpgrad.runs import signals
from gpgrad.runs.signals import Stopped
from gpgrad.training import checkpoint
from gpgrad.training.checkpoint import Position
from gpgrad.training.recorder import Listener, Recorder, run_of

PARENT = "GPGRAD_PARENT"  # the process whose end ends this one, set where a run trains its seeds as processes


class Saver:
    """Writes checkpoints when they are due, and on SIGINT or SIGTERM saves the run and raises Stopped.

    Used as a context around training, the final test and the last files. A second SIGINT interrupts at once. A process
    that trains single seeds of another process's run also stops when that process has ended.
    """

    def __init__(self, config: Config, folder: Path, recorder: Recorder | Listener) -> None:
        self._settings, self._folder, self._recorder = config.checkpoint, folder, recorder
        self._last = time.monotonic()
        self._deferred = signals.Deferred(
            lambda: recorder.say("finishing this step, then saving; again to leave at once")
        )
        self._handled = signals.handled(self._deferred.note)
        self._parent = os.environ.get(PARENT)

    def __enter__(self) -> Saver:
        self._handled.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._handled.__exit__(None, None, None)
        if self._deferred.hurried and not (kind and issubclass(kind, KeyboardInterrupt)):
            raise KeyboardInterrupt  # a library has made another error of it, or none

    def visit(self, position: Position) -> None:
        """Save a checkpoint if one is due; called between two chunks. Raises Stopped after a signal."""
        if self._deferred.first is None and self._parent not in (None, str(os.getppid())):
            self._deferred.note(signal.SIGHUP)
        due = multiprocess.agree(time.monotonic() - self._last >= 60 * self._settings.every_minutes)
        if not self._stopping() and due:
            self._save(position)
        self.leave_if_stopped(position)

    def leave_if_stopped(self, position: Position) -> None:
        """Save and raise Stopped if a signal has come."""
        if not self._stopping():
            return
        saved, name = self._save(position), self._deferred.name
        if not saved:
            raise Stopped(f"{name} ended the run, without a checkpoint")
        raise Stopped(f"{name} ended the run; continue with: {to_resume(run_of(self._folder))}")

    def end(self) -> None:
        """Called after everything is written. Raises Stopped after a signal, so that the caller starts nothing new."""
        if self._stopping():
            raise Stopped(
                f"{self._deferred.name} came when the run in {self._folder} was at its end: all of it is written"
            )

    def _stopping(self) -> bool:
        """Whether a signal came, to any of the processes that train together."""
        self._deferred.first = multiprocess.largest(self._deferred.first or 0) or self._deferred.first
        return self._deferred.first is not None

    def _save(self, position: Position) -> bool:
        try:
            checkpoint.save(self._folder, position, self._recorder.offsets(), self._settings.keep)
        except OSError as error:
            self._recorder.say(str(error))
            return False
        finally:
            self._last = time.monotonic()
        return True


def to_resume(folder: Path) -> str:
    """The command that resumes a run, quoted for a shell."""
    return shlex.join(["gpgrad", "train", "--resume", str(folder)])
