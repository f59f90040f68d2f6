"""The page of two folders of runs side by side."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.__main__ import parser
from evaluate.report import write as report
from evaluate.report.printed import comparison_text
from evaluate.scores import names, score, side_by_side
from features.common.errors import RunError
from features.common.folders import Folders
from tests.evaluate import made, page

OTHER = '<b>"b" & co'
"""A folder's name that would do harm in a page."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Runs of `a` and of a recipe with a harmful name, which differ in a model and the scaler."""
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 100\n")
    a = recipe.model_copy(update={"name": "a"})
    head = recipe.head.model_copy(update={"scalers": ["minmax"]})
    b = recipe.model_copy(update={"name": OTHER, "head": head})
    runs = tmp_path / "runs"
    for seed, one in enumerate((a, b)):
        for member in ("one", "mean"):
            frame = made.classification()
            frame["pred"] = np.random.default_rng(seed).choice(made.LABELS, len(frame))
            made.finish(one, runs, member, frame)
    made.finish(a, runs, "two", made.classification())
    for one in (a, b):
        score.score_all(one, Folders(runs=runs))
    return runs / "a", runs / OTHER


def the_page(folder: Path) -> page.Page:
    """The one page of a report, checked as all pages are."""
    ((name, found),) = page.read(folder).items()
    assert name == "index.html"
    return found


def test_the_page_has_what_the_terminal_has(folders: tuple[Path, Path]) -> None:
    found = side_by_side.compare(*folders)
    path = report.make_comparison(found)
    assert path.parent.parent == folders[0] / "report"
    shown = the_page(path.parent).shown
    for row in found.table:
        assert f"{row.score_a:.3f}" in shown
        assert f"{row.difference.value:+.3f}" in shown
        assert f"[{row.difference.low:.3f}, {row.difference.high:.3f}]" in shown
        assert f"{row.p_holm:.4f}" in shown
    (setting,) = found.settings
    for text in (setting.key, setting.a, setting.b, "two: in A alone", *map(str, folders)):
        assert text in shown
    assert "Recall of every class, test" in shown
    assert "So few speakers cannot show a difference: p is 0.062 at least." in shown


def test_its_tables_are_files_at_full_precision(folders: tuple[Path, Path]) -> None:
    found = side_by_side.compare(*folders)
    tables = report.make_comparison(found).parent / "tables"
    stems = {"differences-test-uar", "differences-test-wa", "class-test", "settings"}
    assert {one.name for one in tables.iterdir()} == {
        f"{stem}.{kind}" for stem in stems for kind in ("csv", "tex")
    }
    table = pd.read_csv(tables / "differences-test-uar.csv")
    rows = [row for row in found.table if row.metric == "uar"]
    for column, get in (
        ("A", lambda row: row.score_a),
        ("A minus B", lambda row: row.difference.value),
        ("A minus B, high", lambda row: row.difference.high),
        ("p, Holm", lambda row: row.p_holm),
    ):
        assert table[column].tolist() == [get(row) for row in rows]
    assert table["run"].tolist() == ["one", "fusion/mean"]
    with (tables / "class-test.csv").open(encoding="utf-8") as file:
        classes = [row[1] for row in csv.reader(file)]
    assert classes == ["class", *made.LABELS, *made.LABELS]
    figures = tables.parent / "figures"
    assert (figures / "differences-test.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (figures / "differences-test.svg").read_text(encoding="utf-8")


def test_names_that_mean_harm_stay_text(folders: tuple[Path, Path]) -> None:
    path = report.make_comparison(side_by_side.compare(*folders))
    found = the_page(path.parent)
    assert made.UNLUCKY in found.shown
    assert f"a against {OTHER}" in found.shown
    assert found.scripts == []
    assert found.all("b") == []
    assert "<" not in path.parent.name
    latex = (path.parent / "tables" / "class-test.tex").read_text(encoding="utf-8")
    assert r"\textless{}script\textgreater{}" in latex


def test_runs_against_themselves(folders: tuple[Path, Path]) -> None:
    path = report.make_comparison(side_by_side.compare(folders[0], folders[0]))
    shown = the_page(path.parent).shown
    assert "No setting differs." in shown
    assert "Every run was compared." in shown
    assert shown.count("+0.000 [0.000, 0.000]") == 6  # three runs, two metrics
    assert not (path.parent / "tables" / "settings.csv").exists()


def test_what_an_earlier_page_had_goes_with_it(folders: tuple[Path, Path]) -> None:
    a, b = folders
    before = report.make_comparison(side_by_side.compare(a, b)).parent
    for folder in (a, b):
        for run in ("one", "fusion/mean"):
            (folder / run / "scores.json").unlink()
    after = report.make_comparison(side_by_side.compare(a, b)).parent
    assert after == before
    assert not (after / "tables" / "class-test.csv").exists()
    shown = the_page(after).shown
    assert "not shown of runs without scores of today" in shown
    assert str(b / "one") in shown


def test_a_regression_by_target(tmp_path: Path) -> None:
    a = made.recipe(tmp_path, more="[evaluate]\nbootstrap = 100\n")
    b = a.model_copy(update={"name": "b"})
    for noise, recipe in ((0.3, a), (0.6, b)):
        made.finish(recipe, tmp_path, "one", made.regression(noise=noise))
        score.score_all(recipe, Folders(runs=tmp_path))
    found = side_by_side.compare(tmp_path / "study", tmp_path / "b")
    path = report.make_comparison(found)
    shown = the_page(path.parent).shown
    table = pd.read_csv(path.parent / "tables" / "target-devel.csv")
    assert table["target"].tolist() == list(made.TARGETS)
    rows, _ = side_by_side.details(found)
    values = [row.score_b.value for row in rows if row.partition == "devel"]
    assert table["B"].tolist() == values
    for partition in ("devel", "test"):
        assert f"Spearman's rho of every target, {partition}" in shown


def command(*given: str | Path) -> None:
    args: argparse.Namespace = parser().parse_args(["compare", *map(str, given)])
    args.main(args)


def test_the_command_ends_with_the_path(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command(*folders, "--report")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("UAR of A and B, test") for line in lines)
    assert Path(lines[-1]).is_file()
    assert Path(lines[-1]).name == "index.html"


def test_nothing_to_compare_leaves_no_page(folders: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RunError, match="empty: no finished run there"):
        command(empty, folders[0], "--report")
    assert list(empty.iterdir()) == []


def test_devel_is_marked_where_a_head_was_chosen_on_it(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, more="[evaluate]\nbootstrap = 100\n")
    split = recipe.split.model_copy(update={"outer": "predefined", "inner": "devel"})
    folders = []
    for name, noise in (("a", 0.3), ("b", 0.6)):
        one = recipe.model_copy(update={"name": name, "split": split})
        where = made.finish(one, tmp_path, "one", made.regression(noise=noise))
        folders.append(where.parent)
    found = side_by_side.compare(*folders)
    assert found.marked("devel") == "devel"
    (where / "search.csv").write_text("cell\n0\n1\n", encoding="utf-8")
    assert found.optimism("test") == ""
    lines = comparison_text(found, 300).splitlines()
    (at,) = [i for i, line in enumerate(lines) if "devel (optimistic)" in line]
    assert lines[at + 4 : at + 6] == ["* p up to 0.05", names.CHOSEN_ON_DEVEL]
    shown = the_page(report.make_comparison(found).parent).shown
    assert f"devel (optimistic) Optimistic: {names.CHOSEN_ON_DEVEL}." in shown
