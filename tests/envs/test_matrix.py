"""Matrix games: exact payoffs, best values, and the rules of games with several steps."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import envs
from gpgrad.envs import SettingError, matrix

KEY = jax.random.key(0)

TABLES = {
    "matrix_gpvd": [[8, -12, -12], [-12, 6, 0], [-12, 0, 6]],
    "matrix_qtran": [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]],
    "matrix_easy": [[12, -0.1, -0.1], [-0.1, 0, 0], [-0.1, 0, 0]],
    "matrix_hard": [[12, -12, -12], [-12, 0, 0], [-12, 0, 0]],
    "matrix_12_10": [[12, 0, 10], [0, 0, 10], [10, 10, 10]],
    "matrix_coord": [[1, 0], [0, 1]],
    "matrix_climbing": [[11, -30, 0], [-30, 7, 0], [0, 6, 5]],
    "matrix_penalty": [[-100, 0, 10], [0, 2, 0], [10, 0, -100]],
    "matrix_additive": [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]],
}
BEST = {  # value, and every joint action that reaches it
    "matrix_gpvd": (8, [(0, 0)]),
    "matrix_qtran": (8, [(0, 0)]),
    "matrix_easy": (12, [(0, 0)]),
    "matrix_hard": (12, [(0, 0)]),
    "matrix_12_10": (12, [(0, 0)]),
    "matrix_coord": (1, [(0, 0), (1, 1)]),
    "matrix_climbing": (11, [(0, 0)]),
    "matrix_penalty": (10, [(0, 2), (2, 0)]),
    "matrix_additive": (6, [(3, 3)]),
}


def played_table(env) -> np.ndarray:
    """The reward of every joint action, by playing it."""
    spec = env.spec
    joint = jnp.array(list(itertools.product(range(spec.n_actions), repeat=spec.n_agents)))
    params = env.params(KEY)
    step = jax.vmap(env.step, (None, None, None, 0))(KEY, params, env.reset(KEY, params), joint)
    assert bool(step.terminated.all())
    assert not bool(step.truncated.any())
    return np.asarray(step.reward).reshape((spec.n_actions,) * spec.n_agents)


def rewards(env, joint_actions) -> tuple[list[float], bool]:
    """The rewards of joint actions, of which only the last may end the game, and whether it ended."""
    params = env.params(KEY)
    state, paid, ended = env.reset(KEY, params), [], False
    for actions in joint_actions:
        assert not ended
        step = env.step(KEY, params, state, jnp.array(actions))
        state, ended = step.state, bool(step.terminated)
        paid.append(float(step.reward))
    return paid, ended


@pytest.mark.parametrize("name", TABLES)
def test_one_step_games_pay_their_table(name):
    env, expected = envs.make(name), np.array(TABLES[name], np.float32)
    np.testing.assert_array_equal(played_table(env), expected)
    np.testing.assert_array_equal(env.payoff(env.params(KEY)), expected)


@pytest.mark.parametrize("name", BEST)
def test_the_best_value_and_who_reaches_it(name):
    table, (value, where) = played_table(envs.make(name)), BEST[name]
    assert table.max() == value == envs.make(name).spec.return_scale
    assert [tuple(index) for index in np.argwhere(table == value)] == where


@pytest.mark.parametrize(
    ("w", "value", "where"),
    [
        (-1.0, 3.0, [(3, 0)]),
        (0.0, 3.0, [(3, 0), (3, 1), (3, 2), (3, 3)]),
        (0.5, 4.5, [(3, 3)]),
        (1.0, 6.0, [(3, 3)]),
    ],
)
def test_additive_rows_are_the_first_agents(w, value, where):
    table = played_table(envs.make("matrix_additive", w=w))
    assert table[2, 1] == 2 + w
    assert table.max() == value
    assert [tuple(index) for index in np.argwhere(table == value)] == where


def test_a_family_of_payoffs_is_one_vmap():
    env = matrix.gradps4()
    tables = jnp.stack([matrix.gradps4(w).params(KEY).payoff for w in (-1.0, 0.0, 2.0)])
    params = matrix.MatrixParams(tables)
    state = env.reset(KEY, env.params(KEY))
    step = jax.vmap(env.step, (None, 0, None, None))(KEY, params, state, jnp.array([1, 3]))
    np.testing.assert_array_equal(step.reward, [-2.0, 1.0, 7.0])


def test_the_view_is_the_step():
    env = matrix.gpvd3()
    params = env.params(KEY)
    state = env.reset(KEY, params)
    np.testing.assert_array_equal(env.view(params, state).obs, [[1, 0], [1, 0]])
    state = env.step(KEY, params, state, jnp.array([0, 0])).state
    np.testing.assert_array_equal(env.view(params, state).obs, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(env.view(params, state).state, [0, 1])


@pytest.mark.parametrize("n_agents", [1, 3, 5])
def test_coordination_of_many(n_agents):
    table = played_table(envs.make("matrix_coord", n_agents=n_agents))
    assert table.shape == (2,) * n_agents
    assert table.sum() == 2
    assert table[(0,) * n_agents] == table[(1,) * n_agents] == 1


@pytest.mark.parametrize("k", [0.0, -25.0, -0.5])
def test_penalty_of_any_size(k):
    table = played_table(envs.make("matrix_penalty", k=k))
    assert table[0, 0] == table[2, 2] == k
    assert table.max() == 10


def test_two_step_branch_is_agent_zeros_choice_alone():
    env = envs.make("two_step")
    for other, a, b in itertools.product(range(2), repeat=3):
        assert rewards(env, [(0, other), (a, b)]) == ([0, 7], True)
        assert rewards(env, [(1, other), (a, b)]) == ([0, [[0, 1], [1, 8]][a][b]], True)


def test_two_step_views():
    env = envs.make("two_step")
    params = env.params(KEY)
    state = env.reset(KEY, params)
    nodes = [state]
    for first in (0, 1):
        after = env.step(KEY, params, state, jnp.array([first, 1]))
        assert not bool(after.terminated)
        nodes.append(after.state)
    nodes.append(env.step(KEY, params, nodes[-1], jnp.array([1, 1])).state)
    for index, node in enumerate(nodes):
        view = env.view(params, node)
        np.testing.assert_array_equal(view.state, np.eye(4)[index])
        np.testing.assert_array_equal(view.obs, [np.eye(4)[index]] * 2)


def test_nstep_best_play_changes_on_the_last_step():
    for k in (2, 3, 10):
        env = envs.make("nstep", k=k)
        assert rewards(env, [(0, 0)] * (k - 1) + [(1, 1)]) == ([1] * (k - 1) + [4], True)
        assert sum([1] * (k - 1) + [4]) == k + 3 == env.spec.return_scale
        assert rewards(env, [(0, 0)] * k) == ([1] * k, True)
        assert rewards(env, [(0, 0)] * (k - 1) + [(1, 0)]) == ([1] * k, True)
        assert rewards(env, [(1, 1)] * k) == ([1] * k, True)
        assert rewards(env, [(1, 1)] * (k - 1) + [(0, 0)]) == ([1] * (k - 1) + [0], True)


def test_nstep_leaving_the_branch_ends_the_game():
    env = envs.make("nstep", k=5)
    assert rewards(env, [(0, 0), (0, 1)]) == ([1, 0], True)
    assert rewards(env, [(1, 1), (1, 1), (0, 0)]) == ([1, 1, 0], True)


@pytest.mark.parametrize(("good_branches", "first"), [(2, ([0], True)), (4, ([1], False))])
def test_nstep_branches_of_unequal_actions(good_branches, first):
    env = envs.make("nstep", k=4, good_branches=good_branches)
    assert rewards(env, [(0, 1)]) == rewards(env, [(1, 0)]) == first


def test_nstep_of_one_step():
    env = envs.make("nstep", k=1)
    assert env.spec.obs_dim == 2
    assert [rewards(env, [pair]) for pair in itertools.product(range(2), repeat=2)] == [
        ([1], True),
        ([0], True),
        ([0], True),
        ([1], True),
    ]


def test_nstep_views():
    env = envs.make("nstep", k=3)
    params = env.params(KEY)
    state = env.reset(KEY, params)
    np.testing.assert_array_equal(env.view(params, state).state, [1, 0, 0, 0, 1, 0, 0, 0])
    state = env.step(KEY, params, state, jnp.array([1, 1])).state
    np.testing.assert_array_equal(env.view(params, state).obs, [[0, 1, 0, 0, 0, 0, 0, 1]] * 2)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("matrix_penalty", {"k": 1.0}),
        ("matrix_penalty", {"k": float("nan")}),
        ("matrix_coord", {"n_agents": 0}),
        ("matrix_coord", {"n_agents": 40}),
        ("nstep", {"k": 0}),
        ("nstep", {"good_branches": 3}),
    ],
)
def test_bad_options_are_refused(name, bad):
    with pytest.raises(SettingError, match=next(iter(bad))):
        envs.make(name, **bad)


def test_a_table_that_is_no_cube_is_refused():
    with pytest.raises(SettingError, match=r"\(2, 3\)"):
        matrix.MatrixGame("odd", ((1, 2, 3), (4, 5, 6)))
