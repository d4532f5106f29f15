"""Gradient protection against recorded numbers, its equations in plain loops, and what must follow from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.envs.api import EnvSpec
from gpgrad.errors import SettingError
from gpgrad.methods.weighting import gpvd, gpvd_random, protection, simhash, visits
from gpgrad.types import Batch, Context, NetSpec, Returns, Terms

ROWS = 200
protect, report = jax.jit(protection.protect), jax.jit(protection.report)
weigh = jax.jit(protection.protection_weights, static_argnames="star_scope")


def plain_weights(
    buckets, actions, targets, q_tot, q_tot_max, valid, alpha, star_weight, relevant=None, star_scope="same_sign"
):
    """Equation 7 in loops, and how many pairs of Definition 2 interfere out of how many."""
    delta = q_tot - targets
    weights, pairs, interfering = np.zeros(len(buckets)), 0, 0
    for k in np.flatnonzero(valid):
        bucket = [m for m in np.flatnonzero(valid) if buckets[m] == buckets[k]]

        def shares(other, k=k):
            return any(
                actions[k, i] == actions[other, i] and (relevant is None or relevant[k, i])
                for i in range(actions.shape[1])
            )

        weights[k] = 1.0
        candidates = [m for m in bucket if targets[m] > q_tot_max[m]]
        if candidates:
            star = max(candidates, key=lambda m: (targets[m], -m))
            if (actions[k] == actions[star]).all():
                opposes = delta[k] * delta[star] <= 0
                weights[k] = 1.0 if star_scope == "same_sign" and opposes else star_weight
            elif shares(star) and delta[k] * delta[star] < 0:
                weights[k] = alpha
        lead = max(bucket, key=lambda m: (targets[m], -m))
        if k != lead:
            pairs += 1
            unlike = (actions[k] != actions[lead]).any() and targets[k] < targets[lead]
            interfering += unlike and shares(lead) and delta[k] * delta[lead] < 0
    return weights, pairs, interfering


def batch(rng: np.random.Generator, n: int, n_agents: int, greedy_is_max: bool = True, n_actions: int = 3):
    """Rows in few buckets with few actions and values in half steps, so that ties and overlaps abound.

    Everything behind the first n of ROWS is padding and holds NaN and any integer.
    """
    buckets = rng.integers(0, rng.integers(1, 12), ROWS)
    actions = rng.integers(0, n_actions, (ROWS, n_agents))
    grid = lambda high: rng.integers(-high, high + 1, ROWS).astype(np.float32) / 2
    targets, q_tot = grid(6), grid(6)
    q_tot_max = q_tot + np.abs(grid(3)) * (rng.random(ROWS) < 0.7) if greedy_is_max else grid(6)
    valid = (np.arange(ROWS) < n) & (rng.random(ROWS) < rng.choice([0.3, 0.9, 1.0]))
    for x in (targets, q_tot, q_tot_max):
        x[~valid] = np.nan
    buckets[~valid] = -1
    actions[~valid] = rng.integers(0, 100, (int((~valid).sum()), n_agents))
    return buckets, actions, targets, q_tot, q_tot_max.astype(np.float32), valid


def recorded(oracles):
    inputs, expected = oracles["gpvd_weights"]["inputs"], oracles["gpvd_weights"]["expected"]
    words = jnp.array(inputs["codes"], jnp.uint32)[:, None]
    valid = jnp.array(inputs["mask"], bool)
    named = [jnp.array(inputs[name]) for name in ("actions", "y", "q_tot", "q_max")]
    return (simhash.bucket_ids(words, valid), *named, valid), expected


def test_recorded_protection(oracles):
    arguments, expected = recorded(oracles)
    found = protection.protect(protection.Transitions(*arguments))
    stars = np.where(np.asarray(found.star) < 21, found.star, -1)
    np.testing.assert_array_equal(np.where(arguments[-1], stars, -1), expected["star_index_per_transition"])
    np.testing.assert_array_equal(found.conflict, expected["conflict"])
    np.testing.assert_array_equal(found.same, expected["same_joint_as_star"])


@pytest.mark.parametrize(
    "variant", ["alpha=0.2,w_star=1", "alpha=0.5,w_star=1", "alpha=1,w_star=1", "alpha=0.2,w_star=3"]
)
def test_recorded_weights_and_losses(oracles, variant):
    (buckets, actions, targets, q_tot, q_tot_max, valid), expected = recorded(oracles)
    wanted = expected["variants"][variant]
    alpha, star_weight = (float(part.split("=")[1]) for part in variant.split(","))

    def loss(q_tot):
        fixed = jax.lax.stop_gradient(q_tot)
        w = protection.protection_weights(
            buckets, actions, targets, fixed, q_tot_max, valid, alpha, star_weight, star_scope="all"
        )
        return jnp.sum(w * jnp.square(q_tot - targets)) / valid.sum(), w

    (value, weights), gradient = jax.value_and_grad(loss, has_aux=True)(q_tot)
    np.testing.assert_allclose(weights, wanted["w"], rtol=1e-6)
    np.testing.assert_allclose(value, wanted["loss_eq8"], rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted["dloss_eq8_dq"], rtol=1e-3, atol=1e-6)


def test_only_transitions_of_the_stars_sign_weigh_more(oracles):
    """Of the recorded rows with the protected joint action, row 4 has a TD error of the opposite sign (equation 4)."""
    arguments, _ = recorded(oracles)
    starred = {
        scope: set(np.flatnonzero(protection.protection_weights(*arguments, 0.2, 3.0, star_scope=scope) == 3).tolist())
        for scope in ("same_sign", "all")
    }
    assert starred == {"same_sign": {0, 8, 15, 16, 19}, "all": {0, 4, 8, 15, 16, 19}}


def test_stars_are_chosen_by_the_targets_that_are_asked_for():
    """By the one-step target the second transition is the best; by the learned one the first is."""
    actions = jnp.array([[0, 0], [0, 1], [0, 0]])
    column = lambda *values: jnp.array(values, jnp.float32)[:, None]  # [T, 1]
    valid = jnp.ones((3, 1), bool)
    batch = Batch(None, actions[:, None], column(0, 0, 0), ~valid, valid)
    terms = Terms(
        column(0, 0, 0), column(1, 1, 1), column(2, 2, 2), column(5, 3, 0), column(3, 5, 0), jnp.zeros(()), {}
    )
    groups = gpvd.Groups(jnp.zeros(3, jnp.int32), column(1, 1, 1), column(0, 0, 0), None)
    for targets, star in (("learned", 0), ("one_step", 1)):
        rows = gpvd.transitions(groups, batch, terms, targets)
        np.testing.assert_array_equal(protection.protect(rows).star, [star] * 3)


def test_any_label_may_name_a_bucket(oracles):
    """The recorded codes themselves are labels below the number of rows."""
    (_, *arguments), expected = recorded(oracles)
    got = protection.protection_weights(jnp.array(oracles["gpvd_weights"]["inputs"]["codes"]), *arguments, 0.2)
    np.testing.assert_allclose(got, expected["variants"]["alpha=0.2,w_star=1"]["w"])


@pytest.mark.parametrize("alpha", ["1", "0.5", "0.2", "0.1"])
def test_recorded_descent_in_the_matrix_game(oracles, alpha):
    """VDN on the full table reaches the recorded values, and the best joint action only below alpha = 1/4."""
    inputs = oracles["gpvd_matrix_game"]["inputs"]
    expected = oracles["gpvd_matrix_game"]["expected"]["vdn_gpvd_descent"][f"alpha={alpha}"]
    payoff = jnp.array(inputs["payoff_rows_b_cols_a"]).reshape(-1)
    actions = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3), indexing="ij"), -1).reshape(-1, 2)
    zeros, ones = jnp.zeros(9, jnp.int32), jnp.ones(9, bool)

    def step(q, _):
        q_tot = q[0, actions[:, 0]] + q[1, actions[:, 1]]
        q_max = jnp.full(9, q.max(1).sum())
        w = protection.protection_weights(zeros, actions, payoff, q_tot, q_max, ones, float(alpha))
        pull = jax.vmap(lambda i: jax.ops.segment_sum(w * (q_tot - payoff), actions[:, i], 3))(jnp.arange(2))
        return q - inputs["lr"] * pull, jnp.any(payoff > q_max)

    q, candidates = jax.lax.scan(step, jnp.zeros((2, 3)), length=inputs["steps"])
    np.testing.assert_allclose(q[0][:, None] + q[1], expected["Q_tot"], rtol=1e-4, atol=1e-4)
    assert bool((q.argmax(1) == 0).all()) == expected["greedy_is_a1b1"]
    assert int(candidates.sum()) == expected["steps_with_candidate"]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, ROWS),
    n_agents=st.sampled_from([1, 2, 3, 6]),
    alpha=st.sampled_from([0.1, 0.2, 1.0]),
    star_weight=st.sampled_from([1.0, 3.0]),
    partly=st.booleans(),
    star_scope=st.sampled_from(["same_sign", "all"]),
)
def test_weights_are_those_of_the_equations(seed, n, n_agents, alpha, star_weight, partly, star_scope):
    rng = np.random.default_rng(seed)
    arguments = batch(rng, n, n_agents, bool(rng.integers(2)), rng.integers(1, 4))
    relevant = rng.random((ROWS, n_agents)) < 0.6 if partly else np.ones((ROWS, n_agents), bool)
    wanted, pairs, interfering = plain_weights(*arguments, alpha, star_weight, relevant, star_scope)
    got = weigh(*(jnp.array(x) for x in arguments), alpha, star_weight, jnp.array(relevant), star_scope=star_scope)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)

    rows = protection.Transitions(*(jnp.array(x) for x in (*arguments, relevant)))
    found = protect(rows)
    log = report(rows, found)
    labels, sizes = np.unique(arguments[0][arguments[-1]], return_counts=True)
    total = max(arguments[-1].sum(), 1)
    stars = {int(s) for s, ok in zip(found.star, arguments[-1], strict=True) if ok and s < ROWS}
    expected = {
        "buckets": len(labels),
        "share_grouped": sizes[sizes > 1].sum() / total,
        "share_protected": len(stars) / max(len(labels), 1),
        "share_downweighted": np.asarray(found.conflict).sum() / total,
        "share_interfering": interfering / max(pairs, 1),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(log[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_what_follows_from_the_definition(seed):
    rng = np.random.default_rng(seed)
    arguments = batch(rng, 150, 3)
    _, actions, targets, q_tot, _, valid = arguments
    arrays = [jnp.array(x) for x in arguments]
    found = protect(protection.Transitions(*arrays))
    conflict, star = np.asarray(found.conflict), np.asarray(found.star)
    assert conflict.any()

    # The protected transition is underestimated, so a sign conflict is an overestimate of the other.
    delta = np.nan_to_num(q_tot - targets)
    own = np.minimum(star, ROWS - 1)
    overlapping = (actions == actions[own]).any(1) & (actions != actions[own]).any(1) & valid & (star < ROWS)
    np.testing.assert_array_equal(conflict, overlapping & (delta > 0))
    assert (delta[own][star < ROWS] < 0).all()

    # What is protected is never weakened, nor its duplicates, nor what has no TD error.
    assert not conflict[own[valid & (star < ROWS)]].any()
    assert not (conflict & np.asarray(found.same)).any()
    assert not conflict[delta == 0].any()

    assert (np.asarray(weigh(*arrays, 1.0))[valid] == 1.0).all()
    assert (np.asarray(weigh(*arrays, 0.2))[~valid] == 0.0).all()

    # Padding may hold anything.
    noise = np.where(valid, 0, 1e30).astype(np.float32)
    dirty = [jnp.where(jnp.array(valid), x, y) for x, y in zip(arrays[2:5], (noise, -noise, -noise), strict=True)]
    other = jnp.where(jnp.array(valid)[:, None], arrays[1], 7)
    label = jnp.where(jnp.array(valid), arrays[0], 3)
    np.testing.assert_array_equal(weigh(label, other, *dirty, arrays[5], 0.2), weigh(*arrays, 0.2))


@pytest.mark.parametrize("seed", range(5))
def test_order_matters_for_ties_alone(seed):
    rng = np.random.default_rng(seed)
    buckets, actions, targets, q_tot, q_tot_max, valid = batch(rng, 180, 3)
    targets = targets + rng.permutation(ROWS).astype(np.float32) / 1024  # no two alike
    arguments = (buckets, actions, targets, q_tot, q_tot_max, valid)
    order = rng.permutation(ROWS)
    one = np.asarray(weigh(*(jnp.array(x) for x in arguments), 0.2, 3.0))
    two = np.asarray(weigh(*(jnp.array(x[order]) for x in arguments), 0.2, 3.0))
    np.testing.assert_array_equal(one[order], two)
    assert len(np.unique(one)) == 4  # 0, 0.2, 1, 3


def test_one_agent_shares_nothing_and_one_joint_action_is_all_protected():
    rng = np.random.default_rng(0)
    alone = [jnp.array(x) for x in batch(rng, ROWS, 1)]
    assert (np.asarray(weigh(*alone, 0.1))[np.asarray(alone[-1])] == 1.0).all()
    crowd = [jnp.array(x) for x in batch(rng, ROWS, 4, n_actions=1)]
    assert (np.asarray(weigh(*crowd, 0.1))[np.asarray(crowd[-1])] == 1.0).all()


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_batches(n):
    """A single row, and a best one with its opponent."""
    actions = jnp.array([[0, 0], [0, 1]])[:n]
    q, y = jnp.array([0.0, 3.0])[:n], jnp.array([5.0, 1.0])[:n]
    got = protection.protection_weights(jnp.zeros(n, jnp.int32), actions, y, q, q + 1.0, jnp.ones(n, bool), 0.2)
    np.testing.assert_allclose(got, [1.0, 0.2][:n])
    nothing = protection.protection_weights(jnp.zeros(n, jnp.int32), actions, y, q, q + 1.0, jnp.zeros(n, bool), 0.2)
    np.testing.assert_array_equal(nothing, np.zeros(n))


def test_recorded_bonus(oracles):
    inputs, expected = oracles["count_reward"]["inputs"], oracles["count_reward"]["expected"]
    words, valid = jnp.array(inputs["codes"], jnp.uint32)[:, None], np.array(inputs["mask"], bool)
    counts = visits.count_visits(visits.make_counts(4, 100), words, jnp.array(valid))
    for setting, columns in expected["r_int"].items():
        beta, kappa = (float(part.split("=")[1]) for part in setting.split(","))
        got = np.asarray(gpvd.intrinsic_reward(visits.visits(counts, words), beta, kappa))
        np.testing.assert_allclose(got[valid], np.array(columns["after_batch"])[valid], rtol=1e-6)
    assert float(gpvd.intrinsic_reward(jnp.array(0), 0.5, 0.0)) == 0.5


def test_the_control_deals_the_same_weights_at_random():
    rng = np.random.default_rng(0)
    valid = jnp.array(rng.random(ROWS) < 0.8)
    weights = jnp.where(valid, jnp.array(rng.choice([0.2, 1.0, 3.0], ROWS, p=[0.3, 0.5, 0.2]), jnp.float32), 0.0)

    @jax.jit
    @jax.vmap
    def deal(key):
        lots = gpvd_random.draw_lots(key, ROWS // 4, 4, ROWS // 4)
        return lots, gpvd_random.deal(lots, weights, valid)

    lots, deals = map(np.asarray, deal(jax.random.split(jax.random.key(0), 400)))
    assert all(len(np.unique(row)) == ROWS for row in lots)
    np.testing.assert_array_equal(np.sort(deals), np.broadcast_to(np.sort(weights), deals.shape))
    assert (deals[:, ~np.asarray(valid)] == 0).all()
    share = (deals[:, np.asarray(valid)] == np.float32(0.2)).mean(0)
    wanted = float((weights == np.float32(0.2)).sum() / valid.sum())
    np.testing.assert_allclose(share, wanted, atol=5 * np.sqrt(wanted * (1 - wanted) / 400))


CONTEXT = Context(EnvSpec("none", 2, 2, 3, 3, 0, 5), NetSpec(), Returns())


@pytest.mark.parametrize("maker", [gpvd.make, gpvd_random.make])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alpha": 0.0}, "weighting.alpha must be more than 0 and at most 1 (got 0.0)"),
        ({"alpha": 1.5}, "weighting.alpha must be more than 0 and at most 1 (got 1.5)"),
        ({"alpha": float("nan")}, "weighting.alpha must be more than 0 and at most 1 (got nan)"),
        ({"beta": -0.1}, "weighting.beta must be at least 0 (got -0.1)"),
        ({"k": 0}, "weighting.k must be between 1 and 64 (got 0)"),
        ({"k": 65}, "weighting.k must be between 1 and 64 (got 65)"),
        ({"star_weight": 0.0}, "weighting.star_weight must be more than 0 (got 0.0)"),
    ],
)
def test_mistakes(maker, changes, sentence):
    with pytest.raises(SettingError) as caught:
        maker(CONTEXT, **changes)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
