"""YAML files read strictly, by the one loader of all of them: a name given twice is a mistake. Imports no jax."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from gpgrad.errors import SettingError


class _Twice(yaml.YAMLError):
    """A key is given twice in a mapping."""


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where it is there: ten times as fast


class _Loader(_Base):
    """Safe YAML, except that a key given twice is a mistake, where YAML's last one would win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                line = key_node.start_mark.line + 1
                raise _Twice(f"{key!r} is given twice, again in line {line}: each name must be given once")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file in UTF-8; `what` names it for people. Raises SettingError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{what} {path} is no text in UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise SettingError(f"{what} {str(path)!r} is no name of a file: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The content of a YAML file. Raises SettingError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except _Twice as error:
        raise SettingError(f"in {where} {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # of dates and numbers that cannot be
        raise SettingError(f"{where} is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SettingError(f"{where} is no YAML: it is nested too deeply") from None
