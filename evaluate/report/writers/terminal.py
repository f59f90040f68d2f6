"""A table as lines of a terminal, no wider than it is.

Conventions
-----------
- Columns that have no room stand below their row, by name. Names of rows that are too long stand
  above their row. Nothing is cut, and no number or interval is broken.
- `*` is bold print. What all numbers of a column have as a note or mark stands in its header, once.
- A value that is not there is `-`: these lines are printed where only ASCII may be at hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluate.report.tables import NONE, Cell, Sheet
from features.common.terminal import folded, padded, shown, width_of

BETWEEN = "  "
LEAST_NAME = 16
"""Columns that names of rows have at least, before other columns give way to them."""
LONG = 24
"""Columns that a score with its interval takes; what is wider is text."""
BELOW = "    "
"""Begins the lines below a row."""


@dataclass(frozen=True)
class _Column:
    """A column in words.

    Attributes
    ----------
    header : str
        With what all numbers of the column have in common.
    cells : sequence of str
        A text a row.
    right : bool
        Whether its cells end in one line.
    width : int
        Of the widest cell, or word of the header; more where there is room.
    """

    header: str
    cells: Sequence[str]
    right: bool
    width: int

    def cell(self, row: int) -> str:
        """The text of a row, as wide as all."""
        return padded(self.cells[row], self.width, right=self.right)


def to_terminal(sheet: Sheet, width: int) -> str:
    """The table as lines: caption, header, rows with a rule above each block, notes.

    Parameters
    ----------
    sheet : Sheet
    width : int
        Columns of the terminal. A word, number or interval that is wider is not broken.

    Returns
    -------
    str
    """
    names, *rest = (_column(sheet, i) for i in range(len(sheet.header)))
    name_width, beside = _layout(names, rest, width)
    below = [column for column in rest if column not in beside]
    beside = _widened(beside, width - name_width)
    shown_width = name_width + sum(len(BETWEEN) + column.width for column in beside)
    lines = [*folded(shown(sheet.caption), width), *_header(names, name_width, beside)]
    rows = iter(range(len(sheet.rows)))
    for block in sheet.blocks:
        lines.append("-" * min(width, shown_width))
        for row in itertools.islice(rows, len(block)):
            lines += _row(names.cells[row], name_width, beside, row, width)
            lines += _below(below, row, width)
    notes = [*([f"* {sheet.strong}"] if sheet.strong else []), *sheet.notes]
    lines += [line for note in notes for line in folded(shown(note), width, "  ")]
    return "\n".join(line.rstrip() for line in lines)


def _column(sheet: Sheet, index: int) -> _Column:
    cells = [row[index] for row in sheet.rows]
    shared = _shared(cells) if index else []
    extra = f" ({', '.join(shared)})" if shared else ""
    header = shown(sheet.header[index] + extra)
    texts = [_text(cell, shared) for cell in cells]
    lines = folded(header, 0) if index else [header]
    width = max(map(width_of, [*lines, *texts]))
    return _Column(header, texts, sheet.is_number(index), width)


def _shared(cells: Sequence[Cell]) -> list[str]:
    """The notes and marks that all numbers of a column have, where it has several."""
    known = [_extras(cell) for cell in cells if cell.value is not None]
    if len(known) < 2:
        return []
    return [extra for extra in known[0] if all(extra in extras for extras in known)]


def _extras(cell: Cell) -> list[str]:
    return [*filter(None, cell.note.split("; ")), *cell.marks]


def _text(cell: Cell, shared: Sequence[str]) -> str:
    """A cell in words, but for what its header says."""
    value = "-" if cell.text == NONE else cell.text
    text = " ".join(filter(None, [value, cell.bounds, "*" if cell.strong else ""]))
    extras = [extra for extra in _extras(cell) if extra not in shared]
    return shown(f"{text} ({', '.join(extras)})" if extras else text)


def _layout(names: _Column, rest: Sequence[_Column], width: int) -> tuple[int, list[_Column]]:
    """How wide names are, and which columns stand beside them.

    Long texts give way first, the longest of them and the last of those, then the columns at the
    right.
    """
    beside = list(rest)
    while beside:
        room = width - sum(len(BETWEEN) + column.width for column in beside)
        if names.width <= room:
            break
        texts = [column for column in beside if column.width > LONG]
        widest = max([names, *beside], key=lambda column: column.width)
        if widest is names and room >= LEAST_NAME:
            fitting = [n for n in map(width_of, names.cells) if n <= room]
            return max([LEAST_NAME, *fitting]), beside
        longest = max((column.width for column in texts), default=0)
        beside.remove([column for column in texts or beside if column.width >= longest][-1])
    return names.width, beside


def _widened(columns: Sequence[_Column], room: int) -> list[_Column]:
    """The columns with their headers in one line, as many as there is room for."""
    left = room - sum(len(BETWEEN) + column.width for column in columns)
    found = []
    for column in columns:
        more = max(0, width_of(column.header) - column.width)
        found.append(replace(column, width=column.width + more) if more <= left else column)
        left -= more if more <= left else 0
    return found


def _header(names: _Column, name_width: int, beside: Sequence[_Column]) -> list[str]:
    """The lines of the header; short names of columns stand at their foot."""
    cells = [(name_width, folded(names.header, name_width), False)]
    cells += [(c.width, folded(c.header, c.width), c.right) for c in beside]
    height = max(len(lines) for _, lines, _ in cells)
    return [
        BETWEEN.join(
            padded(([""] * (height - len(lines)) + lines)[i], width, right=right)
            for width, lines, right in cells
        )
        for i in range(height)
    ]


def _row(name: str, name_width: int, beside: Sequence[_Column], row: int, width: int) -> list[str]:
    """A row's name and cells, on a line each where the name is too long."""
    cells = [column.cell(row) for column in beside]
    if not cells or width_of(name) > name_width:
        lines = folded(name, width, BELOW)
        return [*lines, BETWEEN.join([" " * name_width, *cells])] if cells else lines
    return [BETWEEN.join([padded(name, name_width), *cells])]


def _below(columns: Sequence[_Column], row: int, width: int) -> list[str]:
    """What a row has in columns that have no room, by name, as many in a line as it takes."""
    lines: list[str] = []
    for column in columns:
        if column.cells[row] in ("", "-"):
            continue
        part = folded(f"{column.header}: {column.cells[row]}", width - len(BELOW), "  ")
        longer = f"{lines[-1]}; {part[0]}" if lines else ""
        if lines and len(part) == 1 and width_of(longer) <= width - len(BELOW):
            lines[-1] = longer
        else:
            lines += part
    return [BELOW + line for line in lines]
