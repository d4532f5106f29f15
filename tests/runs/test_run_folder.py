"""The record of a run's folder: what is read, what is counted, what is passed over."""

from __future__ import annotations

import json

import pytest

from gpgrad.errors import SettingError
from gpgrad.runs import lock, run_folder, wanted_seeds
from gpgrad.runs.run_folder import SEEDS, SETTINGS
from tests.helpers.fake_experiment import put, settings_of


def test_seeds_that_are_not_merged_yet_are_read_from_their_folders(tmp_path):
    """Their rows count, but the run is not finished before its own files are written."""
    folder = put(tmp_path, "run", settings_of(seeds=2), final=0)
    for name in ("metrics.jsonl", "final.jsonl"):
        (folder / name).write_text("")
    for seed in (0, 1):
        put(folder / SEEDS, str(seed), settings_of(seed=seed))
    run = run_folder.read(folder)
    assert (run.state, run.steps) == ("interrupted", 2000)
    assert sorted(run.values("test_return").items()) == [(0, 10.0), (1, 12.0)]
    (line,) = wanted_seeds.overview([run], run.identity, range(2))
    assert line.text == f"interrupted after 2,000 of 2,000 steps in {folder}"
    assert wanted_seeds.finished([run], run.identity, range(2)) == []
    with lock.hold(folder / lock.NAME, "it"):
        assert run_folder.read(folder).state == "running"


def test_settings_are_parsed_only_where_they_are_needed(tmp_path):
    """Lists show runs of methods that this version does not have; schedules pass over them."""
    folder = put(tmp_path, "run", settings_of())
    text = (folder / SETTINGS).read_text()
    (folder / SETTINGS).write_text(text.replace("decomposition: vdn", "decomposition: another"))
    (run,), problems = run_folder.scan(tmp_path, parsed=False)
    assert problems == []
    assert (run.state, run.outdated, run.parts["decomposition"]) == ("finished", "", "another")
    with pytest.raises(SettingError, match="another"):
        _ = run.config
    assert run_folder.scan(tmp_path)[0] == []
    assert "another" in run_folder.scan(tmp_path)[1][0]


def test_a_record_stays_as_it_was_read(tmp_path):
    folder = put(tmp_path, "run", settings_of())
    run = run_folder.read(folder)
    known = len(run.metrics)
    (folder / "metrics.jsonl").write_text("")
    assert len(run.metrics) == known
    assert run_folder.read(folder).metrics == []


@pytest.mark.parametrize(
    ("line", "problem"), [("seeds: 0", "between 1"), ("seeds: two", "seeds"), ("", "has no seeds")]
)
def test_settings_that_every_list_shows_are_checked(tmp_path, line, problem):
    folder = put(tmp_path, "run", settings_of())
    lines = (folder / SETTINGS).read_text().splitlines()
    (folder / SETTINGS).write_text("\n".join(line if text.startswith("seeds:") else text for text in lines) + "\n")
    with pytest.raises(SettingError, match=problem):
        run_folder.read(folder)


def test_old_names_of_parts_are_not_outdated(tmp_path):
    """`sharing: fups` with an agent id is `fups_id` today, with the versions of its old name."""
    folder = put(tmp_path, "run", settings_of(sharing="fups_id"))
    text = (folder / SETTINGS).read_text().replace("sharing: fups_id", "sharing: fups")
    (folder / SETTINGS).write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["numerics"]["sharing.fups"] = manifest["numerics"].pop("sharing.fups_id")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert run_folder.read(folder).outdated == ""
