"""GPVD as a part of the learner: what it changes, what it leaves alone, what it keeps."""

from __future__ import annotations

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import envs
from gpgrad.__main__ import main
from gpgrad.analysis import bucket_dump, gpvd_buckets
from gpgrad.envs.api import OneHot, View
from gpgrad.errors import SettingError
from gpgrad.learning import initial, iteration, probes, program
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init
from gpgrad.learning.iteration import make_chunk
from gpgrad.learning.learner import make_batch
from gpgrad.learning.program import actors
from gpgrad.methods.weighting import simhash
from gpgrad.training import checkpoint
from gpgrad.training.checkpoint import Position
from gpgrad.types import Batch, Terms
from tests.helpers.tiny_runs import one_seed, start, tiny
from tests.learning.test_program import count_primitives, leaves_equal


def after(algo: str, iterations: int, seeds: tuple[int, ...] = (0, 1), env: str = "pp_small", **changes):
    built, clock, states = start(tiny(algo, env, **changes), list(seeds))
    clock, states = built.chunk(clock, states, iterations)
    return built, clock, states


@pytest.fixture(scope="module")
def coarse():
    """GPVD with few buckets, three updates in."""
    return after("gpvd", 6, weighting__k=3)


@pytest.fixture(scope="module")
def base():
    """QMIX alone, one update in."""
    return after("qmix", 4)


def test_without_protection_and_bonus_it_is_the_base_learner(base):
    """Two gradient steps, bit for bit, in batches where much interferes."""
    built, _, _ = base
    states = built.init(jnp.arange(2, dtype=jnp.int32))
    _, states = built.chunk(initial.start_clock(), states, 5)
    _, _, same = after("gpvd", 5, weighting__alpha=1.0, weighting__beta=0.0, weighting__k=3)
    assert (np.asarray(same.stats["updates"]) == 2).all()
    assert (np.asarray(same.stats["share_downweighted"]) > 0).all()
    for name in ("params", "target", "opt_state", "replay", "env_steps"):
        leaves_equal(getattr(same, name), getattr(states, name))
    for name, value in states.stats.items():
        np.testing.assert_array_equal(same.stats[name], value, err_msg=name)


def test_what_is_logged(coarse):
    _, _, states = coarse
    means = {name: np.asarray(value) / 3 for name, value in states.stats.items()}
    assert (means["buckets"] >= 1).all()
    assert (means["buckets"] <= 8).all()
    for name in ("share_grouped", "share_protected", "share_downweighted", "share_interfering", "share_bonus"):
        assert (means[name] >= 0).all()
        assert (means[name] <= 1).all()
    assert (means["share_grouped"] > 0.8).all()
    assert (means["share_downweighted"] > 0).any()
    np.testing.assert_allclose(means["weight"], 1 - 0.8 * means["share_downweighted"], rtol=1e-5)
    assert (means["bonus"] > 0).all()
    assert (means["bonus"] < 0.01).all()


def test_visits_are_counted_once_and_kept(coarse, tmp_path):
    built, clock, states = coarse
    table = np.asarray(states.weighting.counts.table)
    assert table.shape == (2, 8)
    np.testing.assert_array_equal(table.sum(-1), states.env_steps)
    for i in range(2):  # the table is what the stored episodes say
        state = one_seed(states, i)
        stored = jax.tree.map(lambda leaf: leaf[:6], state.replay)
        batch = make_batch(built.parts.env, state.env_params, stored)
        seen = OneHot(batch.view.state.index[:-1], batch.view.state.size)
        codes = np.asarray(simhash.codes(state.weighting.coder.projection, seen))[..., 0]
        np.testing.assert_array_equal(table[i], np.bincount(codes[np.asarray(batch.valid)], minlength=8))

    position = Position(clock, states, actors(states), jnp.zeros(2, bool), jnp.int32(0))
    checkpoint.save(tmp_path, position, {}, 2)
    loaded, _ = checkpoint.newest(tmp_path, jax.eval_shape(lambda: position), print)
    leaves_equal(loaded.states.weighting, states.weighting)
    assert table.any()


@pytest.mark.slow
def test_statistics_freeze_with_the_first_batch():
    built, clock, states = start(tiny("gpvd", weighting__k=4, weighting__g="zscore"), [0, 1])
    raw = np.array(states.weighting.coder.projection)
    clock, states = built.chunk(clock, states, 3)
    np.testing.assert_array_equal(states.weighting.coder.projection, raw)
    assert not np.asarray(states.weighting.counts.table).any()
    clock, states = built.chunk(clock, states, 1)
    frozen = jax.tree.map(np.array, states.weighting.coder)
    assert (frozen.threshold != 0).any(-1).all()
    assert (frozen.projection != raw).any()
    np.testing.assert_array_equal(np.asarray(states.weighting.counts.table).sum(-1), states.env_steps)
    state = one_seed(states, 0)
    batch = make_batch(built.parts.env, state.env_params, jax.tree.map(lambda leaf: leaf[:4], state.replay))
    seen = OneHot(batch.view.state.index[:-1], batch.view.state.size)
    expected = simhash.standardise(simhash.Hash(jnp.array(raw[0]), jnp.zeros(4)), "zscore", seen, batch.valid)
    np.testing.assert_allclose(frozen.projection[0], expected.projection, rtol=1e-5)
    np.testing.assert_allclose(frozen.threshold[0], expected.threshold, rtol=1e-4, atol=1e-4)
    clock, states = built.chunk(clock, states, 2)
    leaves_equal(states.weighting.coder, frozen)
    np.testing.assert_array_equal(np.asarray(states.weighting.counts.table).sum(-1), states.env_steps)


def test_the_bonus_reaches_targets_and_never_returns(base):
    """Until something is learned, returns are the base learner's however large the bonus; targets are not."""
    _, _, plain = base
    built, _, states = after("gpvd", 4, weighting__beta=1000.0, weighting__kappa=3.0, weighting__k=2)
    np.testing.assert_array_equal(states.stats["train_return"], plain.stats["train_return"])
    leaves_equal(states.replay, plain.replay)
    assert (np.asarray(states.stats["bonus"]) > 100).all()
    difference = np.asarray(states.stats["target"] - plain.stats["target"])
    np.testing.assert_allclose(difference, states.stats["bonus"], rtol=1e-4)
    tested = built.test(actors(states), 0)
    assert np.asarray(tested["test_return"]).max() <= built.parts.env.spec.return_scale
    assert (np.asarray(states.stats["share_bonus"]) > 0.9).all()


@pytest.mark.slow
def test_the_control_weakens_as_many_elsewhere(coarse):
    built, _, _ = coarse
    _, one = built.chunk(initial.start_clock(), built.init(jnp.arange(2, dtype=jnp.int32)), 4)
    _, _, two = after("gpvd_random", 4, weighting__k=3)
    for name in ("weight", "share_downweighted", "buckets", "bonus"):
        np.testing.assert_allclose(one.stats[name], two.stats[name], rtol=1e-6, err_msg=name)
    assert (np.asarray(one.stats["share_downweighted"]) > 0).any()
    assert (np.asarray(one.stats["td_loss"]) != np.asarray(two.stats["td_loss"])).any()


@pytest.mark.parametrize("grouping", ["batch", "exact", pytest.param("single", marks=pytest.mark.slow)])
def test_padding_and_order_of_episodes_change_no_weight(grouping):
    parts = compose(tiny("gpvd", weighting__k=3, weighting__grouping=grouping))
    state = jax.jit(make_init(tiny("gpvd"), parts))(0)
    rng = np.random.default_rng(0)
    steps, count, size = 6, 5, parts.env.spec.state_dim
    index = (rng.integers(0, 9, (3, 4)) + 9 * np.arange(4))[rng.integers(0, 3, (steps + 1, count))]  # three states
    valid = np.arange(steps)[:, None] < np.array([6, 3, 1, 5, 6])

    view = View(
        jnp.zeros((steps + 1, count, 3, 2)), jnp.ones((steps + 1, count, 3, 6), bool), OneHot(jnp.array(index), size)
    )
    reward = rng.normal(size=(steps, count)).astype(np.float32)
    actions = rng.integers(0, 2, (steps, count, 3))
    q_tot, target = rng.normal(size=(2, steps, count)).astype(np.float32)
    fields = (reward, actions, q_tot, q_tot + 0.5, target)

    @jax.jit
    def weigh(view, valid, reward, actions, q_tot, q_max, target):
        batch = Batch(view, actions, reward, jnp.zeros_like(valid), valid)
        weighting, aux = parts.weighting.prepare(state.weighting, initial.start_clock(), batch)
        terms = Terms(q_tot, q_tot, q_max, target, target, jnp.zeros(()), {})
        weights, log = parts.weighting.weights(weighting, aux, batch, terms)
        return weights, parts.weighting.bonus(weighting, aux), log

    clean = weigh(view, jnp.array(valid), *fields)
    assert 0 < np.isclose(clean[0], 0.2).mean() < 0.5
    dirty_fields = [np.where(valid, x, np.nan) for x in (reward, q_tot, q_tot + 0.5, target)]
    dirty_actions = np.where(valid[..., None], actions, 5)
    later = np.concatenate([np.zeros_like(valid[:1]), ~valid])
    dirty_view = view._replace(state=OneHot(jnp.where(later[..., None], 7, jnp.array(index)), size))
    dirty = weigh(dirty_view, jnp.array(valid), dirty_fields[0], dirty_actions, *dirty_fields[1:])
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(a, b)

    order = np.array([3, 0, 4, 2, 1])
    moved = weigh(jax.tree.map(lambda leaf: leaf[:, order], view), valid[:, order], *(x[:, order] for x in fields))
    np.testing.assert_array_equal(np.asarray(clean[0])[:, order], moved[0])
    np.testing.assert_array_equal(np.asarray(clean[1])[:, order], moved[1])


@pytest.mark.slow
def test_seeds_side_by_side_are_seeds_alone(coarse):
    _, _, together = coarse
    _, _, alone = after("gpvd", 6, (1,), weighting__k=3)
    leaves_equal(one_seed(alone.weighting, 0), one_seed(together.weighting, 1))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, one_seed(alone.params, 0), one_seed(together.params, 1))


@pytest.mark.slow
def test_it_composes_with_other_parts():
    settings = {"weighting": "gpvd", "weighting__grouping": "exact", "weighting__ignore_forced": True}
    _, _, states = after("iql_fups_id", 5, **settings)
    assert (np.asarray(states.stats["updates"]) == 2).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states.params, states.stats)))
    assert (np.asarray(states.stats["buckets"]) / 2 > 8).all()
    np.testing.assert_array_equal(np.asarray(states.weighting.counts.table[:, 0]).sum(-1), states.env_steps)


@pytest.mark.parametrize(("g", "branches"), [("identity", 1), ("zscore", 2)])
def test_branches_stay_branches_under_many_seeds(g, branches):
    settings = tiny("gpvd", weighting__g=g)
    parts = compose(settings)
    states = jax.eval_shape(jax.vmap(make_init(settings, parts)), jnp.arange(3, dtype=jnp.int32))
    jaxpr = jax.make_jaxpr(make_chunk(settings, parts))(initial.start_clock(), states, 5)
    assert count_primitives(jaxpr.jaxpr, "cond") == branches


def test_bucket_dump(coarse, base):
    built, clock, states = coarse
    state = one_seed(states, 1)
    look = jax.jit(lambda clock, state, key: bucket_dump.bucket_dump(built.parts, clock, state, key, 6, 3, 4))
    dump = jax.tree.map(np.asarray, look(clock, state, jax.random.key(1)))
    assert dump.present.shape == (3, 5)
    assert dump.present[0, :2].all(), "nothing interferes in this batch"
    env, hashing = built.parts.env, state.weighting.coder
    for k, m in zip(*np.nonzero(dump.present), strict=True):
        codes = []
        for column in (0, m):
            world = jax.tree.map(lambda leaf, k=k, column=column: jnp.array(leaf[k, column]), dump.states)
            assert int(world.time) == dump.step[k, column]
            codes.append(int(simhash.codes(hashing.projection, env.view(state.env_params, world).state)[0]))
        assert codes[0] == codes[1]
        assert dump.visits[k] == state.weighting.counts.table[codes[0]]
        if m == 0:
            assert dump.td_error[k, 0] < 0
            continue
        equal = dump.actions[k, m] == dump.actions[k, 0]
        assert equal.any()
        assert not equal.all()
        assert dump.td_error[k, m] > 0
        assert dump.target[k, m] <= dump.target[k, 0]
    sizes = np.abs(dump.td_error[0, 1:][dump.present[0, 1:]])
    np.testing.assert_array_equal(sizes, np.sort(sizes)[::-1])
    _, clock, other = base
    with pytest.raises(SettingError, match="--weighting gpvd"):
        bucket_dump.bucket_dump(built.parts, clock, one_seed(other, 0), jax.random.key(0), episodes=4)


def test_buckets_of_a_run_on_the_board(coarse, tmp_path):
    built, clock, states = coarse
    state = one_seed(states, 1)
    dump = gpvd_buckets.find(built.parts, clock, state, jax.random.key(1), 6, 0.5, 3, 4)
    rows = gpvd_buckets.as_rows(dump)
    assert rows
    table = np.asarray(state.weighting.counts.table)
    for bucket in rows:
        assert bucket["visits"] in table  # those of the run; the episodes just played are not added
        first, *others = bucket["transitions"]
        assert (first["kind"], {row["kind"] for row in others}) == ("protected", {"interfering"})
        assert all(first["td_error"] * row["td_error"] < 0 for row in others)
        shared = [sum(np.equal(first["actions"], row["actions"])) for row in others]
        assert all(0 < count < 3 for count in shared)
        assert len(first["state"]["agents"]) == 3
    files = gpvd_buckets.picture(built.parts.env, state.env_params, dump, tmp_path / "deep" / "figure")
    assert [path.suffix for path in files] == [".png", ".svg", ".pdf", ".csv"]
    listed = list(csv.DictReader(files[-1].open()))
    assert len(listed) == sum(len(bucket["transitions"]) for bucket in rows)
    assert [row["shared"] for row in listed if row["bucket"] == "1"][1:] == [
        str(sum(np.equal(rows[0]["transitions"][0]["actions"], row["actions"]))) for row in rows[0]["transitions"][1:]
    ]
    empty = state.weighting._replace(counts=jax.tree.map(jnp.zeros_like, state.weighting.counts))
    alone = state._replace(weighting=empty)
    dump = gpvd_buckets.find(built.parts, initial.start_clock(), alone, jax.random.key(1), 6, 0.5, 3, 4)
    assert 0 < int(dump.visits.max()) <= 6 * 6  # nothing else was ever counted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "buckets needs the folder of a run"),
        (["nowhere"], "nowhere holds no run"),
        (["nowhere", "--epsilon", "2"], "--epsilon must be between 0 and 1 (got 2)"),
        (["nowhere", "--buckets", "0"], "--buckets must be at least 1 (got 0)"),
        (["nowhere", "--bucket", "1"], "unknown option --bucket; did you mean 'buckets'"),
    ],
)
def test_mistakes_about_buckets_are_one_sentence(arguments, sentence, capsys):
    assert main(["buckets", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("decomposition", ["vdn", pytest.param("qmix", marks=pytest.mark.slow)])
def test_gradient_flow(decomposition):
    settings = {"decomposition": decomposition, "rollout__worlds": 1, "learner__updates_per_episode": 1}
    settings["evaluation__gradient_flow"] = True
    built, clock, states = start(tiny("gpvd", "matrix_gpvd", weighting__beta=0.0, **settings), [0])
    state = one_seed(states, 0)
    flow = probes.GradientFlow(**{name: np.asarray(x[0]) for name, x in built.gradient_flow(clock, states).items()})
    payoff = np.array(built.parts.env.table)
    team = iteration.team(built.parts, state.params, ())
    table = probes.learned_game(built.parts, state.env_params, team).payoff_table
    np.testing.assert_allclose(flow.td_error, table - payoff, atol=1e-5)
    assert flow.weights[0, 0] == 1  # the best payoff exceeds every value of an untrained table
    conflict = np.zeros((3, 3), bool)
    conflict[0, 1:] = conflict[1:, 0] = True
    np.testing.assert_allclose(flow.weights, np.where(conflict & (flow.td_error > 0), 0.2, 1.0), rtol=1e-6)
    assert (flow.td_error[conflict] > 0).all()
    assert (flow.flow * flow.td_error[..., None] >= 0).all()  # non-negative gradient flow, equation 1
    if decomposition == "vdn":
        np.testing.assert_allclose(flow.utilities[0][:, None] + flow.utilities[1], table, atol=1e-5)
        wanted = 2 * flow.weights * flow.td_error
        np.testing.assert_allclose(flow.flow, np.stack([wanted, wanted], -1), rtol=1e-4)
    with pytest.raises(SettingError, match="pp_small has no payoff table"):
        program.make_program(tiny("gpvd", evaluation__gradient_flow=True))


def test_gradient_flow_of_qtran_is_that_of_its_further_losses():
    settings = {"rollout__worlds": 1, "learner__updates_per_episode": 1, "evaluation__gradient_flow": True}
    built, clock, states = start(tiny("qtran", "matrix_gpvd", **settings), [0])
    flow = probes.GradientFlow(**{name: np.asarray(x[0]) for name, x in built.gradient_flow(clock, states).items()})
    best = flow.utilities.argmax(-1)
    others = flow.flow[np.arange(3) != best[0]][:, np.arange(3) != best[1]]
    # What is not greedy is reached through the sum of the utilities alone, L_nopt, and where that is below Q_jt.
    np.testing.assert_allclose(others[..., 0], others[..., 1], rtol=1e-5)
    assert (others <= 0).all()
    assert (others < 0).any()


def test_gradient_flow_of_values_too_wide_to_hold_is_refused():
    settings = {"rollout__worlds": 1, "learner__updates_per_episode": 1, "evaluation__gradient_flow": True}
    with pytest.raises(SettingError, match="needs a decomposition whose loss is a function of the agents' values"):
        program.make_program(tiny("rmix", "matrix_gpvd", decomposition__atoms=4, **settings))


def test_every_node_of_a_game_of_few_steps():
    built, _, states = start(tiny("vdn", "two_step", rollout__worlds=1, learner__updates_per_episode=1), [0])
    state, paths = one_seed(states, 0), envs.make("two_step").paths.values()
    team = iteration.team(built.parts, state.params, ())
    payoffs = ([0, 0, 0, 0], [7, 7, 7, 7], [0, 1, 1, 8])
    for node, (path, paid) in enumerate(zip(paths, payoffs, strict=True)):
        batch = probes.joint_actions(built.parts, state.env_params, path)
        np.testing.assert_array_equal(batch.reward[-1], paid)
        np.testing.assert_array_equal(batch.terminated[-1], [node > 0] * 4)
        assert not batch.terminated[:-1].any()
        np.testing.assert_array_equal(np.argmax(batch.view.state[len(path)], -1), [node] * 4)
        learned = probes.learned_game(built.parts, state.env_params, team, path)
        sums = learned.utilities[0][:, None] + learned.utilities[1]
        np.testing.assert_allclose(learned.payoff_table, sums, atol=1e-5)
