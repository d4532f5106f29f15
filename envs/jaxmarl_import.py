"""Lazy import of JaxMARL's modules, which takes seconds, runs jax code and prints."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import jax


def load(module: str) -> ModuleType:
    """A module of jaxmarl, such as "environments.smax.smax_env"."""
    # Arrays created by the import must be concrete even if it happens during tracing.
    with jax.ensure_compile_time_eval(), silence():
        return importlib.import_module(f"jaxmarl.{module}")


@contextmanager
def silence() -> Iterator[None]:
    """Suppress output. jaxmarl sets `sys.stdout` to `sys.__stdout__` before it prints, and `sys.stderr` likewise."""
    kept = {name: getattr(sys, name) for name in ("stdout", "__stdout__", "stderr")}
    try:
        sys.stdout = io.StringIO()
        setattr(sys, "__stdout__", sys.stdout)  # noqa: B010, declared as final
        yield
    finally:
        for name, stream in kept.items():
            setattr(sys, name, stream)
