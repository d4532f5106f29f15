"""What MkDocs does besides Markdown: results as pages, verdicts beside figures, notebooks, equations as MathML.

Nothing here is needed when the site is read: pages request nothing from the network.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

import jupytext
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from gpgrad import config
from gpgrad.cli import setting_help

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
SHIM = "https://unpkg.com/iframe-worker/shim"
SETTINGS = re.compile(r"<!-- settings: (\w+) (\w+) -->")
NAMED = re.compile(r"`(\w+)`")
MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the reports of `experiments/results` with their pictures, and each notebook as a page."""
    for path in sorted(RESULTS.rglob("*")):
        if path.suffix in (".md", ".png", ".gif") and "records" not in path.parts:
            name = f"results/{path.relative_to(RESULTS).as_posix()}"
            listed = InclusionLevel.INCLUDED if path.name == "RESULTS.md" else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, name, abs_src_path=str(path), inclusion=listed))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        text = jupytext.writes(jupytext.read(path), "md")
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text.partition("---\n\n")[2] or text))
        files.remove(files.src_uris[f"notebooks/{path.name}"])
    return files


def on_page_markdown(text: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to `experiments/results` at its pages; give the figures of the papers their verdicts."""
    text = SETTINGS.sub(lambda found: settings(found[1], found[2]), text)
    if page.file.src_uri == "figures.md":
        text = with_verdicts(text, verdicts((RESULTS / "RESULTS.md").read_text()))
    here = Path(page.file.src_uri).parent.as_posix()
    return re.sub(r"\]\((?:\.\./)*experiments/results/", f"]({os.path.relpath('results', here)}/", text)


def on_page_content(text: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace TeX by MathML."""

    def mathml(found: re.Match[str]) -> str:
        display = "block" if found[1] == "div" else "inline"
        return convert(html.unescape(found[2].strip()), display=display)

    return MATH.sub(mathml, text)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Load the shim with which search works from files (iframe-worker 1.0.4, MIT) from the site itself."""
    return output.replace(SHIM, get_relative_url("assets/iframe-worker.js", page.url))


def on_post_template(output_content: str, *, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page of a missing page."""
    return output_content.replace(SHIM, "/assets/iframe-worker.js")


def settings(kind: str, name: str) -> str:
    """A table of the settings of a method or environment, from its maker's signature and docstring."""
    sentences = setting_help.of_part(kind, name)
    rows = []
    for key, (_, default) in config.part_options(kind, name).items():
        meaning = sentences[key].replace("|", "\\|")
        rows.append(f"| `--{kind}.{key}` | `{default if default != '' else repr('')}` | {meaning} |")
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) if rows else "None of its own."


def verdicts(results: str) -> dict[str, str]:
    """What RESULTS.md says of each experiment, as a cell of a table."""
    found = {}
    for line in results.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if report := re.match(r"\[((\w+)-\w+)\]", cells[0]):
            said = cells[6] if len(cells) > 6 and cells[6] else "report"
            found[report[2]] = f"[{said}](results/{report[1]}/README.md)"
        elif len(cells) == 3 and (name := NAMED.fullmatch(cells[0])):
            found[name[1]] = "needs StarCraft II" if "not testable" in cells[2] else "not run yet"
    return found


def with_verdicts(text: str, found: dict[str, str]) -> str:
    """The page's tables with a further column: the verdicts of the experiments that a row names."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("|---"):
            lines[i] += "---|"
        elif line.startswith("|") and lines[i + 1 : i + 2] and lines[i + 1].startswith("|---"):
            lines[i] += " verdicts |"
        elif line.startswith("|"):
            told = [f"`{name}`: {found[name]}" for name in NAMED.findall(line) if name in found]
            lines[i] += f" {'<br>'.join(told)} |"
    return "\n".join(lines)
