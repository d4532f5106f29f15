"""The constants of SMAX: unit types, maps, start positions; read from JaxMARL when an environment is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs import jaxmarl_import
from gpgrad.errors import SettingError, suggest

SMAX = "environments.smax.smax_env"
N_TYPES = 6
MARINE, MARAUDER, STALKER, ZEALOT, ZERGLING, HYDRALISK = range(N_TYPES)
# Maps of the papers that JaxMARL lacks but has the units for: types of allies and of enemies.
ADDED = {
    "5m": ([MARINE] * 5, [MARINE] * 5),
    "15m": ([MARINE] * 15, [MARINE] * 15),
    "9z": ([ZEALOT] * 9, [ZEALOT] * 9),
    "3s6z": ([STALKER] * 3 + [ZEALOT] * 6, [STALKER] * 3 + [ZEALOT] * 6),
    "8m_vs_9m": ([MARINE] * 8, [MARINE] * 9),
}


class Rules(NamedTuple):
    """A map and its units.

    types: uint8 [N], allies first; None if a reset samples them.
    velocity, attack, range, sight, radius, health, cooldown: float32 [6], by type.
    width, height: of the map.
    ticks, dt: ticks per step, and seconds per tick.
    scatter(key) -> float32 [N, 2]: sampled start positions; None if the teams face each other.
    draw_types(key) -> uint8 [N]: sampled types.
    """

    n_allies: int
    n_enemies: int
    types: np.ndarray | None
    velocity: np.ndarray
    attack: np.ndarray
    range: np.ndarray
    sight: np.ndarray
    radius: np.ndarray
    health: np.ndarray
    cooldown: np.ndarray
    width: float
    height: float
    ticks: int
    dt: float
    scatter: Callable[[jax.Array], jax.Array] | None
    draw_types: Callable[[jax.Array], jax.Array]

    @property
    def n_units(self) -> int:
        """Number of all units."""
        return self.n_allies + self.n_enemies


def scenario(name: str):
    """JaxMARL's scenario of a map; maps in `ADDED` are registered with JaxMARL first. Raises SettingError."""
    smax = jaxmarl_import.load(SMAX)
    known = smax.MAP_NAME_TO_SCENARIO
    if name in ADDED and name not in known:
        allies, enemies = ADDED[name]
        with jax.ensure_compile_time_eval():
            types = jnp.array(allies + enemies, jnp.uint8)
        smax.register_scenario(name, smax.Scenario(types, len(allies), len(enemies), False, False))
    if name not in known:
        raise SettingError(f"SMAX has no map {name!r}" + suggest(name, [*known, *ADDED]))
    return smax.map_name_to_scenario(name)


@functools.cache
def rules(name: str) -> Rules:
    """The constants of a map. Raises SettingError for an unknown map."""
    chosen = scenario(name)
    with jax.ensure_compile_time_eval():
        env = jaxmarl_import.load(SMAX).SMAX(scenario=chosen)
        return Rules(
            n_allies=env.num_allies,
            n_enemies=env.num_enemies,
            types=None if env.smacv2_unit_type_generation else np.asarray(chosen.unit_types, np.uint8),
            velocity=np.asarray(env.unit_type_velocities, np.float32),
            attack=np.asarray(env.unit_type_attacks, np.float32),
            range=np.asarray(env.unit_type_attack_ranges, np.float32),
            sight=np.asarray(env.unit_type_sight_ranges, np.float32),
            radius=np.asarray(env.unit_type_radiuses, np.float32),
            health=np.asarray(env.unit_type_health, np.float32),
            cooldown=np.asarray(env.unit_type_weapon_cooldowns, np.float32),
            width=float(env.map_width),
            height=float(env.map_height),
            ticks=env.world_steps_per_env_step,
            dt=float(env.time_per_step),
            scatter=env.position_generator.generate if env.smacv2_position_generation else None,
            draw_types=env.unit_type_generator.generate,
        )
