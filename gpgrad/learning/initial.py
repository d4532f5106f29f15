"""The first state of a seed: parameters, an empty replay, clocks at zero."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpgrad.config.schema import Config
from gpgrad.envs.api import roles_of
from gpgrad.learning import replay
from gpgrad.learning.compose import example_view
from gpgrad.learning.iteration import make_collection, stream
from gpgrad.learning.learner import LearnerState, Parts, make_gradient_step
from gpgrad.types import Clock, Divergence, Episode, Metrics, Params, Purpose, PyTree, SeedState


def start_clock() -> Clock:
    """Nothing collected, nothing learned."""
    return Clock(*(jnp.zeros((), jnp.int32) for _ in range(3)))


def make_init(config: Config, parts: Parts) -> Callable[[jax.Array], SeedState]:
    """init(seed int32 []) -> the state of one seed."""

    def init(seed: jax.Array) -> SeedState:
        key = jax.random.key(seed)
        k_agent, k_mixer = jax.random.split(stream(key, Purpose.PARAMS))
        view = example_view(parts.env)
        env_params = parts.env.params(stream(key, Purpose.WORLD))
        agent, sharing = parts.sharing.init(k_agent, parts.agent.init)
        if roles := roles_of(parts.env):
            sharing = parts.sharing.set_roles(sharing, roles(env_params))
        params = Params(agent, parts.decomposition.init(k_mixer, view.state))
        learner = LearnerState(
            params,
            parts.optimiser.init(params),  # type: ignore[arg-type]
            sharing,
            parts.weighting.init(stream(key, Purpose.WEIGHTING), view.state),
        )
        example = example_episode(parts)
        stats = jax.eval_shape(make_stats(config, parts), key, env_params, learner)
        return SeedState(
            env_params=env_params,
            params=params,
            target=jax.tree.map(jnp.copy, params),
            opt_state=learner.opt_state,
            sharing=sharing,
            weighting=learner.weighting,
            replay=replay.init(example, config.replay.capacity),
            env_steps=jnp.zeros((), jnp.int32),
            key=key,
            stats=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stats),
            divergence=Divergence(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
        )

    return init


def example_episode(parts: Parts) -> Episode:
    """Shapes and dtypes of one stored episode."""

    def one(key: jax.Array) -> Episode:
        env = parts.env
        params = env.params(key)
        state = env.reset(key, params)
        t, n = env.spec.episode_limit, env.spec.n_agents
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (t + 1, *leaf.shape)), state)
        flags = jnp.zeros(t, bool)
        return Episode(states, jnp.zeros((t, n), jnp.int8), jnp.zeros(t), flags, flags)

    return jax.eval_shape(one, jax.random.key(0))


def make_stats(config: Config, parts: Parts) -> Callable[[jax.Array, PyTree, LearnerState], Metrics]:
    """A function with the shapes of the sums that a seed keeps between written rows."""
    collect = make_collection(config, parts)
    gradient_step = make_gradient_step(parts)

    def stats(key: jax.Array, env_params: PyTree, learner: LearnerState) -> Metrics:
        zero = jnp.zeros((), jnp.int32)
        episodes, metrics = collect(key, zero, env_params, learner, zero)
        wanted = config.learner.batch_episodes
        some = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], (wanted, *leaf.shape[1:])), episodes)
        learned = gradient_step(key, start_clock(), learner, learner.params, env_params, some)[1]
        counted = {name: jnp.zeros(()) for name in ("updates", "episodes", "nonfinite_updates")}
        return {**metrics, **learned, **counted}

    return stats
