"""How fast SMAX's steps and views are, beside JaxMARL's own, in alternation: python -m tests.speed.smax 5m_vs_6m 32

Random available actions, observations included, one full-length episode a round; then views of 100 x 32 states.
"""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs import jaxmarl_import
from gpgrad.envs.smax import rules
from gpgrad.envs.smax.env import Smax
from tests.helpers.jaxmarl_battles import jaxmarl_state

ROUNDS, STEPS, BATCH = 12, 100, (100, 32)


def ours(env: Smax, worlds: int):
    def run(key):
        state = jax.vmap(env.reset, (0, None))(jax.random.split(key, worlds), ())

        def step(carry, key):
            state, total = carry
            view = jax.vmap(env.view, (None, 0))((), state)
            k_act, k_step = jax.random.split(key)
            actions = jnp.argmax(jnp.where(view.avail, jax.random.uniform(k_act, view.avail.shape), -1), -1)
            done = jax.vmap(env.step, (0, None, 0, 0))(jax.random.split(k_step, worlds), (), state, actions)
            return (done.state, total + done.reward.sum() + view.obs.sum()), None

        return jax.lax.scan(step, (state, jnp.zeros(())), jax.random.split(key, STEPS))[0][1]

    return run


def theirs(reference, worlds: int):
    def run(key):
        state = jax.vmap(reference.reset)(jax.random.split(key, worlds))[1]
        state = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state)

        def step(carry, key):
            state, total = carry
            avail = jax.vmap(reference.get_avail_actions)(state)
            k_act, k_step = jax.random.split(key)
            actions = {
                agent: jnp.argmax(jnp.where(mask, jax.random.uniform(jax.random.fold_in(k_act, i), mask.shape), -1), -1)
                for i, (agent, mask) in enumerate(avail.items())
            }
            obs, after, reward, _, _ = jax.vmap(reference.step_env)(jax.random.split(k_step, worlds), state, actions)
            after = jax.tree.map(lambda new, old: jax.lax.convert_element_type(new, old.dtype), after, state)
            return (after, total + reward["ally_0"].sum() + sum(obs[a].sum() for a in reference.agents)), None

        return jax.lax.scan(step, (state, jnp.zeros(())), jax.random.split(key, STEPS))[0][1]

    return run


def main(name: str, worlds: int) -> None:
    env = Smax(name)
    enemies = jaxmarl_import.load("environments.smax.heuristic_enemy_smax_env")
    reference = enemies.HeuristicEnemySMAX(scenario=rules.scenario(name))
    key = jax.random.key(0)
    start = jax.vmap(env.reset, (0, None))(jax.random.split(key, BATCH[1]), ())
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (BATCH[0], *leaf.shape)) + jnp.zeros_like(leaf), start)
    states = states._replace(x=states.x + 5 * jax.random.normal(key, states.x.shape))  # some in sight, some not
    reference_states = jax.vmap(jax.vmap(lambda s: jaxmarl_state(env, reference, s)))(states)
    look = jax.jit(jax.vmap(jax.vmap(lambda s: env.view((), s))))
    get = jax.jit(jax.vmap(jax.vmap(lambda s: (reference.get_obs(s), reference.get_world_state(s)))))
    play, replay = jax.jit(ours(env, worlds)), jax.jit(theirs(reference, worlds))
    pieces = {
        "world, ours": lambda: play(key),
        "world, JaxMARL": lambda: replay(key),
        "view, ours": lambda: look(states),
        "view, JaxMARL": lambda: get(reference_states),
    }
    seconds = {piece: [] for piece in pieces}
    for call in pieces.values():
        jax.block_until_ready(call())
    for _ in range(ROUNDS):
        for piece, call in pieces.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds[piece].append(time.perf_counter() - began)
    for piece, times in seconds.items():
        median = float(np.median(times))
        rate = f"{worlds * STEPS / median:,.0f} steps/s" if piece.startswith("world") else f"{1e3 * median:.1f} ms"
        print(f"{name}, {worlds} worlds: {piece}: {rate}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
