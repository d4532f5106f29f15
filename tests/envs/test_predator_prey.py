"""The hunt: a test per consequence of its rules, symmetries, start states, specials, sizes, random play."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs import SettingError
from envs.predator_prey import (
    CATCH,
    DOWN,
    LEFT,
    RIGHT,
    STAY,
    UP,
    Draws,
    PredatorPrey,
    PredatorPreyParams,
    PredatorPreyState,
)

KEY = jax.random.key(0)


def hunt(n_agents: int, n_stags: int, n_hares: int = 0, **changes) -> PredatorPrey:
    """A small board."""
    settings = {"height": 5, "width": 6, "view_radius": 1, "episode_limit": 50} | changes
    return PredatorPrey(n_agents=n_agents, n_stags=n_stags, n_hares=n_hares, **settings)


def put(agents, prey, *, active=None, alive=None, time=0) -> PredatorPreyState:
    """A state from lists of (row, column)."""
    return PredatorPreyState(
        jnp.array(agents, jnp.int8),
        jnp.array(prey, jnp.int8),
        jnp.array([True] * len(agents) if active is None else active),
        jnp.array([True] * len(prey) if alive is None else alive),
        jnp.array(time, jnp.int16),
    )


def draws(env: PredatorPrey, agents=None, prey=None, choice=None) -> Draws:
    """Everybody in turn, choosing the first free cell, unless said otherwise."""
    given = (
        range(env.n_agents) if agents is None else agents,
        range(env.n_prey) if prey is None else prey,
        [0] * env.n_prey if choice is None else choice,
    )
    return Draws(*(jnp.array(list(one), jnp.int32) for one in given))


@functools.cache
def compiled(env: PredatorPrey):
    return jax.jit(env.transition), jax.jit(env.view)


def act(env, state, actions, drawn=None, special=()):
    """One step."""
    mask = jnp.isin(jnp.arange(env.n_agents), jnp.array(special, jnp.int32))
    given = draws(env) if drawn is None else drawn
    return compiled(env)[0](PredatorPreyParams(mask), state, jnp.array(actions), given)


def look(env, state):
    return compiled(env)[1](env.params(KEY), state)


def cells(positions) -> list[tuple[int, int]]:
    return [tuple(int(x) for x in position) for position in np.asarray(positions)]


# Moving.


def test_a_vacated_cell_can_be_entered_by_whoever_moves_later():
    env = hunt(2, 1)
    state = put([(2, 1), (2, 2)], [(4, 5)])
    leader_first = act(env, state, [RIGHT, RIGHT], draws(env, agents=[1, 0]))
    assert cells(leader_first.state.agents) == [(2, 2), (2, 3)]
    follower_first = act(env, state, [RIGHT, RIGHT], draws(env, agents=[0, 1]))
    assert cells(follower_first.state.agents) == [(2, 1), (2, 3)]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_two_predators_cannot_swap_and_only_the_first_gets_a_cell(order):
    env = hunt(2, 1)
    swap = act(env, put([(2, 1), (2, 2)], [(4, 5)]), [RIGHT, LEFT], draws(env, agents=order))
    assert cells(swap.state.agents) == [(2, 1), (2, 2)]
    meet = act(env, put([(2, 1), (2, 3)], [(4, 5)]), [RIGHT, LEFT], draws(env, agents=order))
    assert cells(meet.state.agents)[order[0]] == (2, 2)
    assert cells(meet.state.agents)[order[1]] == [(2, 1), (2, 3)][order[1]]


def test_prey_and_walls_block_predators_though_the_prey_leaves_in_the_same_step():
    env = hunt(2, 1, 1)
    after = act(env, put([(2, 1), (0, 3)], [(2, 2), (4, 5)]), [RIGHT, UP])
    assert cells(after.state.agents) == [(2, 1), (0, 3)]
    assert cells(after.state.prey)[0] == (2, 3)


def test_all_four_moves_staying_and_catching():
    env = hunt(1, 1)
    ends = [(2, 4), (3, 3), (2, 2), (1, 3), (2, 3), (2, 3)]
    for action, end in zip((RIGHT, DOWN, LEFT, UP, STAY, CATCH), ends, strict=True):
        assert cells(act(env, put([(2, 3)], [(4, 0)]), [action]).state.agents) == [end]


def test_unavailable_actions_do_nothing():
    env = hunt(2, 1, penalty=-2.0)
    after = act(env, put([(0, 0), (4, 5)], [(2, 2)]), [LEFT, CATCH])
    assert cells(after.state.agents) == [(0, 0), (4, 5)]
    assert float(after.reward) == 0


def test_occupied_cells_do_not_mask_moves_but_walls_do():
    env = hunt(2, 1)
    avail = look(env, put([(0, 0), (0, 1)], [(1, 0)])).avail
    np.testing.assert_array_equal(avail[0], [True, True, False, False, True, True])
    np.testing.assert_array_equal(avail[1], [True, True, True, False, True, False])


# Prey.


def test_a_prey_chooses_among_free_cells_right_down_left_up():
    env = hunt(1, 1)
    state = put([(4, 0)], [(2, 2)])
    for choice, end in enumerate([(2, 3), (3, 2), (2, 1), (1, 2)] * 3):
        assert cells(act(env, state, [STAY], draws(env, choice=[choice])).state.prey) == [end]
    blocked_right = put([(2, 3)], [(2, 2)])
    for choice, end in enumerate([(3, 2), (2, 1), (1, 2)] * 4):
        assert cells(act(env, blocked_right, [STAY], draws(env, choice=[choice])).state.prey) == [end]


def test_a_boxed_in_prey_stays():
    env = hunt(2, 1)
    after = act(env, put([(0, 1), (1, 0)], [(0, 0)]), [STAY, STAY])
    assert cells(after.state.prey) == [(0, 0)]


def test_prey_move_in_their_order_and_see_earlier_moves():
    env = hunt(2, 2)
    state = put([(1, 0), (4, 5)], [(0, 0), (0, 1)])
    boxed_first = act(env, state, [STAY, STAY], draws(env, prey=[0, 1]))
    assert cells(boxed_first.state.prey) == [(0, 0), (0, 2)]
    boxed_last = act(env, state, [STAY, STAY], draws(env, prey=[1, 0]))
    assert cells(boxed_last.state.prey) == [(0, 1), (0, 2)]


def test_a_captured_preys_cell_is_free_for_later_prey():
    env = hunt(1, 1, 1)
    state = put([(1, 1)], [(0, 0), (0, 1)])  # the stag's way right is the hare, and down is free
    hare_first = act(env, state, [CATCH], draws(env, prey=[1, 0]))
    assert cells(hare_first.state.prey)[0] == (0, 1)
    stag_first = act(env, state, [CATCH], draws(env, prey=[0, 1]))
    assert cells(stag_first.state.prey)[0] == (1, 0)
    assert not bool(stag_first.state.alive[1])
    assert cells(stag_first.state.prey)[1] == (0, 1)  # keeps its last cell


# Catching.


@pytest.mark.parametrize("catchers", [0, 1, 2, 3])
@pytest.mark.parametrize("freeze", [False, True])
def test_a_stag_takes_two_who_choose_to_catch(catchers, freeze):
    env = hunt(4, 1, 1, penalty=-2.0, freeze=freeze)
    state = put([(2, 1), (2, 3), (1, 2), (4, 5)], [(2, 2), (4, 0)])
    after = act(env, state, [CATCH] * catchers + [STAY] * (4 - catchers))
    assert float(after.reward) == [0, -2, 10, 10][catchers]
    assert bool(after.state.alive[0]) == (catchers < 2)
    frozen = catchers if freeze and catchers >= 2 else 0
    np.testing.assert_array_equal(after.state.active, [False] * frozen + [True] * (4 - frozen))
    assert int(after.info["stags"]) == (catchers >= 2)
    np.testing.assert_array_equal(
        after.info["agent_stags"], np.array([catchers > i and catchers >= 2 for i in range(4)])
    )
    np.testing.assert_array_equal(after.info["agent_lone"], [catchers == 1, 0, 0, 0])


def test_diagonal_neighbours_do_not_count():
    env = hunt(2, 1, penalty=-2.0)
    after = act(env, put([(1, 1), (3, 3)], [(2, 2)]), [CATCH, CATCH])
    assert float(after.reward) == 0
    assert not look(env, put([(1, 1), (3, 3)], [(2, 2)])).avail[:, CATCH].any()


def test_catching_counts_from_the_start_of_the_step():
    """A prey that moved next to a catcher, or a mover that arrives, does not count."""
    env = hunt(2, 1, 1, penalty=-2.0)
    arrives = act(env, put([(2, 1), (2, 4)], [(2, 2), (4, 0)]), [CATCH, LEFT])
    assert float(arrives.reward) == -2
    # The hare moves next to the catcher before the stag's turn, but it is caught only if it was there before.
    state = put([(2, 1), (4, 5)], [(0, 5), (2, 3)])
    comes = act(env, state, [CATCH, STAY], draws(env, prey=[1, 0], choice=[0, 2]))
    assert cells(comes.state.prey)[1] == (2, 2)
    assert float(comes.reward) == 0


def test_a_lone_catcher_between_two_stags_pays_twice():
    env = hunt(2, 2, penalty=-2.0)
    after = act(env, put([(2, 2), (4, 5)], [(2, 1), (2, 3)]), [CATCH, STAY])
    assert float(after.reward) == -4
    np.testing.assert_array_equal(after.info["agent_lone"], [2, 0])


@pytest.mark.parametrize(
    ("special", "override", "reward"),
    [((), None, 2.0), ((0,), None, 10.0), ((1,), None, 10.0), ((2,), None, 2.0), ((0, 1), 3.0, 3.0)],
)
def test_a_hare_pays_more_if_any_catcher_is_special(special, override, reward):
    env = hunt(3, 0, 1, special_hare_reward=override)
    after = act(env, put([(2, 1), (2, 3), (1, 2)], [(2, 2)]), [CATCH, CATCH, STAY], special=special)
    assert float(after.reward) == reward
    mask = np.isin(range(3), special)
    took = np.array([1, 1, 0])
    assert int(after.info["hares"]) == 1
    assert int(after.info["special_hares"]) == (mask & took).any()
    np.testing.assert_array_equal(after.info["agent_hares"], took)
    assert int(after.info["special_captures"]) == took[mask].sum()
    assert int(after.info["ordinary_captures"]) == took[~mask].sum()


def test_a_stag_pays_the_same_with_specials():
    env = hunt(2, 1)
    assert float(act(env, put([(2, 1), (2, 3)], [(2, 2)]), [CATCH, CATCH], special=(0, 1)).reward) == 10


ROW = [(2, 0), (2, 2), (2, 4)], [(2, 1), (2, 3)]  # predator, stag, predator, stag, predator


def test_without_freezing_one_predator_helps_to_capture_several_prey():
    env = hunt(3, 2, penalty=-2.0)
    after = act(env, put(*ROW), [CATCH] * 3)
    assert float(after.reward) == 20
    np.testing.assert_array_equal(after.info["agent_stags"], [1, 2, 1])
    assert bool(after.terminated)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_with_freezing_the_prey_order_decides_who_is_captured(order):
    env = hunt(3, 2, penalty=-2.0, freeze=True)
    after = act(env, put(*ROW), [CATCH] * 3, draws(env, prey=order))
    assert float(after.reward) == 8
    first = order[0]
    np.testing.assert_array_equal(after.state.alive, np.arange(2) != first)
    np.testing.assert_array_equal(after.state.active, [first == 1, False, first == 0])
    lone = 2 if first == 0 else 0
    np.testing.assert_array_equal(after.info["agent_lone"], np.arange(3) == lone)


# Frozen predators.


def test_a_frozen_predator_is_gone_from_everything():
    env = hunt(3, 1, 1, penalty=-2.0, freeze=True)
    state = put([(2, 1), (2, 3), (2, 0)], [(2, 2), (1, 1)], active=[False, True, True])
    view = look(env, state)
    np.testing.assert_array_equal(view.avail[0], [False, False, False, False, True, False])
    assert not view.obs[0].any()
    window = np.asarray(view.obs[2]).reshape(3, 3, 3)
    assert window[..., 0].sum() == 1  # only itself, though the frozen one stands next to it
    assert window[1, 1, 0] == 1
    assert view.state.dense().sum() == 4
    # It neither moves nor catches, and both kinds can enter its cell.
    after = act(env, state, [CATCH, CATCH, RIGHT], draws(env, prey=[0, 1]))
    assert float(after.reward) == -2
    assert cells(after.state.agents) == [(2, 1), (2, 3), (2, 1)]
    entered = act(env, state, [RIGHT, STAY, STAY], draws(env, choice=[1, 1]))
    assert cells(entered.state.prey)[0] == (2, 1)
    assert cells(entered.state.agents)[0] == (2, 1)
    assert not bool(entered.state.active[0])


def test_a_cell_frozen_free_in_this_step_is_free_for_later_prey():
    env = hunt(3, 2, freeze=True)
    state = put([(2, 1), (2, 3), (4, 5)], [(2, 2), (1, 1)])  # the second stag's way down is predator 0
    later = act(env, state, [CATCH, CATCH, STAY], draws(env, prey=[0, 1], choice=[0, 1]))
    assert cells(later.state.prey)[1] == (2, 1)
    # Before, predator 0 also counts as a lone catcher of that stag and still stands in its way.
    earlier = act(env, state, [CATCH, CATCH, STAY], draws(env, prey=[1, 0], choice=[0, 1]))
    assert cells(earlier.state.prey)[1] == (1, 0)
    assert int(earlier.info["agent_lone"][0]) == 1
    assert int(later.info["agent_lone"][0]) == 0


# Ends.


@pytest.mark.parametrize("time", [0, 49])
def test_the_last_prey_ends_the_game_also_on_the_last_step(time):
    env = hunt(2, 1)
    after = act(env, put([(2, 1), (2, 3)], [(2, 2)], time=time), [CATCH, CATCH])
    assert bool(after.terminated)
    assert not bool(after.truncated)


def test_the_game_ends_when_all_are_frozen():
    env = hunt(2, 2, freeze=True)
    after = act(env, put([(2, 1), (2, 3)], [(2, 2), (0, 0)]), [CATCH, CATCH])
    assert bool(after.terminated)
    assert bool(after.state.alive[1])


@pytest.mark.parametrize(("time", "cut"), [(48, False), (49, True)])
def test_the_limit_truncates(time, cut):
    env = hunt(2, 1)
    after = act(env, put([(0, 0), (4, 5)], [(2, 2)], time=time), [STAY, STAY])
    assert bool(after.truncated) == cut
    assert not bool(after.terminated)
    assert int(after.state.time) == time + 1
    assert not env.spec.limit_is_terminal


# Symmetries, on random crowded states.


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
    return hunt(6, 4, 3, n_special=2, special_ids="1,4", penalty=-1.5, freeze=freeze, **sizes)


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


# Start states, chance and specials.


def test_start_cells_are_uniform_and_distinct():
    env = hunt(3, 2, 2)
    resets = 20_000
    start = jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(KEY, resets), env.params(KEY))
    where = np.concatenate([start.agents, start.prey], axis=1).astype(int)
    number = where[..., 0] * env.width + where[..., 1]  # [N, E]
    assert all(len(set(row)) == 7 for row in number[:2000])
    assert (np.sort(number, axis=1)[:, 1:] != np.sort(number, axis=1)[:, :-1]).all()
    for entity in range(7):
        counts = np.bincount(number[:, entity], minlength=30)
        assert len(counts) == 30
        assert stats.chisquare(counts).pvalue > 1e-4
    pair = np.bincount(number[:, 0] * 30 + number[:, 6], minlength=900).reshape(30, 30)
    assert stats.chisquare(pair[~np.eye(30, dtype=bool)]).pvalue > 1e-4
    assert bool(start.active.all() & start.alive.all() & (start.time == 0).all())


def test_a_full_board_can_be_filled():
    env = hunt(10, 10, 10)
    start = env.reset(KEY, env.params(KEY))
    assert len(set(cells(start.agents) + cells(start.prey))) == 30


def test_chance_is_uniform():
    env = hunt(3, 3)
    drawn = jax.device_get(jax.jit(jax.vmap(env.draws))(jax.random.split(KEY, 12_000)))
    for order in (drawn.agent_order, drawn.prey_order):
        assert (np.sort(order, axis=1) == np.arange(3)).all()
        counts = np.unique(order @ [9, 3, 1], return_counts=True)[1]
        assert len(counts) == 6
        assert stats.chisquare(counts).pvalue > 1e-4
    for prey in range(3):
        counts = np.bincount(drawn.prey_choice[:, prey], minlength=12)
        assert len(counts) == 12
        assert stats.chisquare(counts).pvalue > 1e-4
    both = np.unique(drawn.agent_order[:, 0] * 3 + drawn.prey_order[:, 0], return_counts=True)[1]
    assert stats.chisquare(both).pvalue > 1e-4


def test_specials_are_a_uniform_set_of_the_asked_size():
    env = hunt(4, 1, n_special=2)
    special = np.asarray(jax.vmap(env.params)(jax.random.split(KEY, 6000)).special)
    assert (special.sum(1) == 2).all()
    counts = np.unique(special @ [8, 4, 2, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4


def test_specials_follow_the_key_or_the_list_and_nothing_else():
    env = hunt(6, 1, n_special=2)
    np.testing.assert_array_equal(env.params(KEY).special, env.params(KEY).special)
    listed = hunt(6, 1, n_special=2, special_ids="3, 2")
    for seed in range(5):
        special = listed.params(jax.random.key(seed)).special
        np.testing.assert_array_equal(special, [False, False, True, True, False, False])

    @jax.jit
    def seen(special):
        params = PredatorPreyParams(special)
        state = env.reset(KEY, params)
        return state, env.view(params, state)

    everybody, nobody = seen(jnp.ones(6, bool)), seen(jnp.zeros(6, bool))
    jax.tree.map(np.testing.assert_array_equal, everybody, nobody)


# Sizes.


@functools.partial(jax.jit, static_argnums=(0, 1))
def random_play(env: PredatorPrey, worlds: int, key: jax.Array):
    """Uniformly random available actions. Returns [W] and the states [T, W]."""
    params = env.params(key)

    def step(carry, key):
        state, running = carry
        k_action, k_step = jax.random.split(key)
        avail = jax.vmap(env.view, (None, 0))(params, state).avail
        scores = jnp.where(avail, jax.random.uniform(k_action, avail.shape), -1.0)
        keys = jax.random.split(k_step, worlds)
        after = jax.vmap(env.step, (0, None, 0, 0))(keys, params, state, jnp.argmax(scores, -1))
        still = running & ~after.terminated & ~after.truncated
        return (after.state, still), (after.state, jnp.where(running, after.reward, 0.0))

    start = jax.vmap(env.reset, (0, None))(jax.random.split(key, worlds), params)
    keys = jax.random.split(jax.random.fold_in(key, 1), env.episode_limit)
    (_, running), (states, rewards) = jax.lax.scan(step, (start, jnp.ones(worlds, bool)), keys)
    return rewards.sum(0), states, running


@pytest.mark.parametrize(
    ("n_agents", "n_stags", "n_hares", "freeze"),
    [(1, 0, 1, False), (2, 1, 0, True), (27, 9, 4, False), (50, 3, 25, True)],
)
def test_any_team_size_on_any_board(n_agents, n_stags, n_hares, freeze):
    env = hunt(n_agents, n_stags, n_hares, height=9, width=14, episode_limit=30, freeze=freeze, penalty=-1.0)
    returns, states, running = jax.device_get(random_play(env, 8, KEY))
    assert not running.any()
    assert np.isfinite(returns).all()
    assert states.agents.shape == (30, 8, n_agents, 2)
    where = np.concatenate([states.agents, states.prey], axis=2).astype(int)
    there = np.concatenate([states.active, states.alive], axis=2)
    assert ((where >= 0) & (where < [9, 14])).all()
    number = np.where(there, where[..., 0] * 14 + where[..., 1], -1 - np.arange(there.shape[-1]))
    ordered = np.sort(number, axis=-1)
    assert (ordered[..., 1:] != ordered[..., :-1]).all()


@pytest.mark.parametrize(
    ("name", "changes", "scale"),
    [
        ("pp_small", {}, 120.0),
        ("pp_medium", {}, 200.0),
        ("pp_large", {}, 300.0),
        ("pp_small", {"n_special": 0}, 72.0),
        ("pp_p0", {}, 40.0),
        ("pp_p2", {"penalty": -1.0}, 40.0),
        ("pp_p0", {"n_stags": 3}, 30.0),
        ("pp_p0", {"n_stags": 1, "n_hares": 3, "n_special": 1}, 10.0 + 10.0 + 2 * 2.0),
        ("pp_p0", {"n_agents": 1}, 1.0),
    ],
)
def test_return_scale(name, changes, scale):
    assert envs.make(name, **changes).spec.return_scale == scale


def test_positions_of_the_state_fit_their_dtype():
    small, large = hunt(1, 1, height=100, width=100), hunt(1, 1, height=127, width=127)
    corner = put([(126, 126)], [(126, 125)])
    assert jax.eval_shape(small.view, small.params(KEY), corner).state.index.dtype == jnp.int16
    state = look(large, corner).state
    assert state.index.dtype == jnp.int32
    assert np.flatnonzero(state.dense()).tolist() == [3 * (127 * 127 - 2) + 1, 3 * (127 * 127 - 1)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n_special": 7}, "n_special is 7, expected at most n_agents = 6"),
        ({"n_special": -1}, "n_special is -1"),
        ({"height": 4, "width": 4}, "do not fit on 4 x 4 cells"),
        ({"height": 0}, "height is 0, expected at least 1"),
        ({"width": 128}, "width is 128, expected at most 127"),
        ({"height": 128}, "height is 128, expected at most 127"),
        ({"n_agents": 0}, "n_agents is 0"),
        ({"n_stags": -1}, "n_stags is -1"),
        ({"n_hares": -1}, "n_hares is -1"),
        ({"n_stags": 0, "n_hares": 0}, "at least one prey"),
        ({"view_radius": -1}, "view_radius is -1"),
        ({"episode_limit": 0}, "episode_limit is 0"),
        ({"episode_limit": 40_000}, "episode_limit is 40000"),
        ({"special_ids": "1"}, "special_ids is '1', expected n_special = 2"),
        ({"special_ids": "1,1"}, "special_ids is '1,1', expected n_special = 2 different"),
        ({"special_ids": "1,6"}, "from 0 to 5"),
        ({"special_ids": "-1,2"}, "from 0 to 5"),
        ({"special_ids": "one,two"}, "predator numbers such as"),
    ],
)
def test_bad_sizes_are_refused_in_one_sentence(bad, message):
    with pytest.raises(SettingError, match=message) as caught:
        envs.make("pp_small", **bad)
    assert "\n" not in str(caught.value)


# Random play: mean return and standard error of uniformly random available actions, computed elsewhere.


@pytest.mark.parametrize(
    ("name", "references"),
    [
        ("pp_small", [(15.17, 0.29), (15.12, 0.10)]),
        pytest.param("pp_medium", [(25.11, 0.23)], marks=pytest.mark.slow),
        pytest.param("pp_large", [(40.41, 0.66)], marks=pytest.mark.slow),
        ("pp_p0", [(5.34, 0.14)]),
        ("pp_p2", [(-94.2, 0.7), (-93.0, 0.33)]),
    ],
)
def test_random_play_earns_what_it_should(name, references):
    returns = np.asarray(random_play(envs.make(name), 1024, jax.random.key(7))[0])
    error = returns.std(ddof=1) / np.sqrt(len(returns))
    for mean, their_error in references:
        assert abs(returns.mean() - mean) <= 4 * np.hypot(error, their_error), (returns.mean(), error)
