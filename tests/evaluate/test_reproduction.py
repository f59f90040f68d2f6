"""Two makings of a run: the first number that differs, and what may differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.runs import record as runs
from evaluate.runs.files import read_run
from evaluate.runs.predictions import write_predictions
from evaluate.runs.reproduction import compare, first_difference, recorded, refuse_other_inputs
from features.common.errors import RunError
from tests.evaluate import made


@pytest.fixture
def twice(tmp_path: Path) -> tuple[Path, Path]:
    """The same run twice."""
    recipe = made.recipe(tmp_path)
    record = {
        "stage": "train",
        "chosen": {"": [{"cell": 3, "scaler": "standard", "params": {"C": 0.1}, "score": -0.2}]},
        "versions": {"numpy": "2.0.0", "scipy": "1.0"},
    }
    return tuple(
        made.finish(recipe, tmp_path / place, "one", made.regression(), record)
        for place in ("first", "again")
    )  # type: ignore[return-value]


def rewrite(folder: Path, **values: object) -> None:
    record = read_run(folder)
    runs.write_run(folder, {**record, **values})


def test_the_same_run_is_equal_masked_truths_too(twice: tuple[Path, Path]) -> None:
    lines, equal = compare(*twice)
    assert equal
    assert lines == [
        "predictions.csv: 60 rows, equal",
        "inner.csv: 60 rows, equal",
        "chosen cells: equal",
        "versions: equal",
    ]


def test_the_first_number_that_differs_is_named(twice: tuple[Path, Path]) -> None:
    frame = made.regression()
    for row, column in ((40, "Sadness_pred"), (7, "Anger_pred")):
        frame.loc[row, column] = np.nextafter(frame.loc[row, column], 9)
    write_predictions(twice[1] / "inner.csv", frame)
    lines, equal = compare(*twice)
    assert not equal
    then, now = (one.loc[7, "Anger_pred"] for one in (made.regression(), frame))
    assert then != now
    assert lines[1] == (
        f"inner.csv: mine/u007, partition devel: Anger_pred {then} then, {now} now "
        "(2 of 60 rows differ)"
    )
    assert lines[0] == "predictions.csv: 60 rows, equal"


def test_another_choice_is_named(twice: tuple[Path, Path]) -> None:
    chosen = {"": [{"cell": 3, "scaler": "minmax", "params": {"C": 0.1}, "score": -0.1}]}
    rewrite(twice[1], chosen=chosen)
    lines, equal = compare(*twice)
    assert not equal
    assert lines[2] == (
        "chosen cells: 0 scaler: standard then, minmax now (2 values differ)"
    )  # of the fold with no name


def test_versions_are_named_and_make_no_difference(twice: tuple[Path, Path]) -> None:
    rewrite(twice[1], versions={"numpy": "2.1.0", "pandas": "3"})
    lines, equal = compare(*twice)
    assert equal
    assert lines[3:] == [
        "numpy: 2.0.0 then, 2.1.0 now",
        "scipy: 1.0 then, nothing now",
        "pandas: nothing then, 3 now",
    ]


def test_rows_and_columns_that_differ() -> None:
    frame = made.regression()
    assert first_difference(frame, frame.copy()) == ""
    fewer = frame.drop(index=3).reset_index(drop=True)
    assert first_difference(frame, fewer) == "1 row only then, first mine/u003, partition devel"
    assert first_difference(fewer, frame) == "1 row only now, first mine/u003, partition devel"
    assert first_difference(frame, frame[::-1]) == "60 rows, in another order"
    assert "columns corpus, utterance" in first_difference(frame, frame[frame.columns[:5]])
    masked = frame.assign(Anger_true=frame["Anger_true"].where(frame.index != 0))
    assert "mine/u000, partition devel: Anger_true" in first_difference(frame, masked)
    labels = pd.DataFrame(made.classification())
    other = labels.assign(pred=labels["pred"].where(labels.index != 2, "odd"))
    assert "pred " in first_difference(labels, other)
    assert " then, odd now (1 of" in first_difference(labels, other)


def test_other_stores_and_members_are_refused_by_name() -> None:
    first = {"numerics": 1, "corpora": {"made": {"table": "a1", "store": {"x": "b1", "y": "c1"}}}}
    now = {"numerics": 2, "corpora": {"made": {"table": "a1", "store": {"x": "b2", "y": "c1"}}}}
    refuse_other_inputs(Path("r"), first, {**first, "numerics": 2})
    with pytest.raises(RunError) as caught:
        refuse_other_inputs(Path("r"), first, now)
    assert str(caught.value).splitlines()[1:-1] == ["  corpora made store x: b1 then, b2 now"]
    with pytest.raises(RunError, match="members one predictions.csv: a then, nothing now"):
        refuse_other_inputs(
            Path("r"),
            {"members": {"one": {"predictions.csv": "a"}}},
            {"members": {"one": {"predictions.csv": None}}},
        )


def test_what_is_no_run_of_the_stage(tmp_path: Path, twice: tuple[Path, Path]) -> None:
    record, recipe = recorded(twice[0], "train")
    assert recipe == made.recipe(tmp_path)
    assert record["stage"] == "train"
    with pytest.raises(RunError, match="of stage 'train', not 'fuse'; `python -m models reprod"):
        recorded(twice[0], "fuse")
    with pytest.raises(RunError, match=r"no run.json: no finished run; RUN= names a folder"):
        recorded(tmp_path, "train")
