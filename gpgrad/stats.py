"""Statistics over seeds: means and their intervals, comparisons, verdicts.

Pure functions on NumPy arrays, without jax. Input that has no answer raises ValueError with one sentence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

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
    return float(_iqm(numbers("values", values).ravel()))


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
    scores = numbers("scores", scores, ndim=2)
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
    x, y = numbers("x", x, ndim=1), numbers("y", y, ndim=1)
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
    steps, returns = curve(steps, returns)
    if len(steps) < 2:
        raise ValueError("the curve has one test, expected at least two")
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


def steps_to_threshold(steps: ArrayLike, returns: ArrayLike, threshold: float) -> float | None:
    """Steps at which returns [K] at steps [K] first reach the threshold, on straight lines between tests.

    None if they never do; the first step if they start there. Raises ValueError as `area_under_curve`, save that one
    test is enough.
    """
    steps, returns = curve(steps, returns)
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
    x, y = numbers("x", x, ndim=1), numbers("y", y, ndim=1)
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


def numbers(name: str, values: ArrayLike, ndim: int | None = None) -> np.ndarray:
    """Values as finite float64. None, as in rows of what was not finite, counts as NaN. Raises ValueError otherwise."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty, expected at least one value")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes, expected {ndim}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite, expected numbers")
    return array


def curve(steps: ArrayLike, returns: ArrayLike, name: str = "the curve") -> tuple[np.ndarray, np.ndarray]:
    """Both as finite float64 [K]. Raises ValueError for unequal lengths and steps that do not increase."""
    steps, returns = numbers(f"steps of {name}", steps, ndim=1), numbers(f"returns of {name}", returns, ndim=1)
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
