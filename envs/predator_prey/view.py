"""Observations and global state of predator-prey: 0/1 maps with channels for predators, stags and hares.

Axes in comments: A predators, P prey, E both, U actions, W window cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import OneHot
from gpgrad.envs.board import GONE, NO_TARGET, is_in

if TYPE_CHECKING:
    from gpgrad.envs.predator_prey.env import PredatorPrey, PredatorPreyState


def available(env: PredatorPrey, state: PredatorPreyState) -> jax.Array:
    """Available actions, bool [A, U]."""
    around = env.board.around(state.agents)  # [A, 4]
    living = jnp.where(state.alive, env.board.cell(state.prey), GONE)
    catch = jnp.any(is_in(around, living), axis=1, keepdims=True)
    rest = jnp.ones_like(catch)
    on = state.active[:, None]
    return jnp.concatenate([(around != NO_TARGET) & on, rest, catch & on], axis=1)


def windows(env: PredatorPrey, state: PredatorPreyState) -> jax.Array:
    """Observations, float32 [A, O]."""
    side = 2 * env.view_radius + 1
    positions = jnp.concatenate([state.agents, state.prey]).astype(jnp.int32)  # [E, 2]
    present = jnp.concatenate([state.active, state.alive])
    offset = positions - state.agents[:, None].astype(jnp.int32) + env.view_radius  # [A, E, 2]
    seen = jnp.all((offset >= 0) & (offset < side), axis=-1) & present & state.active[:, None]
    place = jnp.where(seen, offset[..., 0] * side + offset[..., 1], NO_TARGET)  # [A, E]

    # A chain of comparisons per channel fuses into one vectorised pass that only writes the result. This is many times
    # faster than contracting one-hot offsets and, unlike a scatter, also fast on accelerators.
    window = jnp.arange(side * side)
    channels = []
    for members in _channels(env):
        hit = jnp.zeros((env.n_agents, side * side), bool)  # [A, W]
        for entity in members:
            hit = hit | (place[:, entity, None] == window)
        channels.append(hit)
    return jnp.stack(channels, axis=-1).reshape(env.n_agents, -1).astype(jnp.float32)


def global_state(env: PredatorPrey, state: PredatorPreyState) -> OneHot:
    """The global state, index [E]."""
    size = 3 * env.height * env.width
    dtype = jnp.int16 if size < np.iinfo(np.int16).max else jnp.int32
    channel = np.repeat(np.arange(3), [len(members) for members in _channels(env)])  # [E]
    cells = env.board.cell(jnp.concatenate([state.agents, state.prey]))
    present = jnp.concatenate([state.active, state.alive])
    return OneHot(jnp.where(present, cells * 3 + channel, size).astype(dtype), size)


def _channels(env: PredatorPrey) -> tuple[range, range, range]:
    """Indices of the entities of each channel, in the order predators, stags, hares."""
    stags = env.n_agents + env.n_stags
    return range(env.n_agents), range(env.n_agents, stags), range(stags, stags + env.n_hares)
