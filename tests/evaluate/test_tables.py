"""A table in its four media: CSV, LaTeX, HTML and the terminal."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from evaluate.report import tables
from evaluate.report.tables import NONE, Cell, Sheet, text
from evaluate.report.writers.csv import to_csv
from evaluate.report.writers.latex import latex, to_latex
from evaluate.report.writers.terminal import to_terminal
from evaluate.scores.records import Estimate
from features.common.terminal import width_of
from tests.evaluate import made
from tests.evaluate.page import to_html


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
    assert list(csv.reader(io.StringIO(to_csv(sheet)))) == [
        ["run", "UAR", "UAR, low", "UAR, high", "UAR, bold", "n"],
        [f"{made.UNLUCKY} (stale)", "0.12345", "0.1", "0.2", "no", "7"],
        ["[b]_%", "", "", "", "no", ""],
        ["mean", "0.5", "", "", "yes", "12"],
    ]


def test_words_among_the_numbers_of_a_column_stay() -> None:
    sheet = Sheet("", "", ["size", "score"], [[[Cell("1", 1), Cell("masked")],
                                              [Cell("any"), Cell("undefined")]]])  # fmt: skip
    assert to_csv(sheet) == "size,score\n1,masked\nany,undefined\n"


def test_latex_is_escaped_and_ruled(sheet: Sheet) -> None:
    assert to_latex(sheet).splitlines() == [
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
    noted = replace(sheet, notes=["50 % & more"])
    assert to_latex(noted).splitlines()[-3:] == [
        r"\end{tabular}",
        r"\par\footnotesize 50 \% \& more",
        r"\end{table}",
    ]
    assert to_csv(noted) == to_csv(sheet)


def test_a_backslash_is_escaped_once() -> None:
    assert latex("\\{~^\n|}") == (
        r"\textbackslash{}\{\textasciitilde{}\textasciicircum{} \textbar{}\}"
    )


def test_numbers_align_where_all_of_a_column_are(sheet: Sheet) -> None:
    assert [sheet.is_number(i) for i in range(3)] == [False, False, True]
    assert not sheet.filtered


# -- the terminal ----------------------------------------------------------------------------


def score(value: float, **more: Any) -> Cell:
    return Cell(f"{value:.3f}", value, value - 0.05, value + 0.05, **more)


@pytest.fixture
def scores() -> Sheet:
    """Scores over few speakers, one of fewer rows than the rest, and many members."""
    rows = [
        [text("one"), score(0.5, note="8 speakers", strong=True), text(" + ".join("abcdefgh" * 3))],
        [text("two (of 3)"), score(0.25, note="n = 7; 8 speakers"), text("a")],
        [text("three"), Cell(tables.NONE), text(tables.NONE)],
    ]
    return Sheet("", "What it is", ["run", "test UAR", "members"], [rows[:1], rows[1:]],
                 strong="the best", notes=["test: few rows"])  # fmt: skip


def test_on_a_terminal_wide_columns_stand_below_their_row(scores: Sheet) -> None:
    assert to_terminal(scores, 50).splitlines() == [
        "What it is",
        "run         test UAR (8 speakers)",
        "----------------------------------------",
        "one         0.500 [0.450, 0.550] *",
        "    members: a + b + c + d + e + f + g + h + a + b",
        "      + c + d + e + f + g + h + a + b + c + d + e",
        "      + f + g + h",
        "----------------------------------------",
        "two (of 3)  0.250 [0.200, 0.300] (n = 7)",
        "    members: a",
        "three       -",
        "* the best",
        "test: few rows",
    ]


def test_on_a_wide_terminal_every_row_has_one_line(scores: Sheet) -> None:
    lines = to_terminal(scores, 200).splitlines()
    assert len(lines) == 1 + 1 + 2 + 3 + 2
    assert lines[3].startswith("one         0.500 [0.450, 0.550] *        a + b + c + d")


def test_long_names_stand_above_their_row() -> None:
    rows = [
        [text(name), score(0.5), score(0.6)] for name in ("short", "a name of thirty letters, or")
    ]
    sheet = Sheet("", "", ["run", "devel", "test"], [rows])
    assert to_terminal(sheet, 66).splitlines()[3:] == [
        "short             0.500 [0.450, 0.550]  0.600 [0.550, 0.650]",
        "a name of thirty letters, or",
        "                  0.500 [0.450, 0.550]  0.600 [0.550, 0.650]",
    ]


@pytest.mark.parametrize("width", [32, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_interval_is_broken(width: int) -> None:
    names = ["wav2vec2-tiny (untrained)", "\u6012\u308a" * 8, "fused: \x1b[2J"]
    rows = [[text(name), *(score(0.1 * i, marks=["optimistic"] * (i == 2)) for i in range(5))]
            for name in names]  # fmt: skip
    header = ["run", *(f"devel (optimistic), score {i}" for i in range(5))]
    written = to_terminal(Sheet("", "Scores of all " * 9, header, [rows]), width)
    assert max(map(width_of, written.splitlines())) <= width
    assert "\x1b" not in written
    for i in range(5):
        assert written.count(score(0.1 * i).bounds) == 3


def test_every_medium_has_every_mark_and_note() -> None:
    rows = [[text("one"), score(0.5, marks=["optimistic"])], [text("two"), score(0.4)]]
    sheet = Sheet("", "", ["run", "UAR"], [rows], "scores", "the best", ["few rows"])
    for written in (to_latex(sheet), to_html(sheet), to_terminal(sheet, 80)):
        assert written.count("optimistic") == 1
        assert written.count("few rows") == written.count("the best") == 1


def test_a_page_has_what_it_has_room_for_behind_a_cell() -> None:
    sheet = Sheet("", "", ["run", "UAR"], [[[text("one"), score(0.5, note="a", detail="b")]]])
    assert "a; b</span>" in to_html(sheet)
    assert to_terminal(sheet, 80).splitlines()[-1] == "one  0.500 [0.450, 0.550] (a)"


def test_a_mark_is_said_once() -> None:
    """At the run that has it, in the header where all numbers have it, else in the cell."""
    known, own = Estimate(0.5, 0.4, 0.6, marks=("optimistic",)), Estimate(0.7)
    rows = [
        [Cell("one"), tables.entry(known), tables.entry(known)],
        [
            Cell("two", marks=["stale"]),
            tables.entry(known),
            replace(tables.entry(own), marks=["stale"]),
        ],
        [Cell("three"), Cell(NONE), Cell(NONE)],
    ]
    sheet = Sheet("t", "c", ["run", "devel", "test"], [rows])
    assert sheet.header == ["run", "devel (optimistic)", "test"]
    assert [[cell.marks for cell in row[1:]] for row in sheet.rows] == [
        [[], ["optimistic"]], [[], []], [[], []],
    ]  # fmt: skip
    assert replace(sheet, caption="d").header == sheet.header
    table = list(csv.DictReader(io.StringIO(to_csv(sheet))))
    assert [row["test, marks"] for row in table] == ["optimistic", "", ""]
    assert "devel (optimistic), marks" not in table[0]


def test_of_columns_as_wide_as_each_other_the_first_stays() -> None:
    cells = [text("mfcc"), score(0.5, note="5 speakers"), score(0.6, note="5 speakers")]
    lines = to_terminal(Sheet("", "", ["run", "UAR", "WA"], [[cells]]), 60).splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["mfcc", "WA:"]
    assert "0.600" not in lines[-2]


def test_marks_of_a_table_stand_in_its_first_header_in_every_medium() -> None:
    row = [text("a"), Cell("0.500", 0.5, marks=["optimistic", "stale"]), Cell("3", 3)]
    sheet = Sheet("", "", ["class", "recall", "n"], [[row]], "classes", marks=["optimistic"])
    assert sheet.header == ["class (optimistic)", "recall (stale)", "n"]
    assert sheet.rows[0][1].marks == []
    assert to_csv(sheet) == "class (optimistic),recall (stale),n\na,0.5,3\n"
    for write in (to_latex, to_html, lambda table: to_terminal(table, 80)):
        written = str(write(sheet))
        assert written.count("class (optimistic)") == written.count("optimistic") == 1
