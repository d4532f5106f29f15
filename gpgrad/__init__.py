"""gpgrad: multi-agent reinforcement learning where gradients fight each other, in JAX."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": "gpgrad.config",
    "Config": "gpgrad.config",
    "run": "gpgrad.train",
    "Result": "gpgrad.train",
    "register": "gpgrad.registry",
    "SettingError": "envs.errors",
}

__all__ = ["Config", "Result", "SettingError", "__version__", "load", "register", "run"]  # noqa: F822


def __getattr__(name: str) -> Any:
    """Public names, imported when first used: importing gpgrad runs no jax code."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gpgrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
