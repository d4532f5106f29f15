"""A lane: a process that trains the runs of the queue one at a time, on one core at the lowest priority.

Several lanes take different runs. A lane locks an arm only until the new run has its own lock, so that other commands
do not wait for the lane.
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
from gpgrad.runs.run_folder import RunFolder, scan
from gpgrad.runs.wanted_seeds import next_job

LOCK = ".lane-"  # followed by the core; in the folder of runs
NICE = 19
_AUTOGROUP = "/proc/{}/autogroup"


@contextlib.contextmanager
def opened(root: Path) -> Iterator[int]:
    """Reserve a core that no other lane with this folder of runs has, for this process and its children.

    Pins the process to the core where the platform supports it. Raises SettingError if every core has a lane.
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
    """The process ids of running lanes, by core."""
    found = {int(path.name.removeprefix(LOCK)): lock.holder(path) for path in root.glob(f"{LOCK}*")}
    return {core: pid for core, pid in sorted(found.items()) if pid is not None}


def work(file: Path, root: Path, results: Path, extra: Sequence[str], say: Say) -> list[str]:
    """Train the missing runs of the queue and record each finished run; return a sentence for each failed run.

    file: the queue, read again before every run. root: folder of runs. results: folder of records. extra: arguments of
    `gpgrad train` for new runs that change no number. Waits for runs that other processes train. Raises SettingError
    for mistakes in the file at the start, and Stopped on a signal, which is also sent to the current run so that it
    saves.
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
            except SettingError as error:  # it may be being edited
                say_once(f"{error}; continuing with the queue as it was")
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
                say_once("waiting for other processes, which train all remaining runs")
                child.sleep(scheduler.SECONDS_BETWEEN_LOOKS)


def known(root: Path, results: Path) -> tuple[list[RunFolder], list[str]]:
    """The runs in the folder of runs, and finished recorded runs. Also the problems met."""
    found, problems = archive.scan(root, results)
    return [run for run in found if run.finished or run.folder.parent == root], problems


def missing(units: Sequence[Unit], found: Sequence[RunFolder]) -> list[Unit]:
    """The units that can be trained here and are not finished; each run once."""
    first = {unit.key: unit for unit in reversed(units)}
    left = [unit for unit in units if unit is first[unit.key] and not unit.obstacle]
    return [unit for unit in left if next_job(found, unit.setup.identity, unit.wanted)]


def keep_finished(units: Sequence[Unit], found: Sequence[RunFolder], root: Path, results: Path) -> None:
    """Record finished runs of the queue that have no record yet, also those of killed lanes."""
    wanted = {unit.key for unit in units}
    records = results / archive.RECORDS
    archive.keep(
        [
            run
            for run in found
            if run.folder.parent == root
            and any((run.identity, seed) in wanted for seed in run.seeds)
            and not (records / run.folder.name / "config.yaml").is_file()
        ],
        results,
    )


def _next(
    left: Sequence[Unit],
    found: Sequence[RunFolder],
    root: Path,
    extra: Sequence[str],
    child: Child,
    failures: dict[tuple[str, int], str],
    say: Say,
) -> bool:
    """Train the first unit that no other process trains; return whether there was one."""
    claimed: set[str] = set()  # tried only once, since a taken claim costs a second
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
            job = next_job(
                scan(root)[0], unit.setup.identity, unit.wanted
            )  # another process may have started it meanwhile
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
    """For `Child.run`: release the claim once the run has its own lock."""
    lowered: list[int] = []

    def meanwhile(process: int) -> bool:
        if not lowered:
            yield_in_session(process)
            lowered.append(process)
        job = next_job(scan(root)[0], unit.setup.identity, unit.wanted)
        if job is not None and job.action != "wait":
            return False
        give_back()
        return True

    return meanwhile


def yield_in_session(process: int) -> None:
    """Lower the priority of the process's session: Linux autogroups divide cores by session before niceness."""
    with contextlib.suppress(OSError):  # other systems, or kernels without autogroups
        Path(_AUTOGROUP.format(process)).write_text(f"{NICE}")
