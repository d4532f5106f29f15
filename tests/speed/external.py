"""What the bridge to simulators costs: python -m tests.speed.external

First per batched step of 8 workers whose simulator does nothing, with SMAC's largest arrays (27 agents, 285 floats each
and a state of 1170): the pool alone, a loop with jitted acting that picks the first available action, and the same by
callbacks inside a jitted scan. Then collecting with QMIX's agents in level-based foraging, by number of workers.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad import config, envs
from gpgrad.envs.external.env import ExternalState, bridge
from gpgrad.learning import external_rollout, initial, iteration
from gpgrad.learning.compose import compose
from gpgrad.learning.external_rollout import Orders, Store

LANES, ROUNDS, WORKERS = 8, 9, (1, 2, 4)
NOTHING, FORAGING = "host_tests.helpers.toy_starcraft:Nothing", "gym_Foraging-8x8-2p-2f-coop-v3"


def first_available(avail: jax.Array) -> jax.Array:
    return jnp.argmax(avail, -1).astype(jnp.int32)


def overhead() -> None:
    env = envs.make(NOTHING)
    limit = env.spec.episode_limit
    act = jax.jit(lambda state: first_available(jax.vmap(env.view, (None, 0))((), state).avail))
    pool, lanes = env.open(LANES), list(range(LANES))
    rows = np.array([(lane, 0, lane) for lane in lanes])
    zeros = np.zeros((LANES, env.spec.n_agents), np.int32)

    single: dict[str, list[float]] = {"pool alone": [], "loop": []}

    def alone() -> None:
        for _ in range(limit):
            single["pool alone"].append(timed(lambda: pool.step(lanes, zeros)))

    def loop(stored: Store) -> None:
        def step(t: int) -> None:
            actions = np.asarray(act(ExternalState(pool.obs, pool.avail, pool.state)))
            pool.step(lanes, actions)
            stored.add(pool, rows, t, actions[None])

        for t in range(limit):
            single["loop"].append(timed(lambda t=t: step(t)))

    def scan(key: jax.Array):
        start = jax.vmap(env.reset, (0, None))(jax.random.split(key, LANES), ())

        def step(state, _):
            actions = first_available(jax.vmap(env.view, (None, 0))((), state).avail)
            after = jax.vmap(env.step, (None, None, 0, 0))(key, (), state, actions)
            return after.state, (state, actions.astype(jnp.int8), after.reward)

        return jax.lax.scan(step, start, None, limit)[1]

    inside = jax.jit(scan)
    jax.block_until_ready(inside(jax.random.key(0)))
    seconds: dict[str, list[float]] = {"pool alone": [], "loop": [], "callbacks": [], "simulator": []}
    for _ in range(ROUNDS):
        pool.reset(lanes, lanes)
        before = pool.report()["simulator_seconds"]
        seconds["pool alone"].append(timed(alone))
        seconds["simulator"].append(pool.report()["simulator_seconds"] - before)
        pool.reset(lanes, lanes)
        stored = Store(env, 1, LANES)
        stored.begin(pool, rows)
        seconds["loop"].append(timed(lambda stored=stored: loop(stored)))
        seconds["callbacks"].append(timed(lambda: jax.block_until_ready(inside(jax.random.key(0)))))
    for name, times in seconds.items():
        each = 1e3 * np.array(times) / limit
        print(f"{LANES} workers, {name}: {np.median(each):.3f} ms a batched step, best {each.min():.3f}", flush=True)
    for name, times in single.items():
        low, middle, high = 1e3 * np.quantile(times, (0.1, 0.5, 0.9))
        print(f"single steps, {name}: median {middle:.3f} ms, tenths {low:.3f} and {high:.3f}", flush=True)
    pool.close()
    bridge(env).close()


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def foraging(workers: int) -> None:
    settings = config.load(FORAGING, "qmix", {"rollout.worlds": 8, "env.workers": workers, "log.wandb": "disabled"})
    parts = compose(settings)
    host = external_rollout.Simulators(settings, parts)
    state = jax.jit(initial.make_init(settings, parts))(jnp.int32(0))
    keys = jax.random.split(jax.random.key(0), 8)
    members = iteration.team(parts, state.params, state.sharing)
    orders = jax.tree.map(
        lambda x: x[None], Orders(external_rollout.seeds(keys), jax.random.key(1), members, jnp.float32(1))
    )
    host.collect(orders)
    before = host.report()
    steps, times = 0, []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        steps = int(host.collect(orders).episodes.valid.sum())
        times.append(time.perf_counter() - began)
    after = host.report()
    names = ("simulator_seconds", "collect_seconds")
    simulator, whole = (after[name] - before[name] for name in names)
    rate = steps / np.median(times)
    print(f"foraging, {workers} workers: {rate:,.0f} steps/s, {simulator / whole:.1%} in the simulator", flush=True)
    host.close()


if __name__ == "__main__":
    overhead()
    for workers in WORKERS:
        foraging(workers)
