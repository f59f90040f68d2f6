"""A table as CSV: numbers at full precision, for other programs.

A score that is undefined or not there is empty; bounds and bold print have columns of their own.
"""

from __future__ import annotations

import csv
import io

from evaluate.report.tables import WITHOUT, Cell, Sheet


def to_csv(sheet: Sheet) -> str:
    """The table as CSV.

    Parameters
    ----------
    sheet : Sheet

    Returns
    -------
    str
        Bounds, marks and bold have columns of their own, where a column has any.
    """
    columns: list[list[str]] = []
    for i, name in enumerate(sheet.header):
        cells = [row[i] for row in sheet.rows]
        numeric = sheet.has_numbers(i)
        columns.append([name, *(_csv_cell(cell, numeric) for cell in cells)])
        if any(cell.low is not None for cell in cells):
            columns.append([f"{name}, low", *(_or_empty(cell.low) for cell in cells)])
            columns.append([f"{name}, high", *(_or_empty(cell.high) for cell in cells)])
        if numeric and any(cell.marks for cell in cells):
            columns.append([f"{name}, marks", *(", ".join(cell.marks) for cell in cells)])
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
