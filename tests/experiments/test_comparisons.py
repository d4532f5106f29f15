"""Arms are compared as methods only if nothing else differs."""

from __future__ import annotations

import json

import pytest

from gpgrad import config
from gpgrad.experiments import __main__ as cli
from gpgrad.experiments import definition
from gpgrad.experiments.reporting import claims, marks, page, report, results_index
from gpgrad.runs import logs, provenance, run_folder
from tests.helpers.fake_experiment import SMALL, TWO, put, reported, settings_of, written


def test_interactions_are_beyond_the_sum(tmp_path, root):
    """Returns of 400, 200, 150 and 100: both bring 300, one 100, the other 50."""
    tops = {"both": 400, "A": 200, "B": 150, "neither": 100}
    arms = []
    for i, (label, top) in enumerate(tops.items()):
        put(root, label, settings_of(seeds=5, **{"learner.lr": 0.01 * (i + 1)}), top=top)
        arms.append({"label": label, "algo": "vdn", "overrides": {"learner.lr": 0.01 * (i + 1)}})
    file = written(tmp_path, {**TWO, "arms": arms, "claims": [], "interaction": list(tops)})
    assert cli.main(["report", file, "--scale", "paper", "--log.dir", str(root), "--results", str(tmp_path)]) == 0
    (found,) = json.loads((tmp_path / "mine-paper" / "summary.json").read_text())["interactions"]
    assert (found["difference"]["mean"], found["verdict"], found["seeds"]) == (150, "shown", [0, 1, 2, 3, 4])
    page = (tmp_path / "mine-paper" / "README.md").read_text()
    assert "| (both - A) - (B - neither) | shown | 150 [140, 160] | 0.0079 | 0.0079 | 5 |" in page
    assert "The claim of this report is tested alone" in page


def test_fewer_than_five_seeds_are_not_conclusive(two, root, tmp_path):
    put(root, "vdn", settings_of(seeds=2), top=20.0)
    put(root, "iql", settings_of("iql", seeds=2))
    assert cli.main(["report", str(tmp_path / "mine.yaml"), "--log.dir", str(root), "--results", str(tmp_path)]) == 0
    page = (tmp_path / "mine-quick" / "README.md").read_text()
    assert "**Not conclusive.** A verdict needs 5 seeds per arm." in page
    assert "| VDN > IQL | not conclusive (2 of 5 seeds) | 10 [-inf, inf] | 0.33 | 0.33 |" in page
    assert "| not conclusive (2 of 5 seeds): VDN > IQL |" in (tmp_path / "RESULTS.md").read_text()


def test_one_seed_is_marked(two, root, tmp_path):
    put(root, "vdn", settings_of(seeds=1), top=20.0)
    put(root, "iql", settings_of("iql", seeds=1))
    assert cli.main(["report", str(tmp_path / "mine.yaml"), "--log.dir", str(root), "--results", str(tmp_path)]) == 0
    page = (tmp_path / "mine-quick" / "README.md").read_text()
    assert "| VDN | 1 of 2 | 20 (1 seed) | 20 (1 seed) | 10 (1 seed) |" in page
    assert "not conclusive (1 of 5 seeds)" in page
    assert "VDN 20 (1 seed), IQL 10 (1 seed)" in (tmp_path / "RESULTS.md").read_text()


def test_claims_of_a_report_are_one_family(tmp_path, root):
    """Each of seven claims would be shown alone; together they need six seeds."""
    arms = [{"label": "VDN", "algo": "vdn"}]
    put(root, "vdn", settings_of(seeds=6), top=50.0)
    for i in range(1, 8):
        arms.append({"label": f"IQL {i}", "algo": "iql", "overrides": {"learner.lr": 0.01 * i}})
        put(root, f"iql {i}", settings_of("iql", seeds=6, **{"learner.lr": 0.01 * i}), top=10.0)
    scales = {"five": {"seeds": 5}, "six": {"seeds": 6}}
    loaded = definition.load(written(tmp_path, {**TWO, "arms": arms, "scales": scales}))
    for scale, said, adjusted in (("five", "not conclusive", 7 * 2 / 252), ("six", "shown", 7 * 2 / 924)):
        found = reported(loaded, scale, root)
        assert found["family"] == 7
        for claim in found["comparisons"]:
            assert (claim["verdict"], claim["needed"]) == (said, 6)
            assert claim["difference"]["adjusted_p"] == pytest.approx(adjusted)
    arms = [arm for arm in arms if arm["label"] != "IQL 7"]
    loaded = definition.load(written(tmp_path, {**TWO, "arms": arms, "scales": scales}))
    assert {claim["verdict"] for claim in reported(loaded, "five", root)["comparisons"]} == {"shown"}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([{"learner": 1, "decomposition.qmix": 2}], [{"learner": 1, "decomposition.vdn": 1}], []),
        ([{"learner": 1}], [{"learner": 2}], ["numerics of learner differ: 1 and 2"]),
        ([{"learner": 1}, {"learner": 2}], [{"learner": 2}], ["numerics of learner differ: 1 or 2 and 2"]),
        ([{"qmix": 1}, {"qmix": 2}], [{"vdn": 1}], ["numerics of qmix differ: 1 or 2 and none"]),
        (
            [{"env": 1, "collection": 3}],
            [{"env": 2, "collection": 4}],
            ["numerics of env differ: 1 and 2", "numerics of collection differ: 3 and 4"],
        ),
        ([], [{"learner": 1}], []),
    ],
)
def test_versions_of_what_both_arms_have_are_compared(one, other, expected):
    assert marks.marks(one, other) == expected


def test_claims_between_versions_are_marked(two, root, tmp_path):
    put(root, "vdn", settings_of(seeds=5), top=50.0)
    put(root, "iql", settings_of("iql", seeds=5))
    found = run_folder.scan(root)[0]
    vdn, iql = report.collect(two, definition.setups(two, "paper"), found)
    (share,) = iql.shares
    provenance.write(share.run.folder, {**share.run.manifest, "numerics": {**share.run.versions, "learner": 99}})
    older = iql._replace(shares=[share._replace(run=run_folder.read(share.run.folder))])
    for arms, name in (([vdn, iql], "same"), ([vdn, older], "other")):
        page.write(tmp_path / name / "mine-paper", two, "paper", arms, found)
        results_index.write(tmp_path / name)
    text = (tmp_path / "same" / "mine-paper" / "README.md").read_text()
    assert "| marks |" not in text
    assert "| shown: VDN > IQL |" in (tmp_path / "same" / "RESULTS.md").read_text()
    (claim,) = json.loads((tmp_path / "other" / "mine-paper" / "summary.json").read_text())["comparisons"]
    sentence = f"numerics of learner differ: {share.run.versions['learner']} and 99"
    assert claim["marks"] == [sentence]
    text = (tmp_path / "other" / "mine-paper" / "README.md").read_text()
    assert "| compares | marks |" in text
    assert f"| methods | {sentence} |" in text
    assert "| shown: VDN > IQL (marked) |" in (tmp_path / "other" / "RESULTS.md").read_text()


def test_contradictions_are_called_so(two, root):
    put(root, "vdn", settings_of(seeds=5), top=5.0)
    put(root, "iql", settings_of("iql", seeds=5), top=25.0)
    (claim,) = reported(two, "paper", root)["comparisons"]
    assert (claim["verdict"], claim["difference"]["mean"]) == ("contradicted", -20)


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
    results = report.collect(loaded, definition.setups(loaded, "paper"), run_folder.scan(root)[0])
    page.write(tmp_path / "out", loaded, "paper", results, run_folder.scan(root)[0])
    assert "not a comparison of methods: env.w differs; learner.lr differs" in (tmp_path / "out/README.md").read_text()


def test_presets_and_sameness_are_no_methods():
    one, other = (settings_of("qmix", preset=preset) for preset in ("pymarl", "gradps_paper"))
    methods, others = claims.differences(one, other)
    assert set(methods) == {"decomposition.embed", "sharing"}  # pymarl: fups_id, gradps_paper: fups
    assert "preset" in others
    methods, others = claims.differences(config.load("pp_small", "qmix"), config.load("pp_small", "fups"))
    assert (methods, others) == ({}, {})
    assert claims.differences(
        settings_of("qmix"), config.load("matrix_additive", "qmix", {**SMALL, "seed": 3, "log.dir": "x"})
    ) == (
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
        found = run_folder.scan(root)[0]
        results = report.collect(loaded, definition.setups(loaded, "quick"), found)
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
