"""Arms are compared as methods only where nothing else differs."""

from __future__ import annotations

import json

import pytest

import experiments.__main__ as cli
from experiments import definition, report
from gpgrad import config, logs, runs
from tests.declared import SMALL, TWO, put, reported, settings_of, written


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
