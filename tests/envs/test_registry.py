"""Environments by name: options, errors with the nearest name, registration, and no jax on import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpgrad import envs
from gpgrad.envs import SettingError, registry
from gpgrad.envs.matrix import MatrixGame
from gpgrad.envs.predator_prey.env import PredatorPrey

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))


def test_listing_names_does_not_import_jax():
    code = (
        "import sys; from gpgrad import envs; envs.names(); envs.family('pp_small'); "
        "assert not {'jax', 'numpy'} & set(sys.modules), 'heavy'; "
        "assert envs.EnvSpec.__name__ == 'EnvSpec' and 'jax' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_unknown_attributes_of_the_package():
    with pytest.raises(AttributeError, match="nothing_like_that"):
        _ = envs.nothing_like_that


def test_families():
    assert {envs.family(name) for name in envs.names()} >= {"matrix", "predator_prey"}
    assert envs.family("pp_p2") == "predator_prey"
    assert envs.family("nstep") == "matrix"


def test_options_merge_annotations_defaults_and_presets():
    options = envs.options("pp_p2")
    assert options["penalty"] == (float, -2.0)
    assert options["freeze"] == (bool, True)
    assert options["height"] == (int, 10)
    assert options["special_hare_reward"] == (float | None, None)
    assert options["special_ids"] == (str, "")
    assert "name" not in options
    assert envs.options("matrix_additive") == {"w": (float, 1.0)}
    assert envs.options("matrix_gpvd") == {}


@pytest.mark.parametrize(
    ("name", "side", "agents", "special", "stags", "hares", "radius", "limit", "penalty", "freeze"),
    [
        ("pp_small", 20, 6, 2, 6, 6, 3, 150, 0.0, False),
        ("pp_medium", 25, 10, 3, 10, 10, 3, 150, 0.0, False),
        ("pp_large", 30, 15, 5, 15, 15, 3, 150, 0.0, False),
        ("pp_p0", 10, 8, 0, 8, 0, 2, 200, 0.0, True),
        ("pp_p2", 10, 8, 0, 8, 0, 2, 200, -2.0, True),
    ],
)
def test_predator_prey_presets(name, side, agents, special, stags, hares, radius, limit, penalty, freeze):
    assert envs.make(name) == PredatorPrey(
        height=side,
        width=side,
        n_agents=agents,
        n_special=special,
        n_stags=stags,
        n_hares=hares,
        view_radius=radius,
        episode_limit=limit,
        penalty=penalty,
        freeze=freeze,
        stag_reward=10.0,
        hare_reward=2.0,
        special_hare_reward=None,
        name=name,
    )


def test_overrides():
    env = envs.make("pp_small", height=12, special_ids="0,5", special_hare_reward=3, penalty=-1)
    assert (env.height, env.width, env.special_ids) == (12, 20, "0,5")
    assert isinstance(env.special_hare_reward, float)
    assert isinstance(env.penalty, float)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: envs.make("pp_smal"), "'pp_small'"),
        (lambda: envs.family("two_stp"), "'two_step'"),
        (lambda: envs.options("matrix_gpdv"), "'matrix_gpvd'"),
        (lambda: envs.make("pp_small", heigth=3), "'height'"),
        (lambda: envs.make("matrix_gpvd", w=1.0), "'w'"),
    ],
)
def test_unknown_names_and_options_name_the_nearest(call, message):
    with pytest.raises(SettingError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"height": 3.5}, "int"),
        ({"height": True}, "int"),
        ({"height": "10"}, "int"),
        ({"penalty": "-2"}, "float"),
        ({"freeze": 1}, "bool"),
        ({"special_ids": 3}, "str"),
        ({"special_hare_reward": "x"}, "float or None"),
        ({"view_radius": None}, "int"),
    ],
)
def test_values_of_the_wrong_type(options, expected):
    with pytest.raises(SettingError, match=f"{next(iter(options))} of pp_small must be {expected} \\(got "):
        envs.make("pp_small", **options)


def test_worlds_from_outside(table):
    def tiny(value: float, name: str = "") -> MatrixGame:
        return MatrixGame(name, ((value, 0), (0, 1)))

    envs.register("tiny", tiny, "mine")
    envs.register("tiny_three", "gpgrad.envs.matrix:gradps4", "mine", w=3.0)
    assert {"tiny", "tiny_three"} <= set(envs.names())
    assert envs.family("tiny") == "mine"
    assert envs.options("tiny_three") == {"w": (float, 3.0)}
    assert envs.make("tiny", value=5).spec.return_scale == 5
    assert envs.make("tiny", value=5).spec.name == "tiny"
    assert envs.make("tiny_three").spec.return_scale == 12
    with pytest.raises(SettingError, match="value"):
        envs.make("tiny")
    with pytest.raises(SettingError, match="taken"):
        envs.register("tiny", tiny, "mine")
