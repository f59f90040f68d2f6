"""Protocols beside the main one: where their runs lie, and how they compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from evaluate.report import sheets, words
from evaluate.report import write as report
from evaluate.report.printed import scores_text
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs.predictions import read_predictions, write_predictions
from evaluate.scores import protocols, score
from evaluate.scores.pairs import make_statistics
from evaluate.scores.records import Statistics
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.model import Recipe
from models.__main__ import main, parser
from tests.evaluate import made, page
from tests.models import synthetic

TEXT = """
target = "emotion"
[split]
outer = "leave-one-speaker-out"
expect_overlap = ["session"]
inner_folds = 3
also = [{ outer = "stratified-holdout", expect_overlap = ["speaker"] }]
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.01]
[fusion.mean]
method = "mean"
[evaluate]
bootstrap = 200
"""
HOLDOUT = "protocols/stratified-holdout"


@pytest.fixture
def trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Recipe:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, TEXT)
    where = ["--stores", str(tmp_path), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    main(parser().parse_args([recipe.path, "--data", str(tmp_path / "data"), *where]))
    out = capsys.readouterr().out.splitlines()
    assert f"protocol study/{HOLDOUT}:" in out
    assert [line.split(":")[0] for line in out if "exact path" in line] == ["one", "two"] * 2
    return recipe


@pytest.mark.slow
def test_runs_lie_beside_and_compare_on_shared_rows(trained: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    with pytest.raises(RunError, match="scores.json: missing"):
        protocols.read_protocols(trained, folder)
    main_runs = score.score_all(trained, Folders(runs=folder))
    found = protocols.score_protocols(trained, Folders(runs=folder))
    assert [one.member for one in main_runs] == ["one", "two"]
    assert not any(one.stale for one in [*main_runs, *found.scored["stratified-holdout"]])
    at = folder / "study" / HOLDOUT / "one"
    assert found.scored["stratified-holdout"][0].folder == at
    other = read_predictions(at / "predictions.csv")
    own = read_predictions(folder / "study" / "one" / "predictions.csv")
    both = other.merge(own, on=["corpus", "utterance"], suffixes=("", "_main"))
    assert len(both) == len(other) == 32
    expected = balanced_accuracy_score(both["true"], both["pred"]) - balanced_accuracy_score(
        both["true"], both["pred_main"]
    )
    gap = found.gaps["stratified-holdout"]["one"]
    assert gap.n == 32
    assert gap.metrics["uar"].value == pytest.approx(expected)
    assert protocols.read_protocols(trained, folder).gaps == found.gaps
    text = to_terminal(sheets.gaps(trained, main_runs, found, {}), 200)
    line = next(line for line in text.splitlines() if line.startswith("one "))
    assert gap.scores["uar"] == pytest.approx(
        [balanced_accuracy_score(both["true"], both[pred]) for pred in ("pred", "pred_main")]
    )
    theirs, ours = gap.scores["uar"]
    seen = f"{words.gap_text(gap, 'uar')} ({ours:.3f} -> {theirs:.3f} there, n = 32, 8 speakers)"
    assert seen in line
    make_statistics(trained, main_runs, folder)
    index, _ = report.make_report(
        trained, Folders(stores=tmp_path / "none", runs=folder, data=tmp_path / "none")
    )
    pages = page.read(index.parent)
    shown = pages["index.html"].shown
    assert words.gap_text(gap, "uar") in shown
    assert "study/protocols/stratified-holdout: UAR and WA" in shown
    assert "stratified-holdout" in pages["model-one-stratified-holdout.html"].shown
    split = "stratified-holdout, inner speaker-k-fold, seed 0; declared overlap: speaker"
    assert split in pages["data.html"].shown


def test_a_comparison_is_outdated_with_its_predictions(trained: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    score.score_all(trained, Folders(runs=folder))
    before = protocols.score_protocols(trained, Folders(runs=folder))
    path = folder / "study" / "one" / "predictions.csv"
    frame = read_predictions(path)
    frame["pred"] = np.roll(frame["pred"], 1)
    write_predictions(path, frame)
    with pytest.raises(RunError, match="gaps.json: missing or outdated"):
        protocols.read_protocols(trained, folder)
    assert protocols.score_protocols(trained, Folders(runs=folder)).gaps != before.gaps
    protocols.read_protocols(trained, folder)


def test_a_recipe_without_them_writes_nothing(tmp_path: Path) -> None:
    recipe = synthetic.recipe(tmp_path, TEXT.replace("also", "# also"))
    assert protocols.score_protocols(recipe, Folders(runs=tmp_path / "runs")).scored == {}
    assert not (tmp_path / "runs").exists()
    assert sheets.gaps(recipe, [], protocols.Protocols({}, {}), {}) is None


def test_fusion_takes_the_main_protocol(trained: Recipe, tmp_path: Path) -> None:
    from fusion.combine import fuse

    folder = fuse(trained, "mean", Folders(stores=tmp_path, runs=tmp_path / "runs"))
    frame = read_predictions(folder / "predictions.csv")
    own = read_predictions(tmp_path / "runs" / "study" / "one" / "predictions.csv")
    pd.testing.assert_series_equal(frame["fold"], own["fold"])
    assert len(frame) == 160


def test_a_grid_beside_has_its_table_and_no_gap(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 200")
    grid = recipe.split.model_copy(update={"outer": "speaker-sentence-grid"})
    recipe = recipe.model_copy(update={"also": {"grid": grid}})
    made.finish(recipe, tmp_path, "one", made.classification(80))
    parts = [
        made.classification(80, right=right).assign(partition=name, fold=f"{name} 0.0")
        for name, right in (("test", 0.2), ("speaker-seen", 0.8))
    ]
    made.finish(recipe.beside()["grid"], tmp_path, "one", pd.concat(parts))
    found = protocols.score_protocols(recipe, Folders(runs=tmp_path))
    assert found.gaps["grid"]["one"].metrics == {}
    scored = score.score_all(recipe, Folders(runs=tmp_path))
    text = scores_text(recipe, scored, Statistics({}), found, None, None, None, 300)
    assert "no gap: fitted on fewer rows: compare within its grid" in text
    assert "\none: UAR of the same rows, by what was trained on; behind it" in text
    main_runs = score.score_all(recipe, Folders(runs=tmp_path))
    make_statistics(recipe, main_runs, tmp_path)
    report.make_report(
        recipe, Folders(stores=tmp_path / "none", runs=tmp_path, data=tmp_path / "none")
    )
