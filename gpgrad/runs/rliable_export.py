"""What was logged over training, as curves and as files that other tools for statistics read.

Pure functions on rows, without jax. Input that has no answer raises ValueError with one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpgrad.runs import stats
from gpgrad.runs.stats import Curve

Row = Mapping[str, Any]


class Experiment(NamedTuple):
    """All seeds of one algorithm on one task.

    metrics: rows of metrics.jsonl, a test each, with seed, env_steps and test_return. final: rows of final.jsonl,
    one per seed, with seed and test_return; without them each seed's last test is its final one.
    """

    environment: str
    task: str
    algorithm: str
    metrics: Sequence[Row]
    final: Sequence[Row] = ()


def learning_curves(metrics: Iterable[Row]) -> dict[int, Curve]:
    """Each seed's tests, from rows of metrics.jsonl, in order of seeds.

    Raises ValueError for no rows, rows without seed, env_steps or test_return, steps that do not increase within a seed
    and returns that are not finite.
    """
    tests: dict[int, list[tuple[int, float]]] = {}
    for row in metrics:
        seed, steps, value = _fields(row, "seed", "env_steps", "test_return")
        tests.setdefault(int(seed), []).append((steps, value))
    if not tests:
        raise ValueError("metrics must have at least one test (got no rows)")
    curves = {}
    for seed in sorted(tests):
        steps, returns = stats.curve(*zip(*tests[seed], strict=True), name=f"seed {seed}")
        curves[seed] = Curve(steps.astype(np.int64), returns)
    return curves


def final_returns(experiment: Experiment) -> dict[int, float]:
    """Each seed's final return, in order of seeds.

    Raises ValueError as `learning_curves`, and if `final` is given without exactly one row for each seed of `metrics`.
    """
    curves = learning_curves(experiment.metrics)
    if not experiment.final:
        return {seed: float(curve.returns[-1]) for seed, curve in curves.items()}
    rows = [_fields(row, "seed", "test_return") for row in experiment.final]
    if sorted(seed for seed, _ in rows) != list(curves):
        raise ValueError(
            f"final rows of {_name(experiment)} must be one for each of the seeds {list(curves)} "
            f"(got {[seed for seed, _ in rows]})"
        )
    rows.sort(key=lambda row: row[0])
    values = stats.numbers(f"final returns of {_name(experiment)}", [value for _, value in rows])
    return dict(zip(curves, values.tolist(), strict=True))


def rliable_layout(experiments: Iterable[Experiment]) -> dict[str, list[list[float]]]:
    """Final returns as {algorithm: [runs, tasks]}, nested lists; as arrays they are the scores rliable expects.

    Runs are in order of seeds, tasks in order of (environment, task). Returns are not normalised. Raises ValueError as
    `final_returns`, for algorithms with different tasks, and for tasks of one algorithm with different seeds.
    Source: https://github.com/google-research/rliable
    """
    layout = {}
    for algorithm, group in _by_algorithm(experiments).items():
        finals = [final_returns(experiment) for experiment in group]  # a dictionary per task
        _check_same_seeds(group, finals)
        layout[algorithm] = [[final[seed] for final in finals] for seed in finals[0]]
    return layout


def marl_eval_layout(experiments: Iterable[Experiment]) -> dict[str, Any]:
    """All tests as {environment: {task: {algorithm: {"seed_0": {"step_0": ..., "absolute_metrics": ...}}}}}.

    A step is {"step_count": int, "return": [mean of the test]}, "absolute_metrics" {"return": [final return]}: of
    the last parameters, not of the best. marl-eval looks up every run by the names of the first, so curves are cut to
    the tests that all runs of their environment have (seeds end at their own tests), and all must have the same seeds.
    Environments and tasks are in lower case, as it looks for them. Raises ValueError as `rliable_layout`, and for
    algorithms with different seeds.
    Source: https://github.com/instadeepai/marl-eval and Gorsane et al. 2022.
    """
    lowered = [e._replace(environment=e.environment.lower(), task=e.task.lower()) for e in experiments]
    ordered = [experiment for group in _by_algorithm(lowered).values() for experiment in group]
    curves = [learning_curves(experiment.metrics) for experiment in ordered]
    _check_same_seeds(ordered, curves)
    lengths: dict[str, list[int]] = {}
    for experiment, seeds in zip(ordered, curves, strict=True):
        lengths.setdefault(experiment.environment, []).extend(len(curve.steps) for curve in seeds.values())
    layout: dict[str, Any] = {}
    for experiment, seeds in zip(ordered, curves, strict=True):
        length, final = min(lengths[experiment.environment]), final_returns(experiment)
        runs = {f"seed_{seed}": _marl_eval_run(curve, final[seed], length) for seed, curve in seeds.items()}
        layout.setdefault(experiment.environment, {}).setdefault(experiment.task, {})[experiment.algorithm] = runs
    return layout


def _marl_eval_run(curve: Curve, final: float, length: int) -> dict[str, Any]:
    points = zip(curve.steps[:length].tolist(), curve.returns[:length].tolist(), strict=True)
    steps = {f"step_{i}": {"step_count": step, "return": [value]} for i, (step, value) in enumerate(points)}
    return {**steps, "absolute_metrics": {"return": [final]}}  # marl-eval takes the last entry for the absolute one


def _by_algorithm(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """The experiments of each algorithm, in order of tasks, which are the same for all."""
    table: dict[str, dict[tuple[str, str], Experiment]] = {}
    for experiment in experiments:
        row, task = table.setdefault(experiment.algorithm, {}), (experiment.environment, experiment.task)
        if task in row:
            raise ValueError(f"{_name(experiment)} is given twice: one experiment must hold all its seeds")
        row[task] = experiment
    if not table:
        raise ValueError("experiments must have at least one entry (got none)")
    first, *others = table
    for other in others:
        if table[other].keys() != table[first].keys():
            raise ValueError(f"all algorithms must have the same tasks: those of {other} and {first} differ")
    return {algorithm: [row[task] for task in sorted(row)] for algorithm, row in table.items()}


def _check_same_seeds(experiments: Sequence[Experiment], seeds: Sequence[Mapping[int, Any]]) -> None:
    for experiment, own in zip(experiments, seeds, strict=True):
        if own.keys() != seeds[0].keys():
            raise ValueError(
                f"all experiments must have the same seeds: {_name(experiment)} has seeds {list(own)} "
                f"and {_name(experiments[0])} has {list(seeds[0])}"
            )


def _name(experiment: Experiment) -> str:
    return f"{experiment.algorithm} on {experiment.environment}/{experiment.task}"


def _fields(row: Row, *names: str) -> list[Any]:
    missing = [name for name in names if name not in row]
    if missing:
        raise ValueError(f"a row must have {', '.join(names)} ({missing[0]} is missing)")
    return [row[name] for name in names]
