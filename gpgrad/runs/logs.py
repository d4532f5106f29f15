"""Rows of runs as JSON lines, from which all results are read."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gpgrad.errors import SettingError

Row = dict[str, Any]
MANIFEST = "manifest.json"
STEPS = "env_steps"  # the axis of all curves
WHOLE = {"metrics": ("seed", STEPS), "final": ("seed",), "diverged": ("seed",)}  # of each row, by its file's name
LONGEST = 100  # entries of a list that a tool for curves is given


def plain(value: Any) -> Any:
    """Arrays and scalars as JSON knows them; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    value = np.asarray(value)
    if value.dtype.kind == "f":
        value = np.where(np.isfinite(value), value.astype(object), None)
    return value.tolist()


class JsonLines:
    """A file of one JSON object a line, on disk after every write."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open for appending after the first `keep` bytes; the rest is cut off."""
        path.touch()
        size = path.stat().st_size
        if size < keep:
            raise SettingError(
                f"{path} must have at least the {keep} bytes that its checkpoint counted (it has {size})"
            )
        os.truncate(path, keep)
        self._file: TextIO = path.open("a")

    def size(self) -> int:
        """Bytes written, all of them safe on the disk."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def write(self, row: Row) -> None:
        """Append a row."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; none if there is no file. A last line without a newline, left by a kill, is ignored.

    If there is only a compressed file, NAME.jsonl.gz, that one is read. Raises SettingError for damaged files.
    """
    packed = path.with_name(f"{path.name}.gz")
    source = path if path.is_file() else packed
    if not source.is_file():
        return []
    try:
        content = source.read_bytes()
        text = (gzip.decompress(content) if source == packed else content).decode()
        rows = [json.loads(line) for line in text.split("\n")[:-1]]
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SettingError(f"{source} is damaged, every line must be a JSON object: {error}") from None
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise SettingError(f"{source} is damaged, every line must be a JSON object: line {i} is not")
        for name in WHOLE.get(path.stem, ()):
            if type(row.get(name)) is not int:
                raise SettingError(f"{source} is damaged, {name} must be an integer in every line: not so in line {i}")
    return rows


def read_manifest(folder: Path) -> Row:
    """A run's manifest; empty if it has none that can be read."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def flatten(row: Row) -> Row:
    """Nested lists as numbered entries, for tools that only know scalars; none of the long ones."""
    result: Row = {}
    for name, value in row.items():
        if isinstance(value, list):
            items = np.ravel(np.asarray(value, object))
            if len(items) <= LONGEST:
                result |= {f"{name}/{i}": item for i, item in enumerate(items)}
        elif value is not None:
            result[name] = value
    return result


def seconds(rows: Iterable[Row]) -> float:
    """Seconds of training in rows of timing.jsonl, all seeds together; interrupted work counts up to its last test."""
    total, last = 0.0, {}
    for row in rows:
        seed, now = row.get("seed"), row["seconds"]
        before = last.get(seed, 0.0)
        total += now - before if now >= before else now  # a resumed run counts from zero again
        last[seed] = now
    return total
