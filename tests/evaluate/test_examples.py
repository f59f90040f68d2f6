"""Single utterances: where their audio is, and which are hard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluate.report import examples
from features.utterances import Table
from tests.evaluate import made
from tests.models.synthetic import rows


def predicted(scores: list[list[float]], true: list[str]) -> pd.DataFrame:
    """Predictions of three classes, a, b and c."""
    frame = pd.DataFrame(scores, columns=["score_a", "score_b", "score_c"])
    pred = ["abc"[int(np.nanargmax(row))] for row in scores]
    key = {"corpus": "mine", "utterance": [f"u{i}" for i in range(len(true))]}
    return frame.assign(partition="test", fold="", speaker="", true=true, pred=pred, **key)


def test_a_margin_is_that_to_the_best_other_class() -> None:
    frame = predicted(
        [[3.0, 1.0, 0.5], [3.0, 1.0, 0.5], [0.0, np.nan, 1.0], [0.0, np.nan, 1.0], [1.0, 2.0, 3.0]],
        ["a", "c", "b", "a", ""],
    )
    expected = [-2.0, 2.5, np.inf, 1.0, np.nan]  # turned: the higher, the harder
    np.testing.assert_array_equal(examples.difficulty(frame), expected)


def test_a_margin_is_negative_just_where_the_prediction_is_wrong() -> None:
    frame = made.classification(200)
    wrong = frame["true"] != frame["pred"]
    assert 20 < wrong.sum() < 180
    np.testing.assert_array_equal(examples.difficulty(frame) > 0, wrong)


def test_a_distance_is_over_the_targets_with_a_truth() -> None:
    frame = made.regression(4)
    frame.loc[1, "Calmness_true"] = np.nan
    frame.loc[3, [f"{target}_true" for target in made.TARGETS]] = np.nan
    off = {t: (frame[f"{t}_pred"] - frame[f"{t}_true"]).abs() for t in made.TARGETS}
    expected = pd.DataFrame(off).mean(axis=1)  # skips NaN
    np.testing.assert_allclose(examples.difficulty(frame), expected, rtol=1e-15)
    assert np.isnan(expected[3])


def test_cells_of_a_confusion_matrix_hold_every_row_with_a_truth_once() -> None:
    frame = made.classification(50)
    frame.loc[7, "true"] = ""
    cells = examples.confused(frame, made.LABELS)
    assert sorted(one for members in cells.values() for one in members) == sorted(
        ("mine", f"u{i:03}") for i in range(50) if i != 7
    )
    for cell, members in cells.items():
        i, j = map(int, cell.split(","))
        found = frame[frame["utterance"].isin([name for _, name in members])]
        assert set(found["true"]) == {made.LABELS[i]}
        assert set(found["pred"]) == {made.LABELS[j]}


def test_audio_is_linked_where_it_is(tmp_path) -> None:
    root, folder = tmp_path / "data", tmp_path / "runs" / "report"
    frame = rows(3, "mine", path=["a b.wav", "deep/ü.wav", "gone.wav"])
    frame.loc[0, "start"], frame.loc[1, "end"] = 2.0, 3.5
    for name in frame["path"][:2]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    table = Table(frame, {}, ())
    found = examples.find_audio({"mine": root, "other": root}, {"mine": table}, folder)
    one, two, _ = (("mine", name) for name in frame["utterance"])
    assert found.links == {
        one: "../../data/a%20b.wav#t=2.000",
        two: "../../data/deep/%C3%BC.wav#t=0.000,3.500",
    }
    assert found.missing["mine"] == f"1 of 3 recordings of mine are not below {root}"
    assert found.missing["other"].startswith("the table of other")
    inside = examples.find_audio({"mine": folder}, {"mine": Table(frame[:0], {}, ())}, folder)
    assert inside == examples.Audio({}, {})


@pytest.mark.parametrize("n", [1, 30])
def test_order_of_rows_does_not_matter(n: int) -> None:
    frame = made.classification(n)
    turned = frame.iloc[::-1]
    pd.testing.assert_series_equal(
        examples.difficulty(frame), examples.difficulty(turned).iloc[::-1]
    )
