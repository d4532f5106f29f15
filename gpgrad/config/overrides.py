"""Settings by dotted names: all of them, their types, and changes with checked values."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np

from gpgrad import envs
from gpgrad.config import validate
from gpgrad.config.schema import Config, Part
from gpgrad.errors import SettingError
from gpgrad.methods import registry

PARTS = ("env", *registry.KINDS)
PATHS = ("log.dir", "init_from")  # settings in which ~ is the home folder

_hints = functools.cache(get_type_hints)


def part_options(kind: str, name: str) -> dict[str, registry.Option]:
    """The settings of a part with their types and defaults."""
    if kind == "env":
        return {key: registry.Option(*option) for key, option in envs.options(name).items()}
    return registry.options(kind, name)  # type: ignore[arg-type]


def default_part(kind: str, name: str) -> Part:
    """The part of that name with its default settings."""
    return Part(name, {key: option.default for key, option in part_options(kind, name).items()})


def flat(config: Config) -> dict[str, Any]:
    """All settings by dotted name, in the order of the dataclasses."""
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if isinstance(value, Part):
            result[item.name] = value.name
            result |= {f"{item.name}.{key}": option for key, option in value.options.items()}
        elif dataclasses.is_dataclass(value):
            result |= {f"{item.name}.{f.name}": getattr(value, f.name) for f in dataclasses.fields(value)}
        else:
            result[item.name] = value
    return result


def types(config: Config) -> dict[str, Any]:
    """The types of all settings that `override` can change, by dotted name."""
    result: dict[str, Any] = {}
    for name, hint in _hints(Config).items():
        value = getattr(config, name)
        if isinstance(value, Part):
            result |= {f"{name}.{key}": option.type for key, option in part_options(name, value.name).items()}
        elif dataclasses.is_dataclass(hint):
            result |= {f"{name}.{key}": kind for key, kind in _hints(hint).items()}
        elif name not in ("algo", "preset"):
            result[name] = hint
    return result


def override(config: Config, changes: Mapping[str, Any], source: str = "") -> Config:
    """The configuration with some settings changed.

    changes: dotted names to values, as Python values or text. source: the file they come from, for messages. Raises
    SettingError for an unknown name or a wrong type.
    """
    known = types(config)
    origin = f" in {source}" if source else ""
    for name, value in changes.items():
        if name not in known:
            raise SettingError(f"unknown setting {name!r}{origin}{validate.nearest(name, known)}")
        value = validate.coerce(value, known[name], name + origin)
        if name in PATHS and value is not None:
            value = os.path.expanduser(value)
        head, _, tail = name.partition(".")
        if not tail:
            config = dataclasses.replace(config, **{head: value})
            continue
        group = getattr(config, head)
        if isinstance(group, Part):
            group = Part(group.name, {**group.options, tail: value})
        else:
            group = dataclasses.replace(group, **{tail: value})
        config = dataclasses.replace(config, **{head: group})
    return config


def text(value: Any) -> str:
    """A setting's value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def typed(config: Config) -> Config:
    """The configuration with NumPy numbers as Python numbers. Raises SettingError for a wrong type."""
    known = types(config)
    numbers: dict[str, Any] = {}
    for name, value in flat(config).items():
        if name in known:
            validate.coerce(value, known[name], name)
        if isinstance(value, np.generic):
            numbers[name] = value.item()
    return override(config, numbers)
