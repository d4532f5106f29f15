"""Battles as tables with one row per unit, for recordings of other programs.

Float columns: x, y, vx, vy, health, shield, energy, cooldown and shield wait in seconds, healing pool. Integer columns:
alive, target, command (-1 none, 0 stop, 1 move, 2 attack a unit, 3 attack-move), the commanded unit, attacking (0
between ticks). Rows are units in their fixed order; unit -1 means none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.actions import N_NO_TARGET, STAND
from gpgrad.envs.battles.rules import Facts, Rules
from gpgrad.envs.battles.scenarios.units import HEAL, TICKS_PER_SECOND
from gpgrad.envs.battles.state import BattleState, Field, cooldown_seconds, pack, unpack
from gpgrad.envs.battles.ticks.targets import ATTACK, MOVE, STOP

FLOATS = ("x", "y", "vx", "vy", "health", "shield", "energy", "cooldown", "shield_wait", "heal_pool")
INTEGERS = ("alive", "target", "command", "command_target", "attacking")
ATTACK_MOVE = 3
_SLACK = 1e-3  # ticks; the recorded seconds are decremented in float32


def from_table(rules: Rules, floats: jax.Array, ints: jax.Array) -> BattleState:
    """The state of a table, floats [N, 10] and integers [N, 5], at time 0.

    A table has no last actions; they are derived from its commands. A move has the direction of the velocity, and dead
    units have no-op.
    """
    floats, ints = jnp.asarray(floats, jnp.float32), jnp.asarray(ints).astype(jnp.int32)
    x, y, vx, vy, health, shield, energy, cooldown, wait, pool = floats.T
    alive, target, command, commanded, attacks = ints.T
    living = alive == 1
    ticks = lambda seconds: jnp.ceil(seconds * TICKS_PER_SECOND - _SLACK).astype(jnp.int32)  # noqa: E731
    kept = health if rules.switches.raises else jnp.where(living, health, 0.0)
    field = Field(x, y, vx, vy, kept, shield, energy, pool, ticks(cooldown), ticks(wait), target, attacks == 1, living)
    own = rules.agent_units
    level = jnp.abs(vx) > jnp.abs(vy)
    heading = jnp.where(level, jnp.where(vx > 0, 4, 5), jnp.where(vy > 0, 2, 3))
    agents = jnp.full(rules.n_units, -1, jnp.int32).at[own].set(np.arange(len(own), dtype=np.int32))
    victim = jnp.where(commanded >= 0, jnp.maximum(commanded, 0), 0)
    number = jnp.where(agents[victim] >= 0, agents[victim], victim - rules.theirs.start)
    action = jnp.select(
        [~living, command == STOP, command == MOVE, command == ATTACK],
        [jnp.zeros_like(command), jnp.full_like(command, STAND), heading, N_NO_TARGET + number],
        -1,
    )
    return pack(rules, field, action[own].astype(jnp.int8), jnp.zeros((), jnp.int16))


def to_table(rules: Rules, state: BattleState) -> tuple[jax.Array, jax.Array]:
    """The table of a state, float32 [N, 10] and int32 [N, 5]. Dead units have no command."""
    field = unpack(rules, state)
    types = rules.types if state.types is None else state.types
    own_facts = Facts(*(jnp.asarray(column)[types] for column in rules.table))
    cooldown = cooldown_seconds(own_facts, field.cooldown)
    floats = [field.x, field.y, field.vx, field.vy, field.health, field.shield, field.energy]
    floats += [cooldown, field.wait / TICKS_PER_SECOND, field.pool]

    own = rules.agent_units
    last = state.last.astype(jnp.int32)
    target = last - N_NO_TARGET
    heals = own_facts.strike[own] == HEAL
    commanded = jnp.where(heals, jnp.asarray(own)[jnp.clip(target, 0, len(own) - 1)], rules.theirs.start + target)
    kind = jnp.select([last <= 0, last == STAND, target < 0], [-1, STOP, MOVE], ATTACK)
    commanded = jnp.where(kind == ATTACK, commanded, -1)
    none = jnp.full(rules.n_units, -1, jnp.int32)
    command = none.at[rules.theirs].set(ATTACK_MOVE).at[own].set(kind)
    ints = [field.alive, field.target, command, none.at[own].set(commanded), jnp.zeros_like(none)]
    return jnp.stack(floats, -1), jnp.stack([column.astype(jnp.int32) for column in ints], -1)
