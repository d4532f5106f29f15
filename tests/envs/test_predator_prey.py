"""Predator-prey: one test per consequence of the rules."""

from __future__ import annotations

import numpy as np
import pytest

from gpgrad.envs.predator_prey.env import CATCH, DOWN, LEFT, RIGHT, STAY, UP
from tests.helpers.small_boards import act, cells, draws, predator_prey, put, view_of

# Moving.


def test_a_vacated_cell_can_be_entered_by_whoever_moves_later():
    env = predator_prey(2, 1)
    state = put([(2, 1), (2, 2)], [(4, 5)])
    leader_first = act(env, state, [RIGHT, RIGHT], draws(env, agents=[1, 0]))
    assert cells(leader_first.state.agents) == [(2, 2), (2, 3)]
    follower_first = act(env, state, [RIGHT, RIGHT], draws(env, agents=[0, 1]))
    assert cells(follower_first.state.agents) == [(2, 1), (2, 3)]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_two_predators_cannot_swap_and_only_the_first_gets_a_cell(order):
    env = predator_prey(2, 1)
    swap = act(env, put([(2, 1), (2, 2)], [(4, 5)]), [RIGHT, LEFT], draws(env, agents=order))
    assert cells(swap.state.agents) == [(2, 1), (2, 2)]
    meet = act(env, put([(2, 1), (2, 3)], [(4, 5)]), [RIGHT, LEFT], draws(env, agents=order))
    assert cells(meet.state.agents)[order[0]] == (2, 2)
    assert cells(meet.state.agents)[order[1]] == [(2, 1), (2, 3)][order[1]]


def test_prey_and_walls_block_predators_though_the_prey_leaves_in_the_same_step():
    env = predator_prey(2, 1, 1)
    after = act(env, put([(2, 1), (0, 3)], [(2, 2), (4, 5)]), [RIGHT, UP])
    assert cells(after.state.agents) == [(2, 1), (0, 3)]
    assert cells(after.state.prey)[0] == (2, 3)


def test_all_four_moves_staying_and_catching():
    env = predator_prey(1, 1)
    ends = [(2, 4), (3, 3), (2, 2), (1, 3), (2, 3), (2, 3)]
    for action, end in zip((RIGHT, DOWN, LEFT, UP, STAY, CATCH), ends, strict=True):
        assert cells(act(env, put([(2, 3)], [(4, 0)]), [action]).state.agents) == [end]


def test_unavailable_actions_do_nothing():
    env = predator_prey(2, 1, penalty=-2.0)
    after = act(env, put([(0, 0), (4, 5)], [(2, 2)]), [LEFT, CATCH])
    assert cells(after.state.agents) == [(0, 0), (4, 5)]
    assert float(after.reward) == 0


def test_occupied_cells_do_not_mask_moves_but_walls_do():
    env = predator_prey(2, 1)
    avail = view_of(env, put([(0, 0), (0, 1)], [(1, 0)])).avail
    np.testing.assert_array_equal(avail[0], [True, True, False, False, True, True])
    np.testing.assert_array_equal(avail[1], [True, True, True, False, True, False])


# Prey.


def test_a_prey_chooses_among_free_cells_right_down_left_up():
    env = predator_prey(1, 1)
    state = put([(4, 0)], [(2, 2)])
    for choice, end in enumerate([(2, 3), (3, 2), (2, 1), (1, 2)] * 3):
        assert cells(act(env, state, [STAY], draws(env, choice=[choice])).state.prey) == [end]
    blocked_right = put([(2, 3)], [(2, 2)])
    for choice, end in enumerate([(3, 2), (2, 1), (1, 2)] * 4):
        assert cells(act(env, blocked_right, [STAY], draws(env, choice=[choice])).state.prey) == [end]


def test_a_boxed_in_prey_stays():
    env = predator_prey(2, 1)
    after = act(env, put([(0, 1), (1, 0)], [(0, 0)]), [STAY, STAY])
    assert cells(after.state.prey) == [(0, 0)]


def test_prey_move_in_their_order_and_see_earlier_moves():
    env = predator_prey(2, 2)
    state = put([(1, 0), (4, 5)], [(0, 0), (0, 1)])
    boxed_first = act(env, state, [STAY, STAY], draws(env, prey=[0, 1]))
    assert cells(boxed_first.state.prey) == [(0, 0), (0, 2)]
    boxed_last = act(env, state, [STAY, STAY], draws(env, prey=[1, 0]))
    assert cells(boxed_last.state.prey) == [(0, 1), (0, 2)]


def test_a_captured_preys_cell_is_free_for_later_prey():
    env = predator_prey(1, 1, 1)
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
    env = predator_prey(4, 1, 1, penalty=-2.0, freeze=freeze)
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
    env = predator_prey(2, 1, penalty=-2.0)
    after = act(env, put([(1, 1), (3, 3)], [(2, 2)]), [CATCH, CATCH])
    assert float(after.reward) == 0
    assert not view_of(env, put([(1, 1), (3, 3)], [(2, 2)])).avail[:, CATCH].any()


def test_catching_counts_from_the_start_of_the_step():
    """A prey that moved next to a catcher, or a mover that arrives, does not count."""
    env = predator_prey(2, 1, 1, penalty=-2.0)
    arrives = act(env, put([(2, 1), (2, 4)], [(2, 2), (4, 0)]), [CATCH, LEFT])
    assert float(arrives.reward) == -2
    # The hare moves next to the catcher before the stag's turn, but it is caught only if it was there before.
    state = put([(2, 1), (4, 5)], [(0, 5), (2, 3)])
    comes = act(env, state, [CATCH, STAY], draws(env, prey=[1, 0], choice=[0, 2]))
    assert cells(comes.state.prey)[1] == (2, 2)
    assert float(comes.reward) == 0


def test_a_lone_catcher_between_two_stags_pays_twice():
    env = predator_prey(2, 2, penalty=-2.0)
    after = act(env, put([(2, 2), (4, 5)], [(2, 1), (2, 3)]), [CATCH, STAY])
    assert float(after.reward) == -4
    np.testing.assert_array_equal(after.info["agent_lone"], [2, 0])


@pytest.mark.parametrize(
    ("special", "override", "reward"),
    [((), None, 2.0), ((0,), None, 10.0), ((1,), None, 10.0), ((2,), None, 2.0), ((0, 1), 3.0, 3.0)],
)
def test_a_hare_pays_more_if_any_catcher_is_special(special, override, reward):
    env = predator_prey(3, 0, 1, special_hare_reward=override)
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
    env = predator_prey(2, 1)
    assert float(act(env, put([(2, 1), (2, 3)], [(2, 2)]), [CATCH, CATCH], special=(0, 1)).reward) == 10


ROW = [(2, 0), (2, 2), (2, 4)], [(2, 1), (2, 3)]  # predator, stag, predator, stag, predator


def test_without_freezing_one_predator_helps_to_capture_several_prey():
    env = predator_prey(3, 2, penalty=-2.0)
    after = act(env, put(*ROW), [CATCH] * 3)
    assert float(after.reward) == 20
    np.testing.assert_array_equal(after.info["agent_stags"], [1, 2, 1])
    assert bool(after.terminated)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_with_freezing_the_prey_order_decides_who_is_captured(order):
    env = predator_prey(3, 2, penalty=-2.0, freeze=True)
    after = act(env, put(*ROW), [CATCH] * 3, draws(env, prey=order))
    assert float(after.reward) == 8
    first = order[0]
    np.testing.assert_array_equal(after.state.alive, np.arange(2) != first)
    np.testing.assert_array_equal(after.state.active, [first == 1, False, first == 0])
    lone = 2 if first == 0 else 0
    np.testing.assert_array_equal(after.info["agent_lone"], np.arange(3) == lone)


# Frozen predators.


def test_a_frozen_predator_is_gone_from_everything():
    env = predator_prey(3, 1, 1, penalty=-2.0, freeze=True)
    state = put([(2, 1), (2, 3), (2, 0)], [(2, 2), (1, 1)], active=[False, True, True])
    view = view_of(env, state)
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
    env = predator_prey(3, 2, freeze=True)
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
    env = predator_prey(2, 1)
    after = act(env, put([(2, 1), (2, 3)], [(2, 2)], time=time), [CATCH, CATCH])
    assert bool(after.terminated)
    assert not bool(after.truncated)


def test_the_game_ends_when_all_are_frozen():
    env = predator_prey(2, 2, freeze=True)
    after = act(env, put([(2, 1), (2, 3)], [(2, 2), (0, 0)]), [CATCH, CATCH])
    assert bool(after.terminated)
    assert bool(after.state.alive[1])


@pytest.mark.parametrize(("time", "cut"), [(48, False), (49, True)])
def test_the_limit_truncates(time, cut):
    env = predator_prey(2, 1)
    after = act(env, put([(0, 0), (4, 5)], [(2, 2)], time=time), [STAY, STAY])
    assert bool(after.truncated) == cut
    assert not bool(after.terminated)
    assert int(after.state.time) == time + 1
    assert not env.spec.limit_is_terminal
