"""Two processes on one computer train the seeds of one run together."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.learning import multiprocess
from gpgrad.training import checkpoint, train

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "agent.hidden": 8,
    "learner.batch_episodes": 4,
    "replay.capacity": 64,
    "evaluation.episodes": 2,
    "evaluation.final_episodes": 2,
    "evaluation.every_steps": 128,
    "t_max": 384,
    "checkpoint.every_minutes": 1e-9,
    "log.wandb": "disabled",
}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("localhost", 0))
        return held.getsockname()[1]


def start(*arguments: str) -> list[subprocess.Popen[str]]:
    """Start two processes of a run. One core each, as on two computers."""
    command = [sys.executable, "-m", "gpgrad", *arguments, f"--coordinator=localhost:{free_port()}", "--processes=2"]
    flags = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", ""), "WANDB_MODE": "disabled"}
    return [
        subprocess.Popen(
            [*command, f"--process={index}"],
            cwd=ROOT,
            env={**os.environ, **flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]


def together(*arguments: str) -> list[str]:
    """Run two processes to their end; what each said."""
    begun = start("train", *arguments)
    try:
        said = [process.communicate(timeout=120)[0] for process in begun]
    finally:
        for process in begun:
            process.kill()
    for process, text in zip(begun, said, strict=True):
        assert process.returncode == 0, text
    return said


def alone(folder: Path, seed: int) -> Path:
    """One seed in this process."""
    changes = {"log.dir": str(folder), "log.name": f"seed{seed}", "seed": seed}
    settings = config.load("matrix_additive", "vdn", {**SETTINGS, **changes})
    return train.run(settings, say=lambda text: None).run_dir


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of two seeds, one of each process, and what the two said."""
    folder = tmp_path_factory.mktemp("runs")
    options = [f"--{name}={value}" for name, value in {**SETTINGS, "seeds": 2, "log.dir": folder}.items()]
    return folder / "both", together("--env=matrix_additive", "--algo=vdn", "--log.name=both", *options)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(both, tmp_path):
    run, said = both
    assert "on each of 2 processes" in said[0]
    assert "final test" in said[0]
    assert "final test" not in said[1]  # the second neither shows nor writes
    assert [path.name for path in run.parent.iterdir()] == ["both"]
    assert len(checkpoint.found(run)) == 2
    one_by_one = [alone(tmp_path, seed) for seed in (0, 1)]
    for name in ("metrics", "final"):
        expected = [(own / f"{name}.jsonl").read_text().splitlines() for own in one_by_one]
        lines = (run / f"{name}.jsonl").read_text().splitlines()
        assert lines == [line for test in zip(*expected, strict=True) for line in test]


@pytest.mark.slow
def test_two_processes_go_on_where_two_were_killed(both):
    run, _ = both
    before = {name: (run / f"{name}.jsonl").read_bytes() for name in ("metrics", "final")}
    (run / "final.jsonl").unlink()
    shutil.rmtree(run / "team")
    shutil.rmtree(checkpoint.found(run)[0])
    said = together(f"--resume={run}")
    assert "resuming" in said[0]
    assert {name: (run / f"{name}.jsonl").read_bytes() for name in before} == before
    assert (run / "team").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_where_one_is_lost_the_other_ends_at_once_and_says_so(tmp_path, lost):
    settings = {**SETTINGS, "t_max": 10**8, "seeds": 2, "log.dir": tmp_path}
    options = [f"--{name}={value}" for name, value in settings.items()]
    begun = start("train", "--env=matrix_additive", "--algo=vdn", "--log.name=both", *options)
    try:
        rows, give_up = tmp_path / "both" / "metrics.jsonl", time.monotonic() + 120
        while not (rows.exists() and rows.stat().st_size) and time.monotonic() < give_up:
            time.sleep(0.1)
        begun[lost].kill()
        said = begun[1 - lost].communicate(timeout=20)[0]  # long before it would be missed, after 100 seconds
    finally:
        for process in begun:
            process.kill()
    if lost == 0 and begun[1].returncode == -signal.SIGABRT:  # jax's own end for want of a coordinator can come first
        return
    assert begun[1 - lost].returncode == 1
    assert "gpgrad: another process was lost" in said
    assert "--resume" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--hosts", "many"], "--hosts only accepts auto"),
        (["--coordinator", "localhost:1", "--processes", "2"], "must be passed together"),
        (["--coordinator", "localhost:1", "--processes", "2", "--process", "2"], "--process must be between 0"),
    ],
)
def test_mistakes_get_one_sentence(capsys, monkeypatch, arguments, sentence):
    monkeypatch.setattr(multiprocess, "join", lambda *_: pytest.fail("joined"))
    assert cli.main(["train", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_single_process_agrees_with_itself():
    assert (multiprocess.agree(3), multiprocess.largest(4), multiprocess.at_first(lambda: 5, 6)) == (3, 4, 5)
    with pytest.raises(SettingError, match="mine"):
        multiprocess.at_first(lambda: (_ for _ in ()).throw(SettingError("mine")), 0)
