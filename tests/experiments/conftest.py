"""An experiment of two arms, its folder of runs, and runs that end at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpgrad import config
from gpgrad.experiments import definition
from gpgrad.jobs import scheduler
from gpgrad.runs import logs
from tests.helpers.fake_experiment import TWO, put, written


@pytest.fixture
def two(tmp_path):
    return definition.load(written(tmp_path, TWO))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def pretend(monkeypatch, root):
    """Runs end at once and as told; returns the commands that were given."""
    commands: list[list[str]] = []

    def end(self, command, descriptor=None, meanwhile=None):
        commands.append(command)
        assert (descriptor is None) != (meanwhile is None)
        if descriptor is not None:
            os.fstat(descriptor)
        if "--resume" in command:
            folder = Path(command[command.index("--resume") + 1])
            rows = logs.read_rows(folder / "metrics.jsonl")
            final = [{"seed": seed, "test_return": 1.0} for seed in sorted({row["seed"] for row in rows})]
            (folder / "final.jsonl").write_text("".join(json.dumps(row) + "\n" for row in final))
            return 0
        given = dict(token[2:].split("=", 1) for token in command[4:] if "=" in token)
        if given["algo"] == "iql" and end.broken:
            return -9
        algo = given.pop("algo")
        given = {key: value for key, value in given.items() if key not in ("env", "seeds-mode")}
        put(root, f"run{len(commands)}", config.load("matrix_additive", algo, given))
        return 0

    end.broken = False
    monkeypatch.setattr(scheduler.Child, "run", end)
    commands_and_switch = (commands, end)
    return commands_and_switch
