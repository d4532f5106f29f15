"""A lane: a process that trains the runs of the queue, one after the other, on one core at the lowest priority.

A second lane takes the next run that nobody trains. The right to start runs of an arm is held only until the new run
has its own lock, so that a lane never keeps other work waiting.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gpgrad.errors import SettingError
from gpgrad.experiments import archive
from gpgrad.experiments.availability import NOT_TESTABLE
from gpgrad.experiments.queue import queue_file
from gpgrad.experiments.queue.queue_file import Unit
from gpgrad.jobs import scheduler
from gpgrad.jobs.scheduler import Child, Say
from gpgrad.runs import lock
from gpgrad.runs.run_folder import Run, next_job, scan

LOCK = ".lane-"  # and the core, in the folder of runs
NICE = 19
_AUTOGROUP = "/proc/{}/autogroup"


@contextlib.contextmanager
def opened(root: Path) -> Iterator[int]:
    """A core that no other lane in this folder of runs has, for this process and those that it starts.

    Where the platform has it, the process is bound to the core. Raises SettingError if every core has a lane.
    """
    from gpgrad.training import seed_layout

    root.mkdir(parents=True, exist_ok=True)
    mine = seed_layout.cores()
    with contextlib.ExitStack() as stack:
        for core in reversed(mine):
            with contextlib.suppress(lock.Taken):
                stack.enter_context(lock.hold(root / f"{LOCK}{core}", "it"))
                break
        else:
            raise SettingError(
                f"each of {len(mine)} cores has a lane in {root} already; one must end before another begins"
            )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        try:
            os.nice(NICE)
            yield core
        finally:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, mine)


def lanes(root: Path) -> dict[int, int]:
    """The process of each lane at work, by its core."""
    found = {int(path.name.removeprefix(LOCK)): lock.holder(path) for path in root.glob(f"{LOCK}*")}
    return {core: pid for core, pid in sorted(found.items()) if pid is not None}


def work(file: Path, root: Path, results: Path, extra: Sequence[str], say: Say) -> list[str]:
    """Train what the queue lacks and keep the record of each run that finishes; a sentence for each run that failed.

    file: the queue, read again before every run. root: the folder of runs. results: where records are kept. extra:
    arguments of `gpgrad train` that change no number, for new runs. What others train is waited for. Raises
    SettingError for mistakes that are in the file from the start, Stopped on a signal, which the run at work gets, too,
    and saves.
    """
    failures: dict[tuple[str, int], str] = {}
    said: set[str] = set()

    def say_once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    units = queue_file.load(file)
    with Child() as child:
        while True:
            try:
                units = queue_file.load(file)
            except SettingError as error:  # somebody is editing it
                say_once(f"{error}; going on with the queue as it was")
            for sentence in dict.fromkeys(unit.obstacle for unit in units if unit.obstacle):
                say_once(f"{NOT_TESTABLE}: {sentence}")
            found, problems = known(root, results)
            for problem in problems:
                say_once(problem)
            keep_finished(units, found, root, results)
            left = [unit for unit in missing(units, found) if unit.key not in failures]
            if not left:
                return list(dict.fromkeys(failures.values()))
            if not _next(left, found, root, extra, child, failures, say):
                say_once("other processes train or begin everything that is left, waiting for them")
                child.sleep(scheduler.SECONDS_BETWEEN_LOOKS)


def known(root: Path, results: Path) -> tuple[list[Run], list[str]]:
    """The runs that count: those in the folder of runs, and finished ones that are kept beside the reports."""
    found, problems = archive.scan(root, results)
    return [run for run in found if run.finished or run.folder.parent == root], problems


def missing(units: Sequence[Unit], found: Sequence[Run]) -> list[Unit]:
    """The units that can be trained here and are not finished, each run once."""
    first = {unit.key: unit for unit in reversed(units)}
    left = [unit for unit in units if unit is first[unit.key] and not unit.obstacle]
    return [unit for unit in left if next_job(found, unit.setup.identity, unit.wanted)]


def keep_finished(units: Sequence[Unit], found: Sequence[Run], root: Path, results: Path) -> None:
    """Keep the records of finished runs of the queue that have none yet, also of those that a killed lane left."""
    wanted = {unit.key for unit in units}
    shelf = results / archive.RECORDS
    archive.keep(
        [
            run
            for run in found
            if run.folder.parent == root
            and any((run.identity, seed) in wanted for seed in run.seeds)
            and not (shelf / run.folder.name / "config.yaml").is_file()
        ],
        results,
    )


def _next(
    left: Sequence[Unit],
    found: Sequence[Run],
    root: Path,
    extra: Sequence[str],
    child: Child,
    failures: dict[tuple[str, int], str],
    say: Say,
) -> bool:
    """Train the first unit that nobody else trains; whether there was one."""
    claimed: set[str] = set()  # asked for only once, since asking takes a second where another process has it
    for unit in left:
        job = next_job(found, unit.setup.identity, unit.wanted)
        if job is None or job.action == "wait" or unit.setup.identity in claimed:
            continue
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(scheduler.claim_of(root, unit.setup))
            except lock.Taken:
                claimed.add(unit.setup.identity)
                continue
            job = next_job(scan(root)[0], unit.setup.identity, unit.wanted)  # it may have begun meanwhile
            if job is None or job.action == "wait":
                continue
            command = scheduler.command_of(job, unit.setup, root, extra)
            say(f"{unit.label}: {scheduler.shown(command)}")
            code = child.run(command, meanwhile=_until_held(unit, root, stack.close))
        if next_job(scan(root)[0], unit.setup.identity, unit.wanted):
            sentence = f"{unit.label}: {scheduler.complaint(job, code)}"
            failures.update({(unit.setup.identity, seed): sentence for seed in job.seeds})
            say(sentence)
        return True
    return False


def _until_held(unit: Unit, root: Path, give_back: Callable[[], None]) -> Callable[[int], bool]:
    """For `Child.run`: gives the claim back once the run has its own lock."""
    made_last: list[int] = []

    def meanwhile(process: int) -> bool:
        if not made_last:
            yield_in_session(process)
            made_last.append(process)
        job = next_job(scan(root)[0], unit.setup.identity, unit.wanted)
        if job is not None and job.action != "wait":
            return False
        give_back()
        return True

    return meanwhile


def yield_in_session(process: int) -> None:
    """Lower a process's session, too: Linux with autogroups shares cores between sessions and only then by niceness."""
    with contextlib.suppress(OSError):  # other systems, and kernels without autogroups
        Path(_AUTOGROUP.format(process)).write_text(f"{NICE}")
