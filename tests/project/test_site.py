"""The documentation site: all pages are in its navigation, links lead somewhere, nothing is fetched when it is read."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.project.test_docs import DOCS, ROOT

SITE = ROOT / "docs"
TEXTS = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "configs" / "README.md"]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
MATHML = re.compile("<math.*?</math>", re.DOTALL)
WORDS_OF_README = 900


def leaves(nav) -> list[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [page for item in items for page in leaves(item)]


def settings() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def written(page: str) -> Path:
    """What a page of the site is made from."""
    if page.startswith("results/"):
        return ROOT / "experiments" / page
    notebook = (SITE / page).with_suffix(".py")
    return notebook if page.startswith("notebooks/") else SITE / page


def prose(text: str) -> str:
    """Markdown without code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


def broken(source: Path, target: str) -> bool:
    if target.startswith(("http://", "https://", "mailto:")):
        return False
    name, _, anchor = target.partition("#")
    path = (source.parent / name).resolve() if name else source
    if path.is_relative_to(SITE / "notebooks"):
        path = path.with_suffix(".py")
    return not path.exists() or (bool(anchor) and anchor not in anchors(path.read_text()))


def test_every_page_is_in_the_navigation():
    listed = leaves(settings()["nav"])
    notebooks = [path.with_suffix(".md") for path in SITE.glob("notebooks/*.py")]
    there = {path.relative_to(SITE).as_posix() for path in [*DOCS, *notebooks]}
    assert len(listed) == len(set(listed))
    assert there - set(listed) == set(), "pages that mkdocs.yml does not list"
    assert [page for page in listed if not written(page).exists()] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_and_pictures_have_words(page):
    links = LINK.findall(prose(page.read_text()))
    assert [target for _, _, target in links if broken(page, target)] == []
    assert [target for picture, words, target in links if picture and len(words.split()) < 3] == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One head, `two` words\n")
    page = tmp_path / "page.md"
    targets = ["other.md", "other.md#one-head-two-words", "nothing.md", "other.md#else", "https://example.org"]
    assert [broken(page, target) for target in targets] == [False, False, True, True, False]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= WORDS_OF_README


def test_citation_names_this_version():
    import gpgrad

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == gpgrad.__version__
    assert f"## {gpgrad.__version__}" in (ROOT / "CHANGELOG.md").read_text()


class Resources(HTMLParser):
    """Addresses that a browser requests by itself, pictures without words, and equations that are still TeX."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        loads = tag in ("script", "img", "iframe", "source", "video", "embed")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            loads = True
        if loads:
            self.requested += [given[name] for name in ("src", "href") if given.get(name)]
        if tag == "img" and not given.get("alt"):
            self.problems.append(f"picture without words: {given.get('src')}")
        if "arithmatex" in (given.get("class") or ""):
            self.problems.append("an equation that is not MathML")


@pytest.mark.slow
def test_the_site_is_built_strictly_and_requests_nothing(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(DOCS)
    for page in pages:
        found = Resources()
        found.feed(page.read_text())
        assert [each for each in found.requested if re.match("(https?:)?//", each)] == [], page
        assert found.problems == [], page
        assert [math for math in MATHML.findall(page.read_text()) if "\\" in math] == [], "TeX left in an equation"
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(SITE.glob("notebooks/*.py")), ids=lambda path: path.stem)
def test_notebooks_run(notebook, tmp_path):
    done = subprocess.run([sys.executable, str(notebook)], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
