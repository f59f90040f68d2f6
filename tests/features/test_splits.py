"""Folds: disjoint, complete, deterministic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.common.errors import RunError
from features.recipe.split import SplitSpec
from features.splits.plan import CONDITIONS, Fold, inner_folds, make_plan, outer_folds
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


def names(frame: pd.DataFrame, column: str, positions: np.ndarray) -> set[str]:
    return set((frame["corpus"] + "/" + frame[column]).iloc[positions])


def spec(**values: object) -> SplitSpec:
    return SplitSpec.model_validate({"inner": "speaker-k-fold", **values})


CROSS = ["leave-one-speaker-out", "leave-one-session-out", "speaker-k-fold", "session-k-fold"]
TASKS = pytest.mark.parametrize("task", ["classes", "targets"])


def sentences(frame: pd.DataFrame, n: int = 8) -> pd.DataFrame:
    return frame.assign(sentence=[f"s{i % n}" for i in range(len(frame))])


def described(frame: pd.DataFrame, folds: list[Fold]) -> list[tuple[object, ...]]:
    """Folds in terms of keys, so that they compare whatever the order of the rows."""
    key = (frame["corpus"] + "/" + frame["utterance"]).to_numpy(str)
    return [
        (one.name, one.partition, *(frozenset(key[p]) for p in (one.train, one.devel, one.test)))
        for one in folds
    ]


@pytest.mark.parametrize("outer", CROSS)
@pytest.mark.parametrize("task", ["classes", "targets"])
def test_each_row_is_held_out_once_and_no_speaker_is_on_both_sides(outer: str, task: str) -> None:
    frame, y = united(make(), make(60, 6, "other", 1))
    if task == "targets":
        y = np.random.default_rng(0).random((len(frame), 2))
    folds = outer_folds(frame, spec(outer=outer, outer_folds=3), y)
    held = np.concatenate([fold.test for fold in folds])
    assert sorted(held) == list(range(len(frame)))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(len(frame)))
        column = "session" if "session" in outer else "speaker"
        assert names(frame, column, fold.train).isdisjoint(names(frame, column, fold.test))


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
    one = frame.assign(speaker="00")
    with pytest.raises(RunError, match="1 speaker among .*; choose inner = 'stratified-k-fold' or"):
        inner_folds(one, np.arange(60), y, spec())
    with pytest.raises(RunError, match="1 speaker among these 60 utterances; choose another outer"):
        inner_folds(one, np.arange(60), np.zeros((60, 2)), spec())
    with pytest.raises(RunError, match="1 speaker among these 60 utterances; choose another outer"):
        outer_folds(one, spec(outer="speaker-k-fold"), y)
    dev = frame.assign(partition=["train"] * 30 + ["dev"] * 30)
    with pytest.raises(RunError, match=r"the partition dev \(.*; did you mean 'devel'\?; choose"):
        outer_folds(dev, spec(outer="predefined"), y)
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


EVERY = [
    {"outer": "leave-one-speaker-out"},
    {"outer": "leave-one-session-out"},
    {"outer": "speaker-k-fold", "balance_gender": True},
    {"outer": "session-k-fold", "outer_folds": 3},
    {"outer": "sentence-disjoint", "outer_folds": 4},
    {"outer": "stratified-holdout", "devel_size": 0.2},
    {"outer": "four-to-one-in-five", "inner": "stratified-k-fold"},
    {"outer": "cross-corpus", "within": "speaker-k-fold"},
    {"outer": "cross-corpus", "pool": True},
    {"outer": "speaker-sentence-grid", "outer_folds": 2},
    {"outer": "speaker-k-fold", "shuffle": True},
]


@pytest.mark.parametrize("values", EVERY, ids=lambda one: "-".join(map(str, one.values())))
def test_no_split_depends_on_the_order_of_rows(values: dict[str, object]) -> None:
    three = [make(80), make(60, 6, "other", 1), make(60, 6, "third", 2)]
    frame, y = united(*(sentences(one) for one in three))
    frame["gender"] = np.where(frame["speaker"].astype(int) % 2, "female", "male")
    order = np.random.default_rng(3).permutation(len(frame))
    moved = frame.iloc[order].reset_index(drop=True)
    straight = described(frame, outer_folds(frame, spec(**values), y))
    assert straight == described(moved, outer_folds(moved, spec(**values), y[order]))
    for _, _, train, devel, test in straight:
        assert train.isdisjoint(test)
        assert devel.isdisjoint(train | test)


@TASKS
def test_every_seed_shuffles_groups_that_are_unlike(task: str) -> None:
    frame, y = united(make(200, 12))
    if task == "targets":
        y = np.zeros((len(frame), 1))
    folds = {
        (shuffle, seed): frozenset(
            frozenset(fold.test)
            for fold in outer_folds(
                frame,
                spec(outer="speaker-k-fold", outer_folds=4, shuffle=shuffle, seed=seed),
                y,
            )
        )
        for shuffle in (False, True)
        for seed in range(5)
    }
    assert len({one for (shuffle, _), one in folds.items() if shuffle}) == 5
    assert len({one for (shuffle, _), one in folds.items() if not shuffle}) < 5
    for one in folds.values():
        assert sorted(row for test in one for row in test) == list(range(200))
        for test in one:
            at = np.array(sorted(test))
            assert names(frame, "speaker", at).isdisjoint(
                names(frame, "speaker", np.setdiff1d(np.arange(200), at))
            )


def test_shuffled_folds_are_balanced_by_class_and_gender() -> None:
    kinds = [("calm", "female"), ("sad", "male"), ("calm", "male")] * 4
    frame = rows(
        240,
        speaker=[f"{i % 12:02}" for i in range(240)],
        emotion=[kinds[i % 12][0] for i in range(240)],
        gender=[kinds[i % 12][1] for i in range(240)],
    )
    y = frame["emotion"].to_numpy(str)
    values = {"outer": "speaker-k-fold", "outer_folds": 4, "shuffle": True, "balance_gender": True}
    for seed in range(10):
        for fold in outer_folds(frame, spec(**values, seed=seed), y):
            part = frame.iloc[fold.test]
            counts = part.groupby(["emotion", "gender"]).size()
            assert counts.to_dict() == dict.fromkeys(sorted(set(kinds)), 20)


def test_no_shuffled_fold_is_empty() -> None:
    rng = np.random.default_rng(0)
    frame = rows(200, speaker=[f"{int(i):02}" for i in rng.geometric(0.3, 200)])
    frame["emotion"] = rng.choice(["calm", "sad"], 200).astype(object)
    y = frame["emotion"].to_numpy(str)
    k = frame["speaker"].nunique()
    for seed in range(10):
        folds = outer_folds(
            frame, spec(outer="speaker-k-fold", outer_folds=k, shuffle=True, seed=seed), y
        )
        assert {len(names(frame, "speaker", fold.test)) for fold in folds} == {1}


def test_genders_are_balanced_where_asked_for() -> None:
    gender = ["female"] * 4 + ["male"] * 8
    frame = rows(
        120,
        speaker=[f"{i % 12:02}" for i in range(120)],
        gender=[gender[i % 12] for i in range(120)],
        emotion=["calm" if i % 24 < 12 else "sad" for i in range(120)],
    )
    y = frame["emotion"].to_numpy(str)
    for truth in (y, np.zeros((120, 1))):
        folds = outer_folds(
            frame, spec(outer="speaker-k-fold", outer_folds=4, balance_gender=True), truth
        )
        assert [int((frame["gender"][f.test] == "female").sum()) for f in folds] == [10] * 4


@TASKS
def test_sentences_are_on_one_side(task: str) -> None:
    frame, y = united(sentences(make()), sentences(make(60, 6, "other", 1), 5))
    truth = np.zeros((len(frame), 1)) if task == "targets" else y
    folds = outer_folds(frame, spec(outer="sentence-disjoint"), truth)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(frame)))
    for fold in folds:
        assert names(frame, "sentence", fold.train).isdisjoint(names(frame, "sentence", fold.test))
        assert names(frame, "sentence", fold.test) & {f"other/s{i}" for i in range(5)}


def test_holdout_with_a_development_part() -> None:
    frame, y = united(make(200))
    (plain,) = outer_folds(frame, spec(outer="stratified-holdout"), y)
    (fold,) = outer_folds(frame, spec(outer="stratified-holdout", devel_size=0.2), y)
    assert fold.test.tolist() == plain.test.tolist()
    assert [len(fold.train), len(fold.devel), len(fold.test)] == [120, 40, 40]
    assert sorted([*fold.train, *fold.devel, *fold.test]) == list(range(200))
    for label in ("angry", "calm", "sad"):
        assert abs((y[fold.devel] == label).sum() - (y == label).sum() / 5) <= 1


def test_ravdess_is_held_out_as_published() -> None:
    """Supports 38 (and 39) and 19: seven classes of 192 and one of 96, four fifths to train."""
    y = np.repeat([*"abcdefgh"], [192] * 7 + [96])
    (fold,) = outer_folds(rows(1440, emotion=y), spec(outer="stratified-holdout"), y)
    assert [len(fold.train), len(fold.test)] == [1152, 288]
    counts = sorted((y[fold.test] == one).sum() for one in "abcdefgh")
    assert counts[0] == 19
    assert set(counts[1:]) <= {38, 39}


def test_four_to_one_in_five() -> None:
    frame, y = united(make(100))
    split = spec(outer="four-to-one-in-five", inner="stratified-k-fold")
    plan = make_plan(frame, y, y != "", split)
    (fold,), (inner,) = plan.folds, plan.inner
    assert [len(fold.train), len(fold.test), len(inner)] == [80, 20, 5]
    assert [len(one.test) for one in inner] == [16] * 5


def test_pairs_of_corpora_by_hand() -> None:
    frame, y = united(
        *(rows(2, name, speaker=["1", "2"], emotion=["calm", "sad"]) for name in "abc")
    )

    def folds(**values: object) -> list[tuple[str, str, list[int], list[int]]]:
        found = outer_folds(frame, spec(outer="cross-corpus", **values), y)
        return [(f.name, f.partition, f.train.tolist(), f.test.tolist()) for f in found]

    assert folds() == [
        ("from a", "test", [0, 1], [2, 3, 4, 5]),
        ("from b", "test", [2, 3], [0, 1, 4, 5]),
        ("from c", "test", [4, 5], [0, 1, 2, 3]),
    ]
    assert folds(pool=True) == [
        ("from a+b", "test", [0, 1, 2, 3], [4, 5]),
        ("from a+c", "test", [0, 1, 4, 5], [2, 3]),
        ("from b+c", "test", [2, 3, 4, 5], [0, 1]),
    ]
    assert folds(pool=True, train=["a", "b"], test=["c"]) == [
        ("from a+b", "test", [0, 1, 2, 3], [4, 5])
    ]
    assert folds(train=["a"], test=["a", "b"], within="leave-one-speaker-out") == [
        ("from a", "test", [0, 1], [2, 3]),
        ("within a/1", "within", [1], [0]),
        ("within a/2", "within", [0], [1]),
    ]
    with pytest.raises(RunError, match="nothing to train on a and test on a"):
        folds(train=["a"], test=["a"])


def test_grid_of_speakers_and_sentences() -> None:
    frame, y = united(sentences(make(240, 12), 6))
    y[7] = ""
    folds = outer_folds(frame, spec(outer="speaker-sentence-grid", outer_folds=3), y)
    assert len(folds) == 4 * 9
    by_condition = {name: [fold for fold in folds if fold.partition == name] for name in CONDITIONS}
    for condition, of_condition in by_condition.items():
        # Every row once a condition, always in the same cells.
        tests = [fold.test.tolist() for fold in of_condition]
        assert tests == [fold.test.tolist() for fold in by_condition["test"]]
        assert sorted(np.concatenate(tests)) == list(range(240))
        for fold, strict in zip(of_condition, by_condition["test"], strict=True):
            assert 7 not in fold.train
            for label in ("angry", "calm", "sad"):
                assert (y[fold.train] == label).sum() == (y[strict.train] == label).sum()
        for column in ("speaker", "sentence"):
            seen = [
                bool(names(frame, column, fold.train) & names(frame, column, fold.test))
                for fold in of_condition
            ]
            assert set(seen) == {column in CONDITIONS[condition]}


def test_emobox_folds_of_two_corpora(tmp_path: Path) -> None:
    def write(corpus: str, fold: int, part: str, stems: list[int]) -> None:
        folder = tmp_path / "data" / corpus / f"fold_{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f'{{"key": "{i}", "wav": "x/u{i:03}.wav"}}' for i in stems]
        (folder / f"{corpus}_{part}_fold_{fold}.jsonl").write_text("\n".join(lines) + "\n")

    for fold in (1, 2):
        held = [0, 1] if fold == 1 else [2, 3]
        write("made", fold, "test", held)
        write("made", fold, "train", [i for i in range(4) if i not in held])
        write("oth", fold, "test", [fold - 1])
        write("oth", fold, "train", [2 - fold])
        write("oth", fold, "valid", [2])
    frame, y = united(
        rows(4, speaker=["1", "1", "2", "2"], emotion=["calm", "sad"] * 2),
        rows(3, "other", speaker="1", emotion=["calm", "sad", "sad"]),
    )
    split = spec(outer="emobox", emobox=str(tmp_path), emobox_names={"other": "oth"})
    notes: list[str] = []
    folds = outer_folds(frame, split, y, notes)
    assert [(f.name, f.train.tolist(), f.devel.tolist(), f.test.tolist()) for f in folds] == [
        ("1", [2, 3, 5, 6], [], [0, 1, 4]),
        ("2", [0, 1, 4, 6], [], [2, 3, 5]),
    ]
    assert any("valid are part of what is trained on" in note for note in notes)
    assert any(note.startswith("other: 2 folds of EmoBox test on speakers") for note in notes)
    (tmp_path / "data/oth/fold_2").rename(tmp_path / "data/gone")
    with pytest.raises(RunError, match=r"unequal numbers of folds \(made 2, other 1\)"):
        outer_folds(frame, split, y)
    (fold,) = outer_folds(frame[frame["corpus"] == "other"].reset_index(drop=True), split, y[4:])
    assert [fold.train.tolist(), fold.devel.tolist(), fold.test.tolist()] == [[1], [2], [0]]


def test_a_development_part_is_asked_for_in_vain() -> None:
    frame, y = united(make(40))
    frame["partition"] = ["train", "test"] * 20
    with pytest.raises(RunError, match="no row is of the partition devel"):
        make_plan(frame, y, y != "", spec(inner="devel"))
    frame["partition"] = "train"
    with pytest.raises(RunError, match="no row is of the partition devel or test"):
        make_plan(frame, y, y != "", spec())


@TASKS
@pytest.mark.parametrize("seed", range(5))
def test_of_as_many_sessions_as_folds_each_is_left_out_with_one_of_every_corpus(
    task: str, seed: int
) -> None:
    one, two = make(200), make(60, 10, "other", seed)
    frame, y = united(*(part.assign(session=part["speaker"].str[-1]) for part in (one, two)))
    truth = np.zeros((len(frame), 1)) if task == "targets" else y
    folds = outer_folds(frame, spec(outer="session-k-fold", outer_folds=10, seed=seed), truth)
    left_out = [sorted(names(frame, "session", fold.test)) for fold in folds]
    assert [[one.partition("/")[0] for one in found] for found in left_out] == [
        ["made", "other"]
    ] * 10
    assert len({one for found in left_out for one in found}) == 20
