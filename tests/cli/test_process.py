"""What the program sets before JAX is imported, and the one restart for huge pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpgrad.cli import process
from gpgrad.errors import SettingError

ROOT = Path(__file__).parents[2]
WORK = ["train", "--env", "nowhere"]
has_tunable = pytest.mark.skipif(process._glibc() < (2, 35), reason="no glibc with the tunable")


@pytest.fixture
def clean(monkeypatch):
    """No variable of the program's own, and a tunable glibc."""
    for name in [name for name in os.environ if name.startswith(("GPGRAD_", "JAX_", "GLIBC_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(process, "_glibc", lambda: (2, 36))
    return monkeypatch


@pytest.mark.parametrize(
    ("arguments", "environ", "tunables"),
    [
        (WORK, {}, "glibc.malloc.hugetlb=1"),
        (WORK, {"GPGRAD_HUGEPAGES": "1"}, "glibc.malloc.hugetlb=1"),
        (WORK, {"GLIBC_TUNABLES": "glibc.malloc.check=3"}, "glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
        (WORK, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, None),
        (WORK, {"GPGRAD_HUGEPAGES": "0"}, None),
        (WORK, {process.GUARD: "1"}, None),
        (["train"], {}, None),
        (["train", "--help"], {}, None),
        (["list"], {}, None),
        ([], {}, None),
    ],
)
def test_who_is_restarted(clean, arguments, environ, tunables):
    assert process.huge_pages(arguments, environ).get("GLIBC_TUNABLES") == tunables


@pytest.mark.parametrize("version", [(0,), (2, 34)])
def test_a_c_library_without_the_tunable_is_left_alone(clean, version):
    clean.setattr(process, "_glibc", lambda: version)
    assert process.huge_pages(WORK, {}) == {}


def test_a_wrong_switch_is_refused(clean):
    with pytest.raises(SettingError, match="GPGRAD_HUGEPAGES is 'no', must be 0 or 1"):
        process.huge_pages(WORK, {"GPGRAD_HUGEPAGES": "no"})


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x"}, "/x/gpgrad/jax"),
        ({"XDG_CACHE_HOME": "/x", "GPGRAD_CACHE": "/mine"}, "/mine/jax"),
        ({"GPGRAD_CACHE": "/mine", "JAX_COMPILATION_CACHE_DIR": "/jax"}, "/jax"),
    ],
)
def test_the_cache_is_the_users(clean, environ, folder):
    for name, value in environ.items():
        clean.setenv(name, value)
    clean.setattr(sys, "platform", "linux")
    process.set_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == folder
    assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0.5"


@has_tunable
@pytest.mark.parametrize("installed", [True, False])
def test_a_command_is_restarted_once_with_its_arguments(installed, tmp_path):
    """Started as the installed script and as a module, counted by a site hook that each interpreter runs."""
    count = tmp_path / "count"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"with open({str(count)!r}, 'a') as file:\n"
        "    print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), *sys.orig_argv[1:], file=file)\n"
    )
    script = tmp_path / "gpgrad"
    script.write_text("import sys\nfrom gpgrad.__main__ import script\nsys.exit(script())\n")
    begin = [str(script)] if installed else ["-m", "gpgrad"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GPGRAD_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, *begin, "train", "--env", "pp smal"],
        cwd=ROOT,
        env={**environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "gpgrad: unknown environment 'pp smal'; did you mean 'pp_small'?\n")
    first, second = count.read_text().splitlines()
    words = " ".join([*begin, "train", "--env", "pp smal"])
    assert first.split()[1:] == ["None", *words.split()]
    assert second.split() == [first.split()[0], "glibc.malloc.hugetlb=1", *words.split()]
