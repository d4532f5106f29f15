"""Buckets of a batch in which GPVD protects a joint action, and the transitions that interfere with it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvState
from gpgrad.errors import SettingError
from gpgrad.learning import probes, replay
from gpgrad.learning.learner import Parts, make_batch
from gpgrad.methods.weighting import gpvd, inspect, protection
from gpgrad.types import Clock, Episode, SeedState


class BucketDump(NamedTuple):
    """Buckets in which a joint action is protected, and the joint actions that interfere with it.

    Column 0 is the protected transition, the others interfere with it. present: bool [K, M], what follows means
    something there. states: the world's compact states [K, M, ...]. actions: int32 [K, M, A]. td_error, target:
    float32 [K, M]. step: int32 [K, M], within its episode. visits: int32 [K], of the bucket's code since the start.
    env_steps: int32 [], of the run.
    """

    present: jax.Array
    states: EnvState
    actions: jax.Array
    td_error: jax.Array
    target: jax.Array
    step: jax.Array
    visits: jax.Array
    env_steps: jax.Array


def bucket_dump(
    parts: Parts, clock: Clock, state: SeedState, key: jax.Array, episodes: int, n_buckets: int = 4, n_members: int = 4
) -> BucketDump:
    """Draw a batch from one seed's replay and show the K = n_buckets with the most interference in it.

    M = 1 + n_members. At least `episodes` must have been collected. Raises SettingError for other weightings.
    """
    need_buckets(state)
    return buckets_of(
        parts, clock, state, replay.sample(key, state.replay, clock.episodes, episodes), n_buckets, n_members
    )


def need_buckets(state: SeedState) -> None:
    """Raises SettingError for weightings that have none."""
    if not isinstance(state.weighting, gpvd.GpvdState):
        raise SettingError("a dump of buckets needs a run with --weighting gpvd")


def buckets_of(
    parts: Parts, clock: Clock, state: SeedState, drawn: Episode, n_buckets: int = 4, n_members: int = 4
) -> BucketDump:
    """As `bucket_dump`, of the given episodes [E, ...]; of `state`, replay is not used."""
    episodes = len(drawn.valid)
    seen = probes.examine(parts, clock, state, make_batch(parts.env, state.env_params, drawn, parts.reward_scale))
    rows = gpvd.transitions(seen.aux, seen.batch, seen.terms(seen.online))
    td_error, n = rows.q_tot - rows.targets, len(rows.valid)
    index = inspect.pick(rows.buckets, protection.protect(rows), td_error, n_buckets, n_members)  # [K, M]
    row = jnp.minimum(index, n - 1)
    step, lane = row // episodes, row % episodes
    return BucketDump(
        present=index < n,
        states=jax.tree.map(lambda leaf: leaf[lane, step], drawn.states),
        actions=rows.actions[row],
        td_error=td_error[row],
        target=rows.targets[row],
        step=step,
        visits=gpvd.flatten(seen.aux.visits)[row[:, 0]],
        env_steps=state.env_steps,
    )
