"""`report`: runs on one page to look through, without a network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpgrad.cli.arguments import options, path_of
from gpgrad.errors import SettingError, suggest

USAGE = """\
  report RUN... [--out FILE.html] [--pictures FOLDER,...]
                                                      curves, tables, pictures, settings and commands on one page"""
OPTIONS = {
    "out FILE": "name of the page, by default report.html",
    "pictures FOLDER,...": "folders of further pictures for the page",
}
KNOWN = ("out", "pictures")
LARGE = 20e6  # bytes from which a page is slow to open


def main(arguments: Sequence[str]) -> int:
    """Write the page and say where it is. Pictures are those in RUN/pictures and in the given folders."""
    count = next((i for i, token in enumerate(arguments) if token.startswith("--")), len(arguments))
    folders, given = [path_of(name) for name in arguments[:count]], options(arguments[count:])
    if not folders:
        raise SettingError("report needs folders of runs, as in: gpgrad report runs/A runs/B")
    for name in given:
        if name not in KNOWN:
            raise SettingError(f"unknown option --{name}{suggest(name, KNOWN)}")
    out = path_of(given.get("out", "report.html"))
    if out.suffix != ".html":
        raise SettingError(f"--out must end in .html (got {str(out)!r})")
    extra = [path_of(name) for name in given["pictures"].split(",")] if "pictures" in given else []
    for folder in extra:
        if not folder.is_dir():
            raise SettingError(f"--pictures must be folders, and there is no {folder}")
    from gpgrad import plots
    from gpgrad.viz import report

    found = report.document(folders)
    with tempfile.TemporaryDirectory() as drawn:
        pictures = report.heat_pictures(report.collect(folders), Path(drawn)) if plots.installed() else []
        pictures += report.pictures_of([*(folder / "pictures" for folder in folders), *extra])
        text = report.page(found, pictures)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    size = out.stat().st_size
    warning = "; it is large, which other pictures would mend" if size > LARGE else ""
    print(f"{out}: {len(found['entries'])} configurations, {len(pictures)} pictures, {size / 1e6:.2f} MB{warning}")
    if not plots.installed():
        print("heat maps are left out: they need matplotlib, pip install 'gpgrad[plot]'")
    return 0
