"""The resolved settings of a run as a YAML file, `config.yaml` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gpgrad.config import plugins, precedence, validate
from gpgrad.config.algorithm_names import algorithm
from gpgrad.config.overrides import PARTS, default_part, flat, override
from gpgrad.config.presets import mapping, read_yaml
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError


def dump(config: Config) -> str:
    """The resolved settings as YAML, one line each."""
    return yaml.safe_dump(flat(config), sort_keys=False)


def parse(path: Path) -> Config:
    """The configuration in a file written by `dump`. Raises SettingError for any other file.

    Settings that are younger than the file get the default of their dataclass or part, not of today's presets.
    Changed names are updated, see `precedence.upgrade`.
    """
    if not path.is_file():
        raise SettingError(f"{path} has no resolved settings; it must be config.yaml in the folder of a run")
    try:
        content = precedence.upgrade(mapping(read_yaml(path, "the settings in"), str(path)))
        names = {key: content.pop(key) for key in ("algo", "preset", *PARTS)}
        plugins.load(validate.coerce(content.get("plugin", ()), tuple[str, ...], f"plugin in {path}"))
    except KeyError as error:
        raise SettingError(f"{path} has no resolved settings: {error} is missing") from None
    for name in names.values():
        if not isinstance(name, str):
            raise SettingError(f"a name in {path} must be text (got {name!r})")
    algorithm(names["algo"])
    parts: dict[str, Any] = {kind: default_part(kind, names[kind]) for kind in PARTS}
    config = override(Config(algo=names["algo"], preset=names["preset"], **parts), content, str(path))
    config = precedence.settle(config)
    validate.check(config)
    return config
