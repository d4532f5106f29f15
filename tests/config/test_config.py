"""Settings: presets, precedence, and one-sentence errors."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from pathlib import Path
from typing import Literal

import pytest
from setuptools import find_namespace_packages

from gpgrad import config
from gpgrad.config import presets, validate
from gpgrad.config.schema import Log, Part
from gpgrad.errors import SettingError
from gpgrad.methods import registry

ROOT = Path(__file__).parents[2]


def test_presets_are_the_published_columns():
    columns = {
        name: config.flat(config.load("pp_small", "qmix", {"preset": name})) for name in presets.available("preset")
    }
    expected = {
        "rollout.worlds": (1, 8, 1),
        "learner.batch_episodes": (32, 128, 32),
        "replay.capacity": (5000, 5000, 5000),
        "learner.optimiser": ("rmsprop", "adam", "rmsprop"),
        "learner.lr": (5e-4, 1e-3, 5e-4),
        "learner.clip": (10, 10, 10),
        "learner.td_lambda": (0.0, 0.6, 0.0),
        "learner.loss_factor": (1.0, 0.5, 1.0),
        "learner.gamma": (0.99, 0.99, 0.99),
        "learner.target_every_episodes": (200, 200, 200),
        "learner.updates_per_episode": (1.0, 0.125, 1.0),
        "rollout.anneal_steps": (50_000, 100_000, 50_000),
        "agent.hidden": (64, 64, 64),
        "decomposition.embed": (32, 32, 64),
        "decomposition.hypernet_embed": (64, 64, 64),
        "decomposition.hypernet_layers": (2, 2, 2),
        "agent.agent_id": (True, False, False),  # PyMARL2 drops the id on these boards
        "agent.last_action": (True, True, True),
    }
    for name, values in expected.items():
        assert tuple(columns[p][name] for p in ("pymarl", "pymarl2", "gradps_paper")) == values, name


def test_preset_comes_from_the_world_and_never_from_the_algorithm():
    assert config.load("pp_small", "vdn").preset == config.load("pp_small", "qmix").preset == "gradps_paper"
    assert config.load("pp_p2", "qmix").preset == "pymarl2"
    assert config.load("matrix_gpvd", "qmix").preset == "games"
    one, two = (config.flat(config.load("pp_small", algo)) for algo in ("qmix", "iql"))
    differing = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    assert {key.split(".")[0] for key in differing} == {"algo", "decomposition"}


def test_worlds_may_differ_by_preset():
    paper = config.load("pp_p2", "qmix")
    assert (paper.t_max, paper.agent.agent_id) == (2_050_000, False)
    other = config.load("pp_p2", "qmix", {"preset": "pymarl"})
    assert (other.t_max, other.agent.agent_id) == (1_050_000, True)


def test_overrides_win_and_reach_every_group():
    changed = config.load(
        "pp_small", "qmix", {"learner.lr": "1e-3", "env.penalty": -1, "decomposition.embed": "16", "seeds": "4"}
    )
    assert (changed.learner.lr, changed.env.options["penalty"], changed.seeds) == (1e-3, -1.0, 4)
    assert changed.decomposition.options["embed"] == 16
    assert config.load("pp_small", "qmix", {"decomposition": "vdn"}).decomposition.name == "vdn"
    assert config.load("pp_small", "vdn_fups_id").sharing.name == "fups_id"
    assert config.load("pp_small", "qmix", {"evaluation.every_episodes": "7"}).evaluation.every_episodes == 7
    assert config.load("pp_small", "qmix", {"evaluation.every_episodes": "none"}).evaluation.every_episodes is None


def test_tests_by_steps_replace_a_worlds_tests_by_episodes():
    assert config.load("smax_3m", "qmix").evaluation.every_episodes == 500
    changed = config.load("smax_3m", "qmix", {"evaluation.every_steps": "2000"}).evaluation
    assert (changed.every_steps, changed.every_episodes) == (2000, None)
    both = {"evaluation.every_episodes": 70, "evaluation.every_steps": 2000}
    assert config.load("smax_3m", "qmix", both).evaluation.every_episodes == 70


@pytest.mark.parametrize("env", ["matrix_additive", "pp_small", "pp_medium", "pp_large", "smax_3m"])
def test_variants_of_gradps_differ_in_nothing_but_themselves(env):
    sizes = {
        name: [config.load(env, name).sharing.options[key] for key in ("k", "T")]
        for name in ("gradps", "gradps_as_printed", "gradps_as_released", "gradps_random")
    }
    assert len(set(map(tuple, sizes.values()))) == 1, sizes


def test_label_says_what_runs():
    assert config.label(config.load("pp_small", "qmix")) == "qmix_fups"
    assert config.label(config.load("pp_small", "qmix", {"decomposition": "vdn"})) == "vdn-fups-none"


def test_round_trip_and_fingerprint(tmp_path):
    settings = config.load("pp_small", "qmix", {"learner.lr": 1e-3, "env.special_ids": "2,3"})
    file = tmp_path / "config.yaml"
    file.write_text(config.dump(settings))
    assert config.parse(file) == settings
    for broken in ("", "- a", "a: [", "env: pp_small"):
        file.write_text(broken)
        with pytest.raises(SettingError, match=r"config.yaml"):
            config.parse(file)
    with pytest.raises(SettingError, match="has no resolved settings"):
        config.parse(tmp_path / "nothing.yaml")
    same = dataclasses.replace(settings, log=Log(name="elsewhere"))
    other = dataclasses.replace(settings, seed=1)
    assert config.fingerprint(same) == config.fingerprint(settings) != config.fingerprint(other)


def test_identity_is_what_a_seeds_numbers_depend_on():
    settings = config.load("pp_small", "qmix")
    same = [
        {"seed": 7, "seeds": 3, "seeds_mode": "process", "devices": 1},
        {"log.name": "x", "log.dir": "y", "checkpoint.keep": 5},
        {"decomposition": "qmix", "decomposition.embed": 64},
    ]
    assert {config.identity(config.load("pp_small", "qmix", changes)) for changes in same} == {
        config.identity(settings)
    }
    assert config.identity(config.load("pp_small", "vdn", {"decomposition": "qmix"})) != config.identity(
        config.load("pp_small", "vdn")
    )
    one = dataclasses.replace(settings, algo="fups", preset="pymarl")
    assert config.identity(one) == config.identity(settings)
    options = {**settings.env.options, "penalty": 0}
    assert config.identity(dataclasses.replace(settings, env=Part("pp_small", options))) == config.identity(settings)
    others = [{"t_max": 300_000}, {"learner.lr": 1e-3}, {"env.penalty": -1}, {"decomposition": "vdn"}]
    others += [{"evaluation.final_episodes": 9}, {"sharing": "fups_id"}]
    names = {config.identity(config.load("pp_small", "qmix", changes)) for changes in others}
    assert len(names | {config.identity(settings)}) == len(others) + 1


def test_an_old_file_takes_defaults_where_it_lacks_settings(tmp_path):
    """Not the preset's values: pymarl2's TD(0.6) was not there before td_lambda was."""
    settings = config.load("pp_p0", "qmix")
    file = tmp_path / "config.yaml"
    lines = config.dump(settings).splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(("learner.double_q", "env.freeze"))))
    assert config.parse(file) == settings
    assert config.identity(config.parse(file)) == config.identity(settings)
    file.write_text("".join(line for line in lines if not line.startswith("learner.td_lambda")))
    assert settings.learner.td_lambda == 0.6
    assert config.parse(file).learner.td_lambda == 0.0
    for line, sentence in {
        "learner.old: 1": "unknown setting 'learner.old' in",
        "algo: [1]": "must be text",
        "algo: qmxi": "unknown algorithm 'qmxi'",
        "weighting: nine": "unknown weighting 'nine'",
        "env: pp": "no environment 'pp'",
    }.items():
        others = [other for other in lines if other.partition(":")[0] != line.partition(":")[0]]
        file.write_text("".join(others) + line)
        with pytest.raises(SettingError, match=sentence):
            config.parse(file)


@pytest.mark.parametrize(
    ("env", "algo", "overrides", "sentence"),
    [
        ("pp_smal", "qmix", {}, "unknown environment 'pp_smal'; did you mean 'pp_small'?"),
        ("pp_small", "qmxi", {}, "unknown algorithm 'qmxi'; did you mean 'qmix'?"),
        ("pp_small", "qmix", {"preset": "pymarl4"}, "unknown preset 'pymarl4'; did you mean 'pymarl"),
        ("pp_small", "qmix", {"sharing": "fup"}, "unknown sharing 'fup'; did you mean 'fups'?"),
        ("pp_small", "qmix", {"learner.lrr": 1}, "unknown setting 'learner.lrr'; did you mean 'learner.lr'?"),
        ("pp_small", "vdn", {"decomposition.embed": 8}, "unknown setting 'decomposition.embed'"),
        ("pp_small", "qmix", {"env.penlty": 8}, "unknown setting 'env.penlty'; did you mean 'env.penalty'?"),
        ("pp_small", "qmix", {"learner.lr": "fast"}, "learner.lr must be a finite number (got 'fast')"),
        ("pp_small", "qmix", {"learner.lr": "nan"}, "learner.lr must be a finite number (got 'nan')"),
        ("pp_small", "qmix", {"seeds": "2.5"}, "seeds must be a whole number such as 5000, 5k or 1.05M (got '2.5')"),
        ("pp_small", "qmix", {"agent.agent_id": "maybe"}, "agent.agent_id must be true or false (got 'maybe')"),
        ("pp_small", "qmix", {"learner.optimiser": "adm"}, "learner.optimiser is 'adm'; did you mean 'adam'?"),
        ("pp_small", "qmix", {"learner.lr": 0}, "learner.lr must be more than 0 (got 0.0)"),
        ("pp_small", "qmix", {"learner.gamma": 1.5}, "learner.gamma must be between 0 and 1 (got 1.5)"),
        ("pp_small", "qmix", {"replay.capacity": 16}, "must be at least learner.batch_episodes = 32 (got 16)"),
        ("pp_small", "qmix", {"rollout.worlds": 64, "replay.capacity": 100}, "a multiple of rollout.worlds = 64"),
        ("pp_small", "qmix", {"rollout.worlds": 250, "learner.updates_per_episode": 1}, "at most learner.target_every"),
        (
            "pp_small",
            "qmix",
            {"learner.updates_per_episode": 0.3},
            "must be a whole number of gradient steps (got 0.3, which gives 0.3)",
        ),
        ("pp_small", "qmix", {"env": "x"}, "unknown setting 'env'"),
        ("pp_small", "qmix", {"preset": ""}, "unknown preset ''"),
        ("pp_small", "qmix", {"t_max": 1e10}, "t_max must be at most 1073741823 (got 10000000000)"),
        ("pp_small", "qmix", {"seed": 2**31 - 1}, "with all seeds below 2147483647 (got 2147483647)"),
        ("pp_small", "qmix", {"rollout.start": 0.01}, "rollout.finish must be at most rollout.start = 0.01 (got 0.05)"),
        ("pp_small", "qmix", {"decomposition.hypernet_layers": 3}, "decomposition.hypernet_layers is 3"),
        ("pp_small", "qmix", {1: 2}, "a name must be text (got 1)"),
    ],
)
def test_mistakes_get_one_sentence(env, algo, overrides, sentence):
    with pytest.raises(SettingError) as caught:
        config.load(env, algo, overrides)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "sentence"),
    [
        (
            "env",
            "decomposition: vdn",
            "decomposition in configs/env/two_step.yaml must be a mapping of names to values (got 'vdn')",
        ),
        (
            "env",
            "presets: {games: {decomposition: {qmxi: {}}}}",
            "unknown decomposition 'qmxi' in configs/env/two_step.yaml",
        ),
        ("env", "presets: {pymrl: {}}", "unknown preset 'pymrl' in configs/env/two_step.yaml"),
        ("env", "presets: {games: {learner: {lrr: 1}}}", "unknown setting 'learner.lrr' in configs/env/two_step.yaml"),
        ("env", "a: [", "is no YAML"),
        ("env", "- a", "must be a mapping of names to values"),
    ],
)
def test_mistakes_in_files_are_named(tmp_path, monkeypatch, kind, content, sentence):
    shutil.copytree(presets.folder(), tmp_path / "configs")
    (tmp_path / "configs" / kind / "two_step.yaml").write_text(content)
    monkeypatch.setattr(presets, "folder", lambda: tmp_path / "configs")
    with pytest.raises(SettingError, match=re.escape(sentence)):
        config.load("two_step", "qmix")


def test_settings_of_plugins_are_typed():
    kinds = {
        Literal["a", "b"] | None: [("none", None), ("a", "a")],
        Literal[1, 2]: [("2", 2), (1, 1)],
        tuple[int, ...]: [("1,2", (1, 2)), ([3], (3,))],
        float | None: [("1e-3", 1e-3), (None, None)],
    }
    for kind, pairs in kinds.items():
        for value, expected in pairs:
            assert validate.coerce(value, kind, "name") == expected
    with pytest.raises(SettingError, match="must be a whole number"):
        validate.coerce("1,x", tuple[int, ...], "name")


def test_the_wheel_has_every_package_and_no_results():
    """What `pyproject.toml` packages: all folders with a module or a YAML file, under the one name."""
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packaged = set(find_namespace_packages(str(ROOT), **find))
    paths = [path for folder in ("gpgrad", "envs", "configs", "experiments") for path in (ROOT / folder).rglob("*.*")]
    folders = {path.relative_to(ROOT).parent.parts for path in paths if path.suffix in (".py", ".yaml")}
    folders = {parts if parts[0] == "gpgrad" else ("gpgrad", *parts) for parts in folders if "results" not in parts}
    assert {".".join(parts) for parts in folders} <= packaged
    assert not [name for name in packaged if "results" in name or not name.startswith("gpgrad")]


def worlds_of_each_kind() -> list[str]:
    """One for all that have the same files."""
    from gpgrad import envs

    kinds = {(envs.family(name), presets.exists("env", name) and name): name for name in envs.names()}
    return list(kinds.values())


def test_every_world_and_algorithm_loads():
    """Names that stand for a decomposition and a scheme together only on one world each."""
    worlds, algos = worlds_of_each_kind(), config.algorithms()
    single = {name for kind in ("decomposition", "sharing") for name in registry.names(kind)} | {
        *presets.available("algo")
    }
    for i, algo in enumerate(algos):
        for env in worlds if algo in single else [worlds[i % len(worlds)]]:
            loaded = config.load(env, algo)
            assert (loaded.env.name, loaded.algo) == (env, algo)


def test_the_control_and_the_ablations_have_the_methods_settings():
    for env in worlds_of_each_kind():
        method = config.load(env, "gpvd").weighting.options
        assert config.load(env, "gpvd_random").weighting.options == method
        protection = {"alpha"} if method["star_weight"] == 1 else {"alpha", "star_weight"}
        changed = {"gpvd_no_simhash": {"grouping"}, "gpvd_no_protection": protection, "gpvd_no_bonus": {"beta"}}
        for name, expected in changed.items():
            options = config.load(env, name).weighting.options
            assert {key for key in method if options[key] != method[key]} == expected
    for preset, k in (("pymarl2", 12), ("pymarl", 10), ("gradps_paper", 10)):
        assert config.load("pp_p2", "gpvd", {"preset": preset}).weighting.options["k"] == k
    assert config.load("matrix_gpvd", "gpvd").weighting.options["k"] == 32
    stars = {
        env: config.load(env, "gpvd").weighting.options["star_weight"] for env in ("pp_p0", "pp_p2", "matrix_gpvd")
    }
    assert stars == {"pp_p0": 1, "pp_p2": 5, "matrix_gpvd": 1}


@pytest.mark.parametrize(
    ("text", "number"), [("5k", 5000), ("1.05M", 1_050_000), ("2K", 2000), ("1e5", 100_000), (1e5, 100_000), ("7", 7)]
)
def test_whole_numbers_have_units(text, number, tmp_path):
    found = config.load("matrix_gpvd", "vdn", {"t_max": text, "evaluation.every_steps": 5}).t_max
    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize(
    "text", ["1.5", 1.5, "1.0005k", "k", "5kk", "5 k", "5m", "1e3k", "1.00000000000000001", "1e400"]
)
def test_numbers_that_are_not_whole_are_refused_not_rounded(text):
    with pytest.raises(SettingError, match=r"^t_max must be a whole number such as 5000, 5k or 1.05M \(got "):
        config.load("matrix_gpvd", "vdn", {"t_max": text})


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("lr", "; did you mean 'learner.lr'?"),
        ("lrr", "; did you mean 'learner.lr'?"),
        ("learner.lrr", "; did you mean 'learner.lr'?"),
        ("evaluation.episode", "; did you mean 'evaluation.episodes'?"),
        ("learner.kapp", "; did you mean 'weighting.kappa'?"),
        ("episodes", "; did you mean 'sharing.episodes' or 'evaluation.episodes'?"),
        ("nothing_of_this_name", "; gpgrad train --help lists all settings"),
    ],
)
def test_an_unknown_setting_is_answered_with_those_that_it_may_stand_for(name, ending):
    with pytest.raises(SettingError) as caught:
        config.load("pp_small", "qmix", {"sharing": "seps", "weighting": "gpvd", name: 1})
    assert str(caught.value) == f"unknown setting {name!r}{ending}"
