"""Pages, tables and figures of a report, collected as text and bytes while they are made.

Conventions
-----------
- A book's `files` are what is to be written: name relative to the report's folder -> content.
- Whatever comes from data is escaped by the templates, and what is not seen but turns or hides the
  text around it is written out in every page; names of files are made harmless by `slug`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from evaluate.report import plots
from evaluate.report.tables import Sheet
from evaluate.report.writers.csv import to_csv
from evaluate.report.writers.html import TEMPLATES, environment
from evaluate.report.writers.latex import to_latex
from features.common.progress import duration
from features.common.terminal import shown

ASSETS = ("report.css", "report.js")
_LONGEST_STEM = 60


@dataclass(frozen=True)
class Shown:
    """A picture on a page, with the stem of its files."""

    inline: Markup
    stem: str
    caption: str


def slug(name: str) -> str:
    """A name for a file: what is harmless stays, anything else gives way to a digest.

    Examples
    --------
    >>> slug("xlsr-1b@12"), slug("<b>")
    ('xlsr-1b@12', '_b_-381c882d')
    """
    plain = re.sub(r"[^A-Za-z0-9._@+-]", "_", name)[:_LONGEST_STEM]
    if plain == name:
        return name
    return f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


class Book:
    """What a report's folder is to hold, begun with the files that all pages share.

    Parameters
    ----------
    study : str
        What stands above every page.
    nav : sequence of (file, title)
        Pages that every page leads to; none where there is one page alone.
    known : any
        More that every template knows.
    """

    def __init__(self, study: str, nav: Sequence[tuple[str, str]] = (), **known: Any) -> None:
        self._files: dict[str, str | bytes] = {
            name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ASSETS
        }
        self._environment = environment()
        self._environment.filters |= {"pretty": _pretty, "duration": duration}
        self._environment.globals |= {"study": study, "nav": nav, **known}

    def page(self, name: str, template: str, title: str, **context: Any) -> None:
        """Put a page into a file: what the template makes of the context."""
        found = self._environment.get_template(template)
        self._files[name] = shown(found.render(page=name, title=title, **context))

    def keep(self, *found: Sheet | None) -> list[Sheet]:
        """Put tables that have a name into files; what is there is given back."""
        there = [sheet for sheet in found if sheet is not None]
        for sheet in there:
            if sheet.name:
                self._files[f"tables/{sheet.name}.csv"] = to_csv(sheet)
                self._files[f"tables/{sheet.name}.tex"] = to_latex(sheet)
        return there

    def draw(self, stem: str, picture: plots.Picture, text: str) -> Shown:
        """Put a picture into files, and give it back for a page."""
        self.picture_files(stem, picture)
        return Shown(Markup(picture.inline()), stem, text)

    def picture_files(self, stem: str, picture: plots.Picture) -> None:
        """Put a picture into files: as SVG and as PDF."""
        self._files[f"figures/{stem}.svg"] = shown(picture.svg())
        self._files[f"figures/{stem}.pdf"] = picture.pdf()


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
