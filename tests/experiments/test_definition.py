"""Strict reading of experiments' definitions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpgrad.errors import SettingError
from gpgrad.experiments import definition
from gpgrad.experiments.availability import obstacle
from gpgrad.jobs import scheduler
from gpgrad.learning.compose import compose
from tests.helpers.fake_experiment import TWO, written

ROOT = Path(__file__).parents[2]
PAPERS = (
    {"Figure": range(1, 8), "Table": range(1, 3)},
    {"Figure": range(1, 14), "Appendix Figure": range(1, 12), "Table": range(11, 14)},
)


def test_the_catalog_can_be_run():
    assert {"pp_small_qmix", "pp_p0_qmix"} <= set(definition.names())
    composed = set()
    for name in definition.names():
        loaded = definition.load(name)
        assert loaded.name == name
        assert set(loaded.scales) >= {"quick", "paper"}
        for scale in loaded.scales:
            for setup in definition.setups(loaded, scale):
                scheduler.train_arguments(setup, setup.seeds)
                if setup.identity not in composed and not obstacle(setup):
                    compose(setup.config)  # what its parts ask of each other
                    composed.add(setup.identity)


def test_no_scale_trains_more_than_paper():
    for name in definition.names():
        loaded = definition.load(name)
        if loaded.measure != "training":
            continue
        paper = {(s.arm.panel, s.label): s for s in definition.setups(loaded, "paper")}
        for scale in set(loaded.scales) - {"paper"}:
            for setup in definition.setups(loaded, scale):
                most = paper[setup.arm.panel, setup.label]
                assert setup.config.t_max <= most.config.t_max, (name, scale, setup.label)
                assert len(setup.seeds) <= len(most.seeds), (name, scale)


def test_two_labels_of_one_program_are_refused(tmp_path):
    """`qmix` is `fups_id` under PyMARL's preset, and `fups` another method."""
    labels = {"QMIX": "qmix", "FuPS+id": "fups_id"}
    arms = [{"label": label, "algo": algo} for label, algo in labels.items()]
    content = {**TWO, "env": "two_step", "preset": "pymarl", "arms": arms}
    with pytest.raises(SettingError, match=r"FuPS\+id of mine trains the same as QMIX in panel 'two_step'; arms must"):
        definition.setups(definition.load(written(tmp_path, content)), "quick")
    arms[1]["panel"] = "another"
    definition.setups(definition.load(written(tmp_path, content)), "quick")
    del arms[1]["panel"]
    arms[1]["algo"] = "fups"
    definition.setups(definition.load(written(tmp_path, content)), "quick")


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


def test_a_scale_sets_seeds_and_steps():
    quick, paper = (definition.setups(definition.load("pp_small_qmix"), scale)[0] for scale in ("quick", "paper"))
    assert (quick.seeds, paper.seeds) == (range(3), range(5))
    assert (quick.config.t_max, paper.config.t_max) == (300_000, 1_050_000)
    assert quick.identity != paper.identity


def test_common_settings_hold_for_all_arms(tmp_path):
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
    with pytest.raises(SettingError, match="must be a list of environments, without env beside it"):
        definition.load(written(tmp_path, {**content, "env": "two_step"}))
    with pytest.raises(SettingError, match=r"VDN in .* runs in several environments and must not have a panel"):
        definition.load(written(tmp_path, content | {"arms": [{**TWO["arms"][0], "panel": "mine"}]}))


def arm(**changes):
    return {"arms": [{"label": "VDN", "algo": "vdn", **changes}]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale": {}}, "unknown 'scale' in the experiment in .*mine.yaml; did you mean 'scales'"),
        ({"question": None}, "question of the experiment in .* must be text"),
        ({"arms": []}, "arms of the experiment in .* must be a list"),
        ({"arms": ["vdn"]}, "entry 1 of arms in .* must be a mapping of names to values"),
        (arm(algorithm="vdn"), "unknown 'algorithm' in entry 1 of arms in .*; did you mean 'algo'"),
        (arm(overrides={"seeds": 3}), "cannot set 'seeds'"),
        (arm(overrides={"log.dir": "x"}), "cannot set 'log.dir'"),
        (
            arm(overrides=[1]),
            "overrides of entry 1 of arms in .* must be a mapping of names to values \\(got \\[1\\]\\)",
        ),
        ({**arm(), "env": None}, "env of the experiment in .* must be text"),
        (
            {"arms": TWO["arms"] * 2},
            "the arms of panel 'matrix_additive' in .* must have different labels \\(got 'VDN' twice\\)",
        ),
        ({"claims": [["VDN", "IQM"]]}, "unknown arm 'IQM' in claims in .*; did you mean 'IQL'"),
        ({"claims": ["VDN"]}, "must be pairs of labels"),
        ({"interaction": ["VDN"]}, "interaction in .* must be four labels: both, A, B, neither"),
        ({"interaction": ["VDN", "IQL", "VDN", "IQ"]}, "unknown arm 'IQ' in interaction in .*; did you mean 'IQL'"),
        ({"measure": "time"}, "measure of the experiment in .* is 'time'; did you mean 'times'"),
        ({"scales": {}}, "scales in .* must have at least one entry"),
        ({"scales": {"quick": {}}}, "quick in .* has no seeds"),
        ({"scales": {"quick": {"seeds": 0}}}, "must have 1 or more seeds, the first of 0 or more \\(got 0 from 0\\)"),
        ({"scales": {"quick": {"seeds": "many"}}}, "seeds of quick in .* must be a whole number"),
        ({"scales": {"quick": {"seeds": 1, "t_max": 5}}}, "unknown 't_max' in quick in .*; valid names are seeds"),
        ({"drawings": [{"kind": "curve"}]}, "kind of entry 1 of drawings in .* is 'curve'; did you mean 'curves'"),
        ({"drawings": [{}, {}]}, "drawings in .* must have different names \\(got 'curve' twice\\)"),
        ({"drawings": [{"kind": "grids"}]}, "entry 1 of drawings in .* has no name, which is needed"),
        ({"drawings": [{"by": "hour"}]}, "by of entry 1 of drawings in .* is 'hour'; did you mean 'hours'"),
        ({"drawings": [{"arms": ["VDM"]}]}, "unknown arm 'VDM' in entry 1 of drawings in .*; did you mean 'VDN'"),
        ({"threshold": "high"}, "threshold of the experiment in .* must be a finite number"),
    ],
)
def test_mistakes_in_declarations_get_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(SettingError, match=sentence) as caught:
        definition.load(written(tmp_path, {**TWO, **changes}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"env": "matrix_aditive"},
            "VDN of mine: unknown environment 'matrix_aditive'; did you mean 'matrix_additive'",
        ),
        ({"preset": "pymar"}, "VDN of mine: unknown preset 'pymar'"),
        (arm(overrides={"learner.lrr": 1}), "VDN of mine: unknown setting 'learner.lrr'; did you mean 'learner.lr'"),
    ],
)
def test_mistakes_in_settings_name_the_arm(tmp_path, changes, sentence):
    with pytest.raises(SettingError, match=sentence):
        definition.setups(definition.load(written(tmp_path, {**TWO, **changes})), "quick")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for content, sentence in {"a: [": "is no YAML", "- a": "must be a mapping of names to values"}.items():
        (tmp_path / "mine.yaml").write_text(content)
        with pytest.raises(SettingError, match=sentence):
            definition.load(str(tmp_path / "mine.yaml"))
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        definition.load(str(tmp_path / "none.yaml"))
