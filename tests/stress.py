"""Real processes killed at random moments, many times: `python -m tests.stress KIND [RUNS] [FOLDER]`.

Every interrupted run is continued until it ends, and must leave the bytes of `metrics.jsonl` and `final.jsonl` and
every array of the team that an uninterrupted run leaves. Kinds: SIGKILL, SIGTERM, SIGINT; truncate (killed, and the
newest checkpoint cut at a random byte); disk (FOLDER, on a small file system, is filled at a random moment).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from gpgrad import config
from gpgrad.learning.program import make_program
from gpgrad.runs import logs
from gpgrad.training import checkpoint
from tests.helpers.tiny_runs import tiny

KINDS = ("SIGKILL", "SIGTERM", "SIGINT", "truncate", "disk")
MOST = 3  # interruptions of a run
RUN = {"seeds": 2, "t_max": 12_000, "evaluation__every_episodes": 200, "checkpoint__every_minutes": 0.002}


def launch(arguments: list[str]) -> subprocess.Popen[bytes]:
    """A training process."""
    command = [sys.executable, "-m", "gpgrad", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def begin(folder: Path) -> list[str]:
    """Arguments of a new run."""
    settings = tiny(log__dir=str(folder), log__name="run", seeds_mode="vmap", **RUN)
    values = {key: value for key, value in config.flat(settings).items() if key not in ("env", "algo")}
    return ["--env", settings.env.name, "--algo", settings.algo, *(f"--{k}={v}" for k, v in values.items())]


def ended(run: Path) -> bool:
    """Whether a run has all its final rows."""
    return len(logs.read_rows(run / "final.jsonl")) == RUN["seeds"]


def cut_newest(run: Path, chance: random.Random) -> None:
    """Truncate a random file of the newest checkpoint at a random byte, unless it is the only one."""
    places = checkpoint.found(run)
    if len(places) > 1:
        file = chance.choice([path for path in sorted(places[0].rglob("*")) if path.is_file()])
        os.truncate(file, chance.randrange(max(file.stat().st_size, 1)))


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    place = folder / "filler"
    with place.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    return place


def disturb(kind: str, folder: Path, process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """One interruption of a process, of the kind."""
    if kind == "disk":
        filler = fill(folder)
        time.sleep(chance.uniform(0.2, 3))
        filler.unlink()
        return
    process.send_signal(signal.SIGKILL if kind == "truncate" else signal.Signals[kind])
    process.wait()
    if kind == "truncate":
        cut_newest(folder / "run", chance)


def survive(kind: str, folder: Path, seconds: float, chance: random.Random) -> tuple[int, int]:
    """A run with interruptions, to its end; how many there were, and how many processes it took."""
    run, interruptions, processes = folder / "run", 0, 0
    while not ended(run):
        whole = (run / "config.yaml").is_file()
        process = launch(["--resume", str(run)] if whole else begin(folder))
        processes += 1
        if interruptions < MOST:
            try:
                process.wait(chance.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                disturb(kind, folder, process, chance)
                interruptions += 1
        process.wait()
        if run.is_dir() and not (run / "config.yaml").is_file():
            subprocess.run(["rm", "-r", str(run)], check=True)  # killed before it was a run
    return interruptions, processes


def team(run: Path) -> list[np.ndarray]:
    """Every array of a finished run's team."""
    program = make_program(config.parse(run / "config.yaml"))
    loaded = checkpoint.load_team(run, program, RUN["seeds"])
    return [
        np.asarray(jax.random.key_data(x) if x.dtype.name.startswith("key") else x) for x in jax.tree.leaves(loaded)
    ]


def main(kind: str, runs: int = 20, where: str | None = None) -> None:
    """Interrupt that many runs and hold each against one that nobody touched."""
    chance = random.Random(0)
    done = 0
    straight = Path(tempfile.mkdtemp())
    for _ in range(2):  # the second with compiled programs at hand, for its time
        subprocess.run(["rm", "-rf", str(straight / "run")], check=True)
        began = time.monotonic()
        assert launch(begin(straight)).wait() == 0
        seconds = time.monotonic() - began
    total = [0, 0]
    while done < runs:
        with tempfile.TemporaryDirectory(dir=where) as name:
            counts = survive(kind, Path(name), 0.9 * seconds, chance)
            for file in ("metrics.jsonl", "final.jsonl"):
                assert (Path(name) / "run" / file).read_bytes() == (straight / "run" / file).read_bytes(), (name, file)
            for a, b in zip(team(Path(name) / "run"), team(straight / "run"), strict=True):
                np.testing.assert_array_equal(a, b)
        done += counts[0] > 0  # the others were over before their moment came
        total = [a + b for a, b in zip(total, counts, strict=True)]
        print(f"{kind} {done}: {counts[0]} interruptions, {counts[1]} processes, equal", flush=True)
    print(f"{kind}: {runs} runs, {total[0]} interruptions, {total[1]} processes, all equal", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]), *sys.argv[3:4])
