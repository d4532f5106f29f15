"""Who imports whom, who touches the outside, and what must not import jax."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A room may import itself and every room before it in this list.
LINES = """
errors children yaml_loader signatures
envs types shards
methods config
runs jobs plots
learning training
policies viz analysis
experiments cli __main__
"""
ORDER = LINES.split()
PARTS = ("sharing", "decomposition", "weighting")  # folders of methods
# Rooms and files that touch files, processes, clocks; all others are pure.
EDGE = ("cli", "experiments", "jobs", "runs", "training", "policies", "viz", "plots", "config", "analysis", "__main__")
EDGE += (
    "children",
    "yaml_loader",
    "learning/multiprocess",
    "learning/external_rollout",
    "envs/external",
    "envs/jaxmarl_import",
)
EDGE += ("envs/battles/scenarios", "envs/checking")
HOST_MODULES = {"os", "pathlib", "subprocess", "socket", "time", "datetime", "wandb", "yaml", "shutil", "tempfile"}


def modules() -> dict[str, Path]:
    """Every file of the package by its path below gpgrad/, without suffix."""
    found = {path.relative_to(ROOT / "gpgrad"): path for path in (ROOT / "gpgrad").rglob("*.py")}
    for folder in ("envs", "experiments"):  # rglob follows no links
        found |= {path.relative_to(ROOT): path for path in (ROOT / folder).rglob("*.py")}
    return {str(name.with_suffix("")): path for name, path in found.items()}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def level(room: str) -> int | None:
    return ORDER.index(room) if room in ORDER else None


def test_every_room_has_its_place():
    assert {name.split("/")[0] for name in modules()} == {*ORDER, "__init__"}


def test_imports_run_one_way():
    for name, path in modules().items():
        room = "__main__" if name.endswith("__main__") else name.split("/")[0]
        for imported in imports(path) if room != "__init__" else ():
            top, *rest = imported.split(".")
            other = level(rest[0]) if top == "gpgrad" and rest else None
            if other is None or rest[0] == room:
                continue
            assert other < level(room), f"{name} imports {imported}"


def test_parts_do_not_know_each_other():
    for name, path in modules().items():
        kind = next((kind for kind in PARTS if name.startswith(f"methods/{kind}/")), None)
        others = [f"gpgrad.methods.{other}." for other in PARTS if kind and other != kind]
        assert not [imported for imported in imports(path) if f"{imported}.".startswith(tuple(others))], name


def test_experiments_leave_jax_to_their_runs():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not any(name.split(".")[0] == "jax" for name in imports(path)), path


def test_only_the_edge_touches_the_outside():
    for name, path in modules().items():
        touched = {imported.split(".")[0] for imported in imports(path)} & HOST_MODULES
        assert not touched or f"{name}/".startswith(tuple(f"{place}/" for place in EDGE)), f"{name} imports {touched}"


def test_wandb_is_imported_where_rows_are_mirrored_and_where_its_pages_are_laid_out():
    users = [name for name, path in modules().items() if any(n.split(".")[0] == "wandb" for n in imports(path))]
    assert sorted(users) == ["runs/loggers/wandb_runs", "viz/dashboard"]


def test_yaml_is_read_by_one_loader():
    """The one that refuses keys given twice."""
    assert [name for name, path in modules().items() if re.search(r"yaml\.(safe_)?load\b", path.read_text())] == [
        "yaml_loader"
    ]


def test_signals_are_handled_in_one_place():
    """But for processes of external environments, which import nothing of `runs`, and the end of the program itself."""
    users = {name for name, path in modules().items() if re.search(r"\bsignal\.signal\(", path.read_text())}
    assert users == {"runs/signals", "__main__", "envs/external/worker", "envs/external/guardian"}


def test_the_learner_names_no_method():
    text = "".join(
        (ROOT / "gpgrad" / "learning" / f"{room}.py").read_text().lower() for room in ("learner", "program", "rollout")
    )
    for name in ("qmix", "vdn", "iql", "gradps", "gpvd", "kaleidoscope"):
        assert name not in text


@pytest.mark.parametrize(
    "module",
    [
        "gpgrad",
        "gpgrad.config",
        "gpgrad.plots",
        "gpgrad.envs",
        "gpgrad.envs.external.worker",
        "gpgrad.experiments.definition",
        ", ".join(f"gpgrad.runs.{path.stem}" for path in sorted((ROOT / "gpgrad" / "runs").glob("[a-z]*.py"))),
    ],
)
def test_light_imports_leave_jax_alone(module):
    code = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_file_outgrows_its_room():
    for name, path in modules().items():
        assert len(path.read_text().splitlines()) <= 420, name


def test_no_room_outgrows_a_reader():
    """A dozen files or so in each folder; `cli` has one for each command."""
    folders = Counter(name.rpartition("/")[0] for name in modules() if not name.endswith("__init__"))
    assert {folder: n for folder, n in folders.items() if n > 14 and folder != "cli"} == {}
