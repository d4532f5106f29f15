"""What stays of finished runs when their folders are gone: settings and rows, without checkpoints, beside the reports.

A report can so be made again, or grow by further seeds, wherever the results are: on another machine, from a checkout.
"""

from __future__ import annotations

import dataclasses
import gzip
import shutil
from collections.abc import Iterable
from pathlib import Path

from gpgrad import config
from gpgrad.config.schema import Config
from gpgrad.runs import logs, provenance, run_folder
from gpgrad.runs.run_folder import Run

RECORDS = "records"  # not `runs`, which version control leaves out
ROWS = ("metrics.jsonl", "final.jsonl", "timing.jsonl", "diverged.jsonl")


def scan(root: Path, results: Path) -> tuple[list[Run], list[str]]:
    """The runs in a folder and those kept beside the reports; of a run that is in both, the one in the folder."""
    here, problems = run_folder.scan(root)
    kept, others = run_folder.scan(_relative(results / RECORDS))
    known = {run.folder.name for run in here}
    return [*here, *(run for run in kept if run.folder.name not in known)], [*problems, *others]


def keep(found: Iterable[Run], results: Path) -> None:
    """Copy finished runs' settings and rows, rows packed, over what is kept of an earlier run of the same name."""
    shelf = results / RECORDS
    for run in found:
        if run.folder.resolve().parent == shelf.resolve() or not run.finished:
            continue
        folder, draft = shelf / run.folder.name, shelf / f"{run.folder.name}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if manifest := logs.read_manifest(run.folder):
            provenance.write(draft, provenance.public(manifest))
        for path in (run.folder / name for name in ROWS):
            if path.is_file():  # packed without a time in it, the same rows are the same file
                (draft / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        (draft / "config.yaml").write_text(config.dump(_anywhere(run.config)))  # last, as it makes a folder a run's
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)


def _anywhere(settings: Config) -> Config:
    """Without the folder of the machine it ran on."""
    return dataclasses.replace(settings, log=dataclasses.replace(settings.log, dir="runs"))


def _relative(path: Path) -> Path:
    """From where the program runs, so that reports name no machine's folders."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
