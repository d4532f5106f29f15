"""What an experiment found: statistics of its finished runs, comparisons, and what those may be called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.errors import SettingError, suggest
from experiments.obstacles import NOT_TESTABLE, obstacle
from experiments.records import Definition, Setup
from gpgrad import config, evidence, layouts, logs, provenance, registry, stats
from gpgrad.execute import shown, train_arguments
from gpgrad.layouts import Experiment
from gpgrad.logs import Row
from gpgrad.runs import Run, Share, finished, minutes, overview
from gpgrad.settings import Config
from gpgrad.stats import Curve

SIMULATORS = ("jaxmarl", "smac", "smacv2", "smaclite")


class Result(NamedTuple):
    """An arm's finished seeds. curves, final: by seed, of the experiment's metric. missing: seeds still wanted."""

    setup: Setup
    shares: list[Share]
    curves: dict[int, Curve]
    final: dict[int, float]
    missing: list[int]


def collect(definition: Definition, setups: Sequence[Setup], runs: Sequence[Run]) -> list[Result]:
    """What the runs say about every arm. Raises SettingError if they have no such metric."""
    return [_result(definition, setup, finished(runs, setup.identity, setup.seeds)) for setup in setups]


def _result(definition: Definition, setup: Setup, shares: list[Share]) -> Result:
    seeds = [seed for share in shares for seed in share.seeds]
    missing = [seed for seed in setup.seeds if seed not in seeds]
    if not shares:
        return Result(setup, shares, {}, {}, missing)
    data = _experiment(definition, setup, shares)
    return Result(setup, shares, layouts.learning_curves(data.metrics), layouts.final_returns(data), missing)


def _experiment(definition: Definition, setup: Setup, shares: Sequence[Share]) -> Experiment:
    """As `stats` takes it: the metric under the name of the return."""
    metrics, final = (
        [_renamed(row, definition.metric, share.run.folder) for share in shares for row in rows(share)]
        for rows in (lambda share: share.metrics, lambda share: share.final)
    )
    return Experiment(setup.config.env.name, setup.arm.panel, setup.arm.label, metrics, final)


def _renamed(row: Mapping[str, Any], metric: str, folder: Path) -> dict[str, Any]:
    place = ("seed", "env_steps")
    numbers = [name for name, value in row.items() if isinstance(value, (int, float)) and name not in place]
    if metric not in numbers:
        raise SettingError(f"the metric {metric!r} is no number in the rows of {folder}{suggest(metric, numbers)}")
    return {**{name: row[name] for name in place if name in row}, "test_return": row[metric]}


def summary(definition: Definition, scale: str, results: Sequence[Result], runs: Sequence[Run]) -> dict[str, Any]:
    """Everything a report says, as JSON knows it: numbers that are not finite are null."""
    claims = [(results[i], results[j]) for i, j in definition.claims]
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
        "comparisons": [_comparison(one, other) for one, other in claims],
        "interactions": [_interaction([results[i] for i in four]) for four in definition.interactions],
        "differing_settings": {panel: _table(_of_panel(results, panel)) for panel in definition.panels},
        "versions": _versions([share.run for result in results for share in result.shares]),
    }


def _of_panel(results: Sequence[Result], panel: str) -> list[Result]:
    return [result for result in results if result.setup.arm.panel == panel]


def _arm(definition: Definition, result: Result, runs: Sequence[Run]) -> dict[str, Any]:
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
        "command": shown(["python", "-m", "gpgrad", "train", *train_arguments(result.setup, result.setup.seeds)]),
        "acted": _acted(result),
        "lacking": evidence.sentences(result.setup.config, _rows(result)),
        "runs": [str(share.run.folder) for share in result.shares],
        "steps": result.setup.config.t_max,
        "minutes": round(sum(minutes(share.run) for share in result.shares), 1),
    }


def _rows(result: Result) -> dict[int, list[Row]]:
    """Its finished seeds' rows."""
    return evidence.by_seed([row for share in result.shares for row in share.metrics])


def _acted(result: Result) -> dict[str, dict[str, float]]:
    """What the method did, means over seeds."""
    amounts = [evidence.amounts(rows) for rows in _rows(result).values()]
    metrics = dict.fromkeys(metric for own in amounts for metric in own)
    return {
        metric: {
            name: float(np.mean([getattr(own[metric], name) for own in amounts if metric in own]))
            for name in evidence.Amount._fields
        }
        for metric in metrics
    }


def _missing(result: Result, runs: Sequence[Run]) -> dict[str, str]:
    """What there is of each seed that is not finished."""
    if reason := obstacle(result.setup):
        return {str(seed): f"{NOT_TESTABLE}: {reason}" for seed in result.missing}
    lines = overview(runs, result.setup.identity, result.missing)
    return {str(seed): line.text for line in lines for seed in line.seeds}


def _areas(result: Result) -> list[float]:
    return [stats.area_under_curve(*curve) for curve in result.curves.values()]


def _threshold(definition: Definition, result: Result) -> dict[str, Any] | None:
    """The median over seeds, of an even number the later one; who never reaches it is later than all others."""
    if definition.threshold is None or not result.curves:
        return None
    reached = [stats.steps_to_threshold(*curve, definition.threshold) for curve in result.curves.values()]
    median = sorted(math.inf if steps is None else steps for steps in reached)[len(reached) // 2]
    return {"median": _plain(median), "reached": sum(steps is not None for steps in reached), "of": len(reached)}


def _comparison(one: Result, other: Result) -> dict[str, Any]:
    """The claim that the first is better, paired over the seeds that both have."""
    arm, against = one.setup.arm, other.setup.arm
    methods, others = differences(one.setup.config, other.setup.config)
    reasons = [f"{name} differs" for name in others] + _simulators(one, other)
    if not methods:
        reasons.append("the method is the same")
    result: dict[str, Any] = {
        "better": arm.label,
        "worse": against.label,
        "panel": arm.panel,
        "of_methods": not reasons,
        "because": reasons,
        "differences": {name: list(values) for name, values in {**methods, **others}.items()},
    }
    common = sorted(one.final.keys() & other.final.keys())
    if not common:
        return {**result, "seeds": [], "verdict": _nothing((one, other))}
    idle = [f"{each.setup.arm.label}: {line}" for each in (one, other) for line in _idle(each, common)]
    result |= {"of_methods": not reasons + idle, "because": reasons + idle}
    rng = np.random.default_rng(0)
    pair = stats.common_seeds(one.final, other.final)
    paired = stats.paired_comparison(*pair, rng)
    better = stats.probability_of_improvement(*pair, rng)
    return {
        **result,
        "seeds": common,
        "verdict": stats.verdict(paired.interval, paired.n),
        "difference": _plain(paired._asdict()),
        "probability_of_improvement": _plain(better._asdict()),
    }


def _idle(result: Result, seeds: Sequence[int]) -> list[str]:
    """What these seeds say nothing about, where that is true of all of them."""
    rows = {seed: own for seed, own in _rows(result).items() if seed in seeds}
    lacking = evidence.lacking(result.setup.config, rows)
    return [sentence for sentence, silent in lacking.items() if len(silent) == len(seeds)]


def _nothing(results: Sequence[Result]) -> str:
    """The verdict where there is no seed to compare."""
    return NOT_TESTABLE if any(obstacle(result.setup) for result in results) else "no seed in common"


def _interaction(four: Sequence[Result]) -> dict[str, Any]:
    """What both methods bring beyond the sum of what each brings, paired over the seeds that all four arms have."""
    both, one, other, neither = (result.final for result in four)
    common = sorted(both.keys() & one.keys() & other.keys() & neither.keys())
    panel, labels = four[0].setup.arm.panel, [result.setup.arm.label for result in four]
    if not common:
        return {"arms": labels, "panel": panel, "seeds": [], "verdict": _nothing(four)}
    together, apart = ([x[seed] + y[seed] for seed in common] for x, y in ((both, neither), (one, other)))
    paired = stats.paired_comparison(together, apart, np.random.default_rng(0))
    verdict = stats.verdict(paired.interval, paired.n)
    return {"arms": labels, "panel": panel, "seeds": common, "verdict": verdict, "difference": _plain(paired._asdict())}


def differences(one: Config, other: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that differ, as pairs of values: those of the method, and all others. A setting one lacks is None.

    The name of the algorithm is left out: it stands for its parts.
    """
    both = [{k: v for k, v in config.flat(c).items() if not k.startswith(config.ASIDE)} for c in (one, other)]
    names = [name for name in dict.fromkeys([*both[0], *both[1]]) if both[0].get(name) != both[1].get(name)]
    method = {name for name in names if name.split(".")[0] in registry.KINDS}
    pairs = {name: (both[0].get(name), both[1].get(name)) for name in names if name != "algo"}
    return {n: p for n, p in pairs.items() if n in method}, {n: p for n, p in pairs.items() if n not in method}


def _simulators(one: Result, other: Result) -> list[str]:
    found = _versions([share.run for result in (one, other) for share in result.shares])
    return [
        f"versions of {name} differ: {' and '.join(found[name])}" for name in SIMULATORS if len(found.get(name, [])) > 1
    ]


def _versions(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the runs ran on: every value that a field of their manifests has, "unknown" where it is not there."""
    manifests = [provenance.compared(logs.read_manifest(run.folder)) for run in runs]
    names = dict.fromkeys(name for manifest in manifests for name in manifest)
    return {name: sorted({str(manifest.get(name, "unknown")) for manifest in manifests}) for name in names}


def _table(results: Sequence[Result]) -> dict[str, list[Any]]:
    """Settings that are not the same in all arms: the value of each."""
    flats = [config.flat(result.setup.config) for result in results]
    names = [name for name in dict.fromkeys(n for f in flats for n in f) if not name.startswith(config.ASIDE)]
    rows = {name: [flat.get(name) for flat in flats] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def as_layouts(definition: Definition, results: Sequence[Result]) -> tuple[dict[str, Any], str]:
    """JSON for rliable and marl-eval by file name, of the seeds that all arms have; or none, and why."""
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
            "rliable.json": layouts.rliable_layout(experiments),
            "marl_eval.json": layouts.marl_eval_layout(experiments),
        }, ""
    except ValueError as error:
        return {}, str(error)


def _plain(value: Any) -> Any:
    """As JSON: tuples as lists, what is not finite as null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
