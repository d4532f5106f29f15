"""SMAX battles as JaxMARL's states."""

from __future__ import annotations

import jax.numpy as jnp

from gpgrad.envs import jaxmarl_import
from gpgrad.envs.smax import rules as smax_rules
from gpgrad.envs.smax.battle import SmaxState
from gpgrad.envs.smax.env import Smax


def jaxmarl_state(env: Smax, reference, state: SmaxState):
    """JaxMARL's state of a battle."""
    enemies = jaxmarl_import.load("environments.smax.heuristic_enemy_smax_env")
    policy = jaxmarl_import.load("environments.smax.heuristic_enemy")
    rules = env.rules
    moves, attacks = reference._env._decode_discrete_actions(state.action.astype(jnp.int32))
    inner = jaxmarl_import.load(smax_rules.SMAX).State(
        done=jnp.zeros((), bool),
        step=state.time.astype(jnp.int32),
        unit_positions=jnp.stack([state.x, state.y], -1),
        unit_alive=state.health > 0,
        unit_teams=(jnp.arange(rules.n_units) >= rules.n_allies).astype(jnp.float32),
        unit_health=state.health.astype(jnp.float32),
        unit_types=jnp.asarray(rules.types),
        unit_weapon_cooldowns=state.cooldown,
        prev_movement_actions=moves,
        prev_attack_actions=attacks,
    )
    memory = policy.HeuristicPolicyState(state.target.T, state.attacked.astype(jnp.int32))
    return enemies.State(inner, memory)
