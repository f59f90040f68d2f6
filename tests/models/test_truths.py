"""Truths that nothing can be learned of, or scored by, are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.runs.files import read_run
from features.common.errors import CorpusError, RunError
from tests.models import synthetic
from tests.models.test_train import RIDGE, SVC, retable, train

RANKED = RIDGE.replace('"nmse"', '"spearman"')
CROSSED = RANKED.replace('"predefined"', '"speaker-k-fold"\nouter_folds = 3').replace(
    'inner = "devel"', 'inner = "speaker-k-fold"\ninner_folds = 3'
)


@pytest.mark.parametrize("per_target", [False, True])
def test_a_target_that_is_constant_on_devel_is_named(tmp_path: Path, per_target: bool) -> None:
    frame = synthetic.regression(tmp_path)
    devel = frame["partition"] == "devel"
    frame.loc[devel, "sad"] = 0.25
    frame.loc[frame[devel].index[:3], "keen"] = np.nan  # fitted and scored by no target
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    text = RANKED.replace("[head]", "[head]\nper_target = true") if per_target else RANKED
    with pytest.raises(RunError) as caught:
        train(tmp_path, synthetic.recipe(tmp_path, text))
    of = " of sad" if per_target else ""
    assert f"devel: the score 'spearman' is undefined for every cell{of}: " in str(caught.value)
    assert "sad is 0.25 in all 72 rows that score the cells of devel" in str(caught.value)
    assert "calm" not in str(caught.value)
    assert "leave the target out" in str(caught.value)


def test_a_target_that_is_constant_where_it_is_fitted_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.regression(tmp_path)
    fitted = frame["partition"] == "train"
    frame.loc[fitted, "calm"] = 0.5
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    with pytest.raises(RunError, match="calm is 0.5 in all 150 rows to fit on of devel; leave the"):
        train(tmp_path, synthetic.recipe(tmp_path, RANKED))
    capsys.readouterr()
    train(tmp_path, synthetic.recipe(tmp_path, RIDGE))  # a squared error there is
    said = "one: calm does not vary in the rows to fit on of 1 of 1 folds (first the one)\n"
    assert said in capsys.readouterr().out


def test_a_target_that_is_constant_everywhere_is_said_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.regression(tmp_path, masked_test=False).assign(keen=0.125)
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    with pytest.raises(RunError, match=r"outer fold 0: .* keen is 0.125 in all \d+ rows .* fold 0"):
        train(tmp_path, synthetic.recipe(tmp_path, CROSSED))
    capsys.readouterr()
    folder = train(tmp_path, synthetic.recipe(tmp_path, CROSSED.replace("spearman", "nmse")))
    text = "keen is 0.125 in all 300 rows with a truth: nothing can be learned of it"
    assert f"one: {text}\n" in capsys.readouterr().out
    assert text in read_run(folder)["notes"]


def test_a_target_without_a_truth_is_named(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path).assign(sad=np.nan)
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    for text in (RIDGE, CROSSED):
        with pytest.raises(RunError, match=r"is there one of sad"):
            train(tmp_path, synthetic.recipe(tmp_path, text))


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e999"])
def test_an_infinite_truth_is_named(tmp_path: Path, value: str) -> None:
    frame = synthetic.regression(tmp_path)
    frame.loc[[2, 4], "calm"] = float(value)
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    match = r"calm: the truth of 2 rows is infinite \(made/u002, made/u004\)"
    with pytest.raises((RunError, CorpusError), match=match):
        train(tmp_path, synthetic.recipe(tmp_path, RIDGE))


def test_a_class_without_a_row_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = synthetic.classes(tmp_path)
    retable(tmp_path, frame, {"emotion": (*synthetic.LABELS, "bored")})
    train(tmp_path, synthetic.recipe(tmp_path, SVC))
    assert "one: no row at all is of bored: never predicted\n" in capsys.readouterr().out


def test_targets_that_no_row_has_all_of_are_named_with_what_they_lack(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path, masked_test=False)
    frame.loc[frame.index[:100], "sad"] = np.nan
    frame.loc[frame.index[90:], "keen"] = np.nan
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    n = len(frame)
    for text in (RIDGE, CROSSED):
        with pytest.raises(RunError) as caught:
            train(tmp_path, synthetic.recipe(tmp_path, text))
        told = str(caught.value)
        assert "no row to fit on has a truth: no row has a truth of all targets; " in told
        assert f"lacking of {n} rows: " in told
        found = dict(one.split() for one in told.split("rows: ")[1].split(";")[0].split(", "))
        assert found == {"sad": "100", "keen": str(n - 90)}


def test_targets_that_rows_to_fit_on_lack_are_named(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path, masked_test=False)
    fitted = frame["partition"] == "train"
    frame.loc[fitted, "sad"] = np.nan
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    n = int((~fitted).sum())
    with pytest.raises(RunError) as caught:
        train(tmp_path, synthetic.recipe(tmp_path, RIDGE))
    assert (
        f"no row to fit on has a truth of all targets; of {len(frame)} rows in all {n} rows have "
        f"one, lacking: sad {len(frame) - n}; leave targets out, or choose another [split]"
    ) in str(caught.value)
