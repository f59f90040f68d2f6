"""Combinations: by hand, aligned by key, refused where the members disagree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from evaluate.runs.files import read_run
from evaluate.runs.folders import INNER, PREDICTIONS, run_folder
from evaluate.runs.freshness import train_inputs
from evaluate.runs.predictions import read_predictions, write_predictions
from evaluate.runs.record import write_run
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.fusion import FusionSpec
from features.recipe.member import Member
from fusion.combine import fuse
from fusion.methods import logit_sum, mean, mean_probability, vote
from tests.fusion.combining import combine
from tests.models import synthetic
from tests.models.test_train import RIDGE, SVC


def spec(method: str, missing: str = "error") -> FusionSpec:
    members = ["one", "two"]
    return FusionSpec.model_validate({"method": method, "members": members, "missing": missing})


def classes(scores: list[list[float]], **columns: object) -> pd.DataFrame:
    n = len(scores)
    key = {"corpus": "made", "utterance": [f"u{i}" for i in range(n)], "partition": "test"}
    frame = pd.DataFrame({**key, "fold": "", "speaker": "s", "true": "a", "pred": "a"})
    frame[["score_a", "score_b"]] = np.array(scores, dtype=float)
    return frame.assign(**columns)


def test_mean_is_the_plain_average(rng: np.random.Generator) -> None:
    values = rng.normal(size=(3, 5, 2))
    np.testing.assert_allclose(mean(values), (values[0] + values[1] + values[2]) / 3)


def test_mean_of_class_scores_is_taken_after_softmax(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(3, 5, 4))
    wanted = sum(np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) for s in scores) / 3
    np.testing.assert_allclose(mean_probability(scores), wanted)
    scores[:, :, 1] = np.nan  # a class that no head has seen
    found = mean_probability(scores)
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_allclose(
        found[:, [0, 2, 3]], softmax(scores[:, :, [0, 2, 3]], axis=2).mean(axis=0)
    )


def test_votes_by_hand() -> None:
    scores = np.array(
        [
            [[9.0, 0.0, 1.0], [3.0, 0.0, 0.0], [1.0, 0.0, 0.9], [1.0, np.nan, 0.0]],
            [[0.0, 1.0, 0.5], [0.0, 2.0, 0.0], [0.0, 1.0, 0.9], [0.0, np.nan, 2.0]],
            [[0.0, 1.0, 0.5], [0.0, 0.0, 4.0], [0.0, 1.0, 0.9], [0.0, np.nan, 1.0]],
        ]
    )
    found = vote(scores)
    # Two votes beat one loud one; three single votes fall to the sum; no votes, the best sum: no.
    assert np.nanargmax(found, axis=1).tolist() == [1, 2, 1, 2]
    assert np.round(np.nan_to_num(found)).astype(int).tolist() == [
        [1, 2, 0],
        [1, 1, 1],
        [1, 2, 0],
        [1, 0, 2],
    ]
    assert np.isnan(found[3, 1])


def test_vote_equals_counting_with_ties_by_sum(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(5, 400, 4))
    total, winners = logit_sum(scores), []
    for row in range(400):
        counts = np.bincount(scores[:, row].argmax(axis=1), minlength=4)
        tied = np.flatnonzero(counts == counts.max())
        winners.append(tied[total[row, tied].argmax()])
    assert vote(scores).argmax(axis=1).tolist() == winners


@pytest.mark.parametrize(("method", "pred"), [("mean", "b"), ("logit-sum", "a"), ("vote", "a")])
def test_members_are_aligned_by_key_not_by_order(method: str, pred: str) -> None:
    # u1: sums 5.5 and 5.4, so a; probabilities nearly 1 for b by one, and 0.52 for a by two.
    one = classes([[0.0, 2.0], [0.0, 5.4]])
    two = classes([[0.0, 3.0], [5.5, 0.0]])
    scores = {"mean": [[0.0, 5.4], [0.02, 0.0]]}.get(method, [[0.0, 5.4], [5.5, 0.0]])
    one.loc[1, ["score_a", "score_b"]], two.loc[1, ["score_a", "score_b"]] = scores
    straight, _ = combine({"one": one, "two": two}, spec(method))
    turned, _ = combine({"one": one, "two": two.iloc[::-1]}, spec(method))
    assert straight.equals(turned)
    assert straight["pred"].tolist() == ["b", pred]
    assert list(straight.columns) == list(one.columns)


def test_a_member_that_lacks_rows_is_an_error_or_drops_them() -> None:
    one, two = classes([[1, 0]] * 4), classes([[0, 2]] * 3)
    two["utterance"] = ["u3", "u0", "u9"]
    frames = {"one": one, "two": two}
    with pytest.raises(RunError, match=r"one lacks 1 row of two: made/u9 \(test\)"):
        combine(frames, spec("vote"))
    with pytest.raises(RunError, match=r"two lacks 2 rows of one: made/u1 \(test\), made/u2"):
        combine({"one": one, "two": two.head(2)}, spec("vote"))
    fused, n_dropped = combine(frames, spec("logit-sum", "drop"))
    assert fused["utterance"].tolist() == ["u0", "u3"]
    assert n_dropped == 3
    other_fold = classes([[1, 0]] * 4, fold="made/s")
    with pytest.raises(RunError, match="no utterance that all of one, two predict"):
        combine({"one": one, "two": other_fold}, spec("vote", "drop"))


def test_members_that_disagree_are_named() -> None:
    one, two = classes([[1, 0]] * 3), classes([[1, 0]] * 3, true=["a", "b", "b"])
    with pytest.raises(
        RunError,
        match=r"one and two disagree on the truth of 2 rows: made/u1 \(test\): true is 'a'",
    ):
        combine({"one": one, "two": two}, spec("vote"))
    other = classes([[1, 0]] * 3).rename(columns={"score_b": "score_c"})
    with pytest.raises(RunError, match="one and two predict different things"):
        combine({"one": one, "two": other}, spec("vote"))


FUSION = '\n[fusion.nine]\nmethod = "mean"\n'


def trained(folder: Path, text: str):
    recipe = synthetic.recipe(folder, text + FUSION)
    for model in recipe.models:
        synthetic.train(recipe, model, folders=Folders(stores=folder, runs=folder / "runs"), jobs=1)
    return recipe


def test_regression_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.regression(tmp_path)
    recipe = trained(tmp_path, RIDGE)
    folder = fuse(recipe, "nine", Folders(stores=tmp_path, runs=tmp_path / "runs"))
    assert folder == tmp_path / "runs" / "study" / "fusion" / "nine"
    members = [tmp_path / "runs" / "study" / one for one in ("one", "two")]
    for name in ("predictions.csv", "inner.csv"):
        one, two = (read_predictions(member / name) for member in members)
        fused = read_predictions(folder / name)
        for column in fused:
            if column.endswith("_pred"):
                np.testing.assert_array_equal(fused[column], (one[column] + two[column]) / 2)
            else:
                assert fused[column].equals(one[column])
    assert read_run(folder)["members"] == ["one", "two"]

    capsys.readouterr()
    stamp = (folder / "run.json").stat().st_mtime_ns
    fuse(recipe, "nine", Folders(stores=tmp_path, runs=tmp_path / "runs"), tell=print)
    assert capsys.readouterr().out == "fusion nine: nothing to do\n"
    assert (folder / "run.json").stat().st_mtime_ns == stamp
    fuse(recipe, "nine", Folders(stores=tmp_path, runs=tmp_path / "runs"), force=True)
    assert (folder / "run.json").stat().st_mtime_ns > stamp

    frame = read_predictions(members[1] / "predictions.csv")
    frame["sad_pred"] += 1
    write_predictions(members[1] / "predictions.csv", frame)
    before = read_predictions(folder / "predictions.csv")["sad_pred"]
    fuse(recipe, "nine", Folders(stores=tmp_path, runs=tmp_path / "runs"))
    after = read_predictions(folder / "predictions.csv")["sad_pred"]
    np.testing.assert_allclose(after, before + 0.5)


def test_missing_and_stale_members_are_named(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = trained(tmp_path, SVC.replace("[0.001, 0.1]", "[0.1]"))
    (tmp_path / "runs" / "study" / "two" / "run.json").unlink()
    with pytest.raises(RunError, match="two has no finished run .* make train .* MODEL=two"):
        fuse(recipe, "nine", Folders(stores=tmp_path, runs=tmp_path / "runs"))
    other = synthetic.recipe(tmp_path, SVC + FUSION)
    with pytest.raises(RunError, match="the run of one in .* is stale"):
        fuse(other, "nine", Folders(stores=tmp_path, runs=tmp_path / "runs"))


def test_what_is_dropped_is_told_and_members_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    more = '[fusion.shared]\nmethod = "mean"\nmissing = "drop"\n[fusion.sure]\nmethod = "nnls"'
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, f"{SVC}\n{more}")
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    # Surely wrong: what is true has the probability 0.
    frame = classes([[-1e4, 0.0]] * 6, fold=["made/s"] * 3 + ["made/t"] * 3, speaker="r")

    def finish(**members: pd.DataFrame) -> None:
        for member, rows in members.items():
            folder = run_folder(folders.runs, recipe.name, member)
            for name in (PREDICTIONS, INNER):
                write_predictions(folder / name, rows)
            write_run(folder, {"inputs": train_inputs(recipe, Member(member), tmp_path)})

    told: list[str] = []
    finish(one=frame, two=frame.iloc[2:])
    fused = read_predictions(fuse(recipe, "shared", folders, tell=told.append) / PREDICTIONS)
    assert fused["utterance"].tolist() == ["u2", "u3", "u4", "u5"]
    assert "fusion shared: predictions.csv: 2 rows dropped that not every member has" in told
    finish(two=frame)
    with pytest.raises(RunError, match="fusion sure, fold made/s: nnls: every weight is 0"):
        fuse(recipe, "sure", folders)
