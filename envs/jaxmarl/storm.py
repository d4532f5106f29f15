"""STORM (Khan et al., 2023): agents collect coins of two kinds, then play a matrix game with what they have.

Its games with different rewards, such as the prisoner's dilemma, are not a team's. Offered are those with one payoff
for both players, named as in Melting Pot: `pure` coordination, where both kinds are equally good, and `rationalizable`
coordination, where the first is better.

Axes in comments: A agents.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import EnvSpec
from gpgrad.envs.jaxmarl.env import (
    NEVER,
    JaxMarl,
    Outcome,
    World,
    by_agent,
    check_limit,
    packing,
    simulator,
    sized,
)
from gpgrad.errors import SettingError

NUMERICS = 1

PAYOFFS = {"pure": ((1, 0), (0, 1)), "rationalizable": ((2, 0), (0, 1))}
FREEZE = 5  # steps that an interaction takes
LIMIT = 152


def storm(payoff: str = "pure", fixed_coins: bool = True, episode_limit: int = LIMIT, name: str = "storm") -> JaxMarl:
    """JaxMARL's `storm` with two agents. (With more, it overwrites the reward of one pair by another's.)

    payoff: pure or rationalizable. fixed_coins: whether coins start at fixed places.
    episode_limit: steps after which an episode is truncated.
    """
    _check(payoff, episode_limit)
    return JaxMarl(_storm("storm", payoff, 2, fixed_coins, episode_limit), name)


def storm_2p(
    payoff: str = "pure", fixed_coins: bool = True, episode_limit: int = LIMIT, name: str = "storm_2p"
) -> JaxMarl:
    """JaxMARL's `storm_2p`: as `storm`, but the coins return after each interaction.

    payoff: pure or rationalizable. fixed_coins: whether coins start at fixed places.
    episode_limit: steps after which an episode is truncated.
    """
    _check(payoff, episode_limit)
    return JaxMarl(_storm("storm_2p", payoff, 2, fixed_coins, episode_limit), name)


def storm_np(payoff: str = "pure", n_agents: int = 2, episode_limit: int = LIMIT, name: str = "storm_np") -> JaxMarl:
    """JaxMARL's `storm_np` for two or more agents, whose team reward is the mean over agents.

    payoff: pure or rationalizable. n_agents: 2 to 20. episode_limit: steps after which an episode is truncated.
    """
    _check(payoff, episode_limit)
    if not 2 <= n_agents <= 20:
        raise SettingError(f"n_agents must be between 2 and 20 (got {n_agents})")
    return JaxMarl(_storm("storm_np", payoff, n_agents, False, episode_limit), name)


def _check(payoff: str, episode_limit: int) -> None:
    check_limit(episode_limit)
    if payoff not in PAYOFFS:
        raise SettingError(
            f"payoff must be pure or rationalizable (got {payoff!r}): in STORM's other games agents earn different "
            "rewards, and a team has one"
        )


@functools.cache
def _storm(form: str, payoff: str, n_agents: int, fixed_coins: bool, limit: int) -> World:
    game = simulator(
        form,
        num_agents=n_agents,
        payoff_matrix=np.array([PAYOFFS[payoff]] * 2),
        fixed_coin_location=fixed_coins,
        num_inner_steps=NEVER,
    )
    pack, unpack = packing(game, _DTYPES[form], zero=("done", "outer_t"))
    look = LOOKS[form]

    def step(key: jax.Array, state: Any, actions: jax.Array) -> Outcome:
        _, after, rewards, _, _ = game.step_env(key, state, by_agent(game, actions))
        earned = jnp.stack([rewards[agent] for agent in game.agents]).astype(jnp.float32)
        return Outcome(after, earned.mean(), jnp.zeros((), bool), {"interaction": jnp.any(earned > 0)})

    most = float(np.max(PAYOFFS[payoff]) * max(1, limit // FREEZE))
    return sized(
        World(
            game=game,
            spec=EnvSpec("", n_agents, game.num_actions, 0, 0, 0, limit, return_scale=most),
            reset=lambda key: game.reset(key)[1],
            step=step,
            obs=lambda state: look(game.get_obs(state)),
            pack=pack,
            unpack=unpack,
        )
    )


def _together(seen: Any) -> jax.Array:
    """Of `storm`: the grid [A, ...], and five rows of the inventories that all agents see, as JaxMARL has them."""
    grid = seen["observations"].astype(jnp.float32)
    a = len(grid)
    own, shown = seen["inventory"][:2].T, seen["inventory"][2:].ravel()  # the first two rows are each agent's own
    parts = (grid.reshape(a, -1), own, jnp.broadcast_to(shown, (a, len(shown))))
    return jnp.concatenate([part.astype(jnp.float32) for part in parts], -1)


def _apart(seen: Any) -> jax.Array:
    """Of `storm_2p`: each agent's grid and inventory."""
    each = [jnp.concatenate([one["observation"].ravel(), one["inventory"].astype(jnp.float32)]) for one in seen]
    return jnp.stack(each).astype(jnp.float32)


def _grids(seen: Any) -> jax.Array:
    """Of `storm_np`: each agent's grid."""
    return seen.reshape(len(seen), -1).astype(jnp.float32)


LOOKS: dict[str, Callable[[Any], jax.Array]] = {"storm": _together, "storm_2p": _apart, "storm_np": _grids}
_TIMERS = {"step": jnp.int16, "coin_timer_coop": jnp.int16, "coin_timer_defect": jnp.int16}
_DTYPES: dict[str, dict[str, Any]] = {
    "storm": {**_TIMERS, "agent_inventories": jnp.int16},
    "storm_2p": {"step": jnp.int16, "red_inventory": jnp.int16, "blue_inventory": jnp.int16},
    "storm_np": {
        "step": jnp.int16,
        "agent_locs": jnp.int8,
        "grid": jnp.int8,
        "red_coins": jnp.int8,
        "blue_coins": jnp.int8,
    },
}
