"""The turns of all units in random order, the last part of a tick: moving, recovering, striking.

The order matters only around shots, and few units shoot in a tick. So each iteration takes all turns up to and
including the next shooter's at once, then its shot.

Axes in comments: N units; W environments.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import Facts, Rules, largest_radius
from gpgrad.envs.battles.scenarios import units
from gpgrad.envs.battles.scenarios.units import BEAM, BURST, HEAL, SINGLE, TICKS_PER_SECOND
from gpgrad.envs.battles.state import Field, pick
from gpgrad.envs.battles.ticks.targets import Wishes

DEATH_REWARD = np.float32(10.0)


class _Shot(NamedTuple):
    """One shot per environment: shooter and victim [W], whether there is a shot [W], and one-hots [N, W] of both."""

    shooter: jax.Array
    victim: jax.Array
    on: jax.Array
    is_shooter: jax.Array
    is_victim: jax.Array


def take(
    rules: Rules,
    facts: Facts,
    field: Field,
    wishes: Wishes,
    velocity: tuple[jax.Array, jax.Array],
    position: jax.Array,
) -> tuple[Field, jax.Array]:
    """The field after all turns, and the reward of the tick [W] in points.

    velocity: new velocities [N, W]. position: rank of each unit in the order of turns, int32 [N, W].
    """
    start = field._replace(target=wishes.target, attacks=wishes.attacks)
    shoots = wishes.attacks & (field.cooldown <= 1)
    end = np.int32(rules.n_units)

    def more(carry: tuple[Field, jax.Array, jax.Array]) -> jax.Array:
        return jnp.any(carry[2] < end)

    def next_shot(carry: tuple[Field, jax.Array, jax.Array]) -> tuple[Field, jax.Array, jax.Array]:
        now, reward, last = carry
        behind = position > last
        turn = jnp.min(jnp.where(shoots & behind, position, end), axis=0)  # [W]
        now = _recover(facts, now, velocity, behind & (position <= turn) & now.alive & (now.health > 0))
        is_shooter = (position == turn) & (now.health > 0) & now.alive
        numbers = np.arange(rules.n_units, dtype=np.int32)[:, None]
        shooter = jnp.sum(jnp.where(is_shooter, numbers, 0), axis=0)
        victim = pick(wishes.victim, shooter)
        shot = _Shot(shooter, victim, jnp.any(is_shooter, axis=0), is_shooter, numbers == victim)
        now, points = _strike(rules, facts, field, now, shot)
        return now, reward + points, turn

    nothing = jnp.zeros_like(field.x[0])
    last = jnp.full(nothing.shape, -1, jnp.int32)
    after, reward, _ = jax.lax.while_loop(more, next_shot, (start, nothing, last))
    return after._replace(alive=after.alive & (after.health > 0)), reward


def _recover(facts: Facts, now: Field, velocity: tuple[jax.Array, jax.Array], acts: jax.Array) -> Field:
    """Movement and recovery of the units whose turn it is. acts: bool [N, W]."""
    wait = jnp.maximum(now.wait - 1, 0)
    shield = jnp.where(wait == 0, jnp.minimum(now.shield + np.float32(units.SHIELD_GAIN), facts.shield), now.shield)
    energy = jnp.minimum(now.energy + np.float32(units.ENERGY_GAIN), np.float32(units.ENERGY_MOST))
    health = jnp.minimum(now.health + np.float32(units.HEALTH_GAIN), facts.health)
    tick = np.float32(1 / TICKS_PER_SECOND)
    return now._replace(
        x=jnp.where(acts, now.x + velocity[0] * tick, now.x),
        y=jnp.where(acts, now.y + velocity[1] * tick, now.y),
        vx=jnp.where(acts, velocity[0], now.vx),
        vy=jnp.where(acts, velocity[1], now.vy),
        cooldown=jnp.where(acts, jnp.maximum(now.cooldown - 1, 0), now.cooldown),
        wait=jnp.where(acts, wait, now.wait),
        shield=jnp.where(acts, shield, now.shield),
        energy=jnp.where(acts & (facts.strike == HEAL), energy, now.energy),
        health=jnp.where(acts & facts.regenerates, health, now.health),
    )


def _strike(rules: Rules, facts: Facts, before: Field, now: Field, shot: _Shot) -> tuple[Field, jax.Array]:
    """One shot per environment, and its reward [W]. before: the field at the start of the tick."""
    kind = pick(facts.strike, shot.shooter)
    hit = shot.is_victim & ((kind == SINGLE) | (kind == BEAM))  # a beam always hits its target
    if rules.any("strike", BEAM):
        hit = jnp.where(kind == BEAM, _in_beam(rules, facts, before, now, shot), hit)
    burst = kind == BURST
    points = jnp.zeros_like(now.x[0])
    if rules.any("strike", BURST):
        hit = jnp.where(burst, _in_burst(rules, facts, before, now, shot), hit)
        dies = shot.is_shooter & burst & shot.on
        points = points + _sum_of_theirs(rules, jnp.where(dies, now.health, 0.0))
        now = now._replace(health=jnp.where(dies, 0.0, now.health))
    hit = hit & shot.on
    bonus = jnp.where(pick(facts.against, shot.shooter) == facts.build, pick(facts.bonus, shot.shooter), 0.0)
    damage = pick(facts.damage, shot.shooter) + bonus  # [N, W]
    full = pick(facts.cooldown, shot.shooter)
    now = now._replace(cooldown=jnp.where(shot.is_shooter & shot.on, full, now.cooldown))
    attacks = pick(facts.attacks, shot.shooter)
    for attack in range(int(rules.table.attacks.max())):
        now, earned = _hurt(rules, facts, now, hit & (attack < attacks), damage)
        points = points + earned
    if len(rules.healers):
        now = _heal(rules, facts, before, now, shot, (kind == HEAL) & shot.on)
    return now, points


def _sum_of_theirs(rules: Rules, values: jax.Array) -> jax.Array:
    return jnp.sum(values[rules.theirs], axis=0)


def _hurt(rules: Rules, facts: Facts, now: Field, hit: jax.Array, damage: jax.Array) -> tuple[Field, jax.Array]:
    """One attack on all units that are hit [N, W]; shields absorb damage first and ignore armor."""
    soaked = jnp.where(hit, jnp.minimum(damage, now.shield), 0.0)
    lost = jnp.where(hit, jnp.clip(damage - soaked - facts.armor, 0.0, now.health), 0.0)
    health = now.health - lost
    died = (now.health > 0) & (health <= 0)
    points = soaked + lost + jnp.where(died, DEATH_REWARD, 0.0)
    waits = hit & (facts.shield > 0) & (now.health > 0)
    now = now._replace(
        shield=now.shield - soaked, health=health, wait=jnp.where(waits, np.int32(units.SHIELD_WAIT), now.wait)
    )
    return now, _sum_of_theirs(rules, points)


def _foes(rules: Rules, shot: _Shot, before: Field) -> jax.Array:
    """Units of the other side that were alive at the start of the tick, [N, W]."""
    ours = (shot.shooter >= rules.ours.start) & (shot.shooter < rules.ours.stop)
    numbers = np.arange(rules.n_units)[:, None]
    is_ours = (numbers >= rules.ours.start) & (numbers < rules.ours.stop)
    return before.alive & (is_ours != ours)


def _in_beam(rules: Rules, facts: Facts, before: Field, now: Field, shot: _Shot) -> jax.Array:
    """Units in the rectangle across the line of fire, [N, W]: candidates by old positions, hits by current ones."""
    x, y = pick(now.x, shot.victim), pick(now.y, shot.victim)
    reach = np.float32(units.BEAM_REACH)
    near = (before.x - x) ** 2 + (before.y - y) ** 2 <= reach * reach
    fire_x, fire_y = x - pick(now.x, shot.shooter), y - pick(now.y, shot.shooter)
    length = jnp.sqrt(fire_x * fire_x + fire_y * fire_y)
    some = length > 0
    fire_x = jnp.where(some, fire_x / jnp.where(some, length, 1.0), 1.0)
    fire_y = jnp.where(some, fire_y / jnp.where(some, length, 1.0), 0.0)
    dx, dy = now.x - x, now.y - y
    along = jnp.maximum(jnp.abs(dx * fire_x + dy * fire_y) - np.float32(units.BEAM_DEPTH / 2), 0.0)
    across = jnp.maximum(jnp.abs(dx * fire_y - dy * fire_x) - np.float32(units.BEAM_LENGTH / 2), 0.0)
    return near & (along * along + across * across <= facts.radius * facts.radius) & _foes(rules, shot, before)


def _in_burst(rules: Rules, facts: Facts, before: Field, now: Field, shot: _Shot) -> jax.Array:
    """Units within reach of an exploding baneling, [N, W]."""
    x, y = pick(now.x, shot.shooter), pick(now.y, shot.shooter)
    outer = np.float32(units.BURST_REACH) + largest_radius(facts)
    inner = np.float32(units.BURST_REACH) + facts.radius
    near = (before.x - x) ** 2 + (before.y - y) ** 2 <= outer * outer
    inside = (now.x - x) ** 2 + (now.y - y) ** 2 <= inner * inner
    return near & inside & _foes(rules, shot, before)


def _heal(rules: Rules, facts: Facts, before: Field, now: Field, shot: _Shot, on: jax.Array) -> Field:
    """One tick of healing in each environment where `on` [W]."""
    energy, pool = pick(now.energy, shot.shooter), pick(now.pool, shot.shooter)
    health = pick(now.health, shot.victim)
    most = jnp.broadcast_to(pick(facts.health, shot.victim), health.shape)
    new_patient = pick(now.target, shot.shooter) != pick(before.target, shot.shooter)
    refuses = (health >= most) | (new_patient & (energy < np.float32(units.HEAL_LEAST_ENERGY)))
    if not rules.switches.raises:
        refuses = refuses | (health <= 0)
    gives = on & ~refuses
    want = jnp.minimum(most - health, np.float32(units.HEAL_GAIN))
    spent = jnp.where(pool < want, jnp.minimum(energy, 1.0), 0.0)
    pool = pool + np.float32(units.HEAL_PER_ENERGY) * spent
    given = jnp.minimum(want, pool)
    mine, theirs = shot.is_shooter & gives, shot.is_victim & gives
    return now._replace(
        energy=jnp.where(mine, energy - spent, now.energy),
        pool=jnp.where(mine, pool - given, now.pool),
        health=jnp.where(theirs, now.health + given, now.health),
        target=jnp.where(shot.is_shooter & on & refuses, -1, now.target),
    )
