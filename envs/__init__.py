"""Environments. `make(name)` builds one; importing this package does not import jax."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gpgrad.envs.registry import (
    family,
    forget,
    is_built_in,
    is_external,
    known,
    make,
    missing,
    module,
    names,
    options,
    patterns,
    register,
)
from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from gpgrad.envs.api import Env, EnvSpec, OneHot, Step, View

_LAZY = ("Env", "EnvSpec", "OneHot", "Step", "View")  # of gpgrad.envs.api, which imports jax

__all__ = [
    "Env",
    "EnvSpec",
    "OneHot",
    "SettingError",
    "Step",
    "View",
    "family",
    "forget",
    "is_built_in",
    "is_external",
    "known",
    "make",
    "missing",
    "module",
    "names",
    "options",
    "patterns",
    "register",
]


def __getattr__(name: str) -> Any:
    """Types of `gpgrad.envs.api`, imported on first use."""
    if name in _LAZY:
        return getattr(importlib.import_module("gpgrad.envs.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
