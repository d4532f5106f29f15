"""How the seeds of a run are trained: in one vmapped program, one after another, or in single-core processes.

Seeds that are trained separately are runs of their own in subfolders, with their own checkpoints; the run's files are
merged from theirs. The layouts give the same numbers up to the last bits of float products.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad import children
from gpgrad.config import flat, parse
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning.program import Program
from gpgrad.runs import divergence, lock, logs, signals
from gpgrad.runs.divergence import Diverged
from gpgrad.runs.run_folder import SEEDS
from gpgrad.runs.signals import Stopped
from gpgrad.training import checkpoint, ending, loop, recorder
from gpgrad.training.loop import Result
from gpgrad.training.memory_plan import Plan, show
from gpgrad.training.recorder import FILES

# A run with less of both than this is over before processes have started: bytes of an update, steps of all seeds.
SMALL_WORK, FEW_STEPS = 2**24, 20_000
Say = Callable[[str], None]


class Layout(NamedTuple):
    """A decision: the mode, how many seeds are alive at once, and why."""

    mode: str
    alive: int
    why: str

    def __str__(self) -> str:
        return f"seeds: {self.mode}, {self.alive} at once ({self.why})"


def decide(config: Config, needs: Plan, backend: str, n_devices: int, cores: int) -> Layout:
    """The requested layout, or with `auto` the one that suits the device and the memory that a seed needs."""
    n, one = config.seeds, needs.one
    room = max(1, min(n, int(needs.free // one)))
    parallel = min(n, cores)
    if config.seeds_mode == "process":
        if backend != "cpu":
            raise SettingError(f"seeds_mode must be vmap or sequential on a {backend} (got 'process')")
        return Layout("process", parallel, "as asked")
    if config.seeds_mode != "auto":
        return Layout(config.seeds_mode, n if config.seeds_mode == "vmap" else 1, "as asked")
    work = f"an update of one seed works on {show(needs.work)}"
    if n == 1:
        return Layout("vmap", 1, "a single seed")
    long = needs.work > SMALL_WORK or n * config.t_max >= FEW_STEPS
    if backend == "cpu" and n_devices == 1 and long and cores > 1:
        if room >= 2:
            return Layout("process", min(parallel, room), f"{work}, on a CPU a core each is fastest")
        return Layout("sequential", 1, f"a seed needs {show(one)} of {show(needs.free)}")
    if room < n:
        return Layout("sequential", 1, f"{n} seeds of {show(one)} do not fit {show(needs.free)}")
    return Layout("vmap", n, work)


def divide_cpu(config: Config) -> None:
    """Have JAX divide the CPU into `config.devices` devices, at most one for each core.

    Without effect once JAX is in use, or where XLA_FLAGS sets their number; other kinds of devices are not touched.
    """
    wanted = min(config.devices or 1, len(cores()))
    if wanted > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # too late; what needs more devices than there are is refused
            jax.config.update("jax_num_cpu_devices", wanted)


def cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def train_separately(config: Config, program: Program, layout: Layout, folder: Path, say: Say) -> Result:
    """Train each seed in a folder of its own, from its newest checkpoint; `program` is that of a single seed."""
    parts = prepare(config, folder)
    todo = {seed: part for seed, part in parts.items() if not is_over(config, part)}
    for seed, part in todo.items():
        wait_for(seed, part, say)
    try:
        if layout.mode == "process":
            processes(folder, todo, layout.alive, say)
        else:
            for seed, part in todo.items():
                say(f"seed {seed}:")
                with contextlib.suppress(Diverged):  # reported below, for all seeds together
                    loop.finish(single(config, folder, seed), program, part, say)
    finally:
        merge(folder, parts)
    with signals.undisturbed(f"the run in {folder}"):
        teams = [checkpoint.load_team(part, program, 1) for part in parts.values()]
        team = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *teams)
        checkpoint.save_team(folder, team)
    rows, final, lost = (logs.read_rows(folder / f"{name}.jsonl") for name in ("metrics", "final", divergence.NAME))
    if config.learner.stop_on_nan and lost:
        raise Diverged(divergence.sentence(lost, folder))
    return Result(rows, final, folder, jax.tree.map(np.array, team.params))


def is_over(config: Config, part: Path) -> bool:
    """Whether a single seed's run is finished."""
    final = logs.read_rows(part / "final.jsonl")
    return divergence.is_over({**flat(config), "seeds": 1}, final, divergence.seeds(part))


def wait_for(seed: int, part: Path, say: Say) -> None:
    """Wait for a process that still trains the seed; one whose parent was killed ends by itself."""
    announced = False
    while (holder := lock.holder(part / lock.NAME)) is not None:
        if not announced:
            say(f"waiting for process {holder}, which still trains seed {seed}")
        announced = True
        time.sleep(0.2)


def single(config: Config, folder: Path, seed: int) -> Config:
    """The settings of one seed's run."""
    log = dataclasses.replace(config.log, dir=str(folder / SEEDS), name=str(seed))
    return dataclasses.replace(config, seeds=1, seed=seed, seeds_mode="vmap", devices=1, shard="seeds", log=log)


def prepare(config: Config, folder: Path) -> dict[int, Path]:
    """The folders of all seeds, made where they are missing."""
    parts = {seed: folder / SEEDS / str(seed) for seed in range(config.seed, config.seed + config.seeds)}
    for seed, part in parts.items():
        part.mkdir(parents=True, exist_ok=True)
        if not (part / "config.yaml").is_file():
            recorder.describe_run(single(config, folder, seed), part, logs.read_manifest(folder).get("source"))
    return parts


def merge(folder: Path, parts: dict[int, Path]) -> None:
    """Write the run's rows from those of its seeds, test by test, each file at once."""
    for name in FILES:
        streams = {seed: logs.read_rows(part / f"{name}.jsonl") for seed, part in parts.items()}
        rows = [(i, seed, {"seed": seed, **row}) for seed, own in streams.items() for i, row in enumerate(own)]
        text = "".join(json.dumps(row) + "\n" for *_, row in sorted(rows, key=lambda item: item[:2]))
        draft = folder / f"{name}.draft"
        draft.write_text(text)
        draft.replace(folder / f"{name}.jsonl")


class Worker(NamedTuple):
    """The process of a core, and the thread that repeats what it says."""

    process: subprocess.Popen[str]
    reader: threading.Thread


def processes(folder: Path, todo: dict[int, Path], alive: int, say: Say) -> None:
    """Train seeds in `alive` processes, each bound to a core of its own, with an equal share of the seeds.

    A seed that fails does not stop the others; at the end ChildProcessError tells which did and what they said last.
    On SIGINT or SIGTERM all get SIGTERM, save and end, then Stopped is raised; a second SIGINT kills them at once.
    """
    parts, said = list(todo.values()), dict.fromkeys(todo, "")
    running: list[Worker] = []
    caught: list[int] = []

    def repeat(line: str) -> None:
        seed = line.removeprefix("seed ").partition(":")[0]
        if seed.isdigit():
            said[int(seed)] = line
        say(line)

    def pass_on(number: int) -> None:
        at_once = bool(caught) and number == signal.SIGINT
        caught.append(number)
        for worker in running:
            worker.process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)

    try:
        with signals.handled(pass_on):
            for i, core in enumerate(cores()[:alive]):
                if not caught:
                    running.append(_launch(parts[i::alive], core, repeat))
            for worker in running:
                worker.process.wait()
                worker.reader.join()
    finally:
        for worker in running:
            worker.process.kill()
    if caught:
        raise Stopped(f"{signals.name_of(caught[0])} ended the run; continue with: {ending.to_resume(folder)}")
    config = parse(folder / "config.yaml")
    failed = [seed for seed, part in todo.items() if not is_over(config, part)]
    if failed:
        words = "; ".join(said[seed] or f"seed {seed}: no output" for seed in failed)
        raise ChildProcessError(f"{len(failed)} of {len(todo)} seeds in {folder} failed: {words}")


def _launch(share: list[Path], core: int, repeat: Say) -> Worker:
    # A session of its own: the terminal's Ctrl-C reaches this process alone, which passes it on once.
    process = subprocess.Popen(
        [sys.executable, "-m", "gpgrad.training.seed_worker", *map(str, share)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=children.environment(**{ending.PARENT: str(os.getpid())}),
    )
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ProcessLookupError):  # it may have ended already
            os.sched_setaffinity(process.pid, {core})

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            repeat(line.rstrip())

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    return Worker(process, reader)
