"""Runs on a cluster: a job of Slurm for each point of a sweep, through submitit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gpgrad.errors import SettingError
from gpgrad.jobs import scheduler
from gpgrad.jobs.scheduler import Task
from gpgrad.runs import signals

Cluster = Literal["slurm", "local"]
FOLDER = ".jobs"  # among the runs: submitit's scripts and logs
PLAIN = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "name")
SECONDS_BETWEEN_LOOKS = 1.0
MOST_TIMEOUTS = 10_000  # a job's; each goes on where the one before stood


class ClusterJob:
    """Runs on a cluster node: trains the missing seeds of a task, as the local scheduler does.

    Slurm ends a job at its time limit or for a job of higher priority: submitit then queues it again, and it continues
    from its last checkpoint. A local job leaves the terminal's session: Ctrl-C reaches the waiting process alone.
    """

    def __init__(self, task: Task, root: Path, extra: Sequence[str], leaves: bool = False) -> None:
        self.task, self.root, self.extra, self.leaves = task, root, extra, leaves

    def __call__(self) -> list[str]:
        """Sentences on what failed."""
        if self.leaves:
            os.setsid()
        return scheduler.execute([self.task], self.root, self.extra, _say)

    def checkpoint(self, *_: Any) -> Any:
        """What submitit is to queue again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    tasks: Sequence[Task],
    root: Path,
    extra: Sequence[str],
    cluster: Cluster,
    parameters: Mapping[str, str],
    say: Callable[[str], None],
) -> list[str]:
    """A job for each task; waits for all and returns a sentence for each that failed.

    parameters: of jobs; `timeout_min`, `mem_gb`, `cpus_per_task`, `gpus_per_node` and so on, or what sbatch knows.
    local: processes of this computer instead, all at once. Interrupting the wait leaves the jobs to themselves.
    Raises SettingError without submitit and without Slurm.
    """
    executor = _executor(root.resolve(), cluster, parameters)
    with signals.ignored(signal.SIGINT), executor.batch():
        jobs = [executor.submit(ClusterJob(task, root.resolve(), extra, cluster == "local")) for task in tasks]
    for task, job in zip(tasks, jobs, strict=True):
        say(f"{task.label}: job {job.job_id}, {job.paths.stdout}")
    waiting, failures = dict(zip(jobs, tasks, strict=True)), []
    while waiting:
        for job in [job for job in waiting if job.done()]:
            task, error = waiting.pop(job), job.exception()
            sentences = [f"{task.label}: job {job.job_id} failed, see {job.paths.stderr}"] if error else job.result()
            failures += sentences
            say(f"{task.label}: " + ("failed" if sentences else "done"))
        if waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return failures


def _executor(root: Path, cluster: Cluster, parameters: Mapping[str, str]) -> Any:
    # Left to itself its import sets logging up anew, which closes the handlers, and the streams, of all others.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    try:
        import submitit
    except ImportError:
        raise SettingError("cluster jobs need submitit, which is not installed: pip install 'gpgrad[slurm]'") from None
    if cluster == "slurm" and submitit.SlurmExecutor.affinity() <= 0:
        raise SettingError("there is no Slurm here (no srun): use a login node, or --jobs local to try it")
    executor = submitit.AutoExecutor(folder=root / FOLDER, cluster=cluster, slurm_max_num_timeout=MOST_TIMEOUTS)
    for name in ("nodes", "tasks_per_node"):
        if parameters.get(name, "1") != "1":
            raise SettingError(
                f"--slurm.{name} must be 1, since a run is one task on one node (got {parameters[name]})"
            )
    given = {name if name in PLAIN else f"slurm_{name}": _typed(value) for name, value in parameters.items()}
    try:
        executor.update_parameters(**{"name": "gpgrad", "timeout_min": 24 * 60, **given})
    except (TypeError, NameError, ValueError, AssertionError) as error:
        raise SettingError(f"submitit refuses a parameter of --slurm: {' '.join(str(error).split())}") from None
    return executor


def _typed(value: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def _say(line: str) -> None:
    print(line, flush=True)
