"""An HTML page as its elements, and what holds for every page of a report."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from evaluate.report.tables import Sheet
from evaluate.report.writers.html import environment

VOID = {"meta", "br", "link", "input"}
LINKS = ("src", "href", "xlink:href", "srcset", "data", "action")


class Page(HTMLParser):
    """Elements of a page with their attributes; fails on tags that are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif self._open and self._open[-1] != "style":
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def shown(self) -> str:
        """The text of the page, blanks as a browser has them."""
        return " ".join(" ".join(self.texts).split())


def read(folder: Path) -> dict[str, Page]:
    """Every page of a report, checked: name -> page."""
    pages = {}
    for path in sorted(folder.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        pages[path.name] = Page(text)
        check(path, text, pages[path.name])
    return pages


def check(path: Path, text: str, page: Page) -> None:
    """What holds for every page: nothing from outside, links that lead somewhere, named parts."""
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in LINKS:
            if attributes.get(name):
                link = urlsplit(attributes[name])
                assert not link.scheme, attributes
                assert not link.netloc, attributes
                if link.path:
                    assert (path.parent / unquote(link.path)).is_file(), attributes
                elif link.fragment:
                    assert link.fragment in ids, attributes
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            assert "url(" not in (value or "") or "url(#" in (value or "")
    assert "@import" not in text
    for attributes in page.all("script"):
        assert attributes.get("src") in ("report.js", "utterances.js", None)
        assert "src" in attributes or attributes["type"] == "application/json"
    assert all(one.get("scope") in ("row", "col") for one in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("title")) == 1 + len(page.all("svg"))
    assert len(page.all("h1")) == len(page.all("main")) == 1


def to_html(sheet: Sheet) -> str:
    """A table as pages have it."""
    macros: Any = environment().get_template("macros.html").module
    return str(macros.table(sheet))
