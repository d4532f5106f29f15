"""Verdicts on a family of claims, each that one method's returns are higher than another's.

All claims of a report are one family: where all methods are equal, the probability of any verdict "shown" or
"contradicted" in the whole report is at most 5 percent, however many claims it has.

Each claim is tested by exact permutation of seeds between its two arms, and the p-values are adjusted by Holm's
step-down procedure. The reasons:

- The permutation test is exact for any distribution of returns, also for 0 or 40 with nothing between. Its null
  hypothesis is that both arms' returns have one distribution and are independent over seeds. Arms of one seed that are
  positively correlated make it conservative. Interactions compare sums of two arms, (both + neither) with (A + B): it
  is exact for them where methods shift returns without changing their spread.
- Sign flips of paired differences are exact too, but cannot go below 2 / 2^n: 0.0625 with five seeds. Permutations
  reach 2 / C(2n, n): 0.0079 with five, which survives the adjustment for 6 claims; 6 seeds are enough for 23, 7 for 85.
- Student's test has more power in larger families, but no guarantee: where returns are 0 or 40, five equal seeds have
  no variance, and over 40 claims with baselines of their own its family-wise error is 0.075.
- Holm's procedure needs nothing about how claims depend on each other, as they do through a common baseline. The
  permutation distribution of the maximum over all arms has more power, but its error is controlled only where all arms
  are equal: pooled with many arms that always return 0, two equal arms that return 0 or 40 look different.

Pure functions on NumPy arrays, without jax. Input that has no answer raises ValueError with one sentence.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gpgrad.runs.stats import Interval, check_level, numbers

Verdict = Literal["shown", "not shown", "contradicted", "not conclusive"]

ENOUGH_SEEDS = 5  # below it there is no verdict, however few claims there are
LEVEL = 0.95  # 1 minus the probability of any false verdict in a family
EXACT = 11  # seeds per arm up to which all C(2n, n) permutations are enumerated: 705,432 of them
DRAWN = 20_000  # permutations that are drawn above that


class Difference(NamedTuple):
    """mean(x) - mean(y) over n seeds of each, with its permutation interval and two-sided p-value."""

    mean: float
    n: int
    interval: Interval
    p_value: float


class Judged(NamedTuple):
    """A claim in its family. adjusted: Holm's p-value. needed: seeds that a verdict needs here.

    The interval of the difference is at the level at which Holm's procedure tested the claim, 95 percent or more, so
    that it excludes 0 if and only if `adjusted` is at most 0.05. An end is infinite where there are too few seeds for
    that level.
    """

    difference: Difference
    adjusted: float
    needed: int
    verdict: Verdict


def judge(
    pairs: Sequence[tuple[ArrayLike, ArrayLike] | None], rng: np.random.Generator | None = None
) -> list[Judged | None]:
    """Verdicts on the claims mean(x) > mean(y) of a whole family.

    pairs: x [n] and y [n] of every claim, None for a claim without data yet, which counts in the size of the family.
    rng: as in `permutation_difference`. Raises ValueError as that does.
    """
    shifts = [None if pair is None else _shifts(*pair, rng) for pair in pairs]
    p_values = np.array([1.0 if found is None else _p_value(found) for found in shifts])
    adjusted, levels, needed = holm(p_values), holm_levels(p_values), enough_seeds(max(len(pairs), 1))
    judged: list[Judged | None] = []
    for pair, found, q, level in zip(pairs, shifts, adjusted, levels, strict=True):
        if pair is None or found is None:
            judged.append(None)
            continue
        difference = _difference(*pair, found, float(level))
        judged.append(Judged(difference, float(q), needed, verdict(difference.mean, float(q), difference.n, needed)))
    return judged


def verdict(difference: float, adjusted: float, n_seeds: int, needed: int = ENOUGH_SEEDS) -> Verdict:
    """What a difference and its adjusted p-value say about the claim that the difference is positive.

    "shown" if it is positive and "contradicted" if it is negative, where the p-value is at most 0.05 and there are at
    least five seeds. Else "not conclusive" where there are fewer seeds than needed, and "not shown" where there are
    enough. Raises ValueError for no seeds and a p-value outside [0, 1].
    """
    if n_seeds < 1:
        raise ValueError(f"n_seeds must be at least 1 (got {n_seeds})")
    if not 0 <= adjusted <= 1:
        raise ValueError(f"the p-value must be between 0 and 1 (got {adjusted})")
    if n_seeds >= ENOUGH_SEEDS and adjusted <= _alpha(LEVEL):
        return "shown" if difference > 0 else "contradicted"
    return "not conclusive" if n_seeds < max(needed, ENOUGH_SEEDS) else "not shown"


@functools.cache
def enough_seeds(claims: int) -> int:
    """The fewest seeds per arm, 5 or more, with which Holm's procedure can reject the first of so many claims."""
    if claims < 1:
        raise ValueError(f"claims must be at least 1 (got {claims})")
    return next(n for n in itertools.count(ENOUGH_SEEDS) if claims * 2 / math.comb(2 * n, n) <= _alpha(LEVEL))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p-values [m] of p-values [m] (Holm 1979): at most 0.05 where a family-wise error of 0.05 lets reject."""
    p, order, factors = _ordered(p_values)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def holm_levels(p_values: ArrayLike, level: float = LEVEL) -> np.ndarray:
    """The confidence level [m] at which Holm's procedure tested each claim: that of the step at which it stopped for
    all that it did not reject.
    """
    p, order, factors = _ordered(p_values)
    failed = np.flatnonzero(p[order] * factors > _alpha(level))
    if failed.size:
        factors[failed[0] :] = factors[failed[0]]
    levels = np.empty_like(p)
    levels[order] = 1 - _alpha(level) / factors
    return levels


def _ordered(p_values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p-values [m], their order, and Holm's factors m, m - 1, ..., 1 in that order."""
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must be a list of numbers between 0 and 1 (got {p.tolist()})")
    return p, np.argsort(p, kind="stable"), np.arange(len(p), 0, -1.0)


def permutation_difference(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator | None = None, level: float = LEVEL
) -> Difference:
    """The difference of the means of x [n] and y [n], independent values of two arms.

    The p-value is twice the share of permutations of all 2n values between the arms whose difference is at least as
    high, or as low. The interval holds all shifts d for which the test of x - d against y does not reject: its ends are
    order statistics of the differences of means of equally many x's and y's (Maritz 1979). It excludes 0 if and only if
    the p-value is at most 1 - level. Up to 11 seeds both are exact. Above that 20,000 permutations of `rng` are drawn,
    the unpermuted values counted among them so that p is never 0 (Phipson and Smyth 2010). Raises ValueError for no
    values, unequal lengths, values that are not finite, and more than 11 seeds without `rng`.
    """
    check_level(level)
    return _difference(x, y, _shifts(x, y, rng), level)


def p_value(x: ArrayLike, y: ArrayLike, rng: np.random.Generator | None = None) -> float:
    """That of `permutation_difference`."""
    return _p_value(_shifts(x, y, rng))


def _difference(x: ArrayLike, y: ArrayLike, shifts: np.ndarray, level: float) -> Difference:
    first, second = np.asarray(x, float), np.asarray(y, float)
    mean, n = float(first.mean() - second.mean()), len(first)
    # A shift d is rejected as too low if (1 + the number of shifts up to d) / permutations <= alpha / 2.
    rank = math.floor((len(shifts) + 1) * _alpha(level) / 2 * (1 + 1e-12)) - 1
    if rank < 0:
        return Difference(mean, n, Interval(-math.inf, math.inf), _p_value(shifts))
    return Difference(mean, n, Interval(float(shifts[rank]), float(shifts[-1 - rank])), _p_value(shifts))


def _p_value(shifts: np.ndarray) -> float:
    """Of the hypothesis that the shift is 0."""
    positive = 1 + np.searchsorted(shifts, 0, "right")
    negative = 1 + len(shifts) - np.searchsorted(shifts, 0, "left")
    return float(min(1, 2 * min(positive, negative) / (len(shifts) + 1)))


def _shifts(x: ArrayLike, y: ArrayLike, rng: np.random.Generator | None) -> np.ndarray:
    """For every permutation but the identity the shift at which it gives the observed difference, in order.

    A permutation that moves k x's and k y's changes the difference of x - d and y by 2k/n times (the mean of those x's,
    less d, less the mean of those y's). So it reaches the observed difference where d is at least the difference of the
    two means.
    """
    x, y = numbers("x", x, ndim=1), numbers("y", y, ndim=1)
    n = len(x)
    if len(y) != n:
        raise ValueError(f"x and y must have values of the same number of seeds (got {n} and {len(y)})")
    if n <= EXACT:
        of_x, of_y = x @ _subsets(n).T, y @ _subsets(n).T  # [2^n]
        sizes = _subsets(n).sum(1)
        parts = [(of_x[sizes == k][:, None] - of_y[sizes == k]).ravel() / k for k in range(1, n + 1)]
        found = np.concatenate(parts)
    elif rng is None:
        raise ValueError(f"rng must be given for more than {EXACT} seeds (got {n}): their permutations are drawn")
    else:
        left = rng.permuted(np.tile(np.arange(2 * n), (DRAWN, 1)), axis=1)[:, :n]  # which values are in the first arm
        stays = np.zeros((DRAWN, 2 * n), bool)
        np.put_along_axis(stays, left, True, axis=1)
        moved = n - stays[:, :n].sum(1)
        sums = ~stays[:, :n] @ x - stays[:, n:] @ y
        # One that moves nothing always reaches it: it is counted at both ends, as the identity is.
        found = np.where(moved > 0, sums / np.maximum(moved, 1), 0)
    # Means that are equal but for the order of their terms are equal.
    found[np.abs(found) <= 1e-12 * (np.abs(x).max() + np.abs(y).max())] = 0
    return np.sort(found)


@functools.cache
def _subsets(n: int) -> np.ndarray:
    """All subsets of n, a row of 0 and 1 for each: float [2^n, n]."""
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(float)


def _alpha(level: float) -> float:
    return round(1 - level, 12)
