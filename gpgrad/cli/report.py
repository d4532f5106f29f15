"""`report`: runs on one page to look through, without a network."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from gpgrad.cli.arguments import FOLDER, PATH, path_of
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

LARGE = 20e6  # bytes from which a page is slow to open


@command(
    "report",
    "curves, tables, pictures, settings and commands on one page",
    needs="folders of runs, as in: gpgrad report runs/A runs/B",
)
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=FOLDER)
@click.option("--out", type=PATH, default="report.html", metavar="FILE", help="name of the page")
@click.option("--pictures", metavar="FOLDER,...", help="folders of further pictures for the page")
def main(folders: tuple[Path, ...], out: Path, pictures: str | None) -> int:
    """Write one page about runs, with the pictures in RUN/pictures and in further folders, and print where it is."""
    if out.suffix != ".html":
        raise SettingError(f"--out must end in .html (got {str(out)!r})")
    extra = [path_of(name) for name in pictures.split(",")] if pictures is not None else []
    for folder in extra:
        if not folder.is_dir():
            raise SettingError(f"--pictures must be folders, and there is no {folder}")
    from gpgrad import plots
    from gpgrad.viz import report

    found = report.document(folders)
    with tempfile.TemporaryDirectory() as drawn:
        drawings = report.heat_pictures(report.collect(folders), Path(drawn)) if plots.installed() else []
        drawings += report.pictures_of([*(folder / "pictures" for folder in folders), *extra])
        text = report.page(found, drawings)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    size = out.stat().st_size
    warning = "; it is large, which other pictures would mend" if size > LARGE else ""
    print(f"{out}: {len(found['entries'])} configurations, {len(drawings)} pictures, {size / 1e6:.2f} MB{warning}")
    if not plots.installed():
        print("heat maps are left out: they need matplotlib, pip install 'gpgrad[plot]'")
    return 0
