"""Collect whole episodes from external environments: a Python loop around jitted acting, batched over all lanes of
all seeds.

A wave is as many episodes as a seed has workers, one per lane, so that every lane plays the same number: taking the
first that finish would favour short episodes. A wave is played in passes. In a pass a lane whose episode
fails stays idle; once the others have ended, the next pass plays it again, from the same seed and with the same keys,
so that what is collected does not depend on faults. The numbers are those of `rollout.make_collect`.

Axes in comments: S seeds, E episodes, W lanes of a seed, L lanes at hand, T time, A agents.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from gpgrad.config.schema import Config
from gpgrad.envs.api import Env
from gpgrad.envs.external.env import MOST_LANES, ExternalEnv, ExternalState, seed_words, seeds_of
from gpgrad.envs.external.pool import Pool
from gpgrad.errors import SettingError
from gpgrad.learning.learner import Parts
from gpgrad.learning.rollout import Rollout, Team, make_act
from gpgrad.types import Episode


class Orders(NamedTuple):
    """The inputs of a collection. seeds: uint32 [S, E, 2]. act_key, eps: [S]. team: leaves [S, ...]."""

    seeds: jax.Array
    act_key: jax.Array
    team: Team
    eps: jax.Array


def is_external(env: Env) -> bool:
    """Whether an environment's simulators are processes of their own."""
    return isinstance(env, ExternalEnv)


def by_loop(env: Env) -> bool:
    """Whether it is played by a loop in Python, not by callbacks of the compiled program."""
    return isinstance(env, ExternalEnv) and env.form == "loop"


def check(config: Config, env: Any) -> None:
    """Raise SettingError for settings that external environments do not support."""
    if config.seeds_mode == "process":
        raise SettingError(f"seeds_mode must be vmap or sequential (got 'process'): {env.name} has its own processes")
    if config.devices not in (None, 1):
        raise SettingError(f"devices must be 1 or none in the external environment {env.name} (got {config.devices})")
    if config.shard == "batch":
        raise SettingError(f"shard must be auto or seeds in the external environment {env.name} (got 'batch')")
    wanted = {
        "rollout.worlds": config.rollout.worlds,
        "evaluation.episodes": config.evaluation.episodes,
        "evaluation.final_episodes": config.evaluation.final_episodes,
    }
    for name, value in wanted.items():
        if env.form == "graph" and value * config.seeds > MOST_LANES:
            raise SettingError(
                f"{name} is {value} for each of {config.seeds} seeds, expected at most {MOST_LANES} together "
                f"with env.form graph, which plays them all at once"
            )


def seeds(keys: jax.Array) -> jax.Array:
    """Seeds of episodes, uint32 [E, 2], from the environments' keys [E]; the same as in `rollout.make_collect`."""
    return jax.vmap(lambda key: seed_words(jax.random.split(key)[0]))(keys)


class Simulators:
    """The simulators of a run, and the loop that plays them. Workers start when they are first needed."""

    def __init__(self, config: Config, parts: Parts) -> None:
        env: Any = parts.env
        self._env: ExternalEnv = env
        self._start = parts.agent.start
        self._n_seeds, self._per_seed = config.seeds, env.workers or config.rollout.worlds
        self._pool: Pool | None = None
        self._seconds = 0.0
        act = make_act(parts.agent, parts.decomposition)

        def step(key, t, team, state, last, carry, eps):
            return act(jax.random.fold_in(key, t), team, jax.vmap(env.view, (None, 0))((), state), last, carry, eps)

        def steps(key, t, team, state, last, carry, eps):  # all but t [S, ...]
            if self._n_seeds > 1:
                return jax.vmap(step, (0, None, 0, 0, 0, 0, 0))(key, t, team, state, last, carry, eps)
            # As everywhere a single seed goes without its axis, which is faster.
            only = jax.tree.map(lambda leaf: leaf[0], (key, team, state, last, carry, eps))
            return jax.tree.map(lambda leaf: leaf[None], step(only[0], t, *only[1:]))

        self._act = jax.jit(steps)
        self._fold = jax.jit(jax.vmap(jax.random.fold_in, (0, None)))

    def collect(self, orders: Orders) -> Rollout:
        """Episodes [S, E, ...] with the sums of their info [S, E], NumPy. Raises SimulatorError."""
        began = time.perf_counter()
        if self._pool is None:
            self._pool = self._env.open(self._n_seeds * self._per_seed)
        total = orders.seeds.shape[1]
        width = min(total, self._per_seed)
        seeds = seeds_of(np.asarray(orders.seeds)).reshape(self._n_seeds, total)
        stored = Store(self._env, self._n_seeds, total)
        for first in range(0, total, width):
            # A single wave has the very keys of `make_collect`.
            key = orders.act_key if width == total else self._fold(orders.act_key, first)
            lane, of_seed = np.arange(min(width, total - first)), np.arange(self._n_seeds)
            todo = np.array([(s * self._per_seed + w, s, first + w) for s in of_seed for w in lane])  # [L, 3]
            while len(todo):
                failed = self._play(self._pool, todo, seeds, stored, orders._replace(act_key=key), width)
                todo = todo[np.isin(todo[:, 0], failed)]
        self._seconds += time.perf_counter() - began
        return stored.rollout()

    def report(self) -> dict[str, Any]:
        """Time of the simulators for a row of timing: `Pool.report`, and their share of the collection."""
        if self._pool is None:
            return {}
        report = self._pool.report()
        share = report["simulator_seconds"] / max(self._seconds, 1e-9)
        return {**report, "collect_seconds": round(self._seconds, 3), "simulator_share": round(share, 4)}

    def news(self) -> list[str]:
        """A line for each fault since the last call."""
        return self._pool.news() if self._pool else []

    def close(self) -> None:
        """End all workers; the next collection starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _play(self, pool: Pool, todo: np.ndarray, seeds: np.ndarray, stored: Store, orders: Orders, width: int):
        """One pass: an episode in each lane of todo, rows (lane, seed, episode); returns the lanes that failed."""
        failed = pool.reset(todo[:, 0].tolist(), seeds[todo[:, 1], todo[:, 2]].tolist())
        running = todo[~np.isin(todo[:, 0], failed)]
        stored.begin(pool, running)
        n_agents, shape = pool.sizes.n_agents, (self._n_seeds, self._per_seed)
        last = np.full((self._n_seeds, width, n_agents), -1, np.int32)
        carry = jax.tree.map(lambda leaf: np.zeros((self._n_seeds, *leaf.shape), leaf.dtype), self._start(width))
        chosen = np.zeros((*shape, n_agents), np.int32)

        def now(array: np.ndarray) -> np.ndarray:  # [S, width, ...]
            return array.reshape(*shape, *array.shape[1:])[:, :width]

        t = 0
        while len(running):
            state = ExternalState(now(pool.obs), now(pool.avail), now(pool.state) if pool.sizes.state_dim else None)
            last, carry = self._act(orders.act_key, t, orders.team, state, last, carry, orders.eps)
            chosen[:, :width] = last
            lost = pool.step(running[:, 0].tolist(), chosen.reshape(-1, n_agents))
            failed += lost
            if lost:
                running = running[~np.isin(running[:, 0], lost)]
            running = stored.add(pool, running, t, chosen)
            t += 1
        return failed


class Store:
    """Episodes as they are played, [S, E, ...]."""

    def __init__(self, env: ExternalEnv, n_seeds: int, n_episodes: int) -> None:
        spec, sizes = env.spec, env.sizes
        self._limit, self._limit_is_terminal, self._names = spec.episode_limit, spec.limit_is_terminal, sizes.info
        lead, t, a = (n_seeds, n_episodes), spec.episode_limit, spec.n_agents
        self._obs = np.zeros((*lead, t + 1, a, sizes.obs_dim), np.uint8 if sizes.obs_bytes else np.float32)
        self._avail = np.zeros((*lead, t + 1, a, sizes.n_actions), np.bool_)
        self._state = np.zeros((*lead, t + 1, sizes.state_dim), np.float32)
        self._actions = np.zeros((*lead, t, a), np.int8)
        self._reward = np.zeros((*lead, t), np.float32)
        self._terminated, self._valid = (np.zeros((*lead, t), np.bool_) for _ in range(2))
        self._info = np.zeros((*lead, len(self._names)), np.float32)

    def begin(self, pool: Pool, rows: np.ndarray) -> None:
        """The first observations of episodes; a failed attempt is overwritten."""
        lane, *place = rows.T
        at = tuple(place)
        self._reward[at], self._info[at] = 0.0, 0.0
        self._terminated[at], self._valid[at] = False, False
        self._see(pool, lane, (*at, 0))

    def add(self, pool: Pool, rows: np.ndarray, t: int, actions: np.ndarray) -> np.ndarray:
        """The step at time t of the lanes in rows; returns the rows that go on. actions: int32 [S, W, A]."""
        lane, *place = rows.T
        at = (*place, t)
        over, cut = pool.terminated[lane], pool.truncated[lane]
        cut = (cut | (t + 1 == self._limit)) & ~over
        self._actions[at] = actions.reshape(-1, actions.shape[-1])[lane]
        self._reward[at], self._valid[at] = pool.reward[lane], True
        self._terminated[at] = over | (cut & self._limit_is_terminal)
        self._info[tuple(place)] += pool.info[lane]
        self._see(pool, lane, (*place, t + 1))
        ended = over | cut
        for _, s, e in rows[ended]:  # the state after the end is repeated
            for array in (self._obs, self._avail, self._state):
                array[s, e, t + 2 :] = array[s, e, t + 1]
            self._actions[s, e, t + 1 :] = 0
        return rows[~ended]

    def rollout(self) -> Rollout:
        """All stored episodes."""
        state = self._state if self._state.shape[-1] else None
        parts: Any = (self._actions, self._reward, self._terminated, self._valid)
        info: Any = {name: self._info[..., i] for i, name in enumerate(self._names)}
        return Rollout(Episode(ExternalState(self._obs, self._avail, state), *parts), info)

    def _see(self, pool: Pool, lane: np.ndarray, at: tuple) -> None:
        self._obs[at], self._avail[at], self._state[at] = pool.obs[lane], pool.avail[lane], pool.state[lane]
