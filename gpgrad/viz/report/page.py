"""One HTML file from a report's numbers: style, script, data and pictures are in it, and nothing is ever loaded."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpgrad.errors import SettingError
from gpgrad.plots.style import COLOURS

HERE = Path(__file__).parent
KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".gif": "image/gif"}
DASHES = ("none", "8 4", "8 3 2 3", "2 3")  # as in pictures, for lines of a drawing in a page


def pictures_of(folders: Sequence[Path]) -> list[Path]:
    """Pictures in the folders, in order of names; a PNG is left out where there is an SVG of its name."""
    found = [path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in KINDS]
    return [path for path in found if path.suffix != ".png" or path.with_suffix(".svg") not in found]


def page(found: Mapping[str, Any], pictures: Sequence[Path]) -> str:
    """The page. Raises SettingError for a picture that cannot be read."""
    runs, seeds = sum(len(e["runs"]) for e in found["entries"]), sum(len(e["seeds"]) for e in found["entries"])
    data = json.dumps({**found, "colours": COLOURS, "dashes": DASHES}, separators=(",", ":"))
    parts = {
        "title": html.escape(found["title"]),
        "summary": f"{runs} run{'s' * (runs != 1)}, {seeds} seed{'s' * (seeds != 1)}",
        "picture_link": '<a href="#pictures">Pictures</a> ' if pictures else "",
        "style": (HERE / "page.css").read_text(),
        "script": (HERE / "page.js").read_text(),
        "pictures": _figures(pictures) if pictures else "",
        "data": data.replace("<", "\\u003c"),  # no text of a run can end the script that holds it
    }
    # In one pass, so that what is filled in is never taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], (HERE / "page.html").read_text())


def _figures(pictures: Sequence[Path]) -> str:
    made = "\n".join(_figure(path) for path in pictures)
    title = '<h2 id="pictures-title">Pictures</h2>'
    head = f'<section id="pictures" aria-labelledby="pictures-title">\n{title}\n<div class="pictures">'
    return f"{head}\n{made}\n</div>\n</section>"


def _figure(path: Path) -> str:
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise SettingError(f"the picture {path} cannot be read: {error.strerror}") from None
    words = html.escape(f"{path.parent.parent.name}: {path.stem}" if path.parent.name == "pictures" else path.stem)
    source = f"data:{KINDS[path.suffix]};base64,{content}"
    return f'<figure><img src="{source}" alt="{words}" loading="lazy"><figcaption>{words}</figcaption></figure>'
