"""Pictures that experiments ask for, from the rows that their runs logged."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from gpgrad import plots
from gpgrad.errors import SettingError
from gpgrad.experiments import schema, x_axes
from gpgrad.experiments.reporting import drawings
from gpgrad.experiments.reporting.report import Result
from gpgrad.experiments.schema import Drawing
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.stats import Curve
from gpgrad.runs.wanted_seeds import Share

DRAWING = Drawing("grids", "made", "mean", {}, "conflict", "", 0, "", "")
CONFLICT = np.arange(9.0).reshape(3, 3)


@pytest.fixture
def result(tmp_path):
    """Two seeds of an arm."""
    arm = schema.Arm("QMIX", "pp_small", "qmix", None, {}, "pp_small")
    setup = schema.Setup(arm, None, "identity", range(2), {})  # type: ignore[arg-type]
    metrics = [
        {"seed": seed, "env_steps": steps, "futile": None if steps == 0 else steps + seed, "flow": [[steps], [seed]]}
        for steps in (0, 10, 20)
        for seed in range(2)
    ]
    final = [
        {
            "seed": seed,
            "conflict": (CONFLICT + seed).tolist(),
            "roles": [0, 1, 0],
            "utilities": [[1, 2, 3], [4, 5, seed]],
        }
        for seed in (1, 0)
    ]
    run = RunFolder(tmp_path, {"seed": 0, "seeds": 2}, finished=True)
    curves = {seed: Curve(np.array([0, 10]), np.zeros(2)) for seed in range(2)}
    return Result(setup, [Share(run, [0, 1], metrics, final)], curves, {0: 0.0, 1: 0.0}, [])


def test_traces_are_what_was_logged(result):
    drawing = DRAWING._replace(kind="traces", lines={"futile": "futile", "pull": "flow[1,0]"})
    (panel,) = drawings.traces(drawing, [result])
    assert panel.title == "QMIX"
    futile, pull = panel.lines
    np.testing.assert_array_equal(futile.curves[1], [[10, 20], [11, 21]])  # nothing was logged at the start
    np.testing.assert_array_equal(pull.curves[1], [[0, 10, 20], [1, 1, 1]])


def test_rows_older_than_what_is_drawn_are_left_out(result):
    (share,) = result.shares
    older = [{k: v for k, v in row.items() if k != "flow"} if row["env_steps"] == 0 else row for row in share.metrics]
    drawing = DRAWING._replace(kind="traces", lines={"pull": "flow[1,0]"})
    (panel,) = drawings.traces(drawing, [result._replace(shares=[share._replace(metrics=older)])])
    np.testing.assert_array_equal(panel.lines[0].curves[1], [[10, 20], [1, 1]])


def test_curves_go_by_updates_and_by_hours(result, tmp_path):
    (share,) = result.shares
    metrics = [row | {"updates": 3 * row["env_steps"], "iterations": row["env_steps"] // 10} for row in share.metrics]
    rows = [{"iterations": i, "seconds": seconds} for i, seconds in ((0, 360), (1, 720), (2, 360))]  # resumed at 1
    (tmp_path / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = {seed: Curve(np.array([0, 10, 20]), np.arange(3.0)) for seed in range(2)}
    result = result._replace(shares=[share._replace(metrics=metrics)], curves=curves)
    assert x_axes.against(result, "steps") is curves
    for axis, expected in (("updates", [0, 30, 60]), ("hours", [0.1, 0.2, 0.3])):
        for curve in x_axes.against(result, axis).values():
            np.testing.assert_allclose(curve.steps, expected)
            np.testing.assert_array_equal(curve.returns, np.arange(3.0))


def test_a_drawing_may_be_of_some_arms(result):
    other = result._replace(setup=result.setup._replace(arm=result.setup.arm._replace(label="VDN")))
    assert drawings.drawn(DRAWING, [result, other]) == [result, other]
    assert drawings.drawn(DRAWING._replace(arms=("VDN",)), [result, other]) == [other]


def test_a_heat_map_is_the_mean_over_seeds(result):
    (grid,) = drawings.grids(DRAWING._replace(beside="utilities"), result, "QMIX")
    np.testing.assert_array_equal(grid.values, CONFLICT + 0.5)
    assert grid.rows == ["1\n(1)", "2\n(2)", "3\n(3)"]
    assert grid.columns[2] == "3\n(0.5)"


def test_special_agents_come_first(result):
    first, second = drawings.grids(DRAWING._replace(seeds=2, marked="roles"), result, "QMIX")
    assert (first.title, second.title) == ("QMIX, seed 0", "QMIX, seed 1")
    assert first.rows == first.columns == ["2", "1", "3"]
    assert first.marked == {"2"}
    np.testing.assert_array_equal(first.values, CONFLICT[[1, 0, 2]][:, [1, 0, 2]])


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("futil", "rows have no 'futil'; did you mean 'futile'"),
        ("flow[0", r"rows have no 'flow\[0'"),
        ("flow[2,0]", r"flow\[2,0\] is outside an array of shape \(2, 1\)"),
    ],
)
def test_what_was_not_logged_is_named(result, place, sentence):
    with pytest.raises(SettingError, match=sentence):
        drawings.traces(DRAWING._replace(lines={"": place}), [result])


def test_only_matrices_are_heat_maps(result):
    with pytest.raises(
        SettingError, match=r"roles must be a matrix to be drawn as a heat map \(got the shape \(3,\)\)"
    ):
        drawings.grids(DRAWING._replace(metric="roles"), result, "QMIX")


def test_files_of_heat_maps(tmp_path):
    signed = plots.Grid("a", np.array([[-1.0, 2.0]]), ["x"], ["y", "z"], frozenset("z"))
    figure = plots.heat_maps([signed, signed._replace(title="b")], "payoff")
    place, other, bar = figure.axes
    assert (place.get_title(), other.get_title(), bar.get_ylabel()) == ("a", "b", "payoff")
    assert place.images[0].get_clim() == (-2, 2)
    assert [text.get_text() for text in place.texts] == ["-1.00", "2.00"]
    bold = [label.get_text() for label in place.get_xticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["z"]
    large = plots.Grid("c", np.ones((20, 20)), *[[str(i) for i in range(20)]] * 2)
    (alone, _) = plots.heat_maps([large], "conflict").axes
    assert alone.images[0].get_clim() == (0, 1)
    assert not alone.texts
    path = plots.write_grids([signed], tmp_path / "payoffs", "payoff")
    rows = list(csv.DictReader(path.open()))
    assert rows == [
        {"panel": "a", "row": "x", "column": "y", "payoff": "-1.0"},
        {"panel": "a", "row": "x", "column": "z", "payoff": "2.0"},
    ]


def test_places_in_rows():
    row = {"efficiency": [0.25, 0.5], "gradients": [[1.0, -3.0], [2.0, 2.0]], "nothing": None}
    assert drawings.logged(row, "efficiency[1]") == 0.5
    assert drawings.logged(row, "mean efficiency") == 0.375
    assert drawings.logged(row, "sum gradients[0]") == -2
    assert drawings.logged(row, "mean nothing") is None
    for place in ("efficency", "median efficiency", "efficiency[x]"):
        with pytest.raises(SettingError, match="rows have no"):
            drawings.logged(row, place)
    with pytest.raises(SettingError, match=r"outside an array of shape \(2,\)"):
        drawings.logged(row, "efficiency[2]")
