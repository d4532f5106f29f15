"""Overcooked (Carroll et al., 2019) and OvercookedV2 (Gessler et al., 2025) of JaxMARL.

All agents earn JaxMARL's reward of a delivered soup, 20. Soups are rare under random play, and JaxMARL's own baselines
add its shaped rewards in training; `shaping` does that here.

Axes in comments: A agents.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gpgrad.envs import jaxmarl_import
from gpgrad.envs.api import EnvSpec
from gpgrad.envs.jaxmarl.env import (
    JaxMarl,
    Outcome,
    World,
    by_agent,
    check_limit,
    check_one_of,
    packing,
    rows,
    simulator,
    sized,
)
from gpgrad.errors import SettingError

NUMERICS = 1

N_ACTIONS = 6  # four moves, stay, interact
SOUP = 20.0  # reward
COOKING = 20  # steps, the least between two soups of one pot
SHAPED = 3 * 3 + 3 + 5  # JaxMARL's shaped reward of a soup: three ingredients, a plate, the soup on the plate


def overcooked(
    layout: str = "cramped_room",
    shaping: float = 0.0,
    random_reset: bool = False,
    episode_limit: int = 400,
    name: str = "overcooked",
) -> JaxMarl:
    """Overcooked with two cooks.

    layout: cramped_room, asymm_advantages, coord_ring, forced_coord or counter_circuit.
    shaping: factor of JaxMARL's shaped rewards, summed over agents and added to the reward.
    random_reset: whether places, hands and pots are random at the start.
    episode_limit: steps after which an episode is truncated.
    """
    check_limit(episode_limit)
    layouts = jaxmarl_import.load("environments.overcooked.layouts").overcooked_layouts
    check_one_of("layout", layout, layouts)
    _check_shaping(shaping)
    return JaxMarl(_overcooked(layout, float(shaping), random_reset, episode_limit), name)


@functools.cache
def _overcooked(layout: str, shaping: float, random_reset: bool, limit: int) -> World:
    layouts = jaxmarl_import.load("environments.overcooked.layouts").overcooked_layouts
    game = simulator("overcooked", layout=layouts[layout], random_reset=random_reset, max_steps=limit)
    places = ("agent_pos", "agent_dir_idx", "agent_inv", "goal_pos", "pot_pos")
    dtypes = {"step": jnp.int16, **dict.fromkeys(places, jnp.int8)}
    return _kitchen(game, len(layouts[layout]["pot_idx"]), shaping, limit, dtypes)


def overcooked_v2(
    layout: str = "cramped_room",
    shaping: float = 0.0,
    agent_view_size: int | None = None,
    negative_rewards: bool = False,
    sample_recipe_on_delivery: bool = False,
    indicate_successful_delivery: bool = False,
    random_reset: bool = False,
    random_agent_positions: bool = False,
    start_cooking_interaction: bool = False,
    episode_limit: int = 400,
    name: str = "overcooked_v2",
) -> JaxMarl:
    """OvercookedV2, with recipes, partial views and layouts for two or more cooks.

    layout: a name in JaxMARL's `overcooked_v2_layouts`.
    shaping: factor of JaxMARL's shaped rewards, summed over agents and added to the reward.
    agent_view_size: cells that agents see in each direction, None for all.
    negative_rewards: whether a wrong soup costs 20.
    sample_recipe_on_delivery: whether each delivery changes the recipe.
    indicate_successful_delivery: whether agents see that a delivery was right.
    random_reset: whether places, hands and pots are random at the start.
    random_agent_positions: whether places are random at the start.
    start_cooking_interaction: whether a full pot must be started.
    episode_limit: steps after which an episode is truncated.
    """
    check_limit(episode_limit)
    check_one_of("layout", layout, jaxmarl_import.load("environments.overcooked_v2.layouts").overcooked_v2_layouts)
    _check_shaping(shaping)
    if agent_view_size is not None and agent_view_size < 1:
        raise SettingError(f"agent_view_size must be None or 1 or more (got {agent_view_size})")
    arguments = {
        "agent_view_size": agent_view_size,
        "negative_rewards": negative_rewards,
        "sample_recipe_on_delivery": sample_recipe_on_delivery,
        "indicate_successful_delivery": indicate_successful_delivery,
        "random_reset": random_reset,
        "random_agent_positions": random_agent_positions,
        "start_cooking_interaction": start_cooking_interaction,
    }
    return JaxMarl(_overcooked_v2(layout, float(shaping), episode_limit, tuple(arguments.items())), name)


@functools.cache
def _overcooked_v2(layout: str, shaping: float, limit: int, arguments: tuple[tuple[str, Any], ...]) -> World:
    game = simulator("overcooked_v2", layout=layout, max_steps=limit, **dict(arguments))
    objects = jaxmarl_import.load("environments.overcooked_v2.common").StaticObject
    kinds = game.layout.num_ingredients
    items = jnp.int16 if 2 * (kinds + 1) < 15 else jnp.int32  # two bits for each ingredient, after two others
    small = ("agents.pos.x", "agents.pos.y", "agents.dir")
    dtypes = {
        "step": jnp.int16,
        **dict.fromkeys(small, jnp.int8),
        **dict.fromkeys(("grid", "recipe", "agents.inventory"), items),
    }
    pots = int((game.layout.static_objects == objects.POT).sum())
    return _kitchen(game, pots, shaping, limit, dtypes)


def _kitchen(game: Any, pots: int, shaping: float, limit: int, dtypes: dict[str, Any]) -> World:
    pack, unpack = packing(game, dtypes, zero=("done",))

    def step(key: jax.Array, state: Any, actions: jax.Array) -> Outcome:
        """Episodes have no end but the time limit. info: soup_reward, without shaping; shaped_reward."""
        _, after, rewards, _, info = game.step_env(key, state, by_agent(game, actions))
        soup = rewards[game.agents[0]].astype(jnp.float32)
        shaped = sum(info["shaped_reward"][agent] for agent in game.agents)
        shaped = jnp.asarray(shaped, jnp.float32)
        told = {"soup_reward": soup, "shaped_reward": shaped}
        return Outcome(after, soup + shaping * shaped, jnp.zeros((), bool), told)

    most = pots * max(1.0, limit / COOKING)  # soups
    return sized(
        World(
            game=game,
            spec=EnvSpec("", game.num_agents, N_ACTIONS, 0, 0, 0, limit, return_scale=most * (SOUP + shaping * SHAPED)),
            reset=lambda key: game.reset(key)[1],
            step=step,
            obs=lambda state: rows(game, game.get_obs(state)),
            pack=pack,
            unpack=unpack,
        )
    )


def _check_shaping(shaping: float) -> None:
    if not 0 <= shaping < float("inf"):
        raise SettingError(f"shaping must be 0 or more (got {shaping})")
