"""Who imports whom, who touches the outside, and what must not import jax."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = [
    {"registry", "plugins", "checks", "presets", "precedence", "settings", "config", "reading", "numerics", "seal"},
    {"types"},
    {"nets", "optimisers", "lengths"},
    {"sharing", "decomposition", "weighting", "stairs"},
    {"replay", "rollout", "learner", "devices", "simulators"},
    {"compose", "evaluate", "diagnostics"},
    {"iteration", "hosts"},
    {"initial"},
    {"program"},
    {"memory"},
    {"plan", "checkpoint", "logs", "lock", "progress", "chart", "layouts", "stats", "verdicts", "plots"},
    {"media", "dashboard", "evidence", "provenance", "divergence"},
    {"recorder", "bench", "separation", "occupancy", "accounting", "teams", "shelf", "runs"},
    {"execute"},
    {"sweep", "cluster"},
    {"policy"},
    {"export"},
    {"ending"},
    {"loop"},
    {"modes", "share", "extension"},
    {"train"},
    {"trained", "render", "report"},
    {"buckets"},
    {"commands"},
    {"__main__"},
]
SIBLINGS = {"sharing", "decomposition", "weighting"}
OUTSIDE = {
    "bench",
    "checkpoint",
    "cluster",
    "commands",
    "config",
    "execute",
    "export",
    "extension",
    "lock",
    "logs",
    "loop",
    "memory",
    "__main__",
}
OUTSIDE |= {"media", "modes", "plots", "plugins", "policy", "presets", "progress", "reading", "recorder", "runs"}
OUTSIDE |= {"shelf", "sweep", "teams", "train", "numerics", "provenance", "seal"}
OUTSIDE |= {"dashboard", "divergence", "ending", "hosts", "simulators", "share", "trained", "render", "report"}
OUTSIDE |= {"buckets"}
HOST_MODULES = {"os", "pathlib", "subprocess", "socket", "time", "datetime", "wandb", "yaml", "shutil", "tempfile"}


def rooms() -> dict[str, list[Path]]:
    result: dict[str, list[Path]] = {}
    for path in (ROOT / "gpgrad").rglob("*.py"):
        room = path.relative_to(ROOT / "gpgrad").parts[0].removesuffix(".py")
        result.setdefault(room, []).append(path)
    return result


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def level(room: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if room in names)


def test_every_room_has_a_level():
    known = set().union(*LAYERS) | {"__init__"}
    assert set(rooms()) == known


def test_imports_run_one_way():
    for room, paths in rooms().items():
        if room == "__init__":
            continue
        for path in paths:
            for name in imports(path):
                parts = name.split(".")
                if parts[0] != "gpgrad" or len(parts) < 2 or parts[1] == room:
                    continue
                other = parts[1]
                if not any(other in names for names in LAYERS):
                    continue
                lower = level(other) < level(room) or (level(other) == level(room) and not {room, other} <= SIBLINGS)
                assert lower, f"{path.name} imports {name}"


def test_worlds_know_nothing_of_learners():
    for path in (ROOT / "envs").rglob("*.py"):
        assert not any(name.split(".")[0] == "gpgrad" for name in imports(path)), path


def test_nobody_knows_of_experiments():
    for folder in ("gpgrad", "envs"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not any(name.split(".")[0] == "experiments" for name in imports(path)), path


def test_experiments_leave_jax_to_their_runs():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not any(name.split(".")[0] == "jax" for name in imports(path)), path


def test_only_the_edge_touches_the_outside():
    for room, paths in rooms().items():
        for path in paths:
            touched = {name.split(".")[0] for name in imports(path)} & HOST_MODULES
            assert not touched or room in OUTSIDE, f"{path.name} imports {touched}"


def test_wandb_is_imported_where_rows_are_mirrored_and_where_its_pages_are_laid_out():
    users = [p.name for paths in rooms().values() for p in paths if any(n.split(".")[0] == "wandb" for n in imports(p))]
    assert users == ["dashboard.py", "logs.py"]


def test_yaml_is_read_by_one_loader():
    """The one that refuses keys given twice."""
    paths = [path for folder in ("gpgrad", "experiments", "envs") for path in (ROOT / folder).rglob("*.py")]
    loaders = [str(path.relative_to(ROOT)) for path in paths if re.search(r"yaml\.(safe_)?load\b", path.read_text())]
    assert loaders == ["envs/files.py"]


def test_the_learner_names_no_method():
    text = "".join((ROOT / "gpgrad" / f"{room}.py").read_text().lower() for room in ("learner", "program", "rollout"))
    for name in ("qmix", "vdn", "iql", "gradps", "gpvd", "kaleidoscope"):
        assert name not in text


@pytest.mark.parametrize(
    "module",
    [
        "gpgrad",
        "gpgrad.config",
        "gpgrad.provenance",
        "gpgrad.logs",
        "gpgrad.stats",
        "gpgrad.verdicts",
        "gpgrad.plots",
        "gpgrad.shelf",
        "envs",
        "envs.host.worker",
        "experiments.definition",
    ],
)
def test_light_imports_leave_jax_alone(module):
    code = f"import sys, {module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_file_outgrows_its_room():
    for folder in ("gpgrad", "envs", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 420, path
