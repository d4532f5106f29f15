"""Strict reading of YAML files: every value is typed, unknown entries are errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpgrad.config import presets, validate
from gpgrad.errors import SettingError, suggest

NOT_OVERRIDDEN = ("env", "algo", "preset", "seed", "seeds", "seeds_mode", "log", "checkpoint")


def open_file(path: Path, what: str) -> Reader:
    """A reader of a file's content. Raises SettingError for a file that cannot be read."""
    return Reader(presets.read_yaml(path, what), str(path), what)


class Reader:
    """Takes named, typed values out of a mapping; entries that are left over are errors."""

    def __init__(self, content: Any, source: str, what: str) -> None:
        if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
            raise SettingError(f"{what} in {source} must be a mapping of names to values (got {content!r})")
        self._left, self._known, self.source, self.what = dict(content), [], source, what

    def value(self, name: str, kind: Any, *default: Any) -> Any:
        """A checked value; required unless a default is given."""
        self._known.append(name)
        if name not in self._left:
            if not default:
                raise SettingError(f"{self.what} in {self.source} has no {name}, which is needed")
            return default[0]
        value = self._left.pop(name)
        return value if kind is Any else validate.coerce(value, kind, f"{name} of {self.what} in {self.source}")

    def name(self, key: str, *default: Any) -> Any:
        """A name: text that is not empty."""
        found = self.value(key, str, *default)
        if found == "":
            raise SettingError(f"{key} of {self.what} in {self.source} must not be empty")
        return found

    def reader(self, name: str, *default: Any) -> Reader:
        """A reader of a nested mapping."""
        return Reader(self.value(name, Any, *default), self.source, name)

    def readers(self, name: str, *default: Any) -> list[Reader]:
        """Readers of a non-empty list of mappings."""
        items = self.value(name, Any, *default)
        if not isinstance(items, list) or not items:
            raise SettingError(f"{name} of {self.what} in {self.source} must be a list (got {items!r})")
        return [Reader(item, self.source, f"entry {i + 1} of {name}") for i, item in enumerate(items)]

    def overrides(self) -> dict[str, Any]:
        """The settings under `overrides`."""
        return self.settings("overrides")

    def settings(self, key: str) -> dict[str, Any]:
        """Settings by dotted name, without those in `NOT_OVERRIDDEN`; default: none."""
        return self._settings(self.value(key, Any, {}), f"{key} of {self.what} in {self.source}")

    def listed(self, key: str) -> list[dict[str, Any]]:
        """A list of settings; default: empty."""
        items = self.value(key, Any, [])
        if not isinstance(items, list):
            raise SettingError(f"{key} of {self.what} in {self.source} must be a list (got {items!r})")
        place = f"{key} of {self.what} in {self.source}"
        return [self._settings(item, f"entry {i + 1} of {place}") for i, item in enumerate(items)]

    def _settings(self, content: Any, place: str) -> dict[str, Any]:
        if not isinstance(content, Mapping):
            raise SettingError(f"{place} must be a mapping of names to values (got {content!r})")
        for name in content:
            if str(name).partition(".")[0] in NOT_OVERRIDDEN and not str(name).startswith("env."):
                raise SettingError(f"{place} cannot set {name!r}")
        return dict(content)

    def items(self) -> Iterable[tuple[str, Reader]]:
        """All remaining entries, each a mapping."""
        names, self._known = list(self._left), list(self._left)
        return [(name, self.reader(name)) for name in names]

    def end(self) -> None:
        """Raise SettingError for entries that were not read."""
        for name in self._left:
            raise SettingError(f"unknown {name!r} in {self.what} in {self.source}{suggest(name, self._known)}")
