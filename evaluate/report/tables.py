"""A table of the report in its forms: rows for a page, CSV, and LaTeX with booktabs.

Conventions
-----------
- A `Sheet` holds text as it is shown beside the numbers at full precision: the page shows the text
  and sorts by the numbers, CSV has the numbers, LaTeX the text. In CSV a score that is undefined or
  not there is empty.
- Nothing here is escaped before it is written: pages escape in their templates, `latex` here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluate.scores.score import number
from features.common.terminal import shown

NONE = "–"
"""Stands where there is no value."""
WITHOUT = (NONE, number(None))
"""What cells of a column of numbers show that have none."""
FILTER_FROM = 6
"""Tables of so many rows can be filtered on the page."""
WIDE_FROM = 9
"""Tables of so many columns are set closer on the page."""


@dataclass(frozen=True)
class Cell:
    """What stands in a row and column.

    Attributes
    ----------
    text : str
        As it is shown.
    value, low, high : float, optional
        The number and its bounds, at full precision.
    note : str
        Shown behind it, less prominently; on the page alone.
    marks : sequence of str
        What a reader must know, wherever the table goes.
    href, audio : str
        Where the text leads; what can be heard.
    strong : bool
        Printed in bold.
    """

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    marks: Sequence[str] = ()
    href: str = ""
    audio: str = ""
    strong: bool = False

    @property
    def bounds(self) -> str:
        """`[low, high]`, or nothing."""
        return "" if self.low is None else f"[{number(self.low)}, {number(self.high)}]"

    @property
    def marked(self) -> str:
        """The text with its marks, for plain text."""
        return f"{self.text} ({', '.join(self.marks)})" if self.marks else self.text


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes
    ----------
    title, caption : str
        A few words; all that a reader needs to know.
    header : sequence of str
        Names of the columns; the first is that of the rows' names.
    blocks : sequence of sequence of rows
        Rows, each a sequence of `Cell`; a rule is between blocks.
    name : str
        Stem of its files; empty for a table of the page alone.
    note : str
        Stands under it, on the page and in LaTeX.
    """

    title: str
    caption: str
    header: Sequence[str]
    blocks: Sequence[Sequence[Sequence[Cell]]]
    name: str = ""
    note: str = ""

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The rows of all blocks."""
        return [row for block in self.blocks for row in block]

    @property
    def filtered(self) -> bool:
        """Whether the page offers to filter the rows."""
        return len(self.rows) >= FILTER_FROM

    @property
    def wide(self) -> bool:
        """Whether the page sets the table closer, to have room for its columns."""
        return len(self.header) >= WIDE_FROM

    def has_numbers(self, column: int) -> bool:
        """Whether a column holds numbers and nothing else."""
        cells = [row[column] for row in self.rows]
        return any(c.value is not None for c in cells) and all(
            c.value is not None or c.text in WITHOUT for c in cells
        )

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers without bounds, which align at the right."""
        plain = all(row[column].low is None and not row[column].note for row in self.rows)
        return plain and self.has_numbers(column)


def text(value: Any) -> Cell:
    """A cell of text."""
    return Cell(str(value))


def count(value: int) -> Cell:
    """A cell with a whole number."""
    return Cell(str(value), value)


def plain(value: float | None) -> Cell:
    """A cell with a score of three decimals."""
    return Cell(number(value), value)


def entry(found: Mapping[str, Any], note: str = "") -> Cell:
    """A cell with a score and its interval, as `scores.json` has them."""
    low, high = found.get("low"), found.get("high")
    return Cell(number(found["value"]), found["value"], low, high, note)


def difference(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    """A cell with a difference, its sign always there."""
    return Cell("undefined" if value is None else f"{value:+.3f}", value, low, high)


def p_value(value: float | None, level: float = 0.0) -> Cell:
    """A cell with a p value, in bold up to a level."""
    if value is None:
        return plain(None)
    shown = "<0.0001" if value < 0.00005 else f"{value:.4f}"
    return Cell(shown, value, strong=value <= level)


def to_csv(sheet: Sheet) -> str:
    """The table as CSV, numbers at full precision; bounds and bold print have their own columns."""
    columns: list[list[str]] = []
    for i, name in enumerate(sheet.header):
        cells = [row[i] for row in sheet.rows]
        numeric = sheet.has_numbers(i)
        columns.append([name, *(_csv_cell(cell, numeric) for cell in cells)])
        if any(cell.low is not None for cell in cells):
            columns.append([f"{name}, low", *(_or_empty(cell.low) for cell in cells)])
            columns.append([f"{name}, high", *(_or_empty(cell.high) for cell in cells)])
        if any(cell.strong for cell in cells):
            columns.append([f"{name}, bold", *("yes" if c.strong else "no" for c in cells)])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True))
    return out.getvalue()


def _csv_cell(cell: Cell, numeric: bool) -> str:
    if cell.value is not None:
        return repr(cell.value)
    return "" if numeric and cell.text in WITHOUT else cell.marked


def _or_empty(value: float | None) -> str:
    return "" if value is None else repr(value)


def to_latex(sheet: Sheet) -> str:
    r"""The table as a LaTeX `table` that wants `\usepackage{booktabs}` alone."""
    columns = "".join("r" if sheet.has_numbers(i) else "l" for i in range(len(sheet.header)))
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(sheet.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row([latex(name) for name in sheet.header]),
    ]
    for block in sheet.blocks:
        lines.append(r"\midrule")
        lines += [_latex_row([_latex_cell(cell) for cell in row]) for row in block]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if sheet.note:
        lines.append(rf"\par\footnotesize {latex(sheet.note)}")
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    shown = latex(cell.marked)
    shown = rf"\textbf{{{shown}}}" if cell.strong else shown
    # Braces: a bracket at the start of a row would be read as the length of the line break.
    return f"{shown} {{{cell.bounds}}}" if cell.bounds else f"{{{shown}}}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    NONE: "--",
    **{one: rf"\{one}" for one in "&%$#_{}"},
}
_SPECIAL = re.compile("|".join(re.escape(one) for one in _LATEX))


def latex(text: str) -> str:
    r"""Escape text for LaTeX.

    Examples
    --------
    >>> print(latex('50% of <a_b> & {c}'))
    50\% of \textless{}a\_b\textgreater{} \& \{c\}
    """
    return _SPECIAL.sub(lambda found: _LATEX[found.group()], shown(" ".join(text.split())))
