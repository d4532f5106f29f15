"""Observations and global state of a battle, in SMAC's layout (Samvelyan et al., 2019, Section 4).

The replay stores states, not observations, so this runs on every sampled batch.

Axes in comments: N units; A agents; E enemies; U actions; F features of a unit.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import View
from gpgrad.envs.battles.actions import N_NO_TARGET, available, n_targets
from gpgrad.envs.battles.rules import Facts, Rules
from gpgrad.envs.battles.scenarios import units
from gpgrad.envs.battles.scenarios.maps import BOARD
from gpgrad.envs.battles.scenarios.units import HEAL
from gpgrad.envs.battles.state import BattleState, Field, cooldown_seconds, facts, unpack
from gpgrad.envs.battles.ticks.exact import length

MIDDLE = np.float32(BOARD / 2)


def n_traits(rules: Rules) -> tuple[int, int]:
    """Number of features after the health of an agent and of an enemy: shield and type."""
    types = len(rules.kinds) if rules.shown else 0
    ours, theirs = rules.has_shields
    return ours + types, theirs + types


def obs_dim(rules: Rules) -> int:
    """Size of an observation."""
    ours, theirs = n_traits(rules)
    return 4 + rules.n_enemies * (5 + theirs) + (rules.n_agents - 1) * (5 + ours) + 1 + ours


def own_state_dim(rules: Rules) -> int:
    """Size of an agent's part of the state."""
    return 4 + n_traits(rules)[0]


def state_dim(rules: Rules) -> int:
    """Size of the state."""
    enemies = rules.n_enemies * (3 + n_traits(rules)[1])
    n_actions = N_NO_TARGET + n_targets(rules)
    return rules.n_agents * own_state_dim(rules) + enemies + rules.n_agents * n_actions


def observe(rules: Rules, state: BattleState) -> View:
    """The view of one battle, see `env.Battle.view`."""
    types = None if state.types is None else state.types[:, None]
    own = Facts(*(jnp.asarray(column)[:, 0] for column in facts(rules, types)))  # [N]
    field = unpack(rules, state)
    avail = available(rules, own, field.x, field.y, field.alive)  # [U, A]
    traits = [_traits(rules, own, field, types, side) for side in (0, 1)]
    return View(
        obs=_observations(rules, field, avail, *traits),
        avail=avail.T,
        state=_overview(rules, own, field, state.last, *traits),
    )


def _traits(rules: Rules, own: Facts, field: Field, types: jax.Array | None, side: int) -> list[jax.Array]:
    """Health, shield and type of one side's units [A] or [E], in the order of agents or enemies."""
    chosen = rules.theirs if side else rules.agent_units
    found = [field.health[chosen] / own.health[chosen]]
    if rules.has_shields[side]:
        most = own.shield[chosen]
        found.append(field.shield[chosen] / jnp.where(most > 0, most, 1.0))
    if rules.shown:
        kind = rules.types if types is None else types[:, 0]
        assert kind is not None
        found.extend((kind[chosen] == number).astype(jnp.float32) for number in range(len(rules.kinds)))
    return found


def _observations(
    rules: Rules, field: Field, avail: jax.Array, ours: list[jax.Array], theirs: list[jax.Array]
) -> jax.Array:
    """Observations, float32 [A, O]."""
    own, n_agents = rules.agent_units, rules.n_agents
    sight = np.float32(rules.switches.sight)
    x, y, alive = field.x[own], field.y[own], field.alive[own]

    def block(units: np.ndarray | slice, first: jax.Array, traits: list[jax.Array]) -> jax.Array:  # [A, others, F]
        dx, dy = field.x[units] - x[:, None], field.y[units] - y[:, None]
        far = length(dx, dy)
        seen = (far < sight) & field.alive[units] & alive[:, None]
        planes = [first, far / sight, dx / sight, dy / sight, *traits]
        return jnp.stack([jnp.where(seen, plane, 0.0) for plane in planes], axis=-1)

    offers = avail[N_NO_TARGET : N_NO_TARGET + rules.n_enemies].T.astype(jnp.float32)  # [A, E]
    enemies = block(rules.theirs, offers, theirs)
    everyone = block(own, jnp.ones((n_agents, n_agents)), ours)
    earlier = (np.arange(n_agents - 1) < np.arange(n_agents)[:, None])[..., None]  # [A, A - 1], without oneself
    friends = jnp.where(earlier, everyone[:, :-1], everyone[:, 1:])
    itself = jnp.where(alive[:, None], jnp.stack(ours, axis=-1), 0.0)
    moves = avail[N_NO_TARGET - 4 : N_NO_TARGET].T.astype(jnp.float32)
    return jnp.concatenate([moves, enemies.reshape(n_agents, -1), friends.reshape(n_agents, -1), itself], axis=1)


def _overview(
    rules: Rules, own: Facts, field: Field, last: jax.Array, ours: list[jax.Array], theirs: list[jax.Array]
) -> jax.Array:
    """The global state, float32 [D]."""

    def block(units: np.ndarray | slice, extra: list[jax.Array], traits: list[jax.Array]) -> jax.Array:
        place = [(z[units] - MIDDLE) / BOARD for z in (field.x, field.y)]
        rows = jnp.stack([traits[0], *extra, *place, *traits[1:]], axis=-1)
        return jnp.where(field.alive[units][:, None], rows, 0.0).reshape(-1)

    agents = rules.agent_units
    waits = own.seconds > 0
    ready = jnp.where(waits, cooldown_seconds(own, field.cooldown) / jnp.where(waits, own.seconds, 1.0), 0.0)
    ready = jnp.where(own.strike == HEAL, field.energy / np.float32(units.ENERGY_MOST), ready)[agents]
    acted = last.astype(jnp.int32)[:, None] == np.arange(N_NO_TARGET + n_targets(rules))
    return jnp.concatenate(
        [block(agents, [ready], ours), block(rules.theirs, [], theirs), acted.reshape(-1).astype(jnp.float32)]
    )
