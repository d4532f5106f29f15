"""Predator-prey on random crowded states: effects of order, absence and mirroring; views against a painted board."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.predator_prey.env import CATCH, DOWN, LEFT, RIGHT, STAY, UP, Draws, PredatorPrey, PredatorPreyState
from tests.helpers.small_boards import KEY, predator_prey


def crowd(env: PredatorPrey, amount: int, seed: int = 0):
    """Random states, actions with many catches, and chance; each with a leading axis."""
    rng = np.random.default_rng(seed)
    n_agents, n_prey = env.n_agents, env.n_prey
    start = rng.permuted(np.tile(np.arange(env.height * env.width), (amount, 1)), axis=1)
    states = jax.vmap(env.reset_from_cells)(jnp.asarray(start[:, : n_agents + n_prey]))
    active = rng.random((amount, n_agents)) < 0.8 if env.freeze else np.ones((amount, n_agents), bool)
    states = states._replace(active=jnp.asarray(active), alive=jnp.asarray(rng.random((amount, n_prey)) < 0.8))
    actions = np.where(rng.random((amount, n_agents)) < 0.4, CATCH, rng.integers(0, 6, (amount, n_agents)))
    orders = (rng.permuted(np.tile(np.arange(n), (amount, 1)), axis=1) for n in (n_agents, n_prey))
    choice = rng.integers(0, 12, (amount, n_prey))
    return states, jnp.asarray(actions), Draws(*(jnp.asarray(x, jnp.int32) for x in (*orders, choice)))


def crowded(freeze: bool, **changes) -> PredatorPrey:
    sizes = {"height": 5, "width": 6} | changes
    return predator_prey(6, 4, 3, n_special=2, special_ids="1,4", penalty=-1.5, freeze=freeze, **sizes)


@functools.cache
def batched(env: PredatorPrey):
    return jax.jit(jax.vmap(env.transition, (None, 0, 0, 0))), jax.jit(jax.vmap(env.view, (None, 0)))


@pytest.mark.parametrize("freeze", [False, True])
def test_rewards_do_not_depend_on_the_predators_order(freeze):
    env = crowded(freeze)
    states, actions, drawn = crowd(env, 500)
    step = batched(env)[0]
    first = step(env.params(KEY), states, actions, drawn)
    other = step(env.params(KEY), states, actions, drawn._replace(agent_order=drawn.agent_order[:, ::-1]))
    np.testing.assert_array_equal(first.reward, other.reward)
    np.testing.assert_array_equal(first.state.alive, other.state.alive)
    assert (np.asarray(first.state.agents) != np.asarray(other.state.agents)).any()
    assert len(np.unique(first.reward)) > 5


@pytest.mark.parametrize("freeze", [False, True])
def test_rewards_do_not_depend_on_the_preys_order_unless_catchers_freeze(freeze):
    env = crowded(freeze)
    states, actions, drawn = crowd(env, 500)
    step = batched(env)[0]
    first = step(env.params(KEY), states, actions, drawn)
    other = step(env.params(KEY), states, actions, drawn._replace(prey_order=drawn.prey_order[:, ::-1]))
    same = np.asarray(first.state.alive == other.state.alive).all(1) & (first.reward == other.reward)
    assert same.all() != freeze


@pytest.mark.parametrize("freeze", [False, True])
def test_whoever_is_gone_changes_nothing_wherever_it_lies(freeze):
    env = crowded(freeze)
    states, actions, drawn = crowd(env, 500)
    moved = states._replace(
        agents=jnp.where(states.active[..., None], states.agents, states.agents[:, ::-1]),
        prey=jnp.where(states.alive[..., None], states.prey, states.prey[:, ::-1]),
    )
    step, view = batched(env)
    first, other = (step(env.params(KEY), state, actions, drawn) for state in (states, moved))
    for one, two in (
        (first.info, other.info),
        (first.reward, other.reward),
        (first.state[2:], other.state[2:]),
    ):
        jax.tree.map(np.testing.assert_array_equal, one, two)
    for index, there in ((0, states.active), (1, states.alive)):
        np.testing.assert_array_equal(np.asarray(first.state[index])[there], np.asarray(other.state[index])[there])
    jax.tree.map(np.testing.assert_array_equal, view(env.params(KEY), states), view(env.params(KEY), moved))


@pytest.mark.parametrize("freeze", [False, True])
def test_a_mirrored_board_plays_alike(freeze):
    """Exchange rows and columns, and with them right and down, left and up."""
    env, mirrored = crowded(freeze), crowded(freeze, height=6, width=5)
    states, actions, drawn = crowd(env, 300)
    swap = jnp.array([DOWN, RIGHT, UP, LEFT, STAY, CATCH])

    def mirror(state: PredatorPreyState) -> PredatorPreyState:
        return state._replace(agents=state.agents[..., ::-1], prey=state.prey[..., ::-1])

    after = batched(env)[0](env.params(KEY), states, actions, drawn)
    expected = mirror(after.state)
    given = mirror(states), swap[actions]
    # Free cells are numbered in another order: find the number that leads each prey, in turn, to its cell.
    choice = jnp.zeros_like(drawn.prey_choice)
    rows = jnp.arange(len(actions))
    for turn in range(env.n_prey):
        prey = drawn.prey_order[:, turn]
        for number in range(4):
            trial = choice.at[rows, prey].set(number)
            reached = batched(mirrored)[0](env.params(KEY), *given, drawn._replace(prey_choice=trial)).state.prey
            right = (reached[rows, prey] == expected.prey[rows, prey]).all(-1)
            choice = jnp.where(right[:, None], trial, choice)
    other = batched(mirrored)[0](env.params(KEY), *given, drawn._replace(prey_choice=choice))
    jax.tree.map(np.testing.assert_array_equal, other.state, expected)
    np.testing.assert_array_equal(other.reward, after.reward)
    jax.tree.map(np.testing.assert_array_equal, other.info, after.info)


@pytest.mark.parametrize("freeze", [False, True])
def test_views_match_a_painted_board(freeze):
    env = crowded(freeze, view_radius=2)
    states, _, _ = crowd(env, 50)
    view = jax.device_get(batched(env)[1](env.params(KEY), states))
    dense = np.asarray(view.state.dense())
    kinds = [0] * env.n_agents + [1] * env.n_stags + [2] * env.n_hares
    states = jax.device_get(states)
    for row in range(50):
        state = PredatorPreyState(*(leaf[row] for leaf in states))
        board = np.zeros((env.height + 4, env.width + 4, 3), np.float32)
        there = np.concatenate([state.active, state.alive])
        for (r, c), kind, present in zip(np.concatenate([state.agents, state.prey]), kinds, there, strict=True):
            board[r + 2, c + 2, kind] += present
        np.testing.assert_array_equal(dense[row], board[2:-2, 2:-2].ravel())
        for agent, (r, c) in enumerate(state.agents):
            expected = board[r : r + 5, c : c + 5].ravel() * state.active[agent]
            np.testing.assert_array_equal(view.obs[row, agent], expected)
