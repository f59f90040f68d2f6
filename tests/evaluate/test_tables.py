"""Tables of the report as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from evaluate.report import tables
from evaluate.report.tables import Cell, Sheet
from tests.evaluate import made


@pytest.fixture
def sheet() -> Sheet:
    """Models, a fusion, an interval that is not there, and names that mean harm."""
    rows = [
        [Cell(made.UNLUCKY, marks=["stale"]), Cell("0.123", 0.12345, 0.1, 0.2), Cell("7", 7)],
        [Cell("[b]_%"), Cell("undefined", None), Cell(tables.NONE)],
    ]
    fused = [[Cell("mean"), Cell("0.500", 0.5, strong=True), Cell("12", 12)]]
    return Sheet("Scores", "Scores of 5 % & more", ["run", "UAR", "n"], [rows, fused], "scores")


def test_csv_has_the_numbers_in_full_and_bounds_apart(sheet: Sheet) -> None:
    assert list(csv.reader(io.StringIO(tables.to_csv(sheet)))) == [
        ["run", "UAR", "UAR, low", "UAR, high", "UAR, bold", "n"],
        [f"{made.UNLUCKY} (stale)", "0.12345", "0.1", "0.2", "no", "7"],
        ["[b]_%", "", "", "", "no", ""],
        ["mean", "0.5", "", "", "yes", "12"],
    ]


def test_words_among_the_numbers_of_a_column_stay() -> None:
    sheet = Sheet("", "", ["size", "score"], [[[Cell("1", 1), Cell("masked")],
                                              [Cell("any"), Cell("undefined")]]])  # fmt: skip
    assert tables.to_csv(sheet) == "size,score\n1,masked\nany,undefined\n"


def test_latex_is_escaped_and_ruled(sheet: Sheet) -> None:
    assert tables.to_latex(sheet).splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Scores of 5 \% \& more}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"run & UAR & n \\",
        r"\midrule",
        r"{\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}, ''quoted''"
        r" (stale)} & 0.123 {[0.100, 0.200]} & {7} \\",
        r"{[b]\_\%} & {undefined} & {--} \\",
        r"\midrule",
        r"{mean} & {\textbf{0.500}} & {12} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_a_note_stands_under_the_table(sheet: Sheet) -> None:
    noted = replace(sheet, note="50 % & more")
    assert tables.to_latex(noted).splitlines()[-3:] == [
        r"\end{tabular}",
        r"\par\footnotesize 50 \% \& more",
        r"\end{table}",
    ]
    assert tables.to_csv(noted) == tables.to_csv(sheet)


def test_a_backslash_is_escaped_once() -> None:
    assert tables.latex("\\{~^\n|}") == (
        r"\textbackslash{}\{\textasciitilde{}\textasciicircum{} \textbar{}\}"
    )


def test_numbers_align_where_all_of_a_column_are(sheet: Sheet) -> None:
    assert [sheet.is_number(i) for i in range(3)] == [False, False, True]
    assert not sheet.filtered
