"""JaxMARL's small environments: the switch riddle, the coin game, and one particle that seeks a landmark.

Axes in comments: A agents.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.envs.jaxmarl.env import (
    NEVER,
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


def switch_riddle(n_agents: int = 3, episode_limit: int | None = None, name: str = "switch_riddle") -> JaxMarl:
    """The switch riddle (Foerster et al., 2016): prisoners visit a room with a light one by one.

    Telling that all have been there earns 1, or -1 if it is wrong, and ends the episode. The reward is equal for all.

    n_agents: prisoners, 3 or more. episode_limit: steps; None for the paper's 4 n_agents - 6.
    """
    if n_agents < 3:
        raise SettingError(f"n_agents must be 3 or more (got {n_agents})")
    limit = 4 * n_agents - 6 if episode_limit is None else episode_limit
    check_limit(limit)
    return JaxMarl(_switch_riddle(n_agents, limit), name)


@functools.cache
def _switch_riddle(n_agents: int, limit: int) -> World:
    game = simulator("switch_riddle", num_agents=n_agents)
    game.max_steps = NEVER
    count = jnp.int8 if n_agents < 128 else jnp.int32
    pack, unpack = packing(game, {"step": jnp.int16, "agent_in_room": count, "has_been": jnp.int8})

    def step(key: jax.Array, state: Any, actions: jax.Array) -> Outcome:
        _, after, rewards, dones, _ = game.step_env(key, state, by_agent(game, actions))
        return Outcome(after, rewards[game.agents[0]], dones["__all__"], {})

    # Terminal for the learner, as in JaxMARL: with a bootstrap at the limit, waiting always seems better than telling.
    spec = EnvSpec("", n_agents, 3, 0, 0, 0, limit, limit_is_terminal=True, ends_early=True)
    return sized(
        World(
            game=game,
            spec=spec,
            reset=lambda key: game.reset(key)[1],
            step=step,
            over=lambda state: state.done,
            obs=lambda state: rows(game, game.get_obs(state)),
            summary=_riddle_state,
            pack=pack,
            unpack=unpack,
        )
    )


def _riddle_state(state: Any, obs: jax.Array) -> jax.Array:
    """Who is in the room, who has been there, and whether the light is on, float32 [2 * A + 1]."""
    inside = obs[:, 0]
    return jnp.concatenate([inside, state.has_been.astype(jnp.float32), state.bulb_state.astype(jnp.float32)[None]])


def coin_game(episode_limit: int = 10, name: str = "coin_game") -> JaxMarl:
    """The coin game (Lerer and Peysakhovich, 2017) with JaxMARL's shared rewards, the sum of both agents'.

    A coin of one's own colour is worth 1 to the team, one of the other's colour 1 - 2 = -1.

    episode_limit: steps after which an episode is truncated.
    """
    check_limit(episode_limit)
    return JaxMarl(_coin_game(episode_limit), name)


@functools.cache
def _coin_game(limit: int) -> World:
    game = simulator("coin_game", shared_rewards=True, num_inner_steps=NEVER, num_outer_steps=1)
    places = ("red_pos", "blue_pos", "red_coin_pos", "blue_coin_pos")
    statistics = ("red_coop", "red_defect", "blue_coop", "blue_defect", "counter", "coop1", "coop2", "last_state")
    pack, unpack = packing(
        game, {"step": jnp.int16, **dict.fromkeys(places, jnp.int8)}, zero=("done", "outer_t", *statistics)
    )

    def step(key: jax.Array, state: Any, actions: jax.Array) -> Outcome:
        _, after, rewards, _, _ = game.step_env(key, state, by_agent(game, actions))
        return Outcome(after, rewards[game.agents[0]], jnp.zeros((), bool), {})

    return sized(
        World(
            game=game,
            spec=EnvSpec("", 2, 5, 0, 0, 0, limit, return_scale=2.0 * limit),
            reset=lambda key: game.reset(key)[1],
            step=step,
            obs=lambda state: rows(game, game.get_obs(state)),
            summary=lambda state, obs: obs[0],  # places of both agents and coins; the other agent sees the same
            pack=pack,
            unpack=unpack,
        )
    )


def simple(episode_limit: int = 25, name: str = "simple") -> JaxMarl:
    """MPE's simplest scenario (Lowe et al., 2017).

    One agent, whose reward is minus its squared distance to a landmark.

    episode_limit: steps after which an episode is truncated.
    """
    check_limit(episode_limit)
    return JaxMarl(_simple(episode_limit), name)


@functools.cache
def _simple(limit: int) -> World:
    game = simulator("MPE_simple_v3", max_steps=NEVER)
    pack, unpack = packing(game, {"step": jnp.int16}, zero=("done", "c"))

    def step(key: jax.Array, state: Any, actions: jax.Array) -> Outcome:
        _, after, rewards, _, _ = game.step_env(key, state, by_agent(game, actions))
        return Outcome(after, rewards["agent_0"], jnp.zeros((), bool), {})

    return sized(
        World(
            game=game,
            spec=EnvSpec("", 1, 5, 0, 0, 4, limit, return_scale=float(limit)),
            reset=lambda key: game.reset(key)[1],
            step=step,
            obs=lambda state: rows(game, game.get_obs(state)),
            pack=pack,
            unpack=unpack,
        )
    )
