"""Teams in one file, teams of unfinished runs, and the best test's team."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpgrad
from gpgrad import __main__ as cli
from gpgrad.config import numerics
from gpgrad.errors import SettingError
from gpgrad.learning.program import actors
from gpgrad.policies import bundled, card, team_file
from gpgrad.policies.load import load_team, load_teams
from gpgrad.training import best, checkpoint, loop, recorder
from tests.helpers.tiny_runs import programs, tiny

SETTINGS = {
    "seeds": 2,
    "seed": 3,
    "t_max": 600,
    "evaluation__every_episodes": 20,
    "rollout__worlds": 4,
    "learner__updates_per_episode": 0.25,
}


@pytest.fixture(scope="module")
def settings():
    return tiny("vdn", "matrix_gpvd", **SETTINGS)


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory) -> Path:
    """An interrupted run of two seeds: a checkpoint after the first test, and rows of that test."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    recorder.describe_run(settings, folder)
    position = loop.begin(settings, programs(settings))
    states = position.states._replace(env_steps=jnp.array([40, 40], jnp.int32))
    position = position._replace(states=states, clock=position.clock._replace(iterations=jnp.int32(5)))
    rows = [{"seed": seed, "env_steps": steps, "test_return": 1.0 + steps} for steps in (0, 40) for seed in (3, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoint.save(folder, position, {}, 2)
    return folder


@pytest.fixture(scope="module")
def team(settings):
    return actors(loop.begin(settings, programs(settings)).states)


def changed(team, number: float):
    moved = jax.tree.map(lambda leaf: leaf * 0 + number, team.params)
    return team._replace(params=moved)


def first_number(team) -> float:
    return float(jax.tree.leaves(team.params.agent)[0].ravel()[0])


def row(seed: int, steps: int, value: float | None):
    return {"seed": seed, "env_steps": steps, "test_return": value}


def test_the_best_team_of_each_seed_is_kept_also_over_a_resumption(run, team):
    running = np.array([True, True])
    best.Best(run).visit([row(3, 0, 1.0), row(4, 0, 5.0)], running, changed(team, 1.0))
    again = best.Best(run)  # after an interruption
    again.visit([row(3, 40, 2.0), row(4, 40, 4.0)], running, changed(team, 2.0))
    again.visit([row(3, 80, 9.0), row(4, 80, 9.0)], np.array([False, False]), changed(team, 3.0))
    again.visit([row(3, 80, 2.0), row(4, 80, None)], running, changed(team, 4.0))
    found = {each.seed: each for each in load_teams(run, best=True)}
    assert [first_number(found[seed].actor) for seed in (3, 4)] == [2.0, 1.0]
    assert [found[seed].steps for seed in (3, 4)] == [40, 0]
    assert found[3].card["best"]
    assert not list(run.glob("*.draft*"))


def test_a_run_without_a_best_team_says_how_to_keep_one(settings, tmp_path):
    recorder.describe_run(settings, tmp_path)
    with pytest.raises(SettingError, match="no best team of seed 3: train with"):
        load_team(tmp_path, best=True)


def test_a_file_has_all_of_a_team(run, settings, tmp_path, capsys):
    out = tmp_path / "team.npz"
    assert cli.main(["export", str(run), "--for", "gpgrad", "--out", str(out), "--seed", "4"]) == 0
    assert "vdn_fups_id on matrix_gpvd, seed 4, 40 steps, test return 41 over 3 episodes" in capsys.readouterr().out
    source, back = load_team(run, 4), load_team(out)
    jax.tree.map(np.testing.assert_array_equal, source.actor.params.agent, back.actor.params.agent)
    np.testing.assert_array_equal(jax.random.key_data(source.actor.key), jax.random.key_data(back.actor.key))
    assert (back.seed, back.steps, back.card) == (4, 40, source.card)
    assert back.config.env == settings.env
    policy = gpgrad.load_team(out)
    view = policy.env.view(policy.params, policy.env.reset(jax.random.key(0), policy.params))
    actions, _ = policy.act(policy.init(1), view.obs[None], view.avail[None])
    assert actions.shape == (1, policy.spec.n_agents)
    assert policy.card["identity"] == source.card["identity"]


def test_an_unfinished_run_and_a_file_are_tested_alike(run, tmp_path, capsys):
    out, one, other = tmp_path / "team.npz", tmp_path / "a.json", tmp_path / "b.json"
    assert cli.main(["export", str(run), "--for", "gpgrad", "--out", str(out), "--seed", "4"]) == 0
    assert cli.main(["eval", str(run), "--episodes", "4", "--json", str(one)]) == 0
    assert cli.main(["eval", str(out), "--episodes", "4", "--json", str(other)]) == 0
    assert "seed 4" in capsys.readouterr().out
    rows = json.loads(one.read_text())
    assert [each["seed"] for each in rows] == [3, 4]
    (alone,) = json.loads(other.read_text())
    assert (alone["seed"], alone["test_return"]) == (4, rows[1]["test_return"])


def test_arrays_for_numpy_have_the_card(run, tmp_path):
    assert cli.main(["export", str(run), "--out", str(tmp_path / "team.npz")]) == 0
    meta = json.loads(str(np.load(tmp_path / "team.npz")["meta"]))
    assert (meta["world"], meta["seed"], meta["test_return"], meta["n_agents"]) == ("matrix_gpvd", 3, 41.0, 2)
    assert meta["gpgrad"] == gpgrad.__version__


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["render", "team:pp_smal"], "unknown team 'pp_smal'; "),
        (["eval", "FILE"], "holds no team of gpgrad; must be a file that gpgrad export RUN --for gpgrad"),
        (["export", "RUN", "--for", "gpgrad", "--out", "a.safetensors"], "--out must be a file that ends with .npz"),
        (["export", "TEAM", "--out", "a.npz", "--seed", "9"], "seed must be 3, the only one in"),
        (["export", "TEAM", "--out", "a.npz", "--best"], "not that of the best test; leave out --best"),
    ],
)
def test_mistakes_get_one_sentence(run, tmp_path, capsys, arguments, sentence):
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    if "TEAM" in arguments:
        team_file.write(load_team(run), tmp_path / "team.npz")
    names = {"RUN": run, "FILE": tmp_path / "arrays.npz", "TEAM": tmp_path / "team.npz"}
    assert cli.main([str(names.get(word, word)) for word in arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", bundled.names())
def test_a_team_of_the_package_fits_todays_code_and_is_small(name):
    """Also of today's numerics: a team whose settings, arrays or versions have changed is to be trained again."""
    path = bundled.find(name)
    assert path.stat().st_size < 400_000
    told = bundled.read_card(path)
    loaded = team_file.read(path)
    assert told == loaded.card
    assert name == f"{told['world']}-{loaded.config.algo}"
    assert card.shown(told)
    assert told["numerics"] == numerics.versions(loaded.config)
