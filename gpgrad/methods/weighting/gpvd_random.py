"""The control for GPVD: the same bonus and the same weights, dealt to the batch's transitions at random.

What GPVD gains over it is owed to which transitions it weakens, not to how many.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.methods.weighting import gpvd, simhash
from gpgrad.methods.weighting.base import Weighting
from gpgrad.types import Batch, Clock, Context, Metrics, PyTree, Terms

NUMERICS = 2


class RandomState(NamedTuple):
    """gpvd: GPVD's own state. key: of the lots."""

    gpvd: PyTree
    key: jax.Array


class Lots(NamedTuple):
    """groups: what GPVD prepared. lots: uint32 [N], all different, who is served first."""

    groups: gpvd.Groups
    lots: jax.Array


def draw_lots(key: jax.Array, steps: int, episodes: int, limit: int) -> jax.Array:
    """Random words of the transitions of so many steps, uint32 [steps * episodes], told apart by their lowest bits.

    The same in each step for any number of them up to `limit`.
    """
    own = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(steps))
    words = jax.vmap(lambda key: jax.random.bits(key, (episodes,)))(own).reshape(-1)
    return (words << (limit * episodes).bit_length()) | jnp.arange(len(words), dtype=jnp.uint32)


def deal(lots: jax.Array, weights: jax.Array, valid: jax.Array) -> jax.Array:
    """The weights [N] of valid transitions, dealt to them anew in the order of their lots [N]; 0 where not valid."""
    n = len(lots)
    place = jnp.where(valid, jnp.cumsum(valid) - 1, n)
    packed = jnp.zeros_like(weights).at[place].set(weights, mode="drop")  # valid ones first
    turn = simhash.ranks(jnp.where(valid, lots, jnp.uint32(2**32 - 1)))
    return jnp.where(valid, packed[turn], 0.0)


@functools.wraps(gpvd.make, assigned=("__annotations__",))
def make(context: Context, **settings: Any) -> Weighting:
    """GPVD's settings; its weights in random order, so Eq. 7 without the choice of transitions.

    Source: a control of this project for GPVD (AAAI 2026), Eq. 7.
    """
    base = gpvd.make(context, **settings)

    def init(key: jax.Array, state: PyTree) -> RandomState:
        # GPVD's own key stays as it is: both group the same states.
        return RandomState(base.init(key, state), jax.random.fold_in(key, 2**16))

    def record(state: RandomState, clock: Clock, states: PyTree, valid: jax.Array) -> RandomState:
        return state._replace(gpvd=base.record(state.gpvd, clock, states, valid))

    def prepare(state: RandomState, clock: Clock, batch: Batch) -> tuple[RandomState, Lots]:
        inner, groups = base.prepare(state.gpvd, clock, batch)
        key = jax.random.fold_in(state.key, clock.updates)
        lots = draw_lots(key, batch.reward.shape[0], batch.reward.shape[1], context.spec.episode_limit)
        return state._replace(gpvd=inner), Lots(groups, lots)

    def weights(state: RandomState, aux: Lots, batch: Batch, terms: Terms) -> tuple[jax.Array, Metrics]:
        protecting, log = base.weights(state.gpvd, aux.groups, batch, terms)
        dealt = deal(aux.lots, gpvd.flatten(protecting), gpvd.flatten(batch.valid))
        return dealt.reshape(protecting.shape), log

    def bonus(state: RandomState, aux: Lots) -> jax.Array:
        return base.bonus(state.gpvd, aux.groups)

    def resize(state: RandomState) -> RandomState:
        return state._replace(gpvd=base.resize(state.gpvd))

    return Weighting(init, record, prepare, bonus, weights, resize)
