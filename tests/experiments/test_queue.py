"""The queue trains its runs in order, beside other training processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.experiments import __main__ as cli
from gpgrad.experiments import archive
from gpgrad.experiments.queue import lane, queue_file
from gpgrad.jobs import scheduler
from gpgrad.runs import lock, run_folder, wanted_seeds
from gpgrad.runs.signals import Stopped
from gpgrad.training import train
from tests.helpers.fake_experiment import TWO, put, settings_of, silent, written

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shelf(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def queue(tmp_path):
    """Writes a queue's file; by default the first two seeds of both arms of the experiment of two."""
    name = written(tmp_path, TWO)

    def write(*entries: dict) -> Path:
        common = {"name": name, "scale": "paper", "why": "To know."}
        file = tmp_path / "queue.yaml"
        file.write_text(yaml.safe_dump({"queue": [{**common, **entry} for entry in entries or ({"seeds": 2},)]}))
        return file

    return write


@pytest.fixture
def gentle(monkeypatch):
    """The test's own process keeps its priority and its cores."""
    lowered: list[int] = []
    monkeypatch.setattr(os, "nice", lowered.append)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None, raising=False)
    return lowered


def begun(commands: list[list[str]]) -> list[tuple[str, str]]:
    """Algorithm and seed of each new run."""
    given = [dict(token[2:].split("=", 1) for token in command if "=" in token) for command in commands]
    assert all(options["seeds"] == "1" for options in given)
    return [(options["algo"], options["seed"]) for options in given]


def test_every_arm_has_its_first_seed_before_any_has_its_second(queue, root, shelf, pretend):
    commands, _ = pretend
    file = queue({"arms": ["IQL"], "seeds": 1}, {"seeds": 3})
    assert lane.work(file, root, shelf, ["--log.wandb=disabled"], silent) == []
    order = [("iql", "0"), ("vdn", "0"), ("vdn", "1"), ("iql", "1"), ("vdn", "2"), ("iql", "2")]
    assert begun(commands) == order
    assert all(command[-1] == "--log.wandb=disabled" for command in commands)
    assert lane.work(file, root, shelf, [], silent) == []
    assert len(commands) == 6


def test_what_is_interrupted_goes_on_and_what_is_kept_is_not_repeated(queue, root, shelf, tmp_path, pretend):
    commands, _ = pretend
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, "kept", settings_of(seed=0, seeds=1))
    archive.keep(run_folder.scan(elsewhere)[0], shelf)
    put(root, "interrupted", settings_of("iql", seed=0, seeds=1), final=0)
    assert lane.work(queue({"seeds": 1}), root, shelf, [], silent) == []
    assert [command[3:] for command in commands] == [["train", "--resume", str(root / "interrupted")]]


def test_a_record_is_written_as_each_run_finishes(queue, root, shelf, pretend, monkeypatch):
    _, end = pretend
    put(root, "left_by_a_killed_lane", settings_of(seed=0, seeds=1))
    put(root, "of_another_seed", settings_of(seed=4, seeds=1))
    seen = []

    def look(self, command, **given):
        seen.append(sorted(path.name for path in (shelf / archive.RECORDS).glob("*")))
        return end(self, command, **given)

    monkeypatch.setattr(scheduler.Child, "run", look)
    assert lane.work(queue({"seeds": 2}), root, shelf, [], silent) == []
    assert seen == [
        ["left_by_a_killed_lane"],
        ["left_by_a_killed_lane", "run1"],
        ["left_by_a_killed_lane", "run1", "run2"],
    ]
    records, problems = run_folder.scan(shelf / archive.RECORDS)
    assert [run.finished for run in records] == [True] * 4
    assert problems == []


def test_the_queue_is_read_again_before_every_run(queue, root, shelf, pretend, monkeypatch):
    commands, end = pretend
    file = queue({"arms": ["VDN"], "seeds": 1})

    def edit(self, command, **given):
        queue({"arms": ["IQL"], "seeds": 2})
        return end(self, command, **given)

    monkeypatch.setattr(scheduler.Child, "run", edit)
    assert lane.work(file, root, shelf, [], silent) == []
    assert begun(commands) == [("vdn", "0"), ("iql", "0"), ("iql", "1")]


def test_a_mistake_that_is_made_meanwhile_ends_no_lane(queue, root, shelf, pretend, monkeypatch):
    commands, end = pretend
    file, heard = queue({"seeds": 1}), []

    def edit(self, command, **given):
        file.write_text("queue: [")
        return end(self, command, **given)

    monkeypatch.setattr(scheduler.Child, "run", edit)
    assert lane.work(file, root, shelf, [], heard.append) == []
    assert begun(commands) == [("vdn", "0"), ("iql", "0")]
    assert [line for line in heard if line.endswith("; continuing with the queue as it was")]


def test_a_failing_run_costs_itself_alone(queue, root, shelf, pretend, gentle, capsys):
    commands, end = pretend
    end.broken = True
    assert cli.main(["queue", str(queue()), "--log.dir", str(root), "--results", str(shelf)]) == 1
    assert begun(commands) == [("vdn", "0"), ("iql", "0"), ("vdn", "1"), ("iql", "1")]
    assert "IQL on matrix_additive, seed 1: the run of seed 1 ended with signal SIGKILL" in capsys.readouterr().out
    assert gentle == [19]


def test_the_claim_is_given_back_once_the_run_has_its_own_lock(queue, root, shelf, monkeypatch):
    """`experiments run` may then begin other seeds of the same arm, and sees this one taken."""
    (vdn,) = queue_file.load(queue({"arms": ["VDN"], "seeds": 1}))
    claim = root / f".claim-{vdn.setup.identity}"

    def train_one(self, command, meanwhile):
        assert meanwhile(os.getpid()) is False
        assert lock.holder(claim) == os.getpid()
        folder = put(root, "begun", settings_of(seed=0, seeds=1), final=0)
        with train.hold(folder):
            assert meanwhile(os.getpid()) is True
            assert lock.holder(claim) is None
            found = wanted_seeds.next_job(run_folder.scan(root)[0], vdn.setup.identity, range(2))
            assert found is not None
            assert found[:2] == ("start", range(1, 2))
        return 1

    monkeypatch.setattr(scheduler.Child, "run", train_one)
    monkeypatch.setattr(lane, "yield_in_session", lambda process: None)
    (failure,) = lane.work(queue({"arms": ["VDN"], "seeds": 1}), root, shelf, [], silent)
    assert "ended with code 1 and is not finished" in failure


def test_a_second_lane_takes_the_next_free_run(queue, root, shelf, pretend, monkeypatch):
    commands, _ = pretend
    monkeypatch.setattr(lock, "_PAUSE", 0.001)
    file = queue({"seeds": 2})
    vdn = queue_file.load(file)[0].setup
    folder = put(root, "elsewhere", settings_of("iql", seed=0, seeds=1), final=0)
    held, claimed = train.hold(folder), scheduler.claim_of(root, vdn)
    held.__enter__()
    claimed.__enter__()
    heard: list[str] = []

    def other_ends(self, seconds):
        assert begun(commands) == [("iql", "1")]
        (folder / "final.jsonl").write_text('{"seed": 0, "test_return": 1.0}\n')
        held.__exit__(None, None, None)
        claimed.__exit__(None, None, None)

    monkeypatch.setattr(scheduler.Child, "sleep", other_ends)
    assert lane.work(file, root, shelf, [], heard.append) == []
    assert begun(commands) == [("iql", "1"), ("vdn", "0"), ("vdn", "1")]
    assert "waiting for other processes, which train all remaining runs" in heard


def test_a_stopped_lane_leaves_no_lock_behind(queue, root, shelf, gentle, monkeypatch, capsys):
    def stop(self, command, meanwhile):
        raise Stopped("SIGTERM ended it; the same command goes on")

    monkeypatch.setattr(scheduler.Child, "run", stop)
    assert cli.main(["queue", str(queue()), "--log.dir", str(root), "--results", str(shelf)]) == 130
    assert capsys.readouterr().err == "gpgrad: SIGTERM ended it; the same command goes on\n"
    assert [lock.holder(path) for path in root.glob(".*")] == [None, None]


def test_each_lane_has_a_core(root, monkeypatch, gentle):
    bound = []
    monkeypatch.setattr(lock, "_PAUSE", 0.001)
    monkeypatch.setattr("gpgrad.training.seed_layout.cores", lambda: [2, 5])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: bound.append(set(cores)), raising=False)
    with lane.opened(root) as one, lane.opened(root) as other:
        assert (one, other) == (5, 2)
        assert bound == [{5}, {2}]
        assert lane.lanes(root) == {2: os.getpid(), 5: os.getpid()}
        with pytest.raises(SettingError, match="each of 2 cores has a lane"), lane.opened(root):
            pass
    assert lane.lanes(root) == {}
    with lane.opened(root) as again:
        assert again == 5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_runs_of_a_lane_give_way(tmp_path):
    """Niceness counts within a session alone where the kernel groups by sessions, and every run has its own."""
    run = """
import os, pathlib, time
time.sleep(0.5)
group = pathlib.Path("/proc/self/autogroup")
print(os.nice(0), len(os.sched_getaffinity(0)), group.read_text().split()[-1] if group.exists() else 19)
"""
    code = f"""
import sys
from pathlib import Path
from gpgrad.experiments.queue import lane
from gpgrad.jobs.scheduler import Child
with lane.opened(Path({str(tmp_path)!r})), Child() as child:
    child.run([sys.executable, "-c", {run!r}], meanwhile=lambda pid: lane.yield_in_session(pid) or True)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["19", "1", "19"]


def test_status_says_what_is_done_running_next_and_how_long_it_takes(queue, root, shelf, capsys):
    def took(folder: Path, seconds: float) -> Path:
        rows = [{"env_steps": 0, "seconds": 1.0}, {"env_steps": 2000, "seconds": seconds}]
        (folder / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    took(put(root, "a", settings_of(seed=0, seeds=1)), 3600.0)
    took(put(root, "b", settings_of(seed=1, seeds=1)), 7200.0)
    took(put(root, "c", settings_of(seed=7, seeds=2)), 12600.0)  # two seeds: 6300 each
    half = took(put(root, "d", settings_of(seed=2, seeds=1), final=0), 99.0)
    rows = (half / "metrics.jsonl").read_text().splitlines(keepends=True)
    (half / "metrics.jsonl").write_text("".join(rows[:3]))
    put(root, "e", settings_of("iql", seed=1, seeds=1), final=0)
    put(root, "f", settings_of("iql", seed=3, seeds=1), numerics={"learner": 0})
    places = ["--log.dir", str(root), "--results", str(shelf)]
    with train.hold(half):
        assert cli.main(["queue", str(queue({"seeds": 4}, {"arms": ["VDN"], "seeds": 1})), "--status", *places]) == 0
    name = str(queue().parent / "mine.yaml")
    assert capsys.readouterr().out.splitlines() == [
        "8 runs: 2 finished, 1 running, 1 interrupted, 1 outdated, 3 not begun; "
        "2.6 hours left and 4 runs of unknown length",
        "lanes: none",
        f"running: {name}, paper: VDN on matrix_additive, seed 2: 1,000 of 2,000 steps, 0.9 hours left, "
        f"process {os.getpid()}",
        f"next: {name}, paper: IQL on matrix_additive, seed 0: not begun, time left unknown",
        f"{name}, paper: 2 finished, 1 running, 1 interrupted, 1 outdated, 3 not begun; "
        "2.6 hours left and 4 runs of unknown length. To know.",
        "  VDN on matrix_additive: seeds 0 to 1 finished, seed 2 running, seed 3 not begun",
        "  IQL on matrix_additive: seeds 0, 2 not begun, seed 1 interrupted, seed 3 outdated",
        f"{name}, paper: 1 finished; 0.0 hours left. To know.",
        "  VDN on matrix_additive: seed 0 finished",
    ]


def test_rates_come_from_the_runs_that_are_most_alike(queue, root):
    from gpgrad.experiments.queue import status

    for name, settings, seconds in (
        ("same", settings_of(seed=9, seeds=1), 20.0),
        ("other_settings", settings_of("vdn", seed=0, seeds=1, **{"learner.lr": 0.1}), 40.0),
        ("other_preset", config.load("matrix_additive", "iql_fups", {"preset": "pymarl2", "seeds": 1}), 80.0),
    ):
        folder = put(root, name, settings)
        (folder / "timing.jsonl").write_text(json.dumps({"env_steps": 2000, "seconds": seconds}) + "\n")
    vdn, iql = queue_file.load(queue({"seeds": 1}))
    found, _ = run_folder.scan(root)
    assert status.Rates(found).of(vdn) == 0.01
    assert status.Rates([run for run in found if run.folder.name != "same"]).of(vdn) == 0.02
    assert status.Rates(found).of(iql) == 0.04
    assert status.Rates([]).of(vdn) is None


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"name": "pp_smal_qmix"}, "unknown experiment 'pp_smal_qmix'; did you mean 'pp_small_qmix'?"),
        ({"scale": "papre"}, "has no scale 'papre'; did you mean 'paper'?"),
        ({"seeds": 6}, "must be 1 to 5 at scale paper (got 6)"),
        ({"seeds": 0}, "must be 1 to 5 at scale paper (got 0)"),
        ({"arms": ["QMIX"]}, "mine has no arm 'QMIX'"),
        ({"panels": ["pp_small"]}, "mine has no panel 'pp_small'"),
        ({"name": "gradps_table11"}, "an experiment in the queue must train (gradps_table11 measures times)"),
        ({"seed": 1}, "unknown 'seed' in entry 1 of queue"),
        ({"why": 5}, "why of entry 1 of queue"),
    ],
)
def test_mistakes_in_the_queue_end_with_one_sentence(entry, sentence, queue, root, capsys):
    for more in ([], ["--status"]):
        assert cli.main(["queue", str(queue(entry)), "--log.dir", str(root), *more]) == 2
        printed = capsys.readouterr().err
        assert sentence in printed
        assert printed.count("\n") == 1


def test_the_project_s_queue_can_be_worked_off():
    units = queue_file.load(queue_file.FILE)
    assert {"gradps_pp_small", "gpvd_fig5", "gpvd_gradps_2x2"} <= {unit.item.name for unit in units}
    assert all(len(unit.item.why) > 20 for unit in units)
