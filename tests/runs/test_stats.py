"""Statistics over seeds, against scipy, by simulation and by hand."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from gpgrad.runs import rliable_export, stats
from gpgrad.runs.rliable_export import Experiment

ROOT = Path(__file__).parents[2]
NAN, INF = math.nan, math.inf


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def rows(seed, points):
    return [{"seed": seed, "env_steps": steps, "test_return": value, "loss": None} for steps, value in points]


def experiment(algorithm="qmix", task="small", environment="pp", seeds=(0, 1), tests=2, base=0.0, final=()):
    metrics = [
        row
        for test in range(tests)  # as a run writes them: all seeds of a test, then the next test
        for seed in seeds
        for row in rows(seed, [(100 * test + seed, base + 10 * test + seed)])
    ]
    return Experiment(environment, task, algorithm, metrics, final)


def test_needs_no_jax():
    code = "import sys, gpgrad.runs.stats; sys.exit(any(name in sys.modules for name in ('jax', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_t_quantiles_are_scipys(level):
    df = np.arange(1, 201)
    ours = [stats.t_quantile(level, int(d)) for d in df]
    np.testing.assert_allclose(ours, scipy.stats.t.ppf((1 + level) / 2, df), rtol=1e-9, atol=0)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_mean_interval_is_scipys(rng, n):
    values = rng.normal(3, 2, n)
    ours = stats.mean_interval(values, 0.9)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(ours.interval, theirs, rtol=1e-10)
    assert (ours.mean, ours.std, ours.n) == (pytest.approx(values.mean()), pytest.approx(np.std(values, ddof=1)), n)


def test_one_value_has_no_spread():
    ours = stats.mean_interval([4.0])
    assert ours.mean == 4
    assert math.isnan(ours.std)
    assert ours.interval == (-INF, INF)


def test_one_seed_has_no_bootstrap(rng):
    assert stats.iqm_interval([[4.0]], rng) == (4, (-INF, INF))
    assert stats.probability_of_improvement([4], [1], rng) == (1, (-INF, INF))


def test_plus_and_minus_is_half_of_the_interval():
    """The one meaning of ±, wherever numbers over seeds are shown."""
    low, high = scipy.stats.ttest_1samp([20, 22, 24, 26, 28], 0).confidence_interval(0.95)
    assert stats.shown([20, 22, 24, 26, 28]) == f"24 ± {(high - low) / 2:.2g}" == "24 ± 3.9"
    assert stats.shown([20, 22, 24, 26, 28], ".2f", ".2f") == "24.00 ± 3.93"
    assert (stats.shown([24]), stats.shown([24], alone="")) == ("24 (1 seed)", "24")
    assert stats.shown([1, NAN]) == "nan ± nan"


def test_equal_values_have_a_point_for_an_interval():
    assert stats.mean_interval([2, 2, 2]) == (2, 0, 3, (2, 2))


def test_t_intervals_cover_as_often_as_they_say(rng):
    samples = rng.normal(5, 3, (2000, 5))
    intervals = np.array([stats.mean_interval(sample).interval for sample in samples])
    covered = (intervals[:, 0] <= 5) & (intervals[:, 1] >= 5)
    assert 0.93 <= covered.mean() <= 0.97


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 20, 101])
def test_iqm_is_scipys_trimmed_mean(rng, n):
    values = rng.normal(size=n)
    assert stats.iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25))


def test_iqm_ignores_shape_and_outliers(rng):
    scores = rng.normal(size=(3, 5))
    assert stats.iqm(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None))
    assert stats.iqm([1e9, 1, 3, -1e9]) == 2


def test_iqm_interval_draws_seeds_within_tasks(rng):
    """Tasks far apart whose seeds agree: a bootstrap over tasks would spread, one over seeds cannot."""
    estimate = stats.iqm_interval([[0, 0, 0], [10, 10, 10], [20, 20, 20]], rng)
    assert estimate.interval == (estimate.value, estimate.value)


def test_iqm_interval_is_scipys_for_one_task(rng):
    scores = rng.normal(2, 1, (1, 12))
    ours = stats.iqm_interval(scores, rng, 20_000)
    theirs = scipy.stats.bootstrap(
        scores,
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        rng=3,
        n_resamples=20_000,
    ).confidence_interval
    np.testing.assert_allclose(ours.interval, theirs, atol=0.03)
    assert ours.interval.low < ours.value < ours.interval.high


@pytest.mark.parametrize("digits", [0, 6])
def test_probability_of_improvement_is_scipys_u(rng, digits):
    x, y = rng.normal(1, 1, 9).round(digits), rng.normal(0, 1, 6).round(digits)  # rounded to whole numbers they tie
    ours = stats.probability_of_improvement(x, y, rng)
    assert ours.value == pytest.approx(scipy.stats.mannwhitneyu(x, y).statistic / 54)
    assert 0 <= ours.interval.low < ours.value < ours.interval.high <= 1
    swapped = stats.probability_of_improvement(y, x, rng)
    assert swapped.value == pytest.approx(1 - ours.value)


def test_probability_of_improvement_bootstraps_both_sides(rng):
    x, y = rng.normal(0.7, 1, 10), rng.normal(0, 1, 8)
    drawn_x, drawn_y = (rng.choice(v, (20_000, len(v))) for v in (x, y))
    wins = (drawn_x[:, :, None] > drawn_y[:, None, :]).mean((1, 2))
    ours = stats.probability_of_improvement(x, y, rng, 20_000)
    np.testing.assert_allclose(ours.interval, np.quantile(wins, [0.025, 0.975]), atol=0.02)


def test_probability_of_improvement_by_hand(rng):
    assert stats.probability_of_improvement([1, 2], [2, 3], rng).value == 0.125  # one tie in four pairs
    assert stats.probability_of_improvement([5, 6, 7], [1, 2], rng) == (1, (1, 1))


def test_same_generator_same_interval():
    x, y = [1.0, 3, 2, 5], [2.0, 2, 4]
    runs = [stats.probability_of_improvement(x, y, np.random.default_rng(1)) for _ in range(2)]
    assert runs[0] == runs[1]
    runs = [stats.iqm_interval([x, x], np.random.default_rng(1)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_area_by_hand():
    assert stats.area_under_curve([0, 10], [0, 4]) == 2
    assert stats.area_under_curve([100, 110, 140], [0, 4, 4]) == (20 + 120) / 40
    assert stats.area_under_curve([3, 4, 9], [7, 7, 7]) == 7


def test_threshold_by_hand():
    steps, returns = [0, 10, 20, 30], [0, 4, 2, 8]
    assert stats.steps_to_threshold(steps, returns, 1) == 2.5
    assert stats.steps_to_threshold(steps, returns, 3) == 7.5  # the first crossing, not the one to stay
    assert stats.steps_to_threshold(steps, returns, 4) == 10
    assert stats.steps_to_threshold(steps, returns, 5) == 25
    assert stats.steps_to_threshold(steps, returns, 0) == 0
    assert stats.steps_to_threshold(steps, returns, -3) == 0
    assert stats.steps_to_threshold(steps, returns, 8.1) is None
    assert stats.steps_to_threshold([50], [1], 1) == 50


def test_learning_curves_gather_seeds():
    curves = rliable_export.learning_curves(
        [*rows(3, [(0, 1.0)]), *rows(1, [(0, 2.0), (9, 4.0)]), *rows(3, [(8, 5.0)])]
    )
    assert list(curves) == [1, 3]
    np.testing.assert_array_equal(curves[1], [[0, 9], [2, 4]])
    np.testing.assert_array_equal(curves[3], [[0, 8], [1, 5]])
    assert stats.area_under_curve(*curves[3]) == 3


def test_final_returns_prefer_the_final_test():
    assert rliable_export.final_returns(experiment(seeds=(2, 1))) == {1: 11, 2: 12}
    final = [{"seed": 2, "test_return": 8.5}, {"seed": 1, "test_return": 7.5}]
    assert rliable_export.final_returns(experiment(seeds=(1, 2), final=final)) == {1: 7.5, 2: 8.5}


def test_rliable_layout():
    layout = rliable_export.rliable_layout(
        [
            experiment("qmix", "small", seeds=(1, 0)),
            experiment("qmix", "large", seeds=(0, 1), base=100),
            experiment("vdn", "large", seeds=(0, 1, 2), base=300),
            experiment("vdn", "small", seeds=(0, 1, 2), base=200),
        ]
    )
    assert layout == {
        "qmix": [[110, 10], [111, 11]],  # a row per seed, a column per task in order of names
        "vdn": [[310, 210], [311, 211], [312, 212]],
    }
    assert json.loads(json.dumps(layout)) == layout


def test_marl_eval_layout():
    metrics = [*rows(0, [(0, 1.0), (np.int64(50), np.float32(2.0)), (90, 3.0)]), *rows(4, [(0, 5.0), (60, 6.0)])]
    final = [{"seed": 0, "test_return": 3.5}, {"seed": 4, "test_return": 6.5}]
    layout = rliable_export.marl_eval_layout([Experiment("PP", "Small", "qmix", metrics, final)])
    runs = {
        "seed_0": {  # cut to the two tests that both seeds have
            "step_0": {"step_count": 0, "return": [1.0]},
            "step_1": {"step_count": 50, "return": [2.0]},
            "absolute_metrics": {"return": [3.5]},
        },
        "seed_4": {
            "step_0": {"step_count": 0, "return": [5.0]},
            "step_1": {"step_count": 60, "return": [6.0]},
            "absolute_metrics": {"return": [6.5]},
        },
    }
    assert layout == {"pp": {"small": {"qmix": runs}}}
    assert json.loads(json.dumps(layout)) == layout
    assert list(layout["pp"]["small"]["qmix"]["seed_0"])[-1] == "absolute_metrics"


def test_marl_eval_cuts_within_an_environment():
    names = [("qmix", "small", "pp", 4), ("qmix", "large", "pp", 3), ("qmix", "two", "game", 5)]
    layout = rliable_export.marl_eval_layout([experiment(a, t, e, tests=k) for a, t, e, k in names])
    lengths = {task: len(runs["qmix"]["seed_1"]) for tasks in layout.values() for task, runs in tasks.items()}
    assert lengths == {"small": 4, "large": 4, "two": 6}  # tests and the absolute metrics
    assert layout["pp"]["small"]["qmix"]["seed_1"]["absolute_metrics"] == {"return": [31]}  # of all tests


RNG = np.random.default_rng(0)
BAD = {
    "mean of nothing": (lambda: stats.mean_interval([]), "values must have at least one value"),
    "mean of NaN": (lambda: stats.mean_interval([1, NAN]), r"values must be finite numbers \(got nan\)"),
    "mean of None": (lambda: stats.mean_interval([1, None]), "must be finite"),
    "mean of a matrix": (lambda: stats.mean_interval([[1, 2]]), r"must have 1 axes \(got 2\)"),
    "level": (lambda: stats.mean_interval([1, 2], 95), "level must be .*got 95"),
    "level of one value": (lambda: stats.mean_interval([1], 1.0), "level must be .*got 1.0"),
    "no freedom": (lambda: stats.t_quantile(0.95, 0), "df must be .*got 0"),
    "iqm of nothing": (lambda: stats.iqm([]), "must have at least one value"),
    "iqm of infinity": (lambda: stats.iqm([1, INF]), "must be finite"),
    "iqm over one axis": (lambda: stats.iqm_interval([1, 2], RNG), r"must have 2 axes \(got 1\)"),
    "no repetitions": (lambda: stats.iqm_interval([[1, 2]], RNG, 0), "repetitions must be .*got 0"),
    "improvement over nothing": (
        lambda: stats.probability_of_improvement([1], [], RNG),
        "y must have at least one value",
    ),
    "improvement of NaN": (lambda: stats.probability_of_improvement([NAN], [1], RNG), "x must be finite"),
    "area of a point": (lambda: stats.area_under_curve([1], [1]), r"at least two tests \(got one\)"),
    "area of no curve": (lambda: stats.area_under_curve([1, 2], [1]), r"as many returns as steps \(got 1 and 2\)"),
    "steps back": (lambda: stats.area_under_curve([2, 1], [1, 2]), "must increase"),
    "steps twice": (lambda: stats.steps_to_threshold([1, 1], [1, 2], 2), "must increase"),
    "threshold": (lambda: stats.steps_to_threshold([1, 2], [1, 2], NAN), "threshold must be .*got nan"),
    "return of NaN": (
        lambda: stats.steps_to_threshold([1, 2], [1, NAN], 1),
        r"returns of the curve must be finite numbers \(got nan\)",
    ),
    "no common seed": (lambda: stats.common_seeds({1: 0.0}, {2: 0.0}), "at least one seed in common"),
    "no rows": (lambda: rliable_export.learning_curves([]), "no rows"),
    "row without return": (
        lambda: rliable_export.learning_curves([{"seed": 0, "env_steps": 0}]),
        "test_return is missing",
    ),
    "return of None": (lambda: rliable_export.learning_curves(rows(5, [(0, None)])), "returns of seed 5"),
    "tests twice": (lambda: rliable_export.learning_curves(rows(5, [(0, 1), (0, 1)])), "steps of seed 5 must increase"),
    "final of other seeds": (
        lambda: rliable_export.final_returns(experiment(final=[{"seed": 0, "test_return": 1}])),
        r"qmix on pp/small must be one for each of the seeds \[0, 1\] \(got \[0\]\)",
    ),
    "final twice": (
        lambda: rliable_export.final_returns(experiment(seeds=(0,), final=[{"seed": 0, "test_return": 1}] * 2)),
        r"seeds \[0\] \(got \[0, 0\]\)",
    ),
    "final of None": (
        lambda: rliable_export.final_returns(experiment(seeds=(0,), final=[{"seed": 0, "test_return": None}])),
        "final returns of qmix on pp/small must be finite",
    ),
    "experiments must have at least one": (
        lambda: rliable_export.rliable_layout([]),
        "experiments must have at least one",
    ),
    "experiment twice": (lambda: rliable_export.rliable_layout([experiment(), experiment()]), "given twice"),
    "twice but for case": (
        lambda: rliable_export.marl_eval_layout([experiment(), experiment(environment="PP")]),
        "given twice",
    ),
    "other tasks": (
        lambda: rliable_export.rliable_layout([experiment(), experiment("vdn", "large")]),
        "same tasks: those of vdn and qmix differ",
    ),
    "other seeds on a task": (
        lambda: rliable_export.rliable_layout([experiment(), experiment(task="large", seeds=(0, 1, 2))]),
        r"has seeds \[0, 1\] and .* has \[0, 1, 2\]",
    ),
    "other seeds of an algorithm": (
        lambda: rliable_export.marl_eval_layout([experiment(), experiment("vdn", seeds=(0, 1, 2))]),
        "must have the same seeds",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_input_is_named_in_a_sentence(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert re.search("expected|must", str(error.value))
    assert "\n" not in str(error.value)
