"""Battles: maps, ends, available actions, sampled teams, custom battles, and invariants of random play."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad import envs
from gpgrad.envs import SettingError, registry
from gpgrad.envs.battles.env import Battle
from gpgrad.envs.battles.scenarios import drawn, maps, terrain
from gpgrad.envs.battles.scenarios.custom import custom_map
from gpgrad.envs.battles.scenarios.units import UNITS
from gpgrad.envs.battles.state import BattleState, unpack
from gpgrad.envs.battles.ticks.tick import worlds_last

NORTH, SOUTH, EAST, WEST = 2, 3, 4, 5


def test_every_map_has_a_name():
    assert set(registry.BATTLE_MAPS) == set(maps.MAPS)
    assert set(registry.BATTLE_DRAWS) == set(drawn.names())
    assert set(maps.UNPUBLISHED) | set(maps.OTHER_CLIFFS) < set(maps.MAPS)


@pytest.mark.parametrize(
    ("name", "agents", "actions", "obs", "state", "limit"),
    [  # SMAC's, which Tables 12 and 13 of GradPS count parameters with
        ("5m_vs_6m", 5, 12, 55, 98, 70),
        ("MMM2", 10, 18, 176, 322, 180),
        ("27m_vs_30m", 27, 36, 285, 1170, 180),
        ("2s3z", 5, 11, 80, 120, 120),
        ("3m", 3, 9, 30, 48, 60),
        ("corridor", 6, 30, 156, 282, 400),
    ],
)
def test_sizes_are_smacs(name, agents, actions, obs, state, limit):
    spec = envs.make(f"battle_{name}").spec
    sizes = (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit)
    assert sizes == (agents, actions, obs, state, limit)
    assert (spec.has_win, spec.ends_early, spec.limit_is_terminal, spec.return_scale) == (True, True, True, 20.0)


def test_agents_are_numbered_by_type():
    env = envs.make("battle_MMM2")
    names = [env.rules.kinds[env.rules.types[unit]] for unit in env.agent_units]
    assert names == ["marauder"] * 2 + ["marine"] * 7 + ["medivac"]
    assert env.agent_units.tolist() == [8, 9, 1, 2, 3, 4, 5, 6, 7, 0]
    assert envs.make("battle_bane_vs_bane").agent_units.tolist() == [44, 45, 46, 47, *range(24, 44)]
    np.testing.assert_array_equal(env.roles(()), [0] * 2 + [1] * 7 + [2])


def test_replay_of_the_largest_map_fits():
    """5,000 episodes of 27m_vs_30m take less than 1.5 GiB a seed."""
    env = envs.make("battle_27m_vs_30m")
    state = jax.eval_shape(env.reset, jax.random.key(0), ())
    spec = env.spec
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    step = spec.n_agents + 4 + 1 + 1  # actions, reward, terminated, valid
    episode = (spec.episode_limit + 1) * each + spec.episode_limit * step
    assert 0.5 < 5000 * episode / 2**30 < 1.5


# A battle of two marines and a medivac against three marines, compiled once.


@functools.cache
def small() -> Battle:
    return envs.make("battle_custom")  # type: ignore[return-value]


@functools.cache
def played():
    """Transition of many worlds: (states, actions, orders) to steps."""
    return jax.jit(jax.vmap(functools.partial(small().transition, ())))


@functools.cache
def seen():
    return jax.jit(jax.vmap(functools.partial(small().view, ())))


WORLDS = 64  # of every call, so that one program does


def many(state: BattleState) -> BattleState:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (WORLDS, *leaf.shape)), state)


def orders(key: jax.Array) -> jax.Array:
    return jax.vmap(small().draws)(jax.random.split(key, WORLDS))


def battle(**changes) -> BattleState:
    """Our marines 0, 1 and medivac 2, enemies 3, 4, 5, in two columns, four cells apart."""
    start = small().reset(jax.random.key(0), ())
    x = jnp.array([14.0, 14.0, 12.0, 18.0, 18.0, 18.0])
    y = jnp.array([14.0, 18.0, 16.0, 14.0, 16.0, 18.0])
    return start._replace(**({"x": x, "y": y} | changes))


def act(state: BattleState, actions) -> tuple:
    """One step in all worlds, of which the first is taken."""
    step = played()(many(state), jnp.broadcast_to(jnp.array(actions), (WORLDS, 3)), orders(jax.random.key(1)))
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), step)


def health(*points) -> jax.Array:
    return jnp.array([round(256 * p) for p in points], jnp.uint16)


def told(step) -> dict:
    return {name: int(value) for name, value in step.info.items()} | {
        "terminated": bool(step.terminated),
        "truncated": bool(step.truncated),
    }


QUIET = {"won": 0, "draw": 0, "timed_out": 0, "dead_allies": 0, "dead_enemies": 0}


def test_a_win_counts_once():
    step = act(battle(health=health(45, 45, 150, 6, 6, 0)), [6, 7, 1])
    assert told(step) == QUIET | {"won": 1, "dead_enemies": 2, "terminated": True, "truncated": False}
    np.testing.assert_allclose(step.reward, 20 * (12 + 20 + 200) / (30 + 200 + 135), rtol=1e-6)
    again = act(jax.tree.map(jnp.asarray, step.state), [1, 1, 1])
    assert told(again) == QUIET | {"terminated": True, "truncated": False}
    assert again.reward == 0


def test_a_team_of_medivacs_has_lost_and_a_limit_is_no_win():
    lost = act(battle(health=health(0, 0, 150, 45, 45, 45)), [0, 0, 1])
    assert told(lost)["terminated"]
    assert told(lost)["won"] == 0
    late = act(battle(time=jnp.int16(99)), [1, 1, 1])
    assert told(late) == QUIET | {"timed_out": 1, "terminated": False, "truncated": True}
    assert not told(act(battle(time=jnp.int16(98)), [1, 1, 1]))["truncated"]


def test_both_teams_dead_is_a_draw():
    step = act(battle(health=health(0, 0, 0, 0, 0, 0)), [0, 0, 0])
    assert told(step) == QUIET | {"terminated": True, "truncated": False}  # it was over before
    assert np.isfinite(step.state.x).all()


def test_the_dead_are_not_healed_and_the_wounded_are():
    apart = {"x": jnp.array([5.0, 5.0, 7.0, 28.0, 28.0, 28.0])}
    step = act(battle(health=health(20, 0, 150, 45, 45, 45), **apart), [1, 0, 6])
    assert step.state.health.tolist()[:2] == [256 * 20 + 8 * 144, 0]  # 9/16 a tick
    energy = 50 * 256 + 8 * 9 - 2 * 256  # each unit of energy is worth 3 of health: two for 4.5
    assert step.state.energy.tolist() == [energy]
    assert act(battle(health=health(20, 0, 150, 45, 45, 45), **apart), [1, 0, 7]).state.health.tolist()[1] == 0


def test_without_energy_nobody_is_healed_and_all_is_finite():
    wounded = battle(health=health(20, 45, 150, 45, 45, 45), energy=jnp.zeros(1, jnp.uint16))
    step = act(wounded._replace(x=jnp.array([5.0, 5.0, 7.0, 28.0, 28.0, 28.0])), [1, 1, 6])
    assert step.state.health.tolist()[0] == 20 * 256
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(step))


def test_units_on_one_place_and_beyond_the_board_stay_finite():
    heap = battle(x=jnp.full(6, 16.0), y=jnp.full(6, 16.0))
    step = act(heap, [2, 2, 4])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(step))
    assert (np.abs(step.state.x - 16) < 4).all()
    edge = act(battle(x=jnp.array([-1.0, 0.0, 32.0, 33.0, 32.5, 40.0])), [5, 5, 4])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(edge))
    out = seen()(many(battle(x=jnp.array([-1.0, 0.0, 32.0, 33.0, 32.5, 40.0]))))
    assert np.isfinite(out.obs).all()
    assert out.avail[0, 0].tolist()[2:6] == [False, False, True, False]
    assert out.avail[0, 1].tolist()[2:6] == [True, True, True, False]


def test_masks():
    avail = np.asarray(seen()(many(battle(health=health(45, 0, 150, 45, 0, 45)))).avail[0])
    assert avail.shape == (3, 9)
    assert avail[0].tolist() == [False, *[True] * 5, True, False, True]  # both of the living are within 6
    assert avail[1].tolist() == [True, *[False] * 8]
    assert avail[2].tolist() == [False, *[True] * 5, True, False, False]  # may heal agent 0, who is alive


def test_unavailable_actions_mean_stop():
    far = battle(x=jnp.array([5.0, 5.0, 7.0, 28.0, 28.0, 28.0]))
    stop, wrong = act(far, [1, 1, 1]), act(far, [6, 0, 8])
    for a, b in zip(
        jax.tree.leaves(stop.state._replace(last=None)), jax.tree.leaves(wrong.state._replace(last=None)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def random_play(seed: int, steps: int):
    """States before, actions and steps [steps, WORLDS] of random play, unavailable actions among them."""
    key = jax.random.key(seed)
    state = many(battle())
    spread = jax.random.uniform(key, (2, WORLDS, 6), minval=9.0, maxval=23.0)
    state = state._replace(x=spread[0], y=spread[1])
    rows = []
    for t in range(steps):
        k_act, k_order = jax.random.split(jax.random.fold_in(key, t))
        chosen = jax.random.randint(k_act, (WORLDS, 3), 0, 9)
        step = played()(state, chosen, orders(k_order))
        rows.append(jax.device_get((state, chosen, step)))
        state = step.state
    return rows


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_what_holds_for_any_play(seed):
    most = np.array([45, 45, 150, 45, 45, 45]) * 256
    for before, chosen, step in random_play(seed, 12):
        after = step.state
        assert (after.health <= most).all()
        assert (after.energy <= 200 * 256).all()
        assert (step.reward >= 0).all()
        assert np.isfinite(after.x).all()
        dead = before.health == 0
        assert (after.health[dead] == 0).all()
        for name in ("x", "y", "cooldown"):
            np.testing.assert_array_equal(getattr(after, name)[dead], getattr(before, name)[dead])
        # One side's health falls only while somebody of the other side lives.
        alone = dead[:, 3:].all(1)
        np.testing.assert_array_equal(after.health[alone][:, :2] >= before.health[alone][:, :2], True)
        np.testing.assert_array_equal(after.last, chosen)


def mirrored(state: BattleState) -> BattleState:
    """North and south exchanged."""
    return state._replace(y=32 - state.y, vy=-state.vy)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000))
def test_the_field_is_symmetric(seed):
    """A battle and its mirror image go alike, but where units touch and the last bit decides."""
    swap = np.arange(9)
    swap[[NORTH, SOUTH]] = SOUTH, NORTH
    for before, chosen, step in random_play(seed, 4):
        order = orders(jax.random.fold_in(jax.random.key(seed), 7))
        here = played()(jax.tree.map(jnp.asarray, before), chosen, order).state
        there = played()(jax.tree.map(jnp.asarray, mirrored(before)), swap[chosen], order).state
        back = mirrored(there)
        same = (np.abs(back.y - here.y) < 1e-2).all(1) & (np.abs(back.x - here.x) < 1e-2).all(1)
        same &= (back.health == here.health).all(1)
        assert same.mean() > 0.9
        del step


def test_worlds_are_merged_and_split_again():
    shapes = []

    def double(x, y):
        shapes.append((x.shape, y.shape))
        return 2 * x + y, {"sum": jnp.sum(x, axis=0)}

    function = worlds_last(double)
    x = jnp.arange(24.0).reshape(2, 3, 4)
    y = jnp.arange(8.0).reshape(2, 4)
    twice, sums = jax.vmap(jax.vmap(function, (0, None)), (0, 0))(x, y)
    assert shapes[-1] == ((4, 6), (4, 6))
    np.testing.assert_array_equal(twice, 2 * x + y[:, None])
    np.testing.assert_array_equal(sums["sum"], x.sum(-1))
    np.testing.assert_array_equal(function(x[0, 0], y[0])[0], 2 * x[0, 0] + y[0])


def test_nothing_is_transferred_to_python():
    env = envs.make("battle_3m")
    state = env.reset(jax.random.key(0), ())
    text = str(jax.make_jaxpr(env.step)(jax.random.key(0), (), state, jnp.ones(3, jnp.int32)))
    assert "callback" not in text
    assert "f64" not in text
    assert "while" in text


# Teams drawn by the reset.


@pytest.mark.parametrize("race", drawn.TEAMS)
def test_drawn_teams_are_smacv2s(race):
    env = envs.make(f"battle_{race}_10_vs_11")
    states = jax.jit(jax.vmap(lambda key: env.reset(key, ())))(jax.random.split(jax.random.key(0), 600))
    types = np.asarray(states.types)
    np.testing.assert_array_equal(types[:, :10], types[:, 10:20])
    assert (types[:, :10] != drawn.RARE).any(1).all()
    assert (types[:, 20] != drawn.RARE).all()
    shares = np.bincount(types[:, :10].ravel(), minlength=3) / 6000
    np.testing.assert_allclose(shares, [0.45, 0.45, 0.1], atol=0.03)
    x, y = np.asarray(states.x), np.asarray(states.y)
    assert (np.stack([x, y]) >= drawn.INNER).all()
    radius = np.array([UNITS[kind].radius for kind in drawn.TEAMS[race]])[types]
    gaps = np.hypot(x[:, :, None] - x[:, None], y[:, :, None] - y[:, None]) - (radius[:, :, None] + radius[:, None])
    assert (gaps[:, ~np.eye(21, dtype=bool)] < -0.2).mean() < 1e-3
    reflected = (np.abs(x[:, :10] + x[:, 10:20] - 32) < 1.5).all(1) & (np.abs(y[:, :10] - y[:, 10:20]) < 1.5).all(1)
    assert 0.3 < reflected.mean() < 0.6
    np.testing.assert_allclose(states.point[:, 0], x[:, :10].mean(1), rtol=1e-5)


def test_a_drawn_battle_is_played():
    env = envs.make("battle_terran_5_vs_5")
    state = env.reset(jax.random.key(0), ())
    view = env.view((), state)
    assert (view.obs.shape, view.state.shape) == ((5, env.spec.obs_dim), (env.spec.state_dim,))
    health = unpack(env.rules, state).health
    np.testing.assert_array_equal(view.state[:: env.spec.own_state_dim][:5], np.asarray(health > 0)[:5])


# Files of one's own, and mistakes.


def test_the_example_is_that_of_the_docs(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "battles.md").read_text()
    path = tmp_path / "duel.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0])
    assert custom_map(str(path)) == custom_map("")
    assert custom_map("") == maps.BattleMap(
        (
            maps.Group(0, (9.0, 16.0), (("marine", 2), ("medivac", 1))),
            maps.Group(1, (23.0, 16.0), (("marine", 3),)),
        ),
        (9.0, 16.0),
        "SIMPLE",
        100,
        ("marine", "medivac"),
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("ours: []", "ours in .* must be a list of groups"),
        ("[1]", "must be a mapping of ours, enemies"),
        ("ours: {a", "is no YAML"),
        ("our: 1", "has no setting 'our'; did you mean 'ours'?"),
        ("ours: [{at: [9, 16], units: {marin: 2}}]", "unknown unit 'marin'; did you mean 'marine'?"),
        ("ours: [{at: [9, 33], units: {marine: 2}}]", "must be two numbers from 0 to 32"),
        ("ours: [{at: [9, 16], units: {marine: 0}}]", "marine in .* must be a whole number from 1 to 127"),
        ("ours: [{at: [9, 16], units: {marine: 2}}]", "enemies in .* must be a list"),
        ("GOOD\nterrain: SIMPL", "terrain in .* is 'SIMPL'; did you mean 'SIMPLE'?"),
        ("GOOD\nlimit: 0", "limit in .* must be a whole number"),
        ("ours: [{at: [9, 16], units: {marine: 100}}]\nenemies: [{at: [9, 6], units: {marine: 100}}]", "at most 127"),
    ],
)
def test_mistakes_in_files_are_one_sentence(content, sentence, tmp_path):
    good = "ours: [{at: [9, 16], units: {marine: 2}}]\nenemies: [{at: [9, 6], units: {zealot: 2}}]"
    path = tmp_path / "duel.yaml"
    path.write_text(content.replace("GOOD", good))
    with pytest.raises(SettingError, match=sentence) as caught:
        envs.make("battle_custom", file=str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"file": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"episode_limit": 0}, "episode_limit must be between 1 and 32767"),
        ({"ticks": 0}, "ticks must be between 1 and 160"),
        ({"sight": 0.0}, "sight must be above 0"),
        ({"reward_scale": -1.0}, "reward_scale must be above 0"),
    ],
)
def test_mistakes_in_settings(settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        envs.make("battle_custom", **settings)


def test_an_unknown_map_has_a_nearest_one():
    with pytest.raises(SettingError, match="there is no battle '5m_vs_7m'; did you mean '5m_vs_6m'"):
        Battle(map="5m_vs_7m")


REACH = 4.755  # of the fastest and largest units


@pytest.mark.parametrize("name", terrain.names())
def test_edges_have_open_ground_on_their_right(name):
    walls = terrain.walls(name, REACH)
    along = np.linspace(0.01, 0.99, 64)[:, None, None]
    middle = walls.start + along * (walls.end - walls.start)  # [64, W, 2]
    outward = 0.1 * np.stack([_directions(walls)[:, 1], -_directions(walls)[:, 0]], -1)
    assert _open(name, middle + outward).any(0).all()
    assert not _open(name, middle - outward).any()


@pytest.mark.parametrize("name", terrain.names())
def test_no_edge_near_a_place_is_missing(name):
    walls = terrain.walls(name, REACH)
    places = np.random.default_rng(0).uniform(-terrain.MARGIN, maps.BOARD + terrain.MARGIN, (3000, 2))
    low, high = np.minimum(walls.start, walls.end), np.maximum(walls.start, walls.end)
    gap = np.maximum(np.maximum(low - places[:, None], places[:, None] - high), 0)
    away = places[:, None] - walls.start
    right = away[..., 0] * _directions(walls)[:, 1] - away[..., 1] * _directions(walls)[:, 0] > 0
    met = (np.hypot(*np.moveaxis(gap, -1, 0)) <= REACH) & right  # [places, W]
    row, column = (np.floor(places[:, axis]).astype(int) + terrain.MARGIN for axis in (1, 0))
    for place, near in zip(met, walls.near[row, column], strict=True):
        assert set(np.flatnonzero(place)) <= set(near.tolist())


def _directions(walls: terrain.Walls) -> np.ndarray:
    return np.sign(walls.end - walls.start)


def _open(name: str, places: np.ndarray) -> np.ndarray:
    """Whether there is open ground at places [..., 2]."""
    cell = np.floor(places).astype(int)
    inside = ((cell >= 0) & (cell < maps.BOARD)).all(-1)
    cell = np.clip(cell, 0, maps.BOARD - 1)
    return inside & terrain.walkable(name)[cell[..., 1], cell[..., 0]]
