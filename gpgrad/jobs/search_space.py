"""The file of `gpgrad tune`: what is trained, and between which values each setting is searched.

    worlds: [pp_small]
    algorithms: [qmix, gradps]
    overrides: {t_max: 300000}               # for all trials
    search:
      learner.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
      rollout.anneal_steps: {low: 20000, high: 200000, step: 20000}
      learner.td_lambda: [0.0, 0.4, 0.6]     # one of these
    trials: 30                               # of each algorithm in each environment
    tuning_seeds: 2
    first_tuning_seed: 1000
    seeds: 5                                 # those to report, which tuning never trains
    first_seed: 0
    metric: test_return
    goal: maximize

Entries that a sweep has too mean the same. Tuning and reported seeds must be different, since a setting that was chosen
for some seeds looks better on these than on others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gpgrad.config import strict_yaml
from gpgrad.errors import SettingError
from gpgrad.jobs.sweep import names


class Interval(NamedTuple):
    """Numbers between two bounds, both included. step: None for any; log: uniform in the logarithm."""

    low: float
    high: float
    step: float | None
    log: bool

    @property
    def whole(self) -> bool:
        """Whether only integers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, "Interval | tuple[Any, ...]"]


class Tuning(NamedTuple):
    """What a file asks for."""

    worlds: tuple[str, ...]
    algorithms: tuple[str, ...]
    common: Mapping[str, Any]
    space: Space
    trials: int
    tuning_seeds: range
    seeds: range
    metric: str
    goal: Literal["maximize", "minimize"]

    @property
    def content(self) -> str:
        """A hash of what makes the trials of a study comparable: all but their number and the reported seeds."""
        parts = (dict(self.common), {k: list(v) for k, v in self.space.items()}, list(self.tuning_seeds))
        return hashlib.sha256(json.dumps([*parts, self.metric, self.goal], sort_keys=True).encode()).hexdigest()[:16]


def load(path: Path) -> Tuning:
    """The content of a file. Raises SettingError, one sentence, for any mistake in it."""
    reader = strict_yaml.open_file(path, "the tuning")
    common = reader.overrides()
    preset = reader.value("preset", str, None)
    tuning = Tuning(
        worlds=names(reader, "worlds"),
        algorithms=names(reader, "algorithms"),
        common=common if preset is None else {"preset": preset, **common},
        space={
            name: _values(value, f"{name} of search in {path}") for name, value in reader.settings("search").items()
        },
        trials=reader.value("trials", int, 20),
        tuning_seeds=_seeds(reader, "tuning_seeds", 1, "first_tuning_seed", 1000),
        seeds=_seeds(reader, "seeds", 5, "first_seed", 0),
        metric=reader.value("metric", str, "test_return"),
        goal=reader.value("goal", Literal["maximize", "minimize"], "maximize"),
    )
    reader.end()
    if not tuning.space:
        raise SettingError(f"search of the tuning in {path} must have at least one setting (got none)")
    if tuning.trials < 1:
        raise SettingError(f"trials of the tuning in {path} must be 1 or more (got {tuning.trials})")
    if both := set(tuning.seeds).intersection(tuning.tuning_seeds):
        raise SettingError(
            f"the seeds to report in {path} must be others than those of tuning, but {min(both)} is among both: "
            f"change first_tuning_seed or first_seed"
        )
    return tuning


def _seeds(reader: strict_yaml.Reader, count_name: str, count: int, first_name: str, first: int) -> range:
    count, first = reader.value(count_name, int, count), reader.value(first_name, int, first)
    if count < 1 or first < 0:
        raise SettingError(
            f"{count_name} in {reader.source} must be 1 or more, and {first_name} 0 or more (got {count} and {first})"
        )
    return range(first, first + count)


def _values(value: Any, place: str) -> Interval | tuple[Any, ...]:
    """A list of choices or an interval."""
    if isinstance(value, list) and value:
        return tuple(value)
    if not isinstance(value, Mapping):
        raise SettingError(f"{place} must be a list of values, or {{low: ..., high: ...}} (got {value!r})")
    reader = strict_yaml.Reader(value, place, "the interval")
    low, high = (reader.value(name, float) for name in ("low", "high"))
    step, log = reader.value("step", float, None), reader.value("log", bool, False)
    reader.end()
    if not low < high:
        raise SettingError(f"{place} must have low below high (got {low:g} and {high:g})")
    if log and (low <= 0 or step is not None):
        raise SettingError(f"{place} must have low above 0 and no step, since log is true")
    if all(isinstance(value.get(name, 1), int) for name in ("low", "high", "step")):
        low, high, step = int(low), int(high), None if step is None else int(step)
    return Interval(low, high, step, log)
