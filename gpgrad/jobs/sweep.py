"""Many runs from one file: environments, algorithms and any settings, crossed or listed.

    worlds: [matrix_additive, matrix_gpvd]
    algorithms: [vdn, qmix]
    preset: pymarl2                        # by default that of each environment
    overrides: {t_max: 20000}              # for all of them
    grid: {learner.lr: [1.0e-3, 5.0e-4], learner.gamma: [0.9, 0.99]}   # every combination
    list: [{learner.lr: 1.0e-2, learner.clip: 1}]                      # and these
    own: {qmix: [{decomposition.embed: 64}]}                           # and these with one algorithm alone
    seeds: 3                               # of each, trained together as `seeds_mode` says
    first_seed: 0
    metric: test_return                    # of the table at the end

A point is an environment, an algorithm and settings. Finished seeds are never trained again, whoever trained them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpgrad.config import strict_yaml
from gpgrad.config.strict_yaml import Reader
from gpgrad.errors import SettingError
from gpgrad.runs import stats
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.wanted_seeds import finished

if TYPE_CHECKING:
    from gpgrad.runs.stats import Mean


class Sweep(NamedTuple):
    """What a file asks for. points: settings besides environment and algorithm. own: further ones, by algorithm."""

    worlds: tuple[str, ...]
    algorithms: tuple[str, ...]
    points: tuple[Mapping[str, Any], ...]
    seeds: range
    metric: str
    own: Mapping[str, tuple[Mapping[str, Any], ...]]


class Point(NamedTuple):
    """One configuration of a sweep, as `gpgrad.jobs.scheduler.Task` asks.

    varied: what tells it from the others. settings_id: its identity with any numerics versions.
    """

    label: str
    env: str
    algo: str
    options: Mapping[str, Any]
    identity: str
    seeds: range
    varied: Mapping[str, Any]
    settings_id: str = ""


def load(path: Path) -> Sweep:
    """A sweep's file. Raises SettingError, one sentence, for any mistake in it."""
    reader = strict_yaml.open_file(path, "the sweep")
    common = reader.overrides()
    preset = reader.value("preset", str, None)
    if preset is not None:
        common = {"preset": preset, **common}
    count, first = reader.value("seeds", int, 1), reader.value("first_seed", int, 0)
    if count < 1 or first < 0:
        name, least, value = ("seeds", 1, count) if count < 1 else ("first_seed", 0, first)
        raise SettingError(f"{name} of the sweep in {path} must be {least} or more (got {value})")
    grid, listed = reader.settings("grid"), reader.listed("list")
    points = _crossed(grid, str(path)) + listed or [{}]
    algorithms, own = names(reader, "algorithms"), reader.reader("own", {})
    further = {name: own.listed(name) for name in algorithms}
    own.end()
    sweep = Sweep(
        worlds=names(reader, "worlds"),
        algorithms=algorithms,
        points=tuple({**common, **point} for point in points),
        seeds=range(first, first + count),
        metric=reader.value("metric", str, "test_return"),
        own={name: tuple({**common, **point} for point in listed) for name, listed in further.items()},
    )
    reader.end()
    return sweep


def points(sweep: Sweep) -> list[Point]:
    """Every configuration, checked. Raises SettingError for one that cannot be, and for two that are the same."""
    from gpgrad import config

    found: dict[str, Point] = {}
    differing = {name for listed in (sweep.points, *sweep.own.values()) for o in listed for name in o}
    differing = {name for name in differing if _varies(sweep, name)}
    asked = [(env, algo, o) for env in sweep.worlds for algo in sweep.algorithms for o in _of(sweep, algo)]
    for env, algo, options in asked:
        varied = {name: value for name, value in options.items() if name in differing}
        label = ", ".join([f"{algo} on {env}", *(f"{name} {value}" for name, value in varied.items())])
        try:
            settings = config.load(env, algo, {**options, "seed": sweep.seeds[0], "seeds": len(sweep.seeds)})
        except SettingError as error:
            raise SettingError(f"{label}: {error}") from None
        identity = config.identity(settings)
        if identity in found:
            raise SettingError(f"{label} is the same as {found[identity].label}: a sweep must have each run only once")
        found[identity] = Point(label, env, algo, options, identity, sweep.seeds, varied, config.identity(settings, {}))
    return list(found.values())


def results(points: Sequence[Point], runs: Sequence[RunFolder], metric: str) -> dict[str, Mean | None]:
    """What finished seeds of each point, by identity, have come to; None where there are none."""
    table: dict[str, Mean | None] = {}
    for point in points:
        rows = [row for share in finished(runs, point.identity, point.seeds) for row in share.final]
        values = [row[metric] for row in rows if isinstance(row.get(metric), (int, float))]
        table[point.identity] = stats.mean_interval(values) if values else None
    return table


def choices(points: Sequence[Point], results: Mapping[str, Mean | None], metric: str) -> list[dict[str, Any]]:
    """For each algorithm and environment the point with the highest mean, and what all its points came to.

    A point counts when all its seeds are finished; of equal ones the first is chosen. `chosen` is None where none is.
    """
    rows = []
    for env, algo in dict.fromkeys((point.env, point.algo) for point in points):
        tries = [point for point in points if (point.env, point.algo) == (env, algo)]
        means = {p.identity: mean for p in tries if (mean := results[p.identity]) and mean.n == len(p.seeds)}
        best = max((p for p in tries if p.identity in means), key=lambda p: means[p.identity].mean, default=None)
        scores = [{**p.varied, metric: means[p.identity].mean if p.identity in means else None} for p in tries]
        seeds = [tries[0].seeds[0], tries[0].seeds[-1]]
        chosen = dict(best.options) if best else None
        rows.append({"world": env, "algorithm": algo, "seeds": seeds, "chosen": chosen, "tries": scores})
    return rows


def _of(sweep: Sweep, algo: str) -> tuple[Mapping[str, Any], ...]:
    """The points of one algorithm."""
    return (*sweep.points, *sweep.own[algo])


def _varies(sweep: Sweep, name: str) -> bool:
    """Whether a setting tells points of an algorithm apart."""
    return any(len({str(point.get(name)) for point in _of(sweep, algo)}) > 1 for algo in sweep.algorithms)


def _crossed(grid: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    """Every combination of the values in a grid; none of no grid."""
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SettingError(f"{name} in the grid in {source} must be a list of values (got {values!r})")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []


def names(reader: Reader, key: str) -> tuple[str, ...]:
    """A list of names, or one name. Raises SettingError."""
    values = reader.value(key, Any)
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise SettingError(f"{key} of {reader.what} in {reader.source} must be a list of names (got {values!r})")
    return tuple(values)
