"""Scripted policies for battles, for measurements of returns and speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.actions import N_NO_TARGET, STAND
from gpgrad.envs.battles.env import Battle
from gpgrad.envs.battles.scenarios.units import HEAL
from gpgrad.envs.battles.state import unpack

FAR = 1e9


def nearest(env: Battle, state, avail: jax.Array) -> jax.Array:
    """Attack the closest enemy that can be attacked, else walk towards the closest, int32 [A].

    Medivacs heal the weakest of the wounded that are offered, else follow the closest agent that is no medivac.
    """
    return _play(env, state, avail, lambda far, health: far)


def focus(env: Battle, state, avail: jax.Array) -> jax.Array:
    """As `nearest`, but attack the weakest enemy that can be attacked."""
    return _play(env, state, avail, lambda far, health: health + far / 1000)


def _play(env: Battle, state, avail, score) -> jax.Array:
    r = env.rules
    field = unpack(r, state)
    own = r.agent_units
    x, y = field.x[own], field.y[own]
    heals = np.zeros(len(own), bool) if r.types is None else (r.table.strike[r.types] == HEAL)[own]

    def gaps(units):
        return field.x[units] - x[:, None], field.y[units] - y[:, None]

    dx, dy = gaps(r.theirs)
    far = jnp.sqrt(dx * dx + dy * dy)
    hurt = field.health[r.theirs][None]
    offered = avail[:, N_NO_TARGET : N_NO_TARGET + r.n_enemies]
    shoot = jnp.argmin(jnp.where(offered, score(far, hurt), FAR), 1)
    can = offered.any(1)
    aim = jnp.argmin(jnp.where(field.alive[r.theirs][None], far, FAR), 1)
    to_x, to_y = (jnp.take_along_axis(d, aim[:, None], 1)[:, 0] for d in (dx, dy))
    if heals.any():
        fx, fy = gaps(own)
        near = jnp.where(field.alive[own][None] & ~heals[None], jnp.sqrt(fx * fx + fy * fy), FAR)
        most = env.rules.table.health[r.types[own]]
        wounded = avail[:, N_NO_TARGET:][:, : len(own)]
        wounded = jnp.pad(wounded, ((0, 0), (0, len(own) - wounded.shape[1])))
        wounded = wounded & (field.health[own] < most)[None]
        patient = jnp.argmin(jnp.where(wounded, field.health[own][None], FAR), 1)
        friend = jnp.argmin(near, 1)
        hx, hy = (jnp.take_along_axis(d, friend[:, None], 1)[:, 0] for d in (fx, fy))
        shoot, can = jnp.where(heals, patient, shoot), jnp.where(heals, wounded.any(1), can)
        to_x, to_y = jnp.where(heals, hx, to_x), jnp.where(heals, hy, to_y)
    level = jnp.abs(to_x) >= jnp.abs(to_y)
    walk = jnp.where(level, jnp.where(to_x > 0, 4, 5), jnp.where(to_y > 0, 2, 3))
    walk = jnp.where(jnp.take_along_axis(avail, walk[:, None], 1)[:, 0], walk, STAND)
    chosen = jnp.where(can, N_NO_TARGET + shoot, walk)
    return jnp.where(avail[:, 0], 0, chosen)


def noisy(policy, env: Battle, state, key: jax.Array, noise: float) -> jax.Array:
    """A policy whose agents take random available actions with probability `noise`."""
    avail = env.view((), state).avail
    k_who, k_what = jax.random.split(key)
    scores = jnp.where(avail, jax.random.uniform(k_what, avail.shape), -1.0)
    at_random = jax.random.uniform(k_who, avail.shape[:1]) < noise
    return jnp.where(at_random, jnp.argmax(scores, 1), policy(env, state, avail))


def episodes(env: Battle, key: jax.Array, worlds: int, policy, noise: float) -> dict[str, jax.Array]:
    """Return, length and win of one episode in each environment, [worlds]."""
    step, start = jax.vmap(lambda s, a, k: env.step(k, (), s, a)), jax.vmap(lambda k: env.reset(k, ()))

    def more(carry):
        return jnp.any(carry[2]) & (carry[1] < env.limit)

    def body(carry):
        state, t, on, earned, length, won = carry
        keys = jax.random.split(jax.random.fold_in(key, t + 1), (2, worlds))
        actions = jax.vmap(lambda s, k: noisy(policy, env, s, k, noise))(state, keys[0])
        after = step(state, actions, keys[1])
        earned, length = earned + on * after.reward, length + on
        won = won | (on & after.info["won"])
        return after.state, t + 1, on & ~(after.terminated | after.truncated), earned, length, won

    zero = jnp.zeros(worlds)
    state = start(jax.random.split(jax.random.fold_in(key, 0), worlds))
    carry = (state, 0, zero == 0, zero, zero, zero > 0)
    _, _, _, earned, length, won = jax.lax.while_loop(more, body, carry)
    return {"return": earned, "length": length, "won": won}
