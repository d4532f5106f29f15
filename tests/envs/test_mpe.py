"""Particle environments against JaxMARL: equal keys give equal steps, observations and rewards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import envs
from gpgrad.envs import SettingError
from gpgrad.envs.mpe import Mpe, simulator

NAMES = ("simple_spread", "simple_reference", "simple_speaker_listener")
STEPS = 25


@pytest.fixture(scope="module", params=NAMES)
def run(request):
    """An episode by both programs, each on its own states: (env, ours [STEPS], theirs [STEPS])."""
    env, game = Mpe(request.param), simulator(request.param)
    counts = jnp.array([game.action_spaces[agent].n for agent in game.agents])

    def play(key):
        k_reset, k_steps = jax.random.split(key)
        seen, theirs = game.reset(k_reset)

        def step(carry, key):
            ours, theirs, seen = carry
            k_act, k_step = jax.random.split(key)
            actions = jax.random.randint(k_act, counts.shape, 0, counts)
            view = env.view((), ours)
            done = env.step(k_step, (), ours, actions)
            chosen = {agent: actions[i] for i, agent in enumerate(game.agents)}
            after, theirs, rewards, _, _ = game.step_env(k_step, theirs, chosen)
            theirs = jax.tree.map(lambda new, old: new.astype(old.dtype), theirs, carry[1])
            earned = jnp.stack([rewards[agent] for agent in game.agents])
            return (done.state, theirs, after), (view, done, [seen[agent] for agent in game.agents], earned)

        start = (env.reset(k_reset, ()), jax.tree.map(jnp.asarray, theirs), seen)
        return jax.lax.scan(step, start, jax.random.split(k_steps, STEPS))[1]

    return env, jax.jit(play)(jax.random.key(1))


def test_what_is_seen_is_jaxmarls_padded(run):
    env, (views, _, seen, _) = run
    sizes = env.spec.obs_sizes or (env.spec.obs_dim,) * env.spec.n_agents
    for i, (obs, size) in enumerate(zip(seen, sizes, strict=True)):
        np.testing.assert_allclose(views.obs[:, i, :size], obs, atol=1e-5)
        assert (np.asarray(views.obs[:, i, size:]) == 0).all()
    np.testing.assert_allclose(views.state, np.concatenate(seen, -1), atol=1e-5)


def test_the_team_earns_the_mean(run):
    _, (_, steps, _, earned) = run
    np.testing.assert_allclose(steps.info["agent_reward"], earned, atol=1e-5)
    np.testing.assert_allclose(steps.reward, earned.mean(-1), atol=1e-5)


def test_the_limit_cuts_after_25_steps(run):
    _, (_, steps, _, _) = run
    assert not np.asarray(steps.terminated).any()
    np.testing.assert_array_equal(steps.truncated, np.arange(STEPS) == STEPS - 1)


def test_a_sum_is_the_mean_times_the_agents():
    mean, total = envs.make("mpe_simple_spread"), envs.make("mpe_simple_spread", team_reward="sum")
    key = jax.random.key(0)
    state, actions = mean.reset(key, ()), jnp.zeros(3, jnp.int32)
    rewards = [float(env.step(key, (), state, actions).reward) for env in (mean, total)]
    np.testing.assert_allclose(3 * rewards[0], rewards[1], rtol=1e-5)
    assert total.spec.return_scale == 3 * mean.spec.return_scale


def test_agents_of_different_sizes():
    env = envs.make("mpe_simple_speaker_listener")
    assert (env.spec.obs_sizes, env.spec.action_counts) == ((3, 11), (3, 5))
    view = env.view((), env.reset(jax.random.key(0), ()))
    np.testing.assert_array_equal(view.avail, [[True] * 3 + [False] * 2, [True] * 5])


def test_mistakes():
    with pytest.raises(SettingError, match="'mean'"):
        envs.make("mpe_simple_spread", team_reward="meen")
    with pytest.raises(SettingError, match="'simple_spread'"):
        Mpe("spread")
