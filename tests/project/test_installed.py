"""The package as strangers have it: the wheel in a new environment, used where packages of the same names are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
FOREIGN = ("envs", "configs", "experiments", "tests", "utils", "types", "methods", "runs")  # of a research repository
PLUGIN = """
import gpgrad
from gpgrad import envs
from utils.helping import SCALE

assert SCALE == 3
gpgrad.register("weighting", "mine", "gpgrad.methods.weighting.none:make")
envs.register("my_env", "gpgrad.envs.matrix:gpvd3", family="mine")
"""
TINY = ["--t_max", "60", "--evaluation.every_steps", "30", "--evaluation.episodes", "2", "--agent.hidden", "8"]
TINY += ["--evaluation.final_episodes", "2", "--seeds", "1"]
EXPERIMENT = {
    "question": "Is VDN better than IQL?",
    "env": "matrix_gpvd",
    "overrides": {"t_max": 64, "evaluation.every_steps": 32, "evaluation.final_episodes": 2, "agent.hidden": 8},
    "arms": [{"label": "VDN", "algo": "vdn"}],
    "scales": {"quick": {"seeds": 1}, "paper": {"seeds": 5}},
}


def built(kind: str, source: Path, out: Path) -> Path:
    """The sdist or wheel that setuptools makes of a source tree, without a network."""
    out.mkdir(exist_ok=True)
    words = [sys.executable, "-c", BUILD, f"build_{kind}", str(out)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of the sdist: what is in neither is missing from both."""
    folder = tmp_path_factory.mktemp("dist")
    aside = shutil.ignore_patterns(".git", ".venv*", ".cache", "results", "data", "__pycache__", "*.egg-info", "runs-*")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=aside)
    sdist = built("sdist", folder / "tree", folder / "out")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return built("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "out")


@pytest.fixture(scope="module")
def place(wheel, tmp_path_factory) -> Path:
    """A folder with packages of its own, and beside it an environment that has the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    libraries = sysconfig.get_path("purelib")
    # As a path and not as a site directory: what .pth files add there, the checkout among it, stays away.
    (site / "libraries.pth").write_text(f"{libraries}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env" / "bin" / "python")]
    words = ["install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run([*pip, *words], check=True)
    work = folder / "work"
    for name in FOREIGN:
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    (work / "utils" / "__init__.py").write_text("")
    (work / "utils" / "helping.py").write_text("SCALE = 3\n")
    (work / "experiments" / "__init__.py").write_text("")
    (work / "experiments" / "mine.py").write_text(PLUGIN)
    (work / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return work


def run(place: Path, *words: str, code: int = 0) -> str:
    """What a command prints, in that folder."""
    script = place.parent / "env" / "bin" / words[0]
    aside = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {key: value for key, value in os.environ.items() if key not in aside} | {"WANDB_MODE": "disabled"}
    done = subprocess.run([str(script), *words[1:]], cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_it_is_the_installed_package(place):
    where = run(place, "python", "-P", "-c", "import gpgrad.envs.matrix as m, gpgrad.configs; print(m.__file__)")
    assert str(place.parent / "env") in where
    packages = {path.name for path in (place.parent / "env").glob("lib/python*/site-packages/*") if path.is_dir()}
    assert {name.partition("-")[0] for name in packages} == {"gpgrad"}
    installed = next((place.parent / "env").glob("lib/python*/site-packages/gpgrad"))
    assert (installed / "py.typed").exists()
    assert not (installed / "experiments" / "results").exists()
    catalog = {path.name for path in (ROOT / "experiments" / "catalog").glob("*.yaml")}
    assert {path.name for path in (installed / "experiments" / "catalog").glob("*.yaml")} == catalog


def test_every_step_of_a_study_works_among_packages_of_the_same_names(place):
    mine = ["--plugin", "experiments.mine"]
    assert "4 episodes, 4 terminated" in run(place, "gpgrad", "check", "my_env", *mine)
    run(place, "gpgrad", "train", "--env", "pp_small", "--weighting", "mine", "--log.name", "hunt", *mine, *TINY)
    assert "return" in run(place, "gpgrad", "eval", "runs/hunt", "--episodes", "2")
    run(place, "gpgrad", "render", "runs/hunt", "--out", "hunt.gif")
    run(place, "gpgrad", "report", "runs/hunt", "--out", "page.html")
    run(place, "gpgrad", "export", "runs/hunt", "--out", "team.npz")
    run(place, "gpgrad", "experiment", "run", "mine.yaml")
    assert all((place / name).stat().st_size > 1000 for name in ("hunt.gif", "page.html", "team.npz"))
    assert (place / "results" / "mine-quick" / "README.md").exists()
    assert "unknown algorithm 'qmx'" in run(place, "gpgrad", "train", "--algo", "qmx", code=2)
