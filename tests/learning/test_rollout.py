"""Collected episodes: what is stored is what happened, and what was seen is what the team acted on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.iteration import make_chunk, team
from gpgrad.learning.learner import last_actions, make_batch
from gpgrad.learning.rollout import choose, make_collect
from tests.helpers.tiny_runs import start, tiny


class Countdown:
    """One agent; the state counts up to its length, drawn at reset; ends there, or is cut at the limit of 5."""

    def __init__(self, limit_is_terminal: bool, ends_early: bool = False) -> None:
        self.spec = EnvSpec("countdown", 1, 2, 2, 2, 0, 5, limit_is_terminal, ends_early=ends_early)

    def params(self, key):
        return ()

    def reset(self, key, params):
        return jnp.stack([jnp.int8(0), jax.random.randint(key, (), 2, 9).astype(jnp.int8)])

    def step(self, key, params, state, actions):
        state = state.at[0].add(1)
        ended = state[0] >= state[1]
        return Step(state, state[0].astype(jnp.float32), ended, (state[0] >= 5) & ~ended, {"steps": jnp.ones((), int)})

    def view(self, params, state):
        features = state.astype(jnp.float32)
        return View(features[None], jnp.ones((1, 2), bool), features)


@pytest.mark.parametrize(("limit_is_terminal", "ends_early"), [(False, False), (True, False), (True, True)])
def test_ends_and_cuts(limit_is_terminal, ends_early):
    settings = tiny("vdn", "matrix_gpvd", rollout__worlds=1, learner__updates_per_episode=1)
    built, _, states = start(settings, [0], Countdown(limit_is_terminal, ends_early))
    collect = jax.jit(make_collect(built.parts.env, built.parts.agent, built.parts.decomposition))
    state = jax.tree.map(lambda leaf: leaf[0], states)
    members = team(built.parts, state.params, state.sharing)
    keys = jax.random.split(jax.random.key(1), 64)
    done = collect(keys, jax.random.key(2), (), members, jnp.ones(()))
    lengths = np.asarray(done.episodes.states[:, 0, 1])
    assert set(lengths) >= {2, 5, 8}
    for i, length in enumerate(lengths):
        n = min(length, 5)
        np.testing.assert_array_equal(done.episodes.valid[i], np.arange(5) < n)
        np.testing.assert_array_equal(done.episodes.reward[i], np.where(np.arange(5) < n, np.arange(1, 6), 0))
        truly = length <= 5 or limit_is_terminal
        np.testing.assert_array_equal(done.episodes.terminated[i], (np.arange(5) == n - 1) & truly)
        np.testing.assert_array_equal(done.episodes.states[i, :, 0], np.minimum(np.arange(6), n))
        assert int(done.info["steps"][i]) == n


def test_a_run_of_several_seeds_branches_and_loops_as_one_does():
    """Traced only: were a length a seed's own, branches would become selections and loops would run all lanes."""
    settings = tiny("vdn", "matrix_gpvd", rollout__worlds=1, learner__updates_per_episode=1)
    parts = compose(settings, Countdown(True, ends_early=True))
    init, chunk = jax.vmap(make_init(settings, parts)), make_chunk(settings, parts)

    def counts(seeds: int) -> tuple[int, int]:
        states = jax.eval_shape(init, jnp.arange(seeds, dtype=jnp.int32))
        text = str(jax.make_jaxpr(chunk)(start_clock(), states, jnp.int32(1)))
        return text.count("cond["), text.count("while[")

    assert counts(2) == counts(1)
    assert counts(1)[0] >= 2  # the copy of the target network, and the length


def test_greedy_actions_are_what_the_unrolled_network_prefers():
    """Acting step by step and unrolling stored episodes agree: inputs, last actions, hidden states, availability."""
    settings = tiny(rollout__worlds=4)
    built, _, _ = start(settings, [0])
    state = jax.jit(make_init(settings, built.parts))(0)
    members = team(built.parts, state.params, state.sharing)
    collect = jax.jit(make_collect(built.parts.env, built.parts.agent, built.parts.decomposition))
    keys = jax.random.split(jax.random.key(3), 4)
    done = collect(keys, jax.random.key(4), state.env_params, members, jnp.zeros(()))
    batch = make_batch(built.parts.env, state.env_params, done.episodes)
    out = built.parts.agent.unroll(members.params, None, batch.view.obs, last_actions(batch.actions))
    preferred = np.where(batch.view.avail, out.q, -np.inf)[:-1].argmax(-1)
    valid = np.asarray(batch.valid)
    assert len(np.unique(preferred[valid])) > 1
    np.testing.assert_array_equal(np.asarray(batch.actions)[valid], preferred[valid])


def test_exploration_is_uniform_over_available_actions():
    avail = jnp.broadcast_to(jnp.array([True, False, True, True]), (20_000, 1, 4))
    utilities = jnp.broadcast_to(jnp.array([0.0, 9.0, 1.0, 5.0]), avail.shape)
    counts = lambda eps: np.bincount(np.asarray(choose(jax.random.key(0), utilities, avail, eps)).ravel(), minlength=4)
    np.testing.assert_array_equal(counts(0.0), [0, 0, 0, 20_000])
    np.testing.assert_allclose(counts(1.0) / 20_000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.015)
    np.testing.assert_allclose(counts(0.3) / 20_000, [0.1, 0, 0.1, 0.8], atol=0.015)
