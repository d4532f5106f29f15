"""Runs as their folders show them, read without jax: for lists, comparisons and for watching."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gpgrad import config
from gpgrad.config import numerics, precedence, presets, validate
from gpgrad.errors import SettingError
from gpgrad.methods import registry
from gpgrad.runs import divergence, lock, logs
from gpgrad.runs.logs import Row

SEEDS = "seeds"  # where a run keeps the runs of single seeds, if it does not train them in one program
COUNTS = {"seed": 0, "seeds": 1, "t_max": 1}  # settings that are whole numbers, and the least of each
State = Literal["finished", "running", "interrupted", "diverged"]


class Shelved(NamedTuple):
    """A run's folder at one moment. settings: by dotted names, as in config.yaml. holder: the process that trains it.

    metrics: a row per seed and test, in order of tests. final: a row per seed, once there is one. seconds: of training,
    all seeds together. diverged: seeds that have no result.
    """

    folder: Path
    settings: Mapping[str, Any]
    holder: int | None
    metrics: list[Row]
    final: list[Row]
    seconds: float
    diverged: tuple[int, ...] = ()

    @property
    def seeds(self) -> range:
        """Those that it trains."""
        return range(self.settings["seed"], self.settings["seed"] + self.settings["seeds"])

    @property
    def state(self) -> State:
        """Where it stands."""
        if divergence.is_over(self.settings, self.final, self.diverged):
            return "diverged" if self.diverged else "finished"
        return "interrupted" if self.holder is None else "running"

    @property
    def told(self) -> str:
        """Where it stands, with the process that trains it and the seeds that have diverged."""
        who = f"running, process {self.holder}" if self.state == "running" else self.state
        who += f", outdated: {self.outdated}" if self.outdated and self.state != "running" else ""
        lost = divergence.short(self.diverged) if self.diverged else ""
        return lost if self.state == "diverged" else ", ".join(filter(None, (who, lost)))

    @property
    def outdated(self) -> str:
        """Which numerics versions of it are others today, for people; empty if none is.

        Parts of plugins count where the plugin is imported.
        """
        names = {kind: self.settings[kind] for kind in ("env", *registry.KINDS)}
        try:
            now = numerics.versions_by(names)
        except SettingError:
            return ""
        return numerics.changes(logs.read_manifest(self.folder).get("numerics") or numerics.first(names), now)

    @property
    def steps(self) -> int:
        """Environment steps of the seed that has fewest, at its last test."""
        last = {row["seed"]: row["env_steps"] for row in self.metrics}
        return min(last.values()) if len(last) == self.settings["seeds"] else 0

    @property
    def method(self) -> str:
        """The name of what it trains, as `config.label`."""
        parts = {kind: self.settings[kind] for kind in registry.KINDS}
        algo = self.settings["algo"]
        return config.labelled(algo, parts) if algo in config.algorithms() else "-".join(parts.values())


def read(folder: Path) -> Shelved:
    """A run's folder. Raises SettingError where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise SettingError(f"{folder} holds no run, expected a folder with config.yaml")
    settings = precedence.upgrade(presets.mapping(presets.read_yaml(path, "the settings in"), str(path)))
    for name in ("env", "algo", "seed", "seeds", "t_max", *registry.KINDS):
        if name not in settings:
            raise SettingError(f"{path} has no {name}, expected the settings of a run")
        kind = int if name in COUNTS else str
        settings = {**settings, name: validate.coerce(settings[name], kind, f"{name} in {path}")}
    for name, least in COUNTS.items():
        if not least <= settings[name] <= validate.LARGEST:
            value = validate.short(settings[name])
            raise SettingError(f"{name} in {path} is {value}, expected between {least} and {validate.LARGEST}")
    holder = lock.holder(folder / lock.NAME)  # before the rows: a run that ends now is not taken for an interrupted one
    timing = logs.read_rows(folder / "timing.jsonl")
    parts = sorted((folder / SEEDS).glob("*/config.yaml"))
    kinds = ("metrics", "final", divergence.NAME)
    metrics, final, lost = (_rows(folder, [part.parent for part in parts], name) for name in kinds)
    diverged = tuple(sorted(row["seed"] for row in lost))
    return Shelved(folder, settings, holder, metrics, final, logs.seconds(timing), diverged)


def _rows(folder: Path, parts: list[Path], name: str) -> list[Row]:
    """The run's rows; of one whose seeds train apart and are not merged yet, those of the seeds."""
    rows = logs.read_rows(folder / f"{name}.jsonl")
    found = [row for part in parts for row in logs.read_rows(part / f"{name}.jsonl")]
    return sorted(found, key=lambda row: row.get("env_steps", 0)) if len(found) > len(rows) else rows


def scan(root: Path) -> tuple[list[Shelved], list[str]]:
    """All runs in a folder, by name, and a sentence for each that cannot be read."""
    found, problems = [], []
    for path in sorted(root.glob("*/config.yaml")):
        try:
            found.append(read(path.parent))
        except SettingError as error:
            problems.append(f"passing over {path.parent}: {error}")
    return found, problems


def values(run: Shelved, metric: str) -> dict[int, float]:
    """A metric of each seed: of the last parameters where the final test has it, else of the last test.

    Seeds that have diverged have none.
    """
    rows = [row for row in (*run.metrics, *run.final) if row["seed"] not in run.diverged]
    return {row["seed"]: float(row[metric]) for row in rows if isinstance(row.get(metric), (int, float))}
