"""Statistics over seeds: means, interquartile means, probabilities of improvement, and their intervals.

Pure functions on NumPy arrays, without jax. scipy is imported where it is used: it takes longer than reading a folder
of runs. `gpgrad.runs.verdicts` compares arms. Input that has no answer raises ValueError with one sentence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


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
    """A statistic of the values as they are, with its percentile bootstrap interval, the whole line for one seed."""

    value: float
    interval: Interval


class Curve(NamedTuple):
    """One seed's tests. steps: int [K], strictly increasing. returns: float [K]."""

    steps: np.ndarray
    returns: np.ndarray


def mean_interval(values: ArrayLike, level: float = 0.95) -> Mean:
    """Mean of independent values [n], one per seed, with Student's t interval.

    The interval covers the true mean with probability `level` if values are normal. A single value tells nothing about
    the spread: its standard deviation is NaN and its interval the whole line. Raises ValueError for no values, values
    that are not finite and a level outside (0, 1).
    """
    values = numbers("values", values, ndim=1)
    n, mean = len(values), float(values.mean())
    quantile = t_quantile(level, max(n - 1, 1))
    if n == 1:
        return Mean(mean, math.nan, n, Interval(-math.inf, math.inf))
    std = float(values.std(ddof=1))
    half = quantile * std / math.sqrt(n)
    return Mean(mean, std, n, Interval(mean - half, mean + half))


@functools.cache
def t_quantile(level: float, df: int) -> float:
    """The t with P(|T| <= t) = level for Student's T with `df` degrees of freedom.

    Raises ValueError for a level outside (0, 1) and fewer than one degree of freedom.
    """
    check_level(level)
    if df < 1:
        raise ValueError(f"df must be at least 1 (got {df})")
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, a fourth of its import

    return float(stdtrit(df, (1 + level) / 2))


def shown(values: ArrayLike, form: str = ".4g", half: str = ".2g", alone: str = " (1 seed)") -> str:
    """Values of seeds [n] for people: "24 ± 3.9", their mean and half of its 95 percent interval (Student's).

    This is what ± means everywhere. form, half: formats of the two numbers. alone: what follows a single seed's number,
    which has no interval: "24 (1 seed)". What is not finite is shown as it is.
    """
    array = np.asarray(values, float)
    mean = format(float(array.mean()), form)
    if len(array) == 1:
        return mean + alone
    low, high = mean_interval(array).interval if np.isfinite(array).all() else (math.nan, math.nan)
    return f"{mean} ± {format((high - low) / 2, half)}"


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: of all values, of any shape, without the lowest and the highest quarter (rounded down).

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021. Raises
    ValueError for no values and values that are not finite.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(numbers("values", values).ravel(), 0.25))


def iqm_interval(scores: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, level: float = 0.95) -> Estimate:
    """Interquartile mean of scores [tasks, seeds] with its stratified bootstrap interval.

    Seeds are drawn again within each task, so every task keeps its weight (Agarwal et al. 2021). With few seeds a
    bootstrap interval is too narrow. Raises ValueError as `iqm`, and for scores that are not [tasks, seeds].
    """
    scores = numbers("scores", scores, ndim=2)
    from scipy.stats import trim_mean

    def statistic(*tasks: np.ndarray, axis: int) -> np.ndarray:
        return trim_mean(np.concatenate(tasks, axis), 0.25, axis)  # [R, tasks * seeds] to [R]

    return Estimate(iqm(scores), _bootstrap(list(scores), statistic, rng, repetitions, level))


def probability_of_improvement(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, level: float = 0.95
) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 over all pairs of x [n] and y [m], with its bootstrap interval.

    It is the Mann-Whitney U of x divided by n m. x and y are drawn again independently: this is for unpaired values.
    Source: Agarwal et al. 2021. Raises ValueError for no values and values that are not finite.
    """
    x, y = numbers("x", x, ndim=1), numbers("y", y, ndim=1)

    def wins(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        del axis  # the last
        return (np.sign(x[..., :, None] - y[..., None, :]) + 1).mean((-1, -2)) / 2  # [R, n, m] to [R]

    return Estimate(float(wins(x, y, -1)), _bootstrap([x, y], wins, rng, repetitions, level))


def area_under_curve(steps: ArrayLike, returns: ArrayLike) -> float:
    """Mean return over training: the trapezoids under returns [K] at steps [K], divided by the range of steps.

    Raises ValueError for fewer than two tests, unequal lengths, steps that do not increase, values that are not finite.
    """
    steps, returns = curve(steps, returns)
    if len(steps) < 2:
        raise ValueError("the curve must have at least two tests (got one)")
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def steps_to_threshold(steps: ArrayLike, returns: ArrayLike, threshold: float) -> float | None:
    """Steps at which returns [K] at steps [K] first reach the threshold, on straight lines between tests.

    None if they never do; the first step if they start there. Raises ValueError as `area_under_curve`, save that one
    test is enough.
    """
    steps, returns = curve(steps, returns)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number (got {threshold})")
    reached = np.flatnonzero(returns >= threshold)
    if not reached.size:
        return None
    after, before = int(reached[0]), int(reached[0]) - 1
    if after == 0:
        return float(steps[0])
    share = (threshold - returns[before]) / (returns[after] - returns[before])
    return float(steps[before] + share * (steps[after] - steps[before]))


def common_seeds(x: Mapping[int, float], y: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Values [n] of the seeds that both have, in order of seeds. Raises ValueError if there are none."""
    seeds = sorted(x.keys() & y.keys())
    if not seeds:
        raise ValueError(f"x and y must have at least one seed in common (got {sorted(x)} and {sorted(y)})")
    return np.array([x[seed] for seed in seeds], float), np.array([y[seed] for seed in seeds], float)


def numbers(name: str, values: ArrayLike, ndim: int | None = None) -> np.ndarray:
    """Values as finite float64. None, as in rows of what was not finite, counts as NaN. Raises ValueError otherwise."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError(f"{name} must have at least one value (got none)")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes (got {array.ndim})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers (got {array[~np.isfinite(array)][0]})")
    return array


def curve(steps: ArrayLike, returns: ArrayLike, name: str = "the curve") -> tuple[np.ndarray, np.ndarray]:
    """Both as finite float64 [K]. Raises ValueError for unequal lengths and steps that do not increase."""
    steps, returns = numbers(f"steps of {name}", steps, ndim=1), numbers(f"returns of {name}", returns, ndim=1)
    if len(steps) != len(returns):
        raise ValueError(f"{name} must have as many returns as steps (got {len(returns)} and {len(steps)})")
    if (np.diff(steps) <= 0).any():
        raise ValueError(f"steps of {name} must increase from test to test")
    return steps, returns


def check_level(level: float) -> None:
    """Raises ValueError for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 (got {level})")


def _bootstrap(
    samples: list[np.ndarray], statistic: Callable[..., np.ndarray], rng: np.random.Generator, times: int, level: float
) -> Interval:
    """Percentile interval of a statistic of samples that are drawn again independently of each other."""
    check_level(level)
    if times < 1:
        raise ValueError(f"repetitions must be at least 1 (got {times})")
    if min(map(len, samples)) == 1:
        return Interval(-math.inf, math.inf)
    from scipy.stats import bootstrap

    found = bootstrap(
        samples, statistic, n_resamples=times, vectorized=True, confidence_level=level, method="percentile", rng=rng
    )
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))
