"""How SIGINT and SIGTERM end work: noted first and acted on when the work can be continued later. Imports no jax.

Python runs signal handlers in the main thread alone; in other threads nothing here installs one.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the work after what was done had been saved. The message says how to continue."""


@contextlib.contextmanager
def handled(handler: Callable[[int], None]) -> Iterator[None]:
    """Call `handler(number)` on SIGINT and SIGTERM; the previous handlers are restored at the end."""
    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, lambda n, frame: handler(n)) for number in ENDING}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextlib.contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal, as processes that are started here will do for all their lives."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


class Deferred:
    """Notes the first SIGINT or SIGTERM, on which its owner acts later; a second SIGINT raises KeyboardInterrupt.

    first: the signal's number, None before one came. hurried: whether a second SIGINT came. notice: called on the
    first signal.
    """

    def __init__(self, notice: Callable[[], None] = lambda: None) -> None:
        self.first: int | None = None
        self.hurried = False
        self._notice = notice

    @property
    def name(self) -> str:
        """The first signal's name. Raises ValueError where none came."""
        return name_of(self.first or 0)

    def note(self, number: int) -> None:
        """Handle a signal."""
        if self.first is not None and number == signal.SIGINT:
            self.hurried = True
            raise KeyboardInterrupt
        if self.first is None:
            self.first = number
            self._notice()


@contextlib.contextmanager
def undisturbed(what: str) -> Iterator[None]:
    """Work that SIGINT and SIGTERM do not interrupt: Stopped is raised after it. A second SIGINT interrupts it."""
    deferred = Deferred()
    with handled(deferred.note):
        yield
    if deferred.first is not None:
        raise Stopped(f"{deferred.name} came at the end of {what}: all of it is written")


def name_of(number: int) -> str:
    """A signal's name, as SIGTERM."""
    return signal.Signals(number).name
