"""Comparisons, complementarity and groups in the report: what was computed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.report import pair_sheets as contrasts
from evaluate.report import sheets
from evaluate.report import write as report
from evaluate.report.tables import Sheet
from evaluate.report.writers.csv import to_csv
from evaluate.report.writers.latex import to_latex
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs import record as runs
from evaluate.runs.files import read_json
from evaluate.runs.folders import INNER, SUBSETS, fusion_folder
from evaluate.runs.predictions import write_predictions
from evaluate.scores import score
from evaluate.scores.pairs import make_statistics
from evaluate.scores.records import (
    OPTIMISTIC,
    ChosenSubset,
    Estimate,
    HonestChoice,
    RandomSubsets,
    Statistics,
    SubsetChoice,
    Subsets,
    marked,
)
from evaluate.scores.subsets import FILE
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.model import Recipe
from features.utterances import Table, write_table
from tests.evaluate import made
from tests.evaluate.page import Page, read, to_html
from tests.models.synthetic import rows

NOWHERE = Path("no-such-folder")
N = 100


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Statistics]:
    """Two models far apart and their fusion, with speakers of two genders; not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    recipe = made.recipe(folder, "classification")
    table = rows(N, "mine", gender=["f" if i % 5 < 3 else "<m>" for i in range(N)])
    about = {"title": "x", "licence": "", "citation": ""}
    write_table(folder / "stores" / "mine", Table(table, {}, (), [], about))
    for member, right in (("one", 0.9), ("two", 0.1), ("mean", 0.88)):
        frame = made.classification(N, right=right).assign(fold="")
        frame["speaker"] = frame["utterance"]  # so many that a difference can be told
        made.finish(recipe, folder / "runs", member, frame, {"title": f"{member} <b>"})
    return recipe, folder, statistics_of(recipe, folder)


def statistics_of(recipe: Recipe, folder: Path) -> Statistics:
    scored = score.score_all(recipe, Folders(stores=folder / "stores", runs=folder / "runs"))
    return make_statistics(recipe, scored, folder / "runs")


def cells(sheet: Sheet, *names: str) -> list:
    """The row of these first cells."""
    (row,) = (row for row in sheet.rows if [cell.text for cell in row[: len(names)]] == [*names])
    return list(row[len(names) :])


def test_pages_show_what_was_compared(compared: tuple[Recipe, Path, Statistics]) -> None:
    recipe, folder, statistics = compared
    found = statistics.partitions["test"]
    index, _ = report.make_report(
        recipe, Folders(stores=folder / "stores", runs=folder / "runs", data=NOWHERE)
    )
    pages = read(index.parent)
    assert found.metrics["uar"].not_worse[0] == "one"
    assert "two" not in found.metrics["uar"].not_worse
    strong = len(pages["index.html"].all("strong"))
    assert strong == sum(len(one.not_worse) for one in found.metrics.values())
    assert "Bold: the best, and all whose difference to it could be chance (5% level" in (
        pages["index.html"].shown
    )
    pair = found.metrics["uar"].pairs[0]
    assert (pair.a, pair.b) == ("one", "two")
    shown = pages["comparisons.html"].shown
    bounds = f"[{pair.difference.low:.3f}, {pair.difference.high:.3f}]"
    assert f"one <b> two <b> {pair.difference.value:+.3f} {bounds}" in shown
    assert not pages["comparisons.html"].all("b")
    oracle = found.complementarity.oracle["uar"]
    assert f"oracle: the best model of every row {oracle:.3f}" in pages["fusion.html"].shown
    assert len(pages["fusion.html"].all("svg")) == 1
    assert "Double fault the share of rows that both models have wrong." in (
        pages["fusion.html"].shown
    )
    assert "Correlation of errors Pearson's r of being right" in pages["fusion.html"].shown
    assert "the empty set counts 0.333, what guessing gives" in pages["fusion.html"].shown
    assert "Scores by gender, test" in pages["model-one.html"].shown
    assert "Scores by speaker, test" in pages["model-one.html"].shown


def test_tables_have_the_numbers_in_full(compared: tuple[Recipe, Path, Statistics]) -> None:
    found = compared[2].partitions["test"]
    pair = found.metrics["wa"].pairs[0]
    row = cells(contrasts.comparisons(found, "test", "wa", {}), "one", "two")
    assert [cell.value for cell in row] == [
        pair.difference.value,
        pair.p,
        pair.p_holm,
        pair.detectable,
    ]
    assert row[2].strong is (pair.p_holm <= 0.05)
    only = found.mcnemar[0]
    row = cells(contrasts.mcnemar(found, "test", {}), "one", "two")
    assert [cell.value for cell in row] == [only.only_a, only.only_b, only.p, only.p_holm]
    assert row[3].text == "<0.0001"
    together = found.complementarity
    matrix = contrasts.matrices(found, "test", {})
    assert [one.name for one in matrix] == [
        "correlation-test", "disagreement-test", "q-test", "double-fault-test",
    ]  # fmt: skip
    assert cells(matrix[3], "two")[0].value == together.double_fault[1][0]
    each = together.contributions["uar"].models["two"]
    row = cells(contrasts.contributions(found, "test", "uar", {}), "two")
    assert [cell.value for cell in row] == [each.alone, each.left_out, each.shapley]


def test_groups_are_marked_where_they_are_best_and_worst(
    compared: tuple[Recipe, Path, Statistics],
) -> None:
    recipe, folder, _ = compared
    one = score.read_all(recipe, Folders(runs=folder / "runs"))[0]
    gender = one.scores.groups["test"]["gender"]
    (sheet, *_) = contrasts.groups(one, "test", "stem")
    ends = gender.metrics["uar"]
    n, speakers, uar, _ = cells(sheet, ends.best)
    best = gender.groups[ends.best]
    assert (n.value, speakers.value) == (best.n, best.n_speakers)
    assert uar.marks == ["best"]
    assert cells(sheet, ends.worst)[2].marks == ["worst"]
    assert f"UAR of {ends.best} minus that of {ends.worst}: +" in sheet.caption


def test_few_speakers_are_said_to_tell_little(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    for member, right in (("one", 0.7), ("two", 0.3), ("mean", 0.6)):
        made.finish(recipe, tmp_path / "runs", member, made.classification(right=right))
    found = statistics_of(recipe, tmp_path)
    assert contrasts.best_notes(found, ["devel", "test"]) == [
        "test: 5 speakers, 2 comparisons with the best: a corrected p is 0.12 at least: "
        "too few to show any difference"
    ]
    pairs = contrasts.comparisons(found.partitions["test"], "test", "uar", {})
    assert "; 5 speakers, 3 pairs: a corrected p is 0.19 at least: too few to" in pairs.caption
    assert contrasts.best(None, "test", "uar") == contrasts.best(found, "devel", "uar") == ()


def test_a_regression_has_no_classes_to_compare(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    for member, noise in (("one", 0.3), ("two", 0.6)):
        made.finish(recipe, tmp_path / "runs", member, made.regression(noise=noise))
    found = statistics_of(recipe, tmp_path).partitions["test"]
    assert contrasts.mcnemar(found, "test", {}) is None
    names = [one.name for one in contrasts.matrices(found, "test", {})]
    assert names == ["correlation-test"]
    ((name, meaning),) = contrasts.meanings(found.complementarity, "regression")
    assert name == "Correlation of errors"
    assert "prediction minus truth" in meaning
    index, _ = report.make_report(
        recipe, Folders(stores=NOWHERE, runs=tmp_path / "runs", data=NOWHERE)
    )
    assert len(read(index.parent)["fusion.html"].all("svg")) == 2  # of devel and of test


def test_a_report_without_comparisons_of_todays_runs_is_one_line(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    for member in ("one", "two", "mean"):
        made.finish(recipe, tmp_path / "runs", member, made.classification())
    score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    with pytest.raises(
        RunError, match=r"statistics\.json: missing or outdated; run make score RECIPE="
    ):
        report.make_report(recipe, Folders(stores=NOWHERE, runs=tmp_path / "runs", data=NOWHERE))
    assert read_json(tmp_path / "runs/study/statistics.json") is None


def choice(k: int | str, value: float, honest: float | None) -> SubsetChoice:
    """A choice among the two models, of three folds where it has an honest counterpart."""
    folds = {"a": ("two",), "b": ("one", "two"), "c": ("two",)}
    own = {fold: ChosenSubset(0.5, members=members, n_best=1) for fold, members in folds.items()}
    best = ("one", "two")[: 1 if k == 1 else 2]
    return SubsetChoice(
        "mean", "uar", "exhaustive", k, 1,
        ChosenSubset(value, marks=("optimistic",), members=best, n_best=2),
        HonestChoice(honest, honest - 0.1, honest + 0.1, choices=own) if honest else None,
        Estimate(value - honest, 0.0, 0.2) if honest else None,
    )  # fmt: skip


@pytest.fixture
def subsets() -> Subsets:
    quantiles = {"0.05": 0.4, "0.95": 0.61}
    return Subsets(
        task="classification",
        n=60,
        n_speakers=5,
        members=("one", "two"),
        partition="test",
        chosen_on="inner folds",
        why=None,
        choices=(choice(1, 0.7, 0.6), choice(2, 0.8, None), choice("any", 0.8, 0.65)),
        random=tuple(RandomSubsets("mean", "uar", k, 2, True, 0, 0.5, quantiles) for k in (1, 2)),
    )


def test_the_best_subset_stands_beside_one_that_was_not_chosen_on_its_rows(
    subsets: Subsets,
) -> None:
    sheet = contrasts.subsets(subsets)
    assert sheet.header[6:8] == ["chosen on inner folds", "chosen members"]
    first, second, whichever = sheet.rows
    assert [cell.text for cell in first] == [
        "UAR", "mean", "exhaustive", "1", "0.700", "one", "0.600", "two", "+0.100", "0.400",
        "0.610",
    ]  # fmt: skip
    assert sheet.header[4] == "best (optimistic)"
    assert (first[6].low, first[6].high) == (0.5, 0.7)
    assert [cell.text for cell in second[6:9]] == ["–", "–", "–"]
    assert (whichever[3].text, whichever[5].text) == ("any", "one + two")
    assert whichever[5].note == "2 models, and 1 as good"
    assert (whichever[7].marked, whichever[7].note) == ("two (2 of 3 folds)", "1 model")
    ((kind, picture),) = contrasts.subset_curves(subsets, "uar")
    assert kind == "mean, exhaustive"
    legend = {"best (optimistic)", "chosen without these rows", "random, 5 % to 95 %"}
    assert legend <= {one.strip() for one in Page(picture.inline()).texts}
    assert contrasts.subset_curves(subsets, "wa") == []


def test_the_page_of_fusion_shows_subsets(tmp_path: Path, subsets: Subsets) -> None:
    recipe = made.recipe(tmp_path, "classification", more="[fusion.subsets]\nk = 'all'")
    for member, right in (("one", 0.7), ("two", 0.3)):
        made.finish(recipe, tmp_path / "runs", member, made.classification(right=right))
    statistics_of(recipe, tmp_path)
    both = {
        part: tuple(
            replace(one, metric=metric)
            for metric in ("uar", "wa")
            for one in getattr(subsets, part)
        )
        for part in ("choices", "random")
    }
    folder = fusion_folder(tmp_path / "runs", recipe.name, "subsets")
    FILE.write(folder / SUBSETS, replace(subsets, **both))
    runs.write_run(folder, {"inputs": {"other": "members"}})
    index, _ = report.make_report(
        recipe, Folders(stores=NOWHERE, runs=tmp_path / "runs", data=NOWHERE)
    )
    first = read(index.parent)["index.html"]
    assert "Best subsets" in first.shown
    assert "search size best (optimistic) best members" in first.shown
    assert "any 0.800 one + two 2 models, and 1 as good 0.650" in first.shown
    assert "0.700 one" not in first.shown  # of one size
    page = read(index.parent)["fusion.html"]
    assert "Subsets of the models, test stale" in page.shown
    assert "0.700 one 1 model, and 1 as good 0.600 [0.500, 0.700] two" in page.shown
    assert "Every fold chooses for itself, so this honest figure is of no single subset" in (
        page.shown
    )
    assert "UAR, mean, exhaustive. Figure" in page.shown
    assert "WA, mean, exhaustive. Figure" in page.shown
    assert len(page.all("svg")) == 3  # the curves, and gains against correlation


def test_votes_have_no_calibration_and_a_line_why(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    for member in ("one", "mean"):
        record = {"scores": "votes", "members": ["one"], "method": "vote"}
        frame = made.classification(60)
        where = made.finish(recipe, tmp_path / "runs", member, frame,
                            record if member == "mean" else None)  # fmt: skip
        write_predictions(where / INNER, frame.assign(partition="inner"))
    statistics_of(recipe, tmp_path)
    index, _ = report.make_report(
        recipe, Folders(stores=NOWHERE, runs=tmp_path / "runs", data=NOWHERE)
    )
    pages = read(index.parent)
    line = "No calibration is shown: its class scores are votes, no probabilities."
    assert line in pages["fusion-mean.html"].shown
    assert "calibration error" not in pages["fusion-mean.html"].shown
    assert line not in pages["model-one.html"].shown
    assert "calibration error" in pages["model-one.html"].shown


def test_calibration_is_shown_with_and_without_temperatures(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification(200)
    where = made.finish(recipe, tmp_path / "runs", "one", frame)
    write_predictions(where / INNER, frame.assign(partition="inner"))
    statistics_of(recipe, tmp_path)
    one = score.read_all(recipe, Folders(runs=tmp_path / "runs"))[0]
    found = contrasts.calibration(one, "test")
    assert contrasts.calibration(one, "devel") is None
    sheet = contrasts.calibration_errors(one, "test", "stem")
    assert [row[1].value for row in sheet.rows] == [
        found.plain.error,
        found.tempered.error,
    ]
    ends = "here they make the error larger."
    for plainly, tempered in ((0.140, 0.232), (0.232, 0.140)):
        plain, other = replace(found.plain, error=plainly), replace(found.tempered, error=tempered)
        note = contrasts.calibration_note(replace(found, plain=plain, tempered=other))
        assert note.endswith(ends) == (tempered > plainly)
    index, _ = report.make_report(
        recipe, Folders(stores=NOWHERE, runs=tmp_path / "runs", data=NOWHERE)
    )
    page = read(index.parent)["model-one.html"]
    assert f"as it is {found.plain.error:.3f}" in page.shown
    assert page.shown.count("with temperatures") == 2  # in the table and in the picture
    assert "Rows lie in 15 bins of confidence of one width" in page.shown
    assert len(page.all("svg")) == 1


def test_numbers_that_are_no_estimates_carry_the_mark_of_their_record(
    compared: tuple[Recipe, Path, Statistics],
) -> None:
    recipe, folder, _ = compared
    honest = statistics_of(recipe, folder).partitions["test"]
    chosen = replace(honest, optimistic="chosen on these rows")
    for found, mark in ((honest, ""), (chosen, " (optimistic)")):
        tables = [
            contrasts.mcnemar(found, "test", {}),
            contrasts.contributions(found, "test", "uar", {}),
            contrasts.pair_gains(found, "test", "uar", {}),
            *contrasts.matrices(found, "test", {}),
        ]
        assert len(tables) == 7
        for table in tables:
            assert table.header[0] in (f"model{mark}", f"first{mark}")
            for write in (to_csv, to_latex, to_html, lambda sheet: to_terminal(sheet, 200)):
                assert ("optimistic" in str(write(table))) == bool(mark)
    differences = contrasts.comparisons(chosen, "test", "uar", {})
    assert differences.header[-1] == "detectable (optimistic)"


def test_scores_of_classes_carry_the_marks_of_their_run(
    compared: tuple[Recipe, Path, Statistics],
) -> None:
    recipe, folder, _ = compared
    statistics_of(recipe, folder)
    run = score.read_all(recipe, Folders(runs=folder / "runs"))[0]
    honest, labels = run.scores.partitions["test"], run.scores.labels
    chosen = replace(honest, metrics=marked(honest.metrics, [OPTIMISTIC]))
    assert (honest.marks, chosen.marks) == ((), (OPTIMISTIC,))
    for result, mark in ((honest, " (stale)"), (chosen, " (optimistic, stale)")):
        assert sheets.of_classes(result, "test", "x", ["stale"]).header[0] == f"class{mark}"
        matrix = sheets.confusion(result, labels, "test", "x", ["stale"])
        assert matrix.header == [f"true \\ predicted{mark}", *labels]
    folds = sheets.summary(chosen, "test").header[1:]
    assert folds
    assert all(name.endswith(" (optimistic)") for name in folds)
