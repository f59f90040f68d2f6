"""Learning curves of a network's run: summed up, drawn, and on its page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from evaluate.report import plots
from evaluate.report import write as report
from evaluate.runs.curves import COLUMNS, LearningCurve, read_curve
from evaluate.runs.folders import CURVES
from evaluate.scores import score
from evaluate.scores.pairs import make_statistics
from features.common.errors import RunError
from features.common.folders import Folders
from tests.evaluate import made
from tests.evaluate.page import Page, read

LOSS, SCORE = (2.0, 1.0, 0.5), (0.2, 0.5, 0.4)


def fit(title: str, search: str, cell: int, inner: bool, n: int, shift: float = 0.0) -> list[str]:
    """The lines of one fit with `n` epochs."""
    return [
        f'"{title}","{search}",{cell},{inner},{3 * i},{i}.0,{LOSS[i - 1] + shift},'
        + (f"{SCORE[i - 1] + shift}" if inner else "")
        for i in range(1, n + 1)
    ]


def curves(folder: Path) -> Path:
    """Two outer folds that chose cells 1 and 0, and the search over all rows."""
    lines = [
        ",".join(COLUMNS),
        *fit("a, inner fold 0: slow", "a", 0, True, 3, shift=9),
        *fit("a, inner fold 0: fast", "a", 1, True, 3),
        *fit("a, inner fold 1: fast", "a", 1, True, 3, shift=0.2),
        *fit("b, inner fold 0: slow", "b", 0, True, 2, shift=0.4),
        *fit("b, inner fold 0: fast", "b", 1, True, 3, shift=7),
        *fit("all, inner fold 0: slow", "all", 0, True, 3, shift=5),
        *fit("a, chosen: fast", "a", 1, False, 3),
        *fit("b, chosen: slow", "b", 0, False, 2),
        *fit("all rows, chosen: slow", "all", 0, False, 1),
    ]
    path = folder / CURVES
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_chosen_cells_are_summed_up_by_hand(tmp_path: Path) -> None:
    found = read_curve(curves(tmp_path))
    assert found is not None
    np.testing.assert_array_equal(found.at, [1, 2, 3])
    np.testing.assert_allclose(found.loss[0], [2.2, 1.2, 0.6])
    np.testing.assert_allclose(found.score[0], [0.4, 0.7, 0.5])
    spread = np.std([0, 0.2, 0.4])
    np.testing.assert_allclose(found.loss[1], [spread, spread, 0.1])
    assert found.n_fits == 3
    assert found.kept == (3.0, 2.0)
    assert found.median_kept == 2.5


def test_points_at_epochs_of_their_own_are_compared_on_lines_between_them(tmp_path: Path) -> None:
    lines = [
        ",".join(COLUMNS),
        '"a 0","a",0,True,1,0.5,4.0,0.1', '"a 0","a",0,True,2,1.0,2.0,0.3',
        '"a 1","a",0,True,1,0.6,3.0,0.2', '"a 1","a",0,True,2,1.2,1.0,0.4',
        '"a","a",0,False,2,1.0,1.0,',
    ]  # fmt: skip
    path = tmp_path / CURVES
    path.write_text("\n".join(lines) + "\n")
    found = read_curve(path)
    assert found is not None
    np.testing.assert_array_equal(found.at, [0.5, 0.6, 1.0, 1.2])
    np.testing.assert_allclose(found.loss[0], [4, (3.6 + 3) / 2, (2 + 1 + 2 / 3) / 2, 1])


def test_trainings_that_last_for_steps_are_compared_at_steps(tmp_path: Path) -> None:
    lines = [
        ",".join(COLUMNS),
        '"a 0","a",0,True,10,2.0,4.0,0.1', '"a 0","a",0,True,20,4.0,2.0,0.3',
        '"a 1","a",0,True,10,2.5,3.0,0.2', '"a 1","a",0,True,20,5.0,1.0,0.4',
        '"a","a",0,False,20,3.2,1.0,',
    ]  # fmt: skip
    path = tmp_path / CURVES
    path.write_text("\n".join(lines) + "\n")
    found = read_curve(path)
    assert found is not None
    assert (found.unit, found.kept) == ("step", (20.0,))
    np.testing.assert_array_equal(found.at, [10, 20])
    np.testing.assert_allclose(found.loss, [[3.5, 1.5], [0.5, 0.5]])


def test_the_last_epochs_that_few_fits_reach_are_left_out(tmp_path: Path) -> None:
    lines = [",".join(COLUMNS), *fit("long", "a", 0, True, 3)]
    lines += [line for i in range(3) for line in fit(f"short {i}", "a", 0, True, 2)]
    lines += fit("a", "a", 0, False, 2)
    path = tmp_path / CURVES
    path.write_text("\n".join(lines) + "\n")
    found = read_curve(path)
    assert found is not None
    assert found.at.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (",loss", ",los", "no column loss"),
        (",0.5,0.4\n", ",x,0.4\n", "could not convert"),
        ("False", "false", "no fit of a chosen cell"),
    ],
)
def test_a_file_that_is_not_as_it_was_written(
    old: str, new: str, fault: str, tmp_path: Path
) -> None:
    path = curves(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RunError, match=f"curves.csv: not readable as learning curves: .*{fault}"):
        read_curve(path)


def test_an_early_file_that_names_no_search_is_left_out(tmp_path: Path) -> None:
    path = curves(tmp_path)
    path.write_text(path.read_text().replace("search", "of"))
    assert read_curve(path) is None


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"curves.csv: missing from a finished run; run make train"):
        read_curve(tmp_path / CURVES)


def test_a_picture_of_a_curve_has_loss_score_and_the_kept_epoch() -> None:
    epochs = np.arange(1.0, 11.0)
    flat = np.stack([np.linspace(2, 1, 10), np.full(10, 0.1)])
    curve = LearningCurve("epoch", epochs, flat, flat / 4, 6, (4.0, 8.0, 9.0))
    page = Page(svg := plots.learning_curve(curve, "UAR, inner rows", "x", chance=0.25).inline())
    texts = {text.strip() for text in page.texts}
    assert {"training loss", "UAR, inner rows", "epoch", "kept: 8", "chance"} <= texts
    assert svg.count("opacity: 0.2") == 2  # the bands
    dashed = re.findall(r'd="M ([\d.]+) [\d.]+\s+L ([\d.]+) [\d.]+\s*"[^>]*stroke-dasharray', svg)
    upright = {ends for ends in dashed if ends[0] == ends[1]}
    assert len(upright) == 1  # the same epoch in both
    assert len(re.findall(r"<use[^>]*stroke: var\(--second\)", svg)) == 3  # a mark a choice


def test_one_kept_epoch_has_a_line_and_no_marks() -> None:
    flat = np.ones((2, 3))
    curve = LearningCurve("step", np.arange(3.0), flat, flat, 2, (2.0, 2.0))
    svg = plots.learning_curve(curve, "y", "x").inline()
    assert "kept: 2" in svg
    assert not re.findall(r"<use[^>]*stroke: var\(--second\)", svg)


@pytest.mark.slow
def test_a_network_s_page_shows_its_curve_and_others_none(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    runs = tmp_path / "runs"
    folders = Folders(stores=tmp_path / "stores", runs=runs)
    for i, member in enumerate(("one", "two", "mean")):
        made.finish(recipe, runs, member, made.classification(seed=i), {"title": member})
    curves(runs / "study" / "one")
    early = curves(runs / "study" / "two")
    early.write_text(early.read_text().replace("search", "of"))
    make_statistics(recipe, score.score_all(recipe, folders), runs)
    index, _ = report.make_report(recipe, folders)
    text = {name: " ".join(page.texts) for name, page in read(index.parent).items()}
    shown = text["model-one.html"]
    assert "Learning curve of one: from epoch 1 to 3 the mean training loss goes from 2.2" in shown
    assert "UAR on the inner rows from 0.400 to 0.500; kept after epoch 2.5" in shown
    assert "mean of 3 inner fits with one deviation, of the chosen settings" in shown
    assert "No learning curve is shown" in text["model-two.html"]
    assert "earning curve" not in text["fusion-mean.html"]
    figures = {path.name for path in (index.parent / "figures").glob("curve-*")}
    assert figures == {"curve-model-one.svg", "curve-model-one.pdf"}
