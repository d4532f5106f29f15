"""One gradient step: padding, gates, and what every decomposition must satisfy."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import learner, optimisers, replay
from gpgrad.compose import compose
from gpgrad.learner import Learning, make_batch, make_update
from gpgrad.program import make_collection, make_init, start_clock
from tests.systems import tiny


def prepared(algo: str, **overrides):
    """A learner with a batch of short and full episodes, padding included."""
    settings = tiny(algo, rollout__worlds=4, **overrides)
    parts = compose(settings)
    state = jax.jit(make_init(settings, parts))(0)
    learning = Learning(state.params, state.opt_state, state.sharing, state.weighting)
    zero = jnp.zeros((), jnp.int32)
    episodes, _ = jax.jit(make_collection(settings, parts))(state.key, zero, state.env_params, learning, zero)
    lengths = jnp.array([6, 2, 4, 1])
    valid = jnp.arange(6) < lengths[:, None]
    terminated = jnp.arange(6) == jnp.array([9, 1, 9, 0])[:, None]
    batch = make_batch(parts.env, state.env_params, episodes._replace(valid=valid, terminated=terminated))
    return parts, learning, batch


def losses(parts, learning, batch):
    update = jax.jit(make_update(parts))
    return update(jax.random.key(0), start_clock(), learning, learning.params, batch)


@pytest.mark.parametrize("algo", ["qmix", "vdn", "iql"])
@pytest.mark.parametrize("lam", [0.0, 0.6])
def test_padding_changes_nothing(algo, lam):
    parts, learning, batch = prepared(algo, learner__td_lambda=lam, learner__optimiser="sgd")
    off = ~batch.valid
    noise = jax.random.normal(jax.random.key(5), batch.reward.shape)
    later = jnp.concatenate([jnp.zeros_like(off[:1]), off])  # a view is padding if the step before it is
    obs = jnp.where(later[..., None, None], 7.0, batch.view.obs)
    # The view right after the last valid step is real: it is what the last step bootstraps from.
    last = jnp.concatenate([jnp.zeros_like(off[:1]), batch.valid]) & later
    obs = jnp.where(last[..., None, None], batch.view.obs, obs)
    dirty = batch._replace(
        reward=jnp.where(off, jnp.nan, batch.reward),
        terminated=jnp.where(off, noise > 0, batch.terminated),
        actions=jnp.where(off[..., None], 1, batch.actions),
        view=batch.view._replace(obs=obs),
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
    n_agents, width = parts.env.spec.n_agents, parts.agent.n_hidden
    gated = parts.sharing._replace(
        gates=lambda state: jnp.ones((n_agents, width)), observe=lambda state, signals: signals.gate_grads
    )
    plain, before = losses(parts, learning, batch)
    got, after = losses(parts._replace(sharing=gated), learning, batch)
    np.testing.assert_allclose(after["grad_norm"], before["grad_norm"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got.params, plain.params)
    assert got.sharing.shape == (n_agents, width)
    assert np.abs(got.sharing).max() > 0


def test_gate_gradient_is_scaled_as_the_clipped_gradient():
    parts, learning, batch = prepared("qmix")
    n_agents, width = parts.env.spec.n_agents, parts.agent.n_hidden
    gated = parts.sharing._replace(
        gates=lambda state: jnp.ones((n_agents, width)), observe=lambda state, signals: signals.gate_grads
    )
    free = losses(parts._replace(sharing=gated, clip=1e9), learning, batch)
    clipped = losses(parts._replace(sharing=gated, clip=1e-3), learning, batch)
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


@pytest.mark.parametrize("algo", ["qmix", "vdn", "iql"])
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
            params.decomposition, params.decomposition, out, out, played, start_clock(), jax.random.key(0)
        )

    avail = np.asarray(batch.view.avail[:-1])
    best = np.full(batch.reward.shape, -np.inf)
    for joint in itertools.product(range(spec.n_actions), repeat=spec.n_agents):
        possible = np.all([avail[:, :, i, a] for i, a in enumerate(joint)], 0)
        values = np.asarray(terms(jnp.array(joint)).q_tot)
        best = np.where(possible, np.maximum(best, values), best)
    np.testing.assert_allclose(terms(jnp.zeros(spec.n_agents, int)).q_tot_max, best, rtol=1e-4, atol=1e-5)


def test_views_are_recomputed_from_stored_states():
    _, learning, batch = prepared("qmix")
    assert batch.view.obs.shape == (7, 4, 3, 27)
    assert batch.actions.shape == (6, 4, 3)
    assert replay.nbytes(learning.params.agent.fc1["bias"], 1) == 32  # int8 rings stay far below views


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
