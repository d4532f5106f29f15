"""One episode of a trained team, step by step, with its random keys."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import EnvState
from gpgrad.learning import iteration, rollout
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import Actor
from gpgrad.types import Purpose


class Episode(NamedTuple):
    """states: compact environment states, leading axis T + 1. actions: int [T, A]. reward: float [T].
    keys: random keys [T] of the steps.
    """

    states: EnvState
    actions: np.ndarray
    reward: np.ndarray
    keys: jax.Array

    @property
    def length(self) -> int:
        """Number of steps."""
        return len(self.reward)

    def state(self, t: int) -> EnvState:
        """The state before step t."""
        return jax.tree.map(lambda leaf: leaf[t], self.states)


def play(parts: Parts, actor: Actor, index: int) -> Episode:
    """The greedy episode number `index` of the final test, stream 0."""
    key = iteration.stream(actor.key, Purpose.FINAL, 0)

    @jax.jit
    def run(key: jax.Array, actor: Actor):
        k_world, k_act = jax.random.split(key)
        world = jax.random.split(k_world, index + 1)[-1:]  # the first keys of a split do not depend on how many it has
        members = iteration.team(parts, actor.params, actor.sharing)
        collect = rollout.make_collect(parts.env, parts.agent, parts.decomposition)
        done = collect(world, k_act, actor.env_params, members, jnp.zeros(())).episodes
        _, k_steps = jax.random.split(world[0])
        steps = jnp.arange(done.reward.shape[1])
        return jax.tree.map(lambda leaf: leaf[0], done), jax.vmap(jax.random.fold_in, (None, 0))(k_steps, steps)

    done, keys = run(key, actor)
    length = int(np.asarray(done.valid).sum())
    states = jax.tree.map(lambda leaf: np.asarray(leaf)[: length + 1], done.states)
    return Episode(states, np.asarray(done.actions)[:length], np.asarray(done.reward)[:length], keys[:length])
