"""Scores by gender, language, corpus, session and speaker: by hand, and where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.metrics import metrics
from evaluate.report import pair_sheets as contrasts
from evaluate.runs.predictions import predicted_labels, predicted_targets
from evaluate.scores import groups, score
from evaluate.scores.records import Estimate, GroupGap, GroupScores, RunScores, Share
from evaluate.scores.score import Scored
from evaluate.statistics import resampling as intervals
from features.common.errors import RunError
from features.recipe.model import EvaluateSpec
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
    names = predicted_labels(frame) or predicted_targets(frame)
    of_row = groups.group_names(frame, {"mine": table_of(frame)})
    return groups.score_groups(frame, names, of_row, shown, SETTINGS)


def test_every_group_is_scored_on_its_rows() -> None:
    frame = made.classification(120)
    found = scored(frame)
    assert list(found) == ["gender", "session", "speaker"]  # one language, one corpus
    women = frame[frame["speaker"] < "03"]
    entry = found["gender"].groups["female"]
    assert (entry.n, entry.n_speakers) == (len(women), 3)
    for metric in ("uar", "wa"):
        expected = getattr(metrics, metric)(women["true"], women["pred"], made.LABELS)
        assert entry.metrics[metric].value == expected
        assert entry.metrics[metric].low <= expected <= entry.metrics[metric].high
    assert sum(one.n for one in found["speaker"].groups.values()) == 120
    assert list(found["session"].groups) == ["mine/1", "mine/2"]


def test_the_gap_has_the_interval_of_one_draw() -> None:
    frame = made.classification(120)
    found = scored(frame)["gender"]
    assert found.resampled == "speakers"
    gap = found.metrics["wa"]
    scores = {name: one.metrics["wa"].value for name, one in found.groups.items()}
    best, worst = sorted(scores, key=scores.__getitem__, reverse=True)
    assert (gap.best, gap.worst) == (best, worst)
    assert gap.gap.value == pytest.approx(scores[best] - scores[worst])
    drawn = intervals.draw([f"mine/{one}" for one in frame["speaker"]], 200, SETTINGS.seed)
    right, weights = frame["true"] == frame["pred"], drawn.counts[drawn.unit]
    each = {}
    for name, rows in (("female", frame["speaker"] < "03"), ("male", frame["speaker"] >= "03")):
        with np.errstate(invalid="ignore"):
            each[name] = (right & rows) @ weights / (rows @ weights)
    bounds = intervals.interval(each[best] - each[worst], 0.95)
    assert [gap.gap.low, gap.gap.high] == pytest.approx([bounds.low, bounds.high])


def test_the_best_and_the_worst_speaker() -> None:
    frame = made.classification(100)
    rows = frame["speaker"] == "03"
    frame.loc[rows, "pred"] = frame.loc[rows, "true"]
    found = scored(frame)["speaker"]
    assert found.resampled == "utterances"
    assert found.metrics["uar"].best == "mine/03"
    gap = found.metrics["uar"].gap
    assert 0 < gap.low < gap.value < gap.high <= 1
    values = {name: one.metrics["uar"] for name, one in found.groups.items()}
    assert values["mine/03"] == Estimate(1.0)
    assert found.metrics["uar"].worst == min(values, key=lambda one: values[one].value)
    few = scored(frame.iloc[:45])["speaker"]  # nine rows each
    assert few.metrics["wa"] == GroupGap(
        why="fewer than two groups have 10 rows or more and a defined score"
    )
    assert len(few.groups) == 5


def lacking_classes() -> pd.DataFrame:
    """Speaker 03 is never sad and always right; 02 and 04 are of anger alone."""
    frame = made.classification(150, right=0.6)
    frame.loc[(frame["speaker"] == "03") & (frame["true"] == "sadness"), "true"] = "anger"
    frame.loc[frame["speaker"].isin(["02", "04"]), "true"] = "anger"
    frame.loc[frame["speaker"] == "03", "pred"] = frame["true"]
    return frame


def test_groups_without_a_class_are_neither_the_best_nor_the_worst() -> None:
    frame = lacking_classes()
    found = scored(frame)["speaker"]
    assert found.groups["mine/03"].classes == Share(2, 3)
    assert found.groups["mine/02"].classes == Share(1, 3)
    assert found.groups["mine/00"].classes is None
    assert found.groups["mine/03"].metrics["uar"] == Estimate(1.0)
    ends = found.metrics["uar"]
    uar = {
        one: metrics.uar(rows["true"], rows["pred"], made.LABELS)
        for one, rows in frame.groupby("speaker")
        if one in ("00", "01")
    }
    best, worst = sorted(uar, key=uar.__getitem__, reverse=True)
    assert (ends.best, ends.worst) == (f"mine/{best}", f"mine/{worst}")
    assert ends.gap.value == pytest.approx(uar[best] - uar[worst])
    assert found.metrics["wa"].best == "mine/03"  # of accuracy among all


def test_the_gap_leaves_out_resamples_that_lack_a_class() -> None:
    """Brute force: the rows of the best and worst speaker in every draw of utterances."""
    frame = lacking_classes()
    found = scored(frame)["speaker"].metrics["uar"]
    drawn = intervals.draw([""] * len(frame), SETTINGS.bootstrap, SETTINGS.seed)
    apart, lacking = [], 0
    for counts in drawn.counts.T:
        rows = frame.loc[np.repeat(frame.index, counts.astype(int))]
        ends = [rows[rows["speaker"] == getattr(found, end)[-2:]] for end in ("best", "worst")]
        if all(one["true"].nunique() == 3 for one in ends):
            one, other = (metrics.uar(end["true"], end["pred"], made.LABELS) for end in ends)
            apart.append(one - other)
        else:
            lacking += 1
    assert lacking == found.gap.undefined
    wanted = np.quantile(apart, [0.025, 0.975])
    assert [found.gap.low, found.gap.high] == pytest.approx(wanted)


def test_no_two_groups_with_all_classes_have_no_gap(tmp_path: Path) -> None:
    frame = made.classification(150)
    alone = (frame["true"] == "sadness") & (frame["speaker"] != "00")
    frame["true"] = frame["true"].mask(alone, "anger")
    one = Scored(
        "model", "one", tmp_path, False, {},
        RunScores("classification", False, 5, {}, {"test": scored(frame)}),
    )  # fmt: skip
    kinds = one.scores.groups["test"]
    why = "fewer than two groups have 10 rows or more, all 3 classes and a defined score"
    assert kinds["speaker"].metrics["uar"] == GroupGap(why=why)
    sheet = contrasts.groups(one, "test", "stem")[list(kinds).index("speaker")]
    assert f"; UAR: no best and worst: {why}; WA of " in sheet.caption
    cells = {row[0].text: row[-2:] for row in sheet.rows}
    assert [cell.note for cell in cells["mine/01"]] == ["2 of 3 classes", ""]
    assert cells["mine/00"][0].note == ""
    assert not any(row[-2].marks for row in sheet.rows)
    assert sum(len(row[-1].marks) for row in sheet.rows) == 2


def test_resamples_that_a_group_is_not_scored_on_are_counted(tmp_path: Path) -> None:
    frame = made.classification(60)
    rows = (frame["true"] == "sadness") & ~frame["speaker"].isin(["00", "04"])
    frame["true"] = frame["true"].mask(rows, "anger")
    found = scored(frame)
    most = max(
        entry.undefined
        for one in (*found["gender"].groups.values(), found["gender"].metrics["uar"])
        for entry in (one.metrics.values() if isinstance(one, GroupScores) else [one.gap])
    )
    assert most > 40
    one = Scored(
        "model",
        "one",
        tmp_path,
        False,
        {},
        RunScores("classification", False, 5, {}, {"test": found}),
    )
    (sheet, *_) = contrasts.groups(one, "test", "stem")
    assert f"a group lacks a class are left out (up to {most} of 200)" in sheet.caption


def test_regression_groups_leave_masked_targets_out() -> None:
    frame = made.regression(n=120, partitions=("test",))
    frame.loc[frame["speaker"] == "00", "Sadness_true"] = np.nan
    kind = scored(frame, ("spearman",))["speaker"]
    found = kind.groups["mine/00"]
    assert found.targets == Share(2, 3)
    assert "mine/00" not in (kind.metrics["spearman"].best, kind.metrics["spearman"].worst)
    part = frame[frame["speaker"] == "00"]
    known = part["Calmness_true"].notna()
    expected = [
        metrics.spearman(part.loc[known, "Calmness_true"], part.loc[known, "Calmness_pred"]),
        metrics.spearman(part["Anger_true"], part["Anger_pred"]),
    ]
    assert found.metrics["spearman"].value == pytest.approx(np.mean(expected))


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
    assert sum(part.n for part in one["speaker"].groups.values()) == 50
    half = groups.group_names(frame, {"mine": table_of(frame[frame["corpus"] == "mine"])})
    assert (half["gender"][frame["corpus"] == "yours"] == "").all()
    assert set(half["gender"][frame["corpus"] == "mine"]) == {"female", "male"}


def test_the_scores_hold_the_groups_of_the_tables(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 200")
    frame = made.classification(60)
    folder = made.finish(recipe, tmp_path / "runs", "one", frame)
    stores = tmp_path / "stores"
    plain = score.score_run(folder, recipe)
    assert list(plain.groups["test"]) == ["speaker"]
    assert plain.warnings == ()
    absent = score.score_run(folder, recipe, stores=stores, force=True)
    assert absent.warnings == ("no table of mine: not by gender, language and session",)
    table = table_of(frame)
    write_table(stores / "mine", table)
    found = score.score_run(folder, recipe, stores=stores)
    assert list(found.groups["test"]) == ["gender", "session", "speaker"]
    # Where the table is not at hand, what was made with it holds; where it changed, it does not.
    assert score.score_run(folder, recipe) == found
    assert score.score_run(folder, recipe, stores=tmp_path / "none") == found
    assert score.read_scores(folder, recipe) == found
    table.rows["gender"] = "male"
    write_table(stores / "mine", table)
    with pytest.raises(RunError, match="missing or outdated"):
        score.read_scores(folder, recipe, stores=stores)
    changed = score.score_run(folder, recipe, stores=stores)
    assert list(changed.groups["test"]) == ["session", "speaker"]


def test_masked_rows_are_in_no_group(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification(60)
    frame.loc[frame["speaker"] == "00", "true"] = ""
    found = score.score_run(made.finish(recipe, tmp_path / "runs", "one", frame), recipe)
    assert "mine/00" not in found.groups["test"]["speaker"].groups
    whole = frame.assign(true="")
    found = score.score_run(made.finish(recipe, tmp_path / "runs", "one", whole), recipe)
    assert found.groups == {"test": {}}
