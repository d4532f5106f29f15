"""JSON lines: the files from which all results are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpgrad.runs import divergence, logs
from gpgrad.runs.logs import Row

FILES = ("metrics", "timing", "final", divergence.NAME)


class JsonlLogger:
    """Writes metrics.jsonl, timing.jsonl, final.jsonl and diverged.jsonl.

    A checkpoint records the size of each file (`offsets`). When a run is resumed, the rows after that size are cut
    off, because training writes them again.
    """

    def __init__(self, folder: Path, offsets: Mapping[str, int]) -> None:
        """Raises SettingError if a file is shorter than its offset."""
        self._files = {name: logs.JsonLines(folder / f"{name}.jsonl", offsets.get(name, 0)) for name in FILES}

    def offsets(self) -> dict[str, int]:
        """Bytes written to each file."""
        return {name: file.size() for name, file in self._files.items()}

    def write(self, row: Row) -> None:
        """See `Logger`."""
        self._files["metrics"].write(row)

    def time(self, row: Row) -> None:
        """Write the wall-clock time of a test, in seconds since training began."""
        self._files["timing"].write(row)

    def diverged(self, row: Row) -> None:
        """See `Logger`."""
        self._files[divergence.NAME].write(row)

    def final(self, row: Row) -> None:
        """See `Logger`."""
        self._files["final"].write(row)

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """Nothing: pictures are drawn from the rows."""

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
