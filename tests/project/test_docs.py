"""Every command of README.md, CONTRIBUTING.md and docs exists, with its options and names.

docs/extending.md has a test of its own.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gpgrad import config
from gpgrad.cli import COMMANDS, arguments
from gpgrad.experiments import definition

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(page for page in DOCS if page.stem != "extending")]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line and not line.startswith("#")]


ALL = [(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)]


def expanded(command: str) -> list[list[str]]:
    """The Python programs that a line starts, each as the module and its arguments; the recipes of `make` looked up."""
    lines = [command]
    if command.startswith("make "):
        done = subprocess.run(["make", "-n", "-o", ".venv/.installed", *shlex.split(command)[1:]], cwd=ROOT, text=True,
                              capture_output=True, check=True)  # fmt: skip
        lines = done.stdout.splitlines()
    words = [shlex.split(line.split(" && ")[0]) for line in lines]
    programs = [["gpgrad", *line[1:]] for line in words if line[0].endswith("gpgrad")]
    return programs + [line[line.index("-m") + 1 :] for line in words if "-m" in line]


def test_pages_have_commands():
    assert {"README.md", "docs/policies.md", "docs/methods/gpvd.md"} <= {page for page, _ in ALL}


@pytest.mark.parametrize(("page", "command"), ALL)
def test_every_command_exists(page, command, capsys):
    for module, *words in expanded(command):
        if module == "experiments":
            module, words = "gpgrad", ["experiment", *words]
        if words[:2] == ["experiment", "run"]:
            loaded = definition.load(words[2])
            loaded.scale(arguments.options(words[3:]).get("scale", "quick"))
        elif words[0] == "experiment":
            assert words[1] in ("list", "status", "queue", "report", "results")
        elif module == "gpgrad":
            check(words)
        else:
            assert module in ("pytest", "pip", "venv", "http.server")


def check(words: list[str]) -> None:
    """Settings exist and hold; options are named in the command's help."""
    assert words[0] in COMMANDS, words
    if "--plugin" in words:  # modules of one's own, as in docs/extending.md
        return
    text = [word for word in words[1:] if word.startswith("--")]
    if words[0] == "train" and not {"--resume", "--extend"}.intersection(text):
        given = arguments.options([word for word in words[1:] if word != "--help"])
        for name in ("hosts", "coordinator", "processes", "process"):
            given.pop(name, None)
        config.load(**{name: given.pop(name) for name in ("env", "algo") if name in given}, overrides=given)
        return
    command = importlib.import_module(f"gpgrad.cli.{words[0].replace('-', '_')}").main
    known = {name for param in command.params for name in param.opts}
    for option in text:
        name = option.partition("=")[0]
        passed = name[2:].startswith(command.passes) and ("." in name or name in ("--preset", "--t-max"))
        assert name in known or passed or name == "--help", option
