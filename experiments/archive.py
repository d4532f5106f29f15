"""Records of finished runs: settings and rows without checkpoints, kept in `results/records`.

Reports can be rebuilt from them, or extended by further seeds, without the run folders.
"""

from __future__ import annotations

import dataclasses
import gzip
import shutil
from collections.abc import Iterable
from pathlib import Path

from gpgrad.config import dump
from gpgrad.config.schema import Config
from gpgrad.runs import provenance, run_folder
from gpgrad.runs.run_folder import RunFolder

RECORDS = "records"  # not `runs`, which version control ignores
ROWS = ("metrics.jsonl", "final.jsonl", "timing.jsonl", "diverged.jsonl")


def scan(root: Path, results: Path) -> tuple[list[RunFolder], list[str]]:
    """The runs in `root` and the recorded runs in `results`, without duplicates, and the problems met."""
    here, problems = run_folder.scan(root)
    kept, others = run_folder.scan(_relative(results / RECORDS))
    known = {run.folder.name for run in here}
    return [*here, *(run for run in kept if run.folder.name not in known)], [*problems, *others]


def keep(found: Iterable[RunFolder], results: Path) -> None:
    """Record finished runs: copy their settings and gzipped rows, replacing an earlier record of the same name."""
    records = results / RECORDS
    for run in found:
        if run.folder.resolve().parent == records.resolve() or not run.finished:
            continue
        folder, draft = records / run.folder.name, records / f"{run.folder.name}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if manifest := run.manifest:
            provenance.write(draft, provenance.public(manifest))
        for path in (run.folder / name for name in ROWS):
            if path.is_file():  # without a timestamp, so that the same rows give the same file
                (draft / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        (draft / "config.yaml").write_text(dump(_anywhere(run.config)))  # last, since it marks a folder as a run
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)


def _anywhere(config: Config) -> Config:
    """The settings without the machine's folder for runs."""
    return dataclasses.replace(config, log=dataclasses.replace(config.log, dir="runs"))


def _relative(path: Path) -> Path:
    """The path relative to the working directory, so that reports do not name a machine's folders."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
