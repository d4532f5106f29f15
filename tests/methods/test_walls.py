"""No method is known by name outside its room: the core runs without them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The core may import `base` of each kind, the agent, dense layers, the GRU and the plain head.
METHODS = """
import importlib, pathlib, sys

CORE = {"base", "agent", "gru", "heads", "layers", "__init__"}
root = pathlib.Path("gpgrad/methods")
kinds = ("decomposition", "sharing", "weighting", "nets")
blocked = {
    ".".join(("gpgrad", "methods", kind, path.stem))
    for kind in kinds for path in (root / kind).iterdir() if path.stem not in CORE | {"__pycache__"}
}


class Block:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{method}.") for method in blocked):
            raise ImportError(f"{name} is a method")


assert {"gpgrad.methods.weighting.gpvd", "gpgrad.methods.sharing.gradps"} <= blocked
sys.meta_path.insert(0, Block())
for room in ("learning", "training", "policies", "config", "runs"):
    for path in sorted(pathlib.Path("gpgrad", room).glob("[a-z]*.py")):
        importlib.import_module(f"gpgrad.{room}.{path.stem}")
"""


def test_the_core_is_imported_without_any_method():
    done = subprocess.run([sys.executable, "-c", METHODS], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_the_core_names_no_method():
    """In code; comments and docstrings may give examples."""
    names = ("gpvd", "gradps", "rmix", "dmix", "qmix", "kaleidoscope", "lagging", "cosine")
    for room in ("learning", "training", "policies"):
        for path in (ROOT / "gpgrad" / room).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text())))
            used = {n.id for n in nodes if isinstance(n, ast.Name)} | {
                n.attr for n in nodes if isinstance(n, ast.Attribute)
            }
            used |= {alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
            assert not [word for word in used if any(name in word.lower() for name in names)], path
