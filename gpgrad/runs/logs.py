"""Logging: JSON lines, from which all results are read, and a wandb mirror, whose failures never stop a run."""

from __future__ import annotations

import gzip
import json
import netrc
import os
import re
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gpgrad.errors import SettingError

Row = dict[str, Any]
MANIFEST = "manifest.json"
STEPS = "env_steps"  # the axis of all curves
WHOLE = {"metrics": ("seed", STEPS), "final": ("seed",), "diverged": ("seed",)}  # of each row, by its file's name
FINISH_SECONDS = 120.0
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


class Mirror:
    """wandb runs, one per seed in a group. The first failure turns the mirror off; `problem` describes it."""

    def __init__(self, mode: Any, project: str, run: Path, seeds: Sequence[int], settings: Row, folder: Path) -> None:
        """`run`: the run's folder, which names the group; `folder`: where wandb's files go, the run's or a seed's."""
        self._runs: dict[int, Any] = {}
        group, identifier = run.resolve().name, wandb_id(run)
        self._folder = folder
        self.problem: str | None = None
        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        if mode == "disabled":
            return
        try:
            import wandb

            # Older versions have no limit of their own, which also holds at the end of the process.
            limit: Row = {"finish_timeout": FINISH_SECONDS} if "finish_timeout" in wandb.Settings.model_fields else {}
            for seed in seeds:
                self._runs[seed] = wandb.init(
                    project=project,
                    group=group,
                    name=f"{group}-{seed}",
                    id=f"{identifier}-{seed}",
                    resume="allow",
                    config={**settings, "seed": seed},
                    tags=[settings["env"], settings["label"], settings["preset"]],
                    dir=str(folder),
                    mode=mode,
                    reinit="create_new",
                    settings=wandb.Settings(silent=True, **limit),
                )
                self._runs[seed].define_metric("*", step_metric=STEPS)
        except Exception as error:
            self._give_up(error)

    @property
    def on(self) -> bool:
        """Whether anything is mirrored."""
        return bool(self._runs)

    def write(self, seed: int, row: Row) -> None:
        """Mirror a row by environment steps; lists become one curve per entry, unless they are long."""
        if seed not in self._runs:
            return
        try:
            self._runs[seed].log(flatten(row), step=row[STEPS])
        except Exception as error:
            self._give_up(error)

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """Mirror pictures, PNG by name, and GIFs, at a number of environment steps."""
        if seed not in self._runs or not (images or films):
            return
        try:
            import wandb
            from PIL import Image

            media: Row = {f"media/{name}": wandb.Image(Image.open(BytesIO(data))) for name, data in images.items()}
            media |= {f"media/{path.stem}": wandb.Video(str(path), format="gif") for path in films}
            self._runs[seed].log({**media, STEPS: steps}, step=steps)
        except Exception as error:
            self._give_up(error)

    def summarise(self, seed: int, row: Row) -> None:
        """Put a row into the run's summary."""
        if seed not in self._runs:
            return
        try:
            self._runs[seed].summary.update(flatten(row))
        except Exception as error:
            self._give_up(error)

    def close(self, seconds: float = FINISH_SECONDS) -> None:
        """Finish all runs, which may have much to send, but wait no longer than that."""
        failures: list[Exception] = []

        def finish() -> None:
            try:
                for run in list(self._runs.values()):
                    run.finish()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            place = self._folder / "wandb"
            failures.append(TimeoutError(f"not everything was sent in {seconds:g} s; run wandb sync on {place}"))
        if failures:
            self._give_up(failures[0])
        self._runs = {}

    def _give_up(self, error: Exception) -> None:
        self.problem = f"wandb is off for the rest of this run: {type(error).__name__}: {error}"
        self._runs = {}


def wandb_id(run: Path) -> str:
    """What names a run in wandb: its manifest's id, or for a run without one its folder's name in wandb's alphabet."""
    return read_manifest(run).get("id") or re.sub(r"[^\w.-]", "_", run.resolve().name)


def read_manifest(folder: Path) -> Row:
    """A run's manifest; empty if it has none that can be read."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def has_key() -> bool:
    """Whether a key for wandb is set, in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


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
