"""A table as HTML: as pages have it, by the same template.

Whatever comes from data is escaped by the template.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluate.report.tables import Sheet

TEMPLATES = Path(__file__).parents[1] / "templates"


def environment() -> Environment:
    """Of the templates: everything is escaped, and a name that is not known is an error.

    Returns
    -------
    jinja2.Environment
    """
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def to_html(sheet: Sheet) -> Markup:
    """The table, with links to its files where it has a name."""
    macros: Any = environment().get_template("macros.html").module
    return Markup(macros.table(sheet))
