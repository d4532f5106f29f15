"""Adapters of external environments: ends of episodes, available actions, and messages for missing simulators."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from gpgrad import envs
from gpgrad.envs.external.adapters import smaclite, starcraft
from gpgrad.envs.external.adapters.gymnasium_envs import GymSimulator, package
from gpgrad.envs.external.adapters.pettingzoo_envs import ZooSimulator
from gpgrad.envs.external.protocol import Aborted, Missing, Outcome, Sizes
from gpgrad.errors import SettingError
from tests.helpers.toy_starcraft import LIMIT, Skirmish, SkirmishSimulator

TOY = "host_tests.helpers.toy_starcraft"

gymnasium = pytest.importorskip("gymnasium")
ROOT = Path(__file__).parents[2]


def play(simulator, seed: int, limit: int = 1000, choose=None) -> list[Outcome]:
    """Outcomes of an episode of random available actions."""
    rng = np.random.default_rng(seed)
    seen, rows = simulator.reset(seed), []
    for _ in range(limit):
        avail = np.array(seen.avail, bool)
        assert avail.shape == (simulator.sizes.n_agents, simulator.sizes.n_actions)
        assert np.shape(seen.obs) == (simulator.sizes.n_agents, simulator.sizes.obs_dim)
        actions = choose(avail) if choose else [int(rng.choice(np.flatnonzero(row))) for row in avail]
        rows.append(simulator.step(actions))
        seen = rows[-1].seen
        if rows[-1].terminated or rows[-1].truncated:
            return rows
    raise AssertionError("the episode does not end")


def picture(rows: list[Outcome]) -> list:
    return [(np.array(row.seen.obs).tolist(), row.reward) for row in rows]


def test_workers_and_adapters_leave_jax_alone():
    modules = ["worker", "pool", "guardian"]
    modules += [f"adapters.{name}" for name in ("starcraft", "smaclite", "gymnasium_envs", "pettingzoo_envs")]
    imports = "; ".join(f"import gpgrad.envs.external.{m}" for m in modules)
    code = f"import sys; {imports}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_foraging_is_cut_not_ended_at_its_limit():
    pytest.importorskip("lbforaging")
    simulator = GymSimulator("Foraging-8x8-2p-2f-coop-v3")
    assert simulator.sizes._replace(versions={}) == Sizes(
        2, 6, 12, 0, 50, own_state_dim=12, return_scale=1.0, ends_early=True
    )
    assert simulator.sizes.versions["lbforaging"] == "2.0.0"
    stay = lambda avail: [0, 0]
    rows = play(simulator, 3, choose=stay)
    assert len(rows) == 50
    assert (rows[-1].terminated, rows[-1].truncated) == (False, True), "the world itself calls this its end"
    assert picture(play(simulator, 3)) == picture(play(simulator, 3)) != picture(play(simulator, 4))
    simulator.reset(3)
    simulator._env.unwrapped.field[:] = 0  # all food is gone
    assert simulator.step([0, 0]).terminated
    simulator.reset(3)
    for _ in range(49):
        simulator.step([0, 0])
    simulator._env.unwrapped.field[:] = 0
    last = simulator.step([0, 0])
    assert (last.terminated, last.truncated) == (True, False), "a true end on the last step"
    shorter = GymSimulator("Foraging-8x8-2p-2f-coop-v3", episode_limit=7)
    assert len(play(shorter, 1, choose=stay)) == shorter.sizes.episode_limit == 7


def test_the_team_earns_the_sum_or_the_mean():
    pytest.importorskip("lbforaging")
    for team, factor in (("sum", 1.0), ("mean", 0.5)):
        simulator = GymSimulator("Foraging-8x8-2p-2f-coop-v3", team_reward=team)
        simulator.reset(0)
        step = simulator._env.step
        answer = (step((0, 0))[0], [0.25, 0.5], False, False, {})
        simulator._env = types.SimpleNamespace(step=lambda actions, answer=answer: answer)
        assert simulator.step([0, 0]).reward == 0.75 * factor


def test_warehouses_are_cut():
    pytest.importorskip("rware")
    simulator = GymSimulator("rware-tiny-2ag-v2", arguments='{"max_steps": 9}')
    rows = play(simulator, 1)
    assert simulator.sizes.episode_limit == len(rows) == 9
    assert rows[-1].truncated
    assert not rows[-1].terminated
    assert picture(rows) == picture(play(simulator, 1))


def test_agents_of_different_sizes_are_padded():
    pytest.importorskip("mpe2")
    simulator = ZooSimulator("simple_speaker_listener_v4")
    sizes = simulator.sizes
    assert (sizes.obs_sizes, sizes.action_counts, sizes.obs_dim, sizes.n_actions) == ((3, 11), (3, 5), 11, 5)
    seen = simulator.reset(1)
    assert np.array(seen.avail).tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert not seen.obs[0, 3:].any()
    rows = play(simulator, 1)
    assert len(rows) == sizes.episode_limit == 25
    assert (rows[-1].terminated, rows[-1].truncated) == (False, True)
    assert np.array(rows[-1].seen.avail).any(-1).all()
    assert np.abs(rows[-1].seen.obs).sum() > 0, "the last observation is kept"
    assert rows[-1].seen.avail[1].all(), "in the last moment all could go on"
    assert picture(rows) == picture(play(simulator, 1)) != picture(play(simulator, 2))
    assert ZooSimulator("mpe2.simple_speaker_listener_v4", 9).sizes.episode_limit == 9


class Fading:
    """A PettingZoo world whose first agent is gone after a step; the other ends the game after two, or is cut."""

    possible_agents = ("a", "b")

    def __init__(self, cut: bool) -> None:
        self.cut, self.unwrapped, self.max_cycles = cut, self, 9

    def observation_space(self, agent):
        return gymnasium.spaces.Box(0, 9, (2,))

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(3)

    def reset(self, seed):
        self.agents, self.t = ["a", "b"], 0
        return self._obs(), {"a": {"action_mask": np.array([0, 1, 1])}, "b": {}}

    def step(self, actions):
        assert list(actions) == self.agents
        acted, self.t = self.agents, self.t + 1
        self.agents = {1: ["b"], 2: []}[self.t]
        over = {agent: (self.t == 2 and not self.cut) or agent == "a" for agent in acted}
        cuts = dict.fromkeys(acted, self.t == 2 and self.cut)
        return {a: np.full(2, self.t) for a in acted}, dict.fromkeys(acted, 2.0), over, cuts, {a: {} for a in acted}

    def _obs(self):
        return {a: np.zeros(2) for a in self.agents}

    def close(self):
        pass


@pytest.mark.parametrize("cut", [False, True])
def test_agents_may_be_gone_before_the_end(monkeypatch, cut):
    world = types.ModuleType("fading")
    world.parallel_env = lambda: Fading(cut)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.fading", world)
    simulator = ZooSimulator("tests.fading", team_reward="sum")
    assert np.array(simulator.reset(0).avail).tolist() == [[False, True, True], [True] * 3]
    first = simulator.step([1, 2])
    assert (first.reward, first.terminated, first.truncated) == (4.0, False, False)
    assert first.seen.avail.tolist() == [[True, False, False], [True] * 3]
    last = simulator.step([0, 2])
    assert (last.reward, last.terminated, last.truncated) == (2.0, not cut, cut)
    assert last.seen.obs.tolist() == [[0, 0], [2, 2]]


def test_what_starcraft_says_of_ends():
    simulator = SkirmishSimulator()
    sizes = simulator.sizes
    assert (sizes.limit_is_terminal, sizes.has_win, sizes.return_scale) == (True, True, 20.0)
    hide = lambda avail: [3 if row[3] else 0 for row in avail]
    rows = play(simulator, 5, choose=hide)
    assert len(rows) == LIMIT
    assert (rows[-1].terminated, rows[-1].truncated) == (False, True)
    assert rows[-1].info == {"won": False, "timed_out": True, "dead_allies": 0, "dead_enemies": 0}
    attack = lambda avail: [2 if row[2] else 0 for row in avail]
    won = next(rows for seed in range(50) if (rows := play(simulator, seed, choose=attack))[-1].info["won"])
    assert (won[-1].terminated, won[-1].truncated) == (True, False)
    assert won[-1].info["dead_enemies"] == 1
    assert [row.info for row in won[:-1]] == [{"won": False, "timed_out": False}] * (len(won) - 1)
    simulator.reset(1)
    with pytest.raises(AssertionError, match="not available"):
        simulator.step([0, 1])


def test_a_crash_of_starcraft_is_never_an_episode():
    """What smac's interface does when the game breaks down: an end without info, units of the battle before."""
    for broken in ({"step": (0.0, True, {})}, {"step": (0.0, False, {"battle_won": False}), "restarts": 1}):
        simulator = SkirmishSimulator()
        simulator.reset(1)
        battle = simulator._battle

        def step(actions, battle=battle, broken=broken):
            battle.force_restarts += broken.get("restarts", 0)
            return broken["step"]

        battle.step = step
        with pytest.raises(Aborted):
            simulator.step([1, 1])
    simulator = SkirmishSimulator()
    simulator.reset(1)
    reset, battle = simulator._battle.reset, simulator._battle

    def stale():
        battle.force_restarts += 1

    battle.reset = stale
    with pytest.raises(Aborted):
        simulator.reset(2)
    battle.reset = reset
    simulator.reset(2)


def test_starcraft_is_seeded_at_its_start_and_smacv2_each_time():
    made = []

    def make(seed: int) -> Skirmish:
        battle = Skirmish()
        inner = types.SimpleNamespace(rng=None, generate=None)
        outer = types.SimpleNamespace(rng=None, generate=None, inner=inner, config={"a": 1})
        battle.env_key_to_distribution_map = {"team_gen": outer}  # type: ignore[attr-defined]
        made.append((seed, battle, outer, inner))
        return battle

    simulator = starcraft.StarcraftSimulator(make)
    draws = []
    for seed in (2**40 + 7, 8, 2**40 + 7):
        simulator.reset(seed)
        _, _, outer, inner = made[-1]
        draws.append((outer.rng.random(), inner.rng.random()))
    assert [seed for seed, *_ in made] == [0, 7]
    assert draws[0] == draws[2] != draws[1]
    assert draws[0][0] != draws[0][1]


def test_own_state_sizes_come_from_the_interface():
    def make(seed: int) -> Skirmish:
        battle = Skirmish()
        battle.get_ally_num_attributes = lambda: 7  # type: ignore[attr-defined]
        battle.obs_instead_of_state = seed < 0  # type: ignore[attr-defined]
        return battle

    assert starcraft.StarcraftSimulator(make).sizes.own_state_dim == 7
    assert starcraft.StarcraftSimulator(lambda seed: make(-1)).sizes.own_state_dim == 0
    assert SkirmishSimulator().sizes.own_state_dim == 0


def smaclite_make(name: str):
    """What `gymnasium.make` gives for SMAClite: a battle in which exact ints are needed and nothing is ever cut."""
    assert name == "smaclite/2s3z-v0"

    class Battle:
        n_agents, n_actions, obs_size, state_size, ally_state_feat_size = 2, 3, 2, 6, 3

        def __init__(self) -> None:
            self.unwrapped, self.last_actions = self, np.zeros(6)

        def reset(self, seed):
            self.t, self.dead = 0, False
            return (np.zeros(2, np.float32),) * 2, {"battle_won": False}

        def step(self, actions):
            assert all(type(action) is int for action in actions)
            self.last_actions = np.eye(3)[actions].ravel()
            self.t += 1
            won = actions == [2, 2]
            return (np.ones(2, np.float32),) * 2, 20.0 * won, won, False, {"battle_won": won}

        def get_avail_actions(self):
            return [np.array([0.0, 1.0, 1.0])] * 2

        def get_state(self):
            return self.last_actions.astype(np.float32)

        def close(self):
            pass

    return Battle()


def test_smaclite_gets_a_limit_and_forgets_the_battle_before(monkeypatch):
    maker = types.ModuleType("tests.fake_gymnasium")
    maker.make = smaclite_make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.fake_gymnasium", maker)
    simulator = smaclite.SmacliteSimulator("2s3z", maker="tests.fake_gymnasium")
    assert simulator.sizes.episode_limit == 120
    assert simulator.sizes.own_state_dim == 3
    rows = play(simulator, 1, choose=lambda avail: [1, 1])
    assert (len(rows), rows[-1].terminated, rows[-1].truncated) == (120, False, True)
    assert rows[-1].info == {"won": False, "timed_out": True}
    assert rows[-1].seen.state.any()
    assert not simulator.reset(2).state.any()
    won = simulator.step([2, 2])
    assert (won.terminated, won.truncated, won.info["won"], won.reward) == (True, False, True, 20.0)


def test_limits_of_smaclite_are_smacs():
    """The numbers of environments whose maps both have; SMAC's registry is their source."""
    assert smaclite.LIMITS["3s5z_vs_3s6z"] == 170
    assert smaclite.LIMITS["MMM2"] == smaclite.LIMITS["27m_vs_30m"] == 180
    assert len(smaclite.LIMITS) == 12


def test_smaclite_itself_if_it_is_there():
    pytest.importorskip("smaclite")
    simulator = smaclite.SmacliteSimulator("2s3z")
    assert (simulator.sizes.n_agents, simulator.sizes.obs_dim, simulator.sizes.state_dim) == (5, 80, 120)
    assert picture(play(simulator, 1)) == picture(play(simulator, 1))


@pytest.mark.parametrize("error", ["OSError('could not find lib libspatialindex_c.so')", "ImportError('no symbol')"])
def test_packages_that_cannot_be_imported_are_named(tmp_path, monkeypatch, error):
    (tmp_path / "broken_package.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path)
    kind, _, why = error.rstrip(")").partition("(")
    sentence = f"world needs broken_package, which cannot be imported \\({kind}: {why[1:-1]}\\): pip install "
    with pytest.raises(Missing, match=sentence + "--force-reinstall distribution$"):
        package("broken_package", "distribution", "world")
    with pytest.raises(Missing, match=sentence + "--no-deps 'rtree>=1.3'$"):
        package("broken_package", "distribution", "world", smaclite.RTREE)


def test_missing_games_and_maps_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    with pytest.raises(Missing, match=rf"smac_3m needs StarCraft II, which is not in {tmp_path} \(set SC2PATH\)"):
        starcraft.installation("smac_3m", "3m", starcraft.MAPS, "Maps")
    (tmp_path / "Versions" / "Base75689").mkdir(parents=True)
    with pytest.raises(Missing, match=r"needs the map 3m, which is not in .*Maps/SMAC_Maps: unzip https.* in .*/Maps$"):
        starcraft.installation("smac_3m", "3m", starcraft.MAPS, "Maps")
    (tmp_path / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (tmp_path / "Maps" / "3m.SC2Map").touch()
    with pytest.raises(Missing, match="needs the map 3m"):  # pysc2 looks for it in SMAC_Maps
        starcraft.installation("smac_3m", "3m", starcraft.MAPS, "Maps")
    (tmp_path / "Maps" / "SMAC_Maps" / "3m.SC2Map").touch()
    assert starcraft.installation("smac_3m", "3m", starcraft.MAPS, "Maps") == {"StarCraftII": "Base75689"}


class Battles:
    """What `smacv2.env.starcraft2.wrapper` and `smac.env` have; keeps the arguments of battles."""

    def __init__(self) -> None:
        self.made: list[dict] = []

    class StarCraft2Env(Skirmish):
        def __init__(self, map_name="8m", difficulty="7", seed=None, reward_sparse=False, capability_config=None):
            super().__init__()
            self.arguments = {"map": map_name, "difficulty": difficulty, "sparse": reward_sparse}

    def StarCraftCapabilityEnvWrapper(self, **arguments):
        for distribution in list(arguments["capability_config"].values()):
            if isinstance(distribution, dict):
                distribution["env_key"] = "changed"  # as the wrapper does
        self.made.append(arguments)
        return Skirmish()


@pytest.fixture
def battles(monkeypatch) -> Battles:
    found = Battles()
    monkeypatch.setattr(starcraft, "package", lambda *_: found)
    monkeypatch.setattr(starcraft, "versions", lambda modules: {})
    monkeypatch.setattr(starcraft, "installation", lambda name, map, maps, target: {"map": map, "target": target})
    return found


def test_smacv2_is_played_as_published(battles):
    """Its configs/sc2_gen_*.yaml: protoss has no exception unit; all battles are on one map."""
    for race, exceptions in (("terran", ["medivac"]), ("zerg", ["baneling"]), ("protoss", None)):
        simulator = starcraft.smacv2(race, 5, 6)
        simulator.reset(1)
        first, second = battles.made[-2:]
        assert first["map_name"] == f"10gen_{race}"
        assert simulator.sizes.versions == {"map": "32x32_flat", "target": "Maps/SMAC_Maps"}
        assert first["capability_config"] is not second["capability_config"]
        config = second["capability_config"]
        assert (config["n_units"], config["n_enemies"]) == (5, 6)
        assert config["team_gen"].get("exception_unit_types") == exceptions
        assert first["obs_own_pos"] is True


def test_arguments_of_starcraft_are_passed_on(battles):
    own = '{"difficulty": "A", "capability_config": {"team_gen": {"dist_type": "all_teams"}}}'
    starcraft.smacv2("terran", 5, 5, arguments=own)
    assert battles.made[-1]["difficulty"] == "A"
    assert battles.made[-1]["capability_config"] == {
        "team_gen": {"dist_type": "all_teams", "env_key": "changed"},
        "n_units": 5,
        "n_enemies": 5,
    }
    simulator = starcraft.smac("3m", "3", '{"reward_sparse": true}')
    assert simulator._battle.arguments == {"map": "3m", "difficulty": "3", "sparse": True}
    assert simulator.sizes.return_scale == 1.0
    with pytest.raises(Missing, match="smac_3m has no argument 'reward_sparce'; did you mean 'reward_sparse'"):
        starcraft.smac("3m", arguments='{"reward_sparce": true}')
    with pytest.raises(Missing, match="has no argument 'seed'"):
        starcraft.smacv2("terran", 5, 5, arguments='{"seed": 1}')


def test_protobuf_speaks_python_where_pysc2_needs_it(monkeypatch):
    name = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    for version, wanted in (("3.20.3", None), ("7.36.2", "python")):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(starcraft.importlib.metadata, "version", lambda package, version=version: version)
        starcraft.speak_python()
        assert os.environ.get(name) == wanted


def test_arguments_of_smaclite(monkeypatch, tmp_path):
    make = functools.partial(smaclite.SmacliteSimulator, maker="tests.fake_gymnasium")
    for map, arguments, sentence in (
        ("2s3z", '{"use_cpp": true}', "no argument 'use_cpp'; did you mean 'use_cpp_rvo2'"),
        ("2s3z", '{"map_file": "x"}', "a map of your own must be smaclite_custom with"),
        ("custom", "{}", "a map of your own must be smaclite_custom with"),
        ("custom", '{"map_file": "/no/file"}', "map_file of smaclite_custom must be a file"),
        ("custom", f'{{"map_file": "{__file__}"}}', "no time limit of its own; set one with --env.episode_limit"),
    ):
        with pytest.raises(Missing, match=sentence):
            make(map, arguments=arguments)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("smac_3m", {}, "smac_3m needs the package smac, which is not installed: pip install git+https"),
        ("smaclite_2s3z", {}, "smaclite_2s3z needs the package smaclite, which is not installed: pip install git+"),
        ("smacv2_terran_5_vs_5", {}, "needs the package smacv2, which is not installed"),
        ("smacv2_terran", {}, "must be such as smacv2_terran_5_vs_5"),
        ("gym_Foraging-9x9", {}, "Gymnasium has no environment 'Foraging-9x9'"),
        ("gym_MountainCarContinuous-v0", {}, "has actions Box(-1.0, 1.0, (1,), float32); they must be Discrete"),
        ("gym_Blackjack-v1", {}, "Blackjack-v1 has no time limit of its own; set one with --env.episode_limit"),
        ("pz_simple_spread_v1", {}, "there is no PettingZoo environment 'simple_spread_v1' in mpe2.simple_spread_v1"),
        ("pz_simple_spread_v1", {}, "; the newest version is mpe2.simple_spread_v3"),
        ("pz_simple_tag_v3", {}, "has the groups of agents adversary, agent, which may play against each other"),
        ("pz_simple_tag_v3", {"team": "adversari"}, "has no agent or group 'adversari'; did you mean 'adversary'"),
        ("pz_x", {"others": "rand"}, "others of pz_x must be random or still (got 'rand')"),
        ("smac_3m", {"arguments": "x"}, "arguments of smac_3m must be a JSON object"),
        ("pz_no_such_world", {}, "there is no PettingZoo environment 'no_such_world'"),
        ("host_x", {}, "the name 'host_x' has no maker; it must be such as host_my_module:MyWorld"),
        ("host_:Corridor", {}, "the name 'host_:Corridor' has no maker"),
        ("host_no.such:World", {}, "there is no module 'no.such'; it must be"),
        (
            f"{TOY}:Skirmisch",
            {},
            "nothing to call named 'Skirmisch'; did you mean 'Skirmish'?",
        ),
        (f"{TOY}:LIMIT", {}, "nothing to call named 'LIMIT'"),
        (
            f"{TOY}:Skirmish",
            {},
            "must be gpgrad.envs.external.protocol.Sizes (got",
        ),
        (
            f"{TOY}:Nothing",
            {"arguments": '{"lenght": 3}'},
            "unexpected keyword argument 'lenght'",
        ),
        (
            f"{TOY}:Nothing",
            {"arguments": '{"agents": "x"}'},
            "cannot be built: the simulator could not be",
        ),
        ("pz_pettingzoo.utils", {}, "pettingzoo.utils has no parallel_env or env"),
        ("gym_x", {"form": "both"}, "form of gym_x must be loop or graph (got 'both')"),
        ("gym_x", {"workers": 0}, "workers of gym_x must be 1 or more, or none (got 0)"),
        ("gym_x", {"team_reward": "max"}, "team_reward of gym_x must be sum or mean"),
        ("gym_x", {"arguments": "[1]"}, "arguments of gym_x must be a JSON object such as '{\"name\": 1}' (got '[1]')"),
        ("gym_x", {"episode_limit": -1}, "episode_limit of gym_x must be 0 or more"),
        ("pz_x", {"step_seconds": 0.0}, "step_seconds of pz_x must be more than 0"),
        ("gyn_x", {}, "there is no environment 'gyn_x'"),
        ("gym_", {}, "there is no environment 'gym_'"),
    ],
)
def test_mistakes_are_answered_with_a_sentence(name, options, sentence):
    with pytest.raises(SettingError) as caught:
        envs.make(name, **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_external_environments():
    assert "gym_<id>" in envs.patterns()
    assert envs.known("smac_anything")
    assert not envs.known("anything")
    assert envs.is_external("pz_simple_spread_v3")
    assert not envs.is_external("pp_small")
    assert envs.family("smacv2_terran_5_vs_5") == "smacv2"
    assert envs.options("gym_x")["team_reward"] == (str, "sum")
