"""The host's loop around the jitted program: iterate, test, show, save.

Chunks are cut at tests; between tests they are as long as keeps the display alive. Neither that nor when checkpoints
are written changes a number.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import SettingError
from gpgrad import checkpoint, hosts, logs, rollout, teams
from gpgrad.checkpoint import Position
from gpgrad.initial import start_clock
from gpgrad.logs import Row
from gpgrad.program import Actor, Program, actors
from gpgrad.recorder import Listener, Recorder, run_of
from gpgrad.settings import Config
from gpgrad.types import Clock, Params

SECONDS_BETWEEN_SIGNS = 2.0
PARENT = "GPGRAD_PARENT"  # the process whose end ends this one, set where a run trains its seeds as processes


class Result(NamedTuple):
    """What a run leaves.

    metrics: a row per seed and test, as in metrics.jsonl. final: a row per seed, the test of the last parameters.
    run_dir: its folder. params: trained parameters with the leading axis S, NumPy.
    """

    metrics: list[Row]
    final: list[Row]
    run_dir: Path
    params: Params


class Stopped(KeyboardInterrupt):
    """A signal ended the run; all of it is in a checkpoint."""


def finish(settings: Config, program: Program, folder: Path, say: Callable[[str], None]) -> Result:
    """Go on from a folder's newest whole checkpoint, or from the start, to the end: all seeds in one program."""
    template = jax.eval_shape(lambda: start(settings, program))
    stored = teams.fitting(folder, lambda: checkpoint.newest(folder, template, say))
    position, offsets = stored or (begin(settings, program), {})
    if int(position.clock.iterations):
        say(f"resuming {folder} at {int(position.clock.iterations):,} iterations")
    with Recorder(settings, folder, say, offsets) if hosts.first() else Listener() as recorder:
        with Saver(settings, folder, recorder) as saver:
            kept = train(settings, program, recorder, saver, position)
        checkpoint.save_team(folder, kept)
        final = test_rows(settings, program.final(kept, 0))
        recorder.finish(final)
        return Result(recorder.rows, final, folder, hosts.fetch(kept.params))


def begin(settings: Config, program: Program) -> Position:
    """Before the first test, with the teams that `init_from` names."""
    position = start(settings, program)
    if settings.init_from is None:
        return position
    return position._replace(states=teams.continued(settings, program, position.states))


def start(settings: Config, program: Program) -> Position:
    """Before the first test, with fresh teams."""
    states = program.init(np.arange(settings.seeds, dtype=np.int32) + settings.seed)
    kept = jax.tree.map(jnp.copy, actors(states))
    return Position(start_clock(), states, kept, np.zeros(settings.seeds, bool), np.zeros((), np.int32))


def train(settings: Config, program: Program, recorder: Recorder | Listener, saver: Saver, position: Position) -> Actor:
    """Iterate until every seed has t_max steps at a test; returns each seed's team as it was then."""
    worlds, every = settings.rollout.worlds, test_period(settings, program.parts.env.spec.episode_limit)
    while True:
        due = -(-int(position.tests) * every // worlds)  # the first iteration at or after the next test
        position = advance(settings, program, recorder, saver, position, due)
        position = test(settings, program, recorder, position)
        if bool(position.finished.all()):
            return position.kept


def test(settings: Config, program: Program, recorder: Recorder | Listener, position: Position) -> Position:
    """Test all teams, write a row for each seed that runs, keep the teams of those that have their steps."""
    clock, states, kept, finished, tests = position
    team = actors(states)
    tested = test_rows(settings, {**program.test(team, tests), **program.look(clock, states)})
    steps, sums, finished = hosts.fetch((states.env_steps, states.stats, finished))
    places = [{**describe(settings, clock, steps[i]), **averages(sums, i)} for i in range(settings.seeds)]
    rows = [{**place, **row} for place, row in zip(places, tested, strict=True)]
    recorder.write(rows, ~finished, program.host.report() if program.host else {})
    states = states._replace(stats=jax.tree.map(jnp.zeros_like, states.stats))
    ending = (steps >= settings.t_max) & ~finished
    return Position(clock, states, choose(ending, team, kept), finished | ending, np.asarray(tests + 1, np.int32))


def advance(
    settings: Config,
    program: Program,
    recorder: Recorder | Listener,
    saver: Saver,
    position: Position,
    target: int,
) -> Position:
    """Iterate up to a target count, in chunks that take about as long as the display waits."""
    done, length = int(position.clock.iterations), 1
    while done < target:
        length = min(length, target - done)
        began = time.monotonic()
        clock, states = program.chunk(position.clock, position.states, length)
        position = position._replace(clock=clock, states=states)
        steps, sums = hosts.fetch((states.env_steps, states.stats))
        took = time.monotonic() - began
        done += length
        mean = float(np.mean(steps))
        recorder.sign(mean, describe(settings, clock, int(mean)), averages(sums, 0))
        for line in program.host.news() if program.host else ():
            recorder.say(line)
        saver.visit(position)
        length = hosts.agree(max(1, min(2 * length, round(length * SECONDS_BETWEEN_SIGNS / max(took, 1e-3)))))
    return position


class Saver:
    """Writes checkpoints when they are due, and ends a run on SIGINT or SIGTERM once all of it is saved.

    A second SIGINT interrupts at once. Signals are left alone outside the main thread. A run that is one seed of
    another process's run also ends when that process is gone.
    """

    def __init__(self, settings: Config, folder: Path, recorder: Recorder | Listener) -> None:
        self._settings, self._folder, self._recorder = settings.checkpoint, folder, recorder
        self._last = time.monotonic()
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._parent = os.environ.get(PARENT)

    def __enter__(self) -> Saver:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def visit(self, position: Position) -> None:
        """Between two chunks. Raises Stopped after a signal."""
        if self._signal is None and self._parent not in (None, str(os.getppid())):
            self._note(signal.SIGHUP, None)
        due = hosts.agree(time.monotonic() - self._last >= 60 * self._settings.every_minutes)
        self._signal = hosts.largest(self._signal or 0) or None
        if not due and self._signal is None:
            return
        saved = self._save(position)
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            where = f"continue with: {sys.executable} -m gpgrad train --resume {run_of(self._folder)}"
            raise Stopped(f"{name} ended the run; {where}" if saved else f"{name} ended the run, without a checkpoint")

    def _save(self, position: Position) -> bool:
        try:
            checkpoint.save(self._folder, position, self._recorder.offsets(), self._settings.keep)
        except OSError as error:
            self._recorder.say(str(error))
            return False
        finally:
            self._last = time.monotonic()
        return True

    def _note(self, number: int, frame: object) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
        self._recorder.say("finishing the chunk, then saving; again to leave at once")


@jax.jit
def choose(mask: jax.Array, new: Actor, old: Actor) -> Actor:
    """The new team where the mask [S] says so."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


def test_period(settings: Config, episode_limit: int) -> int:
    """Episodes between tests. Raises SettingError for tests that cannot be told apart or never come in time."""
    evaluation, worlds = settings.evaluation, settings.rollout.worlds
    period = evaluation.every_episodes or -(-evaluation.every_steps // episode_limit)
    if period < worlds:
        raise SettingError(
            f"tests are due every {period} episodes, expected at least rollout.worlds = {worlds}, "
            f"which are collected at once: raise evaluation.every_steps or evaluation.every_episodes"
        )
    if evaluation.every_episodes is None and evaluation.every_steps > settings.t_max:
        raise SettingError(
            f"evaluation.every_steps is {evaluation.every_steps}, expected at most t_max = {settings.t_max}, "
            f"since a run ends at a test"
        )
    return period


def describe(settings: Config, clock: Clock, steps: int) -> Row:
    """Where a seed stands."""
    r = settings.rollout
    eps = rollout.epsilon(jnp.float32(steps), r.start, r.finish, r.anneal_steps)
    counts = {name: int(value) for name, value in clock._asdict().items()}
    return {"env_steps": int(steps), **counts, "epsilon": float(eps)}


def averages(stats: Mapping[str, np.ndarray], index: int) -> Row:
    """One seed's means since the last test: per episode for `train_*`, per update for the rest; None for none."""
    sums = {name: value[index] for name, value in stats.items()}
    updates, episodes = sums.pop("updates"), sums.pop("episodes")

    def mean(name: str, value: np.ndarray) -> Any:
        count = episodes if name.startswith("train_") else updates
        return logs.plain(value / count) if count else None

    return {name: mean(name, value) for name, value in sums.items()}


def test_rows(settings: Config, metrics: Mapping[str, jax.Array]) -> list[Row]:
    """A test's metrics [S, ...] as a row per seed."""
    arrays = {name: hosts.fetch(value) for name, value in metrics.items() if name != "returns"}
    return [
        {"seed": settings.seed + i, **{name: logs.plain(value[i]) for name, value in arrays.items()}}
        for i in range(settings.seeds)
    ]
