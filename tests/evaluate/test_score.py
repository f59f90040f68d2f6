"""Scores of runs: what is pooled, left out, counted, and when they are made anew."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from evaluate.metrics import metrics
from evaluate.report import sheets, words
from evaluate.report import write as report
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs import record as runs
from evaluate.runs.files import read_run
from evaluate.runs.folders import PREDICTIONS, SCORES, SEARCH
from evaluate.runs.predictions import write_predictions
from evaluate.scores import gaps, names, score
from evaluate.scores.pairs import make_statistics
from evaluate.scores.records import Estimate
from features.common.errors import RunError
from features.common.folders import Folders
from tests.evaluate import made
from tests.evaluate.page import read


def scored(tmp_path: Path, frame: pd.DataFrame, task: str, more: str = "") -> dict:
    recipe = made.recipe(tmp_path, task, more)
    return score.score_run(made.finish(recipe, tmp_path / "runs", "one", frame), recipe)


def test_regression_scores_are_those_of_the_rows_with_a_truth(tmp_path: Path) -> None:
    frame = made.regression()
    found = scored(tmp_path, frame, "regression")
    assert found.targets == made.TARGETS
    assert list(found.partitions) == ["devel", "test"]
    for name, part in found.partitions.items():
        rows = frame[frame["partition"] == name]
        assert part.n == 30
        assert part.n_speakers == 6
        for metric, function in metrics.REGRESSION.items():
            values = []
            for target in made.TARGETS:
                known = rows[f"{target}_true"].notna()
                truth, prediction = (rows.loc[known, f"{target}_{s}"] for s in ("true", "pred"))
                entry = part.per_target[target].metrics[metric]
                assert entry.value == pytest.approx(function(truth, prediction), abs=1e-12)
                assert entry.low <= entry.value <= entry.high
                values.append(entry.value)
            assert part.metrics[metric].value == pytest.approx(np.mean(values), abs=1e-12)
        counts = [part.per_target[target].n for target in made.TARGETS]
        assert counts == [29, 30, 30]


def test_the_interval_of_the_mean_is_narrower_than_the_mean_of_bounds(tmp_path: Path) -> None:
    part = scored(tmp_path, made.regression(n=200, speakers=50), "regression").partitions["test"]
    bounds = [
        np.mean([getattr(entry.metrics["spearman"], side) for entry in part.per_target.values()])
        for side in ("low", "high")
    ]
    mean = part.metrics["spearman"]
    assert bounds[0] < mean.low < mean.high < bounds[1]


def test_classification_is_pooled_over_folds_with_their_mean_beside(tmp_path: Path) -> None:
    frame = made.classification()
    found = scored(tmp_path, frame, "classification")
    part = found.partitions["test"]
    truth, prediction = frame["true"].to_numpy(), frame["pred"].to_numpy()
    assert found.labels == made.LABELS
    assert np.array_equal(part.confusion, metrics.confusion(truth, prediction, made.LABELS))
    assert part.metrics["uar"].value == metrics.uar(truth, prediction, made.LABELS)
    folds = [metrics.wa(f["true"], f["pred"], made.LABELS) for _, f in frame.groupby("fold")]
    assert part.folds.n == 5
    assert part.folds.mean["wa"] == pytest.approx(np.mean(folds))
    assert part.folds.std["wa"] == pytest.approx(np.std(folds, ddof=1))
    assert part.per_class["anger"].support == (truth == "anger").sum()


def test_masked_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = made.classification()
    frame.loc[:9, "true"] = ""
    found = scored(tmp_path, frame, "classification")
    part = found.partitions["test"]
    assert (part.n, part.n_masked) == (50, 10)
    assert np.sum(part.confusion) == 50
    assert "test: 10 of 60 rows have no truth; left out" in found.warnings


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_partition_that_is_masked_whole_has_no_scores(tmp_path: Path, task: str) -> None:
    if task == "regression":
        frame = made.regression()
        truths = [f"{target}_true" for target in made.TARGETS]
        frame.loc[frame["partition"] == "test", truths] = np.nan
    else:
        frame = made.classification().assign(true="")
    recipe = made.recipe(tmp_path, task)
    made.finish(recipe, tmp_path / "runs", "one", frame)
    (one,) = score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    part = one.scores.partitions["test"]
    assert part.n == 0
    assert part.metrics == {}
    assert "masked" in made.table(recipe, [one])


def test_a_target_that_is_masked_whole_is_left_out_of_the_mean(tmp_path: Path) -> None:
    frame = made.regression().assign(Sadness_true=np.nan)
    found = scored(tmp_path, frame, "regression")
    part = found.partitions["test"]
    others = [part.per_target[t].metrics["ccc"].value for t in ("Calmness", "Anger")]
    assert part.metrics["ccc"].value == pytest.approx(np.mean(others))
    assert part.per_target["Sadness"].metrics["ccc"].value is None
    assert any("Sadness: no row has a truth" in text for text in found.warnings)


def test_a_constant_prediction_makes_the_mean_undefined_and_says_so(tmp_path: Path) -> None:
    frame = made.regression().assign(Anger_pred=0.25)
    found = scored(tmp_path, frame, "regression")
    part = found.partitions["test"]
    entry = part.metrics["spearman"]
    assert entry == Estimate(None, undefined=1000)
    assert part.metrics["mae"].value > 0
    warned = [text for text in found.warnings if text.startswith("test, Anger: Spearman")]
    assert len(warned) == 1
    assert "undefined: constant prediction over 30 rows" in warned[0]


def test_an_undefined_score_has_no_bounds_in_the_table(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    frame = made.regression().assign(Anger_pred=0.25)
    made.finish(recipe, tmp_path / "runs", "one", frame)
    line = made.table(
        recipe, score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    ).splitlines()[-1]
    assert re.split("  +", line) == ["one", *["undefined (6 speakers)"] * 2]


def test_a_class_without_a_sample_is_counted_once(tmp_path: Path) -> None:
    frame = made.classification()
    frame = frame[frame["true"] != "sadness"]
    found = scored(tmp_path, frame, "classification")
    texts = found.warnings
    absent = "test: no row is of sadness; UAR is the mean over the other 2 of 3 classes"
    assert texts.count(absent) == 1
    recipe = made.recipe(tmp_path, "classification")
    overview = made.table(recipe, score.score_all(recipe, Folders(runs=tmp_path / "runs")))
    assert overview.splitlines().count(absent) == 1
    assert sum("in 5 of 5 folds" in text for text in texts) == 1
    assert found.partitions["test"].per_class["sadness"].recall is None


def test_several_corpora_are_also_scored_alone(tmp_path: Path) -> None:
    frame = made.classification()
    frame.loc[::3, "corpus"] = "yours"
    found = scored(tmp_path, frame, "classification")
    part = found.partitions["test"]
    assert found.n_speakers == 10  # speaker 00 of one corpus is not that of the other
    assert list(part.corpora) == ["mine", "yours"]
    both = np.add(part.corpora["mine"].confusion, part.corpora["yours"].confusion)
    assert np.array_equal(both, part.confusion)
    assert part.corpora["yours"].n == 20


def test_unknown_speakers_are_resampled_as_utterances(tmp_path: Path) -> None:
    none = scored(tmp_path, made.regression().assign(speaker=""), "regression")
    assert none.n_speakers is None
    assert not none.warnings
    some = made.regression()
    some.loc[:4, "speaker"] = ""
    found = scored(tmp_path, some, "regression")
    assert "devel: 5 rows have no speaker; resampled one by one" in found.warnings


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    frame = made.classification()
    one = scored(tmp_path, frame, "classification").partitions["test"]
    other = scored(tmp_path, frame[::-1], "classification").partitions["test"]
    assert one.confusion == other.confusion
    assert one.metrics["uar"].value == other.metrics["uar"].value
    assert one.metrics["uar"].low == other.metrics["uar"].low


def test_scores_are_made_anew_only_when_something_changed(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    folder = made.finish(recipe, tmp_path / "runs", "one", made.regression())
    path = folder / SCORES
    with pytest.raises(RunError, match=r"missing or outdated; run make score RECIPE="):
        score.read_scores(folder, recipe)
    first = score.score_run(folder, recipe)
    assert first == score.read_scores(folder, recipe)
    stamp = path.stat().st_mtime_ns
    score.score_run(folder, recipe)
    assert path.stat().st_mtime_ns == stamp
    score.score_run(folder, recipe, force=True)
    assert path.stat().st_mtime_ns > stamp

    wider = made.recipe(tmp_path, more="[evaluate]\nconfidence = 0.6")
    second = score.score_run(folder, wider).partitions["test"].metrics["ccc"]
    assert second.low > first.partitions["test"].metrics["ccc"].low
    write_predictions(folder / PREDICTIONS, made.regression(seed=4))
    with pytest.raises(RunError, match="outdated"):
        score.read_scores(folder, wider)
    third = score.score_run(folder, wider).partitions["test"].metrics["ccc"]
    assert third.value != second.value


def test_predictions_that_do_not_fit_the_recipe_are_refused(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    folder = made.finish(recipe, tmp_path / "runs", "one", made.classification())
    with pytest.raises(RunError, match="are those of a classification, the recipe's task is regr"):
        score.score_run(folder, recipe)
    frame = made.classification()
    frame.loc[0, "pred"] = "joy"
    with pytest.raises(RunError, match=r"predictions\.csv: test: prediction: \['joy'\] not among"):
        scored(tmp_path, frame, "classification")


def test_a_finished_run_without_predictions_is_an_error(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    folder = made.finish(recipe, tmp_path / "runs", "one", made.regression())
    score.score_run(folder, recipe)
    (folder / PREDICTIONS).unlink()
    with pytest.raises(RunError, match=r"predictions\.csv: missing from a finished run"):
        score.score_run(folder, recipe)


def test_the_table_has_models_then_fusions_and_marks(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    with pytest.raises(RunError, match=r"no finished run; run make train RECIPE=.*study\.toml"):
        score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    frame = made.regression()
    made.finish(recipe, tmp_path / "runs", "two", frame, {"title": "two (untrained)"})
    made.finish(recipe, tmp_path / "runs", "mean", frame, {"optimistic": True})
    lines = made.table(
        recipe, score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    ).splitlines()
    assert lines[0] == (
        "study: Spearman's rho, mean of 3 targets, with 95% bootstrap intervals over speakers; "
        "devel 30 utterances of 6 speakers; test 30 utterances of 6 speakers"
    )
    assert re.split("  +", lines[1]) == [
        "run",
        "devel, Spearman's rho (6 speakers)",
        "test, Spearman's rho (6 speakers)",
    ]
    assert lines[3].startswith("two (untrained)           0.")
    assert set(lines[2]) == set(lines[4]) == {"-"}
    assert lines[5].startswith("fused: mean (optimistic)  0.")
    changed = made.recipe(tmp_path, more="[head.grid]\nC = [5.0]")
    text = made.table(changed, score.score_all(changed, Folders(runs=tmp_path / "runs")))
    assert "two (untrained) (stale)" in text


def test_many_speakers_are_not_named_in_every_cell(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification(n=60)
    frame["speaker"] = [f"{i % 20:02}" for i in range(60)]
    made.finish(recipe, tmp_path / "runs", "one", frame)
    text = made.table(recipe, score.score_all(recipe, Folders(runs=tmp_path / "runs")))
    assert "test 60 utterances of 20 speakers" in text
    assert "(20 speakers)" not in text
    assert text.splitlines()[1].split() == ["run", "test,", "UAR", "test,", "WA"]


def by_hand(a: pd.DataFrame, b: pd.DataFrame) -> float:
    return balanced_accuracy_score(a["true"], a["pred"]) - balanced_accuracy_score(
        b["true"], b["pred"]
    )


def test_a_gap_is_that_of_the_shared_rows(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 200")
    first, second = made.classification(80, right=0.9), made.classification(80)
    second = second.assign(true=first["true"]).iloc[30:]
    some = first.iloc[:60].sample(frac=1, random_state=0)
    gap = gaps.paired_gap(some, second, recipe)
    assert gap.n == 30
    assert gap.n_speakers == 5
    entry = gap.metrics["uar"]
    assert entry.value == pytest.approx(by_hand(first.iloc[30:60], second.iloc[:30]))
    assert entry.low <= entry.value <= entry.high
    assert gap.scores["uar"] == pytest.approx(
        [balanced_accuracy_score(one["true"], one["pred"])
         for one in (first.iloc[30:60], second.iloc[:30])]
    )  # fmt: skip
    back = gaps.paired_gap(second, some, recipe).metrics["uar"]
    assert [back.value, back.low, back.high] == pytest.approx(
        [-entry.value, -entry.high, -entry.low]
    )
    same = gaps.paired_gap(first, first, recipe).metrics["uar"]
    assert [same.value, same.low, same.high] == [0, 0, 0]


def test_gaps_that_cannot_be_told(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification(40)
    twice = pd.concat([frame, frame.assign(fold="again")])
    assert gaps.paired_gap(twice, frame, recipe).why == "rows are held out several times"
    none = gaps.paired_gap(frame[:10], frame[20:], recipe)
    assert none.why == "no row is held out in both"
    other = frame.assign(true=frame["true"].to_numpy()[::-1])
    assert gaps.paired_gap(frame, other, recipe).why == "the truths differ"
    assert words.gap_text(none, "uar") == "no gap: no row is held out in both"


def test_the_grid_is_shown_with_its_gaps(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    split = recipe.split.model_copy(update={"outer": "speaker-sentence-grid"})
    recipe = recipe.model_copy(update={"split": split})
    parts = [
        made.classification(80, right=right).assign(partition=name, fold=f"{name} 0.0")
        for name, right in (("test", 0.2), ("speaker-seen", 0.8), ("both-seen", 0.9))
    ]
    folder = made.finish(recipe, tmp_path / "runs", "one", pd.concat(parts))
    scores = score.score_run(folder, recipe)
    assert set(scores.gaps) == {"speaker-seen", "both-seen"}
    gap = scores.gaps["both-seen"].metrics["uar"]
    values = [scores.partitions[name].metrics["uar"].value for name in ("both-seen", "test")]
    assert gap.value == pytest.approx(values[0] - values[1])
    (one,) = score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    sheet = sheets.grid(one, "uar", "grid")
    caption, header, _, *rows = to_terminal(sheet, 200).splitlines()
    assert caption.startswith("one: UAR of the same rows, by what was trained on; behind it")
    assert header.split() == ["trained", "on", "sentences", "new", "sentences", "seen"]
    assert rows[0].startswith("speakers new  ")
    assert rows[0].endswith("  -")  # sentence-seen is not there
    assert f" ({gap.value:+.3f} [" in rows[1]
    make_statistics(
        recipe, score.read_all(recipe, Folders(runs=tmp_path / "runs")), tmp_path / "runs"
    )
    index, _ = report.make_report(
        recipe, Folders(stores=tmp_path / "none", runs=tmp_path / "runs", data=tmp_path / "none")
    )
    assert f"{gap.value:+.3f} [" in index.read_text(encoding="utf-8")


def rare_class() -> pd.DataFrame:
    """Five speakers, two of whom are ever sad."""
    frame = made.classification(n=60, right=0.5)
    rows = (frame["true"] == "sadness") & ~frame["speaker"].isin(["00", "01"])
    return frame.assign(true=frame["true"].mask(rows, "anger"))


def test_resamples_without_a_class_are_left_out_and_said(tmp_path: Path) -> None:
    """The draw again by hand, each resample as rows: those without a sad one have no UAR."""
    recipe = made.recipe(tmp_path, "classification", "[evaluate]\nbootstrap = 300")
    frame = rare_class()
    for member in ("one", "two"):
        folder = made.finish(recipe, tmp_path / "runs", member, frame)
    speakers = list(dict.fromkeys(frame["speaker"]))
    rng = np.random.default_rng(recipe.evaluate.seed)
    values, lacking = {"uar": [], "wa": []}, 0
    for _ in range(300):
        drawn = [speakers[i] for i in rng.integers(0, 5, 5)]
        rows = pd.concat([frame[frame["speaker"] == one] for one in drawn])
        values["wa"].append((rows["true"] == rows["pred"]).mean())
        if "sadness" in set(rows["true"]):
            values["uar"].append(balanced_accuracy_score(rows["true"], rows["pred"]))
        else:
            lacking += 1
    assert 0 < lacking < 60
    found = score.score_run(folder, recipe)
    entries = found.partitions["test"].metrics
    for metric, each in values.items():
        wanted = np.quantile(each, [0.025, 0.975])
        assert [entries[metric].low, entries[metric].high] == pytest.approx(wanted)
    assert entries["uar"].undefined == entries["macro_f1"].undefined == lacking
    assert entries["wa"].undefined == 0
    text = f"{lacking} of 300 resamples lack a class and are left out"
    note = f"test, UAR and macro F1: {text}"
    assert found.warnings.count(note) == 1
    both = score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    assert made.table(recipe, both).splitlines().count(note) == 1
    gap = gaps.paired_gap(frame, frame, recipe)
    assert gap.lacking == text
    assert words.gap_size(gap.n, gap.n_speakers, gap.lacking) == f"n = 60, 5 speakers, {text}"
    pairs = make_statistics(recipe, both, tmp_path / "runs").partitions["test"].metrics
    assert [pairs[metric].lacking for metric in ("uar", "wa")] == [text, ""]


def test_too_few_resamples_with_every_class_give_no_interval(tmp_path: Path) -> None:
    """Two classes of one row each: (1 - 1/e)^2 of the resamples have both."""
    frame = made.classification(n=60)
    frame["speaker"] = [f"{i:02}" for i in range(60)]
    frame["true"] = [made.UNLUCKY, "sadness", *["anger"] * 58]
    found = scored(tmp_path, frame, "classification")
    uar = found.partitions["test"].metrics["uar"]
    assert uar.value > 0
    assert uar.low is None
    (note,) = [text for text in found.warnings if "too few are left for an interval" in text]
    assert uar.undefined == pytest.approx(600, abs=60)
    assert note.startswith(f"test, UAR and macro F1: {uar.undefined} of 1,000 resamples lack")


def on_devel(tmp_path: Path, inner: str = "devel", cells: str = "cell\n0\n1\n") -> list[Path]:
    """Two models whose heads were chosen on devel, and their mean."""
    recipe = made.recipe(tmp_path)
    split = recipe.split.model_copy(update={"outer": "predefined", "inner": inner})
    used = {"recipe": {"split": split.model_dump(mode="json")}}
    folders = [
        made.finish(recipe, tmp_path / "runs", "one", made.regression(), used),
        made.finish(recipe, tmp_path / "runs", "two", made.regression(noise=0.6), used),
        made.finish(
            recipe, tmp_path / "runs", "mean", made.regression(noise=0.4),
            {**used, "members": ["one", "two"], "method": "mean"},
        ),
    ]  # fmt: skip
    for folder in folders[:2]:
        (folder / SEARCH).write_text(cells, encoding="utf-8")
    return folders


def test_devel_is_marked_where_cells_were_chosen_on_it(tmp_path: Path) -> None:
    recipe, folders = made.recipe(tmp_path), on_devel(tmp_path)
    note = "devel: the heads' settings were chosen on these rows; test is the honest figure"
    for folder in folders:
        found = score.score_run(folder, recipe)
        assert found.partitions["devel"].optimistic == names.CHOSEN_ON_DEVEL
        assert not found.partitions["test"].optimistic
        assert note in found.warnings
    scored = score.score_all(recipe, Folders(runs=tmp_path / "runs"))
    lines = made.table(recipe, scored).splitlines()
    assert lines[1].split()[:2] == ["run", "devel,"]
    assert "\n".join(lines[1:4]).count("(optimistic)") == 1
    assert lines.count(note) == 1
    make_statistics(recipe, scored, tmp_path / "runs")
    index, _ = report.make_report(
        recipe, Folders(stores=tmp_path / "none", runs=tmp_path / "runs", data=tmp_path / "none")
    )
    pages = read(index.parent)
    assert "run devel, Spearman's rho (optimistic) test, Spearman's rho" in (
        pages["index.html"].shown
    )
    assert note in pages["index.html"].shown
    for name in ("model-one", "fusion-mean", "comparisons", "fusion"):
        shown = pages[f"{name}.html"].shown
        assert f"devel (optimistic) Optimistic: {names.CHOSEN_ON_DEVEL}." in shown
        assert "test (optimistic)" not in shown


@pytest.mark.parametrize(("inner", "cells"), [("speaker-k-fold", "cell\n0\n1\n"),
                                              ("devel", "cell\n0\n")])  # fmt: skip
def test_devel_that_nothing_was_chosen_on_is_not_marked(
    tmp_path: Path, inner: str, cells: str
) -> None:
    for folder in on_devel(tmp_path, inner, cells):
        found = score.score_run(folder, made.recipe(tmp_path))
        assert not found.partitions["devel"].optimistic
        assert not any("chosen on these rows" in text for text in found.warnings)


def test_a_layer_that_was_chosen_on_devel_is_a_choice(tmp_path: Path) -> None:
    one, *_ = on_devel(tmp_path, cells="cell\n0\n")
    assert not runs.chosen_on_devel(one)
    record = read_run(one)
    runs.write_run(one, {**record, "layer_scores": {"": {"3": 0.1, "4": 0.2}}})
    assert runs.chosen_on_devel(one)
