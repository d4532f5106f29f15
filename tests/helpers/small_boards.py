"""Small predator-prey boards, states from lists, and deterministic steps."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.predator_prey.env import Draws, PredatorPrey, PredatorPreyParams, PredatorPreyState

KEY = jax.random.key(0)


def predator_prey(n_agents: int, n_stags: int, n_hares: int = 0, **changes) -> PredatorPrey:
    """A small board."""
    settings = {"height": 5, "width": 6, "view_radius": 1, "episode_limit": 50} | changes
    return PredatorPrey(n_agents=n_agents, n_stags=n_stags, n_hares=n_hares, **settings)


def put(agents, prey, *, active=None, alive=None, time=0) -> PredatorPreyState:
    """A state from lists of (row, column)."""
    return PredatorPreyState(
        jnp.array(agents, jnp.int8),
        jnp.array(prey, jnp.int8),
        jnp.array([True] * len(agents) if active is None else active),
        jnp.array([True] * len(prey) if alive is None else alive),
        jnp.array(time, jnp.int16),
    )


def draws(env: PredatorPrey, agents=None, prey=None, choice=None) -> Draws:
    """Draws in which all move in order and prey choose the first free cell, with changes."""
    given = (
        range(env.n_agents) if agents is None else agents,
        range(env.n_prey) if prey is None else prey,
        [0] * env.n_prey if choice is None else choice,
    )
    return Draws(*(jnp.array(list(one), jnp.int32) for one in given))


@functools.cache
def compiled(env: PredatorPrey):
    return jax.jit(env.transition), jax.jit(env.view)


def act(env, state, actions, drawn=None, special=()):
    """One step."""
    mask = jnp.isin(jnp.arange(env.n_agents), jnp.array(special, jnp.int32))
    given = draws(env) if drawn is None else drawn
    return compiled(env)[0](PredatorPreyParams(mask), state, jnp.array(actions), given)


def view_of(env, state):
    return compiled(env)[1](env.params(KEY), state)


def cells(positions) -> list[tuple[int, int]]:
    return [tuple(int(x) for x in position) for position in np.asarray(positions)]
