"""gpgrad: multi-agent reinforcement learning where gradients fight each other, in JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.checking import check_env
    from envs.errors import SettingError
    from gpgrad.config import load
    from gpgrad.policy import Policy, load_policy
    from gpgrad.registry import register
    from gpgrad.settings import Config
    from gpgrad.train import Result, run

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Policy",
    "Result",
    "SettingError",
    "__version__",
    "check_env",
    "load",
    "load_policy",
    "register",
    "run",
]

_HOMES = {
    "Config": "gpgrad.settings",
    "Result": "gpgrad.train",
    "SettingError": "envs.errors",
    "Policy": "gpgrad.policy",
    "check_env": "envs.checking",
    "load": "gpgrad.config",
    "load_policy": "gpgrad.policy",
    "register": "gpgrad.registry",
    "run": "gpgrad.train",
}


def __getattr__(name: str) -> Any:
    """Public names, imported when first used: importing gpgrad runs no jax code."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gpgrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
