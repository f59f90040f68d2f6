"""Folds: disjoint, complete, deterministic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.errors import RunError
from features.recipe import SplitSpec
from features.splits import inner_folds, outer_folds, shared_speakers
from tests.models.synthetic import rows


def make(n: int = 120, n_speakers: int = 10, corpus: str = "made", seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    speaker = rng.integers(0, n_speakers, n)
    return rows(
        n,
        corpus,
        speaker=[f"{i:02}" for i in speaker],
        session=[str(i // 2) for i in speaker],
        emotion=rng.choice(["angry", "calm", "sad"], n, p=[0.6, 0.3, 0.1]).astype(object),
    )


def united(*frames: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    frame = pd.concat(frames).sort_values(["corpus", "utterance"], ignore_index=True)
    return frame, frame["emotion"].to_numpy(str)


def spec(**values: object) -> SplitSpec:
    return SplitSpec.model_validate({"inner": "speaker-k-fold", **values})


CROSS = ["leave-one-speaker-out", "leave-one-session-out", "speaker-k-fold"]


@pytest.mark.parametrize("outer", CROSS)
@pytest.mark.parametrize("task", ["classes", "targets"])
def test_each_row_is_held_out_once_and_no_speaker_is_on_both_sides(outer: str, task: str) -> None:
    frame, y = united(make(), make(60, 6, "other", 1))
    if task == "targets":
        y = np.random.default_rng(0).random((len(frame), 2))
    folds = outer_folds(frame, spec(outer=outer), y)
    held = np.concatenate([fold.test for fold in folds])
    assert sorted(held) == list(range(len(frame)))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(len(frame)))
        assert shared_speakers(frame, fold.train, fold.test) == []


def test_left_out_groups_by_hand() -> None:
    one = rows(4, "a", speaker=["1", "2", "1", "3"], session=["x", "x", "x", "y"], emotion="calm")
    two = rows(2, "b", speaker=["1", "1"], session=["x", "z"], emotion="sad")
    frame, y = united(one, two)
    speakers = outer_folds(frame, spec(outer="leave-one-speaker-out"), y)
    assert [(f.name, f.test.tolist()) for f in speakers] == [
        ("a/1", [0, 2]),
        ("a/2", [1]),
        ("a/3", [3]),
        ("b/1", [4, 5]),
    ]
    assert speakers[3].train.tolist() == [0, 1, 2, 3]
    sessions = outer_folds(frame, spec(outer="leave-one-session-out"), y)
    assert [(f.name, f.test.tolist()) for f in sessions] == [
        ("a/x", [0, 1, 2]),
        ("a/y", [3]),
        ("b/x", [4]),
        ("b/z", [5]),
    ]


@pytest.mark.parametrize("task", ["classes", "targets"])
def test_speaker_folds_of_two_corpora_are_those_of_each_united(task: str) -> None:
    one, two = make(), make(60, 6, "other", 1)
    both, y = united(one, two)

    def folds(frame: pd.DataFrame, y: np.ndarray) -> list[set[str]]:
        y = np.zeros((len(frame), 2)) if task == "targets" else y
        key = (frame["corpus"] + "/" + frame["utterance"]).to_numpy(str)
        found = outer_folds(frame, spec(outer="speaker-k-fold", outer_folds=3, seed=4), y)
        return [set(key[fold.test]) for fold in found]

    parts = [a | b for a, b in zip(folds(*united(one)), folds(*united(two)), strict=True)]
    assert folds(both, y) == parts


@pytest.mark.parametrize("inner", ["speaker-k-fold", "stratified-k-fold"])
def test_order_of_rows_does_not_matter_and_the_seed_does(inner: str) -> None:
    frame, y = united(make())
    shuffled = np.random.default_rng(1).permutation(len(frame))
    some = np.sort(shuffled[:90])

    def tests(order: np.ndarray, seed: int) -> list[set[str]]:
        moved = frame.iloc[order].reset_index(drop=True)
        at = np.flatnonzero(np.isin(order, some))
        folds = inner_folds(moved, at, y[order], spec(inner=inner, inner_folds=3, seed=seed))
        return [set(moved["utterance"].iloc[fold.test]) for fold in folds]

    straight = np.arange(len(frame))
    assert tests(straight, 0) == tests(shuffled, 0)
    assert tests(straight, 0) != tests(straight, 1)


@pytest.mark.parametrize("inner", ["speaker-k-fold", "stratified-k-fold"])
def test_inner_folds_divide_the_given_positions_alone(inner: str) -> None:
    frame, y = united(make())
    some = np.flatnonzero(frame["speaker"] != "03")
    folds = inner_folds(frame, some, y, spec(inner=inner))
    assert [fold.name for fold in folds] == ["0", "1", "2", "3", "4"]
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(some)
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(some)
        share = (y[fold.test] == "angry").mean()
        assert abs(share - (y[some] == "angry").mean()) < 0.15


def test_speaker_folds_of_targets_are_balanced_by_counts() -> None:
    counts = [40, 30, 20, 10, 10, 10]
    speaker = np.repeat([str(i) for i in range(6)], counts)
    frame = rows(120, speaker=speaker)
    folds = outer_folds(frame, spec(outer="speaker-k-fold", outer_folds=3), np.zeros((120, 1)))
    assert sorted(len(fold.test) for fold in folds) == [40, 40, 40]


def test_holdout_keeps_the_shares_of_classes_in_each_corpus() -> None:
    frame, y = united(make(100), make(200, 6, "other", 1))
    y[[3, 50]] = ""  # masked: nothing to fit on, so held out
    (fold,) = outer_folds(frame, spec(outer="stratified-holdout", test_size=0.25), y)
    assert {3, 50} <= set(fold.test)
    assert sorted([*fold.train, *fold.test]) == list(range(300))
    for corpus in ("made", "other"):
        of_corpus = np.flatnonzero((frame["corpus"] == corpus).to_numpy() & (y != ""))
        held = np.intersect1d(fold.test, of_corpus)
        assert len(held) == -(-len(of_corpus) // 4)
        for label in ("angry", "calm", "sad"):
            wanted = (y[of_corpus] == label).sum() / 4
            assert abs((y[held] == label).sum() - wanted) <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"outer": "leave-one-speaker-out"}, "the speaker of 5 of 120 utterances is unknown"),
        ({"outer": "speaker-k-fold"}, r"made/u000, made/u007, made/u009, \.\.\.\)"),
    ],
)
def test_unknown_speakers_are_named(values: dict[str, str], message: str) -> None:
    frame, y = united(make())
    frame.loc[[0, 7, 9, 11, 30], "speaker"] = ""
    with pytest.raises(RunError, match=message):
        outer_folds(frame, spec(**values), y)


def test_splits_that_cannot_be_made() -> None:
    frame, y = united(make(60, 4))
    with pytest.raises(RunError, match="made has 4 speakers .* at most 4 folds"):
        outer_folds(frame, spec(outer="speaker-k-fold"), y)
    with pytest.raises(RunError, match="inner = 'speaker-k-fold' of 5: made has 4 speakers"):
        inner_folds(frame, np.arange(60), y, spec())
    with pytest.raises(RunError, match="only one speaker: made/00"):
        outer_folds(frame.assign(speaker="00"), spec(outer="leave-one-speaker-out"), y)
    y = y.copy()
    y[y == "sad"] = "calm"
    y[4] = "sad"
    with pytest.raises(RunError, match="stratified-holdout.*made: The least populated class"):
        outer_folds(frame, spec(outer="stratified-holdout"), y)
    with pytest.raises(RunError, match="needs classes"):
        outer_folds(frame, spec(outer="stratified-holdout"), np.zeros((60, 2)))
    with pytest.raises(RunError, match="needs classes"):
        inner_folds(frame, np.arange(60), np.zeros((60, 2)), spec(inner="stratified-k-fold"))
