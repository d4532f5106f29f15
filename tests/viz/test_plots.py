"""Pictures: what they show, that the same data give the same bytes, and the data beside them."""

from __future__ import annotations

import csv
import math
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from gpgrad import plots
from gpgrad.errors import SettingError
from gpgrad.plots import Line, Panel
from gpgrad.plots.grids import number
from gpgrad.runs import stats
from gpgrad.runs.stats import Curve

ROOT = Path(__file__).parents[2]
STEPS = np.arange(0, 1_050_001, 75_000)
RNG = np.random.default_rng(3)


def curves(n, top=80.0, steps=STEPS):
    return {seed: Curve(steps, top * steps / 1e6 + RNG.normal(0, 5, len(steps))) for seed in range(n)}


@pytest.fixture(scope="module")
def panels():
    qmix, vdn = curves(5), curves(3, 40.0)
    return [Panel("small", [Line("QMIX", qmix), Line("VDN", vdn)]), Panel("large", [Line("VDN", vdn)])]


def test_band_is_the_statistics_of_every_test():
    seeds = curves(5)
    values = np.array([curve.returns for curve in seeds.values()])
    ours = plots.band(seeds)
    np.testing.assert_array_equal(ours.steps, STEPS)
    for i, column in enumerate(values.T):
        mean = stats.mean_interval(column)
        assert (ours.centre[i], ours.low[i], ours.high[i]) == (mean.mean, *mean.interval)
    robust = plots.band(seeds, "iqm")
    np.testing.assert_allclose(robust.centre, [stats.iqm(column) for column in values.T])
    assert ((robust.low < robust.centre) & (robust.centre < robust.high)).all()
    assert not np.allclose(robust.centre, ours.centre)


def test_a_single_seed_has_no_band():
    ours = plots.band(curves(1))
    assert np.isnan([ours.low, ours.high]).all()
    assert np.isfinite(ours.centre).all()


def test_seeds_that_end_early_meet_on_lines_between_their_tests():
    seeds = {4: Curve(np.array([0, 10, 30]), np.array([0.0, 1, 3])), 5: Curve(np.array([5, 20]), np.array([0.0, 15]))}
    ours = plots.band(seeds)
    np.testing.assert_array_equal(ours.steps, [10])
    np.testing.assert_allclose(ours.centre, [(1 + 5) / 2])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plots.band({}), "curves must have at least one seed"),
        (lambda: plots.band(curves(2), "iqr"), "centre is 'iqr'; did you mean 'iqm'?"),
        (
            lambda: plots.band({0: Curve(np.array([0, 1]), np.ones(2)), 1: Curve(np.array([5, 6]), np.ones(2))}),
            r"curves of seeds \[0, 1\] must have steps in common",
        ),
    ],
)
def test_impossible_bands_are_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_picture_shows_the_data(panels):
    figure = plots.learning_curves(panels, "test return")
    assert figure.get_size_inches().tolist() == [plots.PAGE, plots.PANEL_HEIGHT]
    small, large = figure.axes
    assert (small.get_title(), small.get_xlabel(), small.get_ylabel()) == ("small", "environment steps", "test return")
    for place, panel in zip(figure.axes, panels, strict=True):
        for drawn, area, line in zip(place.lines, place.collections, panel.lines, strict=True):
            expected = plots.band(line.curves)
            np.testing.assert_array_equal(drawn.get_xydata(), np.stack([expected.steps, expected.centre], 1))
            corners = area.get_paths()[0].vertices
            for side in (expected.low, expected.high):
                assert {*zip(expected.steps, side, strict=True)} <= {*map(tuple, corners)}
    assert [text.get_text() for text in small.get_legend().get_texts()] == ["QMIX (5 seeds)", "VDN (3 seeds)"]
    assert small.lines[1].get_color() == large.lines[0].get_color() != small.lines[0].get_color()
    assert small.xaxis.get_major_formatter()(1_050_000) == "1.05M"


def test_a_long_legend_that_holds_for_all_panels_stands_below(panels):
    one, *_ = panels[0].lines
    crowd = [one._replace(label=label) for label in "ABCD"]
    figure = plots.learning_curves([Panel("left", crowd), Panel("right", crowd)], "y")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{label} (5 seeds)" for label in "ABCD"]
    assert not any(place.get_legend() for place in figure.axes)
    figure = plots.learning_curves([Panel("left", crowd), Panel("right", crowd[:3])], "y")
    assert not figure.legends
    assert all(place.get_legend() for place in figure.axes)


@pytest.mark.parametrize("names", [4, 10, 20])
def test_a_legend_below_leaves_the_lines_their_room(panels, names):
    one, *_ = panels[0].lines
    lines = [one._replace(label=f"a method with a long name, {i}") for i in range(names)]
    figure = plots.learning_curves([Panel("alone", lines)], "y")
    figure.draw_without_rendering()
    (place,), (legend,) = figure.axes, figure.legends
    assert place.get_window_extent().height / figure.dpi > plots.PANEL_HEIGHT / 2
    assert not legend.get_window_extent().overlaps(place.get_tightbbox())


def test_a_panel_alone_is_a_column_wide(panels):
    assert plots.learning_curves(panels[:1], "y").get_size_inches()[0] == plots.COLUMN
    many = plots.learning_curves([Panel(str(i), []) for i in range(5)], "y")
    assert len(many.axes) == 5
    assert many.get_size_inches().tolist() == [plots.PAGE, 2 * plots.PANEL_HEIGHT]


def test_lines_stay_apart():
    lines = [Line(str(i), curves(1)) for i in range(16)]
    (place,) = plots.learning_curves([Panel("", lines)], "y").axes
    looks = [(to_hex(line.get_color()).upper(), line.get_linestyle()) for line in place.lines]
    assert len(set(looks)) == 16
    assert {colour for colour, _ in looks} == set(plots.COLOURS)


@pytest.mark.parametrize(
    ("steps", "text"), [(0, "0"), (500, "500"), (50_250, "50.2k"), (200_000, "200k"), (1e6, "1M"), (2.05e6, "2.05M")]
)
def test_steps_have_units(steps, text):
    assert plots.steps_text(steps) == text


def test_files_embed_fonts_and_carry_no_dates(panels, tmp_path):
    png, svg, pdf = plots.save(plots.learning_curves(panels, "test return"), tmp_path / "curve")
    assert [path.name for path in (png, svg, pdf)] == ["curve.png", "curve.svg", "curve.pdf"]
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    assert (width, height) == (int(plots.PAGE * 300), int(plots.PANEL_HEIGHT * 300))
    assert "<text" not in svg.read_text()
    content = pdf.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    for text in (png.read_bytes(), svg.read_bytes(), content):
        for mark in (b"CreationDate", b"dc:date", b"tIME", b"matplotlib.org"):
            assert mark not in text


def test_the_same_data_give_the_same_bytes_in_another_process(tmp_path):
    code = """
import sys; from pathlib import Path; import numpy as np; from gpgrad import plots; from gpgrad.runs import stats
steps = np.arange(5); made = {s: stats.Curve(steps, steps * s + np.sin(steps)) for s in range(3)}
panels = [plots.Panel("p", [plots.Line("a", made), plots.Line("b", {1: made[1]})])]
for centre in ("mean", "iqm"):
    stem = Path(sys.argv[1]) / centre
    plots.save(plots.learning_curves(panels, "return", centre), stem)
    plots.write_data(panels, stem, "test_return", centre)
sys.exit("jax" in sys.modules)
"""
    sums = []
    for i in ("1", "2"):
        (tmp_path / i).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / i)], cwd=ROOT, env={"PYTHONHASHSEED": i}, check=False
        )
        assert done.returncode == 0
        sums.append({path.name: zlib.crc32(path.read_bytes()) for path in (tmp_path / i).iterdir()})
    assert sums[0] == sums[1]
    assert len(sums[0]) == 10


def test_the_data_stand_beside_the_picture(panels, tmp_path):
    points, bands = plots.write_data(panels, tmp_path / "curve", "test_return")
    assert (points.name, bands.name) == ("curve.csv", "curve_mean.csv")
    rows = list(csv.DictReader(points.open()))
    assert list(rows[0]) == ["panel", "algorithm", "seed", "env_steps", "test_return"]
    found = [float(r["test_return"]) for r in rows if (r["panel"], r["algorithm"], r["seed"]) == ("small", "QMIX", "3")]
    np.testing.assert_array_equal(found, panels[0].lines[0].curves[3].returns)
    assert len(rows) == (5 + 3 + 3) * len(STEPS)
    rows = [r for r in csv.DictReader(bands.open()) if (r["panel"], r["algorithm"]) == ("large", "VDN")]
    expected = plots.band(panels[1].lines[0].curves)
    for column, values in {"env_steps": expected.steps, "mean": expected.centre, "low": expected.low}.items():
        np.testing.assert_array_equal([float(r[column]) for r in rows], values)
    assert {r["seeds"] for r in rows} == {"3"}
    _, bands = plots.write_data([Panel("", [Line("one", curves(1))])], tmp_path / "one", "test_return", "iqm")
    first = next(csv.DictReader(bands.open()))
    assert (first["low"], first["high"]) == ("", "")
    assert not math.isnan(float(first["iqm"]))


def test_without_matplotlib_there_is_one_sentence(monkeypatch, panels, tmp_path):
    figure = plots.learning_curves(panels, "y")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (lambda: plots.learning_curves(panels, "y"), lambda: plots.save(figure, tmp_path / "x")):
        with pytest.raises(SettingError, match=r"pip install 'gpgrad\[plot\]'"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "top", "text"),
    [(7.0, 120.0, "7"), (7.04, 12.0, "7.0"), (0.128, 1.0, "0.13"), (0.00493, 0.0056, "0.0049"), (np.nan, 1.0, "")],
)
def test_cells_show_what_tells_them_apart(value, top, text):
    assert number(value, top) == text
