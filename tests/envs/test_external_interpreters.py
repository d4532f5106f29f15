"""Workers in another interpreter: an older Python, without the packages of this one."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpgrad import envs
from gpgrad.envs.external import process
from gpgrad.envs.external.process import describe, examined
from gpgrad.envs.external.protocol import Recipe
from gpgrad.errors import SettingError
from tests.helpers.toy_starcraft import SkirmishSimulator

MODULES = ["worker", "examination", "memory", "protocol"]
MODULES += [f"adapters.{name}" for name in ("spaces", "gymnasium_envs", "pettingzoo_envs", "smaclite", "starcraft")]
ALONE = f"""
import runpy, sys
before = set(sys.modules)
launch = runpy.run_path(sys.argv[1])
sys.argv[1:] = []
try:
    launch["main"]()
except IndexError:  # there is no socket
    pass
for name in {MODULES}:
    __import__("gpgrad.envs.external." + name)
tops = {{name.split(".")[0] for name in set(sys.modules) - before}}
others = tops - set(getattr(sys, "stdlib_module_names", tops)) - {{"gpgrad", "numpy"}}
sys.exit(", ".join(others) or None)
"""


@functools.cache
def interpreters() -> list[str]:
    """Older interpreters on this machine."""
    found = [shutil.which(f"python3.{minor}") for minor in range(6, 13)]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python")]
    about = "import sys; print('%d.%d' % sys.version_info[:2])"
    versions = {}
    for path in filter(None, found):
        asked = subprocess.run([path, "-c", about], capture_output=True, text=True, check=False)
        if not asked.returncode:
            versions.setdefault(tuple(map(int, asked.stdout.split("."))), path)
    return [path for version, path in sorted(versions.items()) if version < sys.version_info[:2]]


def oldest(least: tuple[int, int]) -> str:
    for path in interpreters():
        code = f"import sys; sys.exit(sys.version_info < {least})"
        if not subprocess.run([path, "-c", code], check=False).returncode:
            return path
    pytest.skip(f"no interpreter from Python {least} on that is older than this one")


def alone(python: str, **environment: str) -> subprocess.CompletedProcess:
    launch = str(Path(process.__file__).with_name("launch.py"))
    command = [python, "-c", ALONE, launch]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")


def test_workers_need_numpy_alone():
    done = alone(sys.executable)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_are_understood_by_the_oldest_python(tmp_path):
    """With an empty module in the place of NumPy, which few old interpreters have."""
    (tmp_path / "numpy.py").touch()
    done = alone(oldest((3, 8)), PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_another_interpreter_plays_the_same():
    recipe = Recipe("tests.helpers.toy_starcraft:SkirmishSimulator", {}, sys.executable).dumps()
    assert describe(recipe, 60.0) == SkirmishSimulator().sizes
    result = examined(recipe, 60.0)
    assert result.findings == []
    assert result.episodes > 0


def test_an_old_interpreter_with_numpy_plays():
    for python in interpreters():
        if not subprocess.run([python, "-c", "import numpy, enum; numpy.bool_"], capture_output=True).returncode:
            recipe = Recipe("tests.helpers.toy_starcraft:SkirmishSimulator", {}, python).dumps()
            assert examined(recipe, 60.0).findings == []
            return
    pytest.skip("no older interpreter with NumPy")


def test_interpreters_that_cannot_be_used_are_named(tmp_path):
    name = "host_tests.helpers.toy_starcraft:SkirmishSimulator"
    with pytest.raises(SettingError, match=r"python must be the path of a Python interpreter \(got '/no/python'"):
        envs.make(name, python="/no/python")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(SettingError, match="cannot be built"):
        envs.make(name, python=str(broken))


def test_a_python_that_is_too_old_is_named():
    python = interpreters()[:1]
    if not python or not subprocess.run([*python, "-c", "import sys; sys.exit(sys.version_info < (3, 8))"]).returncode:
        pytest.skip("no interpreter before Python 3.8")
    with pytest.raises(SettingError, match=r"cannot run workers: it is Python 3\.\d, must be 3\.8 or later"):
        describe(Recipe("x:y", {}, *python).dumps(), 60.0)


def test_packages_of_this_interpreter_stay_with_it(monkeypatch):
    """Its library and packages would be found first by the other."""
    monkeypatch.syspath_prepend("/here/project")
    path = process.environment(sys.executable)["PYTHONPATH"].split(":")
    assert "/here/project" in path
    assert not [entry for entry in path if process.is_of_interpreter(entry) or entry.endswith("lib-dynload")]
    assert len(path) < len(sys.path)
