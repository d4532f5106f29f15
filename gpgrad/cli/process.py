"""The process of a command, before JAX is imported: the folder of compiled programs, huge pages.

`GPGRAD_CACHE` names another folder for compiled programs, JAX's own `JAX_COMPILATION_CACHE_DIR` wins.
`GPGRAD_HUGEPAGES=0` turns huge pages off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from gpgrad.errors import SettingError

LONG = ("train", "bench", "eval", "occupancy", "buckets")  # commands that compute for long in their own process
TUNABLE = "glibc.malloc.hugetlb"
GUARD = "GPGRAD_RESTARTED"  # set in a process that was restarted, and in its children
_OLDEST = (2, 35)  # glibc with the tunable


def prepare(arguments: Sequence[str]) -> None:
    """Set what JAX reads when it is imported; restart the process where only a new one can have huge pages.

    Raises SettingError for a GPGRAD_HUGEPAGES that is neither 0 nor 1.
    """
    set_cache()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if changes := huge_pages(arguments, os.environ):
        restart(changes)


def set_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX's own variables say otherwise."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        import platformdirs

        folder = os.environ.get("GPGRAD_CACHE") or platformdirs.user_cache_dir("gpgrad")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.path.abspath(os.path.expanduser(folder)), "jax")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def huge_pages(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with which a command's process must start to have huge pages; empty where it must not restart.

    They make the learner 1.25 to 1.45 times as fast on Linux. glibc reads the tunable when a process starts, so that
    a running one cannot set it.
    """
    wanted = environ.get("GPGRAD_HUGEPAGES", "1")
    if wanted not in ("0", "1"):
        raise SettingError(f"GPGRAD_HUGEPAGES is {wanted!r}, must be 0 or 1")
    tunables = environ.get("GLIBC_TUNABLES", "")
    if wanted == "0" or GUARD in environ or TUNABLE in tunables or not _is_long(arguments) or _glibc() < _OLDEST:
        return {}
    return {GUARD: "1", "GLIBC_TUNABLES": ":".join(filter(None, (tunables, f"{TUNABLE}=1")))}


def restart(changes: Mapping[str, str]) -> None:
    """Replace this process by one with the same interpreter, arguments and files, and changed variables.

    Nothing happens where the program did not start from a file, such as with `python -c`, or after JAX was imported.
    """
    if not sys.executable or not os.path.isfile(sys.argv[0]) or "jax" in sys.modules:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **changes})


def _is_long(arguments: Sequence[str]) -> bool:
    """Whether a command computes for long: `gpgrad train` alone only prints what it would do."""
    return len(arguments) > 1 and arguments[0] in LONG and not {"-h", "--help"}.intersection(arguments)


def _glibc() -> tuple[int, ...]:
    """The version of glibc; (0,) for another C library or system."""
    if not sys.platform.startswith("linux"):
        return (0,)
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else (0,)
    except (ValueError, OSError):  # a C library that knows no such name
        return (0,)
