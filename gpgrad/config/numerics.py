"""Numerics versions: an integer in each part's file that changes with the numbers that the part computes.

Whoever changes the results of a part raises `NUMERICS = <int>` in its file, as Gymnasium's environments have `-v3`. A
run keeps the versions of its parts, and its identity depends on them, so that results of different versions are never
pooled. `NUMERICS.md` lists what each change outdates; golden rows (tests/data/golden.json) detect undeclared changes.
A module without the constant, for example a plugin, has version 1.
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
FIRST = 1  # the version of parts of runs without recorded versions
Versions = Mapping[str, int]


def modules(names: Mapping[str, str]) -> dict[str, str]:
    """The parts of a run, each with the module that has its version.

    names: of the environment (`env`), decomposition, sharing scheme and weighting. Raises SettingError for others.
    """
    return {
        "learner": LEARNER,
        "collection": COLLECTION,
        f"env.{envs.family(names['env'])}": envs.module(names["env"]),
        **{f"{kind}.{names[kind]}": registry.module(kind, names[kind]) for kind in registry.KINDS},
    }


def names_of(config: Config) -> dict[str, str]:
    """The names of a configuration's parts, for `modules`."""
    return {kind: getattr(config, kind).name for kind in ("env", *registry.KINDS)}


def versions(config: Config) -> dict[str, int]:
    """The current versions of a run's parts."""
    return versions_by(names_of(config))


def versions_by(names: Mapping[str, str]) -> dict[str, int]:
    """As `versions`, from the names that `modules` takes."""
    return {part: version_of(module) for part, module in modules(names).items()}


def first(names: Mapping[str, str]) -> dict[str, int]:
    """The versions of a run without recorded versions, from the names that `modules` takes."""
    return dict.fromkeys(modules(names), FIRST)


def version_of(module: str) -> int:
    """The version of a module, read from its file if it is not imported yet, since importing it would import jax."""
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
    """The differences of two sets of versions as text, such as "sharing.gradps 1, now 2"; empty if there are none."""
    names = dict.fromkeys([*then, *now])
    return ", ".join(
        f"{name} {then.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in names
        if then.get(name) != now.get(name)
    )
