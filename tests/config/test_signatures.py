"""Signatures read from source are those of the imported makers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from gpgrad import envs, signatures
from gpgrad.envs import registry as worlds
from gpgrad.methods import registry

ROOT = Path(__file__).parents[2]
DUMP = """
import inspect, sys
from gpgrad import envs
from gpgrad.methods import registry
external = [f"gym_x", "pz_x", "smac_x", "smacv2_terran_5_vs_5", "smaclite_x", "host_a:b"]
for name in [*envs.names(), *external]:
    for option, (kind, default) in envs.options(name).items():
        print("env", name, option, kind, "EMPTY" if default is inspect.Parameter.empty else repr(default))
for kind in registry.KINDS:
    for name in registry.names(kind):
        for option, found in registry.options(kind, name).items():
            print(kind, name, option, found.type, repr(found.default))
"""


def test_source_and_import_agree():
    """All settings of all parts, in two processes: one that imported nothing and one that imported every maker."""
    light, heavy = (
        subprocess.run([sys.executable, "-c", begin + DUMP], cwd=ROOT, capture_output=True, text=True, check=True)
        for begin in ("", "from gpgrad import signatures; signatures.read = lambda place: None\n")
    )
    assert light.stdout.splitlines() == heavy.stdout.splitlines()
    assert len(light.stdout.splitlines()) > 400


def written(folder, monkeypatch, text):
    (folder / "some_part.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    signatures._tree.cache_clear()
    signatures._imports.cache_clear()
    return signatures.in_source("some_part:make")


def test_what_is_plain_is_read(tmp_path, monkeypatch):
    found = written(
        tmp_path,
        monkeypatch,
        "HALF = 0.5\nWay = Literal['a', 'b']\n\n"
        "def make(context: Context, k: int | None = None, *, x: float = HALF, way: Way = 'a',\n"
        "         n: tuple[int, ...] = ()):\n"
        "    '''One sentence.'''\n",
    )
    assert found is not None
    assert list(found.parameters) == ["context", "k", "x", "way", "n"]
    assert found.parameters["k"] == (int | None, None)
    assert found.parameters["x"] == (float, 0.5)
    assert str(found.parameters["way"].type) == "typing.Literal['a', 'b']"
    assert found.parameters["n"] == (tuple[int, ...], ())
    assert found.doc == "One sentence."
    assert "some_part" not in sys.modules


def test_what_is_not_plain_is_imported_instead(tmp_path, monkeypatch):
    for text in (
        "def make(context, **options): ...",
        "@cache\ndef make(context): ...",
        "def make(context, k: int = max(1, 2)): ...",
        "def make(context, k: Unknown = 1): ...",
        "make = other",
        "",
    ):
        assert written(tmp_path, monkeypatch, text) is None, text
    assert signatures.in_source("no_such_module_anywhere:make") is None


def test_an_imported_maker_is_taken_as_it_is():
    make = registry.maker("decomposition", "qmix")
    assert signatures.read.__wrapped__("gpgrad.methods.decomposition.qmix:make") is None
    assert list(registry.options("decomposition", "qmix")) == list(inspect.signature(make).parameters)[1:]
    assert worlds.options("two_step") == envs.options("two_step") == {}
