"""Statistics over seeds: means and their intervals, comparisons, verdicts, and layouts that other tools read.

Pure functions on NumPy arrays, without jax. Input that has no answer raises ValueError with one sentence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Row = Mapping[str, Any]
Verdict = Literal["shown", "not shown", "contradicted", "smoke run"]

ENOUGH_SEEDS = 5
EXACT_FLIPS = 16  # up to this many pairs all sign flips are enumerated: 65,536 sums of 16 numbers


class Interval(NamedTuple):
    """Both ends, in the unit of the values."""

    low: float
    high: float


class Mean(NamedTuple):
    """A mean over n values, their standard deviation (n - 1 in the denominator), Student's t interval of the mean."""

    mean: float
    std: float
    n: int
    interval: Interval


class Estimate(NamedTuple):
    """A statistic of the values as they are, with its percentile bootstrap interval."""

    value: float
    interval: Interval


class Paired(NamedTuple):
    """Differences x - y over n pairs: as in `Mean`, with the two-sided p-value of the sign-flip test."""

    mean: float
    std: float
    n: int
    interval: Interval
    p_value: float


class Curve(NamedTuple):
    """One seed's tests. steps: int [K], strictly increasing. returns: float [K]."""

    steps: np.ndarray
    returns: np.ndarray


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


def mean_interval(values: ArrayLike, level: float = 0.95) -> Mean:
    """Mean of independent values [n], one per seed, with Student's t interval.

    The interval covers the true mean with probability `level` if values are normal. A single value tells nothing about
    the spread: its standard deviation is NaN and its interval the whole line. Raises ValueError for no values, values
    that are not finite and a level outside (0, 1).
    """
    values = _numbers("values", values, ndim=1)
    n, mean = len(values), float(values.mean())
    quantile = t_quantile(level, max(n - 1, 1))
    if n == 1:
        return Mean(mean, math.nan, n, Interval(-math.inf, math.inf))
    std = float(values.std(ddof=1))
    half = quantile * std / math.sqrt(n)
    return Mean(mean, std, n, Interval(mean - half, mean + half))


@functools.cache
def t_quantile(level: float, df: int) -> float:
    """The t with P(|T| <= t) = level for Student's T with `df` degrees of freedom, a whole number.

    Bisection over the angle atan(t / sqrt(df)), on which the probability is a finite sum. Raises ValueError for a level
    outside (0, 1) and fewer than one degree of freedom.
    """
    _check_level(level)
    if df < 1:
        raise ValueError(f"df is {df}, expected 1 or more")
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # more halvings than a float64 has bits
        middle = (low + high) / 2
        low, high = (middle, high) if _t_probability(middle, df) < level else (low, middle)
    return math.sqrt(df) * math.tan((low + high) / 2)


def _t_probability(angle: float, df: int) -> float:
    """P(|T| <= sqrt(df) tan(angle)). Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    odd, cosine = df % 2, math.cos(angle)
    term, total = cosine**odd, 0.0
    for power in range(odd, df - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * cosine**2
    inner = math.sin(angle) * total
    return 2 / math.pi * (angle + inner) if odd else inner


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: of all values, of any shape, without the lowest and the highest quarter (rounded down).

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021. Raises
    ValueError for no values and values that are not finite.
    """
    return float(_iqm(_numbers("values", values).ravel()))


def _iqm(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    n = values.shape[-1]
    cut = n // 4
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(-1)


def iqm_interval(scores: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, level: float = 0.95) -> Estimate:
    """Interquartile mean of scores [tasks, seeds] with its stratified bootstrap interval.

    Seeds are drawn again within each task, so every task keeps its weight (Agarwal et al. 2021). With few seeds a
    bootstrap interval is too narrow. Raises ValueError as `iqm`, and for scores that are not [tasks, seeds].
    """
    scores = _numbers("scores", scores, ndim=2)
    _check_bootstrap(level, repetitions)
    chosen = rng.integers(scores.shape[1], size=(repetitions, *scores.shape))  # [R, tasks, seeds]
    drawn = np.take_along_axis(scores[None], chosen, axis=2).reshape(repetitions, -1)  # [R, tasks * seeds]
    return Estimate(iqm(scores), _percentiles(_iqm(drawn), level))


def probability_of_improvement(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, level: float = 0.95
) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 over all pairs of x [n] and y [m], with its bootstrap interval.

    It is the Mann-Whitney U of x divided by n m. x and y are drawn again independently: this is for unpaired values.
    Source: Agarwal et al. 2021. Raises ValueError for no values and values that are not finite.
    """
    x, y = _numbers("x", x, ndim=1), _numbers("y", y, ndim=1)
    _check_bootstrap(level, repetitions)
    wins = (np.sign(x[:, None] - y[None, :]) + 1) / 2  # [n, m]
    # How often each value is drawn is all that matters of a bootstrap sample.
    of_x, of_y = (rng.multinomial(len(v), np.full(len(v), 1 / len(v)), size=repetitions) for v in (x, y))
    drawn = ((of_x @ wins) * of_y).sum(-1) / wins.size  # [R]
    return Estimate(float(wins.mean()), _percentiles(drawn, level))


def area_under_curve(steps: ArrayLike, returns: ArrayLike) -> float:
    """Mean return over training: the trapezoids under returns [K] at steps [K], divided by the range of steps.

    Raises ValueError for fewer than two tests, unequal lengths, steps that do not increase, values that are not finite.
    """
    steps, returns = _curve(steps, returns)
    if len(steps) < 2:
        raise ValueError("the curve has one test, expected at least two")
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def steps_to_threshold(steps: ArrayLike, returns: ArrayLike, threshold: float) -> float | None:
    """Steps at which returns [K] at steps [K] first reach the threshold, on straight lines between tests.

    None if they never do; the first step if they start there. Raises ValueError as `area_under_curve`, save that one
    test is enough.
    """
    steps, returns = _curve(steps, returns)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}, expected a finite number")
    reached = np.flatnonzero(returns >= threshold)
    if not reached.size:
        return None
    after, before = int(reached[0]), int(reached[0]) - 1
    if after == 0:
        return float(steps[0])
    share = (threshold - returns[before]) / (returns[after] - returns[before])
    return float(steps[before] + share * (steps[after] - steps[before]))


def paired_comparison(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator | None = None, repetitions: int = 10_000, level: float = 0.95
) -> Paired:
    """The mean of x - y over pairs [n], x[i] and y[i] of the same seed (`common_seeds` brings them together).

    The p-value is the share of sign flips of the differences whose mean is at least as far from zero. Up to 16 pairs it
    is exact, over all 2^n flips, and never below 2 / 2^n: five pairs cannot give less than 0.0625. Above that it is
    taken from `repetitions` random flips of `rng`, the unflipped differences counted among them so that it is never 0
    (Phipson and Smyth 2010). Raises ValueError for no values, unequal lengths, values that are not finite, and more
    than 16 pairs without `rng`.
    """
    x, y = _numbers("x", x, ndim=1), _numbers("y", y, ndim=1)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} values and y has {len(y)}, expected pairs")
    _check_bootstrap(level, repetitions)
    differences = x - y
    return Paired(*mean_interval(differences, level), _flip_p_value(differences, rng, repetitions))


def _flip_p_value(differences: np.ndarray, rng: np.random.Generator | None, repetitions: int) -> float:
    n = len(differences)
    if n <= EXACT_FLIPS:
        flips, counted = np.arange(2**n)[:, None] >> np.arange(n) & 1, 0  # [2^n, n], the unflipped one included
    elif rng is None:
        raise ValueError(f"there are {n} pairs, expected a generator for random flips above {EXACT_FLIPS}")
    else:
        flips, counted = rng.integers(2, size=(repetitions, n)), 1
    sums = np.abs((1 - 2 * flips) @ differences)
    # Sums that are equal but for the order of their terms count as equal.
    slack = 1e-12 * np.abs(differences).sum()
    extreme = np.count_nonzero(sums >= abs(differences.sum()) - slack)
    return float((extreme + counted) / (len(sums) + counted))


def verdict(interval: tuple[float, float], n_seeds: int, claim: Literal[1, -1] = 1) -> Verdict:
    """What the interval of a difference says about the claim that the difference is positive (1) or negative (-1).

    "smoke run" below five seeds, whatever the interval; else "shown" if all of it lies on the claimed side of zero,
    "contradicted" if all of it lies on the other, "not shown" if it holds zero. With a 95 percent interval 2.5 percent
    of claims about equals are shown. Raises ValueError for an interval out of order, no seeds and another claim.
    """
    low, high = interval
    if not low <= high:
        raise ValueError(f"the interval runs from {low} to {high}, expected two numbers in order")
    if n_seeds < 1:
        raise ValueError(f"n_seeds is {n_seeds}, expected 1 or more")
    if claim not in (1, -1):
        raise ValueError(f"claim is {claim}, expected 1 or -1")
    if n_seeds < ENOUGH_SEEDS:
        return "smoke run"
    if claim == -1:
        low, high = -high, -low
    if low > 0:
        return "shown"
    return "contradicted" if high < 0 else "not shown"


def common_seeds(x: Mapping[int, float], y: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Values [n] of the seeds that both have, in order of seeds. Raises ValueError if there are none."""
    seeds = sorted(x.keys() & y.keys())
    if not seeds:
        raise ValueError("x and y have no seed in common, expected at least one")
    return np.array([x[seed] for seed in seeds], float), np.array([y[seed] for seed in seeds], float)


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
        raise ValueError("there are no rows, expected at least one test")
    curves = {}
    for seed in sorted(tests):
        steps, returns = _curve(*zip(*tests[seed], strict=True), name=f"seed {seed}")
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
            f"final rows of {_name(experiment)} are of seeds {[seed for seed, _ in rows]}, "
            f"expected one for each of {list(curves)}"
        )
    rows.sort(key=lambda row: row[0])
    values = _numbers(f"final returns of {_name(experiment)}", [value for _, value in rows])
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
            raise ValueError(f"{_name(experiment)} is given twice, expected all its seeds in one experiment")
        row[task] = experiment
    if not table:
        raise ValueError("there are no experiments, expected at least one")
    first, *others = table
    for other in others:
        if table[other].keys() != table[first].keys():
            raise ValueError(f"{other} and {first} have different tasks, expected the same for all algorithms")
    return {algorithm: [row[task] for task in sorted(row)] for algorithm, row in table.items()}


def _check_same_seeds(experiments: Sequence[Experiment], seeds: Sequence[Mapping[int, Any]]) -> None:
    for experiment, own in zip(experiments, seeds, strict=True):
        if own.keys() != seeds[0].keys():
            raise ValueError(
                f"{_name(experiment)} has seeds {list(own)} and {_name(experiments[0])} has {list(seeds[0])}, "
                f"expected the same"
            )


def _name(experiment: Experiment) -> str:
    return f"{experiment.algorithm} on {experiment.environment}/{experiment.task}"


def _fields(row: Row, *names: str) -> list[Any]:
    missing = [name for name in names if name not in row]
    if missing:
        raise ValueError(f"a row has no {missing[0]}, expected {', '.join(names)}")
    return [row[name] for name in names]


def _numbers(name: str, values: ArrayLike, ndim: int | None = None) -> np.ndarray:
    """Values as finite float64. None, as in rows of what was not finite, counts as NaN."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty, expected at least one value")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes, expected {ndim}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite, expected numbers")
    return array


def _curve(steps: ArrayLike, returns: ArrayLike, name: str = "the curve") -> tuple[np.ndarray, np.ndarray]:
    steps, returns = _numbers(f"steps of {name}", steps, ndim=1), _numbers(f"returns of {name}", returns, ndim=1)
    if len(steps) != len(returns):
        raise ValueError(f"{name} has {len(steps)} steps and {len(returns)} returns, expected pairs")
    if (np.diff(steps) <= 0).any():
        raise ValueError(f"steps of {name} do not increase, expected each test once and in order")
    return steps, returns


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected between 0 and 1")


def _check_bootstrap(level: float, repetitions: int) -> None:
    _check_level(level)
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}, expected 1 or more")


def _percentiles(drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
