"""Writing a run's folder: its settings and manifest, its rows, and the progress display."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from gpgrad import envs
from gpgrad.config import dump, fingerprint, flat, label, plugins, seal
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning.program import Actor
from gpgrad.runs import divergence, logs, method_activity, provenance
from gpgrad.runs.loggers import JsonlLogger, choose
from gpgrad.runs.loggers.jsonl import FILES as FILES
from gpgrad.runs.logs import Row
from gpgrad.runs.progress import Display
from gpgrad.runs.run_folder import SEEDS
from gpgrad.training import pictures
from gpgrad.training.best import Best


def run_of(folder: Path) -> Path:
    """The run that a single seed's folder belongs to, or the folder itself."""
    above = folder.parent.parent
    return above if folder.parent.name == SEEDS and (above / "config.yaml").is_file() else folder


def check_folder(config: Config) -> None:
    """Check that the run's folder can be made and its loggers are there, before any work. Raises SettingError."""
    choose.require(config)
    root, name = Path(config.log.dir), config.log.name
    try:
        above = next(place for place in (root, *root.parents) if place.exists())
        if not above.is_dir():
            raise SettingError(f"log.dir must be a folder, but {above} is a file (got {root})")
        taken = name is not None and (root / name).exists()
    except (OSError, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(f"no run can be in log.dir {root}: {getattr(error, 'strerror', None) or error}") from None
    if taken:
        raise SettingError(f"the run folder {root / str(name)} exists already: choose a new log.name, or use --resume")


def create_folder(config: Config) -> Path:
    """A new folder for a run."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    world = config.env.name.replace("/", "_").replace(":", "_")  # some host worlds' names hold them
    name = config.log.name or f"{world}-{label(config)}-{fingerprint(config)}-{now}"
    folder = Path(config.log.dir) / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise SettingError(f"the run folder {folder} exists already: choose a new log.name, or use --resume") from None
    except OSError as error:
        raise SettingError(f"the run folder {folder} cannot be made: {error.strerror}") from None
    return folder


def describe_run(config: Config, folder: Path, source: Row | None = None, earlier: Row | None = None) -> None:
    """Write the manifest of a new run, then its resolved settings: whole, or not at all after a kill.

    source: the teams it starts from, as `teams_of` says. earlier: the manifest of the run that this one extends.
    """
    provenance.write(folder, provenance.begin(config, source, earlier) | machine(config))
    draft = folder / "config.yaml.draft"
    draft.write_text(dump(config))
    draft.replace(folder / "config.yaml")


def teams_of(config: Config) -> dict[str, str] | None:
    """Where the teams that a run starts from are, and what names their content; None of a fresh start."""
    if config.init_from is None:
        return None
    folder = Path(config.init_from)
    return {"folder": str(folder.resolve()), "content": seal.team_content(folder)}


def machine(config: Config) -> Row:
    """Manifest entries about devices, precision, plugins and the simulator of an external environment."""
    simulator = envs.make(config.env.name, **config.env.options) if envs.is_external(config.env.name) else None
    return {
        **({"plugins": plugins.manifest(config.plugin)} if config.plugin else {}),
        "devices": [str(device) for device in jax.devices()],
        "matmul_precision": jax.config.values["jax_default_matmul_precision"] or "default",
        **({"simulator": simulator.sizes.versions} if simulator else {}),  # type: ignore[attr-defined]
    }


class Listener:
    """Replaces `Recorder` in processes that do not write: only diverged seeds are remembered."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.diverged: list[Row] = []

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def offsets(self) -> dict[str, int]:
        """None."""
        return {}

    def say(self, line: str) -> None:
        """Nothing is said."""

    def write(self, rows: list[Row], running: np.ndarray, timing: Row | None = None) -> None:
        """Nothing is written."""

    def sign(self, steps: float, place: Row, means: Row) -> None:
        """Nothing is shown."""

    def mark(self, row: Row) -> None:
        """Remember a seed that has diverged, once."""
        if row["seed"] not in [known["seed"] for known in self.diverged]:
            self.diverged.append(row)

    def keep_best(self, rows: list[Row], running: np.ndarray, team: Actor) -> None:
        """Nothing is kept: `checkpoint.keep_best` is refused with several processes."""

    def finish(self, rows: list[Row]) -> None:
        """Nothing is written."""


class Recorder:
    """Writes rows to the run's files, to further loggers and to the terminal."""

    def __init__(self, config: Config, folder: Path, say: Callable[[str], None], offsets: dict[str, int]) -> None:
        """`offsets`: bytes of each file that a checkpoint knows of; the rest of the file is cut off."""
        self._files = JsonlLogger(folder, offsets)
        self.rows: list[Row] = logs.read_rows(folder / "metrics.jsonl")
        self.diverged: list[Row] = logs.read_rows(folder / f"{divergence.NAME}.jsonl")
        earlier = logs.read_rows(folder / "timing.jsonl")
        self._say, self._began = say, time.monotonic() - (earlier[-1]["seconds"] if earlier else 0.0)
        logged = flat(config) | {"label": label(config)}
        self._mirrors = choose.choose(config, run_of(folder), folder, logged, self.rows)
        self._display = Display(f"{config.env.name} {label(config)}", config.t_max)
        self._warned: set[str] = set()
        self._config = config
        self._best = Best(folder) if config.checkpoint.keep_best else None
        self._gallery = pictures.Gallery(self._mirrors, config.t_max)

    def __enter__(self) -> Recorder:
        self._display.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._display.stop()
        for mirror in self._mirrors:
            mirror.close()
        self._warn()
        self._files.close()

    def offsets(self) -> dict[str, int]:
        """Bytes written to each file."""
        return self._files.offsets()

    def say(self, line: str) -> None:
        """Print a line beside the display."""
        self._display.say(line)

    def write(self, rows: list[Row], running: np.ndarray, timing: Row | None = None) -> None:
        """Rows of a test, one per seed, for the seeds that still run. timing: more of what it took to get there."""
        written = [row for row, on in zip(rows, running, strict=True) if on]
        for row in written:
            for logger in (self._files, *self._mirrors):
                logger.write(row)
            self._gallery.visit(row)
        self.rows += written
        if not written:
            return
        first = written[0]
        seconds = time.monotonic() - self._began
        place = {name: first[name] for name in ("iterations", "updates", "env_steps")}
        self._files.time({**place, "seconds": seconds, **(timing or {})})
        self._display.test(written, timing)
        self._warn()

    def keep_best(self, rows: list[Row], running: np.ndarray, team: Actor) -> None:
        """Keep the teams of this test that are better than all before, if `checkpoint.keep_best` is on."""
        if self._best is None:
            return
        try:
            self._best.visit(rows, running, team)
        except OSError as error:  # as with a checkpoint: the run itself goes on
            self.say(str(error))

    def sign(self, steps: float, place: Row, means: Row) -> None:
        """Update the display between tests."""
        self._display.update(steps, place, means)

    def mark(self, row: Row) -> None:
        """Write and print, once per seed, that it has diverged. row: seed, env_steps and updates of that time."""
        if row["seed"] in [known["seed"] for known in self.diverged]:
            return
        self.diverged.append(row)
        for logger in (self._files, *self._mirrors):
            logger.diverged(row)
        self.say(f"updates are no longer finite: {divergence.describe(row)}")

    def finish(self, rows: list[Row]) -> None:
        """Write the final test, and print a warning if a method was not active in this run."""
        for row in rows:
            for logger in (self._files, *self._mirrors):
                logger.final(row)
        if rows:
            self._display.final(rows)
        for sentence in method_activity.sentences(self._config, method_activity.by_seed(self.rows)):
            self.say(sentence)

    def _warn(self) -> None:
        """Print the problem of each logger once."""
        for problem in [mirror.problem for mirror in self._mirrors if mirror.problem]:
            if problem not in self._warned:
                self._warned.add(problem)
                self._say(problem)
