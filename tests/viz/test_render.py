"""Episodes to watch: that they are those of the tests, what is seen in them, and their files."""

from __future__ import annotations

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gpgrad import config, envs
from gpgrad.__main__ import main
from gpgrad.envs.predator_prey.env import CATCH, RIGHT, PredatorPreyState
from gpgrad.errors import SettingError
from gpgrad.learning.compose import compose
from gpgrad.learning.program import actors
from gpgrad.plots.board import GAIN, LOSS
from gpgrad.policies.load import TrainedTeam, load_snapshot, load_team
from gpgrad.training import checkpoint
from gpgrad.training.loop import start as position
from gpgrad.viz import render
from gpgrad.viz.render import battle, external, matrix, predator_prey, scenes, simulators
from tests.helpers.tiny_runs import start, tiny

SETTINGS = {"seeds": 2, "seed": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with an untrained team of two seeds, and its program."""
    folder = tmp_path_factory.mktemp("run")
    settings = tiny(**SETTINGS)
    (folder / "config.yaml").write_text(config.dump(settings))
    built, _, states = start(settings, [3, 4])
    checkpoint.save_team(folder, actors(states))
    return folder, built, actors(states)


@pytest.fixture(scope="module")
def played(run):
    team = load_team(run[0], 4)
    return team, render.play(team.parts, team.actor, 2)


def test_an_episode_is_one_of_the_final_test(run, played):
    _, built, teams = run
    np.testing.assert_allclose(played[1].reward.sum(), built.final(teams, 0)["returns"][1, 2])


def test_steps_are_repeated_with_their_chance(played):
    team, episode = played
    step = jax.jit(team.parts.env.step)
    for t in range(episode.length):
        before = jax.tree.map(jnp.asarray, episode.state(t))
        again = step(episode.keys[t], team.actor.env_params, before, jnp.asarray(episode.actions[t]))
        jax.tree.map(np.testing.assert_array_equal, again.state, episode.state(t + 1))
        assert again.reward == episode.reward[t]


ACTIONS = np.array([CATCH, RIGHT, CATCH])


@pytest.fixture(scope="module")
def hunting():
    """A world, its parameters, a state where the first predator is alone at a stag and the last, special, at a hare."""
    sizes = {"height": 3, "width": 6, "n_agents": 3, "n_stags": 2, "n_hares": 1, "special_ids": "2", "n_special": 1}
    env = envs.make("pp_small", **sizes, view_radius=1, episode_limit=5, penalty=-1.5)
    state = PredatorPreyState(
        agents=jnp.array([[0, 0], [2, 2], [0, 4]], jnp.int8),
        prey=jnp.array([[1, 0], [1, 2], [0, 5]], jnp.int8),
        active=jnp.ones(3, bool),
        alive=jnp.ones(3, bool),
        time=jnp.int16(0),
    )
    return env, env.params(jax.random.key(0)), state


def test_captures_and_lone_catches_stand_where_the_prey_was(hunting):
    env, params, state = hunting
    found = scenes.outcomes(env, params, state, ACTIONS, jax.random.key(1))
    assert found.caught == {(0, 5): "+10"}  # a special predator's hare
    assert found.lone == {(1, 0): "-1.5"}
    assert (env.price(True, True), env.price(False, False)) == (10.0, 2.0)


def colours(image):
    return {tuple(colour) for colour in image.reshape(-1, 3).tolist()}


def of(text):
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def test_what_happens_is_seen(hunting):
    env, params, first = hunting
    later = first._replace(alive=jnp.array([True, True, False]))
    states = jax.tree.map(lambda *leaves: np.stack(leaves), first, later)
    episode = render.Episode(states, ACTIONS[None], np.array([8.5]), jax.random.key(1)[None])
    shared = render.grouping(np.array([[0, 1, 1], [0, 0, 0]]), 3)
    during, after = predator_prey.frames(env, params, episode, shared, "a hunt")
    assert {of(GAIN), of(LOSS)} <= colours(during)
    assert not {of(GAIN), of(LOSS)} & colours(after)
    assert during.shape == after.shape


@pytest.mark.parametrize(
    ("reported", "groups", "words"),
    [
        (None, [0, 0, 0], ""),
        ([1, 0, 1], [0, 1, 0], "2 groups of agents"),
        ([[0, 0, 0], [0, 0, 0]], [0, 0, 0], "no neuron is cloned"),
        ([[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], [0, 1, 0], "groups of 2 of 3 cloned neurons"),
    ],
)
def test_groups_of_agents(reported, groups, words):
    found = render.grouping(None if reported is None else np.array(reported), 3)
    assert (found.groups.tolist(), found.words) == (groups, words)


def test_files(tmp_path):
    frames = [np.full((21, 31, 3), value, np.uint8) for value in (0, 120, 240)]
    render.write(tmp_path / "deep" / "a.gif", frames, 5)
    image = Image.open(tmp_path / "deep" / "a.gif")
    assert (image.n_frames, image.size, image.info["duration"]) == (3, (31, 21), 200)
    image.seek(2)
    assert image.convert("RGB").getpixel((3, 3)) == (240, 240, 240)
    pytest.importorskip("imageio_ffmpeg", reason="MP4 needs imageio-ffmpeg")
    render.write(tmp_path / "a.mp4", frames, 5)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


def test_without_ffmpeg_there_is_one_sentence(monkeypatch, tmp_path):
    from pathlib import Path

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(SettingError, match=r"MP4 needs imageio-ffmpeg, which is not installed: pip install"):
        render.check(Path("a.mp4"))


def test_the_command(run, capsys):
    folder, *_ = run
    assert main(["render", str(folder), "--seed", "4", "--episode", "2"]) == 0
    out = folder / "pictures" / "seed4-episode2.gif"
    assert capsys.readouterr().out.startswith(f"{out}: ")
    assert Image.open(out).n_frames > 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "render needs the folder of a run"),
        (["nowhere"], "nowhere holds no run: it must have config.yaml"),
        (["RUN", "--seed", "9"], "trained, 3 to 4 (got 9)"),
        (["RUN", "--out", "hunt.avi"], "--out must be a name that ends in .gif or .mp4 (got 'hunt.avi')"),
        (["RUN", "--fps", "0"], "--fps must be between 0.5 and 50 (got 0)"),
        (["RUN", "--episode", "-1"], "--episode must be between 0 and 9999 (got -1)"),
        (["RUN", "--frames", "3"], "unknown option --frames"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, run, capsys):
    assert main(["render", *(str(run[0]) if word == "RUN" else word for word in arguments)]) == 2
    assert sentence in capsys.readouterr().err


def test_games_without_a_board_are_named(monkeypatch, tmp_path):
    settings = config.load("matrix_additive", "vdn", {"log.wandb": "disabled"})
    (tmp_path / "config.yaml").write_text(config.dump(settings))
    with pytest.raises(SettingError, match="holds neither a trained team nor a whole checkpoint"):
        render.render(tmp_path, tmp_path / "a.gif")
    team = TrainedTeam(0, settings, compose(settings), None, None)  # type: ignore[arg-type]
    hidden = type("Hidden", (), {"spec": team.parts.env.spec})()
    hides = team._replace(parts=team.parts._replace(env=hidden))
    monkeypatch.setattr(render, "load_team", lambda *args, **kwargs: hides)
    with pytest.raises(SettingError, match=r"matrix_additive cannot be drawn; .*, or have a method draw\(state\)"):
        render.render(tmp_path, tmp_path / "a.gif")


def test_matrix_games_are_tables_that_fill():
    env = envs.make("two_step")
    episode = render.Episode(
        None, np.array([[1, 0], [1, 1]]), np.array([0.0, 8.0]), jax.random.split(jax.random.key(0))
    )
    assert matrix.cells(episode, 0) == [[""] * 5] * 2
    assert matrix.cells(episode, 1) == [["1", "1", "0", "0", "0"], [""] * 5]
    assert matrix.cells(episode, 2)[1] == ["2", "1", "1", "8", "8"]
    team = TrainedTeam(0, None, types.SimpleNamespace(env=env), None, None)  # type: ignore[arg-type]
    frames = list(render.frames(team, episode, "a title"))
    assert len({frame.tobytes() for frame in frames}) == 3
    assert {frame.shape for frame in frames} == {frames[0].shape}


def test_environments_draw_themselves():
    class Drawn:
        spec = envs.make("two_step").spec

        def draw(self, state):
            return np.full((2, 2, 3), state, np.int64 if state == 7 else np.uint8)

    team = TrainedTeam(0, None, types.SimpleNamespace(env=Drawn()), None, None)  # type: ignore[arg-type]
    episode = render.Episode(np.array([4, 5]), np.zeros((1, 2), int), np.ones(1), jax.random.key(0)[None])
    assert [int(frame[0, 0, 0]) for frame in render.frames(team, episode, "")] == [4, 5]
    with pytest.raises(SettingError, match=r"draw of two_step must return a picture uint8 \[H, W, 3\] \(got int64"):
        list(render.frames(team, episode._replace(states=np.array([7, 7])), ""))


def test_external_environments_draw_themselves(tmp_path):
    """While they are played; those without pictures are refused, and StarCraft II saves its own replay."""
    settings = tiny(
        "vdn", env="host_tests.helpers.toy_starcraft:SkirmishSimulator", **{"env.arguments": '{"pictures": true}'}
    )
    built, _, states = start(settings, [3])
    team = TrainedTeam(3, settings, built.parts, jax.tree.map(lambda leaf: leaf[0], actors(states)), None)
    played, frames = external.film(team, 0, tmp_path / "a.gif")
    np.testing.assert_allclose(played.reward.sum(), built.final(actors(states), 0)["returns"][0, 0])
    built.simulators.close()
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(played.length + 1))
    assert frames[0].shape == (2, 3, 3)
    env = dataclasses.replace(team.parts.env, arguments="{}")
    with pytest.raises(SettingError, match="cannot be drawn: its simulator has no pictures"):
        external.film(team._replace(parts=team.parts._replace(env=env)), 0, tmp_path / "a.gif")
    env = dataclasses.replace(team.parts.env, arguments='{"replays": true}')
    played, frames = external.film(team._replace(parts=team.parts._replace(env=env)), 0, tmp_path / "a.gif")
    assert frames == []
    assert (tmp_path / "a.SC2Replay").read_text() == f"a battle of {played.length} steps"


def test_an_unfinished_run_shows_its_newest_checkpoint(run, tmp_path):
    _, built, teams = run
    settings = tiny(**SETTINGS)
    (tmp_path / "config.yaml").write_text(config.dump(settings))
    checkpoint.save(tmp_path, position(settings, built), {}, keep=1)
    (tmp_path / "checkpoints" / "9999999999-000000").mkdir()  # broken, and left alone
    team = load_team(tmp_path, 4)
    assert team.steps == 0
    own = jax.tree.map(lambda leaf: leaf[1], teams.params)
    jax.tree.map(np.testing.assert_array_equal, team.actor.params, own)
    assert (tmp_path / "checkpoints" / "9999999999-000000").is_dir()
    assert load_snapshot(tmp_path, 4).whole


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        pytest.param("smax_3m", simulators.smax_frames, marks=pytest.mark.slow),
        ("mpe_simple_reference", simulators.mpe_frames),
    ],
)
def test_jaxmarls_worlds_are_drawn_by_its_own_visualisers(name, draw):
    env = envs.make(name)
    params, key = env.params(jax.random.key(0)), jax.random.key(0)
    state = env.reset(key, params) if name.startswith("mpe") else jax.jit(env.reset)(key, params)
    away = jax.tree.map(lambda leaf: leaf + 3 if leaf is not None and leaf.dtype == jnp.float32 else leaf, state)
    states = jax.tree.map(lambda *leaves: np.stack(leaves), state, away)
    episode = render.Episode(states, np.zeros((1, env.spec.n_agents), int), np.ones(1), key[None])
    one, two = draw(env, episode, "a title")
    assert one.shape == two.shape
    assert one.dtype == np.uint8
    assert (one != two).any()


def test_battles_are_drawn():
    """Shots are red, heals green, and those who died are crossed out."""
    env = envs.make("battle_custom")
    state = env.reset(jax.random.key(0), ())
    near = state._replace(
        x=jnp.array([14.0, 14.0, 12.0, 17.0, 17.0, 17.0]), y=jnp.array([15.0, 17.0, 16.0, 14.0, 16.0, 18.0])
    )
    aim = lambda *targets: jnp.array([2 * (t + 1) + (t >= 0) for t in targets], jnp.uint8)
    shots = near._replace(aim=aim(3, -1, -1, -1, -1, -1))
    heals = near._replace(aim=aim(-1, -1, 0, -1, -1, -1), health=near.health.at[3].set(0))
    states = jax.tree.map(lambda *leaves: np.stack(leaves), near, shots, heals)
    actions = np.array([[6, 2, 1], [1, 1, 6]])
    episode = render.Episode(states, actions, np.array([0.5, 0.25]), jax.random.split(jax.random.key(0), 2))
    groups = render.grouping(np.array([0, 1, 0]), 3)
    frames = list(battle.frames(env, episode, groups, "a title"))  # type: ignore[arg-type]
    assert len({frame.shape for frame in frames}) == 1

    def pixels(frame: np.ndarray, colour: str) -> int:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((np.abs(frame.astype(int) - rgb).max(-1) < 12).sum())

    fire, healing = ([pixels(frame, colour) for frame in frames] for colour in (battle.FIRE, battle.HEALING))
    assert fire[0] == healing[0] == healing[1] == 0
    assert fire[1] > 10
    assert healing[2] > 10
    enemies = [pixels(frame, battle.ENEMY) for frame in frames]
    assert enemies[2] < enemies[0]
