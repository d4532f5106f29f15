"""Available actions of agents, and the commands of units that actions stand for.

Actions follow SMAC (Samvelyan et al., 2019): 0 no-op, for dead agents only; 1 stop; 2 north, 3 south, 4 east, 5 west;
6 + k attacks enemy k, or heals agent k for a medivac. Arrays may have further axes after that of units.

Axes in comments: A agents; E enemies; U actions; W environments, or nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import Facts, Rules
from gpgrad.envs.battles.scenarios.maps import BOARD
from gpgrad.envs.battles.scenarios.units import HEAL
from gpgrad.envs.battles.state import Field
from gpgrad.envs.battles.ticks.exact import length
from gpgrad.envs.battles.ticks.targets import ATTACK, MOVE, STOP, Commands

NOTHING, STAND = 0, 1
N_NO_TARGET = 6
MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)], np.float32)  # of actions 2 to 5
STRIDE = np.float32(2.0)  # distance of the goal of a move
CLEARANCE = np.float32(1.0)  # distance at which ground must be open for a move to be available
SHOOT = np.float32(6.0)  # distance within which attacks are available, for all unit types


def n_targets(rules: Rules) -> int:
    """Number of actions with a target: one per enemy, or more if allied medivacs need them."""
    if not rules.any("strike", HEAL, rules.ours):
        return rules.n_enemies
    if rules.types is None:
        return max(rules.n_enemies, rules.n_agents)
    patients = rules.table.strike[rules.types[rules.agent_units]] != HEAL
    return max(rules.n_enemies, int(np.flatnonzero(patients).max(initial=-1)) + 1)


def moves_open(rules: Rules, x: jax.Array, y: jax.Array) -> jax.Array:
    """Whether the ground one cell to the north, south, east and west of positions [...] is open, bool [4, ...]."""

    def is_open(move: np.ndarray) -> jax.Array:
        column, row = (jnp.floor(z + CLEARANCE * d).astype(jnp.int32) for z, d in zip((x, y), move, strict=True))
        inside = (column >= 0) & (column < BOARD) & (row >= 0) & (row < BOARD)
        cell = jnp.clip(row, 0, BOARD - 1) * BOARD + jnp.clip(column, 0, BOARD - 1)
        return inside & jnp.asarray(rules.walkable.reshape(-1))[cell]

    return jnp.stack([is_open(move) for move in MOVES])


def available(rules: Rules, facts: Facts, x: jax.Array, y: jax.Array, alive: jax.Array) -> jax.Array:
    """Available actions, bool [U, A, W]. x, y: positions of all units [N, W]. alive: bool [N, W]."""
    own, theirs = rules.agent_units, rules.theirs
    ax, ay, living = x[own], y[own], alive[own]

    def offered(units: np.ndarray | slice) -> jax.Array:  # [units, A, W]
        dx, dy = x[units][:, None] - ax, y[units][:, None] - ay
        return (length(dx, dy) <= SHOOT) & alive[units][:, None] & living

    targets = _padded(offered(theirs), n_targets(rules))
    if rules.any("strike", HEAL, rules.ours):
        healers = jnp.asarray((facts.strike == HEAL)[own])
        patients = _padded(offered(own) & ~healers[:, None], n_targets(rules))
        targets = jnp.where(healers, patients, targets)
    return jnp.concatenate([(~living)[None], living[None], moves_open(rules, ax, ay) & living, targets])


def _padded(rows: jax.Array, size: int) -> jax.Array:
    """Rows [R, ...], truncated or padded with False to [size, ...]."""
    missing = max(0, size - rows.shape[0])
    return jnp.pad(rows[:size], [(0, missing)] + [(0, 0)] * (rows.ndim - 1))


def commands(rules: Rules, facts: Facts, field: Field, actions: jax.Array, point: tuple) -> Commands:
    """The commands of allied units [A, W] for integer actions of agents [A, W]; unavailable actions mean stop.

    point: x and y of the enemies' attack point, [W] or numbers.
    """
    open_to = available(rules, facts, field.x, field.y, field.alive)  # [U, A, W]
    actions = actions.astype(jnp.int32)
    chosen = np.arange(open_to.shape[0])[:, None, None] == actions
    actions = jnp.where(jnp.any(chosen & open_to, axis=0), actions, STAND)

    own = rules.agent_units
    target = actions - N_NO_TARGET
    victim = rules.theirs.start + target
    if rules.any("strike", HEAL, rules.ours):
        patient = jnp.asarray(own)[jnp.clip(target, 0, len(own) - 1)]
        victim = jnp.where((facts.strike == HEAL)[own], patient, victim)
    attacks, moves = target >= 0, (actions > STAND) & (target < 0)
    kind = jnp.where(attacks, ATTACK, jnp.where(moves, MOVE, STOP))
    heading = jnp.asarray(MOVES * STRIDE)[jnp.clip(actions - STAND - 1, 0, len(MOVES) - 1)]  # [A, W, 2]
    x, y = field.x[own] + heading[..., 0], field.y[own] + heading[..., 1]
    victim = jnp.where(attacks, victim, -1)
    by_agent = [kind.astype(jnp.int32), victim.astype(jnp.int32), x, y]
    if not np.all(np.diff(own) == 1):
        agents = np.argsort(own)  # agent of each unit
        by_agent = [column[agents] for column in by_agent]
    return Commands(*by_agent, *(jnp.broadcast_to(jnp.float32(z), field.x.shape[1:]) for z in point))
