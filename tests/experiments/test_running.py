"""An experiment trains exactly the missing runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gpgrad import __main__ as cli
from gpgrad.cli import experiment as experiments
from gpgrad.experiments import archive, definition
from gpgrad.jobs import scheduler
from gpgrad.runs import lock, run_folder
from gpgrad.runs.signals import Stopped
from gpgrad.training import train
from tests.helpers.fake_experiment import put, settings_of, silent


def test_an_experiment_does_what_is_missing_and_no_more(two, root, pretend):
    commands, _ = pretend
    put(root, "by_hand", settings_of(seed=1, seeds=1))
    put(root, "interrupted", settings_of("iql", seed=0, seeds=1), final=0)
    setups = definition.setups(two, "quick")
    assert scheduler.execute(setups, root, ["--log.wandb=disabled", "--seeds-mode=process"], silent) == []
    assert [command[3:5] for command in commands] == [
        ["train", "--env=matrix_additive"],
        ["train", "--resume"],
        ["train", "--env=matrix_additive"],
    ]
    assert {"--algo=vdn", "--seed=0", "--seeds=1", "--log.wandb=disabled", "--seeds-mode=process"} < set(commands[0])
    assert commands[1][5:] == [str(root / "interrupted")]
    assert {"--algo=iql", "--seed=1", "--seeds=1", "--t_max=2000"} < set(commands[2])
    assert scheduler.execute(setups, root, [], silent) == []
    assert scheduler.execute(definition.setups(two, "paper"), root, [], silent) == []
    assert [command[-4:-2] for command in commands[3:]] == [["--seeds=3", "--seed=2"]] * 2


def test_recorded_runs_are_not_trained_again(two, root, pretend, tmp_path, monkeypatch):
    """Of an arm whose seed 0 is kept as a record seed 1 is trained; the other arm is trained whole."""
    commands, _ = pretend
    results = tmp_path / "results"
    put(tmp_path / "elsewhere", "kept", settings_of(seed=0, seeds=1))
    archive.keep(run_folder.scan(tmp_path / "elsewhere")[0], results)
    monkeypatch.setattr(experiments, "_report", lambda *arguments: None)
    assert (
        cli.main(["experiment", "run", two.source, "--scale=quick", f"--log.dir={root}", f"--results={results}"]) == 0
    )
    trained = [{word for word in command if word.startswith(("--algo", "--seed"))} for command in commands]
    assert trained == [{"--algo=vdn", "--seeds=1", "--seed=1"}, {"--algo=iql", "--seeds=2", "--seed=0"}]


def test_a_failing_run_costs_its_arm_alone(two, root, pretend):
    commands, end = pretend
    end.broken = True
    backwards = definition.setups(two, "quick")[::-1]
    (failure,) = scheduler.execute(backwards, root, [], silent)
    assert failure.startswith("IQL: the run of seeds 0 to 1 ended with signal SIGKILL and is not finished")
    assert [command[5] for command in commands] == ["--algo=iql", "--algo=vdn"]
    end.broken = False
    assert scheduler.execute(backwards, root, [], silent) == []


def test_two_experiments_never_start_the_same_run(two, root, pretend, monkeypatch):
    commands, _ = pretend
    vdn, _ = setups = definition.setups(two, "quick")
    held = lock.hold(root / f".claim-{vdn.identity}", "it")
    held.__enter__()
    heard: list[str] = []

    def other_ends(self, seconds):
        assert [command[5] for command in commands] == ["--algo=iql"]
        held.__exit__(None, None, None)

    monkeypatch.setattr(scheduler.Child, "sleep", other_ends)
    assert scheduler.execute(setups, root, [], heard.append) == []
    assert "VDN: another process has claimed it, waiting for that" in heard
    assert [command[5] for command in commands] == ["--algo=iql", "--algo=vdn"]


def test_seeds_that_run_elsewhere_are_waited_for(two, root, pretend, monkeypatch):
    commands, _ = pretend
    folder = put(root, "elsewhere", settings_of(seed=1, seeds=1), final=0)
    held = train.hold(folder)
    held.__enter__()
    heard: list[str] = []

    def other_ends(self, seconds):
        (folder / "final.jsonl").write_text('{"seed": 1, "test_return": 1.0}\n')
        held.__exit__(None, None, None)

    monkeypatch.setattr(scheduler.Child, "sleep", other_ends)
    assert scheduler.execute(definition.setups(two, "quick"), root, [], heard.append) == []
    assert f"VDN: process {os.getpid()} trains seed 1, waiting for it" in heard
    assert [command[5] for command in commands] == ["--algo=vdn", "--algo=iql"]


def test_signals_reach_the_run_once(tmp_path):
    seen, up = tmp_path / "seen", tmp_path / "up"
    run = f"""
import signal, time
signal.signal(signal.SIGTERM, lambda *_: open({str(seen)!r}, "a").write("x"))
open({str(up)!r}, "w")
time.sleep(3)
"""
    send = f"""
import os, time
while not os.path.exists({str(up)!r}):
    time.sleep(0.05)
os.kill({os.getpid()}, {int(signal.SIGTERM)})
"""
    before = signal.getsignal(signal.SIGTERM)
    with scheduler.Child() as child, lock.hold(tmp_path / "claim", "it") as claim:
        sender = subprocess.Popen([sys.executable, "-c", send])
        with pytest.raises(Stopped, match="SIGTERM ended it"):
            child.run([sys.executable, "-c", run], claim)
        sender.wait()
        with pytest.raises(Stopped):
            child.sleep(60)
    assert seen.read_text() == "x"
    assert signal.getsignal(signal.SIGTERM) is before
