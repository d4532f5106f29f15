"""Spaces and containers of Gymnasium and PettingZoo: ends, masks, actions, observations, rewards, states."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gpgrad.envs.external.adapters.gymnasium_envs import GymSimulator
from gpgrad.envs.external.adapters.pettingzoo_envs import ZooSimulator
from gpgrad.envs.external.memory import Block
from gpgrad.envs.external.protocol import Missing, Outcome, Seen, Sizes

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces
BOX = spaces.Box(-1, 1, (2,))
LIMIT = 5


class Tuples(gymnasium.Env):
    """Two agents; what a step says is given: rewards, both flags and info at each time. sent: actions as they came."""

    def __init__(
        self, seen: Any = BOX, acts: Any = None, script: Sequence[tuple] = (), info: Any = None, obs: Any = None
    ):
        acts = acts if acts is not None else spaces.Discrete(3)
        self.observation_space = spaces.Tuple((seen, seen)) if isinstance(seen, spaces.Space) else seen[0]
        self.action_space = spaces.Tuple((acts, acts)) if isinstance(acts, spaces.Space) else acts[0]
        self.script, self.info, self.obs, self.sent = script, info or {}, obs, []

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self._look(), self.info

    def step(self, action):
        self.sent.append(action)
        said = self.script[self.time] if self.time < len(self.script) else (0.0, False, False)
        self.time += 1
        return self._look(), *said, self.info

    def _look(self):
        return self.obs or (np.full(2, self.time / 10, np.float32),) * 2


class Names:
    """A PettingZoo world of agents a and b that keeps `agents` as it is; scripts as in `Tuples`, of (over, cut)."""

    possible_agents = ("a", "b")

    def __init__(
        self, seen: Any = BOX, acts: Any = None, script: Sequence[tuple] = (), obs: Any = None, infos: Any = None
    ):
        self.seen, self.acts, self.script = seen, acts or spaces.Discrete(3), script
        self.obs, self.infos, self.sent, self.unwrapped, self.max_cycles = obs, infos or {}, [], self, LIMIT

    def observation_space(self, agent):
        return self.seen

    def action_space(self, agent):
        return self.acts

    def reset(self, seed=None):
        self.agents, self.time = ["a", "b"], 0
        return self._look(), self.infos

    def step(self, actions):
        self.sent.append(actions)
        over, cut = self.script[self.time] if self.time < len(self.script) else ({}, {})
        self.time += 1
        return self._look(), {"a": 1.0, "b": 2.0}, over, cut, self.infos

    def _look(self):
        return {agent: self.obs if self.obs is not None else np.full(2, self.time / 10) for agent in "ab"}

    def close(self):
        pass


def by_tuple(**world) -> Any:
    gymnasium.register("Standin-v0", lambda: Tuples(**world))
    try:
        return GymSimulator("Standin-v0", episode_limit=LIMIT)
    finally:
        del gymnasium.registry["Standin-v0"]


@pytest.fixture
def by_name(monkeypatch):
    """Makes a simulator of a PettingZoo world."""

    def make(world: Any) -> ZooSimulator:
        module = types.ModuleType("standin")
        module.parallel_env = lambda: world  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tests.standin", module)
        return ZooSimulator("tests.standin")

    return make


def played(simulator) -> list[Outcome]:
    simulator.reset(0)
    rows: list[Outcome] = []
    while not rows or not (rows[-1].terminated or rows[-1].truncated):
        rows.append(simulator.step([1, 2]))
    return rows


def ends(rows: list[Outcome]) -> tuple[int, bool, bool]:
    return len(rows), rows[-1].terminated, rows[-1].truncated


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda flags: dict(zip("ab", flags, strict=True))])
def test_flags_of_agents_end_an_episode_when_all_are_true(kind):
    script = [(1.0, kind([False, False]), False), (1.0, kind([True, True]), kind([False, False]))]
    assert ends(played(by_tuple(script=script))) == (2, True, False)
    script = [(1.0, kind([False, False]), kind([False, False])), (1.0, kind([False, False]), kind([True, True]))]
    assert ends(played(by_tuple(script=script))) == (2, False, True)
    assert ends(played(by_tuple())) == (LIMIT, False, True)


def test_an_agent_that_ended_before_the_others_is_gone():
    script = [(1.0, [True, False], [False, False]), (1.0, [True, False], False), (1.0, [True, True], False)]
    simulator = by_tuple(script=script)
    first, second, last = played(simulator)
    for row in (first, second):
        assert row.seen.obs[0].tolist() == [0, 0]
        assert row.seen.obs[1].any()
        assert row.seen.avail.tolist() == [[True, False, False], [True] * 3]
        assert (row.terminated, row.truncated) == (False, False)
    assert (last.terminated, last.truncated) == (True, False)
    assert simulator.reset(1).avail.all()


def test_agents_cut_and_ended_together_are_cut():
    assert ends(played(by_tuple(script=[(0.0, [True, False], [False, True])]))) == (1, False, True)
    assert ends(played(by_tuple(script=[(0.0, {"__all__": True, "a": False, "b": False}, {"__all__": False})]))) == (
        1,
        True,
        False,
    )


@pytest.mark.parametrize("said", [[True], [True] * 3, None, "yes", [0.5, 1], float("nan"), [[True], [1, 2]]])
def test_flags_that_are_none_are_refused(said):
    simulator = by_tuple(script=[(1.0, said, False)])
    simulator.reset(0)
    with pytest.raises(ValueError, match=r"^terminated must (be|have) .*\(got "):
        simulator.step([0, 0])


@pytest.mark.parametrize(
    ("rewards", "earned"), [(0.75, 0.75), ([0.25, 0.5], 0.75), ({"a": 0.25, "b": 0.5}, 0.75), (np.array([0.75]), 0.75)]
)
def test_rewards_come_in_any_container(rewards, earned):
    simulator = by_tuple(script=[(rewards, False, False)])
    simulator.reset(0)
    assert simulator.step([0, 0]).reward == earned


def test_actions_begin_where_the_world_has_them_begin(by_name):
    simulator = by_tuple(acts=spaces.Discrete(3, start=1))
    played(simulator)
    assert set(simulator._env.unwrapped.sent) == {(2, 3)}
    assert all(type(action) is int for action in simulator._env.unwrapped.sent[0])
    world = Names(acts=spaces.Discrete(3, start=-1))
    played(by_name(world))
    assert world.sent == [{"a": 0, "b": 1}] * LIMIT


@pytest.mark.parametrize(
    ("acts", "sentence"),
    [
        (spaces.MultiBinary(7), "has 128 actions for an agent in MultiBinary.*, must be at most 127"),
        (spaces.Discrete(128), "has 128 actions for an agent in Discrete"),
        (spaces.Box(0, 1, (2,)), "has actions .*; they must be Discrete"),
        (spaces.Dict({"x": spaces.Discrete(2)}), "has actions .*; they must be Discrete"),
    ],
)
def test_actions_that_are_no_choice_are_refused(by_name, acts, sentence):
    for make in (lambda: by_tuple(acts=acts), lambda: by_name(Names(acts=acts))):
        with pytest.raises(Missing, match=sentence):
            make()


@pytest.mark.parametrize(
    ("acts", "sent"),
    [
        (spaces.MultiDiscrete([2, 3]), [[0, 1], [0, 2]]),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), [[1, 0], [1, 1]]),
        (spaces.MultiBinary(2), [[0, 1], [1, 0]]),
    ],
)
def test_several_choices_are_one_action(by_name, acts, sent):
    simulator = by_tuple(acts=acts)
    assert simulator.sizes.n_actions == (6 if isinstance(acts, spaces.MultiDiscrete) else 4)
    played(simulator)  # actions 1 and 2
    assert [part.tolist() for part in simulator._env.unwrapped.sent[0]] == sent
    assert all(acts.contains(part) for part in simulator._env.unwrapped.sent[0])
    world = Names(acts=acts)
    played(by_name(world))
    assert [part.tolist() for part in world.sent[0].values()] == sent


def test_masks_of_several_choices():
    """One mask for each choice as in Gymnasium, all of them in a row as in SB3, or one for the joint actions."""
    acts, joint = spaces.MultiDiscrete([2, 3]), [False, False, False, True, False, True]
    parts = (np.array([0, 1], np.int8), np.array([1, 0, 1], np.int8))
    for mask in (parts, np.concatenate(parts), np.array(joint)):
        assert by_tuple(acts=acts, info={"action_mask": [mask, mask]}).reset(0).avail.tolist() == [joint] * 2


def test_one_agent_is_a_team(monkeypatch):
    class One(Tuples):
        def __init__(self):
            super().__init__()
            self.observation_space, self.action_space = BOX, spaces.Discrete(3)
            self.obs = np.zeros(2, np.float32)

        def action_masks(self):
            return [False, True, self.time > 0]

        def _look(self):
            return self.obs

    gymnasium.register("Standin-v0", One)
    simulator = GymSimulator("Standin-v0", episode_limit=LIMIT)
    del gymnasium.registry["Standin-v0"]
    assert (simulator.sizes.n_agents, simulator.sizes.n_actions, simulator.sizes.obs_dim) == (1, 3, 2)
    assert simulator.reset(0).avail.tolist() == [[False, True, False]]
    assert simulator.step([1]).seen.avail.tolist() == [[False, True, True]]
    assert simulator._env.unwrapped.sent == [1]


@pytest.mark.parametrize("seen", [spaces.Text(4), spaces.Sequence(BOX), spaces.Dict({"x": spaces.Text(4)})])
def test_observations_without_a_width_are_refused(by_name, seen):
    for make in (lambda: by_tuple(seen=seen), lambda: by_name(Names(seen=seen))):
        with pytest.raises(Missing, match=r"has observations .*; they must be Box"):
            make()


SEEN = [
    (spaces.Discrete(3, start=2), 3, [0, 1, 0]),
    (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
    (spaces.MultiDiscrete([2, 3]), np.array([1, 0]), [0, 1, 1, 0, 0]),
    (spaces.Box(0, 255, (2, 2)), np.array([[1, 2], [3, 4]]), [1, 2, 3, 4]),
    (spaces.Dict({"b": spaces.Discrete(2), "a": BOX}), {"b": 1, "a": np.array([0.5, 0.25])}, [0.5, 0.25, 0, 1]),
    (spaces.Tuple((spaces.Discrete(2), BOX)), (0, np.array([0.5, 0.25])), [1, 0, 0.5, 0.25]),
]


@pytest.mark.parametrize(("seen", "value", "row"), SEEN)
def test_observations_become_one_row(by_name, seen, value, row):
    """Discrete ones are one-hot."""
    for simulator in (by_tuple(seen=seen, obs=(value, value)), by_name(Names(seen=seen, obs=value))):
        assert simulator.sizes.obs_dim == len(row)
        assert np.array(simulator.reset(0).obs).tolist() == [row, row]


@pytest.mark.parametrize(
    ("seen", "value"), [(spaces.Discrete(3, start=2), 0), (spaces.Dict({"a": BOX}), {}), (BOX, [1, 2, 3])]
)
def test_observations_outside_of_their_space_are_refused(by_name, seen, value):
    for simulator in (by_tuple(seen=seen, obs=(value, value)), by_name(Names(seen=seen, obs=value))):
        with pytest.raises(ValueError, match=r"an observation .*must"):
            simulator.reset(0)


MASK = np.array([0, 1, 1], np.int8)
ALLOWED = [[False, True, True]] * 2


def test_masks_are_used_from_infos_and_observations(by_name):
    masked = spaces.Dict({"observation": BOX, "action_mask": spaces.MultiBinary(3)})
    value = {"observation": np.zeros(2), "action_mask": MASK}
    simulators = [
        by_tuple(info={"action_mask": (MASK, MASK)}),
        by_tuple(info={"action_mask": np.stack([MASK, MASK])}),
        by_tuple(seen=masked, obs=(value, value)),
        by_name(Names(infos={agent: {"action_mask": MASK} for agent in "ab"})),
        by_name(Names(seen=masked, obs=value)),
    ]
    for simulator in simulators:
        assert simulator.sizes.obs_dim == 2
        assert simulator.reset(0).avail.tolist() == ALLOWED
        assert simulator.step([1, 1]).seen.avail.tolist() == ALLOWED
    with pytest.raises(ValueError, match="an action mask must have 3 entries"):
        by_tuple(info={"action_mask": (MASK[:2], MASK[:2])}).reset(0)


def test_an_empty_mask_is_right_at_the_end_alone():
    simulator = by_tuple(info={"action_mask": np.zeros((2, 3))}, script=[(0.0, True, False)])
    assert not simulator.reset(0).avail.any()  # which the block refuses
    assert simulator.step([0, 0]).seen.avail.tolist() == [[True, False, False]] * 2


def test_worlds_that_keep_their_agents_end_all_the_same(by_name):
    both, none = dict.fromkeys("ab", True), dict.fromkeys("ab", False)
    assert ends(played(by_name(Names(script=[(none, none), (both, none)])))) == (2, True, False)
    assert ends(played(by_name(Names(script=[(none, none), (none, both)])))) == (2, False, True)
    assert ends(played(by_name(Names(script=[({"a": True}, {"b": True})])))) == (1, False, True)


def test_an_agent_that_ended_alone_does_not_go_on_acting(by_name):
    world = Names(script=[({"a": True}, {}), ({}, {}), ({"b": True}, {})])
    first, second, last = played(by_name(world))
    assert world.sent == [{"a": 1, "b": 2}, {"b": 2}, {"b": 2}]
    for row in (first, second):
        assert row.seen.obs[0].tolist() == [0, 0]
        assert row.seen.avail.tolist() == [[True, False, False], [True] * 3]
    assert (last.terminated, last.truncated) == (True, False)
    assert last.seen.obs[1].any()


class Stateful(Names):
    """Says its state as a vector, or as a picture."""

    def __init__(self, shape, with_space: bool = True):
        super().__init__()
        self.shape = shape
        if with_space:
            self.state_space = spaces.Box(0, 9, shape)

    def state(self):
        return np.full(self.shape, self.time)


@pytest.mark.parametrize("with_space", [True, False])
def test_the_state_of_a_pettingzoo_world_is_used(by_name, with_space):
    simulator = by_name(Stateful((2, 2), with_space))
    assert (simulator.sizes.state_dim, simulator.sizes.own_state_dim) == (4, 0)
    assert simulator.reset(0).state.tolist() == [0] * 4
    assert simulator.step([0, 0]).seen.state.tolist() == [1] * 4
    assert by_name(Stateful((4, 4, 3), with_space)).sizes.state_dim == 0


def test_states_that_are_the_observations_are_not_stored_twice():
    pytest.importorskip("mpe2")
    for name in ("simple_spread_v3", "simple_speaker_listener_v4"):
        simulator = ZooSimulator(name)
        assert simulator.sizes.state_dim == 0
        simulator.reset(0)
        rows = simulator.step([1] * simulator.sizes.n_agents).seen.obs
        widths = simulator.sizes.obs_sizes or (simulator.sizes.obs_dim,) * len(rows)
        unpadded = np.concatenate([row[:width] for row, width in zip(rows, widths, strict=True)])
        np.testing.assert_array_equal(unpadded, simulator._env.state())


def stored(**changes) -> Block:
    block = Block(Sizes(2, 3, 2, 0, LIMIT, info=("won",)), 1)
    seen = Seen(changes.pop("obs", np.zeros((2, 2))), changes.pop("avail", np.ones((2, 3))))
    block.write(0, Outcome(seen, **changes))
    return block


@pytest.mark.parametrize("reward", [np.array([0.5]), np.float64(0.5), [[0.5]]])
def test_a_reward_of_one_number_is_stored_as_that(reward):
    assert stored(reward=reward).reward.tolist() == [0.5]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reward": 1e300}, "the reward must be finite as float32"),
        ({"reward": float("nan")}, "the reward must be finite"),
        ({"reward": [1.0, 2.0]}, "the reward must be a single number \\(got the shape \\(2,\\)\\)"),
        ({"reward": "much"}, "the reward must be numbers"),
        ({"reward": None}, "the reward must be numbers in an array of one shape \\(got None\\)"),
        ({"reward": (1.0, 2.0)}, "the reward must be a single number"),
        ({"info": None}, "info must be a dict of numbers \\(got None\\)"),
        ({"reward": [[1], [1, 2]]}, "must be numbers in an array of one shape"),
        ({"info": {"won": 1e39}}, "info\\['won'\\] must be finite"),
        ({"obs": np.full((2, 2), 1e300)}, "the observation has values that are not finite as float32"),
        ({"obs": [[1, 2], [3]]}, "the observation must be numbers in an array of one shape"),
        ({"terminated": [False, False]}, "terminated must be True or False \\(got \\[False, False\\]\\)"),
        ({"truncated": 2}, "truncated must be True or False"),
    ],
)
def test_what_is_stored_is_checked_as_it_is_stored(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        stored(**changes)


def test_observations_of_another_kind_are_named():
    with pytest.raises(ValueError, match=r"must be a gpgrad\.envs\.external\.protocol\.Seen \(got a list\)"):
        Block(Sizes(1, 1, 1, 0, LIMIT), 1).write(0, Outcome([[0.0]]))


def test_pixels_are_bytes(by_name):
    pixels = spaces.Box(0, 255, (2, 2), np.uint8)
    value = np.array([[0, 51], [102, 255]], np.uint8)
    for simulator in (by_tuple(seen=pixels, obs=(value, value)), by_name(Names(seen=pixels, obs=value))):
        assert simulator.sizes.obs_bytes
        block = Block(simulator.sizes, 1)
        block.write(0, Outcome(simulator.reset(0)))
        assert block.obs.dtype == np.uint8
        assert block.obs.tolist() == [[[0, 51, 102, 255]] * 2]
        for wrong in (256, -1, 0.5):
            with pytest.raises(ValueError, match="must be whole numbers of 0 to 255"):
                block.write(0, Outcome(simulator.reset(0)._replace(obs=np.full((2, 4), wrong))))
    assert not by_tuple().sizes.obs_bytes


def test_a_largest_reward_is_kept():
    assert np.isfinite(stored(reward=3e38).reward).all()


class Turns:
    """Agents a and b take turns, as in PettingZoo's AEC interface."""

    def __init__(self, parallel: bool):
        self.metadata = {"is_parallelizable": parallel, "name": "turns"}


def test_worlds_of_turns_are_refused_unless_turns_do_not_matter(monkeypatch):
    module = types.ModuleType("turns")
    module.env = lambda: Turns(False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.turns", module)
    with pytest.raises(Missing, match=r"turns has no parallel_env, and in its env agents take turns"):
        ZooSimulator("tests.turns")
    mpe2 = pytest.importorskip("mpe2.simple_spread_v3")
    module.env = mpe2.env  # type: ignore[attr-defined]
    converted, own = ZooSimulator("tests.turns"), ZooSimulator("mpe2.simple_spread_v3")
    assert converted.sizes._replace(versions={}, state_dim=0) == own.sizes._replace(versions={}, own_state_dim=0)
    for simulator in (converted, own):
        simulator.reset(3)
    assert converted.step([1, 2, 3])[1:] == own.step([1, 2, 3])[1:]


class Sides(Names):
    """Two reds and a blue, who plays against them."""

    possible_agents = ("red_0", "red_1", "blue_0")

    def reset(self, seed=None):
        super().reset(seed)
        self.agents = list(self.possible_agents)
        return self._look(), self.infos

    def step(self, actions):
        self.sent.append(actions)
        self.time += 1
        over = dict.fromkeys(self.possible_agents, False) | {"blue_0": self.time == 2}
        self.agents = [agent for agent in self.agents if not over[agent]]
        rewards = {"red_0": 1.0, "red_1": 2.0, "blue_0": -9.0}
        return self._look(), rewards, over, {}, self.infos

    def _look(self):
        return {agent: np.full(2, self.time / 10) for agent in self.possible_agents}


def by_side(monkeypatch, world: Any, **settings) -> ZooSimulator:
    module = types.ModuleType("sides")
    module.parallel_env = lambda: world  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.sides", module)
    return ZooSimulator("tests.sides", **settings)


def test_opponents_are_not_trained_as_a_team(monkeypatch):
    with pytest.raises(Missing, match=r"has the groups of agents red, blue, .* such as --env\.team red, or --env.team"):
        by_side(monkeypatch, Sides())
    assert by_side(monkeypatch, Sides(), team="all").sizes.n_agents == 3
    world = Sides()
    simulator = by_side(monkeypatch, world, team="red", others="still")
    assert (simulator.sizes.n_agents, simulator.reset(1).obs.shape) == (2, (2, 2))
    rows = [simulator.step([1, 2]) for _ in range(LIMIT)]
    assert world.sent[:3] == [{"red_0": 1, "red_1": 2, "blue_0": 0}] * 2 + [{"red_0": 1, "red_1": 2}]
    assert [row.reward for row in rows] == [1.5] * LIMIT
    assert [row.truncated for row in rows] == [False] * (LIMIT - 1) + [True]
    assert by_side(monkeypatch, Sides(), team="blue_0, red_1")._agents == ["red_1", "blue_0"]


def test_opponents_act_at_random_from_the_seed_of_the_episode(monkeypatch):
    mask = {"blue_0": {"action_mask": np.array([0, 1, 1])}}
    sent = []
    for seed in (1, 1, 2):
        world = Sides(infos=mask)
        simulator = by_side(monkeypatch, world, team="red", episode_limit=99)
        simulator.reset(seed)
        blue = []
        for _ in range(2):
            simulator.step([0, 0])
            blue.append(world.sent[-1]["blue_0"])
        simulator.reset(seed + 10)
        simulator.step([0, 0])
        sent.append((*blue, world.sent[-1]["blue_0"]))
    assert sent[0] == sent[1]
    assert {action for row in sent for action in row} <= {1, 2}


def test_rewards_that_always_sum_to_zero_are_no_team(by_name):
    class Duel(Names):
        def step(self, actions):
            obs, _, *others = super().step(actions)
            return obs, {"a": 1.0, "b": -1.0 if self.time < 5 else self.last}, *others

    for last, doubts in ((-1.0, 1), (-2.0, 0)):
        world = Duel()
        world.last = last  # type: ignore[attr-defined]
        simulator = by_name(world)
        played(simulator)
        assert len(simulator.doubts()) == doubts
    duel = by_tuple(script=[((1.0, -1.0), False, False)] * LIMIT)
    played(duel)
    assert "sum to zero in every step" in duel.doubts()[0]
    assert by_tuple(script=[(0.0, True, False)]).doubts() == []


@pytest.mark.parametrize("reward", [None, "much", [1.0, None], [[1.0, 2.0], [3.0]]])
def test_rewards_that_are_no_numbers_are_refused(by_name, reward):
    simulator = by_tuple(script=[(reward, False, False)])
    simulator.reset(0)
    with pytest.raises(ValueError, match=r"the reward .*must be a (single )?number"):
        simulator.step([0, 0])
