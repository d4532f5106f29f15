"""Loggers: what each writes, what a resumed run keeps, and that none but JSON lines can stop a run."""

from __future__ import annotations

import csv
import json
import time
import types
from pathlib import Path

import numpy as np
import pytest

from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.runs import logs
from gpgrad.runs.loggers import choose, sections, wandb_runs
from gpgrad.runs.loggers.csv_files import CsvLogger
from gpgrad.training import recorder
from tests.runs.test_mirror import records, values

SETTINGS = {"env": "e", "label": "a", "preset": "p"}
ROWS = [
    {"seed": seed, "env_steps": steps, "test_return": steps / 10 + seed, "loss": None, "futile": 5.0, "share_bonus": 1}
    for steps in (0, 10, 20)
    for seed in (0, 1)
]


def test_names_have_sections():
    expected = {
        "test_return": "test/return",
        "train_return": "train/return",
        "loss": "train/loss",
        "updates": "train/updates",
        "payoff_table_start": "test/payoff_table_start",
        "share_bonus": "gpvd/share_bonus",
        "bonus": "gpvd/bonus",
        "futile_1": "gradps/futile_1",
        "conflict_normalised": "gradps/conflict_normalised",
        "masked_by_all": "sharing/masked_by_all",
        "mine": "train/mine",
        "env_steps": "env_steps",
        "seed": "seed",
    }
    assert {name: sections.key(name) for name in expected} == expected
    assert sections.sectioned({"test_return": 1.0, "loss": None, "conflict": [[0, 1]]}) == {
        "test/return": 1.0,
        "gradps/conflict/0": 0,
        "gradps/conflict/1": 1,
    }
    assert sections.final({"seed": 3, "test_return": 1.0, "futile": 2.0}) == {"final/return": 1.0, "final/futile": 2.0}


def chosen(folder: Path, rows=(), **log):
    settings = config.load("matrix_gpvd", "vdn", {"seeds": 2, **{f"log.{name}": value for name, value in log.items()}})
    return choose.choose(settings, folder, folder, SETTINGS, rows)


def test_loggers_are_chosen_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    names = lambda **log: [logger.name for logger in chosen(tmp_path, **log)]
    assert names() == []
    assert names(to="jsonl") == []
    assert names(to="csv, tensorboard") == ["tensorboard", "csv"]
    monkeypatch.setattr(choose, "WandbLogger", lambda *args: None)
    assert names(wandb="offline") == ["wandb"]
    assert names(to="jsonl,csv", wandb="disabled") == ["csv"]


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ({"log.to": "jsonl,tensorbord"}, "log.to is 'tensorbord'; did you mean 'tensorboard'"),
        ({"log.to": "csv", "log.wandb": "offline"}, "but log.to has no wandb; must be --log.to csv,wandb"),
        ({"log.to": "tensorboard"}, r"tensorboardX is not installed: pip install 'gpgrad\[tensorboard\]'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_work(log, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=sentence):
        recorder.check_folder(config.load("matrix_gpvd", "vdn", {"log.dir": str(tmp_path), **log}))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_files_are_complete_after_new_columns_and_after_resuming(tmp_path):
    first = CsvLogger(tmp_path, [])
    for row in ROWS:
        first.write(row)
    first.write({**ROWS[-1], "env_steps": 30, "late": [1, [2]]})
    rows = table(tmp_path / "csv" / "seed1.csv")
    assert [row["env_steps"] for row in rows] == ["0", "10", "20", "30"]
    assert [row["late/1"] for row in rows] == ["", "", "", "2"]
    assert rows[1]["test_return"] == "2.0"
    assert rows[1]["loss"] == ""
    again = CsvLogger(tmp_path, ROWS[:4])  # the checkpoint was before the last tests
    assert [row["env_steps"] for row in table(tmp_path / "csv" / "seed1.csv")] == ["0", "10"]
    again.write(ROWS[5])
    again.final({"seed": 1, "test_return": 7.0})
    assert [row["env_steps"] for row in table(tmp_path / "csv" / "seed1.csv")] == ["0", "10", "20"]
    assert table(tmp_path / "csv" / "seed1_final.csv") == [{"seed": "1", "test_return": "7.0"}]


def events(folder: Path) -> list:
    """All events of a folder, file by file."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:
            size = int(np.frombuffer(data[:8], "<u8")[0])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_tensorboard_has_a_run_per_seed_and_hides_what_a_resumed_run_writes_again(tmp_path, monkeypatch):
    (logger,) = chosen(tmp_path, to="tensorboard")
    for row in ROWS:
        logger.write(row)
    logger.final({"seed": 1, "test_return": 9.0, "loss": None})
    logger.close()
    assert logger.problem is None
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in events(tmp_path / "tensorboard" / "seed1")
        for value in event.summary.value
    }
    assert scalars[("test/return", 10)] == 2.0
    assert scalars[("final/return", 20)] == 9.0
    assert {name for name, _ in scalars} == {"test/return", "gradps/futile", "gpvd/share_bonus", "final/return"}
    (again,) = chosen(tmp_path, ROWS[:4], to="tensorboard")
    again.write(ROWS[5])
    again.close()
    starts = [event.step for event in events(tmp_path / "tensorboard" / "seed1") if event.HasField("session_log")]
    assert starts == [11]


def test_an_offline_run_that_is_resumed_has_all_rows_in_its_last_folder(tmp_path, monkeypatch):
    def part(folder: Path, rows, earlier):
        settings = config.load("matrix_gpvd", "vdn", {"log.wandb": "offline"})
        (logger,) = choose.choose(settings, tmp_path, folder, SETTINGS, earlier)
        for row in rows:
            logger.write(row)
        logger.close()
        assert logger.problem is None
        (file,) = folder.glob("wandb/offline-run-*/*.wandb")
        deadline = time.monotonic() + 30  # wandb's own process writes the file, and may be behind
        while not any(record.HasField("exit") for record in records(file)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        told = [values(r.history.item) for r in records(file) if r.HasField("history")]
        return [(row["env_steps"], row["test/return"]) for row in told]

    own = [row for row in ROWS if row["seed"] == 0]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = part(tmp_path / "first", own[:2], [])
    assert part(tmp_path / "second", own[2:], own[:2]) == [*first, (20, 2.0)]


def test_the_agent_of_a_wandb_sweep_finds_its_run(tmp_path, monkeypatch):
    import wandb

    ids = []
    quiet = types.SimpleNamespace(define_metric=lambda *a, **k: None, finish=lambda: None)
    monkeypatch.setattr(wandb, "init", lambda **kwargs: ids.append(kwargs["id"]) or quiet)
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    make = lambda: wandb_runs.WandbLogger("online", "gpgrad", tmp_path / "mine", [3, 4], SETTINGS, tmp_path)
    make()
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    make()
    assert ids == ["mine-3", "mine-4", "given", "mine-4"]


@pytest.mark.parametrize("where", ["init", "log"])
def test_a_logger_that_fails_is_turned_off_and_named(tmp_path, monkeypatch, where):
    import wandb

    def fail(*args, **kwargs):
        raise RuntimeError("no space left")

    good = types.SimpleNamespace(log=fail, finish=lambda: None, define_metric=lambda *args, **kwargs: None)
    monkeypatch.setattr(wandb, "init", fail if where == "init" else lambda **kwargs: good)
    settings = config.load(
        "matrix_gpvd", "vdn", {"log.dir": str(tmp_path), "log.to": "wandb,csv", "log.wandb": "offline"}
    )
    said: list[str] = []
    with recorder.Recorder(settings, tmp_path, said.append, {}) as writing:
        for row in ROWS[::2]:
            writing.write([{**row, "iterations": 0, "updates": 0, "epsilon": 1.0}], np.array([True]))
    assert [line for line in said if "wandb is off" in line] == [
        "wandb is off for the rest of this run: RuntimeError: no space left"
    ]
    assert len(logs.read_rows(tmp_path / "metrics.jsonl")) == len(table(tmp_path / "csv" / "seed0.csv")) == 3
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])["test_return"] == 1.0
