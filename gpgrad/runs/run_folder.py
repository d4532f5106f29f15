"""A run's folder, read without jax: the one record that scheduling, lists, comparisons, pages and reports share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gpgrad import config
from gpgrad.config import numerics, precedence, presets, validate
from gpgrad.config.numerics import Versions
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.methods import registry
from gpgrad.runs import divergence, lock, logs, provenance
from gpgrad.runs.logs import Row
from gpgrad.runs.provenance import Manifest

SETTINGS = "config.yaml"  # the resolved settings; a folder that has this file is a run's
TEAM = "team"  # the folder of the trained parameters, written when training ends
CHECKPOINTS = "checkpoints"  # the folder of the newest checkpoints
SEEDS = "seeds"  # the folder of single seeds' runs, if the seeds are not trained in one program
LEAST = {"seed": 0, "seeds": 1, "t_max": 1}  # settings that must be integers, and the least value of each
State = Literal["finished", "running", "interrupted", "diverged"]


class _Parsed(NamedTuple):
    config: Config
    identity: str
    settings_id: str


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder at the moment it was read.

    settings: by dotted names, as in config.yaml. holder: the process that trains the run, None if there is none.
    final: a row per seed that has its final test. diverged: seeds that have diverged, which have no result.
    finished: nothing of the run is left to train.

    What costs time is read on first use: `metrics`, `timing`, `manifest`, and `config` with what follows from it
    (`identity`, `settings_id`), which raises SettingError for settings that this version or a missing plugin refuses.
    """

    folder: Path
    settings: Mapping[str, Any]
    holder: int | None = None
    final: list[Row] = dataclasses.field(default_factory=list)
    diverged: tuple[int, ...] = ()
    finished: bool = False

    @property
    def seeds(self) -> range:
        """The seeds that the run trains."""
        return range(self.settings["seed"], self.settings["seed"] + self.settings["seeds"])

    @property
    def state(self) -> State:
        """Whether the run is finished (with or without diverged seeds), trained now, or interrupted."""
        if self.finished:
            return "diverged" if self.diverged else "finished"
        return "interrupted" if self.holder is None else "running"

    @property
    def status(self) -> str:
        """The state in words, with the process that trains the run, outdated parts and diverged seeds."""
        words = f"running, process {self.holder}" if self.state == "running" else self.state
        words += f", outdated: {self.outdated}" if self.outdated and self.state != "running" else ""
        lost = divergence.short(self.diverged) if self.diverged else ""
        return lost if self.state == "diverged" else ", ".join(filter(None, (words, lost)))

    @functools.cached_property
    def metrics(self) -> list[Row]:
        """A row per seed and test, in order of tests."""
        return logs.read_rows(self.folder / "metrics.jsonl") if self.finished else _rows(self.folder, "metrics")

    @functools.cached_property
    def timing(self) -> list[Row]:
        """A row per test: environment steps and seconds since training began."""
        return logs.read_rows(self.folder / "timing.jsonl")

    @functools.cached_property
    def manifest(self) -> Manifest:
        """Where the numbers come from, see `gpgrad.runs.provenance`; empty where it cannot be read."""
        return logs.read_manifest(self.folder)

    @property
    def config(self) -> Config:
        """The settings with their types."""
        return self._parsed.config

    @property
    def identity(self) -> str:
        """A hash of what decides the run's numbers, with the numerics versions it was trained with."""
        return self._parsed.identity

    @property
    def settings_id(self) -> str:
        """As `identity`, whatever the numerics versions are."""
        return self._parsed.settings_id

    @functools.cached_property
    def _parsed(self) -> _Parsed:
        path = self.folder / SETTINGS
        return _parse(path, path.stat().st_mtime_ns)

    @property
    def parts(self) -> dict[str, str]:
        """The names of the environment and of the method's parts, by kind."""
        return {kind: self.settings[kind] for kind in ("env", *registry.KINDS)}

    @property
    def versions(self) -> Versions:
        """The numerics versions that the run was trained with, by part."""
        return provenance.versions_of(self.manifest, self.parts)

    @property
    def outdated(self) -> str:
        """Which numerics versions are others today, for people; empty if none is.

        Parts of plugins count where the plugin is imported.
        """
        try:
            return numerics.changes(self.versions, numerics.versions_by(self.parts))
        except SettingError:
            return ""

    @property
    def seconds(self) -> float:
        """Time of training, all seeds together."""
        return logs.seconds(self.timing)

    @property
    def steps(self) -> int:
        """Environment steps at the last test, of the seed that has fewest."""
        last = {row["seed"]: row["env_steps"] for row in self.metrics}
        return min(last.values()) if len(last) == self.settings["seeds"] else 0

    @property
    def method(self) -> str:
        """The name of what the run trains, as `config.label`."""
        algo, parts = self.settings["algo"], {kind: self.settings[kind] for kind in registry.KINDS}
        return config.labelled(algo, parts) if algo in config.algorithms() else "-".join(parts.values())

    @property
    def checkpoint(self) -> str:
        """The name of the newest checkpoint, which grows with iterations; empty if there is none."""
        return max((path.name for path in (self.folder / CHECKPOINTS).glob("*-*[0-9]")), default="")

    def values(self, metric: str) -> dict[int, float]:
        """A metric of each seed: of the last parameters where the final test has it, else of the last test.

        Seeds that have diverged have none.
        """
        rows = [row for row in (*self.metrics, *self.final) if row["seed"] not in self.diverged]
        return {row["seed"]: float(row[metric]) for row in rows if isinstance(row.get(metric), (int, float))}


def read(folder: Path) -> RunFolder:
    """Read a run's folder. Raises SettingError for a folder that is no run's and for damaged files."""
    path = folder / SETTINGS
    if not path.is_file():
        raise SettingError(f"{folder} holds no run: it must have {SETTINGS}")
    settings = _settings(path, path.stat().st_mtime_ns)
    holder = lock.holder(folder / lock.NAME)  # before the rows: a run that ends now is not taken for an interrupted one
    final, diverged = logs.read_rows(folder / "final.jsonl"), divergence.seeds(folder)
    finished = divergence.is_over(settings, final, diverged)
    if not finished:
        final, diverged = _rows(folder, "final"), sorted(row["seed"] for row in _rows(folder, divergence.NAME))
    return RunFolder(folder, settings, holder, final, tuple(diverged), finished)


def scan(root: Path, parsed: bool = True) -> tuple[list[RunFolder], list[str]]:
    """All runs in a folder, in order of names, and a sentence for each that cannot be read.

    parsed: runs whose `config` cannot be made count among those that cannot be read.
    """
    found, problems = [], []
    for path in sorted(root.glob(f"*/{SETTINGS}")):
        try:
            run = read(path.parent)
            if parsed:
                _ = run.config
            found.append(run)
        except SettingError as error:
            problems.append(f"passing over {path.parent}: {error}")
    return found, problems


@functools.cache
def _settings(path: Path, changed: int) -> Mapping[str, Any]:
    """Settings by dotted names, of which those that every list shows are checked. Cached until the file changes."""
    del changed
    settings = precedence.upgrade(presets.mapping(presets.read_yaml(path, "the settings in"), str(path)))
    for name in ("env", "algo", *LEAST, *registry.KINDS):
        if name not in settings:
            raise SettingError(f"{path} has no {name}: it must be the settings of a run")
        kind = int if name in LEAST else str
        settings = {**settings, name: validate.coerce(settings[name], kind, f"{name} in {path}")}
    for name, least in LEAST.items():
        if not least <= settings[name] <= validate.LARGEST:
            value = validate.short(settings[name])
            raise SettingError(f"{name} in {path} is {value}, but must be between {least} and {validate.LARGEST}")
    return settings


@functools.cache
def _parse(path: Path, changed: int) -> _Parsed:
    """The configuration and its names. Cached until the file changes, since schedules read all runs again and again."""
    del changed
    parsed, manifest = config.parse(path), logs.read_manifest(path.parent)
    used = provenance.versions_of(manifest, numerics.names_of(parsed))
    return _Parsed(parsed, *(provenance.identity_of(manifest, parsed, versions) for versions in (used, {})))


def _rows(folder: Path, name: str) -> list[Row]:
    """The run's rows; while seeds are trained separately and are not merged yet, those of the seeds' own folders."""
    rows = logs.read_rows(folder / f"{name}.jsonl")
    parts = [path.parent for path in sorted((folder / SEEDS).glob(f"*/{SETTINGS}"))]
    found = [row for part in parts for row in logs.read_rows(part / f"{name}.jsonl")]
    return sorted(found, key=lambda row: row.get("env_steps", 0)) if len(found) > len(rows) else rows
