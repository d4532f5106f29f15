"""Plugins: the module of docs/extending.md, and invalid plugins."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from gpgrad import __main__ as cli
from gpgrad import config, envs
from gpgrad.config import plugins
from gpgrad.errors import SettingError
from gpgrad.methods import registry

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
SMALL = ["--agent.hidden=8", "--learner.batch_episodes=4", "--replay.capacity=64", "--evaluation.final_episodes=3"]
SMALL += ["--log.wandb=disabled", "--evaluation.episodes=2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


def plugged() -> set[tuple[str, str]]:
    return {(kind, name) for kind, name in plugins._known() if (kind, name) in plugins._owners}


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    """A working directory that is searched for modules; afterwards nothing of a plugin is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for part in plugged():
        plugins._forget(*part)
    plugins._owners.clear()
    plugins.discover.cache_clear()
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write(folder: Path, text: str, name: str = "my_methods") -> None:
    (folder / f"{name}.py").write_text(text)


def run(command: list[str]) -> int:
    assert command[0] == "gpgrad"
    given = {token.partition("=")[0] for token in command}
    extra = [option for option in SMALL if option.partition("=")[0] not in given]
    return cli.main([*command[1:], *(extra if command[1] == "train" else [])])


def test_the_walk_through_trains_all_four_together(outside, capsys):
    write(outside, "\n\n".join(blocks("python")))
    assert run(COMMANDS[0]) == 0
    printed = capsys.readouterr().out
    for name in ("meet", "mean", "heads", "early"):
        assert re.search(rf"\b{name}\b", printed)
    assert run(COMMANDS[1]) == 0
    folder = outside / "runs" / "all_four"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert [settings[kind] for kind in config.PARTS] == ["meet", "mean", "heads", "early"]
    assert (settings["plugin"], settings["weighting.half_life"]) == (["my_methods"], 4.0)
    assert list(json.loads((folder / "manifest.json").read_text())["plugins"]) == ["my_methods"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 0.5 < rows[-1]["weight"] < 0.9  # the mean of 0.5 ** (t / 4) over 8 steps is 0.68
    for part in plugged():
        plugins._forget(*part)
    plugins._owners.clear()
    del sys.modules["my_methods"]
    capsys.readouterr()
    assert run(COMMANDS[-1]) == 0  # eval, which finds the plugin by config.yaml
    assert float(re.findall(r"test_return +│ (\S+)", capsys.readouterr().out)[0]) >= 0
    (outside / "my_methods.py").unlink()
    for part in plugged():
        plugins._forget(*part)
    plugins._owners.clear()
    del sys.modules["my_methods"]
    with pytest.raises(SettingError, match="the plugin my_methods is missing"):
        config.parse(folder / "config.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS[2:-1], ids=lambda command: command[4])
def test_the_walk_through_trains_each_of_the_four_alone(outside, command):
    write(outside, "\n\n".join(blocks("python")))
    assert run(command) == 0
    assert [path.name for path in outside.glob("runs/*/team")] == ["team"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "the plugin my_methods is missing; it must be a module that can be imported from here"),
        ("x = 1", "the plugin my_methods registers nothing"),
        ("def f(:", "the plugin my_methods is broken: SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "the plugin my_methods is broken: ModuleNotFoundError: No module named 'noth"),
        (
            "import gpgrad\ngpgrad.register('sharing', 'mine', 'a:b')\ngpgrad.register('decomposition', 'qmix', 'a:b')",
            "the plugin my_methods is broken: SettingError: a decomposition named 'qmix' is already registered",
        ),
        (
            "from gpgrad import envs\nenvs.register('mine', 'a:b', 'c')\nenvs.register('pp_p2', 'a:b', 'c')",
            "the plugin my_methods is broken: SettingError: the environment name 'pp_p2' is taken",
        ),
    ],
)
def test_plugins_that_cannot_be_get_one_sentence(outside, capsys, text, sentence):
    if text is not None:
        write(outside, text)
    before = plugins._known()
    assert cli.main(["train", "--plugin", "my_methods"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert plugins._known() == before


def test_several_plugins_and_none(outside):
    for name in ("one", "two", "three"):
        write(
            outside,
            f"import gpgrad\ngpgrad.register('weighting', {name!r}, 'gpgrad.methods.weighting.none:make')",
            name,
        )
    from gpgrad.cli.arguments import options

    given = options(["--plugin", "one,two", "--env", "matrix_gpvd", "--plugin=three"])
    assert given == {"env": "matrix_gpvd", "plugin": "one,two,three"}
    chosen = config.load("matrix_gpvd", "qmix", {"plugin": given["plugin"], "weighting": "three"})
    assert chosen.plugin == ("one", "two", "three")
    plain = config.load("matrix_gpvd", "qmix")
    assert plain.plugin == ()
    same = config.load("matrix_gpvd", "qmix", {"plugin": "one"})
    assert config.identity(plain) == config.identity(same)
    assert config.fingerprint(plain) == config.fingerprint(same)


def test_installed_packages_register_by_entry_point(outside):
    write(
        outside,
        "import gpgrad\ngpgrad.register('weighting', 'mine', 'gpgrad.methods.weighting.none:make')",
        "installed",
    )
    info = outside / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gpgrad]\nmine = installed\n")
    plugins.discover.cache_clear()
    chosen = config.load("matrix_gpvd", "qmix", {"weighting": "mine"})
    assert chosen.plugin == ("installed",)  # so that a run that took something from it says so
    assert config.load("matrix_gpvd", "qmix").plugin == ()
    write(outside, "1 / 0", "installed")
    registry.forget("weighting", "mine")
    plugins._owners.clear()
    del sys.modules["installed"]
    plugins.discover.cache_clear()
    with pytest.raises(SettingError, match="installed of the installed package their_package is broken: ZeroDivision"):
        config.load("matrix_gpvd", "qmix")
    assert "meet" not in envs.names()


@pytest.mark.parametrize(
    "module", ["json", "numpy", "os.path", "gpgrad", "gpgrad.methods.registry", "envs", "gpgrad.envs.registry"]
)
def test_modules_that_are_there_already_and_register_nothing_are_refused(module, capsys):
    for words in (["list", "--plugin", module], ["train", "--plugin", module]):
        assert cli.main(words) == 2
        assert f"the plugin {module} registers nothing" in capsys.readouterr().err


def test_a_plugin_that_was_imported_before_is_known_by_what_it_registered(outside):
    write(outside, "import my_parts", "my_plugin")
    write(
        outside,
        "import json, gpgrad\ngpgrad.register('weighting', 'mine', 'gpgrad.methods.weighting.none:make')",
        "my_parts",
    )
    importlib.import_module("my_plugin")
    chosen = config.load("matrix_gpvd", "qmix", {"plugin": "my_plugin", "weighting": "mine"})
    assert chosen.plugin == ("my_plugin",)
    assert plugins.owners({"weighting": "mine"}) == ["my_plugin"]
    config.load("matrix_gpvd", "qmix", {"plugin": "my_parts"})  # which registered it itself
    with pytest.raises(SettingError, match="the plugin json registers nothing"):
        config.load("matrix_gpvd", "qmix", {"plugin": "json"})
