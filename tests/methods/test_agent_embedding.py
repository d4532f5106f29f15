"""Finding out which agents are alike: planted kinds come back, at the right moment, once and for all."""

from __future__ import annotations

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.learning.program import actors
from gpgrad.methods.sharing import clustering
from gpgrad.methods.sharing.agent_embedding import Settings, most_groups
from gpgrad.methods.sharing.clustering import kmeans_by_separation
from gpgrad.training.checkpoint import newest, save
from gpgrad.training.loop import start
from gpgrad.types import Transitions
from tests.helpers import tiny_runs
from tests.learning.test_program import count_primitives, leaves_equal

davies_bouldin = jax.jit(clustering.davies_bouldin, static_argnums=2)
kmeans = jax.jit(clustering.kmeans, static_argnums=1)
KINDS, AGENTS, EPISODES = 3, 9, 64
CAPACITY = 2048


class KindsState(NamedTuple):
    marks: jax.Array  # int8 [A], 0 at first


class Kinds:
    """An agent's kind, drawn per run, is what it sees after its only step; before that all see the same."""

    spec = EnvSpec("kinds", AGENTS, 2, KINDS + 1, 1, 0, 1)

    def params(self, key):
        return jax.random.permutation(key, jnp.arange(AGENTS, dtype=jnp.int8) % KINDS)

    def roles(self, params):
        return params.astype(jnp.int32)

    def reset(self, key, params):
        del key, params
        return KindsState(jnp.zeros(AGENTS, jnp.int8))

    def step(self, key, params, state, actions):
        del key, state
        reward = (actions == 0).mean(dtype=jnp.float32)
        return Step(KindsState(params + jnp.int8(1)), reward, jnp.ones((), bool), jnp.zeros((), bool), {})

    def view(self, params, state):
        del params
        return View(jax.nn.one_hot(state.marks, KINDS + 1), jnp.ones((AGENTS, 2), bool), jnp.ones(1))


def settings(**changes):
    small = {
        "learner__batch_episodes": 4,
        "learner__target_every_episodes": 16,
        "rollout__worlds": 4,
        "learner__updates_per_episode": 0.25,
        "replay__capacity": CAPACITY,
        "sharing__episodes": EPISODES,
        "sharing__epochs": 220,
    }
    return tiny_runs.tiny("vdn_seps", "matrix_gpvd", **{**small, **changes})


@pytest.fixture(scope="module")
def planted():
    """Ten seeds just before the moment and after it; about 1000 steps of the encoder between the two."""
    told = settings(seeds=10)
    built, clock, states = tiny_runs.start(told, list(range(10)), Kinds())
    chunk = built.chunk.lower(clock, states, 1).compile()
    clock, states = chunk(clock, states, EPISODES // 4 - 1)
    before = jax.tree.map(jnp.copy, (clock, states))
    clock, states = chunk(clock, states, 2)
    return told, built, chunk, before, (clock, states)


def same_groups(groups, kinds) -> list[bool]:
    return [adjusted_rand_score(a, b) == 1.0 for a, b in zip(np.asarray(groups), np.asarray(kinds), strict=True)]


def test_planted_kinds_are_found_in_ten_of_ten_seeds(planted):
    _, built, _, (_, before), (_, states) = planted
    tested = built.test(actors(states), 0)
    assert not np.asarray(before.sharing.of).any()
    assert np.isnan(before.sharing.loss).all()
    assert sum(same_groups(tested["groups"], tested["roles"])) == 10
    assert (np.asarray(tested["groups"])[:, 0] == 0).all()
    size = sum(leaf[0].size for leaf in jax.tree.leaves(states.params.agent)) // 3
    np.testing.assert_array_equal(tested["effective_params"], [3 * size] * 10)


def test_the_number_of_kinds_is_found(planted):
    *_, (_, states) = planted
    most = most_groups(Settings(None, 1, 1, 1), AGENTS)
    found = jax.vmap(lambda points: kmeans_by_separation(points, most))(states.sharing.latents)
    assert sum(same_groups(found, states.env_params)) == 10


def test_groups_start_as_copies_and_part(planted):
    """At the fit the first set goes to all, target and optimiser too; two updates later they differ."""
    *_, (_, before), (_, states) = planted
    early, late = (np.asarray(s.params.agent.head["kernel"]) for s in (before, states))
    assert (late[:, 0] != late[:, 1]).any()
    assert np.abs(late - late[:, :1]).max() < 0.1 * np.abs(early - early[:, :1]).max()
    target = np.asarray(states.target.agent.head["kernel"])
    np.testing.assert_array_equal(target, np.broadcast_to(target[:, :1], target.shape))


def test_a_team_trained_further_keeps_its_groups_and_networks(planted):
    *_, (_, states) = planted
    built = planted[1]
    state, params = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (states.sharing, states.params.agent))

    def draw(key, count):
        zeros = jnp.zeros((count, AGENTS, KINDS + 1))
        return Transitions(zeros, jnp.zeros((count, AGENTS), jnp.int32), zeros, jax.random.normal(key, (count,)))

    fit = jax.jit(lambda state: built.parts.sharing.fit.run(jax.random.key(5), params, [params], state, draw))
    leaves_equal(fit(state), (params, [params], state))
    unknown = state._replace(loss=jnp.full((), jnp.nan))
    copied = fit(unknown)[0].head["kernel"]
    np.testing.assert_array_equal(copied, np.broadcast_to(copied[:1], copied.shape))


def test_cutting_and_resuming_at_the_fit_changes_nothing(planted, tmp_path):
    told, built, chunk, (clock, states), wanted = planted
    position = start(told, built)._replace(clock=clock, states=states)
    save(tmp_path, position, {}, keep=1)
    loaded = newest(tmp_path, jax.eval_shape(lambda: start(told, built)), print)
    assert loaded is not None
    clock, states = chunk(loaded[0].clock, loaded[0].states, 1)
    leaves_equal(states.target.agent, states.params.agent)
    leaves_equal(chunk(clock, states, 1), wanted)


def test_the_fit_is_a_branch_and_copies_no_replay(planted):
    _, built, chunk, (clock, states), _ = planted
    assert count_primitives(jax.make_jaxpr(built.chunk)(clock, states, 2).jaxpr, "cond") == 2
    ring = f"s8[10,{CAPACITY},2,{AGENTS}]"
    text = chunk.as_text()
    assert ring in text
    assert not re.findall(re.escape(ring) + r"\S* copy\(", text)


def test_davies_bouldin_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for n, k in ((6, 2), (12, 4)):
        points = rng.normal(size=(n, 3)).astype(np.float32)
        labels = np.arange(n) % k
        wanted = davies_bouldin_score(points, labels)
        np.testing.assert_allclose(davies_bouldin(jnp.array(points), jnp.array(labels), k), wanted, rtol=1e-4)
        np.testing.assert_allclose(davies_bouldin(jnp.array(points), jnp.array(labels), k + 2), wanted, rtol=1e-4)
    assert np.isinf(davies_bouldin(jnp.array(points), jnp.zeros(12, int), 2))


def test_the_number_of_groups_is_found():
    """Three clouds of three; with singles allowed the index would rather have those, which have no scatter."""
    rng = np.random.default_rng(0)
    kinds = rng.permutation(9) % 3
    points = (5 * np.eye(3)[kinds] + rng.normal(0, 0.3, (9, 3))).astype(np.float32)
    most = most_groups(Settings(None, 1, 1, 1), 9)
    labels = np.asarray(kmeans_by_separation(jnp.array(points), most))
    assert adjusted_rand_score(labels, kinds) == 1.0
    scores = [davies_bouldin_score(points, np.asarray(kmeans(jnp.array(points), k))) for k in range(2, 9)]
    assert int(np.argmin(scores[: most - 1])) == 1
    assert int(np.argmin(scores)) == 6


def test_fewer_centres_of_many_are_fewer_centres():
    points = jnp.array(np.random.default_rng(1).normal(size=(9, 3)), jnp.float32)
    for k in (1, 2, 4):
        np.testing.assert_array_equal(kmeans(points, 6, jnp.int32(k)), kmeans(points, k))
