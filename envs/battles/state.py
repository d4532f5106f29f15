"""The state of a battle: compact between steps, unpacked within a step with environments on the last axis.

Axes in comments: N units; A agents; H units that may be medivacs; W environments.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import Facts, Rules
from gpgrad.envs.battles.scenarios.units import TICKS_PER_SECOND

FINE = 256  # fixed-point unit of health, energy and pool: all amounts are whole multiples, unless health regenerates
EIGHTHS = 8  # fixed-point unit of shields


class BattleState(NamedTuple):
    """The stored state of a battle, in the smallest exact types. None for fields that no unit of the map needs.

    x, y, vx, vy: float32 [N], positions and velocities.
    health: uint16 [N] in 1/256, or float32 if a unit regenerates; 0: dead.
    shield: uint16 [N] in 1/8.
    wait: uint8 [N], ticks until a shield recovers.
    cooldown: uint8 [N], ticks.
    aim: uint8 [N], 2 * (target + 1), plus 1 for a unit that attacked in the last tick; below 2: no target.
    energy, pool: uint16 [H] in 1/256.
    alive: bool [N], only if dead units can have health.
    types: uint8 [N], point: float32 [2], the enemies' attack point; only if a reset samples them.
    last: int8 [A], last actions, -1 before the first.
    time: int16 [].
    """

    x: jax.Array
    y: jax.Array
    vx: jax.Array
    vy: jax.Array
    health: jax.Array
    shield: jax.Array | None
    wait: jax.Array | None
    cooldown: jax.Array
    aim: jax.Array
    energy: jax.Array | None
    pool: jax.Array | None
    alive: jax.Array | None
    types: jax.Array | None
    point: jax.Array | None
    last: jax.Array
    time: jax.Array


class Field(NamedTuple):
    """The unpacked state, each [N, W]: float32; cooldown, wait, target int32; attacks, alive bool."""

    x: jax.Array
    y: jax.Array
    vx: jax.Array
    vy: jax.Array
    health: jax.Array
    shield: jax.Array
    energy: jax.Array
    pool: jax.Array
    cooldown: jax.Array
    wait: jax.Array
    target: jax.Array
    attacks: jax.Array
    alive: jax.Array


def keeps_alive(rules: Rules) -> bool:
    """Whether `alive` must be stored, because medivacs can heal dead units as in SMAClite."""
    return rules.switches.raises and len(rules.healers) > 0


def facts(rules: Rules, types: jax.Array | None) -> Facts:
    """The units' numbers, [N, 1], or [N, W] for sampled types [N, W]."""
    if types is None:
        assert rules.types is not None
        return Facts(*(column[rules.types][:, None] for column in rules.table))
    return Facts(*(jnp.asarray(column)[types.astype(jnp.int32)] for column in rules.table))  # type: ignore[arg-type]


def unpack(rules: Rules, state: BattleState) -> Field:
    """The unpacked state of a stored one, [..., W]."""
    health = state.health if state.health.dtype == jnp.float32 else state.health.astype(jnp.float32) / FINE
    none = jnp.zeros_like(health)
    aim = state.aim.astype(jnp.int32)

    def of_healers(stored: jax.Array | None) -> jax.Array:
        if stored is None:
            return none
        place = np.full(rules.n_units, len(rules.healers))
        place[rules.healers] = np.arange(len(rules.healers))
        return jnp.concatenate([stored.astype(jnp.float32) / FINE, none[:1]])[place]

    return Field(
        x=state.x,
        y=state.y,
        vx=state.vx,
        vy=state.vy,
        health=health,
        shield=none if state.shield is None else state.shield.astype(jnp.float32) / EIGHTHS,
        energy=of_healers(state.energy),
        pool=of_healers(state.pool),
        cooldown=state.cooldown.astype(jnp.int32),
        wait=jnp.zeros_like(aim) if state.wait is None else state.wait.astype(jnp.int32),
        target=aim // 2 - 1,
        attacks=aim % 2 == 1,
        alive=health > 0 if state.alive is None else state.alive,
    )


def pack(
    rules: Rules,
    field: Field,
    last: jax.Array,
    time: jax.Array,
    types: jax.Array | None = None,
    point: jax.Array | None = None,
) -> BattleState:
    """The stored state of an unpacked one."""

    def parts(value: jax.Array, scale: int, dtype=jnp.uint16) -> jax.Array:
        return jnp.round(value * scale).astype(dtype)

    has_shields, healers = bool((rules.table.shield > 0).any()), rules.healers
    return BattleState(
        x=field.x,
        y=field.y,
        vx=field.vx,
        vy=field.vy,
        health=field.health if rules.any("regenerates") else parts(field.health, FINE),
        shield=parts(field.shield, EIGHTHS) if has_shields else None,
        wait=field.wait.astype(jnp.uint8) if has_shields else None,
        cooldown=field.cooldown.astype(jnp.uint8),
        aim=(2 * (field.target + 1) + field.attacks).astype(jnp.uint8),
        energy=parts(field.energy[healers], FINE) if len(healers) else None,
        pool=parts(field.pool[healers], FINE) if len(healers) else None,
        alive=field.alive if keeps_alive(rules) else None,
        types=types,
        point=point,
        last=last,
        time=time,
    )


def pick(values: jax.Array | np.ndarray, units: jax.Array) -> jax.Array:
    """Values [N, W] or [N, 1] of selected units [..., W], result [..., W]. Negative units select unit 0."""
    wide = jnp.broadcast_to(values, (values.shape[0], units.shape[-1]))
    flat = jnp.maximum(units, 0).reshape(-1, units.shape[-1])
    return jnp.take_along_axis(wide, flat, axis=0).reshape(units.shape)


def cooldown_seconds(facts: Facts, cooldown: jax.Array) -> jax.Array:
    """Seconds until a weapon is ready, from its cooldown in ticks."""
    return jnp.maximum(facts.seconds - (facts.cooldown - cooldown) / np.float32(TICKS_PER_SECOND), 0.0)
