"""The rules of an SMAX battle: the enemies' heuristic and the ticks of a step, as in JaxMARL.

JaxMARL computes all observations twice per step, for the enemies' heuristic and for the result. Here the heuristic
reads positions, and only the view computes observations.

Axes in comments: N units, allies first; A allies; E enemies; K ticks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.smax.rules import Rules

MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0)], np.float32)  # north, east, south, west, stop
STOP = 4
N_MOVES = len(MOVES)


class SmaxState(NamedTuple):
    """The stored state of a battle, in the smallest exact types.

    x, y: float32 [N].
    health: uint8 [N], whole numbers in SMAX; 0: dead.
    cooldown: float32 [N], seconds; negative once a weapon is ready.
    action: int8 [N], last actions.
    target: float32 [2, E], goal of enemies that see no ally.
    attacked: int8 [E], the ally that each enemy shot last, counted from the last ally; -1: none.
    types: uint8 [N] if a reset samples them, else None.
    time: int16 [].
    """

    x: jax.Array
    y: jax.Array
    health: jax.Array
    cooldown: jax.Array
    action: jax.Array
    target: jax.Array
    attacked: jax.Array
    types: jax.Array | None
    time: jax.Array


class Units(NamedTuple):
    """Numbers of each unit's type, float32 [N]."""

    velocity: jax.Array | np.ndarray
    attack: jax.Array | np.ndarray
    range: jax.Array | np.ndarray
    sight: jax.Array | np.ndarray
    radius: jax.Array | np.ndarray
    health: jax.Array | np.ndarray
    cooldown: jax.Array | np.ndarray


class Draws(NamedTuple):
    """The randomness of one step.

    cooldown: float32 [K, N], seconds added to a weapon's cooldown if it fires in that tick. chase: float32 [E] in
    [0, 1), selects the ally in sight that an enemy walks to.
    """

    cooldown: jax.Array
    chase: jax.Array


class Field(NamedTuple):
    """The state within a step, float32 [N]. Coordinates are separate arrays, so that pairwise operations vectorise."""

    x: jax.Array
    y: jax.Array
    health: jax.Array
    cooldown: jax.Array


def units(rules: Rules, types: jax.Array | None) -> Units:
    """The units' numbers, for sampled types [N] or those of the map."""
    tables = Units(*(getattr(rules, name) for name in Units._fields))
    if types is None:
        return Units(*(table[rules.types] for table in tables))
    return Units(*(jnp.asarray(table)[types] for table in tables))


def draws(rules: Rules, key: jax.Array) -> Draws:
    """The randomness of one step, derived from the key as in JaxMARL, so that equal keys give equal battles."""
    key, k_enemies = jax.random.split(key)
    k_chase = jax.vmap(jax.random.split)(jax.random.split(k_enemies, rules.n_enemies))[:, 0]

    def tick(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        after, now = jax.random.split(key)
        return after, now

    _, k_ticks = jax.lax.scan(tick, key, None, rules.ticks)
    k_units = jax.vmap(lambda k: jax.random.split(k, rules.n_units))(k_ticks)  # [K, N]
    # Sampled as one flat array, since short inner axes do not vectorise.
    uniform = jax.vmap(jax.random.uniform)(jnp.concatenate([k_units.reshape(-1), k_chase]))
    deviation = (3 * uniform[: k_units.size] - 1) * np.float32(rules.dt)  # between -dt and 2 dt
    return Draws(deviation.reshape(k_units.shape), uniform[k_units.size :])


def distance(dx: jax.Array, dy: jax.Array) -> jax.Array:
    """Euclidean length."""
    return jnp.sqrt(dx * dx + dy * dy)


def separation(field: Field, n_allies: int) -> jax.Array:
    """Distance from every ally to every enemy, [A, E]."""
    return distance(*(z[:n_allies, None] - z[n_allies:] for z in (field.x, field.y)))


def enemy_actions(
    rules: Rules, own: Units, field: Field, target: jax.Array, attacked: jax.Array, chase: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """JaxMARL's heuristic: int32 [E] actions, and the ally each enemy is shooting at, int32 [E], -1 for none.

    An enemy shoots the ally that it shot last if it still can, else the closest one. With none in range it walks to an
    ally in sight, and with none in sight to `target` [2, E] across the map. Actions number allies from the last to the
    first; so do the arrays here.
    """
    n = rules.n_allies
    far = separation(field, n)[::-1]  # [A, E]
    alive = field.health > 0
    visible = (far < own.sight[n:]) & alive[:n][::-1, None] & alive[n:]
    in_range = visible & (far < own.range[n:])
    order = jnp.arange(n, dtype=jnp.int32)[:, None]

    closest = jnp.argmin(jnp.where(in_range, far, jnp.inf), axis=0).astype(jnp.int32)
    still_there = jnp.any(in_range & (order == attacked), axis=0)
    victim = jnp.where(still_there, attacked, closest)
    can_shoot = jnp.any(in_range, axis=0)

    nth = jnp.cumsum(visible, axis=0, dtype=jnp.int32)  # [A, E], number of allies in sight up to each
    chased = visible & (nth >= (1.0 - chase) * nth[-1]) & (nth - 1 < (1.0 - chase) * nth[-1])

    def way(z: jax.Array, goal: jax.Array) -> jax.Array:  # [N], [E] to [E]
        goal = jnp.where(nth[-1] > 0, jnp.sum(jnp.where(chased, z[:n][::-1, None], 0.0), axis=0), goal)
        return goal - z[n:]

    x, y = way(field.x, target[0]), way(field.y, target[1])
    move = jnp.argmax(jnp.stack([y, x, -y, -x]), axis=0).astype(jnp.int32)
    return jnp.where(can_shoot, N_MOVES + victim, move), jnp.where(can_shoot, victim, -1)


def fight(rules: Rules, own: Units, field: Field, actions: jax.Array, deviations: jax.Array) -> Field:
    """All ticks of a step with the actions of all units [N] and cooldown deviations [K, N].

    In a tick all units move, shoot at the previous positions of others, die of damage or at the map's edge; then living
    units that overlap push each other apart.
    """
    n = rules.n_allies
    heading = jnp.asarray(MOVES)[jnp.minimum(actions, STOP)]  # [N, 2]
    stride = own.velocity * np.float32(rules.dt)
    shot = actions - N_MOVES
    aims = shot[:n, None] == np.arange(rules.n_enemies)  # [A, E]
    aimed_at = n - 1 - shot[n:] == np.arange(n)[:, None]  # [A, E], by enemies

    def tick(field: Field, deviation: jax.Array) -> tuple[Field, None]:
        alive = field.health > 0
        ready = alive & (field.cooldown <= 0)
        far = separation(field, n)
        hits = aims & (far < own.range[:n, None]) & ready[:n, None] & alive[n:]
        hurts = aimed_at & (far < own.range[n:]) & ready[n:] & alive[:n, None]
        wounds = jnp.concatenate(
            [
                jnp.sum(jnp.where(hurts, own.attack[n:], 0.0), axis=1),
                jnp.sum(jnp.where(hits, own.attack[:n, None], 0.0), axis=0),
            ]
        )
        fired = jnp.concatenate([jnp.any(hits, axis=1), jnp.any(hurts, axis=0)])
        waited = jnp.where(fired, own.cooldown + deviation - field.cooldown, np.float32(-rules.dt))
        x = jnp.where(alive, jnp.clip(field.x + heading[:, 0] * stride, 0.0, rules.width), field.x)
        y = jnp.where(alive, jnp.clip(field.y + heading[:, 1] * stride, 0.0, rules.height), field.y)
        at_edge = (x <= 0.0) | (x >= rules.width) | (y <= 0.0) | (y >= rules.height)
        health = jnp.where(at_edge, 0.0, jnp.maximum(field.health - wounds, 0.0))
        x, y = push(own, x, y, health > 0)
        return Field(x, y, health, field.cooldown + waited), None

    return jax.lax.scan(tick, field, deviations)[0]


def push(own: Units, x: jax.Array, y: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Positions [N] after overlapping living units have been pushed apart."""
    dx, dy = x[:, None] - x, y[:, None] - y  # [N, N]
    reach = own.radius[:, None] + own.radius
    gap = distance(dx, dy) + np.eye(len(x), dtype=np.float32) + np.float32(1e-6)
    overlap = jnp.where(alive[:, None] & alive, jnp.maximum(reach / gap - 1.0, 0.0), 0.0)
    return x + jnp.sum(dx * overlap, axis=1) / 2, y + jnp.sum(dy * overlap, axis=1) / 2
