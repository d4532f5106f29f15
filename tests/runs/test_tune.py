"""Tuning: the file, the study that goes on where it stopped, pruning at tests, seeds apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.jobs import search_space, tune
from gpgrad.jobs.tune import Outcome
from gpgrad.runs.signals import Stopped

FILE = {
    "worlds": ["matrix_gpvd"],
    "algorithms": ["vdn"],
    "overrides": {"t_max": 2000, "evaluation.every_steps": 1000},
    "search": {
        "learner.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "learner.target_every_episodes": {"low": 50, "high": 200, "step": 50},
        "learner.gamma": [0.9, 0.99],
    },
    "trials": 9,
    "tuning_seeds": 2,
}


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(FILE))
    return file


class Fake:
    """Trains nothing: a point's result is best at a learning rate of 1e-3, at every test."""

    def __init__(self, stop_at: int | None = None):
        self.points: list = []
        self.stop_at = stop_at

    def __call__(self, point, report):
        if len(self.points) == self.stop_at:
            raise Stopped("SIGTERM ended it")
        self.points.append(point)
        value = -abs(point.options["learner.lr"] - 1e-3)
        for test in range(4):
            if report(value, test):
                return Outcome(None)
        return Outcome(value)


def test_a_study_goes_on_where_it_stopped_and_prunes(path, tmp_path):
    tuning, database, said = search_space.load(path), tmp_path / "runs" / "mine.tuning.db", []
    first = Fake(stop_at=4)
    with pytest.raises(Stopped):
        tune.execute(tuning, database, first, said.append)
    found = tune.studies(tuning, database)["matrix_gpvd", "vdn"]
    lost = found.get_trials()[4].params
    second = Fake()
    tune.execute(tuning, database, second, said.append)
    assert len(first.points) + len(second.points) == 9
    assert second.points[0].varied == lost  # whose run is resumed, since its identity is the same
    assert {point.seeds for point in (*first.points, *second.points)} == {range(1000, 1002)}
    (row,) = tune.report(tuning, tune.studies(tuning, database))
    assert sum(row["trials"].values()) == 9
    assert row["trials"]["pruned"] > 0
    assert len({round(p.options["learner.lr"], 9) for p in (*first.points, *second.points)}) == 9
    best = max((p for p in (*first.points, *second.points)), key=lambda p: -abs(p.options["learner.lr"] - 1e-3))
    assert row["chosen"] == best.options
    words = tune.command(tuning, row)
    assert "--seeds=5 --seed=0" in words
    assert f"--learner.lr={best.options['learner.lr']}" in words
    tune.execute(tuning, database, Fake(stop_at=0), said.append)  # nothing is left
    with pytest.raises(SettingError, match="has trials of other settings, seeds or another search space"):
        tune.studies(tuning._replace(common={}), database)


def test_a_point_that_cannot_be_is_a_failed_trial(path, tmp_path):
    tuning, said = search_space.load(path)._replace(trials=2, space={"learner.gamma": (2.0,)}), []
    tune.execute(tuning, tmp_path / "a.db", Fake(), said.append)
    (row,) = tune.report(tuning, tune.studies(tuning, tmp_path / "a.db"))
    assert row["trials"] == {"complete": 0, "pruned": 0, "fail": 2}
    assert row["chosen"] is None
    assert "  failed: learner.gamma must be between 0 and 1 (got 2.0)" in said


class Child:
    """A process that writes the rows of a run: seeds in turn, test by test."""

    def __init__(self, folder: Path, finals: bool = True):
        self.root, self.finals, self.commands = folder, finals, []

    def run(self, command, descriptor, meanwhile):
        from gpgrad.cli.arguments import options

        given = options(command[4:])
        name, env, algo = (given.pop(key) for key in ("log.name", "env", "algo"))
        folder = self.root / name
        folder.mkdir()
        (folder / "config.yaml").write_text(config.dump(config.load(env, algo, given)))
        self.commands.append(given)
        for test in range(3):
            for seed in (1000, 1001):
                with (folder / "metrics.jsonl").open("a") as file:
                    row = {"seed": seed, "env_steps": 1000 * test, "test_return": test + seed - 1000.0}
                    file.write(json.dumps(row) + "\n")
                if meanwhile(-1):
                    return -15
        final = [{"seed": seed, "test_return": seed - 990.0} for seed in (1000, 1001)]
        (folder / "final.jsonl").write_text("".join(json.dumps(row) + "\n" for row in final))
        return 0


def test_runs_report_means_over_seeds_once_per_test_and_are_used_again(path, tmp_path):
    tuning, root = search_space.load(path), tmp_path / "runs"
    point = tune.point_of(tuning, "matrix_gpvd", "vdn", {"learner.lr": 1e-3})
    child, seen = Child(root), []
    runs = tune.Runs(root, ["--log.wandb=disabled"], "test_return", child)  # type: ignore[arg-type]
    report = lambda value, test: seen.append((test, value)) or False
    assert runs(point, report) == Outcome(10.5)
    assert seen == [(0, 0.5), (1, 1.5), (2, 2.5)]
    assert child.commands[0]["log.wandb"] == "disabled"
    assert (child.commands[0]["seed"], child.commands[0]["seeds"]) == ("1000", "2")
    assert runs(point, report) == Outcome(10.5)
    assert len(child.commands) == 1


def test_a_pruned_run_is_asked_to_save_and_end(path, tmp_path, monkeypatch):
    tuning, sent = search_space.load(path), []
    monkeypatch.setattr("os.kill", lambda process, number: sent.append((process, number.name)))
    point = tune.point_of(tuning, "matrix_gpvd", "vdn", {"learner.lr": 1e-3})
    runs = tune.Runs(tmp_path / "runs", [], "test_return", Child(tmp_path / "runs"))  # type: ignore[arg-type]
    assert runs(point, lambda value, test: test == 1) == Outcome(None)
    assert sent == [(-1, "SIGTERM")]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"first_tuning_seed": 4}, "must be others than those of tuning, but 4 is among both"),
        ({"search": {}}, "must have at least one setting"),
        ({"search": {"learner.lr": 1}}, "must be a list of values, or {low: ..., high: ...}"),
        ({"search": {"learner.lr": {"low": 1, "high": 1}}}, "must have low below high"),
        ({"search": {"learner.lr": {"low": 0, "high": 1, "log": True}}}, "must have low above 0"),
        ({"search": {"learner.lr": {"low": 0, "hgh": 1}}}, "has no high, which is needed"),
        ({"search": {"seed": [1, 2]}}, "cannot set 'seed'"),
        ({"trails": 3}, "unknown 'trails' in the tuning"),
        ({"goal": "max"}, "'max'; valid names are maximize, minimize"),
    ],
)
def test_mistakes_get_one_sentence(path, capsys, changes, sentence):
    path.write_text(yaml.safe_dump({**FILE, **changes}))
    assert cli.main(["tune", str(path)]) == 2
    assert sentence in capsys.readouterr().err


def test_the_report_of_a_study_is_written(path, tmp_path, capsys):
    path.write_text(yaml.safe_dump({**FILE, "trials": 2}))
    tune.execute(search_space.load(path), tmp_path / "runs" / "mine.tuning.db", Fake(), lambda line: None)
    assert cli.main(["tune", str(path), "--report", "--log.dir", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "to report it on other seeds: gpgrad train --env=matrix_gpvd --algo=vdn" in out
    (row,) = yaml.safe_load(path.with_suffix(".tuned.yaml").read_text())
    assert len(row["tries"]) == 2
    assert row["tuning_seeds"] == [1000, 1001]
    assert cli.main(["tune", str(path), "--report", "--log.dir", str(tmp_path / "elsewhere")]) == 2
    assert "run gpgrad tune" in capsys.readouterr().err


def test_the_arguments_of_wandbs_agent_are_accepted(monkeypatch):
    shown: list = []
    monkeypatch.setattr("gpgrad.cli.train.show_settings", lambda settings: shown.append(settings) or 0)
    given = ["--env=pp_small", "--learner.lr=0.001", "--learner.double_q=False", "--agent.agent_id=None", "--seeds=2"]
    assert cli.main(["train", *given, "--algo=gradps", "--sharing.k=3", "--help"]) == 0
    (made,) = shown
    assert (made.env.name, made.learner.lr, made.learner.double_q, made.seeds) == ("pp_small", 0.001, False, 2)
    assert made.sharing.options["k"] == 3
