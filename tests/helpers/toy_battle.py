"""`tests.helpers.toy_starcraft` as a JAX environment with equal numbers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.envs.external.env import seed_words
from tests.helpers.toy_starcraft import ACTIONS, AGENTS, HEALTH, LIMIT, WIN


class ToyState(NamedTuple):
    health: jax.Array  # int8 [2]
    fort: jax.Array  # int8 []
    time: jax.Array  # int8 []
    luck: jax.Array  # uint32 []


def draw(number: jax.Array) -> jax.Array:
    return number * jnp.uint32(1664525) + jnp.uint32(1013904223)


class ToyBattle:
    def __init__(self, ends_early: bool = False) -> None:
        self.spec = EnvSpec("twin", AGENTS, ACTIONS, 5, 5, 0, LIMIT, True, True, 20.0, ends_early)

    def params(self, key):
        return ()

    def reset(self, key, params):
        low, high = seed_words(key)
        fort = (4 + (low >> 8) % 3).astype(jnp.int8)
        return ToyState(jnp.full(2, HEALTH, jnp.int8), fort, jnp.zeros((), jnp.int8), draw(low ^ high))

    def step(self, key, params, state, actions):
        damage = jnp.minimum((actions == 2).sum(), state.fort).astype(jnp.int8)
        fort, time = state.fort - damage, state.time + jnp.int8(1)
        won = fort == 0
        here = jnp.arange(AGENTS) == self.target(state)
        hit = here & ~won & (state.health > 0) & (actions != 3)
        health = state.health - hit.astype(jnp.int8)
        over, limit = won | ~jnp.any(health > 0), time >= LIMIT
        cut = limit & ~won  # a battle lost at the limit counts as timed out, since the host cannot tell them apart
        ended = over | limit
        dead = jnp.where(ended, (health == 0).sum(), 0).astype(jnp.float32)
        info = {"won": won, "timed_out": cut.astype(jnp.float32), "dead_allies": dead}
        info |= {"dead_enemies": won.astype(jnp.float32)}
        after = ToyState(health, fort, time, draw(state.luck))
        return Step(after, damage + WIN * won.astype(jnp.float32), over & ~cut, cut, info)

    def view(self, params, state):
        alive, target = state.health > 0, self.target(state)
        half = state.health.astype(jnp.float32) / 2
        fort, time = state.fort.astype(jnp.float32) / 8, state.time.astype(jnp.float32) / 8
        mine = (jnp.arange(AGENTS) == target).astype(jnp.float32)
        both = jnp.stack([half, jnp.full(2, fort), jnp.full(2, time), half[::-1], mine], -1)
        avail = jnp.where(alive[:, None], jnp.array([False, True, True, True]), jnp.array([True, False, False, False]))
        whole = jnp.concatenate([half, jnp.stack([fort, time, target.astype(jnp.float32)])])
        return View(jnp.where(alive[:, None], both, 0.0), avail, whole)

    def target(self, state):
        return ((state.luck >> 16) % 2).astype(jnp.int32)
