"""The state of an experiment's runs, and the runs still to train."""

from __future__ import annotations

import os

import pytest

from gpgrad import config
from gpgrad.runs import run_folder, wanted_seeds
from gpgrad.training import train
from tests.helpers.fake_experiment import job, put, settings_of


def test_finished_seeds_are_never_repeated(root):
    settings = settings_of()
    assert job(root, settings, range(3)) == ("start", range(3), None)
    put(root, "by_hand", settings_of(seed=1, seeds=1))
    assert job(root, settings, range(1, 2)) is None
    assert job(root, settings, range(5)) == ("start", range(1), None)
    put(root, "another", settings_of(seed=0, seeds=1))
    assert job(root, settings, range(5)) == ("start", range(2, 5), None)
    put(root, "more_than_asked", settings_of(seed=2, seeds=9, **{"log.wandb": "disabled"}))
    assert job(root, settings, range(5)) is None


@pytest.mark.parametrize("changes", [{"t_max": 4000}, {"learner.lr": 1e-4}, {"env.w": 0.5}, {"sharing": "fups_id"}])
def test_other_settings_are_other_runs(root, changes):
    put(root, "other", settings_of(seeds=3, **changes))
    assert job(root, settings_of(), range(3)) == ("start", range(3), None)


def test_a_run_older_than_a_setting_counts(root):
    file = put(root, "old", settings_of(seeds=3)) / "config.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith(("learner.gamma", "checkpoint"))]
    file.write_text("\n".join(lines) + "\n")
    assert job(root, settings_of(), range(3)) is None


def test_interrupted_runs_go_on(root):
    put(root, "a", settings_of(seed=0, seeds=1), final=0)
    b = put(root, "b", settings_of(seed=1, seeds=2), final=1)  # killed between its final rows
    c = put(root, "c", settings_of(seed=1, seeds=2), final=0)
    assert job(root, settings_of(), range(3))[:2] == ("resume", range(1, 3))
    (c / "checkpoints" / "0000000009-000001").mkdir(parents=True)
    (b / "checkpoints" / "0000000010-000001.draft").mkdir(parents=True)
    assert job(root, settings_of(), range(3)) == ("resume", range(1, 3), "c")
    (b / "checkpoints" / "0000000010-000001").mkdir(parents=True)
    assert job(root, settings_of(), range(3)) == ("resume", range(1, 3), "b")
    assert job(root, settings_of(), range(1)) == ("resume", range(1), "a")
    assert job(root, settings_of(), range(7, 9)) == ("start", range(7, 9), None)


def test_what_another_process_trains_is_left_alone(root):
    settings = settings_of()
    folder = put(root, "elsewhere", settings_of(seed=1, seeds=1), final=0)
    with train.hold(folder):
        assert job(root, settings, range(3)) == ("start", range(1), None)
        assert job(root, settings, range(1, 2)) == ("wait", range(1, 2), "elsewhere")
        (line,) = wanted_seeds.overview(run_folder.scan(root)[0], config.identity(settings), [1])
        assert line.text == f"running, process {os.getpid()}, 2,000 of 2,000 steps in {folder}"
    assert job(root, settings, range(1, 2)) == ("resume", range(1, 2), "elsewhere")


def test_folders_that_hold_no_run_are_passed_over(root):
    (root / "killed_before_its_settings").mkdir()
    file = put(root, "broken", settings_of()) / "config.yaml"
    file.write_text("env: matrix_additive\n")
    (put(root, "damaged", settings_of()) / "final.jsonl").write_text("{]\n")
    found, problems = run_folder.scan(root)
    assert found == []
    assert len(problems) == 2
    for name, problem in zip(("broken", "damaged"), problems, strict=True):
        assert f"passing over {root / name}" in problem
    assert run_folder.scan(root / "nowhere") == ([], [])


def test_each_seed_comes_from_one_run(root):
    put(root, "a", settings_of(seed=0, seeds=2))
    put(root, "b", settings_of(seed=1, seeds=3), top=50.0)
    shares = wanted_seeds.finished(run_folder.scan(root)[0], config.identity(settings_of()), range(3))
    assert [(share.run.folder.name, share.seeds) for share in shares] == [("a", [0, 1]), ("b", [2])]
    assert [row["test_return"] for share in shares for row in share.final] == [10, 12, 54]
    assert {row["seed"] for row in shares[1].metrics} == {2}
