"""Numerics versions: a small integer in each part's own file that names the numbers which the part computes.

A part whose results change raises `NUMERICS = <int>` in its file, as Gymnasium's environments carry `-v3`. A run keeps
the versions of its parts, and its identity depends on them, so that results of different numbers are never counted
together. `NUMERICS.md` says what each change outdates; golden rows (tests/data/golden.json) notice a change that nobody
declared. A module without the constant, as a plugin may be, has version 1.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from gpgrad import envs
from gpgrad.config.schema import Config
from gpgrad.methods import registry

LEARNER, COLLECTION = "gpgrad.learning.learner", "gpgrad.learning.rollout"
FIRST = 1  # the version of parts of runs that are older than versions
Versions = Mapping[str, int]


def modules(names: Mapping[str, str]) -> dict[str, str]:
    """The parts of a run and the module whose file has the version of each.

    names: of the environment (`env`), decomposition, sharing scheme and weighting. Raises SettingError for others.
    """
    return {
        "learner": LEARNER,
        "collection": COLLECTION,
        f"env.{envs.family(names['env'])}": envs.module(names["env"]),
        **{f"{kind}.{names[kind]}": registry.module(kind, names[kind]) for kind in registry.KINDS},
    }


def names_of(config: Config) -> dict[str, str]:
    """The names that `modules` takes."""
    return {kind: getattr(config, kind).name for kind in ("env", *registry.KINDS)}


def versions(config: Config) -> dict[str, int]:
    """Today's version of every part of a run."""
    return versions_by(names_of(config))


def versions_by(names: Mapping[str, str]) -> dict[str, int]:
    """As `versions`, from the names that `modules` takes."""
    return {part: version_of(module) for part, module in modules(names).items()}


def first(names: Mapping[str, str]) -> dict[str, int]:
    """The versions of a run that kept none, from the names that `modules` takes."""
    return dict.fromkeys(modules(names), FIRST)


def version_of(module: str) -> int:
    """A module's version. It is read from the file where the module is not imported, since that would import jax."""
    if module in sys.modules:
        return int(getattr(sys.modules[module], "NUMERICS", FIRST))
    return _in_file(module)


@functools.cache
def _in_file(module: str) -> int:
    found = importlib.util.find_spec(module)
    text = Path(found.origin).read_text() if found and found.origin else ""
    match = re.search(r"^NUMERICS = (\d+)", text, re.MULTILINE)
    return int(match[1]) if match else FIRST


def changes(then: Versions, now: Versions) -> str:
    """What changed between two sets of versions, for people: "sharing.gradps 1, now 2"; empty if nothing did."""
    names = dict.fromkeys([*then, *now])
    return ", ".join(
        f"{name} {then.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in names
        if then.get(name) != now.get(name)
    )
