"""Verdicts on families of claims: against scipy, by simulation and by hand."""

from __future__ import annotations

import math
import re
from typing import get_args

import numpy as np
import pytest
import scipy.stats

from gpgrad.runs import rliable_export, stats, verdicts

INF = math.inf
RETURNS = {  # what the returns of a method over seeds may look like
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "skewed": lambda rng, size: np.exp(1.5 * rng.normal(0, 1, size)),
    "0 or 40": lambda rng, size: 40.0 * (rng.random(size) < 0.5),
    "about 0 or 40": lambda rng, size: 38.0 * (rng.random(size) < 0.5) + rng.normal(0, 0.5, size),
}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("digits", [0, 8])
def test_permutations_are_scipys(rng, n, digits):
    x, y = rng.normal(0.5, 1, n).round(digits), rng.normal(0, 1, n).round(digits)  # rounded to whole numbers they tie
    ours = verdicts.permutation_difference(x, y)
    theirs = scipy.stats.permutation_test((x, y), lambda a, b, axis: a.mean(axis) - b.mean(axis), n_resamples=INF)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.mean == pytest.approx(x.mean() - y.mean())


def test_permutations_of_ranks_are_mann_whitneys(rng):
    ranks = rng.permutation(np.arange(1.0, 17))
    ours = verdicts.permutation_difference(ranks[:8], ranks[8:])
    assert ours.p_value == pytest.approx(scipy.stats.mannwhitneyu(ranks[:8], ranks[8:], method="exact").pvalue)


def test_many_seeds_are_permuted_at_random(rng):
    x, y = rng.normal(0.7, 1, 12), rng.normal(0, 1, 12)
    ours = verdicts.permutation_difference(x, y, rng)
    theirs = scipy.stats.ttest_ind(x, y)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    np.testing.assert_allclose(ours.interval, theirs.confidence_interval(0.95), atol=0.1)
    never_0 = verdicts.permutation_difference(np.arange(40.0) + 100, np.arange(40.0), rng)
    assert never_0.p_value == pytest.approx(2 / (verdicts.DRAWN + 1))
    with pytest.raises(ValueError, match=r"rng must be given .* \(got 12\)"):
        verdicts.permutation_difference(x, y)


@pytest.mark.parametrize("kind", RETURNS)
@pytest.mark.parametrize("level", [0.9, 0.95, 1 - 0.05 / 6])
def test_an_interval_holds_the_shifts_that_are_not_rejected(rng, kind, level):
    x, y = RETURNS[kind](rng, (2, 5))
    low, high = verdicts.permutation_difference(x, y, level=level).interval
    rejected = lambda shift: verdicts.permutation_difference(x - shift, y).p_value <= 1 - level
    for end, outside in ((low, -1e-6), (high, 1e-6)):
        assert rejected(end + outside)
        assert not rejected(end - outside)
        assert not rejected(end)


def test_intervals_cover_at_least_as_often_as_they_say(rng):
    samples = RETURNS["skewed"](rng, (1000, 2, 5)) + np.array([[0], [3]])
    intervals = np.array([verdicts.permutation_difference(*pair).interval for pair in samples])
    assert 0.94 <= np.mean((intervals[:, 0] <= -3) & (intervals[:, 1] >= -3)) <= 0.98


def test_p_values_at_their_limits():
    p = lambda *pair: verdicts.permutation_difference(*pair).p_value
    assert p([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == 2 / 252
    assert p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == 2 / 252
    assert p([1, 2], [1, 2]) == 1
    assert p([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]) == 1
    assert p([3], [1]) == 1  # one seed shows nothing
    assert p([0.1 + 0.2, 0.3], [0.3, 0.3]) == 1  # equal but for rounding


def test_holm_is_scipys_bound_and_holms_by_hand():
    np.testing.assert_allclose(verdicts.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(verdicts.holm([0.5, 0.9, 0.6]), [1, 1, 1])
    assert verdicts.holm([]).size == 0
    np.testing.assert_allclose(verdicts.holm_levels([0.01, 0.04, 0.03, 0.005]), 1 - 0.05 / np.array([3, 2, 2, 4]))


def test_seeds_that_a_family_needs():
    """With that many the smallest p-value survives, with one less it does not."""
    assert [verdicts.enough_seeds(m) for m in (1, 6, 7, 18, 23, 24, 40, 85)] == [5, 5, 6, 6, 6, 7, 7, 7]
    for m in (1, 6, 7, 23, 24):
        n = verdicts.enough_seeds(m)
        for seeds, expected in ((n, "shown"), (n - 1, "not conclusive")):
            apart = (np.arange(seeds) + 100.0, np.arange(seeds) + 0.0)
            first, *_ = verdicts.judge([apart, *[None] * (m - 1)])
            assert first is not None
            assert (first.verdict, first.needed) == (expected, n)


@pytest.mark.parametrize(
    ("difference", "adjusted", "seeds", "needed", "expected"),
    [
        (1, 0.05, 5, 5, "shown"),
        (-1, 0.05, 5, 5, "contradicted"),
        (1, 0.051, 5, 5, "not shown"),
        (-1, 1, 50, 7, "not shown"),
        (1, 0.051, 5, 6, "not conclusive"),
        (1, 0.01, 5, 6, "shown"),  # others of its family had more seeds
        (1, 0.01, 4, 5, "not conclusive"),
        (0, 1, 1, 5, "not conclusive"),
    ],
)
def test_verdicts(difference, adjusted, seeds, needed, expected):
    assert verdicts.verdict(difference, adjusted, seeds, needed) == expected
    assert expected in get_args(verdicts.Verdict)


def equals(rng, kind: str, claims: int, seeds: int) -> list:
    """Claims of a report whose arms are all equal: three panels, in each a first arm against all others."""
    panels = [len(part) for part in np.array_split(np.arange(claims), 3)]
    arms = [RETURNS[kind](rng, (others + 1, seeds)) for others in panels]
    return [(panel[0], other) for panel in arms for other in panel[1:]]


@pytest.mark.parametrize("claims", [1, 6, 18, 40])
@pytest.mark.parametrize("kind", RETURNS)
def test_false_verdicts_are_rare_in_a_whole_report(kind, claims):
    """Of reports in which all arms are equal, at most 0.06 show a claim, and 0.05 but for chance have any verdict."""
    rng, reports = np.random.default_rng(1), {1: 1000, 6: 250, 18: 100, 40: 60}[claims]
    alone = 0
    for seeds in (5, 6, 7):
        shown = either = 0
        for _ in range(reports):
            judged = verdicts.judge(equals(rng, kind, claims, seeds))
            found = {one.verdict for one in judged}
            shown, either = shown + ("shown" in found), either + bool(found & {"shown", "contradicted"})
            alone += any(one.difference.p_value <= 0.05 for one in judged)
        assert shown <= 0.06 * reports
        assert either <= 0.05 * reports + 3 * math.sqrt(0.05 * 0.95 * reports)
    if claims >= 18 and kind != "0 or 40":  # what claims judged one by one come to
        assert alone > 0.3 * 3 * reports


def test_true_claims_are_shown_beside_false_ones(rng):
    """Of six claims with five seeds three are true; their verdicts do not make false ones of the others more likely."""
    shown, false = 0, 0
    for _ in range(1000):
        base, *others = RETURNS["about 0 or 40"](rng, (7, 5)) * 0.02
        pairs = [(other + (3 if i < 3 else 0), base) for i, other in enumerate(others)]
        judged = verdicts.judge(pairs)
        shown += sum(one.verdict == "shown" for one in judged[:3])
        false += any(one.verdict in ("shown", "contradicted") for one in judged[3:])
    assert shown > 0.9 * 3000
    assert false <= 0.06 * 1000


@pytest.mark.parametrize("seeds", [3, 5, 6, 8])
@pytest.mark.parametrize("kind", RETURNS)
def test_a_verdict_contradicts_neither_its_p_nor_its_interval(rng, kind, seeds):
    seen = set()
    for _ in range(40):
        pairs = [(x + 4 * shift, y) for (x, y), shift in zip(equals(rng, kind, 8, seeds), range(-3, 5), strict=True)]
        for judged in verdicts.judge(pairs):
            low, high = judged.difference.interval
            excludes = low > 0 or high < 0
            assert low <= judged.difference.mean <= high
            assert judged.adjusted >= judged.difference.p_value
            assert excludes == (judged.adjusted <= 0.05)
            assert (judged.verdict == "shown") == (low > 0 and seeds >= 5)
            assert (judged.verdict == "contradicted") == (high < 0 and seeds >= 5)
            seen.add(judged.verdict)
    assert seen == {3: {"not conclusive"}, 5: {"not conclusive"}}.get(seeds, {"shown", "not shown", "contradicted"})


def test_a_claim_without_data_counts_in_the_family():
    pair = ([6.0, 7, 8, 9, 10], [1.0, 2, 3, 4, 5])
    alone, (first, other) = verdicts.judge([pair]), verdicts.judge([pair, None])
    assert (alone[0].adjusted, first.adjusted, other) == (2 / 252, 4 / 252, None)
    assert verdicts.judge([]) == []


def test_comparison_of_two_runs_from_their_rows():
    of = lambda base: [{"seed": seed, "env_steps": 0, "test_return": base + seed} for seed in range(6)]
    x, y = (
        rliable_export.final_returns(rliable_export.Experiment("pp", "small", "qmix", of(base), ())) for base in (7, 0)
    )
    (judged,) = verdicts.judge([stats.common_seeds(x, y)])
    assert judged.difference.mean == pytest.approx(7)
    assert (judged.verdict, judged.adjusted) == ("shown", 2 / 924)


BAD = {
    "no values": (lambda: verdicts.permutation_difference([], []), "x must have at least one value"),
    "NaN": (lambda: verdicts.judge([([1.0, math.nan], [1.0, 2.0])]), r"x must be finite numbers \(got nan\)"),
    "unequal": (lambda: verdicts.permutation_difference([1, 2], [1]), r"the same number of seeds \(got 2 and 1\)"),
    "level": (lambda: verdicts.permutation_difference([1], [2], level=95), "level must be .*got 95"),
    "no seeds": (lambda: verdicts.verdict(1, 0.5, 0), "n_seeds must be .*got 0"),
    "p": (lambda: verdicts.verdict(1, 1.5, 5), "the p-value must be .*got 1.5"),
    "p of a family": (lambda: verdicts.holm([0.5, math.nan]), "p-values must be"),
    "no claims": (lambda: verdicts.enough_seeds(0), "claims must be .*got 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_input_is_named_in_a_sentence(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert re.search("expected|must", str(error.value))
