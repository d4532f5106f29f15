"""Greedy tests of a team."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvParams
from gpgrad.learning.learner import Parts
from gpgrad.learning.rollout import Rollout, Team, make_collect
from gpgrad.types import Metrics

Evaluate = Callable[[jax.Array, EnvParams, Team], Metrics]


def make_evaluate(parts: Parts, episodes: int) -> Evaluate:
    """evaluate(key, env_params, team) -> metrics of that many greedy episodes of one seed.

    Start states and the environments' randomness depend on the key alone, never on the team, so that methods can be
    compared in pairs. Returns are the environment's own, undiscounted, without any bonus. `returns` [episodes] are the
    single ones; everything else is a mean over episodes, `Step.info` included.
    """
    collect = make_collect(parts.env, parts.agent, parts.decomposition, parts.shards)

    def evaluate(key: jax.Array, env_params: EnvParams, team: Team) -> Metrics:
        keys, k_act = test_keys(key, episodes)
        return summary(collect(keys, k_act, env_params, team, jnp.zeros(())))

    return evaluate


def test_keys(key: jax.Array, episodes: int) -> tuple[jax.Array, jax.Array]:
    """The environments' keys [episodes], and the team's."""
    k_world, k_act = jax.random.split(key)
    return jax.random.split(k_world, episodes), k_act


def summary(done: Rollout) -> Metrics:
    """Metrics of greedy episodes."""
    returns = done.episodes.reward.sum(-1)
    info = {f"test_{name}": value.astype(jnp.float32).mean(0) for name, value in done.info.items()}
    return {
        "returns": returns,
        "test_return": returns.mean(),
        "test_return_std": returns.std(),
        "test_length": done.episodes.valid.sum(-1).mean(),
        **info,
    }
