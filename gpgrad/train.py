"""A run: the host's loop around the jitted program. Everything that touches the world outside happens here.

Chunks are cut at tests; between tests they are as long as keeps the display alive. Neither changes a number.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import SettingError
from gpgrad import checkpoint, config, logs, plan, rollout
from gpgrad.config import Config
from gpgrad.logs import Row
from gpgrad.program import Actor, Program, actors, make_program, start_clock
from gpgrad.progress import Display
from gpgrad.types import Clock, Params, SeedState

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


def run(settings: Config, say: Callable[[str], None] = print) -> Result:
    """Train all seeds of a configuration to t_max steps. Raises SettingError before anything compiles."""
    config_check(settings)
    program = make_program(settings)
    needs = plan.make_plan(settings, program.parts)
    plan.refuse_if_too_big(needs, settings)
    say(str(needs))
    folder = create_folder(settings)
    say(f"results: {folder}")
    with Recorder(settings, folder, say) as recorder:
        kept = train(settings, program, recorder)
        final = test_rows(settings, program.final(kept, 0))
        recorder.finish(final)
    checkpoint.save_team(folder, kept)
    return Result(recorder.rows, final, folder, jax.tree.map(np.array, kept.params))


def train(settings: Config, program: Program, recorder: Recorder) -> Actor:
    """Iterate until every seed has t_max steps at a test; returns each seed's team as it was then."""
    seeds = jnp.arange(settings.seeds, dtype=jnp.int32) + settings.seed
    clock, states = start_clock(), program.init(seeds)
    worlds, every = settings.rollout.worlds, test_period(settings, program.parts.env.spec.episode_limit)
    kept, finished, index = actors(states), np.zeros(settings.seeds, bool), 0
    while True:
        team = actors(states)
        rows = test_rows(settings, program.test(team, index))
        steps = np.array(states.env_steps)
        recorder.write([
            {**describe(settings, clock, steps[i]), **averages(states, i), **row}
            for i, row in enumerate(rows)
        ], ~finished)  # fmt: skip
        states = states._replace(stats=jax.tree.map(jnp.zeros_like, states.stats))
        ending = (steps >= settings.t_max) & ~finished
        kept, finished = choose(ending, team, kept), finished | ending
        if finished.all():
            return kept
        index += 1
        target = -(-index * every // worlds)  # the first iteration at or after the test that is due
        clock, states = advance(program, clock, states, target, settings, recorder)


def advance(
    program: Program, clock: Clock, states: SeedState, target: int, settings: Config, recorder: Recorder
) -> tuple[Clock, SeedState]:
    """Run iterations up to a target count, in chunks that take about as long as the display waits."""
    done, length = int(clock.iterations), 1
    while done < target:
        length = min(length, target - done)
        began = time.monotonic()
        clock, states = program.chunk(clock, states, length)
        steps = float(np.mean(np.array(states.env_steps)))
        took = time.monotonic() - began
        done += length
        recorder.sign(steps, describe(settings, clock, int(steps)), averages(states, 0))
        length = max(1, min(2 * length, round(length * SECONDS_BETWEEN_SIGNS / max(took, 1e-3))))
    return clock, states


def choose(mask: np.ndarray, new: Actor, old: Actor) -> Actor:
    """The new team where the mask [S] says so."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


def test_period(settings: Config, episode_limit: int) -> int:
    """Episodes between tests."""
    evaluation = settings.evaluation
    return evaluation.every_episodes or -(-evaluation.every_steps // episode_limit)


def describe(settings: Config, clock: Clock, steps: int) -> Row:
    """Where a seed stands."""
    r = settings.rollout
    eps = rollout.epsilon(np.float32(steps), r.start, r.finish, r.anneal_steps)  # type: ignore[arg-type]
    counts = {name: int(value) for name, value in clock._asdict().items()}
    return {"env_steps": int(steps), **counts, "epsilon": float(eps)}


def averages(states: SeedState, index: int) -> Row:
    """One seed's means since the last test: per episode for `train_*`, per update for the rest; None for none."""
    sums = {name: np.array(value)[index] for name, value in states.stats.items()}
    updates, episodes = sums.pop("updates"), sums.pop("episodes")

    def mean(name: str, value: np.ndarray) -> Any:
        count = episodes if name.startswith("train_") else updates
        return logs.plain(value / count) if count else None

    return {name: mean(name, value) for name, value in sums.items()}


def test_rows(settings: Config, metrics: Mapping[str, jax.Array]) -> list[Row]:
    """A test's metrics [S, ...] as a row per seed."""
    arrays = {name: np.array(value) for name, value in metrics.items() if name != "returns"}
    return [
        {"seed": settings.seed + i, **{name: logs.plain(value[i]) for name, value in arrays.items()}}
        for i in range(settings.seeds)
    ]


def config_check(settings: Config) -> None:
    """Refuse a configuration that was not made by `load`, such as one changed by dataclasses.replace."""
    from gpgrad import settings as rules

    rules.check(settings)


def create_folder(settings: Config) -> Path:
    """A new folder for a run, with its resolved settings and the versions of what it ran on."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = settings.log.name or f"{settings.env.name}-{settings.algo}-{config.fingerprint(settings)}-{now}"
    folder = Path(settings.log.dir) / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise SettingError(f"the run folder {folder} exists already, expected a new log.name") from None
    (folder / "config.yaml").write_text(config.dump(settings))
    (folder / "manifest.json").write_text(json.dumps(manifest(settings), indent=2))
    return folder


def manifest(settings: Config) -> Row:
    """Versions and devices of a run."""
    packages = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint", "wandb", "jaxmarl")
    return {
        "fingerprint": config.fingerprint(settings),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
        **{name: importlib.metadata.version(name) for name in packages},
    }


class Recorder:
    """Writes rows to the run's files, to wandb and to the terminal."""

    def __init__(self, settings: Config, folder: Path, say: Callable[[str], None]) -> None:
        self.rows: list[Row] = []
        self._say, self._began = say, time.monotonic()
        self._metrics = logs.JsonLines(folder / "metrics.jsonl")
        self._timing = logs.JsonLines(folder / "timing.jsonl")
        self._final = logs.JsonLines(folder / "final.jsonl")
        seeds = range(settings.seed, settings.seed + settings.seeds)
        log = settings.log
        self._mirror = logs.Mirror(log.wandb, log.project, folder.name, seeds, config.flat(settings), folder)
        self._display = Display(f"{settings.env.name} {settings.algo}", settings.t_max)
        self._warned = False

    def __enter__(self) -> Recorder:
        self._display.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._display.stop()
        self._mirror.close()
        self._warn()
        for file in (self._metrics, self._timing, self._final):
            file.close()

    def write(self, rows: list[Row], running: np.ndarray) -> None:
        """Rows of a test, one per seed, for the seeds that still run."""
        written = [row for row, on in zip(rows, running, strict=True) if on]
        for row in written:
            self._metrics.write(row)
            self._mirror.write(row["seed"], row)
        self.rows += written
        first = written[0]
        seconds = time.monotonic() - self._began
        self._timing.write({"iterations": first["iterations"], "env_steps": first["env_steps"], "seconds": seconds})
        self._display.test(written)
        self._warn()

    def sign(self, steps: float, place: Row, means: Row) -> None:
        """A sign of life between tests."""
        self._display.update(steps, place, means)

    def finish(self, rows: list[Row]) -> None:
        """The final test."""
        for row in rows:
            self._final.write(row)
            self._mirror.summarise(row["seed"], {f"final_{k}": v for k, v in row.items()})
        self._display.final(rows)

    def _warn(self) -> None:
        if self._mirror.problem and not self._warned:
            self._warned = True
            self._say(self._mirror.problem)
