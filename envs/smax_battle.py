"""The rules of an SMAX battle: the enemies' heuristic and the ticks of a step, as JaxMARL plays them.

JaxMARL computes every unit's observation twice a step, once for the enemies' heuristic and once for the outcome;
here the heuristic reads positions, and observations are left to the view.

Axes in comments: N units, allies first; A allies; E enemies; K ticks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.smax_rules import Rules

MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0)], np.float32)  # north, east, south, west, stop
STOP = 4
N_MOVES = len(MOVES)


class SmaxState(NamedTuple):
    """A battle, in the smallest types that hold it exactly.

    position: float32 [2, N], x and y. health: uint8 [N], whole numbers in SMAX; 0 is dead. cooldown: float32 [N],
    seconds; below 0 for a weapon that waits. action: int8 [N], the last one. target: float32 [2, E], where an enemy
    that sees nobody walks. attacked: int8 [E], the ally it shot last, counted from the last one; -1 for none. types:
    uint8 [N] where a reset draws them, else None. time: int16 [].
    """

    position: jax.Array
    health: jax.Array
    cooldown: jax.Array
    action: jax.Array
    target: jax.Array
    attacked: jax.Array
    types: jax.Array | None
    time: jax.Array


class Units(NamedTuple):
    """What matters of each unit's type, float32 [N]."""

    velocity: jax.Array | np.ndarray
    attack: jax.Array | np.ndarray
    range: jax.Array | np.ndarray
    sight: jax.Array | np.ndarray
    radius: jax.Array | np.ndarray
    health: jax.Array | np.ndarray
    cooldown: jax.Array | np.ndarray


class Draws(NamedTuple):
    """The chance of one step. cooldown: float32 [K, N], seconds added to a weapon's cooldown if it fires in that
    tick. chase: float32 [E] in [0, 1), which of the allies in sight an enemy walks to.
    """

    cooldown: jax.Array
    chase: jax.Array


class Field(NamedTuple):
    """What moves in a tick: position float32 [2, N], health and cooldown float32 [N]."""

    position: jax.Array
    health: jax.Array
    cooldown: jax.Array


def units(rules: Rules, types: jax.Array | None) -> Units:
    """The units' numbers; of drawn types [N], or of the map's own."""
    tables = Units(*(getattr(rules, name) for name in Units._fields))
    if types is None:
        return Units(*(table[rules.types] for table in tables))
    return Units(*(jnp.asarray(table)[types] for table in tables))


def draws(rules: Rules, key: jax.Array) -> Draws:
    """The chance of one step, from a key in the way JaxMARL does, so that the same key gives the same battle."""
    key, k_enemies = jax.random.split(key)
    k_chase = jax.vmap(jax.random.split)(jax.random.split(k_enemies, rules.n_enemies))[:, 0]

    def tick(key: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return tuple(jax.random.split(key))  # type: ignore[return-value]

    _, k_ticks = jax.lax.scan(tick, key, None, rules.ticks, unroll=True)
    k_units = jax.vmap(lambda k: jax.random.split(k, rules.n_units))(k_ticks)  # [K, N]

    def deviation(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, minval=-rules.dt, maxval=2 * rules.dt)

    return Draws(jax.vmap(jax.vmap(deviation))(k_units), jax.vmap(jax.random.uniform)(k_chase))


def offsets(rules: Rules, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    """From every enemy to every ally: offset float32 [2, A, E] and distance [A, E]."""
    n = rules.n_allies
    offset = position[:, :n, None] - position[:, None, n:]
    return offset, length(offset)


def length(offset: jax.Array) -> jax.Array:
    """Euclidean norm over the leading axis: [2, ...] to [...]."""
    return jnp.sqrt(offset[0] * offset[0] + offset[1] * offset[1])


def enemy_actions(
    rules: Rules, own: Units, field: Field, target: jax.Array, attacked: jax.Array, chase: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """JaxMARL's heuristic: int32 [E] actions, and the ally each enemy is shooting at, int32 [E], -1 for none.

    It shoots the ally it shot before if it still can, else the closest; without one in range it walks to an ally in
    sight, and without one in sight to `target` [2, E], which lies across the map. Actions count allies from the last
    to the first, and so does everything here.
    """
    n = rules.n_allies
    offset, distance = offsets(rules, field.position)
    offset, distance = offset[:, ::-1], distance[::-1]  # [2, A, E], [A, E]
    alive = field.health > 0
    visible = (distance < own.sight[n:]) & alive[:n][::-1, None] & alive[n:]
    in_range = visible & (distance < own.range[n:])
    order = jnp.arange(n, dtype=jnp.int32)[:, None]

    closest = jnp.argmin(jnp.where(in_range, distance, jnp.inf), axis=0).astype(jnp.int32)
    again = jnp.any(in_range & (order == attacked), axis=0)
    victim = jnp.where(again, attacked, closest)
    can_shoot = jnp.any(in_range, axis=0)

    nth = jnp.cumsum(visible, axis=0, dtype=jnp.int32)  # [A, E], how many allies in sight up to each
    chased = visible & (nth >= (1.0 - chase) * nth[-1]) & (nth - 1 < (1.0 - chase) * nth[-1])
    towards = jnp.sum(jnp.where(chased, offset, 0.0), axis=1)  # [2, E]
    towards = jnp.where(jnp.any(visible, axis=0), towards, target - field.position[:, n:])
    x, y = towards
    move = jnp.argmax(jnp.stack([y, x, -y, -x]), axis=0).astype(jnp.int32)
    return jnp.where(can_shoot, N_MOVES + victim, move), jnp.where(can_shoot, victim, -1)


def fight(rules: Rules, own: Units, field: Field, actions: jax.Array, deviations: jax.Array) -> Field:
    """All ticks of a step with the actions of all units [N] and cooldown deviations [K, N].

    In a tick everybody moves, shoots at where the others were, dies of wounds or of touching the map's edge, and
    those left push each other apart.
    """
    n = rules.n_allies
    heading = jnp.asarray(MOVES.T)[:, jnp.minimum(actions, STOP)]  # [2, N]
    stride = heading * (own.velocity * np.float32(rules.dt))
    shot = actions - N_MOVES
    aims = shot[:n, None] == np.arange(rules.n_enemies)  # [A, E]
    aimed_at = n - 1 - shot[n:] == np.arange(n)[:, None]  # [A, E], by enemies
    edge = np.array([[rules.width], [rules.height]], np.float32)
    reach = own.radius[:, None] + own.radius[None, :]  # [N, N]
    apart = np.eye(rules.n_units, dtype=np.float32) + np.float32(1e-6)

    def tick(field: Field, deviation: jax.Array) -> tuple[Field, None]:
        position, health, cooldown = field
        alive = health > 0
        ready = alive & (cooldown <= 0)
        _, distance = offsets(rules, position)
        hits = aims & (distance < own.range[:n, None]) & ready[:n, None] & alive[n:]
        hurts = aimed_at & (distance < own.range[n:]) & ready[n:] & alive[:n, None]
        wounds = jnp.concatenate(
            [
                jnp.sum(jnp.where(hurts, own.attack[n:], 0.0), axis=1),
                jnp.sum(jnp.where(hits, own.attack[:n, None], 0.0), axis=0),
            ]
        )
        fired = jnp.concatenate([jnp.any(hits, axis=1), jnp.any(hurts, axis=0)])
        cooldown = cooldown + jnp.where(fired, own.cooldown + deviation - cooldown, np.float32(-rules.dt))
        position = jnp.where(alive, jnp.clip(position + stride, 0.0, edge), position)
        at_edge = jnp.any((position <= 0.0) | (position >= edge), axis=0)
        health = jnp.where(at_edge, 0.0, jnp.maximum(health - wounds, 0.0))
        return Field(push(position, health > 0, reach, apart), health, cooldown), None

    return jax.lax.scan(tick, field, deviations)[0]


def push(position: jax.Array, alive: jax.Array, reach: jax.Array, apart: jax.Array | np.ndarray) -> jax.Array:
    """Positions [2, N] with living units that overlap moved apart; reach [N, N] is their radii's sum."""
    offset = position[:, :, None] - position[:, None, :]  # [2, N, N]
    overlap = jnp.maximum(reach / (length(offset) + apart) - 1.0, 0.0)
    overlap = jnp.where(alive[:, None] & alive, overlap, 0.0)
    return position + jnp.sum(offset * overlap, axis=2) / 2
