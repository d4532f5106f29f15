"""Experiments: declared strictly, never repeated, continued after anything, reported honestly."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import experiments.__main__ as cli
from envs.errors import SettingError
from experiments import definition, overview, records, report
from experiments.obstacles import obstacle
from gpgrad import config, execute, lock, logs, runs, stats, train
from gpgrad.compose import compose
from gpgrad.execute import Stopped
from gpgrad.settings import Config

ROOT = Path(__file__).parents[2]
SMALL = {"agent.hidden": 8, "evaluation.final_episodes": 3, "evaluation.every_steps": 500, "t_max": 2000}
TWO = {
    "question": "Is VDN better than IQL?",
    "env": "matrix_additive",
    "overrides": SMALL,
    "arms": [{"label": "VDN", "algo": "vdn"}, {"label": "IQL", "algo": "iql"}],
    "threshold": 5,
    "scales": {"quick": {"seeds": 2}, "paper": {"seeds": 5}},
}
silent = lambda text: None


def written(folder: Path, content: dict, name: str = "mine") -> str:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(file)


@pytest.fixture
def two(tmp_path):
    return definition.load(written(tmp_path, TWO))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def settings_of(algo: str = "vdn", **changes) -> Config:
    return config.load("matrix_additive", algo, {**SMALL, **changes})


def put(root: Path, name: str, settings: Config, final=None, top: float = 10.0, **manifest: str) -> Path:
    """A run's folder as training leaves it; `final` is how many seeds have a final row, by default all."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump(settings))
    (folder / "manifest.json").write_text(json.dumps({"jax": "1", "jaxmarl": "0.2.0", **manifest}))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    metrics = [
        {"seed": seed, "env_steps": steps, "test_return": top * steps / 2000 + seed, "test_agent": [1.0]}
        for steps in (0, 500, 1000, 1500, 2000)
        for seed in seeds
    ]
    rows = [
        {"seed": seed, "test_return": top + 2 * seed} for seed in seeds[: settings.seeds if final is None else final]
    ]
    for file, content in {"metrics": metrics, "final": rows}.items():
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


def job(root: Path, settings: Config, wanted: range):
    found = runs.next_job(runs.scan(root)[0], config.identity(settings), wanted)
    return found and (found.action, found.seeds, found.run and found.run.folder.name)


# Declarations.


def test_the_catalog_can_be_run():
    assert {"pp_small_qmix", "pp_p0_qmix"} <= set(definition.names())
    composed = set()
    for name in definition.names():
        loaded = definition.load(name)
        assert loaded.name == name
        assert set(loaded.scales) >= {"quick", "paper"}
        for scale in loaded.scales:
            for setup in definition.setups(loaded, scale):
                execute.train_arguments(setup, setup.seeds)
                if setup.identity not in composed and not obstacle(setup):
                    compose(setup.config)  # what its parts ask of each other
                    composed.add(setup.identity)


PAPERS = (
    {"Figure": range(1, 8), "Table": range(1, 3)},
    {"Figure": range(1, 14), "Appendix Figure": range(1, 12), "Table": range(11, 14)},
)


def places(text: str) -> list[str]:
    """The first column of tables: `Figures 4, 5` are Figure 4 and Figure 5."""
    rows = re.findall(r"^\| ((?:Appendix )?(?:Figure|Table))s? ([\d, ]+) \|", text, flags=re.MULTILINE)
    return [f"{kind} {number}" for kind, numbers in rows for number in numbers.split(", ")]


def test_every_figure_of_both_papers_has_an_experiment():
    """docs/figures.md has each figure and table once, only experiments that are there, and all of those."""
    text = (ROOT / "docs" / "figures.md").read_text()
    for part, kinds in zip(re.split(r"^## .*$", text, flags=re.MULTILINE)[1:3], PAPERS, strict=True):
        assert places(part) == [f"{kind} {number}" for kind, numbers in kinds.items() for number in numbers]
    named = re.findall(r"`((?:gpvd|gradps|pp|smax|sharing|decompositions|foraging)_\w+)`", text)
    assert set(named) == set(definition.names())


def test_a_scale_says_seeds_and_steps():
    quick, paper = (definition.setups(definition.load("pp_small_qmix"), scale)[0] for scale in ("quick", "paper"))
    assert (quick.seeds, paper.seeds) == (range(3), range(5))
    assert (quick.config.t_max, paper.config.t_max) == (300_000, 1_050_000)
    assert quick.identity != paper.identity


def test_what_is_said_once_holds_for_all_arms(tmp_path):
    content = {
        **TWO,
        "env": "matrix_additive",
        "preset": "pymarl2",
        "overrides": {"t_max": 2000, "learner.lr": 1},
        "arms": [
            {"label": "a", "algo": "vdn", "overrides": {"learner.lr": 2, "env.w": 0.5}},
            {"label": "b", "algo": "iql", "env": "two_step", "preset": "pymarl", "panel": "other"},
            {"label": "a", "algo": "iql", "panel": "other"},
            {"label": "c", "algo": "iql"},
        ],
        "scales": {"quick": {"seeds": 2, "first_seed": 7, "overrides": {"t_max": 9000}}},
    }
    loaded = definition.load(written(tmp_path, content))
    a, _, b, _ = loaded.arms  # panel by panel
    assert (a.env, a.preset, a.panel) == ("matrix_additive", "pymarl2", "matrix_additive")
    assert a.overrides == {"t_max": 2000, "learner.lr": 2, "env.w": 0.5}
    assert (b.env, b.preset, b.panel) == ("two_step", "pymarl", "other")
    assert loaded.panels == ["matrix_additive", "other"]
    assert loaded.claims == ((0, 1), (2, 3))  # within panels, against the first
    setup = definition.setups(loaded, "quick")[0]
    assert (setup.seeds, setup.config.t_max, setup.config.learner.lr) == (range(7, 9), 9000, 2.0)
    claimed = definition.load(written(tmp_path, {**content, "claims": [["c", "a"], ["a", "b"]]}))
    assert claimed.claims == ((1, 0), (3, 2))


def test_arms_run_in_every_world_that_is_named(tmp_path):
    content = {key: value for key, value in TWO.items() if key != "env"} | {"envs": ["matrix_additive", "two_step"]}
    content["arms"] = [*TWO["arms"], {"label": "QMIX", "algo": "qmix", "env": "two_step"}]
    loaded = definition.load(written(tmp_path, content))
    worlds = [(arm.label, arm.env) for arm in loaded.arms]
    both = ["matrix_additive", "two_step"]
    first, second = ([(label, env) for label in ("VDN", "IQL")] for env in both)
    assert worlds == [*first, *second, ("QMIX", "two_step")]  # panel by panel
    assert loaded.panels == both
    with pytest.raises(SettingError, match="expected a list of worlds, and no env beside it"):
        definition.load(written(tmp_path, {**content, "env": "two_step"}))
    with pytest.raises(SettingError, match=r"VDN in .* runs in several worlds, expected no panel of its own"):
        definition.load(written(tmp_path, content | {"arms": [{**TWO["arms"][0], "panel": "mine"}]}))


def arm(**changes):
    return {"arms": [{"label": "VDN", "algo": "vdn", **changes}]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale": {}}, "unknown 'scale' in the experiment in .*mine.yaml; did you mean 'scales'"),
        ({"question": None}, "question of the experiment in .* is None, expected text"),
        ({"arms": []}, "arms of the experiment in .* is \\[\\], expected a list"),
        ({"arms": ["vdn"]}, "entry 1 of arms in .* is 'vdn', expected names with values"),
        (arm(algorithm="vdn"), "unknown 'algorithm' in entry 1 of arms in .*; did you mean 'algo'"),
        (arm(overrides={"seeds": 3}), "cannot set 'seeds'"),
        (arm(overrides={"log.dir": "x"}), "cannot set 'log.dir'"),
        (arm(overrides=[1]), "overrides of entry 1 of arms in .* is \\[1\\]"),
        ({**arm(), "env": None}, "env of the experiment in .* is None, expected text"),
        ({"arms": TWO["arms"] * 2}, "two arms in .* are called 'VDN' in panel 'matrix_additive'"),
        ({"claims": [["VDN", "IQM"]]}, "unknown arm 'IQM' in claims in .*; did you mean 'IQL'"),
        ({"claims": ["VDN"]}, "expected pairs of labels"),
        ({"interaction": ["VDN"]}, "interaction in .* is .*, expected four labels: both, A, B, neither"),
        ({"interaction": ["VDN", "IQL", "VDN", "IQ"]}, "unknown arm 'IQ' in interaction in .*; did you mean 'IQL'"),
        ({"measure": "time"}, "measure of the experiment in .* is 'time'; did you mean 'times'"),
        ({"scales": {}}, "scales in .* is empty"),
        ({"scales": {"quick": {}}}, "quick in .* has no seeds"),
        ({"scales": {"quick": {"seeds": 0}}}, "has seeds 0 from 0, expected 1 or more"),
        ({"scales": {"quick": {"seeds": "many"}}}, "seeds of quick in .* is 'many', expected a whole number"),
        ({"scales": {"quick": {"seeds": 1, "t_max": 5}}}, "unknown 't_max' in quick in .*; valid names are seeds"),
        ({"drawings": [{"kind": "curve"}]}, "kind of entry 1 of drawings in .* is 'curve'; did you mean 'curves'"),
        ({"drawings": [{}, {}]}, "two drawings in .* are called 'curve', expected one"),
        ({"drawings": [{"kind": "grids"}]}, "entry 1 of drawings in .* has no name, expected one"),
        ({"drawings": [{"by": "hour"}]}, "by of entry 1 of drawings in .* is 'hour'; did you mean 'hours'"),
        ({"drawings": [{"arms": ["VDM"]}]}, "unknown arm 'VDM' in entry 1 of drawings in .*; did you mean 'VDN'"),
        ({"threshold": "high"}, "threshold of the experiment in .* is 'high', expected a finite number"),
    ],
)
def test_mistakes_in_declarations_get_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(SettingError, match=sentence) as caught:
        definition.load(written(tmp_path, {**TWO, **changes}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"env": "matrix_aditive"}, "VDN of mine: unknown world 'matrix_aditive'; did you mean 'matrix_additive'"),
        ({"preset": "pymar"}, "VDN of mine: unknown preset 'pymar'"),
        (arm(overrides={"learner.lrr": 1}), "VDN of mine: unknown setting 'learner.lrr'; did you mean 'learner.lr'"),
    ],
)
def test_mistakes_in_settings_name_the_arm(tmp_path, changes, sentence):
    with pytest.raises(SettingError, match=sentence):
        definition.setups(definition.load(written(tmp_path, {**TWO, **changes})), "quick")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for content, sentence in {"a: [": "is no YAML", "- a": "expected names with values"}.items():
        (tmp_path / "mine.yaml").write_text(content)
        with pytest.raises(SettingError, match=sentence):
            definition.load(str(tmp_path / "mine.yaml"))
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        definition.load(str(tmp_path / "none.yaml"))


# What there is, and what is still to do.


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


@pytest.mark.parametrize("changes", [{"t_max": 4000}, {"learner.lr": 1e-4}, {"env.w": 0.5}, {"agent.agent_id": True}])
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
        (line,) = runs.overview(runs.scan(root)[0], config.identity(settings), [1])
        assert line.text == f"running, process {os.getpid()}, 2,000 of 2,000 steps in {folder}"
    assert job(root, settings, range(1, 2)) == ("resume", range(1, 2), "elsewhere")


def test_folders_that_hold_no_run_are_passed_over(root):
    (root / "killed_before_its_settings").mkdir()
    file = put(root, "broken", settings_of()) / "config.yaml"
    file.write_text("env: matrix_additive\n")
    (put(root, "damaged", settings_of()) / "final.jsonl").write_text("{]\n")
    found, problems = runs.scan(root)
    assert found == []
    assert len(problems) == 2
    for name, problem in zip(("broken", "damaged"), problems, strict=True):
        assert f"passing over {root / name}" in problem
    assert runs.scan(root / "nowhere") == ([], [])


def test_each_seed_comes_from_one_run(root):
    put(root, "a", settings_of(seed=0, seeds=2))
    put(root, "b", settings_of(seed=1, seeds=3), top=50.0)
    shares = runs.finished(runs.scan(root)[0], config.identity(settings_of()), range(3))
    assert [(share.run.folder.name, share.seeds) for share in shares] == [("a", [0, 1]), ("b", [2])]
    assert [row["test_return"] for share in shares for row in share.final] == [10, 12, 54]
    assert {row["seed"] for row in shares[1].metrics} == {2}


# Doing it.


@pytest.fixture
def pretend(monkeypatch, root):
    """Runs end at once and as told; returns the commands that were given."""
    commands: list[list[str]] = []

    def end(self, command, descriptor):
        commands.append(command)
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
    monkeypatch.setattr(execute.Child, "run", end)
    commands_and_switch = (commands, end)
    return commands_and_switch


def test_an_experiment_does_what_is_missing_and_no_more(two, root, pretend):
    commands, _ = pretend
    put(root, "by_hand", settings_of(seed=1, seeds=1))
    put(root, "interrupted", settings_of("iql", seed=0, seeds=1), final=0)
    setups = definition.setups(two, "quick")
    assert execute.execute(setups, root, ["--log.wandb=disabled", "--seeds-mode=process"], silent) == []
    assert [command[3:5] for command in commands] == [
        ["train", "--env=matrix_additive"],
        ["train", "--resume"],
        ["train", "--env=matrix_additive"],
    ]
    assert {"--algo=vdn", "--seed=0", "--seeds=1", "--log.wandb=disabled", "--seeds-mode=process"} < set(commands[0])
    assert commands[1][5:] == [str(root / "interrupted")]
    assert {"--algo=iql", "--seed=1", "--seeds=1", "--t_max=2000"} < set(commands[2])
    assert execute.execute(setups, root, [], silent) == []
    assert execute.execute(definition.setups(two, "paper"), root, [], silent) == []
    assert [command[-4:-2] for command in commands[3:]] == [["--seeds=3", "--seed=2"]] * 2


def test_a_failing_run_costs_its_arm_alone(two, root, pretend):
    commands, end = pretend
    end.broken = True
    backwards = definition.setups(two, "quick")[::-1]
    (failure,) = execute.execute(backwards, root, [], silent)
    assert failure.startswith("IQL: the run of seeds 0 to 1 ended with signal SIGKILL and is not finished")
    assert [command[5] for command in commands] == ["--algo=iql", "--algo=vdn"]
    end.broken = False
    assert execute.execute(backwards, root, [], silent) == []


def test_two_experiments_never_start_the_same_run(two, root, pretend, monkeypatch):
    commands, _ = pretend
    vdn, _ = setups = definition.setups(two, "quick")
    held = lock.hold(root / f".claim-{vdn.identity}", "it")
    held.__enter__()
    heard: list[str] = []

    def other_ends(self, seconds):
        assert [command[5] for command in commands] == ["--algo=iql"]
        held.__exit__(None, None, None)

    monkeypatch.setattr(execute.Child, "sleep", other_ends)
    assert execute.execute(setups, root, [], heard.append) == []
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

    monkeypatch.setattr(execute.Child, "sleep", other_ends)
    assert execute.execute(definition.setups(two, "quick"), root, [], heard.append) == []
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
    with execute.Child() as child, lock.hold(tmp_path / "claim", "it") as claim:
        sender = subprocess.Popen([sys.executable, "-c", send])
        with pytest.raises(Stopped, match="SIGTERM ended it"):
            child.run([sys.executable, "-c", run], claim)
        sender.wait()
        with pytest.raises(Stopped):
            child.sleep(60)
    assert seen.read_text() == "x"
    assert signal.getsignal(signal.SIGTERM) is before


# What was found.


def reported(experiment: records.Definition, scale: str, root: Path) -> dict:
    found, _ = runs.scan(root)
    results = report.collect(experiment, definition.setups(experiment, scale), found)
    return report.summary(experiment, scale, results, found)


def test_a_report_says_what_the_runs_say(two, root, tmp_path, capsys):
    put(root, "vdn", settings_of(seeds=5), top=20.0)
    put(root, "iql", settings_of("iql", seeds=5))
    file = str(tmp_path / "mine.yaml")
    places = ["--scale", "paper", "--log.dir", str(root), "--results", str(tmp_path / "results")]
    assert cli.main(["report", file, *places]) == 0
    folder = tmp_path / "results" / "mine-paper"
    assert f"mine, paper: {folder / 'README.md'}\n" == capsys.readouterr().out
    found = json.loads((folder / "summary.json").read_text())
    vdn, iql = found["arms"]
    finals = [20, 22, 24, 26, 28]
    expected = stats.mean_interval(finals)
    assert (vdn["final"]["mean"], vdn["final"]["n"]) == (24, 5)
    assert vdn["final"]["interval"] == pytest.approx(expected.interval)
    assert vdn["iqm"]["value"] == pytest.approx(24)
    assert vdn["area"]["mean"] == pytest.approx(10 + 2)  # half the top, and the mean seed
    assert iql["steps_to_threshold"] == {"median": 600, "reached": 5, "of": 5}  # 10 steps / 2000 + 2 = 5
    assert (vdn["seeds"], vdn["missing"], found["complete"]) == ([0, 1, 2, 3, 4], {}, True)
    (claim,) = found["comparisons"]
    assert (claim["verdict"], claim["of_methods"], claim["because"]) == ("shown", True, [])
    assert (claim["difference"]["mean"], claim["difference"]["p_value"]) == (10, 2 / 32)
    assert claim["probability_of_improvement"]["value"] == 1
    page = (folder / "README.md").read_text()
    for text in (
        "VDN > IQL | shown | 10 ± 0 (p = 0.0625)",
        "| 5 of 5 |",
        "`decomposition` | vdn | iql",
        "| jaxmarl | 0.2.0 |",
    ):
        assert text in page
    assert "smoke" not in page
    assert f"python {' '.join(vdn['command'].split()[1:])}" in page
    rows = list(csv.DictReader((folder / "curve.csv").open()))
    assert len(rows) == 2 * 5 * 5
    assert json.loads((folder / "rliable.json").read_text())["VDN"] == [[value] for value in finals]
    layout = json.loads((folder / "marl_eval.json").read_text())
    assert layout["matrix_additive"]["matrix_additive"]["IQL"]["seed_4"]["absolute_metrics"] == {"return": [18]}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"curve.png", "curve.svg", "curve.pdf", "curve_mean.csv"} < set(before)
    assert cli.main(["report", file, *places]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_command_of_an_arm_is_its_configuration(two):
    for setup in definition.setups(two, "paper"):
        arguments = execute.train_arguments(setup, setup.seeds)
        given = dict(token[2:].split("=", 1) for token in arguments)
        chosen = config.load(given.pop("env"), given.pop("algo"), given)
        assert config.identity(chosen) == setup.identity
        assert range(chosen.seed, chosen.seed + chosen.seeds) == setup.seeds


def test_all_reports_come_to_one_page(two, root, tmp_path, capsys):
    put(root, "vdn", settings_of(seeds=5), top=20.0)
    put(root, "iql", settings_of("iql", seeds=5))
    for seconds in ((30, 60), (10,)):  # the second part is that of a resumed run
        with (root / "vdn" / "timing.jsonl").open("a") as file:
            file.writelines(json.dumps({"seconds": second}) + "\n" for second in seconds)
    said = {"paper": "VDN is far ahead", "remark": "Ours are drawn, not trained."}
    file, out = written(tmp_path, {**TWO, **said}), tmp_path / "out"
    (out / "older").mkdir(parents=True)
    (out / "older" / "summary.json").write_text("{}")
    assert cli.main(["report", file, "--scale", "paper", "--log.dir", str(root), "--results", str(out)]) == 0
    assert f"{out / 'older' / 'summary.json'} was made by another version" in capsys.readouterr().out
    row = (out / "RESULTS.md").read_text().splitlines()[-1]
    assert row == (
        "| [mine-paper](mine-paper/README.md) | VDN is far ahead | matrix_additive: VDN 24 ± 3.9, IQL 14 ± 3.9 "
        "| 5 | 2,000 | 1.2 | shown: VDN > IQL | Ours are drawn, not trained. |"
    )
    page = (out / "mine-paper" / "README.md").read_text()
    assert "The paper: VDN is far ahead\n\nHere: Ours are drawn, not trained." in page


def test_the_page_says_what_was_measured_and_what_has_no_report(tmp_path, monkeypatch):
    arms = [{"label": "FuPS", "algo": "fups"}]
    content = {**TWO, "env": "pp_small", "preset": "gradps_paper", "overrides": {}, "arms": arms, "claims": []}
    said = {"measure": "parameters", "paper": "It is 45446.", "remark": "So it is."}
    file, out = written(tmp_path, {**content, **said}), tmp_path / "out"
    asked = ["gpvd_fig4_smac", "gpvd_fig5"]
    monkeypatch.setattr(cli, "RESULTS", out)
    monkeypatch.setattr(definition, "names", lambda: asked)
    monkeypatch.setattr(overview, "obstacle", lambda setup: "no StarCraft" if setup.env.startswith("smac_") else "")
    (out / "hunt").mkdir(parents=True)
    (out / "hunt" / "README.md").touch()
    assert cli.main(["run", file, "--results", str(out)]) == 0
    lines = (out / "RESULTS.md").read_text().splitlines()
    assert "| [mine-quick](mine-quick/README.md) | It is 45446. | So it is. |" in lines
    assert "- [hunt](hunt/README.md)" in lines
    assert not any("- [mine" in line for line in lines)
    questions = [definition.load(name).question for name in asked]
    assert lines[-2:] == [
        f"| `gpvd_fig4_smac` | {questions[0]} | not testable here: no StarCraft |",
        f"| `gpvd_fig5` | {questions[1]} | not run to an end yet |",
    ]


def test_interactions_are_beyond_the_sum(tmp_path, root):
    """Returns of 40, 20, 15 and 10: both bring 30, one 10, the other 5."""
    tops = {"both": 40, "A": 20, "B": 15, "neither": 10}
    arms = []
    for i, (label, top) in enumerate(tops.items()):
        put(root, label, settings_of(seeds=5, **{"learner.lr": 0.01 * (i + 1)}), top=top)
        arms.append({"label": label, "algo": "vdn", "overrides": {"learner.lr": 0.01 * (i + 1)}})
    file = written(tmp_path, {**TWO, "arms": arms, "claims": [], "interaction": list(tops)})
    assert cli.main(["report", file, "--scale", "paper", "--log.dir", str(root), "--results", str(tmp_path)]) == 0
    (found,) = json.loads((tmp_path / "mine-paper" / "summary.json").read_text())["interactions"]
    assert (found["difference"]["mean"], found["verdict"], found["seeds"]) == (15, "shown", [0, 1, 2, 3, 4])
    assert "| (both - A) - (B - neither) | shown | 15 ± 0 | 5 |" in (tmp_path / "mine-paper" / "README.md").read_text()


def test_parameters_are_counted_without_training(tmp_path, capsys):
    arms = [{"label": "FuPS", "algo": "fups"}, {"label": "GradPS", "algo": "gradps"}]
    content = {**TWO, "env": "pp_small", "preset": "gradps_paper", "overrides": {}, "arms": arms}
    file = written(tmp_path, {**content, "measure": "parameters"})
    assert cli.main(["run", file, "--results", str(tmp_path)]) == 0
    with (tmp_path / "mine-quick" / "paper.csv").open() as lines:
        rows = {row["method"]: row for row in csv.DictReader(lines)}
    assert rows["FuPS"]["agents"] == "45446"  # Table 13's denominator
    assert float(rows["GradPS"]["together, % of FuPS"]) > float(rows["FuPS"]["together, % of FuPS"]) == 100
    capsys.readouterr()
    assert cli.main(["status", file]) == 0
    assert capsys.readouterr().out == "mine: measures parameters, trains nothing\n"
    assert cli.main(["report", file]) == 2
    assert "mine keeps no runs to report on, expected run mine" in capsys.readouterr().err


def test_fewer_than_five_seeds_are_a_smoke_run(two, root, tmp_path):
    put(root, "vdn", settings_of(seeds=2), top=20.0)
    put(root, "iql", settings_of("iql", seeds=2))
    assert cli.main(["report", str(tmp_path / "mine.yaml"), "--log.dir", str(root), "--results", str(tmp_path)]) == 0
    page = (tmp_path / "mine-quick" / "README.md").read_text()
    assert "**A smoke run.** Fewer than 5 seeds show nothing." in page
    assert "| smoke run: fewer than 5 seeds show nothing |" in page


def test_contradictions_are_called_so(two, root):
    put(root, "vdn", settings_of(seeds=5), top=5.0)
    put(root, "iql", settings_of("iql", seeds=5))
    (claim,) = reported(two, "paper", root)["comparisons"]
    assert (claim["verdict"], claim["difference"]["mean"]) == ("contradicted", -5)


def test_only_methods_are_compared_as_methods(tmp_path, root):
    changed = {"learner.lr": 0.01, "env.w": 0.5}
    content = {**TWO, "arms": [TWO["arms"][0], {"label": "IQL", "algo": "iql", "overrides": changed}]}
    loaded = definition.load(written(tmp_path, content))
    put(root, "vdn", settings_of(seeds=5), top=20.0)
    put(root, "iql", settings_of("iql", seeds=5, **changed))
    found = reported(loaded, "paper", root)
    (claim,) = found["comparisons"]
    assert not claim["of_methods"]
    assert claim["because"] == ["env.w differs", "learner.lr differs"]
    assert claim["differences"]["learner.lr"] == [0.001, 0.01]
    table = found["differing_settings"]["matrix_additive"]
    assert table == {
        "env.w": [1.0, 0.5],
        "algo": ["vdn", "iql"],
        "decomposition": ["vdn", "iql"],
        "learner.lr": [0.001, 0.01],
    }
    results = report.collect(loaded, definition.setups(loaded, "paper"), runs.scan(root)[0])
    from experiments import page

    page.write(tmp_path / "out", loaded, "paper", results, runs.scan(root)[0])
    assert "not a comparison of methods: env.w differs; learner.lr differs" in (tmp_path / "out/README.md").read_text()


def test_presets_and_sameness_are_no_methods():
    one, other = (settings_of("qmix", preset=preset) for preset in ("pymarl", "gradps_paper"))
    methods, others = report.differences(one, other)
    assert set(methods) == {"decomposition.embed"}
    assert "preset" in others
    methods, others = report.differences(config.load("pp_small", "qmix"), config.load("pp_small", "fups"))
    assert (methods, others) == ({}, {})
    assert report.differences(other, config.load("matrix_additive", "qmix", {**SMALL, "seed": 3, "log.dir": "x"})) == (
        {},
        {},
    )


@pytest.mark.parametrize("which", ["within", "between", "unknown"])
def test_other_simulators_are_no_comparison(two, root, which):
    put(root, "a", settings_of(seeds=2), jaxmarl="0.1" if which == "within" else "0.2.0")
    put(root, "b", settings_of(seed=2, seeds=3))
    iql = put(root, "c", settings_of("iql", seeds=5), jaxmarl="0.1" if which == "between" else "0.2.0")
    expected = "versions of jaxmarl differ: 0.1 and 0.2.0"
    if which == "unknown":
        (iql / "manifest.json").unlink()
        expected = "versions of jaxmarl differ: 0.2.0 and unknown"
    (claim,) = reported(two, "paper", root)["comparisons"]
    assert (claim["of_methods"], claim["because"]) == (False, [expected])


def test_a_report_of_what_there_is(two, root, tmp_path, capsys):
    file, out = str(tmp_path / "mine.yaml"), tmp_path / "out"
    places = ["--log.dir", str(root), "--results", str(out)]
    assert cli.main(["report", file, *places]) == 0
    assert "4 seeds are missing" in capsys.readouterr().out
    page = (out / "mine-quick" / "README.md").read_text()
    assert "- IQL on matrix_additive, seeds 0 to 1: not begun" in page
    assert "no seed in common yet" in page
    assert {path.name for path in (out / "mine-quick").iterdir()} == {"README.md", "summary.json"}
    put(root, "vdn", settings_of(seeds=2))
    put(root, "half", settings_of("iql", seeds=2), final=1)
    assert cli.main(["report", file, *places]) == 0
    page = (out / "mine-quick" / "README.md").read_text()
    assert f"- IQL on matrix_additive, seeds 0 to 1: interrupted after 2,000 of 2,000 steps in {root / 'half'}" in page
    assert "| VDN | 2 of 2 |" in page
    assert "| IQL | 0 of 2 | - |" in page
    assert "nothing for rliable and marl-eval: no seed is finished in all arms" in page
    assert (out / "mine-quick" / "curve.png").is_file()
    put(root, "iql", settings_of("iql", seed=1, seeds=1))
    assert cli.main(["report", file, *places]) == 0
    assert json.loads((out / "mine-quick" / "rliable.json").read_text()) == {"VDN": [[12]], "IQL": [[12]]}


def test_a_report_is_made_again_where_the_runs_are_gone(two, root, tmp_path, capsys):
    file, out = str(tmp_path / "mine.yaml"), tmp_path / "out"
    places = ["--log.dir", str(root), "--results", str(out)]
    put(root, "vdn", settings_of(seeds=2, **{"log.dir": str(root)}), top=20.0)
    put(root, "half", settings_of("iql", seeds=2), final=1)
    assert cli.main(["report", file, *places]) == 0
    kept = out / "records" / "vdn"
    assert {path.name for path in kept.parent.iterdir()} == {"vdn"}  # what is not finished is not kept
    assert {path.name for path in kept.iterdir()} == {
        path.name if path.suffix != ".jsonl" else f"{path.name}.gz" for path in (root / "vdn").glob("*.*")
    }
    assert str(tmp_path) not in (kept / "config.yaml").read_text()  # no machine's folders
    before = json.loads((out / "mine-quick" / "summary.json").read_text())["arms"][0]
    curve = (out / "mine-quick" / "curve.csv").read_bytes()
    shutil.rmtree(root / "vdn")
    shutil.rmtree(root / "half")
    assert cli.main(["report", file, *places]) == 0
    after = json.loads((out / "mine-quick" / "summary.json").read_text())["arms"][0]
    assert after == {**before, "runs": [str(kept)]}
    assert (out / "mine-quick" / "curve.csv").read_bytes() == curve
    put(root, "iql", settings_of("iql", seeds=2))  # what is run later joins what was kept
    capsys.readouterr()
    assert cli.main(["status", file, *places, "--scale", "quick"]) == 0
    told = capsys.readouterr().out
    assert f"VDN on matrix_additive, seeds 0 to 1: finished in {kept}" in told
    assert cli.main(["report", file, *places]) == 0
    assert json.loads((out / "mine-quick" / "summary.json").read_text())["complete"]
    put(root, "vdn", settings_of(seeds=2), top=30.0)  # again, under the same name
    assert cli.main(["report", file, *places]) == 0
    assert logs.read_rows(kept / "final.jsonl") == logs.read_rows(root / "vdn" / "final.jsonl")
    shutil.rmtree(root / "vdn")
    (kept / "metrics.jsonl.gz").write_bytes(b"damaged")
    assert cli.main(["report", file, *places]) == 2
    assert "metrics.jsonl.gz is damaged, expected a JSON object in every line" in capsys.readouterr().err


def test_worlds_without_their_simulator_are_not_testable(tmp_path, root, capsys):
    content = {**TWO, "env": "host_no_such_module:battle", "overrides": {}}
    file, out = written(tmp_path, content), tmp_path / "out"
    places = ["--log.dir", str(root), "--results", str(out)]
    assert cli.main(["run", file, *places]) == 0
    assert "not testable here: host_no_such_module:battle" in capsys.readouterr().out
    assert not list(root.glob("*"))
    (claim,) = json.loads((out / "mine-quick" / "summary.json").read_text())["comparisons"]
    assert claim["verdict"] == "not testable here"
    page = (out / "mine-quick" / "README.md").read_text()
    assert "- VDN on host_no_such_module:battle, seeds 0 to 1: not testable here: host_no_such_module" in page
    assert cli.main(["status", file, "--log.dir", str(root)]) == 0
    assert "VDN on host_no_such_module:battle: not testable here: " in capsys.readouterr().out


def test_thresholds_that_are_not_reached(two, root):
    put(root, "a", settings_of(seeds=1), top=3.0)
    put(root, "b", settings_of(seed=1, seeds=1), top=30.0)
    first, other = reported(two, "quick", root)["arms"]
    assert first["steps_to_threshold"] == {"median": None, "reached": 1, "of": 2}
    assert other["steps_to_threshold"] is None


def test_a_method_that_did_not_act_is_not_compared(tmp_path, root):
    algos = {"GPVD": "gpvd", "QMIX": "qmix"}
    arms = [{"label": label, "algo": algo} for label, algo in algos.items()]
    loaded = definition.load(written(tmp_path, {**TWO, "arms": arms}))

    def told(*most: float) -> tuple[dict, str]:
        """The comparison and the page where each seed's largest share is one of these."""
        for label, algo in algos.items():
            folder = put(root, label, settings_of(algo, seeds=2)) if not (root / label).exists() else root / label
            rows = logs.read_rows(folder / "metrics.jsonl")
            for row in rows:
                share = {"share_downweighted": most[row["seed"]] if row["env_steps"] == 1000 else 0.0}
                row |= share if algo == "gpvd" else {}
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = runs.scan(root)[0]
        results = report.collect(loaded, definition.setups(loaded, "quick"), found)
        from experiments import page

        made = page.write(tmp_path / "out", loaded, "quick", results, found)
        return made["comparisons"][0], (tmp_path / "out/README.md").read_text()

    sentence = "no evidence about protection: less than 1 percent of transitions were down-weighted in every test"
    claim, text = told(0.005, 0.001)
    assert (claim["of_methods"], claim["because"]) == (False, [f"GPVD: {sentence}"])
    assert "| matrix_additive | GPVD | 0 (0.003) |" in text
    assert f"- GPVD on matrix_additive: {sentence} (seeds 0 to 1)" in text
    claim, text = told(0.5, 0.001)
    assert (claim["of_methods"], claim["because"]) == (True, [])
    assert "| matrix_additive | GPVD | 0 (0.2505) |" in text
    assert f"- GPVD on matrix_additive: {sentence} (seed 1)" in text
    claim, text = told(0.5, 0.5)
    assert "no evidence" not in text


@pytest.mark.parametrize("metric", ["test_retrun", "test_agent"])
def test_a_metric_must_be_a_number_of_the_rows(tmp_path, root, metric):
    put(root, "vdn", settings_of(seeds=2))
    loaded = definition.load(written(tmp_path, {**TWO, "metric": metric}))
    with pytest.raises(SettingError, match=f"the metric '{metric}' is no number in the rows of .*'?test_return"):
        reported(loaded, "quick", root)


# The command line.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run"], "the name of an experiment is missing, expected one of"),
        (["run", "pp_smal_qmix"], "unknown experiment 'pp_smal_qmix'; did you mean 'pp_small_qmix'?"),
        (["run", "pp_small_qmix", "--scale", "quik"], "pp_small_qmix has no scale 'quik'; did you mean 'quick'?"),
        (["run", "pp_small_qmix", "--t_max", "5"], "unknown option --t_max"),
        (["run", "pp_small_qmix", "--log.name", "x"], "--log.name cannot be given"),
        (["report", "pp_small_qmix", "--seeds-mode", "vmap"], "unknown option --seeds_mode"),
        (["list", "pp_small_qmix"], "unexpected argument 'pp_small_qmix'"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr(execute.Child, "run", lambda *_: pytest.fail("training began"))
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("experiments: ")
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


def test_status_names_every_seed(two, root, tmp_path, capsys):
    put(root, "vdn", settings_of(seeds=2))
    (root / "broken").mkdir()
    (root / "broken" / "config.yaml").write_text("[]")
    assert cli.main(["status", str(tmp_path / "mine.yaml"), "--log.dir", str(root)]) == 0
    printed = capsys.readouterr().out
    assert f"passing over {root / 'broken'}" in printed
    for line in (
        "mine, quick:",
        f"  VDN on matrix_additive, seeds 0 to 1: finished in {root / 'vdn'}",
        "  IQL on matrix_additive, seeds 0 to 1: not begun",
        "  VDN on matrix_additive, seeds 2 to 4: not begun",
    ):
        assert line in printed.splitlines()
    assert cli.main(["status", "--log.dir", str(root)]) == 0
    assert "pp_p0_qmix, paper:" in capsys.readouterr().out


def test_listing_needs_no_jax():
    code = "import sys; from experiments.__main__ import main; main(['list']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pp_small_qmix: Does QMIX" in done.stdout
    assert "quick (3 seeds), paper (5 seeds)" in done.stdout


# All of it, with real processes.


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
    command = [sys.executable, "-m", "experiments", "run", written(tmp_path, content), "--log.dir", str(root)]
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
    assert "experiments: SIGTERM ended it; the same command goes on" in said

    crashing, victim = begin()
    os.kill(victim, signal.SIGKILL)
    said = crashing.communicate(timeout=60)[0]
    assert crashing.returncode == 1
    assert "VDN: the run of seeds 0 to 1 ended with signal SIGKILL" in said

    last = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    (run,) = runs.scan(root)[0]
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
    monkeypatch.setattr(execute.Child, "run", lambda *_: pytest.fail("training began again"))
    assert cli.main(command[3:]) == 0
