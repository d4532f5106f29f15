"""Observations, global state and available actions of SMAX as in JaxMARL, in one vectorised pass.

The replay stores states, not observations, so this runs on every sampled batch.

Axes in comments: N units, allies first; A allies; E enemies; U actions; F features of a unit.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import View
from gpgrad.envs.smax.battle import MOVES, N_MOVES, STOP, SmaxState, Units, distance
from gpgrad.envs.smax.rules import N_TYPES, Rules

OTHER_FEATURES, OWN_FEATURES, STATE_FEATURES = 7 + N_TYPES, 4 + N_TYPES, 6 + N_TYPES


class Traits(NamedTuple):
    """Features of units that do not depend on the observer, each [N].

    last: x and y of the last move, and the last attack divided by the largest action number.
    """

    health: jax.Array
    last: list[jax.Array]
    cooldown: jax.Array
    types: list[jax.Array]


def observe(rules: Rules, own: Units, state: SmaxState) -> View:
    """The view of a battle."""
    n = rules.n_allies
    alive = state.health > 0
    dx, dy = state.x - state.x[:n, None], state.y - state.y[:n, None]  # [A, N]
    far = distance(dx, dy)
    met = alive & alive[:n, None]  # [A, N]
    traits = describe(rules, own, state)
    itself = alone(rules, traits, state, alive)  # [N, 10]
    sight = own.sight[:n, None]
    rest = others(traits, met & (far < sight), dx / sight, dy / sight)
    in_range = met & (far < own.range[:n, None])
    return View(
        obs=jnp.concatenate([rest, itself[:n]], axis=-1),
        avail=available(alive[:n], in_range[:, n:]),
        state=overview(rules, itself, state.types),
    )


def describe(rules: Rules, own: Units, state: SmaxState) -> Traits:
    """The traits of all units."""
    action = state.action.astype(jnp.int32)
    moved = action == np.arange(len(MOVES))[:, None]
    heading = [jnp.sum(jnp.where(moved, MOVES[:, axis, None], 0.0), axis=0) for axis in (0, 1)]
    last_action = np.repeat([rules.n_enemies, rules.n_allies], [rules.n_allies, rules.n_enemies]) + STOP
    attack = jnp.where(action >= N_MOVES, action, 0) / last_action.astype(np.float32)
    types = rules.types if state.types is None else state.types
    return Traits(
        health=state.health / jnp.asarray(own.health),
        last=[*heading, attack],
        cooldown=jnp.clip(state.cooldown / own.cooldown, 0.0, 1.0),
        types=[jnp.asarray(types == t, jnp.float32) for t in range(N_TYPES)],
    )


def others(traits: Traits, seen: jax.Array, dx: jax.Array, dy: jax.Array) -> jax.Array:
    """Features of other units for each ally, float32 [A, (N - 1) F]. seen, dx, dy: visibility and offsets [A, N].

    A stack of planes with selects fuses into one pass that only writes the result; a gather takes several times as
    long.
    """
    n_allies, n_units = seen.shape
    earlier = np.arange(n_units - 1) < np.arange(n_allies)[:, None]  # [A, N - 1], in the list without the observer

    def without_oneself(plane: jax.Array) -> jax.Array:
        return jnp.where(earlier, plane[:, :-1], plane[:, 1:])

    planes = [traits.health, dx, dy, *traits.last, traits.cooldown, *traits.types]
    planes = [without_oneself(jnp.where(seen, plane, 0.0)) for plane in planes]
    return jnp.stack(planes, axis=-1).reshape(n_allies, -1)


def alone(rules: Rules, traits: Traits, state: SmaxState, alive: jax.Array) -> jax.Array:
    """Each unit's own features, float32 [N, 10]; zeros if dead."""
    place = [state.x / rules.width, state.y / rules.height]
    features = [traits.health, *place, traits.cooldown, *traits.types]
    return jnp.where(alive[:, None], jnp.stack(features, axis=-1), 0.0)


def overview(rules: Rules, itself: jax.Array, types: jax.Array | None) -> jax.Array:
    """The global state, float32 [12 N], from `alone` [N, 10]."""
    teams = (np.arange(rules.n_units) >= rules.n_allies).astype(np.float32)
    kinds = jnp.asarray(rules.types if types is None else types) / np.float32(N_TYPES - 1)
    return jnp.concatenate([itself.reshape(-1), teams, kinds])


def available(alive: jax.Array, in_range: jax.Array) -> jax.Array:
    """Available actions, bool [A, U], from living allies [A] and enemies in range [A, E]."""
    moves = jnp.broadcast_to(alive[:, None], (len(alive), STOP))
    return jnp.concatenate([moves, jnp.ones_like(moves[:, :1]), in_range], axis=1)
