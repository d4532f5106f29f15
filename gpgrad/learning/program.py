"""A run as jitted functions: first states, chunks of iterations, tests; vmapped over seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gpgrad import shards
from gpgrad.config.schema import Config
from gpgrad.envs.api import EnvParams
from gpgrad.learning import devices, external_rollout, probes, rollout
from gpgrad.learning.compose import compose
from gpgrad.learning.evaluate import make_evaluate, summary, test_keys
from gpgrad.learning.external_rollout import Orders, Simulators
from gpgrad.learning.initial import make_init
from gpgrad.learning.iteration import (
    Index,
    OverSeeds,
    make_chunk,
    make_learning_phase,
    make_store,
    per_seed,
    rollout_keys,
    stream,
    team,
)
from gpgrad.learning.learner import Parts
from gpgrad.types import Clock, Episode, Metrics, Params, Purpose, PyTree, SeedState


class Actor(NamedTuple):
    """A trained team: enough to act and to be tested. In a run every leaf has the leading axis S."""

    env_params: EnvParams
    params: Params
    sharing: PyTree
    key: jax.Array


class Program(NamedTuple):
    """A run's jitted functions; every leaf of `states` and `actors` has the leading axis S.

    init(seeds int32 [S]) -> states.
    chunk(clock, states, k) -> (clock, states): k iterations, k traced; the states are donated.
    test(actors, index) -> metrics [S] of the index-th test. final(actors, index) -> the same over more episodes.
    gradient_flow(clock, states) -> `probes.GradientFlow` [S, ...] where a setting asks for it, else nothing.
    simulators: of an environment outside of JAX that is collected by a Python loop; close them at the end.
    place(states, team) -> the same on the devices where `chunk` and `test` want them, for what was read from a file.
    """

    parts: Parts
    init: Callable[[jax.Array | np.ndarray], SeedState]
    chunk: Callable[[Clock, SeedState, int], tuple[Clock, SeedState]]
    test: Callable[[Actor, Index], Metrics]
    final: Callable[[Actor, Index], Metrics]
    gradient_flow: Callable[[Clock, SeedState], Metrics]
    simulators: Simulators | None = None
    place: Callable[[SeedState, Actor], tuple[SeedState, Actor]] = lambda states, team: (states, team)


def make_program(config: Config, parts: Parts | None = None) -> Program:
    """Compose and jit. Raises SettingError for settings that cannot work together."""
    parts = parts or compose(config)
    if external_rollout.is_external(parts.env):
        external_rollout.check(config, parts.env)
        if external_rollout.by_loop(parts.env):
            return make_external_program(config, parts)
    n, tests = devices.count(config), config.evaluation
    if devices.split(config).by == "batch":
        return make_sharded_program(config, parts, devices.split(config).count)
    chunk = devices.spread(make_chunk(config, parts), n, (False, True, False), (False, True))

    def tester(episodes: int, purpose: Purpose) -> Callable[[Actor, Index], Metrics]:
        return jax.jit(devices.spread(make_test(parts, episodes, purpose), n, (True, False), True))

    return Program(
        parts=parts,
        init=jax.jit(devices.spread(jax.vmap(make_init(config, parts)), n, (True,), True)),
        chunk=jax.jit(chunk, donate_argnums=1),
        test=tester(tests.episodes, Purpose.EVALUATE),
        final=tester(tests.final_episodes, Purpose.FINAL),
        gradient_flow=make_gradient_flow(config, parts),
    )


def make_sharded_program(config: Config, parts: Parts, n: int) -> Program:
    """As `make_program`, with every seed's batch, replay and environments split over n devices."""
    mesh, tests = devices.mesh(n, shards.AXIS), config.evaluation
    same: Any = PartitionSpec()
    split: Any = PartitionSpec(None, shards.AXIS)  # replay [S, capacity, ...]
    states = SeedState(*(same for _ in SeedState._fields))._replace(replay=split)
    sharded = parts._replace(shards=shards.Shards(n))

    def placed(specs: PyTree) -> PyTree:
        return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)

    def jit(function: Callable, ins: tuple, outs: PyTree, **options: Any) -> Callable:
        # Devices agree by construction, which the check of varying values cannot see.
        mapped = jax.shard_map(function, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)
        return jax.jit(mapped, in_shardings=placed(ins), out_shardings=placed(outs), **options)

    def tester(episodes: int, purpose: Purpose) -> Callable[[Actor, Index], Metrics]:
        return jit(make_test(sharded, episodes, purpose), (same, same), same)

    return Program(
        parts=parts,
        init=jax.jit(jax.vmap(make_init(config, parts)), out_shardings=placed(states)),
        chunk=jit(make_chunk(config, sharded), (same, states, same), (same, states), donate_argnums=1),
        test=tester(tests.episodes, Purpose.EVALUATE),
        final=tester(tests.final_episodes, Purpose.FINAL),
        gradient_flow=make_gradient_flow(config, parts),
        place=lambda own, team: jax.device_put((own, team), placed((states, same))),
    )


def make_external_program(config: Config, parts: Parts) -> Program:
    """As `make_program`, with a Python loop that collects episodes between jitted functions."""
    simulators, tests, store = external_rollout.Simulators(config, parts), config.evaluation, make_store(config, parts)
    learning_phase = make_learning_phase(config, parts)

    def orders(clock: Clock, state: SeedState) -> Orders:
        keys, k_act, eps = rollout_keys(config, state.key, clock.iterations, state.env_steps)
        return Orders(external_rollout.seeds(keys), k_act, team(parts, state.params, state.sharing), eps)

    def absorb(clock: Clock, states: SeedState, episodes: Episode) -> tuple[Clock, SeedState]:
        def one(over_seeds: OverSeeds, states: SeedState, episodes: Episode) -> tuple[Clock, SeedState]:
            return learning_phase(over_seeds, clock, over_seeds(store, (None, 0, 0))(clock, states, episodes))

        return per_seed(one, states, episodes)

    prepare, finish = jax.jit(jax.vmap(orders, (None, 0))), jax.jit(absorb, donate_argnums=1)

    def chunk(clock: Clock, states: SeedState, k: int) -> tuple[Clock, SeedState]:
        for _ in range(int(k)):
            clock, states = finish(clock, states, simulators.collect(prepare(clock, states)).episodes)
        return clock, states

    def tester(episodes: int, purpose: Purpose) -> Callable[[Actor, Index], Metrics]:
        def orders(actor: Actor, index: jax.Array) -> Orders:
            keys, k_act = test_keys(stream(actor.key, purpose, index), episodes)
            return Orders(external_rollout.seeds(keys), k_act, team(parts, actor.params, actor.sharing), jnp.zeros(()))

        def judge(actor: Actor, done: rollout.Rollout) -> Metrics:
            return {**summary(done), **parts.sharing.report(actor.params.agent, actor.sharing)}

        prepare, judge = jax.jit(jax.vmap(orders, (0, None))), jax.jit(jax.vmap(judge))
        return lambda actors, index: judge(actors, simulators.collect(prepare(actors, index)))

    return Program(
        parts=parts,
        init=jax.jit(jax.vmap(make_init(config, parts))),
        chunk=chunk,
        test=tester(tests.episodes, Purpose.EVALUATE),
        final=tester(tests.final_episodes, Purpose.FINAL),
        gradient_flow=make_gradient_flow(config, parts),
        simulators=simulators,
    )


def make_test(parts: Parts, episodes: int, purpose: Purpose) -> Callable[[Actor, jax.Array], Metrics]:
    """test(actors, index) -> metrics [S]; episodes depend on seed, purpose and index alone."""
    evaluate, diagnose = make_evaluate(parts, episodes), probes.make_diagnostics(parts)

    def test(actor: Actor, index: jax.Array) -> Metrics:
        members = team(parts, actor.params, actor.sharing)
        tested = evaluate(stream(actor.key, purpose, index), actor.env_params, members)
        report = parts.sharing.report(actor.params.agent, actor.sharing)
        return {**tested, **diagnose(actor.env_params, members), **report}

    return jax.vmap(test, (0, None))


def make_gradient_flow(config: Config, parts: Parts) -> Callable[[Clock, SeedState], Metrics]:
    """gradient_flow(clock, states) -> metrics [S, ...], empty unless `evaluation.gradient_flow`. Raises SettingError
    where there is none.
    """
    if not config.evaluation.gradient_flow:
        return lambda clock, states: {}
    probes.need_payoffs(parts)

    def flow(clock: Clock, state: SeedState) -> Metrics:
        return probes.gradient_flow(parts, clock, state)._asdict()

    return jax.jit(devices.spread(jax.vmap(flow, (None, 0)), devices.count(config), (False, True), True))


def actors(states: SeedState) -> Actor:
    """The teams of a run's seeds."""
    return Actor(states.env_params, states.params, states.sharing, states.key)
