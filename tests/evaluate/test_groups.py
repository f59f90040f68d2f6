"""Scores by gender, language, corpus, session and speaker: by hand, and where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate import groups, intervals, metrics, runs, score
from features.errors import RunError
from features.recipe import EvaluateSpec
from features.utterances import Table, columns_of, write_table
from tests.evaluate import made

SETTINGS = EvaluateSpec(bootstrap=200)


def table_of(frame: pd.DataFrame) -> Table:
    """A table of the rows: women speak first, two sessions, one language."""
    rows = frame.drop_duplicates(["corpus", "utterance"]).sort_values(["corpus", "utterance"])
    number = rows["speaker"].replace("", "99").astype(int)
    columns = dict.fromkeys(columns_of((), ()), "") | {
        "corpus": rows["corpus"],
        "utterance": rows["utterance"],
        "gender": np.where(number < 3, "female", "male"),
        "language": "de",
        "session": np.where(number % 2 == 0, "1", "2"),
        "start": np.nan,
        "end": np.nan,
        "seconds": np.nan,
    }
    return Table(pd.DataFrame(columns, index=rows.index).reset_index(drop=True), {}, ())


def scored(frame: pd.DataFrame, shown=("uar", "wa")) -> dict:
    names = runs.predicted_labels(frame) or runs.predicted_targets(frame)
    of_row = groups.group_names(frame, {"mine": table_of(frame)})
    return groups.score_groups(frame, names, of_row, shown, SETTINGS)


def test_every_group_is_scored_on_its_rows() -> None:
    frame = made.classification(120)
    found = scored(frame)
    assert list(found) == ["gender", "session", "speaker"]  # one language, one corpus
    women = frame[frame["speaker"] < "03"]
    entry = found["gender"]["groups"]["female"]
    assert (entry["n"], entry["n_speakers"]) == (len(women), 3)
    for metric in ("uar", "wa"):
        expected = getattr(metrics, metric)(women["true"], women["pred"], made.LABELS)
        assert entry["metrics"][metric]["value"] == expected
        assert entry["metrics"][metric]["low"] <= expected <= entry["metrics"][metric]["high"]
    assert sum(one["n"] for one in found["speaker"]["groups"].values()) == 120
    assert list(found["session"]["groups"]) == ["mine/1", "mine/2"]


def test_the_gap_has_the_interval_of_one_draw() -> None:
    frame = made.classification(120)
    found = scored(frame)["gender"]
    assert found["resampled"] == "speakers"
    gap = found["metrics"]["wa"]
    scores = {name: one["metrics"]["wa"]["value"] for name, one in found["groups"].items()}
    best, worst = sorted(scores, key=scores.__getitem__, reverse=True)
    assert (gap["best"], gap["worst"]) == (best, worst)
    assert gap["gap"]["value"] == pytest.approx(scores[best] - scores[worst])
    drawn = intervals.draw([f"mine/{one}" for one in frame["speaker"]], 200, SETTINGS.seed)
    right, weights = frame["true"] == frame["pred"], drawn.counts[drawn.unit]
    each = {}
    for name, rows in (("female", frame["speaker"] < "03"), ("male", frame["speaker"] >= "03")):
        with np.errstate(invalid="ignore"):
            each[name] = (right & rows) @ weights / (rows @ weights)
    bounds = intervals.interval(each[best] - each[worst], 0.95)
    assert [gap["gap"]["low"], gap["gap"]["high"]] == pytest.approx([bounds.low, bounds.high])


def test_the_best_and_the_worst_speaker() -> None:
    frame = made.classification(100)
    rows = frame["speaker"] == "03"
    frame.loc[rows, "pred"] = frame.loc[rows, "true"]
    found = scored(frame)["speaker"]
    assert found["resampled"] == "utterances"
    assert found["metrics"]["uar"]["best"] == "mine/03"
    gap = found["metrics"]["uar"]["gap"]
    assert 0 < gap["low"] < gap["value"] < gap["high"] <= 1
    values = {name: one["metrics"]["uar"] for name, one in found["groups"].items()}
    assert values["mine/03"] == {"value": 1.0}
    assert found["metrics"]["uar"]["worst"] == min(values, key=lambda one: values[one]["value"])
    few = scored(frame.iloc[:45])["speaker"]  # nine rows each
    assert few["metrics"]["uar"] is None
    assert len(few["groups"]) == 5


def test_regression_groups_leave_masked_targets_out() -> None:
    frame = made.regression(n=120, partitions=("test",))
    frame.loc[frame["speaker"] == "00", "Sadness_true"] = np.nan
    found = scored(frame, ("spearman",))["speaker"]["groups"]["mine/00"]
    part = frame[frame["speaker"] == "00"]
    known = part["Calmness_true"].notna()
    expected = [
        metrics.spearman(part.loc[known, "Calmness_true"], part.loc[known, "Calmness_pred"]),
        metrics.spearman(part["Anger_true"], part["Anger_pred"]),
    ]
    assert found["metrics"]["spearman"]["value"] == pytest.approx(np.mean(expected))


def test_rows_without_a_table_or_a_speaker_are_in_no_such_group() -> None:
    frame = made.classification(60)
    frame.loc[::2, "corpus"] = "yours"
    frame.loc[:9, "speaker"] = ""
    found = groups.group_names(frame, {})
    assert set(found) == set(groups.KINDS)
    for kind in ("gender", "language", "session"):
        assert set(found[kind]) == {""}
    assert set(found["corpus"]) == {"mine", "yours"}
    one = groups.score_groups(frame, made.LABELS, found, ("uar",), SETTINGS)
    assert list(one) == ["corpus", "speaker"]
    assert sum(part["n"] for part in one["speaker"]["groups"].values()) == 50
    half = groups.group_names(frame, {"mine": table_of(frame[frame["corpus"] == "mine"])})
    assert (half["gender"][frame["corpus"] == "yours"] == "").all()
    assert set(half["gender"][frame["corpus"] == "mine"]) == {"female", "male"}


def test_the_scores_hold_the_groups_of_the_tables(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 200")
    frame = made.classification(60)
    folder = made.finish(recipe, tmp_path / "runs", "one", frame)
    stores = tmp_path / "stores"
    plain = score.score_run(folder, recipe)
    assert list(plain["groups"]["test"]) == ["speaker"]
    assert plain["warnings"] == []
    absent = score.score_run(folder, recipe, stores=stores, force=True)
    assert absent["warnings"] == ["no table of mine: not by gender, language and session"]
    table = table_of(frame)
    write_table(stores / "mine", table)
    found = score.score_run(folder, recipe, stores=stores)
    assert list(found["groups"]["test"]) == ["gender", "session", "speaker"]
    # Where the table is not at hand, what was made with it holds; where it changed, it does not.
    assert score.score_run(folder, recipe) == found
    assert score.score_run(folder, recipe, stores=tmp_path / "none") == found
    assert score.read_scores(folder, recipe) == found
    table.frame["gender"] = "male"
    write_table(stores / "mine", table)
    with pytest.raises(RunError, match="missing or outdated"):
        score.read_scores(folder, recipe, stores=stores)
    changed = score.score_run(folder, recipe, stores=stores)
    assert list(changed["groups"]["test"]) == ["session", "speaker"]


def test_masked_rows_are_in_no_group(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification(60)
    frame.loc[frame["speaker"] == "00", "true"] = ""
    found = score.score_run(made.finish(recipe, tmp_path / "runs", "one", frame), recipe)
    assert "mine/00" not in found["groups"]["test"]["speaker"]["groups"]
    whole = frame.assign(true="")
    found = score.score_run(made.finish(recipe, tmp_path / "runs", "one", whole), recipe)
    assert found["groups"] == {"test": {}}
