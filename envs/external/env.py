"""An external environment as a `gpgrad.envs.api.Env`; its state is the last observation.

`reset` and `step` call the workers from inside a jitted program, with one ordered callback for all vmapped lanes. A
fault there ends the program, since episodes cannot be repeated; `ExternalEnv.open` returns workers for a Python loop
outside of jit, which can repeat them.

Axes in comments: A agents; U actions; O observation; D state; N lanes.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.envs.external.pool import Care, Pool
from gpgrad.envs.external.process import SimulatorError, describe
from gpgrad.envs.external.protocol import Recipe, Sizes
from gpgrad.errors import SettingError

NUMERICS = 2

MOST_LANES = 64  # maximum number of workers of one program inside jit


class ExternalState(NamedTuple):
    """The stored state.

    obs: float32 [A, O], or uint8 if `Sizes.obs_bytes`. avail: bool [A, U]. state: float32 [D]; None if it is the
    concatenation of all observations.
    """

    obs: Any  # JAX arrays, NumPy arrays outside of jit, or shapes
    avail: Any
    state: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExternalEnv:
    """A simulator in worker processes.

    form: `loop`, a Python loop around jitted acting, or `graph`, callbacks from inside the jitted program.
    workers: simulators per seed; none: as many as parallel environments.
    step_seconds: timeout of a step in seconds, after which a worker is restarted.
    reset_seconds: timeout of starting a worker or of a reset, in seconds.
    failures: consecutive failures of a worker that are tolerated.
    pause_seconds: pause before the second consecutive restart, doubled each time up to 30.
    recycle_episodes: episodes after which a worker is replaced, since simulators leak memory; 0: never.
    python: another interpreter for the workers, with Python 3.8 or later and NumPy; none: this one.
    """

    name: str = "host"
    form: str = "loop"
    workers: int | None = None
    python: str | None = None
    step_seconds: float = Care().step_seconds
    reset_seconds: float = Care().reset_seconds
    failures: int = Care().failures
    pause_seconds: float = Care().pause_seconds
    recycle_episodes: int = Care().recycle_episodes

    def __post_init__(self) -> None:
        """Check the settings. Raises SettingError."""
        if self.form not in ("loop", "graph"):
            raise SettingError(f"form of {self.name} must be loop or graph (got {self.form!r})")
        if self.workers is not None and self.workers < 1:
            raise SettingError(f"workers of {self.name} must be 1 or more, or none (got {self.workers})")
        for name in ("step_seconds", "reset_seconds"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} of {self.name} must be more than 0 (got {getattr(self, name)})")
        for name in ("failures", "pause_seconds", "recycle_episodes"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} of {self.name} must be 0 or more (got {getattr(self, name)})")
        self.sizes  # noqa: B018, raises before anything compiles if something is missing

    @property
    def recipe(self) -> Recipe:
        """How a worker builds the simulator."""
        raise NotImplementedError

    @property
    def order(self) -> str:
        """The recipe as JSON, with the interpreter."""
        return self.recipe._replace(python=self.python).dumps()

    @property
    def drawn(self) -> ExternalEnv:
        """The environment that can draw itself."""
        return self

    @property
    def sizes(self) -> Sizes:
        """The sizes of the simulator, reported by a worker; cached. Raises SettingError."""
        try:
            return describe(self.order, self.reset_seconds)
        except SimulatorError as error:
            raise SettingError(f"{self.name} cannot be built: {error}") from None

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        sizes = self.sizes
        shared: dict[str, Any] = {name: getattr(sizes, name) for name in EnvSpec._fields if name in Sizes._fields}
        widths = sizes.obs_sizes or (sizes.obs_dim,) * sizes.n_agents
        shared["state_dim"] = sizes.state_dim or sum(widths)
        return EnvSpec(name=self.name, **shared)

    def open(self, lanes: int) -> Pool:
        """A new pool of workers, which the caller must close."""
        care = Care(*(getattr(self, name) for name in Care._fields))
        return Pool(self.order, self.sizes, lanes, care)

    def params(self, key: jax.Array) -> tuple[()]:
        """No parameters."""
        del key
        return ()

    def reset(self, key: jax.Array, params: tuple[()]) -> ExternalState:
        """Start an episode from inside jit."""
        del params
        return bridge(self).calls[0](seed_words(key))

    def step(self, key: jax.Array, params: tuple[()], state: ExternalState, actions: jax.Array) -> Step:
        """One step from inside jit, for all lanes of the last `reset`; lanes that have ended do not change."""
        del key, params, state
        after, reward, flags, info = bridge(self).calls[1](actions.astype(jnp.int32))
        infos = {name: info[i] for i, name in enumerate(self.sizes.info)}
        if "won" in infos:
            infos["won"] = infos["won"] > 0
        return Step(after, reward, flags[0], flags[1], infos)

    def view(self, params: tuple[()], state: ExternalState) -> View:
        """The last observations, bytes divided by 255; without a state of its own, the state is their concatenation
        without padding.
        """
        del params
        if self.sizes.obs_bytes:
            state = state._replace(obs=state.obs.astype(jnp.float32) / 255)
        if state.state is not None:
            return View(*state)
        widths = self.sizes.obs_sizes or (self.sizes.obs_dim,) * self.sizes.n_agents
        whole = jnp.concatenate([state.obs[i, :width] for i, width in enumerate(widths)])
        return View(state.obs, state.avail, whole)


def seed_words(key: jax.Array) -> jax.Array:
    """Low and high word of an episode's seed, uint32 [2]."""
    return jax.random.bits(key, (2,), jnp.uint32)


def seeds_of(words: np.ndarray) -> np.ndarray:
    """Seeds uint64 [N] from words [..., 2]."""
    flat = np.asarray(words).reshape(-1, 2).astype(np.uint64)
    return flat[:, 0] + (flat[:, 1] << np.uint64(32))


class Bridge:
    """The workers behind `reset` and `step` of an environment, as many as lanes of the last `reset`."""

    def __init__(self, env: ExternalEnv) -> None:
        self._env, self._pool = env, None
        self._running = np.zeros(0, bool)
        self.calls = (one_call(self._reset_call), one_call(self._step_call))

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _reset_call(self, words: jax.Array) -> ExternalState:
        return io_callback(self._reset, self._seen_shapes(words.shape[:-1]), words, ordered=True)

    def _step_call(self, actions: jax.Array) -> Any:
        lead, sizes = actions.shape[:-1], self._env.sizes
        reward = jax.ShapeDtypeStruct(lead, np.float32)
        flags = (jax.ShapeDtypeStruct(lead, np.bool_),) * 2
        info = (reward,) * len(sizes.info)
        return io_callback(self._step, (self._seen_shapes(lead), reward, flags, info), actions, ordered=True)

    def _seen_shapes(self, lead: tuple[int, ...]) -> ExternalState:
        sizes = self._env.sizes
        a, d = sizes.n_agents, sizes.state_dim
        return ExternalState(
            jax.ShapeDtypeStruct((*lead, a, sizes.obs_dim), np.uint8 if sizes.obs_bytes else np.float32),
            jax.ShapeDtypeStruct((*lead, a, sizes.n_actions), np.bool_),
            jax.ShapeDtypeStruct((*lead, d), np.float32) if d else None,
        )

    # The methods below run inside callbacks and must not call JAX.

    def _reset(self, words: jax.Array) -> ExternalState:
        words_ = np.asarray(words)
        lead, n = words_.shape[:-1], words_.size // 2
        if n > MOST_LANES:
            raise SettingError(
                f"at most {MOST_LANES} episodes of {self._env.name} can be played at once inside jit (got {n})"
            )
        if self._pool is None or len(self._pool) < n:
            self.close()
            self._pool = self._env.open(n)
        self._running = np.ones(n, bool)
        self._refuse(self._pool.reset(range(n), list(seeds_of(words_))))
        return self._seen(self._pool, lead)

    def _step(self, actions: jax.Array) -> Any:
        chosen = np.asarray(actions)
        lead, n, pool = chosen.shape[:-1], len(self._running), self._pool
        assert pool is not None
        wanted = np.zeros((len(pool), chosen.shape[-1]), np.int32)
        wanted[:n] = chosen.reshape(n, -1)
        running = self._running.copy()
        self._refuse(pool.step(np.flatnonzero(running).tolist(), wanted))
        flags = [np.where(running, flag[:n], False) for flag in (pool.terminated, pool.truncated)]
        self._running = running & ~flags[0] & ~flags[1]
        info = np.where(running[:, None], pool.info[:n], np.float32(0))
        reward = np.where(running, pool.reward[:n], np.float32(0)).reshape(lead)
        infos = tuple(info[:, i].reshape(lead) for i in range(info.shape[1]))
        return self._seen(pool, lead), reward, tuple(flag.reshape(lead) for flag in flags), infos

    def _seen(self, pool: Pool, lead: tuple[int, ...]) -> ExternalState:
        n, sizes = len(self._running), self._env.sizes
        obs, avail = (x[:n].copy().reshape(*lead, *x.shape[1:]) for x in (pool.obs, pool.avail))
        return ExternalState(obs, avail, pool.state[:n].copy().reshape(*lead, -1) if sizes.state_dim else None)

    def _refuse(self, failed: list[int]) -> None:
        if failed:
            assert self._pool is not None
            raise SimulatorError(
                "; ".join(self._pool.news()) + "; inside jit no episode can be repeated (--env.form loop can)"
            )


@functools.cache
def bridge(env: ExternalEnv) -> Bridge:
    """The bridge of an environment, one per process."""
    made = Bridge(env)
    atexit.register(made.close)
    return made


def one_call(call: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called once for all lanes of any number of `jax.vmap`s, with their axes in front."""
    mapped = jax.custom_batching.custom_vmap(call)

    @mapped.def_vmap
    def together(size: int, batched: list[bool], argument: jax.Array) -> Any:
        if not batched[0]:
            argument = jnp.broadcast_to(argument, (size, *argument.shape))
        out = mapped(argument)
        return out, jax.tree.map(lambda _: True, out)

    return mapped
