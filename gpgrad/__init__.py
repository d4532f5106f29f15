"""gpgrad: JAX value-decomposition MARL with conflict-aware gradients (GPVD, GradPS)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpgrad.config import load
    from gpgrad.config.schema import Config
    from gpgrad.envs.checking import check_env
    from gpgrad.errors import SettingError
    from gpgrad.methods.registry import register
    from gpgrad.policies.policy import Policy, load_policy, load_team
    from gpgrad.runs.divergence import Diverged
    from gpgrad.training.train import Result, run

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Diverged",
    "Policy",
    "Result",
    "SettingError",
    "__version__",
    "check_env",
    "load",
    "load_policy",
    "load_team",
    "register",
    "run",
]

_HOMES = {
    "Config": "gpgrad.config.schema",
    "Diverged": "gpgrad.runs.divergence",
    "Result": "gpgrad.training.train",
    "SettingError": "gpgrad.errors",
    "Policy": "gpgrad.policies.policy",
    "check_env": "gpgrad.envs.checking",
    "load": "gpgrad.config",
    "load_policy": "gpgrad.policies.policy",
    "load_team": "gpgrad.policies.policy",
    "register": "gpgrad.methods.registry",
    "run": "gpgrad.training.train",
}


def __getattr__(name: str) -> Any:
    """Public names, imported on first use, so that importing gpgrad does not import jax."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gpgrad' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
