"""SIGINT and SIGTERM: noted, passed on, acted on later; handlers are given back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from gpgrad.runs import signals
from gpgrad.runs.signals import Deferred, Stopped


@pytest.fixture(autouse=True)
def handlers():
    """Whatever happens, the handlers are those from before."""
    before = [signal.getsignal(number) for number in signals.ENDING]
    yield
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_first_signal_is_noted_and_a_second_interrupt_interrupts():
    heard: list[str] = []
    deferred = Deferred(lambda: heard.append(deferred.name))
    with signals.handled(deferred.note):
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert not deferred.hurried
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert deferred.hurried
    assert heard == ["SIGTERM"]


@pytest.mark.parametrize("number", signals.ENDING)
def test_undisturbed_work_is_done_before_it_stops(number):
    done = []

    def work() -> None:
        with signals.undisturbed("it"):
            send(number)
            done.append(True)

    with pytest.raises(Stopped, match=f"{signal.Signals(number).name} came at the end of it"):
        work()
    assert done


def test_undisturbed_work_that_fails_says_how():
    def work() -> None:
        with signals.undisturbed("it"):
            send(signal.SIGTERM)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        work()


def test_outside_the_main_thread_no_handler_is_installed():
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with signals.handled(lambda number: None):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_ignored_signals_are_lost():
    before = signal.getsignal(signal.SIGINT)
    with signals.ignored(signal.SIGINT):
        send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) == before
