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
from gpgrad.runs import divergence, logs, method_activity, provenance
from gpgrad.runs.logs import Row
from gpgrad.runs.progress import Display
from gpgrad.runs.run_folder import SEEDS
from gpgrad.training import wandb_media

FILES = ("metrics", "timing", "final", divergence.NAME)


def run_of(folder: Path) -> Path:
    """The run that a single seed's folder belongs to, or the folder itself."""
    above = folder.parent.parent
    return above if folder.parent.name == SEEDS and (above / "config.yaml").is_file() else folder


def check_folder(config: Config) -> None:
    """Check that the run's folder can be made, before any work. Raises SettingError."""
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

    def finish(self, rows: list[Row]) -> None:
        """Nothing is written."""


class Recorder:
    """Writes rows to the run's files, to wandb and to the terminal."""

    def __init__(self, config: Config, folder: Path, say: Callable[[str], None], offsets: dict[str, int]) -> None:
        """`offsets`: bytes of each file that a checkpoint knows of; the rest of the file is cut off."""
        self._files = {name: logs.JsonLines(folder / f"{name}.jsonl", offsets.get(name, 0)) for name in FILES}
        self.rows: list[Row] = logs.read_rows(folder / "metrics.jsonl")
        self.diverged: list[Row] = logs.read_rows(folder / f"{divergence.NAME}.jsonl")
        earlier = logs.read_rows(folder / "timing.jsonl")
        self._say, self._began = say, time.monotonic() - (earlier[-1]["seconds"] if earlier else 0.0)
        seeds = range(config.seed, config.seed + config.seeds)
        log, logged = config.log, flat(config) | {"label": label(config)}
        self._mirror = logs.Mirror(log.wandb, log.project, run_of(folder), seeds, logged, folder)
        self._display = Display(f"{config.env.name} {label(config)}", config.t_max)
        self._warned, self._config = False, config
        self._gallery = wandb_media.Gallery(self._mirror, config.t_max)

    def __enter__(self) -> Recorder:
        self._display.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._display.stop()
        self._mirror.close()
        self._warn()
        for file in self._files.values():
            file.close()

    def offsets(self) -> dict[str, int]:
        """Bytes written to each file."""
        return {name: file.size() for name, file in self._files.items()}

    def say(self, line: str) -> None:
        """Print a line beside the display."""
        self._display.say(line)

    def write(self, rows: list[Row], running: np.ndarray, timing: Row | None = None) -> None:
        """Rows of a test, one per seed, for the seeds that still run. timing: more of what it took to get there."""
        written = [row for row, on in zip(rows, running, strict=True) if on]
        for row in written:
            self._files["metrics"].write(row)
            self._mirror.write(row["seed"], row)
            self._gallery.visit(row)
        self.rows += written
        if not written:
            return
        first = written[0]
        seconds = time.monotonic() - self._began
        place = {name: first[name] for name in ("iterations", "updates", "env_steps")}
        self._files["timing"].write({**place, "seconds": seconds, **(timing or {})})
        self._display.test(written, timing)
        self._warn()

    def sign(self, steps: float, place: Row, means: Row) -> None:
        """Update the display between tests."""
        self._display.update(steps, place, means)

    def mark(self, row: Row) -> None:
        """Write and print, once per seed, that it has diverged. row: seed, env_steps and updates of that time."""
        if row["seed"] in [known["seed"] for known in self.diverged]:
            return
        self.diverged.append(row)
        self._files[divergence.NAME].write(row)
        self._mirror.summarise(row["seed"], {"diverged": True})
        self.say(f"updates are no longer finite: {divergence.describe(row)}")

    def finish(self, rows: list[Row]) -> None:
        """Write the final test, and print a warning if a method was not active in this run."""
        for row in rows:
            self._files["final"].write(row)
            self._mirror.summarise(row["seed"], {f"final_{k}": v for k, v in row.items()})
        if rows:
            self._display.final(rows)
        for sentence in method_activity.sentences(self._config, method_activity.by_seed(self.rows)):
            self.say(sentence)

    def _warn(self) -> None:
        if self._mirror.problem and not self._warned:
            self._warned = True
            self._say(self._mirror.problem)
