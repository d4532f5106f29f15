"""A killed experiment can be continued, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gpgrad import config
from gpgrad.experiments import __main__ as cli
from gpgrad.jobs import scheduler
from gpgrad.runs import lock, logs, run_folder
from gpgrad.training import train
from tests.helpers.fake_experiment import SMALL, TWO, silent, written

ROOT = Path(__file__).parents[2]


def wait_until(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the experiment ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_experiment_ends_with_the_same_numbers(tmp_path, monkeypatch):
    """Killed with its run, stopped by SIGTERM, its run killed under it: in the end as if it had never been."""
    overrides = {**SMALL, "t_max": 6000}
    content = {**TWO, "arms": TWO["arms"][:1], "overrides": overrides, "scales": {"quick": {"seeds": 2}}}
    root = tmp_path / "runs"
    command = [sys.executable, "-m", "gpgrad", "experiment", "run", written(tmp_path, content), "--log.dir", str(root)]
    command += ["--results", str(tmp_path / "results"), "--log.wandb=disabled", "--checkpoint.every_minutes=1e-9"]

    def begin() -> tuple[subprocess.Popen, int]:
        """Start it, and wait for a new checkpoint of its run; gives also the run's process."""
        old = newest()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_until(lambda: newest() > old and holder(), process)
        return process, holder() or 0

    def holder() -> int | None:
        return next(iter(filter(None, map(lock.holder, root.glob("*/lock")))), None)

    def newest() -> str:
        return max((path.name for path in root.glob("*/checkpoints/*-*[0-9]")), default="")

    killed, orphan = begin()
    killed.kill()
    os.kill(orphan, signal.SIGKILL)
    killed.communicate()

    stopped, _ = begin()
    stopped.terminate()
    said = stopped.communicate(timeout=60)[0]
    assert stopped.returncode == 130
    assert "SIGTERM ended the run; continue with" in said
    assert "gpgrad: SIGTERM ended it; the same command goes on" in said

    crashing, victim = begin()
    os.kill(victim, signal.SIGKILL)
    said = crashing.communicate(timeout=60)[0]
    assert crashing.returncode == 1
    assert "VDN: the run of seeds 0 to 1 ended with signal SIGKILL" in said

    last = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    (run,) = run_folder.scan(root)[0]
    assert run.finished
    whole = train.run(
        config.load(
            "matrix_additive",
            "vdn",
            {**overrides, "seeds": 2, "log.dir": str(tmp_path / "whole"), "log.wandb": "disabled"},
        ),
        say=silent,
    )
    assert (run.folder / "metrics.jsonl").read_bytes() == (whole.run_dir / "metrics.jsonl").read_bytes()
    assert logs.read_rows(run.folder / "final.jsonl") == whole.final
    summary = json.loads((tmp_path / "results" / "mine-quick" / "summary.json").read_text())
    assert summary["arms"][0]["final"]["mean"] == np.mean([row["test_return"] for row in whole.final])
    monkeypatch.setattr(scheduler.Child, "run", lambda *_: pytest.fail("training began again"))
    assert cli.main(command[3:]) == 0
