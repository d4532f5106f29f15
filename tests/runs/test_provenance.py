"""Where a run's numbers come from: numerics versions, manifests, source teams, names in wandb."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import gpgrad
from gpgrad import config, envs
from gpgrad.config import numerics, plugins
from gpgrad.errors import SettingError
from gpgrad.experiments import archive
from gpgrad.methods import registry
from gpgrad.runs import logs, provenance, run_folder, wanted_seeds
from gpgrad.runs.loggers import wandb_runs
from gpgrad.training import extend, recorder, train
from tests.helpers.tiny_runs import tiny

ROOT = Path(__file__).parents[2]
SHORT = {
    "t_max": 200,
    "evaluation__every_steps": 100,
    "evaluation__final_episodes": 2,
    "rollout__worlds": 4,
    "learner__updates_per_episode": 0.25,
    "checkpoint__every_minutes": 1e-6,
}


def settings_of(root: Path, name: str, **changes) -> config.Config:
    return tiny("vdn", "matrix_gpvd", **{**SHORT, "log__dir": str(root), "log__name": name, **changes})


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A finished run of two seeds."""
    root = tmp_path_factory.mktemp("source")
    return train.run(settings_of(root, "source", seeds=2, seeds_mode="vmap"), lambda line: None).run_dir


def begun(folder: Path, settings: config.Config, **manifest) -> Path:
    """A run's folder without rows, as it is right after it was made."""
    folder.mkdir(parents=True)
    recorder.describe_run(settings, folder)
    provenance.write(folder, logs.read_manifest(folder) | manifest)
    return folder


def changed(folder: Path, **changes) -> Path:
    """The same folder with settings edited by hand."""
    path = folder / "config.yaml"
    edited = {name.replace("__", "."): value for name, value in changes.items()}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | edited, sort_keys=False))
    return folder


# Versions


def parts_of_the_package() -> dict[str, str]:
    """Every registered part and environment family, with its module."""
    found = {f"{kind}.{name}": registry.module(kind, name) for kind in registry.KINDS for name in registry.names(kind)}
    found |= {f"env.{envs.family(name)}": envs.module(name) for name in envs.names()}
    return found | {"learner": numerics.LEARNER, "collection": numerics.COLLECTION}


def test_every_part_has_a_version_in_its_own_file():
    for part, module in parts_of_the_package().items():
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        constants = [
            node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NUMERICS"
            if isinstance(node.value, ast.Constant)
        ]
        assert constants, f"{part}: {module} has no NUMERICS"
        assert constants == [numerics.version_of(module)] == [numerics._in_file(module)]


def test_external_environments_have_the_version_of_their_adapter():
    for name in ("gym_CartPole-v1", "pz_mpe2.simple_spread_v3", "smac_3m"):
        assert envs.module(name) == "gpgrad.envs.external.env"


def test_numerics_md_has_a_line_for_every_raised_version():
    text = (ROOT / "NUMERICS.md").read_text()
    for part, module in parts_of_the_package().items():
        for version in range(2, numerics.version_of(module) + 1):
            assert any(f"`{part}` {version}" in line for line in text.splitlines()), f"{part} {version}"


@pytest.mark.parametrize("part", ["learner", "collection", "env.matrix", "decomposition.vdn", "sharing.fups"])
def test_a_raised_version_is_another_identity(part, monkeypatch, tmp_path):
    """Only runs that use the part are outdated, and a finished one is shown as that and never counted."""
    settings = settings_of(tmp_path, "old", sharing="fups")
    folder = begun(tmp_path / "old", settings)
    (folder / "final.jsonl").write_text(json.dumps({"seed": 0, "test_return": 1.0}) + "\n")
    other = config.load("pp_small", "gradps")
    then, others = config.identity(settings), config.identity(other)
    assert [run.folder for run in run_folder.scan(tmp_path)[0] if run.identity == then and run.finished] == [folder]
    module = numerics.modules(numerics.names_of(settings))[part]
    version = numerics.version_of(module)
    monkeypatch.setattr(importlib.import_module(module), "NUMERICS", version + 1)
    now = config.identity(settings)
    assert now != then
    assert (config.identity(other) != others) == (part in ("learner", "collection"))
    found, _ = run_folder.scan(tmp_path)
    assert wanted_seeds.finished(found, now, [0]) == []
    assert wanted_seeds.next_job(found, now, [0]) == wanted_seeds.Job("start", range(1), None)
    (line,) = wanted_seeds.overview(found, now, [0], config.identity(settings, {}))
    assert line.text.startswith(f"not begun; {folder} is outdated ({part} {version}, now {version + 1})")


def test_lists_of_runs_show_what_is_outdated(tmp_path):
    now = begun(tmp_path / "now", settings_of(tmp_path, "now"))
    old = begun(tmp_path / "old", settings_of(tmp_path, "old"))
    manifest = logs.read_manifest(old)
    provenance.write(old, manifest | {"numerics": manifest["numerics"] | {"decomposition.vdn": 0}})
    assert run_folder.read(now).status == "interrupted"
    now_is = manifest["numerics"]["decomposition.vdn"]
    assert run_folder.read(old).status == f"interrupted, outdated: decomposition.vdn 0, now {now_is}"


def test_runs_older_than_versions_have_the_first_ones(tmp_path):
    settings = config.load("pp_p2", "gpvd")
    folder = begun(tmp_path / "old", settings)
    manifest = logs.read_manifest(folder)
    del manifest["numerics"]
    provenance.write(folder, manifest)
    (run,) = run_folder.scan(tmp_path)[0]
    assert set(run.versions.values()) == {1}
    assert run.versions.keys() == numerics.versions(settings).keys()
    assert run.identity != config.identity(settings)  # gpvd's numbers have changed since


def test_a_plugin_may_have_a_version(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "import gpgrad\nfrom gpgrad.methods.decomposition import vdn\nNUMERICS = 3\n"
    Path("numbered.py").write_text(
        text + "def make(context):\n    return vdn.make(context)\ngpgrad.register('decomposition', 'numbered', make)\n"
    )
    try:
        settings = config.load("matrix_gpvd", "numbered", {"plugin": "numbered"})
        assert numerics.versions(settings)["decomposition.numbered"] == 3
    finally:
        registry.forget("decomposition", "numbered")
        sys.modules.pop("numbered", None)
        plugins._owners.pop(("decomposition", "numbered"), None)


# Manifests


def test_a_manifest_says_where_numbers_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/gpgrad/__main__.py", "train", "--log.name", "a b"])
    settings = settings_of(tmp_path, "one")
    manifest = logs.read_manifest(begun(tmp_path / "one", settings))
    assert manifest["command"] == "gpgrad train --log.name 'a b'"
    assert manifest["gpgrad"] == gpgrad.__version__
    assert manifest["numerics"] == numerics.versions(settings)
    assert len(manifest["commit"]) == 40
    assert manifest["modified"] in (True, False)
    assert manifest["settings"] == json.loads(json.dumps(config.flat(settings)))


def test_a_package_in_another_repository_has_no_commit(monkeypatch, tmp_path):
    """Installed into an environment inside somebody's checkout, it must not take that checkout's commit for its own."""
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(gpgrad, "__file__", str(tmp_path / "__init__.py"))
    assert provenance.code.__wrapped__() == (None, None)


def test_a_manifest_survives_resume_extend_and_keeping(source, tmp_path):
    run = tmp_path / "runs" / "copy"
    shutil.copytree(source, run)
    first = logs.read_manifest(run)
    longer = train.extend(run, 300, {"name": "longer"}, lambda line: None).run_dir
    assert longer == tmp_path / "runs" / "longer"  # beside the other one
    manifest = logs.read_manifest(longer)
    assert manifest["id"] != first["id"]
    assert manifest["earlier"] == [{name: value for name, value in first.items() if name != "settings"}]

    (longer / "final.jsonl").unlink()  # as if it had been interrupted before its end
    train.resume(longer, lambda line: None)
    resumed = logs.read_manifest(longer)
    assert {name: value for name, value in resumed.items() if name != "continued"} == manifest
    (entry,) = resumed["continued"]
    assert {"command", "commit", "jax", "devices"} <= entry.keys()

    found, _ = run_folder.scan(tmp_path / "runs")
    archive.keep([r for r in found if r.folder == longer], tmp_path / "results")
    kept = logs.read_manifest(tmp_path / "results" / archive.RECORDS / "longer")
    assert kept["numerics"] == manifest["numerics"]
    assert kept["commit"] == manifest["commit"]
    assert str(tmp_path) not in json.dumps(kept)
    (record,) = run_folder.scan(tmp_path / "results" / archive.RECORDS)[0]
    assert record.identity == next(r.identity for r in found if r.folder == longer)


def test_records_name_no_folder_of_a_machine():
    line = "gpgrad train --env pp_small --log.dir /home/me/runs --log.dir=/x --init-from /home/me/runs/team"
    manifest = {"command": line, "source": {"folder": "/home/me/runs/team", "content": "ab"}, "settings": {"a": 1}}
    public = provenance.public(manifest | {"earlier": [manifest]})
    assert public["command"] == "gpgrad train --env pp_small --init-from team"
    assert public["source"] == {"content": "ab"}
    assert "/home" not in json.dumps(public)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learner.lr", 0.01), ("t_max", 900), ("decomposition", "qmix"), ("env.name_of_none", 3), ("seed", 4)],
)
def test_edited_settings_are_refused(tmp_path, name, value):
    settings = settings_of(tmp_path, "run")
    folder = begun(tmp_path / "run", settings)
    edited = tmp_path / "run" / "config.yaml"
    content = yaml.safe_load(edited.read_text())
    known = name in content
    edited.write_text(yaml.safe_dump(content | {name: value}, sort_keys=False))
    with pytest.raises(SettingError, match="was changed since the run began" if known else "unknown setting") as caught:
        train.resume(folder, lambda line: None)
    if known:
        assert f"{name} is {value!r} and was {content[name]!r}" in str(caught.value)


def test_settings_that_change_no_number_may_be_edited(tmp_path):
    folder = changed(begun(tmp_path / "run", settings_of(tmp_path, "run")), checkpoint__keep=1, log__wandb="offline")
    provenance.check(folder, config.parse(folder / "config.yaml"))


def test_a_run_of_other_versions_does_not_go_on(tmp_path):
    settings = settings_of(tmp_path, "run")
    numbers = numerics.versions(settings) | {"learner": 0}
    folder = begun(tmp_path / "run", settings, numerics=numbers)
    for go_on in (lambda: train.resume(folder), lambda: extend.begin(folder, 10**6, {})):
        with pytest.raises(SettingError, match=r"other numerics versions \(learner 0, now \d+; see NUMERICS.md\)"):
            go_on()


def test_versions_are_compared_part_by_part(tmp_path):
    settings = settings_of(tmp_path, "run", sharing="fups")
    one, other = provenance.begin(settings), provenance.begin(settings)
    assert provenance.compared(one) == provenance.compared(other)
    other["numerics"] = other["numerics"] | {"sharing.fups": 7}
    assert provenance.compared(other)["numerics: sharing.fups"] == 7
    assert provenance.differing(one["numerics"], other["numerics"]) == ["sharing.fups"]


# Teams that runs start from


def test_a_source_is_its_content_wherever_it_is(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    names = {
        config.identity(settings_of(tmp_path, "x", init_from=path))
        for path in ("source", "./source", str(source), "../" + source.parent.name + "/source")
    }
    assert len(names) == 1
    copy = tmp_path / "elsewhere"
    shutil.copytree(source, copy)
    assert {config.identity(settings_of(tmp_path, "x", init_from=str(copy)))} == names
    (copy / "team" / "more").write_text("x")
    assert {config.identity(settings_of(tmp_path, "x", init_from=str(copy)))} != names
    shutil.rmtree(copy)
    with pytest.raises(SettingError, match="has no trained team; init_from must be the folder of a finished run"):
        config.identity(settings_of(tmp_path, "x", init_from=str(copy)))


@pytest.mark.parametrize("mode", ["vmap", "sequential"])
def test_a_run_that_has_a_checkpoint_never_asks_for_its_source(source, tmp_path, monkeypatch, mode):
    """Resumed from another folder, and extended, after the source is gone."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source, "teams")
    settings = settings_of(Path("runs"), "child", init_from="teams", seeds=2, seeds_mode=mode)
    run = train.run(settings, lambda line: None).run_dir.resolve()
    whole = (run / "metrics.jsonl").read_bytes()
    shutil.rmtree("teams")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    for part in [run, *run.glob("seeds/*")]:
        (part / "final.jsonl").unlink()
    train.resume(run, lambda line: None)
    assert (run / "metrics.jsonl").read_bytes() == whole
    longer = train.extend(run, 300, {"name": "longer"}, lambda line: None).run_dir
    assert longer.parent == run.parent
    (found,) = [r for r in run_folder.scan(run.parent)[0] if r.folder == longer]
    assert found.finished


def test_a_run_without_a_checkpoint_finds_its_source_again(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source, "teams")
    settings = settings_of(Path("runs"), "child", init_from="teams", seeds=2, seeds_mode="vmap")
    folder = recorder.create_folder(settings).resolve()
    recorder.describe_run(settings, folder, recorder.teams_of(settings))
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    located = train.warm_start.located(config.parse(folder / "config.yaml"), folder)
    assert Path(located.init_from).resolve() == (tmp_path / "teams").resolve()
    (tmp_path / "teams" / "team" / "more").write_text("x")
    with pytest.raises(SettingError, match=r"has changed since the run in .* began"):
        train.resume(folder, lambda line: None)
    shutil.rmtree(tmp_path / "teams")
    with pytest.raises(SettingError, match="which is gone, and has no checkpoint yet"):
        train.resume(folder, lambda line: None)


# wandb


def test_names_in_wandb_are_unique_and_in_its_alphabet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = settings_of(Path("a"), "same")
    one, other = begun(Path("a/same"), settings), begun(Path("b/same"), settings)
    assert wandb_runs.wandb_id(one) != wandb_runs.wandb_id(other)
    monkeypatch.chdir(one)
    assert wandb_runs.wandb_id(Path(".")) == wandb_runs.wandb_id(tmp_path / "a" / "same")
    odd = tmp_path / "host_m:make#1 ä"
    odd.mkdir()  # a run older than ids
    assert set(wandb_runs.wandb_id(odd)).isdisjoint(set(r"/\#?%: "))


def test_seeds_that_train_apart_have_their_runs_id(tmp_path):
    settings = settings_of(tmp_path, "run", seeds=2, seeds_mode="sequential")
    folder = begun(tmp_path / "run", settings)
    part = train.seed_layout.prepare(settings, folder)[1]
    assert wandb_runs.wandb_id(recorder.run_of(part)) == logs.read_manifest(folder)["id"]
