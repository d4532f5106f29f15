"""The Python loop around the jitted program: iterate, test, log, save checkpoints.

The jitted program runs a chunk of iterations at a time. A chunk ends at a test at the latest, and earlier so that the
display is updated every few seconds. Neither the chunks' lengths nor the times of checkpoints change a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning import multiprocess, rollout
from gpgrad.learning.initial import start_clock
from gpgrad.learning.program import Actor, Program, actors
from gpgrad.runs import divergence, logs
from gpgrad.runs.divergence import Diverged
from gpgrad.runs.logs import Row
from gpgrad.training import checkpoint, warm_start
from gpgrad.training.checkpoint import Position
from gpgrad.training.ending import Saver
from gpgrad.training.recorder import Listener, Recorder, run_of
from gpgrad.types import PATIENCE, Clock, Params, PyTree

SECONDS_BETWEEN_SIGNS = 2.0


class Result(NamedTuple):
    """What a run leaves.

    metrics: a row per seed and test, as in metrics.jsonl. final: a row per seed, the test of the last parameters.
    run_dir: its folder. params: trained parameters with the leading axis S, NumPy.
    """

    metrics: list[Row]
    final: list[Row]
    run_dir: Path
    params: Params


def finish(config: Config, program: Program, folder: Path, say: Callable[[str], None]) -> Result:
    """Train all seeds in one program to the end, from the newest intact checkpoint in the folder or from the start."""
    template = jax.eval_shape(lambda: start(config, program))
    stored = warm_start.fitting(folder, lambda: checkpoint.newest(folder, template, say))
    position, offsets = stored or (begin(config, program), {})
    states, kept = program.place(position.states, position.kept)
    position = position._replace(states=states, kept=kept)
    if int(position.clock.iterations):
        say(f"resuming {folder} at {int(position.clock.iterations):,} iterations")
    with Recorder(config, folder, say, offsets) if multiprocess.first() else Listener() as recorder:
        with Saver(config, folder, recorder) as saver:
            position = train(config, program, recorder, saver, position)
            saver.leave_if_stopped(position)
            checkpoint.save_team(folder, position.kept)
            saver.leave_if_stopped(position)
            final = last_test(config, program, recorder, position.kept)
            recorder.finish(final)
            saver.end()
        if config.learner.stop_on_nan and recorder.diverged:
            raise Diverged(divergence.sentence(recorder.diverged, run_of(folder)))
        return Result(recorder.rows, final, folder, multiprocess.fetch(position.kept.params))


def begin(config: Config, program: Program) -> Position:
    """The position before the first test, with the teams that `init_from` names, if any."""
    position = start(config, program)
    if config.init_from is None:
        return position
    return position._replace(states=warm_start.continued(config, program, position.states))


def start(config: Config, program: Program) -> Position:
    """The position before the first test, with newly initialised teams."""
    states = program.init(np.arange(config.seeds, dtype=np.int32) + config.seed)
    kept = jax.tree.map(jnp.copy, actors(states))
    return Position(start_clock(), states, kept, np.zeros(config.seeds, bool), np.zeros((), np.int32))


def train(
    config: Config, program: Program, recorder: Recorder | Listener, saver: Saver, position: Position
) -> Position:
    """Iterate until each seed has reached t_max steps at a test or has diverged; `kept` holds its team of that time."""
    worlds, every = config.rollout.worlds, test_period(config, program.parts.env.spec.episode_limit)
    while not bool(position.finished.all()):
        due = -(-int(position.tests) * every // worlds)  # the first iteration at or after the next test
        position = advance(config, program, recorder, saver, position, due)
        position = without_diverged(config, position)
        if not bool(position.finished.all()):
            position = test(config, program, recorder, position)
    return position


def without_diverged(config: Config, position: Position) -> Position:
    """The position with diverged seeds marked as finished, if `learner.stop_on_nan` is on."""
    if not config.learner.stop_on_nan:
        return position
    streak, finished = multiprocess.fetch((position.states.divergence.streak, position.finished))
    lost = (streak >= PATIENCE) & ~finished
    if not lost.any():
        return position
    return position._replace(kept=choose(lost, actors(position.states), position.kept), finished=finished | lost)


def watch(config: Config, recorder: Recorder | Listener, position: Position) -> bool:
    """Record seeds that have diverged since the last call; True if no seed is left to train."""
    (streak, since), finished = multiprocess.fetch((position.states.divergence, position.finished))
    lost = (streak >= PATIENCE) & ~finished
    for i in np.flatnonzero(lost):
        recorder.mark(lost_row(config, position.clock, int(i), streak, since))
    return config.learner.stop_on_nan and bool((lost | finished).all())


def lost_row(config: Config, clock: Clock, i: int, streak: np.ndarray, since: np.ndarray) -> Row:
    """The row of diverged.jsonl: when the updates of the i-th seed became non-finite."""
    return {"seed": config.seed + i, "env_steps": int(since[i]), "updates": int(clock.updates) - int(streak[i])}


def last_test(config: Config, program: Program, recorder: Recorder | Listener, kept: Actor) -> list[Row]:
    """Test the last parameters: a row per seed, without seeds that were stopped because they diverged."""
    lost = [row["seed"] for row in recorder.diverged] if config.learner.stop_on_nan else []
    if multiprocess.largest(len(lost)) == config.seeds:
        return []
    return [row for row in test_rows(config, program.final(kept, 0)) if row["seed"] not in lost]


def test(config: Config, program: Program, recorder: Recorder | Listener, position: Position) -> Position:
    """Test all teams, log a row for each running seed, and keep the teams of seeds that have reached t_max steps."""
    clock, states, kept, finished, tests = position
    team = actors(states)
    tested = test_rows(config, {**program.test(team, tests), **program.gradient_flow(clock, states)})
    steps, sums, finished, whole = multiprocess.fetch(
        (states.env_steps, states.stats, finished, is_finite(team.params))
    )
    ending = (steps >= config.t_max) & ~finished
    lost = ending & ~whole  # the very last updates
    streak, since = multiprocess.fetch(states.divergence)
    for i in np.flatnonzero(lost):
        recorder.mark(lost_row(config, clock, int(i), streak, np.where(streak, since, steps)))
    shown = ~finished & ~(lost & config.learner.stop_on_nan)
    places = [{**describe(config, clock, steps[i]), **averages(sums, i)} for i in range(config.seeds)]
    rows = [{**place, **row} for place, row in zip(places, tested, strict=True)]
    recorder.write(rows, shown, program.simulators.report() if program.simulators else {})
    recorder.keep_best(rows, shown, team)
    states = states._replace(stats=jax.tree.map(jnp.zeros_like, states.stats))
    return Position(clock, states, choose(ending, team, kept), finished | ending, np.asarray(tests + 1, np.int32))


def advance(
    config: Config,
    program: Program,
    recorder: Recorder | Listener,
    saver: Saver,
    position: Position,
    target: int,
) -> Position:
    """Iterate up to a target count, in chunks of about SECONDS_BETWEEN_SIGNS seconds."""
    done, length = int(position.clock.iterations), 1
    while done < target:
        length = min(length, target - done)
        began = time.monotonic()
        clock, states = program.chunk(position.clock, position.states, length)
        position = position._replace(clock=clock, states=states)
        steps, sums = multiprocess.fetch((states.env_steps, states.stats))
        took = time.monotonic() - began
        done += length
        mean = float(np.mean(steps))
        recorder.sign(mean, describe(config, clock, int(mean)), averages(sums, 0))
        for line in program.simulators.news() if program.simulators else ():
            recorder.say(line)
        if watch(config, recorder, position):
            break
        saver.visit(position)
        length = multiprocess.agree(max(1, min(2 * length, round(length * SECONDS_BETWEEN_SIGNS / max(took, 1e-3)))))
    return position


@jax.jit
def choose(mask: jax.Array, new: Actor, old: Actor) -> Actor:
    """The new team where the mask, bool [S], is True, the old one elsewhere."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


@jax.jit
def is_finite(tree: PyTree) -> jax.Array:
    """Whether all numbers of each seed are finite: bool [S]."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves]), 0)


def test_period(config: Config, episode_limit: int) -> int:
    """Episodes between tests. Raises SettingError if tests would coincide or the first would come too late."""
    evaluation, worlds = config.evaluation, config.rollout.worlds
    period = evaluation.every_episodes or -(-evaluation.every_steps // episode_limit)
    if period < worlds:
        raise SettingError(
            f"tests are due every {period} episodes, but must be at least rollout.worlds = {worlds} episodes apart, "
            f"which are collected at once: raise evaluation.every_steps or evaluation.every_episodes"
        )
    if evaluation.every_episodes is None and evaluation.every_steps > config.t_max:
        raise SettingError(
            f"evaluation.every_steps must be at most t_max = {config.t_max}, since a run ends at a test "
            f"(got {evaluation.every_steps})"
        )
    return period


def describe(config: Config, clock: Clock, steps: int) -> Row:
    """A seed's progress: counts, and epsilon."""
    r = config.rollout
    eps = rollout.epsilon(jnp.float32(steps), r.start, r.finish, r.anneal_steps)
    counts = {name: int(value) for name, value in clock._asdict().items()}
    return {"env_steps": int(steps), **counts, "epsilon": float(eps)}


def averages(stats: Mapping[str, np.ndarray], index: int) -> Row:
    """One seed's means since the last test: per episode for `train_*`, per update for the rest; None for none.

    `nonfinite_updates` is no mean: how many had a loss or a gradient that was not finite.
    """
    sums = {name: value[index] for name, value in stats.items()}
    updates, episodes, bad = (sums.pop(name) for name in ("updates", "episodes", "nonfinite_updates"))

    def mean(name: str, value: np.ndarray) -> Any:
        count = episodes if name.startswith("train_") else updates
        return logs.plain(value / count) if count else None

    return {**{name: mean(name, value) for name, value in sums.items()}, "nonfinite_updates": int(bad)}


def test_rows(config: Config, metrics: Mapping[str, jax.Array]) -> list[Row]:
    """A test's metrics [S, ...] as a row per seed."""
    arrays = {name: multiprocess.fetch(value) for name, value in metrics.items() if name != "returns"}
    return [
        {"seed": config.seed + i, **{name: logs.plain(value[i]) for name, value in arrays.items()}}
        for i in range(config.seeds)
    ]
