"""Targets, attacks and preferred velocities of all units, the first part of a tick.

Enemies use StarCraft II's attack-move: they walk to a point, acquire allied units that are in scan range or attack
them, and keep a target until it dies or leaves. While an allied medivac is alive they acquire a target in every tick.
The order of units matters: a unit reads this tick's decisions of units before it, and last tick's of those after it.

Axes in comments: N units; A ours; E enemies; M enemies that may be medivacs; W environments.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import Facts, Rules, largest_radius
from gpgrad.envs.battles.scenarios.units import HEAL
from gpgrad.envs.battles.state import Field, pick

FAR = np.float32(2e9)  # distance of attackers out of sight
STOP, MOVE, ATTACK = range(3)  # commands


class Commands(NamedTuple):
    """Commands of allied units for a step, each [A, W]: kind int32, victim int32 (-1: none), goal x and y float32.

    point_x, point_y: the enemies' attack point, float32 [W].
    """

    kind: jax.Array
    victim: jax.Array
    x: jax.Array
    y: jax.Array
    point_x: jax.Array
    point_y: jax.Array


class Wishes(NamedTuple):
    """Decisions of each unit, [N, W]: target, victim of its attack, whether it attacks, preferred velocity."""

    target: jax.Array
    victim: jax.Array
    attacks: jax.Array
    vx: jax.Array
    vy: jax.Array


class _Pairs(NamedTuple):
    """Pairs of an enemy and an allied unit, [E, A, W].

    hits: whether the enemy can hit the unit. aimed: whether the unit aims at the enemy.
    """

    distance: jax.Array
    hits: jax.Array
    aimed: jax.Array


def decide(rules: Rules, facts: Facts, field: Field, commands: Commands) -> Wishes:
    """Decisions of all units."""
    ours, theirs = rules.ours, rules.theirs
    victim = commands.victim
    obeyed = (commands.kind == ATTACK) & (pick(field.health, victim) > 0)
    new_ours = jnp.where(obeyed, victim, -1)  # [A, W]
    kept = _keep(rules, facts, field, new_ours)  # [E, W]
    pairs = _pairs(rules, facts, field, new_ours)
    listed = _attackers(rules, facts, field, pairs, kept)
    target = _acquire(rules, facts, field, pairs, listed, kept)
    speed = jnp.broadcast_to(facts.speed[theirs], target.shape)
    if rules.any("strike", HEAL, theirs):
        target, speed = _treat(rules, facts, field, listed, kept, target, speed)

    targets, victims = rules.join(new_ours, target), rules.join(victim, target)
    speeds = rules.join(jnp.broadcast_to(facts.speed[ours], victim.shape), speed)
    return _move(rules, facts, field, commands, targets, victims, speeds)


def in_range(facts: Facts, field: Field, units: slice, victims: jax.Array) -> jax.Array:
    """Whether victims [units, W] are within weapon range of units, measured between edges."""
    dx, dy = field.x[units] - pick(field.x, victims), field.y[units] - pick(field.y, victims)
    reach = facts.range[units] + facts.radius[units] + pick(facts.radius, victims)
    return dx * dx + dy * dy <= reach * reach


def _keep(rules: Rules, facts: Facts, field: Field, new_ours: jax.Array) -> jax.Array:
    """The targets that enemies keep, -1 for none, [E, W]."""
    target = field.target[rules.theirs]
    number = np.arange(rules.theirs.start, rules.theirs.stop)[:, None]
    now = rules.join(new_ours, target)
    theirs = jnp.where(target < number, pick(now, target), pick(field.target, target))
    close = in_range(facts, field, rules.theirs, target)
    return jnp.where((target >= 0) & (pick(field.health, target) > 0) & ((theirs == number) | close), target, -1)


def _pairs(rules: Rules, facts: Facts, field: Field, new_ours: jax.Array) -> _Pairs:
    ours, theirs = rules.ours, rules.theirs
    dx = field.x[theirs][:, None] - field.x[ours]
    dy = field.y[theirs][:, None] - field.y[ours]
    alive = field.alive[theirs][:, None] & field.alive[ours]
    hits = alive & (facts.hits_air[theirs][:, None] | ~facts.flies[ours])
    number = np.arange(theirs.start, theirs.stop)[:, None, None]
    return _Pairs(jnp.sqrt(dx * dx + dy * dy), hits, new_ours == number)


def _fights(rules: Rules, facts: Facts, field: Field) -> jax.Array:
    """Living enemies that are not medivacs, bool [E, W]."""
    return field.alive[rules.theirs] & (facts.strike[rules.theirs] != HEAL)


def _attackers(rules: Rules, facts: Facts, field: Field, pairs: _Pairs, kept: jax.Array) -> jax.Array:
    """Allied units that reveal themselves to the enemy they aim at, [E, A, W]; only if a fighter has no target."""
    searching = jnp.any(_fights(rules, facts, field) & (kept < 0), axis=0)  # [W]
    return pairs.aimed & pairs.hits & searching


def _acquire(rules: Rules, facts: Facts, field: Field, pairs: _Pairs, listed: jax.Array, kept: jax.Array) -> jax.Array:
    """Targets of enemy fighters, [E, W]: medivacs first, then the closest; ties by number."""
    theirs, ours = rules.theirs, rules.ours
    scan = facts.scan[theirs][:, None]
    seen = pairs.hits & (pairs.distance <= scan + largest_radius(facts))
    close = pairs.distance < scan + facts.radius[ours]
    medic = jnp.broadcast_to((facts.strike == HEAL)[ours], field.alive[ours].shape)  # [A, W]

    def closest(candidates: jax.Array) -> jax.Array:
        allowed = candidates & (close | pairs.aimed)
        first = allowed & medic
        allowed = jnp.where(jnp.any(first, axis=1, keepdims=True), first, allowed)
        far = jnp.where(seen, pairs.distance, FAR)
        chosen = jnp.argmin(jnp.where(allowed, far, jnp.inf), axis=1).astype(jnp.int32) + ours.start
        return jnp.where(jnp.any(allowed, axis=1), chosen, -1)

    target = jnp.where(kept < 0, closest(seen | listed), kept)
    if rules.any("strike", HEAL, ours):
        medic_left = jnp.any(medic & field.alive[ours], axis=0) & ~pick(facts.strike == HEAL, kept)  # [E, W]
        other = closest(seen)
        target = jnp.where((kept >= 0) & medic_left & (other >= 0), other, target)
    return jnp.where(_fights(rules, facts, field), target, kept)


def _treat(
    rules: Rules,
    facts: Facts,
    field: Field,
    listed: jax.Array,
    kept: jax.Array,
    target: jax.Array,
    speed: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Targets and speeds of enemies [E, W] with medivacs: the weakest unit nearby, at the speed of units around."""
    theirs, ours = rules.theirs, rules.ours
    medic = (facts.strike == HEAL)[theirs]
    x, y, health = field.x[theirs], field.y[theirs], field.health[theirs]
    dx, dy = x[:, None] - x, y[:, None] - y  # [E medivacs, E patients, W]
    distance = jnp.sqrt(dx * dx + dy * dy)
    alive = field.alive[theirs]
    scan = facts.scan[theirs][:, None]
    patients = alive[:, None] & alive & ~facts.flies[theirs]
    patients = patients & (distance <= scan + largest_radius(facts))
    earlier = np.tri(rules.n_enemies, k=-1, dtype=bool)[:, :, None]  # patients that decide before the medivac
    engaged = jnp.where(earlier, target >= 0, kept >= 0)
    needy = patients & (distance < scan + facts.radius[theirs]) & ((health < facts.health[theirs]) | engaged)
    weakest = jnp.argmin(jnp.where(needy, health, jnp.inf), axis=1).astype(jnp.int32) + theirs.start
    found = jnp.where(jnp.any(needy, axis=1), weakest, -1)

    searching = medic & (kept < 0)
    own = jnp.broadcast_to(facts.speed[theirs], alive.shape)
    with_friends = jnp.min(jnp.where(patients, own, jnp.inf), axis=1)
    with_foes = jnp.min(jnp.where(listed, facts.speed[ours], jnp.inf), axis=1)
    pace = jnp.where(searching, with_friends, with_foes)
    speed = jnp.where(medic & jnp.isfinite(pace), pace, speed)
    return jnp.where(searching, found, target), speed


def _move(
    rules: Rules,
    facts: Facts,
    field: Field,
    commands: Commands,
    target: jax.Array,
    victim: jax.Array,
    speed: jax.Array,
) -> Wishes:
    everyone = slice(0, rules.n_units)
    has_victim = victim >= 0
    can_hit = pick(facts.flies, victim) <= facts.hits_air
    attacks = field.alive & has_victim & can_hit & in_range(facts, field, everyone, victim)
    there = jnp.zeros_like(field.x[rules.theirs])
    to_x = rules.join(commands.x, there + commands.point_x)
    to_y = rules.join(commands.y, there + commands.point_y)
    goal_x = jnp.where(has_victim, pick(field.x, victim), to_x)
    goal_y = jnp.where(has_victim, pick(field.y, victim), to_y)
    moves = field.alive & ~attacks & rules.join(commands.kind != STOP, there == 0)
    dx, dy = goal_x - field.x, goal_y - field.y
    length = jnp.sqrt(dx * dx + dy * dy)
    pace = jnp.where(moves & (length > 0), speed / jnp.maximum(length, np.float32(1e-30)), 0.0)
    return Wishes(target, victim, attacks, dx * pace, dy * pace)
