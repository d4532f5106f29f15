"""Profiles, bars and tables, curves beside chance, occupancy, boards."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from gpgrad import plots
from gpgrad.errors import SettingError
from gpgrad.experiments import definition, schema
from gpgrad.experiments.reporting import drawings
from gpgrad.experiments.reporting.report import Result
from gpgrad.experiments.schema import Drawing
from gpgrad.plots import Bar, BarPanel, Line, Panel, ProfilePanel, Scores
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.stats import Curve
from gpgrad.runs.wanted_seeds import Share

STEPS = np.array([0, 10, 20])


def test_a_profile_is_the_share_of_runs_above():
    scores = Scores("QMIX", [[1.0, 2, 3, 4], [3.0, 3, 3, 3]])
    found = plots.profile(scores, np.array([0.0, 1, 2.5, 3, 4]), np.random.default_rng(0))
    np.testing.assert_allclose(found.share, [1, 0.875, 0.75, 0.125, 0])
    assert (found.low <= found.share).all()
    assert (found.high >= found.share).all()
    assert found.low[2] < 0.75 < found.high[2]
    assert (found.low[0], found.high[-1]) == (1, 0)
    with pytest.raises(ValueError, match="scores of VDN must be finite numbers, at least one \\(got \\[nan\\]\\)"):
        plots.profile(Scores("VDN", [[np.nan]]), np.zeros(1), np.random.default_rng(0))


def test_a_picture_of_profiles(tmp_path):
    panels = [
        ProfilePanel("small", [Scores("QMIX", [[1.0, 2, 3]]), Scores("VDN", [[0.0]])]),
        ProfilePanel("large", [Scores("VDN", [[5.0, 9]])]),
    ]
    figure = plots.performance_profiles(panels, "return")
    small, large = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["QMIX (3 runs)", "VDN (1 to 2 runs)"]
    assert small.lines[1].get_color() == large.lines[0].get_color() != small.lines[0].get_color()
    x, y = small.lines[0].get_xydata().T
    np.testing.assert_allclose(y[(x > 1) & (x < 2)], 2 / 3)
    rows = list(csv.DictReader(plots.write_profiles(panels, tmp_path / "p", "test_return").open()))
    assert {row["algorithm"] for row in rows if row["panel"] == "small"} == {"QMIX", "VDN"}
    assert (float(rows[0]["share"]), float(rows[200]["share"])) == (1, 0)


@pytest.fixture
def bars():
    return [
        BarPanel("pp_small", [Bar("QMIX", {0: 10.0, 1: 14.0}), Bar("GradPS & co", {0: 20.0})]),
        BarPanel("pp_p2", [Bar("QMIX", {0: -1000.0, 1: -3000.0})]),
    ]


def test_bars_show_means_intervals_and_seeds(bars):
    small, large = plots.bar_table(bars, "test return").axes
    assert [bar.get_width() for bar in small.patches] == [12, 20]
    assert [text.get_text() for text in small.texts] == ["12", "20"]
    assert [text.get_text() for text in small.get_yticklabels()] == ["QMIX", "GradPS & co"]
    assert large.texts[0].get_text() == "-2,000"
    dots = [sorted(line.get_xdata()) for line in small.lines if line.get_marker() == "."]
    assert dots == [[10, 14], [20]]
    interval = next(line.get_xdata() for line in small.lines if line.get_color() == "#333333")
    np.testing.assert_allclose(interval, [12 - 12.706 * 2, 12 + 12.706 * 2], rtol=1e-3)


def test_a_table_for_latex(bars, tmp_path):
    points, table = plots.write_bars(bars, tmp_path / "bars", "test_return")
    assert list(csv.DictReader(points.open()))[2] == {
        "panel": "pp_small",
        "algorithm": "GradPS & co",
        "seed": "0",
        "test_return": "20.0",
    }
    assert table.read_text().splitlines()[1:] == [
        "\\begin{tabular}{lrr}",
        "\\toprule",
        "& pp\\_small & pp\\_p2 \\\\",
        "\\midrule",
        "QMIX & $12 \\pm 25$ & $\\mathbf{-2,000} \\pm 12,706$ \\\\",
        "GradPS \\& co & $\\mathbf{20}$ & -- \\\\",
        "\\bottomrule",
        "\\end{tabular}",
    ]


def test_curves_stand_beside_chance(tmp_path):
    own, chance = ({seed: Curve(STEPS, STEPS * k + seed) for seed in range(3)} for k in (2.0, 1.0))
    panel = Panel("pp_small", [Line("FuPS", own, chance), Line("SePS", own)])
    (place,) = plots.learning_curves([panel], "futile").axes
    names = [text.get_text() for text in place.get_legend().get_texts()]
    assert names == ["FuPS (3 seeds)", "SePS (3 seeds)", "by chance"]
    assert place.lines[1].get_color() == place.lines[0].get_color()
    np.testing.assert_array_equal(place.lines[1].get_ydata(), STEPS + 1)
    points, _ = plots.write_data([panel], tmp_path / "futile", "futile")
    names = [row["algorithm"] for row in csv.DictReader(points.open())]
    assert list(dict.fromkeys(names)) == ["FuPS", "FuPS, by chance", "SePS"]


def test_occupancy_is_drawn_by_bits_of_a_code(tmp_path):
    rows = [
        {"g": g, "k": k, "shared": 1 / k, "buckets": 2.0**k, "largest": 2.0**-k}
        for g in ("identity", "zscore")
        for k in (4, 8, 32)
    ]
    shared, largest = plots.draw_occupancy(rows).axes
    np.testing.assert_allclose(shared.lines[1].get_ydata(), [1 / 4, 1 / 8, 1 / 32])
    assert [text.get_text() for text in shared.get_xticklabels()] == ["4", "8", "32"]
    assert largest.get_yscale() == "log"
    assert len(list(csv.DictReader(plots.write_occupancy(rows, tmp_path / "o").open()))) == 6


def arm(label, panel, tmp_path, metrics, final):
    made = schema.Arm(label, panel, "qmix", None, {}, panel)
    setup = schema.Setup(made, None, "identity", range(2), {})  # type: ignore[arg-type]
    run = RunFolder(tmp_path, {"seed": 0, "seeds": 2}, finished=True)
    curves = {seed: Curve(STEPS, STEPS + seed) for seed in range(2)}
    return Result(setup, [Share(run, [0, 1], metrics, final)], curves, {0: 1.0, 1: 2.0}, [])


@pytest.fixture
def results(tmp_path):
    metrics = [{"seed": s, "env_steps": t, "futile": t + s, "futile_chance": s} for t in (0, 10) for s in range(2)]
    plain = [{key: row[key] for key in ("seed", "env_steps")} for row in metrics]
    final = [{"seed": seed, "effective_params": 100 + seed, "groups": [0, 1]} for seed in (1, 0)]
    return [arm("GradPS", "pp_small", tmp_path, metrics, final), arm("QMIX", "pp_small", tmp_path, plain, final)]


DRAWING = Drawing("bars", "made", "mean", {}, "", "", 0, "", "")


def experiment(results):
    return schema.Definition("made", "made", "?", tuple(r.setup.arm for r in results), (), "test_return", None, ())


@pytest.mark.parametrize(
    ("kind", "metric", "files"),
    [
        ("bars", "effective_params", {"csv", "tex", "png", "svg", "pdf"}),
        ("bars", "", {"csv", "tex", "png", "svg", "pdf"}),
        ("profiles", "", {"csv", "png", "svg", "pdf"}),
    ],
)
def test_experiments_draw_what_runs_end_with(results, kind, metric, files, tmp_path):
    drawing = DRAWING._replace(kind=kind, metric=metric, name="after")
    made = experiment(results)
    values = drawings.finals(made, drawing, results)["pp_small"]
    assert values["QMIX"] == ({0: 100.0, 1: 101.0} if metric else {0: 1.0, 1: 2.0})
    folder = tmp_path / "out"
    folder.mkdir()
    picture = drawings.draw(made.__class__(**{**made.__dict__, "drawings": (drawing,)}), results, folder)[0]
    assert {path.suffix[1:] for path in folder.iterdir()} == files
    assert all(line.split("`")[1] in {path.name for path in folder.iterdir()} for line in picture.data)


def test_experiments_draw_chance_of_arms_that_know_it(results):
    drawing = DRAWING._replace(kind="chance", metric="futile", chance="futile_chance")
    (panel,) = drawings.against_chance(experiment(results), drawing, results)
    (line,) = panel.lines
    assert line.label == "GradPS"
    np.testing.assert_array_equal(line.null[1].returns, [1, 1])
    with pytest.raises(SettingError, match="no finished arm of made logs both futile and nothing"):
        drawings.against_chance(experiment(results), drawing._replace(chance="nothing"), results)
    with pytest.raises(SettingError, match="groups of GradPS, seed 1, must be a number \\(got \\[0, 1\\]\\)"):
        drawings.finals(experiment(results), DRAWING._replace(metric="groups"), results)


def test_new_kinds_are_read(tmp_path):
    text = """
question: q
env: pp_small
arms: [{label: a, algo: qmix}]
drawings:
  - {kind: chance, name: one, metric: futile, chance: futile_chance}
  - {kind: bars, name: two}
  - {kind: profiles, name: three, metric: test_stags}
scales: {quick: {seeds: 1}}
"""
    path = tmp_path / "made.yaml"
    path.write_text(text)
    read = definition.load(str(path)).drawings
    assert [(d.kind, d.metric, d.chance) for d in read] == [
        ("chance", "futile", "futile_chance"),
        ("bars", "", ""),
        ("profiles", "test_stags", ""),
    ]
    path.write_text(text.replace(", chance: futile_chance", ""))
    with pytest.raises(SettingError, match="has no chance, which is needed"):
        definition.load(str(path))
