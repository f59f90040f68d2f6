"""A table as LaTeX with booktabs: text as it is shown, marks and notes with it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluate.report.tables import NONE, Cell, Sheet
from features.common.terminal import shown


def to_latex(sheet: Sheet) -> str:
    r"""The table as a LaTeX `table` that wants `\usepackage{booktabs}` alone.

    Parameters
    ----------
    sheet : Sheet

    Returns
    -------
    str
    """
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
    bold = [f"Bold: {sheet.strong}"] if sheet.strong else []
    lines += [rf"\par\footnotesize {latex(note)}" for note in (*bold, *sheet.notes)]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    words = latex(cell.marked)
    words = rf"\textbf{{{words}}}" if cell.strong else words
    # Braces: a bracket at the start of a row would be read as the length of the line break.
    return f"{words} {{{cell.bounds}}}" if cell.bounds else f"{{{words}}}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    NONE: "--",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}
_SPECIAL = re.compile("|".join(map(re.escape, _LATEX)))


def latex(text: str) -> str:
    r"""Escape text for LaTeX.

    Examples
    --------
    >>> print(latex('50% of <a_b> & {c}'))
    50\% of \textless{}a\_b\textgreater{} \& \{c\}
    """
    return _SPECIAL.sub(lambda found: _LATEX[found.group()], shown(" ".join(text.split())))
