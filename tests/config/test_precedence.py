"""Which file may set what: presets are the same for every environment, and each network has one name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpgrad import config, envs
from gpgrad.config import numerics, precedence, presets, validate
from gpgrad.errors import SettingError
from gpgrad.learning.compose import compose
from gpgrad.methods import registry
from gpgrad.runs import provenance, run_folder

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "old_runs"

# The published columns, written out once more.
PYMARL = {
    "t_max": 2_050_000,
    "sharing": "fups_id",
    "agent.agent_id": True,
    "agent.hidden": 64,
    "decomposition.embed": 32,
    "learner.optimiser": "rmsprop",
    "learner.lr": 5e-4,
    "learner.clip": 10.0,
    "learner.gamma": 0.99,
    "learner.td_lambda": 0.0,
    "learner.loss_factor": 1.0,
    "learner.batch_episodes": 32,
    "learner.updates_per_episode": 1.0,
    "learner.target_every_episodes": 200,
    "replay.capacity": 5000,
    "rollout.worlds": 1,
    "rollout.start": 1.0,
    "rollout.finish": 0.05,
    "rollout.anneal_steps": 50_000,
}
PYMARL2 = {
    **PYMARL,
    "t_max": 10_050_000,
    "learner.optimiser": "adam",
    "learner.lr": 1e-3,
    "learner.td_lambda": 0.6,
    "learner.loss_factor": 0.5,
    "learner.batch_episodes": 128,
    "learner.updates_per_episode": 0.125,
    "rollout.worlds": 8,
    "rollout.anneal_steps": 100_000,
}
GAMES = {
    **PYMARL,
    "t_max": 320_000,
    "learner.optimiser": "adam",
    "learner.lr": 1e-3,
    "learner.updates_per_episode": 1 / 32,
    "replay.capacity": 4096,
    "rollout.worlds": 32,
    "rollout.finish": 1.0,
}
DEFINED = {
    "pymarl": PYMARL,
    "pymarl2": PYMARL2,
    "pymarl3": PYMARL2,
    "gradps_paper": {**PYMARL, "sharing": "fups", "agent.agent_id": False, "decomposition.embed": 64},
    "games": GAMES,
}


def declared(file: str, preset: str) -> dict[str, Any]:
    """What a world's file says for one preset, of what defines it, by dotted names, read from the YAML alone."""
    path = ROOT / "configs" / "env" / f"{file}.yaml"
    content = (yaml.safe_load(path.read_text()) or {}).get("presets", {}).get(preset, {}) if path.is_file() else {}
    names = {}
    for key, value in content.items():
        names |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return {name: value for name, value in names.items() if precedence.defines(name)}


@pytest.mark.parametrize("preset", presets.available("preset"))
def test_every_world_has_what_defines_the_preset_but_for_what_its_file_declares(preset):
    for env in envs.names():
        expected = dict(DEFINED[preset])
        for name, value in {**declared(envs.family(env), preset), **declared(env, preset)}.items():
            expected |= (
                {"sharing": value, "agent.agent_id": value == "fups_id"} if name == "parts.sharing" else {name: value}
            )
        loaded = config.flat(config.load(env, "qmix", {"preset": preset}))
        assert {name: loaded[name] for name in expected} == expected, env


def test_the_readme_lists_all_exceptions():
    rows = re.findall(
        r"^\| `([\w-]+)` \| `(\w+)` \| `([\w.]+)` \| (\S+) \| (\S+) \|",
        (ROOT / "configs" / "README.md").read_text(),
        re.M,
    )
    files = presets.available("env")
    found = {
        (file, preset, name, str(DEFINED[preset][name.replace("parts.", "")]), str(value))
        for file in files
        for preset in DEFINED
        for name, value in declared(file, preset).items()
    }
    assert set(rows) == found
    assert len(rows) == len(found)


@pytest.mark.parametrize(
    ("kind", "name", "content", "sentence"),
    [
        ("env", "two_step", "t_max: 5", "configs/env/two_step.yaml sets t_max, which a training preset defines"),
        (
            "env",
            "matrix",
            "learner: {lr: 1}",
            "configs/env/matrix.yaml sets learner.lr, which a training preset defines",
        ),
        ("env", "two_step", "parts: {sharing: fups}", "configs/env/two_step.yaml sets parts.sharing, which"),
        ("env", "two_step", "decomposition: {qmix: {embed: 8}}", "configs/env/two_step.yaml sets decomposition.qmix"),
        ("env", "two_step", "presets: {games: {parts: {weighting: gpvd}}}", "must be sharing alone"),
        (
            "preset",
            "games",
            "parts: {decomposition: vdn}",
            "parts in configs/preset/games.yaml must be sharing alone (got",
        ),
        (
            "preset",
            "games",
            "parts: vdn",
            "parts in configs/preset/games.yaml must be a mapping of names to values (got 'vdn')",
        ),
        ("algo", "gpvd", "learner: {td_lambda: 0.6}", "configs/algo/gpvd.yaml sets learner.td_lambda, which"),
    ],
)
def test_files_may_not_change_a_preset_unseen(tmp_path, monkeypatch, kind, name, content, sentence):
    shutil.copytree(presets.folder(), tmp_path / "configs")
    (tmp_path / "configs" / kind / f"{name}.yaml").write_text(content)
    monkeypatch.setattr(presets, "folder", lambda: tmp_path / "configs")
    with pytest.raises(SettingError, match=re.escape(sentence)) as caught:
        config.load("two_step", "gpvd", {"preset": "games"})
    assert "\n" not in str(caught.value)


def test_a_worlds_exception_is_for_the_named_preset_alone(tmp_path, monkeypatch):
    shutil.copytree(presets.folder(), tmp_path / "configs")
    (tmp_path / "configs" / "env" / "two_step.yaml").write_text("presets: {pymarl: {t_max: 5000}}")
    monkeypatch.setattr(presets, "folder", lambda: tmp_path / "configs")
    assert config.load("two_step", "qmix", {"preset": "pymarl"}).t_max == 5000
    assert config.load("two_step", "qmix", {"preset": "pymarl2"}).t_max == 10_050_000


@pytest.mark.parametrize("preset", presets.available("preset"))
def test_the_scheme_decides_about_the_id(preset):
    """FuPS+id alone has one, on every preset; the others only where asked for, FuPS never."""
    for name in registry.names("sharing"):
        loaded = config.load("pp_small", name, {"preset": preset})
        assert loaded.agent.agent_id == compose(loaded).sharing.net.agent_id == (name == "fups_id"), name
        if name not in ("fups", "fups_id"):
            asked = config.load("pp_small", name, {"preset": preset, "agent.agent_id": True})
            assert compose(asked).sharing.net.agent_id, name


def test_an_id_that_contradicts_the_scheme_is_refused():
    for sharing, given, other in (("fups", True, "fups_id"), ("fups_id", False, "fups")):
        with pytest.raises(
            SettingError, match=f"agent.agent_id is {str(given).lower()}, .* --sharing {other}, or leave out"
        ):
            config.load("pp_small", "vdn", {"sharing": sharing, "agent.agent_id": given})
    same = [
        {"sharing": "fups_id"},
        {"sharing": "fups_id", "agent.agent_id": True},
        {"sharing": "fups_id", "agent.agent_id": None},
    ]
    assert len({config.identity(config.load("pp_small", "vdn", changes)) for changes in same}) == 1


def test_algorithms_without_a_scheme_take_the_presets_and_their_names_show_it():
    for algo in ("qmix", "gpvd", "qplex", "vdn"):
        for preset, scheme in {
            "pymarl": "fups_id",
            "pymarl2": "fups_id",
            "pymarl3": "fups_id",
            "gradps_paper": "fups",
        }.items():
            loaded = config.load("smax_3m", algo, {"preset": preset})
            assert (loaded.sharing.name, config.label(loaded)) == (scheme, f"{algo}_{scheme}")
    assert (
        config.load("pp_p2", "gpvd", {"preset": "pymarl2"}).sharing.name == "fups"
    )  # as PyMARL2's file for this board
    for algo, preset in (("gpvd_gradps", "pymarl"), ("vdn_fups", "pymarl"), ("fups_id", "gradps_paper")):
        loaded = config.load("smax_3m", algo, {"preset": preset})
        assert config.label(loaded) == algo
        assert loaded.agent.agent_id == (algo == "fups_id")


def test_names_of_one_program_have_one_identity():
    for preset, scheme in (("pymarl", "fups_id"), ("gradps_paper", "fups")):
        options = [("qmix", {}), (scheme, {}), (f"qmix_{scheme}", {}), ("qmix", {"sharing": scheme})]
        found = {config.identity(config.load("smax_3m", algo, {"preset": preset, **more})) for algo, more in options}
        assert len(found) == 1


@pytest.mark.parametrize(
    ("file", "scheme", "label"),
    [
        ("fups_with_id", "fups_id", "qmix_fups_id"),
        ("fups_id_without", "fups_id", "fups_id"),
        ("fups_without_id", "fups", "fups"),
    ],
)
def test_old_runs_keep_the_network_they_were_trained_with(file, scheme, label):
    """Stored as version 0.x wrote them: FuPS with `agent_id` true, FuPS+id with false, FuPS with false."""
    loaded = config.parse(OLD / f"{file}.yaml")
    assert (loaded.sharing.name, config.label(loaded)) == (scheme, label)
    assert loaded.agent.agent_id == compose(loaded).sharing.net.agent_id == (scheme == "fups_id")


def test_old_runs_are_shown_and_found_by_todays_names(tmp_path):
    old = (OLD / "fups_with_id.yaml").read_text()
    (tmp_path / "config.yaml").write_text(old)
    assert run_folder.read(tmp_path).method == "qmix_fups_id"
    today = config.load("matrix_gpvd", "qmix", {"t_max": 64_000})
    assert config.identity(config.parse(tmp_path / "config.yaml")) == config.identity(today)
    (tmp_path / "config.yaml").write_text(old.replace("algo: qmix", "algo: fups"))
    assert config.label(config.parse(tmp_path / "config.yaml")) == run_folder.read(tmp_path).method == "fups_id"
    again = tmp_path / "again.yaml"
    again.write_text(config.dump(config.parse(tmp_path / "config.yaml")))
    assert config.parse(again) == config.parse(tmp_path / "config.yaml")


def test_every_kept_record_has_its_network():
    for path in sorted((ROOT / "experiments" / "results" / "records").glob("*/config.yaml")):
        raw = yaml.safe_load(path.read_text())
        assert config.parse(path).agent.agent_id == (raw["sharing"] == "fups_id" or raw["agent.agent_id"]), path


def test_the_agents_id_is_a_choice_of_three():
    kind = config.types(config.load("pp_small", "qmix"))["agent.agent_id"]
    assert [validate.coerce(value, kind, "x") for value in ("none", "true", "false")] == [None, True, False]


def test_a_run_that_began_under_the_old_names_goes_on(tmp_path):
    """Its manifest has the settings and versions of then."""
    old = yaml.safe_load((OLD / "fups_with_id.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    today = config.parse(tmp_path / "config.yaml")
    versions = {
        ("sharing.fups" if part == "sharing.fups_id" else part): n for part, n in numerics.versions(today).items()
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": old, "numerics": versions}))
    provenance.check(tmp_path, today)
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": {**old, "learner.lr": 5.0}, "numerics": versions}))
    with pytest.raises(SettingError, match=r"learner\.lr is 0\.001 and was 5\.0"):
        provenance.check(tmp_path, today)
