"""One gradient step: padding, gates, and what every decomposition must satisfy."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.api import OneHot, View
from gpgrad.learning import learner
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.iteration import make_collection
from gpgrad.learning.learner import LearnerState, make_batch, make_gradient_step, make_update
from gpgrad.methods import optimisers
from gpgrad.types import TermInputs
from tests.helpers.tiny_runs import tiny


@functools.cache
def played():
    """Episodes of a team that explores with every action, so that they are those of any method."""
    settings = tiny("vdn", rollout__worlds=4)
    parts = compose(settings)
    state, zero = jax.jit(make_init(settings, parts))(0), jnp.zeros((), jnp.int32)
    learning = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)
    return jax.jit(make_collection(settings, parts))(state.key, zero, state.env_params, learning, zero)[0]


@functools.cache
def prepared(algo: str, **overrides):
    """A learner with a batch of short and full episodes, padding included; made once for the same settings."""
    settings = tiny(algo, rollout__worlds=4, **overrides)
    parts, episodes = compose(settings), played()
    state = jax.jit(make_init(settings, parts))(0)
    learning = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)
    lengths = jnp.array([6, 2, 4, 1])
    valid = jnp.arange(6) < lengths[:, None]
    terminated = jnp.arange(6) == jnp.array([9, 1, 9, 0])[:, None]
    batch = make_batch(parts.env, state.env_params, episodes._replace(valid=valid, terminated=terminated))
    return parts, learning, batch


def gated(parts, learning):
    """With gates of ones, whose gradient [A, N] becomes the sharing scheme's state."""
    shape = parts.env.spec.n_agents, parts.agent.n_hidden
    scheme = {"gates": lambda state: jnp.ones(shape), "observe": lambda state, signals: signals.gate_grads}
    return parts._replace(sharing=parts.sharing._replace(**scheme)), learning._replace(sharing=jnp.zeros(shape))


@functools.cache
def updates(parts):
    """The gradient step of these parts, compiled once."""
    return jax.jit(make_update(parts))


def losses(parts, learning, batch):
    return updates(parts)(jax.random.key(0), start_clock(), learning, learning.params, batch)


@pytest.mark.parametrize(
    ("algo", "lam"),
    [
        ("qmix", 0.6),
        ("iql", 0.0),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("qmix", 0.0), ("iql", 0.6), ("vdn", 0.0), ("vdn", 0.6))
        ),
    ],
)
def test_padding_changes_nothing(algo, lam):
    parts, learning, batch = prepared(algo, learner__td_lambda=lam, learner__optimiser="sgd")
    off = ~batch.valid
    noise = jax.random.normal(jax.random.key(5), batch.reward.shape)
    later = jnp.concatenate([jnp.zeros_like(off[:1]), off])  # the view after the last valid step is still real
    obs = jnp.where(later[..., None, None], 7.0, batch.view.obs)
    avail = jnp.where(later[..., None, None], jnp.arange(batch.view.avail.shape[-1]) == 0, batch.view.avail)
    index = jnp.where(later[..., None], 0, batch.view.state.index)
    dirty = batch._replace(
        reward=jnp.where(off, jnp.nan, batch.reward),
        terminated=jnp.where(off, noise > 0, batch.terminated),
        actions=jnp.where(off[..., None], 1, batch.actions),
        view=View(obs, avail, OneHot(index, batch.view.state.size)),
    )
    clean_learning, clean = losses(parts, learning, batch)
    dirty_learning, got = losses(parts, learning, dirty)
    assert float(clean["loss"]) > 0
    np.testing.assert_allclose(got["loss"], clean["loss"], rtol=1e-6)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    jax.tree.map(same, dirty_learning.params, clean_learning.params)


def test_no_valid_step_means_no_loss_and_finite_gradients():
    parts, learning, batch = prepared("qmix")
    after, metrics = losses(parts, learning, batch._replace(valid=jnp.zeros_like(batch.valid)))
    assert float(metrics["loss"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, after.params, learning.params)


def test_longer_padding_leaves_the_loss_alone():
    parts, learning, batch = prepared("qmix")
    pad = lambda leaf, n: jnp.concatenate([leaf, jnp.repeat(leaf[-1:], n, 0)])
    longer = jax.tree.map(lambda leaf: pad(leaf, 3), batch)._replace(
        valid=jnp.concatenate([batch.valid, jnp.zeros((3, 4), bool)])
    )
    np.testing.assert_allclose(losses(parts, learning, longer)[1]["loss"], losses(parts, learning, batch)[1]["loss"])


def test_gate_gradients_leave_norm_and_optimiser_alone():
    """Ones as gates change neither the step nor the norm, and their gradient reaches the sharing scheme."""
    parts, learning, batch = prepared("qmix")
    plain, before = losses(parts, learning, batch)
    got, after = losses(*gated(parts, learning), batch)
    np.testing.assert_allclose(after["grad_norm"], before["grad_norm"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got.params, plain.params)
    assert got.sharing.shape == (parts.env.spec.n_agents, parts.agent.n_hidden)
    assert np.abs(got.sharing).max() > 0


def test_gate_gradient_is_scaled_as_the_clipped_gradient():
    parts, learning, batch = prepared("qmix")
    parts, learning = gated(parts, learning)
    free = losses(parts._replace(clip=1e9), learning, batch)
    clipped = losses(parts._replace(clip=1e-3), learning, batch)
    factor = 1e-3 / (float(free[1]["grad_norm"]) + 1e-6)
    np.testing.assert_allclose(clipped[0].sharing, free[0].sharing * factor, rtol=1e-4)


def test_weights_multiply_the_loss_and_carry_no_gradient():
    parts, learning, batch = prepared("qmix", learner__optimiser="sgd")
    half = lambda state, aux, batch, terms: (0.5 * jnp.ones(batch.reward.shape) + 0.0 * terms.q_tot, {})
    plain = losses(parts, learning, batch)
    got = losses(parts._replace(weighting=parts.weighting._replace(weights=half)), learning, batch)
    np.testing.assert_allclose(got[1]["loss"], 0.5 * plain[1]["loss"], rtol=1e-6)
    np.testing.assert_allclose(got[1]["grad_norm"], 0.5 * plain[1]["grad_norm"], rtol=1e-5)


def test_bonus_enters_the_target_only():
    parts, learning, batch = prepared("vdn", learner__gamma=0.0)
    bonus = parts.weighting._replace(bonus=lambda state, aux: jnp.full(batch.reward.shape, 2.0))
    plain = losses(parts, learning, batch)[1]
    got = losses(parts._replace(weighting=bonus), learning, batch)[1]
    np.testing.assert_allclose(got["target"], plain["target"] + 2.0, rtol=1e-5)
    np.testing.assert_allclose(got["q_tot"], plain["q_tot"], rtol=1e-6)
    assert float(got["bonus"]) == pytest.approx(2.0)


@pytest.mark.parametrize("algo", ["qmix", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vdn", "iql"))])
def test_greedy_joint_action_maximises_q_tot(algo):
    """Individual-global-max by brute force, and q_tot_max is that maximum."""
    parts, learning, batch = prepared(algo)
    spec, params = parts.env.spec, learning.params
    last = learner.last_actions(batch.actions)
    out = parts.agent.unroll(params.agent, None, batch.view.obs, last)

    @jax.jit
    def terms(actions):
        played = batch._replace(actions=jnp.broadcast_to(actions, batch.actions.shape))
        return parts.decomposition.terms(
            TermInputs(params.decomposition, params.decomposition, out, out, played, start_clock(), jax.random.key(0))
        )

    avail = np.asarray(batch.view.avail[:-1])
    best = np.full(batch.reward.shape, -np.inf)
    for joint in itertools.product(range(spec.n_actions), repeat=spec.n_agents):
        possible = np.all([avail[:, :, i, a] for i, a in enumerate(joint)], 0)
        values = np.asarray(terms(jnp.array(joint)).q_tot)
        best = np.where(possible, np.maximum(best, values), best)
    np.testing.assert_allclose(terms(jnp.zeros(spec.n_agents, int)).q_tot_max, best, rtol=1e-4, atol=1e-5)


def test_the_whole_loss_against_plain_loops():
    """A target network that differs, weights, a bonus, a loss factor, a penalty and lambda returns, all in NumPy."""
    settings = {"learner__td_lambda": 0.4, "learner__loss_factor": 0.5, "learner__optimiser": "sgd"}
    parts, learning, batch = prepared("vdn", **settings)
    target = jax.tree.map(lambda leaf: 1.5 * leaf + 0.01, learning.params)
    rng = np.random.default_rng(0)
    bonus, weights = rng.normal(size=(2, *batch.reward.shape)).astype(np.float32)
    parts = parts._replace(
        weighting=parts.weighting._replace(
            bonus=lambda state, aux: jnp.asarray(bonus), weights=lambda state, aux, batch, terms: (weights, {})
        ),
        sharing=parts.sharing._replace(
            penalty=lambda params, state, td_loss, separate_optimiser: (jnp.float32(0.25), ())
        ),
    )
    _, metrics = jax.jit(make_update(parts))(jax.random.key(0), start_clock(), learning, target, batch)

    last = learner.last_actions(batch.actions)
    unroll = lambda params: np.asarray(parts.agent.unroll(params.agent, None, batch.view.obs, last).q)
    online, target_q = unroll(learning.params), unroll(target)
    avail, valid, ends = (np.asarray(x) for x in (batch.view.avail, batch.valid, batch.terminated))
    total, (steps, count) = 0.0, batch.reward.shape
    for b in range(count):
        following = 0.0
        for t in reversed(range(steps)):
            if not valid[t, b]:
                continue
            best = np.where(avail[t + 1, b], online[t + 1, b], -np.inf).argmax(-1)
            value = sum(target_q[t + 1, b, i, a] for i, a in enumerate(best))
            if t + 1 == steps or not valid[t + 1, b]:
                following = value
            bootstrap = 0.0 if ends[t, b] else 0.6 * value + 0.4 * following
            following = float(batch.reward[t, b]) + bonus[t, b] + 0.99 * bootstrap
            taken = sum(online[t, b, i, a] for i, a in enumerate(np.asarray(batch.actions[t, b])))
            total += weights[t, b] * 0.5 * (taken - following) ** 2
    np.testing.assert_allclose(metrics["td_loss"], total / valid.sum(), rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], metrics["td_loss"] + 0.25, rtol=1e-5)


def test_scaled_rewards_are_learned_and_not_reported():
    """A run with the scale against one in a world that pays that much, up to the returns that are logged."""
    runs = {}
    for name, scale, paid in (("told", 4.0, 1.0), ("paid", 1.0, 4.0)):
        changes = {"learner__reward_scale": scale, "env__stag_reward": 10.0 * paid, "env__hare_reward": 2.0 * paid}
        settings = tiny("vdn", env__penalty=-1.0 * paid, rollout__worlds=4, **changes)
        parts = compose(settings)
        state = jax.jit(make_init(settings, parts))(0)
        learning, zero = (
            LearnerState(state.params, state.opt_state, state.sharing, state.weighting),
            jnp.zeros((), jnp.int32),
        )
        collect = jax.jit(make_collection(settings, parts))
        episodes, _ = collect(state.key, zero, state.env_params, learning, zero)
        learn = jax.jit(make_gradient_step(parts))
        learning, _ = learn(state.key, start_clock(), learning, state.target, state.env_params, episodes)
        runs[name] = learning.params, episodes.reward.sum()
    jax.tree.map(np.testing.assert_array_equal, runs["told"][0], runs["paid"][0])
    assert runs["paid"][1] == 4 * runs["told"][1] != 0


def test_settings_in_reward_units_follow_the_scale():
    bonuses = []
    _, learning, batch = prepared("gpvd", weighting__reference=20.0)
    for scale in (1.0, 3.0):
        weighting = compose(tiny("gpvd", learner__reward_scale=scale, weighting__reference=20.0)).weighting
        _, aux = weighting.prepare(learning.weighting, start_clock(), batch)
        bonuses.append(weighting.bonus(learning.weighting, aux))
    np.testing.assert_allclose(bonuses[1], 3 * bonuses[0], rtol=1e-6)
    assert bonuses[0].max() > 0


@pytest.mark.parametrize("name", ["rmsprop", "adam", "sgd"])
def test_moments_round_trip(name):
    _, learning, _ = prepared("qmix", learner__optimiser=name)
    slots = optimisers.moments(learning.opt_state, learning.params)
    assert len(slots) == {"rmsprop": 1, "adam": 2, "sgd": 0}[name]
    marked = [jax.tree.map(lambda leaf: leaf + 1, slot) for slot in slots]
    state = optimisers.with_moments(learning.opt_state, learning.params, marked)
    assert jax.tree.structure(state) == jax.tree.structure(learning.opt_state)
    for before, after in zip(slots, optimisers.moments(state, learning.params), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a + 1, b), before, after)


def test_two_optimisers_keep_their_memories_apart():
    usual, second = optimisers.make("rmsprop", 1e-2), optimisers.make("adam", 1e-3)
    both = optimisers.with_separate(usual, second)
    turns = [False, True, True, False, True]
    params = {"a": jnp.ones(3)}
    grads = [{"a": jax.random.normal(jax.random.key(i), (3,))} for i in range(len(turns))]
    state, alone = both.init(params), [usual.init(params), second.init(params)]
    for turn, grad in zip(turns, grads, strict=True):
        step, state = both.update(grad, state, params, separate_optimiser=jnp.array(turn))
        expected, alone[turn] = (usual, second)[turn].update(grad, alone[turn], params)
        np.testing.assert_allclose(step["a"], expected["a"], rtol=1e-6)
        jax.tree.map(np.testing.assert_array_equal, list(state), alone)
    step, _ = optimisers.with_separate(usual, None).update(
        grads[0], alone[0], params, separate_optimiser=jnp.array(True)
    )
    np.testing.assert_array_equal(step["a"], usual.update(grads[0], alone[0], params)[0]["a"])


# Every second update regresses RMIX's atoms, from the first on.
REGRESSING = {
    "decomposition__quantile_lr": 1e-3,
    "decomposition__quantile_every": 2,
    "decomposition__quantile_after": 0,
}


def test_rmix_regresses_atoms_with_an_optimiser_of_its_own():
    parts, learning, batch = prepared("rmix", **REGRESSING)
    update = jax.jit(make_update(parts))
    key, target, clock = jax.random.key(0), learning.params, start_clock()
    for updates, whose in ((0, 1), (1, 0)):  # regression, temporal difference
        after, _ = update(key, clock._replace(updates=jnp.int32(updates)), learning, target, batch)
        same = [
            all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), before, now)))
            for before, now in zip(learning.opt_state, after.opt_state, strict=True)
        ]
        assert same == [whose == 1, whose == 0]
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), learning.params, after.params)
        assert max(jax.tree.leaves(moved.agent)) > 0
        assert (max(jax.tree.leaves(moved.decomposition["mixer"])) > 0) == (whose == 0)


def test_schemes_see_nothing_of_losses_apart():
    parts, learning, batch = prepared("rmix", **REGRESSING)
    parts, learning = gated(parts, learning)
    update, key, clock = jax.jit(make_update(parts)), jax.random.key(0), start_clock()
    before = learning._replace(sharing=learning.sharing + 3.0)
    for updates, seen in ((0, False), (1, True)):  # regression, temporal difference
        after, _ = update(key, clock._replace(updates=jnp.int32(updates)), before, learning.params, batch)
        assert bool((after.sharing == 3.0).all()) == (not seen)
        assert bool(jnp.abs(after.sharing - 3.0).max() > 0) == seen
