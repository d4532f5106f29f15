"""The statistics of an experiment: finished runs of each arm, comparisons and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpgrad import config
from gpgrad.errors import SettingError, suggest
from gpgrad.experiments.availability import NOT_TESTABLE, obstacle
from gpgrad.experiments.reporting import claims as claims_of
from gpgrad.experiments.schema import Definition, Setup
from gpgrad.jobs.scheduler import shown, train_arguments
from gpgrad.runs import method_activity, rliable_export, stats
from gpgrad.runs.rliable_export import Experiment
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.stats import Curve
from gpgrad.runs.wanted_seeds import Share, finished, overview


class Result(NamedTuple):
    """The finished seeds of an arm. curves, final: of the experiment's metric, by seed. missing: seeds not finished."""

    setup: Setup
    shares: list[Share]
    curves: dict[int, Curve]
    final: dict[int, float]
    missing: list[int]


def collect(definition: Definition, setups: Sequence[Setup], runs: Sequence[RunFolder]) -> list[Result]:
    """The results of every arm. Raises SettingError if the runs do not log the experiment's metric."""
    return [_result(definition, setup, finished(runs, setup.identity, setup.seeds)) for setup in setups]


def _result(definition: Definition, setup: Setup, shares: list[Share]) -> Result:
    seeds = [seed for share in shares for seed in share.seeds]
    missing = [seed for seed in setup.seeds if seed not in seeds]
    if not shares:
        return Result(setup, shares, {}, {}, missing)
    data = _experiment(definition, setup, shares)
    return Result(
        setup, shares, rliable_export.learning_curves(data.metrics), rliable_export.final_returns(data), missing
    )


def _experiment(definition: Definition, setup: Setup, shares: Sequence[Share]) -> Experiment:
    """Rows as `rliable_export` takes them: the metric under the name of the return."""
    metrics, final = (
        [_renamed(row, definition.metric, share.run.folder) for share in shares for row in rows(share)]
        for rows in (lambda share: share.metrics, lambda share: share.final)
    )
    return Experiment(setup.config.env.name, setup.arm.panel, setup.arm.label, metrics, final)


def _renamed(row: Mapping[str, Any], metric: str, folder: Path) -> dict[str, Any]:
    place = ("seed", "env_steps")
    numbers = [name for name, value in row.items() if isinstance(value, (int, float)) and name not in place]
    if metric not in numbers:
        raise SettingError(f"the metric {metric!r} is not a number in the rows of {folder}{suggest(metric, numbers)}")
    return {**{name: row[name] for name in place if name in row}, "test_return": row[metric]}


def summary(definition: Definition, scale: str, results: Sequence[Result], runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The content of a report as JSON values; numbers that are not finite are null."""
    claims = [(results[i], results[j]) for i, j in definition.claims]
    fours = [[results[i] for i in four] for four in definition.interactions]
    comparisons, interactions, family = claims_of.judged(claims, fours)
    return {
        "experiment": definition.name,
        "question": definition.question,
        "paper": definition.paper,
        "remark": definition.remark,
        "scale": scale,
        "metric": definition.metric,
        "threshold": definition.threshold,
        "complete": not any(result.missing for result in results),
        "arms": [_arm(definition, result, runs) for result in results],
        "family": family,
        "comparisons": comparisons,
        "interactions": interactions,
        "differing_settings": {panel: _table(_of_panel(results, panel)) for panel in definition.panels},
        "versions": claims_of.versions_of([share.run for result in results for share in result.shares]),
    }


def _of_panel(results: Sequence[Result], panel: str) -> list[Result]:
    return [result for result in results if result.setup.arm.panel == panel]


def _arm(definition: Definition, result: Result, runs: Sequence[RunFolder]) -> dict[str, Any]:
    arm, values = result.setup.arm, list(result.final.values())
    return {
        "label": arm.label,
        "panel": arm.panel,
        "env": arm.env,
        "algo": arm.algo,
        "preset": result.setup.config.preset,
        "identity": result.setup.identity,
        "seeds": sorted(result.final),
        "missing": _missing(result, runs),
        "final": _plain(stats.mean_interval(values)._asdict()) if values else None,
        "iqm": _plain(stats.iqm_interval([values], np.random.default_rng(0))._asdict()) if values else None,
        "area": _plain(stats.mean_interval(_areas(result))._asdict()) if values else None,
        "steps_to_threshold": _threshold(definition, result),
        "command": shown(["gpgrad", "train", *train_arguments(result.setup, result.setup.seeds)]),
        "acted": _acted(result),
        "lacking": method_activity.sentences(result.setup.config, claims_of.rows_of(result)),
        "runs": [str(share.run.folder) for share in result.shares],
        "steps": result.setup.config.t_max,
        "minutes": round(sum(share.run.seconds / 60 for share in result.shares), 1),
    }


def _acted(result: Result) -> dict[str, dict[str, float]]:
    """The activity of the method, means over seeds."""
    amounts = [method_activity.amounts(rows) for rows in claims_of.rows_of(result).values()]
    metrics = dict.fromkeys(metric for own in amounts for metric in own)
    return {
        metric: {
            name: float(np.mean([getattr(own[metric], name) for own in amounts if metric in own]))
            for name in method_activity.Amount._fields
        }
        for metric in metrics
    }


def _missing(result: Result, runs: Sequence[RunFolder]) -> dict[str, str]:
    """The state of each seed that is not finished."""
    if reason := obstacle(result.setup):
        return {str(seed): f"{NOT_TESTABLE}: {reason}" for seed in result.missing}
    lines = overview(runs, result.setup.identity, result.missing, result.setup.settings_id)
    return {str(seed): line.text for line in lines for seed in line.seeds}


def _areas(result: Result) -> list[float]:
    return [stats.area_under_curve(*curve) for curve in result.curves.values()]


def _threshold(definition: Definition, result: Result) -> dict[str, Any] | None:
    """The median over seeds (the later one of two); seeds that never reach the threshold count as latest."""
    if definition.threshold is None or not result.curves:
        return None
    reached = [stats.steps_to_threshold(*curve, definition.threshold) for curve in result.curves.values()]
    median = sorted(math.inf if steps is None else steps for steps in reached)[len(reached) // 2]
    return {"median": _plain(median), "reached": sum(steps is not None for steps in reached), "of": len(reached)}


def _table(results: Sequence[Result]) -> dict[str, list[Any]]:
    """Settings that differ between arms, with the value of each arm."""
    flats = [config.flat(result.setup.config) for result in results]
    names = [name for name in dict.fromkeys(n for f in flats for n in f) if not name.startswith(config.ASIDE)]
    rows = {name: [flat.get(name) for flat in flats] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def as_layouts(definition: Definition, results: Sequence[Result]) -> tuple[dict[str, Any], str]:
    """JSON for rliable and marl-eval by file name, over the seeds that all arms have; or none, and the reason."""
    seeds = set.intersection(*(set(result.final) for result in results))
    if not seeds:
        return {}, "no seed is finished in all arms"
    experiments = []
    for result in results:
        data = _experiment(definition, result.setup, result.shares)
        metrics, final = ([row for row in rows if row["seed"] in seeds] for rows in (data.metrics, data.final))
        experiments.append(data._replace(metrics=metrics, final=final))
    try:
        return {
            "rliable.json": rliable_export.rliable_layout(experiments),
            "marl_eval.json": rliable_export.marl_eval_layout(experiments),
        }, ""
    except ValueError as error:
        return {}, str(error)


def _plain(value: Any) -> Any:
    """JSON values: tuples as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
