"""wandb: what is written to its files is what a run has; a server that hangs costs a limited time."""

from __future__ import annotations

import json
import struct
import time
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from wandb.proto import wandb_internal_pb2

from gpgrad import __main__ as cli
from gpgrad import config, envs
from gpgrad.runs.loggers import Guarded, sections, wandb_runs
from gpgrad.training import pictures
from gpgrad.viz import dashboard

ROOT = Path(__file__).parents[2]
CONFLICT = [[0.0, 0.5, 0.1], [0.5, 0.0, 0.2], [0.1, 0.2, 0.0]]


def records(file: Path) -> list[wandb_internal_pb2.Record]:
    """Everything in a run's offline file: 7 bytes, then LevelDB's log, blocks of 32 KiB with pieces of records."""
    data, found, piece = file.read_bytes(), [], b""
    at = 7
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # too little for a piece's header: the block is padded
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(wandb_internal_pb2.Record.FromString(piece))
            piece = b""
    return found


def values(items) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of two seeds that knows conflicts, with a film that was made of it."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    settings = config.load("pp_small", "gradps", {"seeds": 2, "t_max": 1000})
    (folder / "config.yaml").write_text(config.dump(settings))
    rows = [
        {"seed": seed, "env_steps": steps + seed, "test_return": steps / 10 + seed, "loss": None, "conflict": CONFLICT}
        for steps in (0, 10, 1000)
        for seed in (0, 1)
    ]
    final = [{"seed": seed, "test_return": 50.0 + seed} for seed in (0, 1)]
    for name, content in {"metrics": rows, "final": final}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    from PIL import Image

    frames = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 255)]
    frames[0].save(folder / "episode.gif", save_all=True, append_images=frames[1:])
    return folder


def test_a_run_of_each_seed_has_config_curves_summary_and_media(run, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert cli.main(["mirror", str(run), "--project", "mine"]) == 0
    assert "6 rows of 2 seeds" in capsys.readouterr().out
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert [file.name for file in files] == ["run-mine-0.wandb", "run-mine-1.wandb"]
    deadline = time.monotonic() + 30  # wandb's own process writes the file, and may be behind
    while not any(record.HasField("exit") for record in records(files[1])):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = records(files[1])
    start = next(record.run for record in told if record.HasField("run"))
    assert (start.run_group, start.project, start.run_id) == ("mine", "mine", "mine-1")
    assert sorted(start.tags) == ["gradps", "gradps_paper", "pp_small"]
    chosen = values(start.config.update)
    assert (chosen["seed"], chosen["sharing.k"], chosen["learner.batch_episodes"]) == (1, 2, 32)
    steps = [values(record.history.item) for record in told if record.HasField("history")]
    assert [step["env_steps"] for step in steps] == [1, 11, 1001]
    assert [step["test/return"] for step in steps] == [1.0, 2.0, 101.0]
    assert [step["_step"] for step in steps] == [1, 11, 1001]
    assert steps[0]["gradps/conflict/1"] == 0.5
    assert "train/loss" not in steps[0]
    drawn = [step.get("media/conflict/_type") for step in steps]
    assert drawn == ["image-file", None, "image-file"]  # of the first and last tenth of its steps
    assert steps[-1]["media/episode/_type"] == "video-file"
    kept = {path.suffix for path in files[1].parent.rglob("files/media/**/*") if path.is_file()}
    assert kept == {".png", ".gif"}
    summary = {}
    for record in told:
        if record.HasField("summary"):
            summary |= values(record.summary.update)
    assert (summary["final/return"], summary["test/return"]) == (51.0, 101.0)  # the summary of tests is their last
    axes = {record.metric.glob_name: record.metric.step_metric for record in told if record.HasField("metric")}
    assert axes["*"] == "env_steps"


def test_nothing_is_drawn_for_a_mirror_that_is_off(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "heat_maps", lambda row: pytest.fail("drawn"))
    off = Guarded("wandb", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    gallery = pictures.Gallery([off], 100)
    gallery.visit({"seed": 0, "env_steps": 0, "conflict": CONFLICT})
    gallery.end([{"seed": 0, "env_steps": 100}], run)


def test_no_pictures_without_matplotlib(monkeypatch):
    row = {"seed": 0, "conflict": CONFLICT, "roles": [0, 1, 0]}
    assert pictures.heat_maps(row)["conflict"].startswith(b"\x89PNG")
    assert pictures.heat_maps({"seed": 0, "conflict": None}) == {}
    monkeypatch.setattr("gpgrad.plots.installed", lambda: False)
    assert pictures.heat_maps(row) == {}


def test_a_server_that_hangs_costs_a_limited_time(tmp_path, monkeypatch):
    import wandb

    released = []
    stuck = types.SimpleNamespace(
        define_metric=lambda *a, **k: None, finish=lambda: (time.sleep(5), released.append(1)), log=lambda *a, **k: None
    )
    monkeypatch.setattr(wandb, "init", lambda **kwargs: stuck)
    settings = {"env": "e", "label": "a", "preset": "p"}
    monkeypatch.setattr(wandb_runs.WandbLogger.close, "__defaults__", (0.2,))
    mirror = Guarded("wandb", lambda: wandb_runs.WandbLogger("online", "gpgrad", tmp_path, [0], settings, tmp_path))
    began = time.monotonic()
    mirror.close()
    assert time.monotonic() - began < 3
    assert not released
    assert mirror.problem is not None
    assert "not everything was sent in 0.2 s" in mirror.problem
    assert not mirror.on


def test_wandbs_own_limit_is_set(tmp_path, monkeypatch):
    import wandb

    given = {}
    quiet = types.SimpleNamespace(define_metric=lambda *a, **k: None, finish=lambda: None)
    monkeypatch.setattr(wandb, "init", lambda **kwargs: given.update(kwargs) or quiet)
    settings = {"env": "e", "label": "a", "preset": "p"}
    wandb_runs.WandbLogger("online", "gpgrad", tmp_path, [0], settings, tmp_path).close()
    assert given["settings"].finish_timeout == wandb_runs.FINISH_SECONDS


def test_the_dashboard_shows_what_runs_log():
    made = dashboard.workspace("someone", "gpgrad")
    plots = [panel for section in made.sections for panel in section.panels if hasattr(panel, "y")]
    assert len(plots) > 15
    assert {str(getattr(plot.x, "name", plot.x)) for plot in plots} == {"env_steps"}
    shown = {str(getattr(metric, "name", metric)) for plot in plots for metric in plot.y}
    text = "".join(path.read_text() for path in (ROOT / "gpgrad").rglob("*.py"))
    world = "".join(path.read_text() for path in (ROOT / "envs").rglob("*.py"))
    for metric in shown:
        bare = metric.partition("/")[2]
        names = [name for name in (bare, f"test_{bare}", f"train_{bare}") if sections.key(name) == metric]
        assert any(f'"{n}"' in text or f'"{n}"' in world or f"{n}:" in text for n in (*names, bare) if names), metric
    grouped = [getattr(key, "name", key) for key in made.runset_settings.groupby]
    assert grouped == ["group"]


def test_the_layout_names_sections_and_media():
    layout = yaml.safe_load((ROOT / "configs" / "dashboard.yaml").read_text())
    shown = next(section for section in layout["sections"] if "media" in section)
    nodes = [f"payoff_table_{node}" for node in envs.make("two_step").paths]
    row = {name: [[0.0, 1.0], [1.0, 0.0]] for name in ["conflict", "payoff_table", *nodes]}
    made = pictures.heat_maps({**row, "payoff_table_of_three": [[[0.0]]], "conflict_null": [[0.0]], "loss": None})
    assert set(made) == set(row)
    assert {f"media/{name}" for name in made} < set(shown["media"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mirror"], "mirror needs the folder of a run"),
        (["mirror", "nowhere"], "nowhere holds no run"),
        (["dashboard"], "dashboard needs --entity"),
        (["dashboard", "--entitty", "x"], "unknown option --entitty; did you mean 'entity'?"),
    ],
)
def test_mistakes_get_one_sentence(capsys, arguments, sentence):
    assert cli.main(arguments) == 2
    assert sentence in capsys.readouterr().err
