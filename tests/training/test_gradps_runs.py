"""GradPS in whole runs: beside full sharing, over seeds, resumed, with every decomposition, and refused."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.learning.compose import compose
from gpgrad.learning.program import actors
from gpgrad.training import checkpoint, loop
from gpgrad.training.checkpoint import Position
from tests.helpers.tiny_runs import start, tiny

EAGER = {"sharing__k": 2, "sharing__T": 2, "sharing__alpha": 0.99}
ITERATIONS = 24  # six periods of four episodes


@pytest.fixture(scope="module")
def cloned():
    """A run of two seeds in which nearly everything is cloned at the third target update."""
    built, clock, states = start(tiny("gradps", **EAGER), [0, 1])
    first = jax.tree.map(np.array, states.sharing)
    clock, states = built.chunk(clock, states, 11)
    early = {name: np.array(value) for name, value in built.test(actors(states), 0).items()}
    clock, states = built.chunk(clock, states, ITERATIONS - 11)
    return built, first, early, clock, states


def test_clones_open_at_the_third_target_update(cloned):
    built, _, early, _, states = cloned
    assert not early["cloned"].any()
    assert (early["first_opening"] == -1).all()
    tested = {name: np.array(value) for name, value in built.test(actors(states), 0).items()}
    np.testing.assert_array_equal(tested["first_opening"], [3, 3])
    np.testing.assert_array_equal(tested["first_opening_episodes"], [12, 12])
    assert (tested["cloned"] > 3).all()
    np.testing.assert_array_equal(tested["opened"], tested["cloned"] + tested["restoring"] + tested["closed"])
    assert tested["groups"].shape == (2, 8, 3)
    assert tested["conflict"].shape == (2, 3, 3)
    assert tested["roles"].sum() == 2
    np.testing.assert_array_equal(states.sharing.periods, [6, 6])
    for layer in states.sharing.layers:
        assert np.isfinite(layer.ring).all()
        assert (np.abs(layer.ring).sum((2, 3)) > 0).all()


def test_clones_part_and_only_those_in_use(cloned):
    *_, states = cloned
    life, kernel = states.sharing.layers[0].life, np.asarray(states.params.agent.fc1["kernel"])  # [S, K, D, N]
    assign = np.asarray(life.assign)
    apart = np.abs(kernel[:, 0] - kernel[:, 1]).max(1)  # [S, N]
    used = assign.max(-1) > 0
    assert used.any()
    assert (apart[used] > 0).all()
    status = np.asarray(life.status)
    assert (assign[status == 0] == 0).all()


@pytest.fixture(scope="module")
def shared():
    """Full sharing where no predator is special."""
    built, clock, states = start(tiny("qmix", env__n_special=0), [0, 1])
    return built.chunk(clock, states, ITERATIONS)[1]


def beside(shared, algo: str, tolerance: float, **changes):
    """The same run with clones that must not matter."""
    built, clock, states = start(tiny(algo, env__n_special=0, **{**EAGER, **changes}), [0, 1])
    _, states = built.chunk(clock, states, ITERATIONS)
    np.testing.assert_array_equal(states.replay.actions, shared.replay.actions)
    ours, theirs = states.params.agent, shared.params.agent
    pairs = [(ours.fc1["kernel"][:, 0], theirs.fc1["kernel"]), (ours.gru, theirs.gru), (ours.head, theirs.head)]
    for pair in pairs:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), *pair)
    assert (np.asarray(states.sharing.layers[0].counts.opened) > 3).all()


@pytest.mark.slow
def test_one_clone_trains_as_full_sharing_does(shared):
    """Ones as gates and a single slot change nothing; beyond that it measures."""
    beside(shared, "gradps", 1e-5, sharing__k=1)


@pytest.mark.slow
def test_one_group_trains_as_full_sharing_does(shared):
    """Everything is cloned and all agents are of one kind: the same run up to the order of sums."""
    beside(shared, "gradps_oracle", 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "n_agents"), [("vdn_gradps", 12), ("iql_gradps_as_released", 1)])
def test_other_decompositions_and_team_sizes(algo, n_agents):
    board = {"env__height": 9, "env__width": 9, "env__n_agents": n_agents, "env__n_special": 1, "env__episode_limit": 3}
    settings = tiny(algo, **board, learner__batch_episodes=1, learner__target_every_episodes=1, sharing__T=1)
    built, clock, states = start(settings, [0, 1])
    clock, states = built.chunk(clock, states, 2)
    assert int(clock.updates) == 2
    np.testing.assert_array_equal(states.sharing.periods, [2, 2])
    tested = built.test(actors(states), 0)
    assert np.isfinite(tested["efficiency"]).all()
    if n_agents > 1:
        assert np.asarray(tested["opened"]).sum() > 0
    else:
        np.testing.assert_allclose(tested["efficiency"], 1.0)


@pytest.mark.slow
def test_deep_agents_train():
    settings = tiny("gradps", agent__layers=2, **EAGER, sharing__layers="0,1")
    built, clock, states = start(settings, [0])
    clock, states = built.chunk(clock, states, 13)
    tested = built.test(actors(states), 0)
    for suffix in ("", "_1"):
        assert int(tested[f"opened{suffix}"][0]) > 0


def test_resume_carries_the_clones(cloned, tmp_path):
    built, *_ = cloned
    settings = tiny("gradps", **EAGER, seeds=2)
    position = loop.start(settings, built)
    clock, states = built.chunk(position.clock, position.states, 14)
    position = Position(clock, states, *position[2:])
    checkpoint.save(tmp_path, position, {}, keep=1)
    loaded = checkpoint.newest(tmp_path, jax.eval_shape(lambda: loop.start(settings, built)), print)
    assert loaded is not None
    assert int(loaded[0].states.sharing.layers[0].counts.opened.min()) > 0
    _, other = built.chunk(loaded[0].clock, loaded[0].states, 6)
    _, states = built.chunk(clock, states, 6)
    jax.tree.map(np.testing.assert_array_equal, other.sharing, states.sharing)
    jax.tree.map(np.testing.assert_array_equal, other.params, states.params)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sharing.k", "0"], "sharing.k must be at least 1 (got 0)"),
        (["--sharing.T", "0"], "sharing.T must be at least 1 (got 0)"),
        (["--sharing.rho", "2"], "sharing.rho must be between 0 and 1 (got 2.0)"),
        (["--sharing.alpha", "1"], "sharing.alpha must be more than 0 and less than 1 (got 1.0)"),
        (["--sharing.alpha", "0"], "sharing.alpha must be more than 0 and less than 1 (got 0.0)"),
        (["--sharing.threshold", "relmean"], "sharing.threshold is 'relmean'; did you mean 'rel_mean'?"),
        (["--sharing.layers", "0,1"], "sharing.layers must be different numbers between 0 and 0 (got (0, 1))"),
        (["--sharing.K", "2"], "unknown setting 'sharing.K'"),
    ],
)
def test_mistakes_end_before_anything_compiles(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr("gpgrad.training.train.finish", lambda *_: pytest.fail("training began"))
    monkeypatch.setattr("jax.stages.Lowered.compile", lambda *_: pytest.fail("something was compiled"))
    assert cli.main(["train", "--algo", "gradps", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gpgrad: {sentence}")
    assert error.count("\n") == 1


def test_roles_need_a_world_that_has_them():
    with pytest.raises(SettingError, match="sharing gradps_oracle needs an environment with hidden roles"):
        compose(config.load("matrix_gpvd", "vdn_gradps_oracle"))


def test_worlds_choose_the_papers_values():
    for algo in ("gradps", "gradps_random", "gradps_oracle", "gradps_as_printed"):
        options = config.load("pp_small", algo).sharing.options
        assert (options["k"], options["T"], options["rho"], options["alpha"]) == (2, 10, 0.025, 0.2)
    released = config.load("pp_small", "gradps_as_released").sharing.options
    assert (released["threshold"], released["rho"], released["restore_lr"]) == ("rel_mean", 0.0, 0.0)
    assert released["clone_bias"] is False
    assert config.load("pp_small", "gradps_as_printed").sharing.options["laplacian"] == "unnormalised"
    assert config.load("pp_small", "fups_wide").sharing.options["k"] == 2
    one, two = (config.load("pp_small", algo) for algo in ("qmix", "gradps"))
    assert (one.learner, one.agent, one.decomposition) == (two.learner, two.agent, two.decomposition)
