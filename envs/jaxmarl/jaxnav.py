"""JaxNav (Rutherford et al., 2024): robots drive to their goals through a random map, seeing by lidar.

Its discrete form, with JaxMARL's reward shared in full (`rew_lambda` 0): the mean over robots of progress, 4 for the
goal, -4 for a crash, and small costs. Robots stop where they crash or arrive; an episode ends when all have.

Axes in comments: A robots.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.envs.jaxmarl.env import (
    JaxMarl,
    Outcome,
    World,
    by_agent,
    check_limit,
    packing,
    rows,
    simulator,
    sized,
)
from gpgrad.errors import SettingError

NUMERICS = 1

N_ACTIONS = 15  # three speeds by five turns
GOAL, PROGRESS = 4.0, 0.25  # rewards of the goal, and of a unit of distance


def jaxnav(
    n_agents: int = 2,
    map_size: int = 11,
    fill: float = 0.3,
    beams: int = 200,
    episode_limit: int = 500,
    name: str = "jaxnav",
) -> JaxMarl:
    """JaxNav on random grids (JaxMARL's Grid-Rand-Poly).

    n_agents: number of robots. map_size: cells of a side, with the border. fill: fraction of cells with obstacles.
    beams: of each robot's lidar. episode_limit: steps, then an episode is truncated.
    """
    check_limit(episode_limit)
    for option, value, least in (("n_agents", n_agents, 1), ("map_size", map_size, 5), ("beams", beams, 1)):
        if value < least:
            raise SettingError(f"{option} must be {least} or more (got {value})")
    if not 0 <= fill < 1:
        raise SettingError(f"fill must be 0 or more and less than 1 (got {fill})")
    return JaxMarl(_jaxnav(n_agents, map_size, float(fill), beams, episode_limit), name)


@functools.cache
def _jaxnav(n_agents: int, size: int, fill: float, beams: int, limit: int) -> World:
    game = simulator(
        "jaxnav",
        num_agents=n_agents,
        act_type="Discrete",
        rew_lambda=0.0,
        map_params={"map_size": (size, size), "fill": fill},
        lidar_num_beams=beams,
        max_steps=limit,
    )
    # One more step than an episode has: JaxMARL's `ep_done` is then never the limit's.
    game.max_steps = limit + 1
    pack, unpack = packing(game, {"step": jnp.int16, "map_data": jnp.int8}, zero=("rew_lambda", "term"))

    def step(key: jax.Array, state: Any, actions: jax.Array) -> Outcome:
        """info: won, all robots arrived; arrived and crashed, the number of robots that did in this step."""
        _, after, rewards, _, _ = game.step_env(key, state, by_agent(game, actions))
        told = {
            "won": after.ep_done & jnp.all(after.goal_reached),
            "arrived": jnp.sum(after.goal_reached & ~state.goal_reached, dtype=jnp.int32),
            "crashed": jnp.sum(after.move_term & ~state.move_term, dtype=jnp.int32),
        }
        return Outcome(after, rewards[game.agents[0]], after.ep_done, told)

    return sized(
        World(
            game=game,
            spec=EnvSpec(
                "",
                n_agents,
                N_ACTIONS,
                0,
                0,
                0,
                limit,
                has_win=True,
                return_scale=GOAL + PROGRESS * math.hypot(size, size),
                ends_early=True,
            ),
            reset=lambda key: game.reset(key)[1],
            step=step,
            over=lambda state: state.ep_done,
            obs=lambda state: rows(game, game.get_obs(state)),
            summary=lambda state, obs: game.get_world_state(state)[0, n_agents : -obs.shape[1]],
            pack=pack,
            unpack=unpack,
        )
    )
