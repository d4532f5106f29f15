"""The YAML files of `configs/`, by kind (`preset`, `env`, `algo`) and name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpgrad.errors import SettingError, suggest
from gpgrad.yaml_loader import parse_yaml, read_yaml

__all__ = ["available", "exists", "folder", "mapping", "parse_yaml", "read", "read_yaml"]


def folder() -> Path:
    """The folder `configs`."""
    return Path(__file__).parents[1] / "configs"


def available(kind: str) -> list[str]:
    """Names of the YAML files of a kind."""
    return sorted(path.stem for path in (folder() / kind).glob("*.yaml"))


def exists(kind: str, name: str) -> bool:
    """Whether a file of that kind and name exists."""
    return name in available(kind)


def read(kind: str, name: str) -> dict[str, Any]:
    """The content of a file. Raises SettingError for an unknown name or invalid YAML."""
    if not exists(kind, name):
        raise SettingError(f"unknown {kind} {name!r}{suggest(name, available(kind))}")
    path = folder() / kind / f"{name}.yaml"
    return dict(mapping(read_yaml(path, f"the preset {kind}/{name}") or {}, str(path)))


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """The value, if it is a mapping. Raises SettingError otherwise."""
    if not isinstance(value, Mapping):
        raise SettingError(f"{where} must be a mapping of names to values (got {value!r})")
    return value
