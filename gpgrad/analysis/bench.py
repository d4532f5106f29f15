"""Benchmarks: configurations measured in alternation in one process, so that their ratios are comparable.

Times are medians over rounds. The share of the machine counts the dense matrix products of the model, one-hot inputs
as if they were dense, against the rate of a large float32 product measured in the same rounds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.interpreters import partial_eval

from gpgrad.config.schema import Config
from gpgrad.envs import checking
from gpgrad.envs.api import Env, EnvParams, OneHot, View
from gpgrad.errors import SettingError
from gpgrad.learning import external_rollout, ragged_batches, replay
from gpgrad.learning.initial import example_episode, make_init, start_clock
from gpgrad.learning.iteration import make_collection, rearrange
from gpgrad.learning.learner import LearnerState, Parts, make_batch, make_gradient_step, make_update
from gpgrad.learning.program import make_program
from gpgrad.learning.ragged_batches import TimeBlocks
from gpgrad.methods.nets.agent import last_actions
from gpgrad.types import AgentOut, Batch, Clock, Episode, Params, PyTree, SeedState, TermInputs

MATRIX = 1024
WORLDS = 32
_RATES = {"world": "environment steps/s", "collection": "collected episodes/s", "iteration": "trained episodes/s"}
_LOOPS = 4  # updates per timed call, so that the overhead of a call is not attributed to an update


class Timed(NamedTuple):
    """A timed piece. call: what to time. units: number of units of work per call."""

    call: Callable[[], Any]
    units: float


class Setup(NamedTuple):
    """A configuration ready to be measured. flops: of one update. seed_bytes: the whole state of one seed."""

    label: str
    config: Config
    pieces: dict[str, Timed]
    compile_seconds: float
    flops: float
    seed_bytes: int
    replay_bytes: int


class DenseState(NamedTuple):
    """An environment whose one-hot state is dense in views; only for counting operations."""

    env: Env

    @property
    def spec(self):
        """The spec of the environment."""
        return self.env.spec

    def view(self, params, state) -> View:
        """The view of the environment with a dense state."""
        view = self.env.view(params, state)
        return view._replace(state=view.state.dense()) if isinstance(view.state, OneHot) else view


def setup(label: str, config: Config) -> Setup:
    """Compile all pieces of a configuration, with a replay of random episodes."""
    checking.refuse_named(config.env.name, config.env.options)
    program = make_program(config)
    parts = program.parts
    if external_rollout.is_external(parts.env):
        raise SettingError(f"bench measures JAX environments only; {config.env.name} is external")
    clock, states = start_clock(), program.init(jnp.arange(config.seeds, dtype=jnp.int32))
    began = time.monotonic()
    compiled = program.chunk.lower(clock, states, jnp.int32(1)).compile()  # type: ignore[attr-defined]
    seconds = time.monotonic() - began
    fill = -(-config.learner.batch_episodes // config.rollout.worlds)
    clock, states = compiled(clock, states, jnp.int32(fill))
    one: SeedState = jax.tree.map(lambda leaf: leaf[0], states)
    pieces = learner_pieces(config, parts, clock, one) | world_pieces(parts, one)
    pieces["collection"] = collection_piece(config, parts, one)
    pieces["iteration"] = _iteration(config, compiled, clock, states)
    kept, stored = (
        sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) // config.seeds for tree in (states, states.replay)
    )
    layouts = Counter(update_blocks(config, parts, clock, one))
    flops = sum(n * update_flops(config, parts, blocks) for blocks, n in layouts.items()) / _LOOPS
    return Setup(label, config, pieces, seconds, flops, kept, stored)


def _iteration(config: Config, compiled: Callable, clock: Clock, states: SeedState) -> Timed:
    """A whole iteration of all seeds: collection, its updates, bookkeeping. States are carried between calls."""
    current = [clock, jax.tree.map(jnp.copy, states)]

    def call() -> Any:
        current[:] = compiled(*current, jnp.int32(_LOOPS))
        return current[1].env_steps

    spec_steps = config.rollout.worlds * config.seeds
    return Timed(call, _LOOPS * spec_steps)


def collection_piece(config: Config, parts: Parts, state: SeedState) -> Timed:
    """Collection of episodes of one seed."""
    collect = jax.jit(make_collection(config, parts))
    learner = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)
    zero = jnp.zeros((), jnp.int32)
    return Timed(lambda: collect(state.key, zero, state.env_params, learner, zero)[1], config.rollout.worlds)


def learner_pieces(config: Config, parts: Parts, clock: Clock, state: SeedState) -> dict[str, Timed]:
    """An update of one seed, and its parts alone. The parts do not add up: fused, they share work."""
    count = config.learner.batch_episodes
    learner = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)

    # All arrays are arguments, since the compiler would precompute functions of captured constants.
    def sample(state: SeedState, clock: Clock, key: jax.Array) -> Episode:
        return replay.sample(key, state.replay, clock.episodes, count)

    def view(state: SeedState, episodes: Episode) -> Batch:
        return make_batch(parts.env, state.env_params, episodes, parts.reward_scale)

    def unroll(params: Params, state: SeedState, batch: Batch) -> AgentOut:
        agent, gates = parts.sharing.per_agent_params(params.agent, state.sharing), parts.sharing.gates(state.sharing)
        return parts.agent.unroll(agent, gates, batch.view.obs, last_actions(batch.actions), state.key)

    def unrolled(params: Params, state: SeedState, batch: Batch) -> jax.Array:
        return jnp.square(unroll(params, state, batch).q).mean()

    def mixing(params: Params, out: AgentOut, state: SeedState, clock: Clock, batch: Batch) -> jax.Array:
        terms = parts.decomposition.terms(
            TermInputs(params.decomposition, state.target.decomposition, out, out, batch, clock, state.key)
        )
        return terms.loss.mean() + terms.aux

    def optimise(grads: Params, learner: LearnerState) -> tuple[PyTree, PyTree]:
        steps, opt_state = parts.optimiser.update(grads, learner.opt_state, learner.params)
        return optax.apply_updates(learner.params, steps), opt_state

    def adapt(state: SeedState, clock: Clock, learner: LearnerState) -> tuple[LearnerState, Params]:
        return rearrange(learner, lambda *agent: parts.sharing.adapt(state.key, clock, *agent))

    episodes = jax.jit(sample)(state, clock, state.key)
    batch = jax.jit(view)(state, episodes)
    out = jax.jit(unroll)(state.params, state, batch)
    calls = {
        "update": (_updates(parts, count), (state, clock, learner), _LOOPS),
        "sampling": (sample, (state, clock, state.key), 1),
        "view": (view, (state, episodes), 1),
        "unroll, online": (jax.grad(unrolled), (state.params, state, batch), 1),
        "unroll, target": (lambda *seen: unroll(*seen).q, (state.params, state, batch), 1),
        "mixer and loss": (jax.grad(mixing, (0, 1), allow_int=True), (state.params, out, state, clock, batch), 1),
        "optimiser": (optimise, (state.params, learner), 1),
        "adaptation": (adapt, (state, clock, learner), 1),  # once per copy of the target network
    }
    jitted = {name: (jax.jit(f), a, units) for name, (f, a, units) in calls.items()}
    return {name: Timed(lambda f=f, a=a: f(*a), units) for name, (f, a, units) in jitted.items()}


def _updates(parts: Parts, count: int) -> Callable[[SeedState, Clock, LearnerState], LearnerState]:
    """_LOOPS updates with batches of `count` episodes, one after the other in one program."""
    gradient_step = make_gradient_step(parts)

    def several(state: SeedState, clock: Clock, learner: LearnerState) -> LearnerState:
        def step(i: jax.Array, learner: LearnerState) -> LearnerState:
            key = update_key(state, i)
            episodes = replay.sample(key, state.replay, clock.episodes, count)
            return gradient_step(key, clock, learner, state.target, state.env_params, episodes)[0]

        return jax.lax.fori_loop(0, _LOOPS, step, learner)

    return several


def world_pieces(parts: Parts, state: SeedState) -> dict[str, Timed]:
    """Steps of 32 environments with random available actions: step, view, and one reset per episode."""
    env, limit = parts.env, parts.env.spec.episode_limit

    def episode(key: jax.Array, params: EnvParams) -> jax.Array:
        k_reset, k_steps = jax.random.split(key)
        keys = jax.random.split(k_reset, WORLDS)
        worlds = jax.vmap(env.reset, (0, None))(keys, params)

        def step(carry, key):
            worlds, total = carry
            view = jax.vmap(env.view, (None, 0))(params, worlds)
            k_act, k_world = jax.random.split(key)
            scores = jnp.where(view.avail, jax.random.uniform(k_act, view.avail.shape), -1.0)
            keys = jax.random.split(k_world, WORLDS)
            after = jax.vmap(env.step, (0, None, 0, 0))(keys, params, worlds, jnp.argmax(scores, -1))
            return (after.state, total + after.reward.sum() + view.obs.sum()), None

        return jax.lax.scan(step, (worlds, jnp.zeros(())), jax.random.split(k_steps, limit))[0][1]

    run = jax.jit(episode)
    return {"world": Timed(lambda: run(state.key, state.env_params), WORLDS * limit)}


def update_key(state: SeedState, i: jax.Array | int) -> jax.Array:
    """The random key of the i-th update in a timed call."""
    return jax.random.fold_in(state.key, i)


def update_blocks(config: Config, parts: Parts, clock: Clock, state: SeedState) -> list[TimeBlocks]:
    """What is computed of the batch of each update of a timed call, since episodes may end before the limit."""
    spec, count = parts.env.spec, config.learner.batch_episodes
    if not spec.ends_early:
        return [ragged_batches.whole(spec.episode_limit, count)] * _LOOPS
    sample, layouts = jax.jit(replay.sample, static_argnums=3), ragged_batches.options(spec.episode_limit, count)
    batches = [sample(update_key(state, i), state.replay, clock.episodes, count) for i in range(_LOOPS)]
    return [layouts[int(ragged_batches.choose(layouts, batch.valid.sum(1)))] for batch in batches]


def update_flops(config: Config, parts: Parts, blocks: TimeBlocks) -> float:
    """Floating-point operations of the dense matrix products in one update on these time blocks."""
    env: Env = DenseState(parts.env)  # type: ignore[assignment]
    dense = parts._replace(env=env, agent=ragged_batches.agent(blocks, parts.agent))

    def update(key: jax.Array) -> Any:
        state = make_init(config, parts)(jnp.zeros((), jnp.int32))
        learner = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)
        example = example_episode(parts)
        count = config.learner.batch_episodes
        episodes = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), example)
        episodes = ragged_batches.cut(episodes, blocks.ends[-1])
        batch = make_batch(dense.env, state.env_params, episodes, blocks=blocks)
        return make_update(dense)(key, start_clock(), learner, state.target, batch)

    def init(key: jax.Array) -> Any:
        return make_init(config, parts)(jnp.zeros((), jnp.int32))

    key = jax.random.key(0)
    return count_products(_read(jax.make_jaxpr(update)(key))) - count_products(_read(jax.make_jaxpr(init)(key)))


def _read(closed: Any) -> Any:
    """A jaxpr without equations that no output depends on, as after dead-code elimination."""
    return partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))[0]


def count_products(jaxpr: Any) -> float:
    """Floating-point operations of all `dot_general`s in a jaxpr, including loops of known length.

    Of branches, those with the most: branches by platform hold the same products.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cond":
            total += max(count_products(branch.jaxpr) for branch in equation.params["branches"])
            continue
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = np.prod([equation.invars[0].aval.shape[i] for i in contracted])
            total += 2.0 * depth * np.prod(equation.outvars[0].aval.shape)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += times * count_products(inner)
    return total


def measure(setups: Sequence[Setup], rounds: int, names: Collection[str] | None = None) -> dict[str, Any]:
    """Time all pieces (or those in `names`) of all configurations in alternation, for a number of rounds.

    Returns seconds per unit of every round.
    """
    matrix = jnp.ones((MATRIX, MATRIX))
    product = jax.jit(lambda a: a @ a)
    everything = {("", "matrix"): Timed(lambda: product(matrix), 1)}
    everything |= {
        (s.label, name): piece for s in setups for name, piece in s.pieces.items() if names is None or name in names
    }
    for piece in everything.values():
        jax.block_until_ready(piece.call())
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in everything}
    for _ in range(rounds):
        for key, piece in everything.items():
            began = time.perf_counter()
            jax.block_until_ready(piece.call())
            seconds[key].append((time.perf_counter() - began) / piece.units)
    return {"rounds": rounds, "seconds": seconds}


def report(setups: Sequence[Setup], measured: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per configuration: medians, shares, and ratios to the first with 95 percent intervals.

    All values are per seed: the time of an iteration is that of one episode of one seed with its updates. `measured`
    must include update and iteration.
    """
    seconds = {key: np.array(values) for key, values in measured["seconds"].items()}
    rate = 2.0 * MATRIX**3 / np.median(seconds["", "matrix"])
    rows = []
    for s in setups:
        update = seconds[s.label, "update"]
        row: dict[str, Any] = {"configuration": s.label, "matrix_gflops": rate / 1e9}
        for name in s.pieces:
            if name not in _RATES and (s.label, name) in seconds:
                row[f"{name} ms"] = 1e3 * float(np.median(seconds[s.label, name]))
        row["update gflop"] = s.flops / 1e9
        row["share of machine"] = s.flops / float(np.median(update)) / rate
        for name, title in _RATES.items():
            if (s.label, name) in seconds:
                row[title] = 1 / float(np.median(seconds[s.label, name]))
        whole = seconds[s.label, "iteration"]
        row["outside the update"] = 1 - float(np.median(update * s.config.learner.updates_per_episode / whole))
        row["compile s"] = s.compile_seconds
        row["replay MiB per seed"] = s.replay_bytes / 2**20
        row["state MiB per seed"] = s.seed_bytes / 2**20
        for name in ("update", "iteration"):
            compared = ratio(seconds[s.label, name], seconds[setups[0].label, name])
            row |= dict(zip((f"{name} ratio", f"{name} ratio low", f"{name} ratio high"), compared, strict=True))
        rows.append(row)
    return rows


def ratio(times: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Median of paired ratios with a 95 percent bootstrap interval."""
    paired = times / reference
    draws = np.random.default_rng(0).integers(0, len(paired), (2000, len(paired)))
    low, high = np.quantile(np.median(paired[draws], axis=1), [0.025, 0.975])
    return float(np.median(paired)), float(low), float(high)
