"""Worlds with known values must be learned to those values, by every decomposition here."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.learning import rollout
from gpgrad.learning.iteration import team
from gpgrad.learning.learner import last_actions, make_batch
from gpgrad.learning.program import actors
from gpgrad.types import TermInputs
from tests.helpers.probe_envs import Probe
from tests.helpers.tiny_runs import one_seed, start, tiny

SETTINGS = {
    "agent.hidden": 16,
    "learner.optimiser": "adam",
    "learner.lr": 5e-3,
    "learner.batch_episodes": 32,
    "learner.updates_per_episode": 0.125,
    "learner.target_every_episodes": 64,
    "rollout.worlds": 16,
    "rollout.finish": 1.0,
    "replay.capacity": 512,
    "evaluation.episodes": 64,
}


def learned(kind: str, algo: str, iterations: int):
    """The trained program with its states, and the joint values of the transitions in replay."""
    settings = tiny(algo, "matrix_gpvd", **{key.replace(".", "__"): value for key, value in SETTINGS.items()})
    built, clock, states = start(settings, [0], Probe(kind))
    clock, states = built.chunk(clock, states, iterations)
    state = one_seed(states, 0)
    batch = make_batch(built.parts.env, state.env_params, one_seed(states, 0).replay)
    members = team(built.parts, state.params, state.sharing)
    out = built.parts.agent.unroll(members.params, None, batch.view.obs, last_actions(batch.actions))
    terms = built.parts.decomposition.terms(
        TermInputs(members.decomposition, members.decomposition, out, out, batch, clock, state.key)
    )
    return built, states, batch, np.asarray(terms.q_tot)


def scale(algo: str) -> int:
    """Independent learners' joint value is the sum of two equal estimates."""
    return 2 if algo == "iql" else 1


ALGOS = ["qmix", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vdn", "iql"))]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_constant_reward(algo):
    _, _, _, q_tot = learned("constant", algo, 200)
    np.testing.assert_allclose(q_tot, scale(algo), atol=0.05)


@pytest.mark.parametrize("algo", ALGOS)
def test_value_depends_on_the_observation(algo):
    _, _, batch, q_tot = learned("observation", algo, 300)
    assert 0.3 < float(batch.reward.mean()) < 0.7
    np.testing.assert_allclose(q_tot, scale(algo) * np.asarray(batch.reward), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_discounting_and_the_end(algo):
    """0.99 one step before the reward, 1 at it: nothing is bootstrapped beyond the end."""
    _, _, _, q_tot = learned("discount", algo, 400)
    np.testing.assert_allclose(q_tot[0], scale(algo) * 0.99, atol=0.05)
    np.testing.assert_allclose(q_tot[1], scale(algo) * 1.0, atol=0.05)


@pytest.mark.parametrize("algo", ALGOS)
def test_action_that_pays(algo):
    built, states, batch, q_tot = learned("action", algo, 400)
    tested = built.test(actors(states), 0)
    assert float(tested["test_return"][0]) == 1.0
    if algo == "qmix":  # the only one here that can represent the product of the agents' choices
        np.testing.assert_allclose(q_tot, np.asarray(batch.reward), atol=0.15)


@pytest.mark.slow
def test_memory():
    """The cue must survive two steps in the hidden state; chance would give a quarter."""
    built, states, _, _ = learned("memory", "qmix", 1500)
    assert float(built.test(actors(states), 0)["test_return"][0]) > 0.95


def test_epsilon_follows_each_seeds_steps():
    steps = jnp.array([0, 1000, 60_000])
    np.testing.assert_allclose(rollout.epsilon(steps, 1.0, 0.05, 50_000), [1.0, 0.981, 0.05], rtol=1e-5)
