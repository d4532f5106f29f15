"""Occupancy of GPVD's buckets: how many transitions of a batch share a code, by code length and preprocessing.

Where nearly every transition is alone in its bucket GPVD can protect nothing, and where all are in one it compares
states that have nothing in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp

from gpgrad.config.schema import Config
from gpgrad.envs.api import OneHot
from gpgrad.learning import rollout
from gpgrad.learning.initial import make_init
from gpgrad.learning.iteration import team
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import Actor
from gpgrad.methods.weighting import simhash
from gpgrad.types import PyTree

BITS = (4, 8, 10, 12, 16, 20, 32, 64)
PREPROCESSING: tuple[simhash.Preprocessing, ...] = get_args(simhash.Preprocessing)


class Play(NamedTuple):
    """Visited states in batches of a gradient step: states [G, N, ...], dense or OneHot; valid [G, N]."""

    states: jax.Array | OneHot
    valid: jax.Array


class Occupancy(NamedTuple):
    """Means over batches and projections.

    shared: share of transitions in buckets of two or more. buckets: their number. largest: share of the largest.
    """

    shared: jax.Array
    buckets: jax.Array
    largest: jax.Array


def untrained(config: Config, parts: Parts) -> Actor:
    """An untrained team."""
    state = make_init(config, parts)(jnp.int32(config.seed))
    return Actor(state.env_params, state.params, state.sharing, state.key)


def play(parts: Parts, actor: Actor, key: jax.Array, episodes: int, batch: int, eps: float) -> Play:
    """States of epsilon-greedy episodes of one team, in whole-episode batches. episodes: a multiple of the batch."""
    collect = rollout.make_collect(parts.env, parts.agent, parts.decomposition)
    members = team(parts, actor.params, actor.sharing)
    k_world, k_act = jax.random.split(key)
    done = collect(jax.random.split(k_world, episodes), k_act, actor.env_params, members, jnp.float32(eps)).episodes
    visited = jax.tree.map(lambda leaf: leaf[:, :-1], done.states)
    states = jax.vmap(jax.vmap(parts.env.view, (None, 0)), (None, 0))(actor.env_params, visited).state

    def group(leaf: jax.Array, rest: int) -> jax.Array:  # [E, T, ...] to [G, N, ...]
        return leaf.reshape(episodes // batch, -1, *leaf.shape[2 : 2 + rest])

    return Play(jax.tree.map(lambda leaf: group(leaf, 1), states), group(done.valid, 0))


def measure(played: Play, k: int, g: simhash.Preprocessing, keys: jax.Array) -> Occupancy:
    """The occupancy of each batch for one projection per key; g's statistics are those of the first batch."""
    states, valid = played
    size = states.size if isinstance(states, OneHot) else states.shape[-1]

    def of_projection(key: jax.Array) -> Occupancy:
        first: PyTree = jax.tree.map(lambda leaf: leaf[0], states)
        hashing = simhash.standardise(simhash.make_hash(key, k, size), g, first, valid[0])

        def of_batch(batch: Play) -> Occupancy:
            n = len(batch.valid)
            words = simhash.codes(hashing.projection, batch.states, hashing.threshold)
            place = jnp.where(batch.valid, simhash.bucket_ids(words, batch.valid), n)
            sizes = jax.ops.segment_sum(jnp.ones(n), place, n)
            total = jnp.maximum(batch.valid.sum(), 1)
            shared = jnp.where(sizes > 1, sizes, 0).sum() / total
            return Occupancy(shared, (sizes > 0).sum().astype(jnp.float32), sizes.max() / total)

        return jax.lax.map(of_batch, played)

    return jax.tree.map(jnp.mean, jax.lax.map(of_projection, keys))


def table(played: Play, key: jax.Array, bits: Sequence[int] = BITS, projections: int = 3) -> list[dict[str, Any]]:
    """One row per preprocessing g and code length k, with the values of `Occupancy`."""
    keys = jax.random.split(key, projections)
    run = jax.jit(measure, static_argnums=(1, 2))
    found = [(g, k, run(played, k, g, keys)) for g in PREPROCESSING for k in bits]
    return [{"g": g, "k": k, **{name: float(value) for name, value in o._asdict().items()}} for g, k, o in found]
