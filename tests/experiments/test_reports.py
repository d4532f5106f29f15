"""The content of reports."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.experiments import __main__ as cli
from gpgrad.experiments import definition
from gpgrad.experiments.reporting import results_index
from gpgrad.jobs import scheduler
from gpgrad.runs import logs, stats
from tests.helpers.fake_experiment import TWO, put, reported, settings_of, written


def test_a_report_has_the_statistics_of_the_runs(two, root, tmp_path, capsys):
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
    assert (claim["difference"]["mean"], claim["difference"]["p_value"]) == (10, 2 / 252)
    assert claim["probability_of_improvement"]["value"] == 1
    page = (folder / "README.md").read_text()
    for text in (
        "VDN > IQL | shown | 10 [5, 15] | 0.0079 | 0.0079 | 1 [1, 1] | 5 |",
        "| 5 of 5 |",
        "`decomposition` | vdn | iql",
        "| jaxmarl | 0.2.0 |",
    ):
        assert text in page
    assert "conclusive (" not in page
    assert "**Not conclusive.**" not in page
    assert vdn["command"].startswith("gpgrad train --env=matrix_additive")
    assert vdn["command"] in page
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
        arguments = scheduler.train_arguments(setup, setup.seeds)
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
    monkeypatch.setattr("gpgrad.cli.experiment.RESULTS", out)
    monkeypatch.setattr(definition, "names", lambda: asked)
    monkeypatch.setattr(
        results_index, "obstacle", lambda setup: "no StarCraft" if setup.env.startswith("smac_") else ""
    )
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
        f"| `gpvd_fig5` | {questions[1]} | no run finished yet |",
    ]


def test_parameters_are_counted_without_training(tmp_path, capsys):
    arms = [{"label": "FuPS", "algo": "fups"}, {"label": "GradPS", "algo": "gradps"}]
    content = {**TWO, "env": "pp_small", "preset": "gradps_paper", "overrides": {}, "arms": arms}
    file = written(tmp_path, {**content, "measure": "parameters"})
    assert cli.main(["run", file, "--results", str(tmp_path)]) == 0
    with (tmp_path / "mine-quick" / "paper.csv").open() as lines:
        rows = {row["method"]: row for row in csv.DictReader(lines)}
    assert rows["FuPS"]["agents"] == "45446"  # Table 13's denominator
    assert float(rows["GradPS"]["total, % of FuPS"]) > float(rows["FuPS"]["total, % of FuPS"]) == 100
    capsys.readouterr()
    assert cli.main(["status", file]) == 0
    assert capsys.readouterr().out == "mine: measures parameters, trains nothing\n"
    assert cli.main(["report", file]) == 2
    assert "mine trains no runs to report on; use gpgrad experiment run mine" in capsys.readouterr().err


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
    assert "no files for rliable and marl-eval: no seed is finished in all arms" in page
    assert (out / "mine-quick" / "curve.png").is_file()
    put(root, "iql", settings_of("iql", seed=1, seeds=1))
    assert cli.main(["report", file, *places]) == 0
    assert json.loads((out / "mine-quick" / "rliable.json").read_text()) == {"VDN": [[12]], "IQL": [[12]]}


def test_a_report_can_be_rebuilt_without_the_runs(two, root, tmp_path, capsys):
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
    assert "metrics.jsonl.gz is damaged, every line must be a JSON object" in capsys.readouterr().err


def test_worlds_without_their_simulator_are_not_testable(tmp_path, root, capsys):
    content = {**TWO, "env": "host_no_such_module:battle", "overrides": {}}
    file, out = written(tmp_path, content), tmp_path / "out"
    places = ["--log.dir", str(root), "--results", str(out)]
    assert cli.main(["run", file, *places]) == 0
    assert "not testable here: there is no module 'no_such_module'" in capsys.readouterr().out
    assert not list(root.glob("*"))
    (claim,) = json.loads((out / "mine-quick" / "summary.json").read_text())["comparisons"]
    assert claim["verdict"] == "not testable here"
    page = (out / "mine-quick" / "README.md").read_text()
    assert "- VDN on host_no_such_module:battle, seeds 0 to 1: not testable here: there is no module" in page
    assert cli.main(["status", file, "--log.dir", str(root)]) == 0
    assert "VDN on host_no_such_module:battle: not testable here: " in capsys.readouterr().out


def test_thresholds_that_are_not_reached(two, root):
    put(root, "a", settings_of(seeds=1), top=3.0)
    put(root, "b", settings_of(seed=1, seeds=1), top=30.0)
    first, other = reported(two, "quick", root)["arms"]
    assert first["steps_to_threshold"] == {"median": None, "reached": 1, "of": 2}
    assert other["steps_to_threshold"] is None


@pytest.mark.parametrize("metric", ["test_retrun", "test_agent"])
def test_a_metric_must_be_a_number_of_the_rows(tmp_path, root, metric):
    put(root, "vdn", settings_of(seeds=2))
    loaded = definition.load(written(tmp_path, {**TWO, "metric": metric}))
    with pytest.raises(SettingError, match=f"the metric '{metric}' is not a number in the rows of .*'?test_return"):
        reported(loaded, "quick", root)
