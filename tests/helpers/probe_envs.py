"""Environments that are small enough to know the optimal values."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec, Step, View


class ProbeState(NamedTuple):
    time: jax.Array  # int8 []
    cue: jax.Array  # int8 [], 0 or 1


class Probe:
    """Two agents, two actions, observation (cue shown, 1, time / limit) or without the cue.

    kind: `constant` pays 1 at every step; `observation` pays what the cue says; `discount` pays 1 on the last of
    two steps; `action` pays 1 where both agents choose action 1; `memory` pays 1 on the last step where both repeat
    the cue that only the first step shows.
    """

    LIMITS = {"constant": 1, "observation": 1, "discount": 2, "action": 1, "memory": 3}

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.limit = self.LIMITS[kind]

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(f"probe_{self.kind}", 2, 2, 3, 3, 0, self.limit)

    def params(self, key):
        del key
        return ()

    def reset(self, key, params):
        del params
        return ProbeState(jnp.zeros((), jnp.int8), jax.random.bernoulli(key).astype(jnp.int8))

    def step(self, key, params, state, actions):
        del key, params
        last = state.time == self.limit - 1
        reward = {
            "constant": jnp.float32(1),
            "observation": state.cue.astype(jnp.float32),
            "discount": last.astype(jnp.float32),
            "action": jnp.all(actions == 1).astype(jnp.float32),
            "memory": (last & jnp.all(actions == state.cue)).astype(jnp.float32),
        }[self.kind]
        after = state._replace(time=state.time + jnp.int8(1))
        return Step(after, reward, last, jnp.zeros((), bool), {})

    def view(self, params, state):
        del params
        shown = (state.time == 0) & (self.kind in ("observation", "memory"))
        features = jnp.stack([jnp.where(shown, 2.0 * state.cue - 1.0, 0.0), 1.0, state.time / self.limit])
        features = features.astype(jnp.float32)
        return View(jnp.tile(features, (2, 1)), jnp.ones((2, 2), bool), features)
