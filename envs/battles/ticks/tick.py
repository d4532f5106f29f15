"""One tick, and all ticks of a step, for many battles with environments on the last axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from gpgrad.envs.battles.rules import Facts, Rules
from gpgrad.envs.battles.state import Field
from gpgrad.envs.battles.ticks import avoidance, targets, turns
from gpgrad.envs.battles.ticks.targets import Commands


def tick(rules: Rules, facts: Facts, field: Field, commands: Commands, position: jax.Array) -> tuple[Field, jax.Array]:
    """The field after a tick and its reward [W]. position: rank of each unit in the order of turns, [N, W]."""
    wishes = targets.decide(rules, facts, field, commands)
    velocity = avoidance.avoid(rules, facts, field, wishes)
    return turns.take(rules, facts, field, wishes, velocity, position)


def play(rules: Rules, facts: Facts, field: Field, commands: Commands, positions: jax.Array) -> tuple[Field, jax.Array]:
    """The field after all ticks of a step, and their reward [W]. positions: [ticks, N, W]."""

    def one(carry: tuple[Field, jax.Array], position: jax.Array) -> tuple[tuple[Field, jax.Array], None]:
        now, reward = carry
        after, points = tick(rules, facts, now, commands, position)
        return (after, reward + points), None

    return jax.lax.scan(one, (field, jnp.zeros_like(field.x[0])), positions)[0]


def worlds_last(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of many environments, on the last axis of all arrays, into a function of one environment.

    `jax.vmap` of the result, also nested, merges its axes into the last one. Short axes of units then are outer loops
    and the long axis of environments is the inner one, which vectorises. Loops and branches in `function` stay loops
    and branches, whereas plain `vmap` would execute all branches, and loops with a select around each value.
    """

    @custom_vmap
    def many(*args):
        return function(*args)

    @many.def_vmap
    def merge(size, batched, *args):  # type: ignore[no-untyped-def]
        def enter(leaf: jax.Array, is_batched: bool) -> jax.Array:
            whole = leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))
            return jnp.moveaxis(whole, 0, -2).reshape(*whole.shape[1:-1], size * whole.shape[-1])

        def leave(leaf: jax.Array) -> jax.Array:
            return jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], size, leaf.shape[-1] // size), -2, 0)

        out = jax.tree.map(leave, many(*jax.tree.map(enter, args, tuple(batched))))
        return out, jax.tree.map(lambda _: True, out)

    def one(*args):
        out = many(*jax.tree.map(lambda leaf: jnp.asarray(leaf)[..., None], args))
        return jax.tree.map(lambda leaf: leaf[..., 0], out)

    return one
