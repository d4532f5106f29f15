"""Sweeps: declared strictly, resumed, one failing run costs itself alone; the same as jobs of a cluster."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.cli import COMMANDS
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.experiments import definition
from gpgrad.jobs import scheduler, slurm, sweep
from gpgrad.runs import run_folder, wanted_seeds

SMALL = {"agent.hidden": 8, "evaluation.final_episodes": 3, "evaluation.every_steps": 500, "t_max": 2000}
FOUR = {
    "worlds": ["matrix_additive"],
    "algorithms": ["vdn", "iql"],
    "overrides": SMALL,
    "grid": {"learner.lr": [0.001, 0.01]},
    "seeds": 2,
}
ROOT = Path(__file__).parents[2]


def written(folder: Path, content: dict) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def points_of(folder: Path, content: dict) -> list[sweep.Point]:
    return sweep.points(sweep.load(written(folder, content)))


def put(root: Path, settings: Config, value: float = 1.0) -> None:
    """A finished run, as training leaves it."""
    folder = root / f"{config.label(settings)}-{config.fingerprint(settings)}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump(settings))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    rows = [json.dumps({"seed": seed, "env_steps": 2000, "test_return": value + seed}) + "\n" for seed in seeds]
    for name in ("metrics", "final"):
        (folder / f"{name}.jsonl").write_text("".join(rows))


def settings_of(point: sweep.Point) -> Config:
    return config.load(point.env, point.algo, {**point.options, "seeds": len(point.seeds), "seed": point.seeds[0]})


def test_grids_are_crossed_and_lists_are_added(tmp_path):
    content = {**FOUR, "worlds": ["matrix_additive", "matrix_gpvd"], "preset": "pymarl", "first_seed": 4}
    content |= {"grid": {"learner.lr": [1, 2], "learner.gamma": [0.5, 0.9]}, "list": [{"learner.clip": 3}]}
    found = points_of(tmp_path, content)
    assert len(found) == 2 * 2 * (2 * 2 + 1)
    assert len({point.identity for point in found}) == len(found)
    first, last = found[0], found[-1]
    assert (first.env, first.algo, first.varied) == ("matrix_additive", "vdn", {"learner.lr": 1, "learner.gamma": 0.5})
    assert (last.env, last.algo, last.varied) == ("matrix_gpvd", "iql", {"learner.clip": 3})
    assert first.options == {"preset": "pymarl", **SMALL, "learner.lr": 1, "learner.gamma": 0.5}
    assert first.label == "vdn on matrix_additive, learner.lr 1, learner.gamma 0.5"
    assert first.seeds == range(4, 6)
    alone = points_of(tmp_path, {"worlds": "two_step", "algorithms": "vdn"})
    assert [(point.varied, point.seeds) for point in alone] == [({}, range(1))]


def test_an_algorithm_may_have_points_of_its_own(tmp_path):
    content = {**FOUR, "grid": {}, "list": [{}], "own": {"iql": [{"learner.clip": 1}, {"learner.lr": 0.1}]}}
    assert [(p.algo, dict(p.varied)) for p in points_of(tmp_path, content)] == [
        ("vdn", {}),
        ("iql", {}),
        ("iql", {"learner.clip": 1}),
        ("iql", {"learner.lr": 0.1}),
    ]


def test_every_method_of_figure_5_has_the_same_tries_on_seeds_that_it_does_not_report():
    file = ROOT / "experiments" / "sweeps" / "gpvd_fig5_tries.yaml"
    found = sweep.points(sweep.load(file))
    counts = Counter(point.algo for point in found)
    loaded = definition.load("gpvd_fig5")
    assert set(counts) == {arm.algo for arm in loaded.arms}
    assert set(counts.values()) == {6}
    assert {point.seeds for point in found} == {range(100, 101)}
    reported = {seed for scale in loaded.scales.values() for seed in scale.seeds}
    assert not reported.intersection(range(100, 103))
    assert f"{len(found)} points of one seed and 500k steps" in file.read_text()


def test_what_each_method_chose_is_written_beside_the_sweep(tmp_path, capsys):
    file, root = written(tmp_path, FOUR), tmp_path / "runs"
    found = points_of(tmp_path, FOUR)
    words = ["sweep", str(file), "--choose", "--log.dir", str(root)]
    put(root, settings_of(found[0]), 10.0)
    put(root, settings_of(found[1]), 20.0)
    assert cli.main(words) == 1  # IQL has nothing to choose from
    vdn, iql = yaml.safe_load((tmp_path / "mine.chosen.yaml").read_text())
    assert (vdn["world"], vdn["algorithm"], vdn["seeds"]) == ("matrix_additive", "vdn", [0, 1])
    assert vdn["chosen"] == {**SMALL, "learner.lr": 0.01}
    assert vdn["tries"] == [{"learner.lr": 0.001, "test_return": 10.5}, {"learner.lr": 0.01, "test_return": 20.5}]
    assert (iql["chosen"], [tried["test_return"] for tried in iql["tries"]]) == (None, [None, None])
    assert "iql on matrix_additive, 0 of 2 points finished: nothing is chosen" in capsys.readouterr().out
    put(root, config.load(found[2].env, "iql", {**found[2].options, "seed": 0, "seeds": 1}), 99.0)  # one of two seeds
    put(root, settings_of(found[3]), 5.0)
    assert cli.main(words) == 0
    assert yaml.safe_load((tmp_path / "mine.chosen.yaml").read_text())[1]["chosen"]["learner.lr"] == 0.01


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"world": ["x"]}, "unknown 'world' in the sweep in .*mine.yaml; did you mean 'worlds'"),
        ({"worlds": []}, r"worlds of the sweep in .* must be a list of names \(got \[\]\)"),
        ({"grid": {"learner.lr": 1}}, r"learner.lr in the grid in .* must be a list of values \(got 1\)"),
        ({"grid": {"seeds": [1, 2]}}, "grid of the sweep in .* cannot set 'seeds'"),
        ({"list": [{"log.dir": "x"}]}, "entry 1 of list of the sweep in .* cannot set 'log.dir'"),
        ({"list": {"learner.lr": 1}}, "list of the sweep in .* must be a list"),
        ({"seeds": 0}, r"seeds of the sweep in .* must be 1 or more \(got 0\)"),
        ({"grid": {"learner.lrr": [1, 2]}}, "vdn on matrix_additive, learner.lrr 1: unknown setting 'learner.lrr'"),
        ({"algorithms": ["vdn", "vdnn"]}, "vdnn on matrix_additive, .*unknown algorithm 'vdnn'; did you mean"),
        ({"algorithms": ["qmix", "qmix_fups"]}, "qmix_fups on matrix_additive, .* is the same as qmix on"),
        ({"own": {"vdm": []}}, "unknown 'vdm' in own in .*; did you mean 'vdn'"),
        ({"own": {"vdn": [{"learner.lr": 0.001}]}}, "is the same as vdn on matrix_additive, learner.lr 0.001"),
        ({"grid": {"learner.lr": [0.1, "1e-1"]}}, "is the same as vdn on matrix_additive, learner.lr 0.1"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(SettingError, match=sentence) as caught:
        points_of(tmp_path, {**FOUR, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sweep"], "sweep needs a file"),
        (["sweep", "nowhere.yaml"], "the sweep nowhere.yaml cannot be read: No such file"),
        (["sweep", "FILE", "--learner.lr", "1"], "settings belong in the sweep's file"),
        (["sweep", "FILE", "--log.name", "x"], "unknown option --log.name"),
        (["sweep", "FILE", "--dry-run", "--choose"], "--dry-run and --choose cannot be combined; must be one of"),
        (["sweep", "FILE", "--jobs", "slrm"], "--jobs is 'slrm'; did you mean 'slurm'?"),
        (["sweep", "FILE", "--slurm.partition", "x"], "--slurm.NAME needs --jobs slurm"),
        (["sweep", "FILE", "--jobs", "slurm"], "there is no Slurm here"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, monkeypatch, arguments, sentence):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file = str(written(tmp_path, FOUR))
    assert cli.main([file if word == "FILE" else word for word in arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_the_sweep_of_the_document(tmp_path, capsys):
    text = (ROOT / "docs" / "sweeps.md").read_text()
    (tmp_path / "my_sweep.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    words = ["sweep", str(tmp_path / "my_sweep.yaml"), "--dry-run", "--log.dir", str(tmp_path)]
    assert cli.main(words) == 0
    assert "12 points with 2 seeds each" in capsys.readouterr().out
    known = {words.split()[0] for words in re.findall(r"^gpgrad (.*)$", text, re.MULTILINE)}
    assert known == {"sweep", "train", "experiment", "ls", "compare", "watch"} <= set(COMMANDS)


def test_a_dry_run_trains_nothing_and_shows_what_there_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scheduler.Child, "run", lambda *_: pytest.fail("trained"))
    file = written(tmp_path, FOUR)
    found = sweep.points(sweep.load(file))
    put(tmp_path / "runs", settings_of(found[0]))
    assert cli.main(["sweep", str(file), "--dry-run", "--log.dir", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert f"{found[0].label}, seeds 0 to 1: finished in" in printed
    assert printed.count("not begun") == 3
    assert printed.count("  gpgrad train --env=matrix_additive --algo=") == 3
    assert "4 points with 2 seeds each" in printed


def test_what_is_finished_is_reused_and_a_failure_costs_itself_alone(tmp_path, capsys, monkeypatch):
    file, root = written(tmp_path, FOUR), tmp_path / "runs"
    found = sweep.points(sweep.load(file))
    put(root, settings_of(found[0]), 10.0)
    commands: list[list[str]] = []

    def train(self, command, descriptor) -> int:
        """Stands for the process: the second point fails, the others leave what training leaves."""
        commands.append(command)
        point = next(p for p in found if scheduler.train_arguments(p, p.seeds) == command[4 : 4 + len(p.options) + 4])
        if point is found[1]:
            return 1
        put(root, settings_of(point), 20.0)
        return 0

    monkeypatch.setattr(scheduler.Child, "run", train)
    out = tmp_path / "table.json"
    words = ["sweep", str(file), "--log.dir", str(root), "--json", str(out), "--seeds-mode", "vmap"]
    assert cli.main(words) == 1
    printed = capsys.readouterr().out
    assert len(commands) == 3
    assert all("--seeds=2" in command and "--seeds-mode=vmap" in command for command in commands)
    assert f"{found[1].label}: the run of seeds 0 to 1 ended with code 1 and is not finished" in printed
    rows = json.loads(out.read_text())
    assert [(row["seeds"], row["test_return"]) for row in rows] == [(2, 10.5), (0, None), (2, 20.5), (2, 20.5)]
    assert "2 of 2" in printed
    assert "0 of 2" in printed
    monkeypatch.setattr(scheduler.Child, "run", lambda *_: put(root, settings_of(found[1]), 5.0) or 0)
    assert cli.main(words) == 0
    assert [row["test_return"] for row in json.loads(out.read_text())] == [10.5, 5.5, 20.5, 20.5]


def test_jobs_run_on_submitits_local_executor(tmp_path, capsys, monkeypatch):
    """Two jobs as processes: one finds its seeds finished, the other cannot train and says so."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file, root = written(tmp_path, {**FOUR, "grid": {}}), tmp_path / "runs"
    done, broken = sweep.points(sweep.load(file))
    put(root, settings_of(done), 3.0)
    words = ["sweep", str(file), "--log.dir", str(root), "--jobs", "local", "--slurm.timeout_min", "5"]
    code = cli.main([*words, "--checkpoint.every_minutes", "0"])  # which training refuses
    printed = capsys.readouterr().out
    assert code == 1
    assert f"{done.label}: done" in printed
    assert f"{broken.label}: failed" in printed
    assert f"{broken.label}: the run of seeds 0 to 1 ended with code 2 and is not finished" in printed
    assert len(list((root / slurm.FOLDER).glob("*_result.pkl"))) == 2


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"nodes": "2"}, "--slurm.nodes must be 1"),
        ({"tasks_per_node": "4"}, "--slurm.tasks_per_node must be 1"),
        ({"timeout_min": "2h"}, "submitit refuses a parameter of --slurm"),
    ],
)
def test_parameters_that_jobs_cannot_have(tmp_path, parameters, sentence):
    points = points_of(tmp_path, FOUR)
    with pytest.raises(SettingError, match=sentence):
        slurm.submit(points, tmp_path / "runs", [], "local", parameters, print)


def test_numbers_reach_submitit_as_numbers(tmp_path):
    executor = slurm._executor(tmp_path, "local", {"mem_gb": "7.5", "timeout_min": "90", "partition": "gpu"})
    assert executor.parameters["mem_gb"] == 7.5
    assert executor.parameters["timeout_min"] == 90


@pytest.mark.slow
def test_a_job_trains(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    point = points_of(tmp_path, {**FOUR, "grid": {}, "algorithms": "vdn"})[0]
    said: list[str] = []
    extra = ["--log.wandb=disabled", "--seeds-mode=vmap"]
    assert slurm.submit([point], tmp_path / "runs", extra, "local", {}, said.append) == []
    assert wanted_seeds.next_job(run_folder.scan(tmp_path / "runs")[0], point.identity, point.seeds) is None


def test_a_job_that_is_queued_again_is_the_same_job(tmp_path):
    point = points_of(tmp_path, FOUR)[0]
    job = slurm.ClusterJob(point, tmp_path, ["--log.wandb=disabled"])
    again = job.checkpoint()
    assert again.function is job


def test_a_child_is_ended_when_something_else_ends_the_wait(tmp_path, monkeypatch):
    """As submitit does when a job's time is over: it exits, and the run must save."""
    file = tmp_path / "pid"
    code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    command = [sys.executable, "-c", code]

    def leave(process):
        while not file.exists() or not file.read_text():
            pass
        raise SystemExit

    original, calls = scheduler.subprocess.Popen.wait, []

    def wait(self, *args, **kwargs):
        calls.append(1)
        return leave(self) if len(calls) == 1 else original(self, *args, **kwargs)

    def job() -> None:
        with scheduler.Child() as child, (tmp_path / "claim").open("w") as claim:
            child.run(command, claim.fileno())

    monkeypatch.setattr(scheduler.subprocess.Popen, "wait", wait)
    with pytest.raises(SystemExit):
        job()
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
