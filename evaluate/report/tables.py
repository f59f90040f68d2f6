"""A table, built once; `evaluate.report.writers` writes it for the terminal, pages, CSV and LaTeX.

Conventions
-----------
- A `Sheet` holds text as it is shown beside the numbers at full precision: pages, the terminal and
  LaTeX show the text, pages sort by the numbers, and CSV has the numbers.
- What a reader must know of a cell is in its `marks`, of a table in its `notes`: they go wherever
  the table goes. Nothing here is escaped: writers do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluate.scores.names import number
from evaluate.scores.records import Estimate

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
    note, detail : str
        Shown behind it, less prominently: on the page and the terminal; on the page alone.
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
    detail: str = ""
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
    strong : str
        What bold print means.
    notes : sequence of str
        Stand under it, wherever there is room for sentences: not in CSV.
    marks : sequence of str
        Of all its numbers: they stand in the header of the first column, in every medium.
    """

    title: str
    caption: str
    header: Sequence[str]
    blocks: Sequence[Sequence[Sequence[Cell]]]
    name: str = ""
    strong: str = ""
    notes: Sequence[str] = ()
    marks: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Marks of the table, a row's name or all numbers of a column are said there alone."""
        columns = [_shared_marks([row[i] for row in self.rows]) for i in range(len(self.header))]
        others = [[mark for mark in marks if mark not in self.marks] for marks in columns[1:]]
        names = [
            _with_marks(self.header[0], self.marks),
            *map(_with_marks, self.header[1:], others),
        ]
        object.__setattr__(self, "header", names)
        said = [[*marks, *self.marks] for marks in columns]
        blocks = [[_said_once(row, said) for row in rows] for rows in self.blocks]
        object.__setattr__(self, "blocks", blocks)

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
        cells = [row[column] for row in self.rows]
        plain = all(cell.low is None and not (cell.note or cell.detail) for cell in cells)
        return plain and self.has_numbers(column)


def _shared_marks(cells: Sequence[Cell]) -> list[str]:
    """The marks that all numbers of a column have."""
    found = [cell.marks for cell in cells if cell.value is not None]
    return [mark for mark in found[0] if all(mark in marks for marks in found)] if found else []


def _with_marks(name: str, marks: Sequence[str]) -> str:
    new = [mark for mark in marks if f"({mark})" not in name]
    return f"{name} ({', '.join(new)})" if new else name


def _said_once(row: Sequence[Cell], columns: Sequence[Sequence[str]]) -> list[Cell]:
    """A row without the marks that its name or a column's has."""
    first, *others = row
    kept = (
        [mark for mark in cell.marks if mark not in first.marks and mark not in marks]
        for cell, marks in zip(others, columns[1:], strict=True)
    )
    return [first, *(replace(cell, marks=marks) for cell, marks in zip(others, kept, strict=True))]


def text(value: Any) -> Cell:
    """A cell of text."""
    return Cell(str(value))


def count(value: int) -> Cell:
    """A cell with a whole number."""
    return Cell(str(value), value)


def plain(value: float | None, marks: Sequence[str] = ()) -> Cell:
    """A cell with a score of three decimals, and the marks of what it was computed of."""
    return Cell(number(value), value, marks=marks)


def entry(found: Estimate, note: str = "") -> Cell:
    """A cell with an estimate: its value, interval and marks."""
    value = number(found.value)
    return Cell(value, found.value, found.low, found.high, note, marks=found.marks)


def point(found: Estimate) -> Cell:
    """A cell with an estimate whose interval stands elsewhere."""
    return replace(entry(found), low=None, high=None)


def difference(found: Estimate) -> Cell:
    """A cell with a difference, its sign always there."""
    shown = "undefined" if found.value is None else f"{found.value:+.3f}"
    return Cell(shown, found.value, found.low, found.high, marks=found.marks)


def p_value(value: float | None, level: float = 0.0) -> Cell:
    """A cell with a p value, in bold up to a level."""
    if value is None:
        return plain(None)
    shown = "<0.0001" if value < 0.00005 else f"{value:.4f}"
    return Cell(shown, value, strong=value <= level)
