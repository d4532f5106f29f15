"""An iteration of training: collect and store episodes, take gradient steps, copy target networks.

The clock has no seed axis. Under `vmap` a branch on a batched value runs both sides, so control flow
depends on the clock alone, and what differs between seeds (environment steps, epsilon) is only a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.config.schema import Config
from gpgrad.envs.api import EnvParams
from gpgrad.learning import replay, rollout
from gpgrad.learning.learner import LearnerState, Parts, make_draw, make_gradient_step
from gpgrad.learning.rollout import Team
from gpgrad.methods import optimisers
from gpgrad.methods.sharing.base import Adapted
from gpgrad.types import PATIENCE, Clock, Divergence, Episode, Metrics, Params, Purpose, PyTree, SeedState

Index = jax.Array | np.ndarray | int
OverSeeds = Callable[[Callable, tuple[int | None, ...]], Callable]  # `jax.vmap`, or nothing for a single seed


Advanced = tuple[Clock, SeedState]


class Chunk(Protocol):
    """Some iterations of all seeds."""

    def __call__(self, clock: Clock, states: SeedState, k: jax.Array) -> Advanced:
        """The clock and states [S, ...] after k iterations."""
        ...


class SeedsFunction(Protocol):
    """A function of states with or without the seed axis, which `over_seeds` maps where it is there."""

    def __call__(self, over_seeds: OverSeeds, /, *args: Any, **named: Any) -> Advanced:
        """The clock and the states, with the axes that the arguments have."""
        ...


class LearningPhase(Protocol):
    """The part of an iteration after its episodes are stored."""

    def __call__(self, over_seeds: OverSeeds, clock: Clock, states: SeedState) -> Advanced:
        """The clock and states after gradient steps, adaptation and grouping."""
        ...


class Collection(Protocol):
    """Collecting the episodes of an iteration with one seed's team."""

    def __call__(
        self, key: jax.Array, iteration: jax.Array, env_params: EnvParams, learner: LearnerState, env_steps: jax.Array
    ) -> tuple[Episode, Metrics]:
        """Episodes [E, ...] and sums over them."""
        ...


class Watched(NamedTuple):
    """Statistics of a seed's updates: sums since the last row, and whether updates are still finite."""

    stats: Metrics
    divergence: Divergence


def stream(key: jax.Array, purpose: Purpose, index: Index = 0) -> jax.Array:
    """A seed's key for one purpose at one moment."""
    return jax.random.fold_in(jax.random.fold_in(key, purpose), index)


def team(parts: Parts, params: Params, sharing: PyTree) -> Team:
    """The inputs of acting, from trained parameters."""
    agent = parts.sharing.per_agent_params(params.agent, sharing)
    return Team(agent, parts.sharing.gates(sharing), params.decomposition)


def rollout_keys(config: Config, key: jax.Array, iteration: jax.Array, env_steps: jax.Array) -> tuple[jax.Array, ...]:
    """The inputs of an iteration's episodes beside the team: the environments' keys [E], the team's key, epsilon."""
    settings = config.rollout
    eps = rollout.epsilon(env_steps, settings.start, settings.finish, settings.anneal_steps)
    k_world, k_act = jax.random.split(stream(key, Purpose.ROLLOUT, iteration))
    return jax.random.split(k_world, settings.worlds), k_act, eps


def make_chunk(config: Config, parts: Parts) -> Chunk:
    """chunk(clock, states, k): k iterations of collect, learn, and now and then copy the target network."""
    collection, store = make_collection(config, parts), make_store(config, parts)
    learning_phase = make_learning_phase(config, parts)

    def collect(clock: Clock, state: SeedState) -> SeedState:
        learner = learner_state(state)
        episodes, _ = collection(state.key, clock.iterations, state.env_params, learner, state.env_steps)
        return store(clock, state, episodes)

    def iterations(over_seeds: OverSeeds, clock: Clock, states: SeedState, k: jax.Array) -> tuple[Clock, SeedState]:
        def iteration(_, carry: tuple[Clock, SeedState]) -> tuple[Clock, SeedState]:
            clock, states = carry
            return learning_phase(over_seeds, clock, over_seeds(collect, (None, 0))(clock, states))

        return jax.lax.fori_loop(0, k, iteration, (clock, states))

    def chunk(clock: Clock, states: SeedState, k: jax.Array) -> tuple[Clock, SeedState]:
        return per_seed(lambda over_seeds, states: iterations(over_seeds, clock, states, k), states)

    return chunk


def per_seed(function: SeedsFunction, *args: PyTree) -> Advanced:
    """function(over_seeds, *args), whose leaves start with the seed axis; without that axis for a single seed.

    Products batched over a single seed are slower, and so is a replay that changes its shape in the loop: copied.
    """
    if jax.tree.leaves(args)[0].shape[0] != 1:
        return function(jax.vmap, *args)
    only = jax.tree.map(lambda leaf: leaf[0], args)
    clock, state = function(lambda single, in_axes: single, *only)
    return clock, jax.tree.map(lambda leaf: leaf[None], state)


def make_collection(config: Config, parts: Parts) -> Collection:
    """collect(key, iteration, env_params, learning, env_steps) -> (episodes [E], sums over them)."""
    collect = rollout.make_collect(parts.env, parts.agent, parts.decomposition, parts.shards)

    def collection(key, iteration, env_params, learner: LearnerState, env_steps) -> tuple[Episode, Metrics]:
        keys, k_act, eps = rollout_keys(config, key, iteration, env_steps)
        done = collect(keys, k_act, env_params, team(parts, learner.params, learner.sharing), eps)
        return done.episodes, _sums(done.episodes)

    return collection


def make_store(config: Config, parts: Parts) -> Callable[[Clock, SeedState, Episode], SeedState]:
    """store(clock, state, episodes [E]) -> the state of a seed that has collected them."""

    def store(clock: Clock, state: SeedState, episodes: Episode) -> SeedState:
        states = visited(parts, state.env_params, episodes)
        weighting = parts.weighting.record(state.weighting, clock, states, episodes.valid.reshape(-1))
        return state._replace(
            replay=replay.insert(state.replay, episodes, clock.episodes, parts.shards),
            weighting=weighting,
            env_steps=state.env_steps + episodes.valid.sum(),
            stats=_add(state.stats, {**_sums(episodes), "episodes": jnp.float32(config.rollout.worlds)}),
        )

    return store


def make_learning_phase(config: Config, parts: Parts) -> LearningPhase:
    """learning_phase(over_seeds, clock, states) -> (clock, states): the part of an iteration after its episodes are
    stored: gradient steps, adaptation and target copies, grouping of agents.
    """
    worlds, period = config.rollout.worlds, config.learner.target_every_episodes
    n_updates = round(worlds * config.learner.updates_per_episode)
    gradient_step, (adapt, fit) = make_gradient_step(parts), _make_changes(parts)

    def sample_and_step(
        clock: Clock, learner: LearnerState, seen: Watched, state: SeedState
    ) -> tuple[LearnerState, Watched]:
        """A gradient step on a batch from the replay of `state`."""
        key = stream(state.key, Purpose.SAMPLE, clock.updates)
        count, sort = config.learner.batch_episodes, parts.env.spec.ends_early
        episodes = replay.sample(key, state.replay, clock.episodes, count, parts.shards, longest_first=sort)
        key = stream(state.key, Purpose.LOSS, clock.updates)
        learner, metrics = gradient_step(key, clock, learner, state.target, state.env_params, episodes)
        return learner, watch(seen, metrics, state.env_steps)

    def learning_phase(over_seeds: OverSeeds, clock: Clock, states: SeedState) -> tuple[Clock, SeedState]:
        before = clock.episodes
        clock = clock._replace(episodes=before + worlds, iterations=clock.iterations + 1)

        def step(_, carry: tuple[Clock, LearnerState, Watched]) -> tuple[Clock, LearnerState, Watched]:
            at, learner, seen = carry
            learner, seen = over_seeds(sample_and_step, (None, 0, 0, 0))(at, learner, seen, states)
            return at._replace(updates=at.updates + 1), learner, seen

        ready = clock.episodes >= config.learner.batch_episodes
        carry = (clock, learner_state(states), Watched(states.stats, states.divergence))
        clock, learner, seen = jax.lax.fori_loop(0, jnp.where(ready, n_updates, 0), step, carry)
        learner, target = jax.lax.cond(
            clock.episodes // period != before // period,
            lambda args: over_seeds(adapt, (None, 0, 0))(clock, states.key, args[0]),
            lambda args: args,
            (learner, states.target),
        )
        if parts.sharing.fit is not None:
            learner, target = jax.lax.cond(
                (before < parts.sharing.fit.episodes) & (clock.episodes >= parts.sharing.fit.episodes),
                lambda args: over_seeds(fit, (None, 0, 0))(clock, states, args[0]),
                lambda args: args,
                (learner, target),
            )
        return clock, states._replace(**learner._asdict(), target=target, **seen._asdict())

    return learning_phase


AdaptSeed = Callable[[Clock, jax.Array, LearnerState], tuple[LearnerState, Params]]
FitSeed = Callable[[Clock, SeedState, LearnerState], tuple[LearnerState, Params]]


def _make_changes(parts: Parts) -> tuple[AdaptSeed, FitSeed]:
    """What the sharing scheme does to a seed at a copy of the target network, and once after the first episodes."""

    def adapt(clock: Clock, key: jax.Array, learner: LearnerState) -> tuple[LearnerState, Params]:
        """At a copy of the target network; returns the new target."""
        key = stream(key, Purpose.ADAPT, clock.episodes)
        return rearrange(learner, lambda *agent: parts.sharing.adapt(key, clock, *agent))

    def fit(clock: Clock, state: SeedState, learner: LearnerState) -> tuple[LearnerState, Params]:
        """Once after the first episodes; returns the new target."""
        key = stream(state.key, Purpose.FIT)
        draw = make_draw(parts, state.env_params, state.replay, clock.episodes)
        return rearrange(learner, lambda *agent: parts.sharing.fit.run(key, *agent, draw))  # type: ignore[union-attr]

    return adapt, fit


def watch(seen: Watched, metrics: Metrics, env_steps: jax.Array) -> Watched:
    """Add an update to the sums, and count it where its loss or its gradient's norm is not finite."""
    stats, (streak, since) = seen
    bad = ~(jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"]))
    since = jnp.where(bad & (streak == 0), env_steps, since)
    streak = jnp.where(bad | (streak >= PATIENCE), streak + 1, 0)
    counted = {"updates": jnp.ones(()), "nonfinite_updates": bad.astype(jnp.float32)}
    return Watched(_add(stats, {**metrics, **counted}), Divergence(streak, since))


def visited(parts: Parts, env_params: EnvParams, episodes: Episode) -> PyTree:
    """The global states [E * T, ...] in which actions were chosen, padding among them."""
    views = jax.vmap(jax.vmap(parts.env.view, (None, 0)), (None, 0))
    before = jax.tree.map(lambda leaf: leaf[:, :-1], episodes.states)
    return jax.tree.map(_join_axes, views(env_params, before).state)


def rearrange(
    learner: LearnerState, change: Callable[[PyTree, list[PyTree], PyTree], Adapted]
) -> tuple[LearnerState, Params]:
    """Apply change(agent params, moments, sharing state), which returns the same three; with the new parameters."""
    params = learner.params
    slots = optimisers.moments(learner.opt_state, params)
    agent, agent_slots, sharing = change(params.agent, [slot.agent for slot in slots], learner.sharing)
    slots = [slot._replace(agent=new) for slot, new in zip(slots, agent_slots, strict=True)]
    opt_state = optimisers.with_moments(learner.opt_state, params, slots)
    params = params._replace(agent=agent)
    return learner._replace(params=params, opt_state=opt_state, sharing=sharing), params


def _sums(episodes: Episode) -> Metrics:
    return {"train_return": episodes.reward.sum(), "train_length": episodes.valid.sum().astype(jnp.float32)}


def learner_state(state: SeedState) -> LearnerState:
    """The part of a seed's state that gradient steps change."""
    return LearnerState(state.params, state.opt_state, state.sharing, state.weighting)


def _add(stats: Metrics, new: Metrics) -> Metrics:
    return {name: value + new[name] if name in new else value for name, value in stats.items()}


def _join_axes(leaf: jax.Array) -> jax.Array:
    return leaf.reshape(-1, *leaf.shape[2:])
