"""Trains the missing runs of an experiment or a sweep, one at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gpgrad import children
from gpgrad.runs import divergence, lock, signals
from gpgrad.runs.progress import seeds_text
from gpgrad.runs.run_folder import RunFolder, scan
from gpgrad.runs.signals import Stopped
from gpgrad.runs.wanted_seeds import Job, finished, next_job

Say = Callable[[str], None]

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_TO_SAVE = 60.0
_NAP = 0.1
_GLANCE = 1.0


class Task(Protocol):
    """Seeds of a configuration that are to be trained."""

    @property
    def label(self) -> str:
        """Its name for people."""
        ...

    @property
    def env(self) -> str:
        """The environment."""
        ...

    @property
    def algo(self) -> str:
        """The algorithm."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Further settings by dotted names."""
        ...

    @property
    def identity(self) -> str:
        """The hash of the configuration, `config.identity`."""
        ...

    @property
    def seeds(self) -> range:
        """Those that are wanted."""
        ...


class VisitOutcome(NamedTuple):
    """The result of working on a task: whether anything was trained, and what it waits for or what failed, in words."""

    trained: bool = False
    waiting: str = ""
    failure: str = ""


def execute(
    setups: Sequence[Task], root: Path, extra: Sequence[str], say: Say, kept: Sequence[RunFolder] = ()
) -> list[str]:
    """Train all that is missing; returns a sentence for each task that failed.

    root: the folder of runs. extra: arguments of `gpgrad train` that change no number, for new runs. kept: finished
    runs elsewhere, whose seeds are not trained again. A failing run costs its task alone. What another process trains
    is waited for last. Raises Stopped on a signal.
    """
    failures: dict[str, str] = {}
    said: dict[str, str] = {}
    with Child() as child:
        while True:
            runs = [*scan(root)[0], *kept]
            left = [s for s in setups if s.identity not in failures and next_job(runs, s.identity, s.seeds)]
            if not left:
                return list(failures.values())
            trained = False
            for setup in left:
                outcome = _visit(setup, root, extra, child, say, kept)
                trained |= outcome.trained
                news = f"{setup.label}: {outcome.failure or outcome.waiting}"
                if outcome.failure:
                    failures[setup.identity] = news
                if (outcome.failure or outcome.waiting) and said.get(setup.identity) != news:
                    said[setup.identity] = news
                    say(news)
            if not trained:
                child.sleep(SECONDS_BETWEEN_LOOKS)


def _visit(
    setup: Task, root: Path, extra: Sequence[str], child: Child, say: Say, kept: Sequence[RunFolder]
) -> VisitOutcome:
    """Train a task's missing seeds as far as nobody else does.

    The claim keeps a second process from starting the same seeds. The child inherits it, so that it lasts as long
    as a child that outlives this process.
    """
    trained = False
    root.mkdir(parents=True, exist_ok=True)
    try:
        with claim_of(root, setup) as claim:
            while job := next_job([*scan(root)[0], *kept], setup.identity, setup.seeds):
                if job.action == "wait":
                    who = job.run.holder if job.run else None
                    return VisitOutcome(
                        trained, waiting=f"process {who} trains {seeds_text(job.seeds)}, waiting for it"
                    )
                command = command_of(job, setup, root, extra)
                say(f"{setup.label}, {seeds_text(job.seeds)}: {shown(command)}")
                code, trained = child.run(command, claim), True
                found = scan(root)[0]
                if next_job(found, setup.identity, job.seeds):
                    return VisitOutcome(trained, failure=complaint(job, code))
                if lost := _diverged(found, setup.identity, job.seeds):
                    return VisitOutcome(trained, failure=lost)
    except lock.Taken:
        return VisitOutcome(trained, waiting="another process has claimed it, waiting for that")
    return VisitOutcome(trained)


def claim_of(root: Path, task: Task) -> contextlib.AbstractContextManager[int]:
    """Hold the lock that allows starting runs of a task in `root`; yields its file descriptor. Raises lock.Taken."""
    return lock.hold(root / f".claim-{task.identity}", "it")


def complaint(job: Job, code: int) -> str:
    """A sentence on a process that ended with an exit code although its job is not done."""
    how = f"with signal {signals.name_of(-code)}" if code < 0 else f"with code {code}"
    where = f"; if it can not go on, remove {job.run.folder}" if job.run else ""
    return f"the run of {seeds_text(job.seeds)} ended {how} and is not finished; the same command tries again{where}"


def _diverged(found: Sequence[RunFolder], identity: str, seeds: range) -> str:
    """Of seeds that have been trained, those without a result; empty if there are none."""
    left = set(seeds).difference(*(share.seeds for share in finished(found, identity, seeds)))
    return f"{divergence.short(left)}: their updates are no longer finite, and they count as no result" if left else ""


def command_of(job: Job, setup: Task, root: Path, extra: Sequence[str] = ()) -> list[str]:
    """The arguments of the process that does a job."""
    begin = [sys.executable, "-m", "gpgrad", "train"]
    if job.run:
        return [*begin, "--resume", str(job.run.folder)]
    return [*begin, *train_arguments(setup, job.seeds), "--log.dir", str(root), *extra]


def train_arguments(setup: Task, seeds: range) -> list[str]:
    """The arguments of `gpgrad train` for a task."""
    which = [f"--seeds={len(seeds)}", f"--seed={seeds.start}"]
    return [f"--env={setup.env}", f"--algo={setup.algo}", *_options(setup.options), *which]


def _options(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={_text(value)}" for name, value in settings.items()]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def shown(command: Sequence[str]) -> str:
    """A command as one would type it."""
    begin = [sys.executable, "-m", "gpgrad"]
    return shlex.join(["gpgrad", *command[3:]] if list(command[:3]) == begin else command)


class Child:
    """Runs commands one after the other and passes SIGINT and SIGTERM on to them.

    They run in a session of their own: Ctrl-C in a terminal reaches this process alone, and so the child once, which
    then saves; a second one makes it leave at once.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._signal: int | None = None
        self._handled = signals.handled(self._pass_on)

    def __enter__(self) -> Child:
        self._handled.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._handled.__exit__(None, None, None)
        if self._process is not None and self._process.poll() is None:  # something else ended the wait for it
            self._process.terminate()
            self._process.wait(SECONDS_TO_SAVE)

    def run(
        self, command: Sequence[str], descriptor: int | None = None, meanwhile: Callable[[int], bool] | None = None
    ) -> int:
        """RunFolder a command; its exit code. Raises Stopped if a signal came.

        descriptor: a file descriptor that the process inherits. meanwhile(process id): called about once a second while
        the process runs, until it returns True.
        """
        self._check()
        passed = [] if descriptor is None else [descriptor]
        self._process = process = subprocess.Popen(
            command, start_new_session=True, pass_fds=passed, env=children.environment()
        )
        if self._signal is not None:  # it came while the process was made
            process.send_signal(self._signal)
        while meanwhile is not None and process.poll() is None and not meanwhile(process.pid):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GLANCE)
        code = process.wait()
        self._process = None
        self._check()
        return code

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Stopped if a signal comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._check()
            time.sleep(_NAP)

    def _check(self) -> None:
        if self._signal is not None:
            raise Stopped(f"{signals.name_of(self._signal)} ended it; the same command goes on")

    def _pass_on(self, number: int) -> None:
        self._signal = number
        if self._process is not None:
            self._process.send_signal(number)
