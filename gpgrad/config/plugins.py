"""Plugins: decompositions, sharing schemes, weightings and environments from outside the repository.

A plugin is a module that calls `gpgrad.register` or `gpgrad.envs.register` when it is imported. `--plugin` or the entry
point group `gpgrad` of an installed package names it. A run keeps the names of its plugins, so that commands that read
the run import them again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from gpgrad.envs import registry as env_registry
from gpgrad.errors import SettingError
from gpgrad.methods import registry

GROUP = "gpgrad"
_owners: dict[tuple[str, str], str] = {}  # kind and name of each part from a plugin, and the plugin's module


def load(modules: Iterable[str]) -> None:
    """Import plugins. Raises SettingError for a plugin that is missing, fails or registers nothing."""
    discover()
    for module in modules:
        _load(module, f"the plugin {module}")


@functools.cache
def discover() -> None:
    """Import the plugins of installed packages, once. Raises SettingError with the name of the package."""
    for point in importlib.metadata.entry_points(group=GROUP):
        package = f" of the installed package {point.dist.name}" if point.dist else ""
        _load(point.module, f"the plugin {point.module}{package}")


def owners(parts: Mapping[str, str]) -> list[str]:
    """The plugins of the given parts. parts: kind to name."""
    return list(dict.fromkeys(_owners[part] for part in parts.items() if part in _owners))


def manifest(modules: Iterable[str]) -> dict[str, str | None]:
    """The first 16 digits of the SHA-256 of each plugin's file, to detect changes of its code."""
    return {module: _digest(getattr(sys.modules[module], "__file__", None)) for module in modules}


def _load(module: str, what: str) -> None:
    if module in _owners.values():
        return
    if module in sys.modules:  # imported before it was named as a plugin
        _claim(module, what, {part for part, modules in _origins().items() if module in modules})
        return
    before = _known()
    if "" not in sys.path:
        sys.path.append("")  # as with python -m: plugins in the working directory are found
    try:
        importlib.import_module(module)
    except Exception as error:
        for kind, name in _known() - before:
            _forget(kind, name)
        if not module or (isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")):
            raise SettingError(f"{what} is missing; it must be a module that can be imported from here") from None
        message = " ".join(str(error).split())
        raise SettingError(f"{what} is broken: {type(error).__name__}: {message}") from error
    _claim(module, what, _known() - before)


def _claim(module: str, what: str, parts: set[tuple[str, str]]) -> None:
    """Record the parts of a plugin. Raises SettingError if there are none."""
    if not parts:
        raise SettingError(f"{what} registers nothing; its import must call gpgrad.register or gpgrad.envs.register")
    _owners.update(dict.fromkeys(parts, module))


def _origins() -> dict[tuple[str, str], frozenset[str]]:
    """The modules that were being imported when each part was registered."""
    worlds = {("env", name): modules for name, modules in env_registry.origins().items()}
    return {**registry.origins(), **worlds}


def _known() -> set[tuple[str, str]]:
    parts = {(kind, name) for kind in registry.KINDS for name in registry.names(kind)}
    return parts | {("env", name) for name in env_registry.names()}


def _forget(kind: str, name: str) -> None:
    if kind == "env":
        env_registry.forget(name)
    else:
        registry.forget(kind, name)  # type: ignore[arg-type]


def _digest(file: str | None) -> str | None:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else None
