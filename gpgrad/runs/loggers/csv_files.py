"""CSV files, one per seed: RUN/csv/seed0.csv and so on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpgrad.runs.logs import LONGEST, Row

FOLDER = "csv"


class CsvLogger:
    """Writes the rows of tests with one column per number.

    The entries of a list have columns such as test_agent_stags/0; lists of more than 100 entries are left out. What is
    not known is an empty cell. The final test is in seed0_final.csv, a file with one row.
    """

    def __init__(self, run: Path, earlier: Sequence[Row]) -> None:
        """`run`: the run's folder. `earlier`: the rows that a resumed run has already; they replace the files."""
        self._folder = run / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._rows: dict[int, list[Row]] = {}
        self._columns: dict[int, list[str]] = {}
        for row in earlier:
            self._keep(row)
        for seed in self._rows:
            self._rewrite(seed)

    def write(self, row: Row) -> None:
        """See `Logger`. A row with new columns rewrites the file."""
        seed = row["seed"]
        if self._keep(row):
            self._rewrite(seed)
            return
        with self._path(seed).open("a", newline="") as file:
            file.write(_text(self._columns[seed], self._rows[seed][-1:], header=False))

    def diverged(self, row: Row) -> None:
        """Nothing: rows of a diverged seed end."""

    def final(self, row: Row) -> None:
        """See `Logger`."""
        cells = _cells(row)
        self._path(row["seed"], "_final").write_text(_text(list(cells), [cells]), newline="")

    def show(self, seed: int, steps: int, images: Mapping[str, bytes], films: Sequence[Path] = ()) -> None:
        """Nothing: a table has no pictures."""

    def close(self) -> None:
        """Nothing: files are closed after every row."""

    def _keep(self, row: Row) -> bool:
        """Keep a row; True if the file needs a new header."""
        seed, cells = row["seed"], _cells(row)
        columns = self._columns.setdefault(seed, [])
        new = [name for name in cells if name not in columns]
        columns += new
        self._rows.setdefault(seed, []).append(cells)
        return bool(new)

    def _rewrite(self, seed: int) -> None:
        draft = self._path(seed).with_suffix(".draft")
        draft.write_text(_text(self._columns[seed], self._rows[seed]), newline="")
        draft.replace(self._path(seed))

    def _path(self, seed: int, suffix: str = "") -> Path:
        return self._folder / f"seed{seed}{suffix}.csv"


def _cells(row: Row) -> Row:
    """The row's numbers by column."""
    found: Row = {}
    for name, value in row.items():
        if isinstance(value, list):
            items = list(_leaves(value))
            if len(items) <= LONGEST:
                found |= {f"{name}/{i}": item for i, item in enumerate(items)}
        else:
            found[name] = value
    return found


def _leaves(value: object):
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _text(columns: Sequence[str], rows: Sequence[Row], header: bool = True) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
