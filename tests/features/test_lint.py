"""The linter: planted leaks of each kind are found, and what is declared or promised decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.common.errors import RunError
from features.recipe.split import SplitSpec
from features.splits.lint import Lint, lint, lint_recipe
from features.splits.plan import Fold, SplitPlan, make_plan
from tests.models import synthetic

LABELS = ("calm", "sad")


def table(n: int = 12) -> pd.DataFrame:
    """Rows that share nothing: everyone speaks once."""
    each = [f"{i:02}" for i in range(n)]
    return synthetic.rows(
        n,
        speaker=each,
        session=each,
        sentence=each,
        audio_hash=[f"{i:032x}" for i in range(n)],
        file_hash=[f"f{i:031x}" for i in range(n)],
        samples_hash=[f"a{i:031x}" for i in range(n)],
        recording_hash=[f"a{i:031x}" for i in range(n)],
        emotion=["calm", "sad"] * (n // 2),
        partition=["train"] * 6 + ["devel"] * 2 + ["test"] * (n - 8),
    )


def check(frame: pd.DataFrame, plan: SplitPlan | None = None, **values: object) -> Lint:
    split = SplitSpec.model_validate({"inner": "devel", **values})
    y = frame["emotion"].to_numpy(str)
    return lint(frame, y, LABELS, plan or make_plan(frame, y, y != "", split), split)


def test_a_clean_table_has_no_faults() -> None:
    found = check(table())
    found.refuse("recipe")
    assert found.faults == found.notes == found.declared == []
    assert [(one.part, one.fitted, one.held_out) for one in found.parts] == [
        ("devel", 6, 2),
        ("test", 8, 4),
    ]
    assert found.parts[1].classes == {"calm": [4, 2], "sad": [4, 2]}


COLUMNS = {
    "speaker": "speaker",
    "session": "session",
    "sentence": "sentence",
    "audio": "audio_hash",
}
CONTENT = ["audio_hash", "file_hash", "samples_hash", "recording_hash"]


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("row", [6, 8])
def test_each_planted_overlap_is_found(kind: str, row: int) -> None:
    frame = table()
    frame.loc[row, COLUMNS[kind]] = frame.loc[0, COLUMNS[kind]]
    found = check(frame)
    shared = [one.shared[kind] for one in found.parts]
    name = f"made/u{row:03}" if kind == "audio" else "made/00"
    assert shared == ([[name], []] if row == 6 else [[], [name]])
    assert all(not n for one in found.parts for k, n in one.shared.items() if k != kind)
    text = found.table()
    with pytest.raises(RunError, match=f"my recipe: .*predefined.*\\n  {kind} overlap in 1 of 2"):
        found.refuse("my recipe")
    assert f"! {kind} overlap" in text
    declared = check(frame, expect_overlap=[kind])
    declared.refuse("my recipe")
    assert len(declared.declared) == 1
    assert declared.declared == declared.notes


def test_who_declares_speakers_declares_their_sessions() -> None:
    frame = table()
    frame.loc[8, ["speaker", "session"]] = "00"
    assert len(check(frame).faults) == 2
    assert not check(frame, expect_overlap=["speaker"]).faults
    (fault,) = check(frame, expect_overlap=["session"]).faults
    assert fault.startswith("speaker overlap")


def test_the_same_name_in_two_corpora_is_no_overlap_but_the_same_audio_is() -> None:
    frame = table()
    frame.loc[8:, "corpus"] = "other"
    frame.loc[8, ["speaker", "session", "sentence"]] = "00"
    assert not check(frame).faults
    frame.loc[8, "audio_hash"] = frame.loc[0, "audio_hash"]
    (fault,) = check(frame).faults
    assert "1 of 4 recordings held out are also fitted on: other/u008" in fault


def test_devel_that_is_fitted_for_test_counts_and_masked_rows_do_not() -> None:
    frame = table()
    frame.loc[8, "speaker"] = frame.loc[7, "speaker"]
    (fault,) = check(frame).faults
    assert "(first test: 1 of 4 speakers" in fault
    frame.loc[7, "emotion"] = ""  # nothing is fitted on it
    assert not check(frame).faults


def test_rows_on_both_sides_are_never_allowed() -> None:
    six = np.arange(6)
    fold = Fold("", six, np.arange(8, 12), np.array([5, 7]))
    plan = SplitPlan([fold], [[Fold("devel", fold.train, fold.devel)]], [], [])
    found = check(table(), plan, expect_overlap=["speaker", "session", "sentence", "audio"])
    assert [one.both for one in found.parts] == [1, 0]
    assert found.faults == [
        "outer = 'predefined': up to 1 row is fitted and held out in 1 of 2 parts (first devel)"
    ]


@pytest.mark.parametrize(
    ("outer", "kind"),
    [
        ("leave-one-speaker-out", "speaker"),
        ("leave-one-session-out", "session"),
        ("sentence-disjoint", "sentence"),
    ],
)
def test_what_a_split_promises_cannot_be_declared_away(outer: str, kind: str) -> None:
    frame = table()
    y = frame["emotion"].to_numpy(str)
    split = SplitSpec.model_validate({"outer": outer, "expect_overlap": [kind]})
    plan = make_plan(frame, y, y != "", split)
    assert not lint(frame, y, LABELS, plan, split).faults
    broken = frame.assign(**{kind: "00"})  # after the plan was made
    faults = lint(broken, y, LABELS, plan, split).faults
    assert f"which outer = '{outer}' promises not to have" in faults[0]


def test_inner_folds_are_compared() -> None:
    frame = table(20).assign(speaker=[f"{i // 2:02}" for i in range(20)])
    y = frame["emotion"].to_numpy(str)
    stratified = SplitSpec(outer="leave-one-speaker-out", inner="stratified-k-fold", inner_folds=3)
    plan = make_plan(frame, y, y != "", stratified)
    found = lint(frame, y, LABELS, plan, stratified)
    assert any(one.shared["speaker"] for one in found.inner)
    assert len(found.inner) == 3 * 11
    assert not found.faults  # it biases the choice, not the score, and the recipe asks for it
    (note,) = [one for one in found.notes if one.startswith("speaker overlap")]
    assert "of 33 inner folds (inner = 'stratified-k-fold'): hyperparameters are chosen" in note
    promised = stratified.model_copy(update={"inner": "speaker-k-fold"})
    (fault,) = lint(frame, y, LABELS, plan, promised).faults
    assert "inner = 'speaker-k-fold' promises not to have" in fault
    frame.loc[1, "audio_hash"] = frame.loc[0, "audio_hash"]  # one speaker: never held out apart
    assert "audio overlap" in lint(frame, y, LABELS, plan, stratified).faults[0]


def test_missing_classes_and_unknown_values_are_said() -> None:
    frame = table()
    frame.loc[8:, "emotion"] = "sad"
    frame.loc[2, "session"] = ""
    found = check(frame, expect_overlap=["session"])
    assert found.parts[1].missing == ["calm (held out)"]
    assert found.notes == [
        "the session of 1 of 12 rows is unknown: not compared",
        "1 of 2 parts have no held-out row of a class (first test: calm)",
        "test: no row is of calm; UAR is the mean over the classes that occur",
        "session overlap is declared and does not occur",
    ]


def test_a_class_that_nothing_is_fitted_on_is_marked() -> None:
    frame = table()
    frame.loc[:7, "emotion"] = "sad"
    found = check(frame)
    assert found.parts[1].unfitted == ["calm"]
    assert "! calm (fitted)" in found.table()
    assert not found.faults
    assert found.absent == ["devel: no row is of calm; UAR is the mean over the classes that occur"]
    assert "2 of 2 parts (!) have no row to fit on of a class" in found.notes[0]


def test_a_class_in_some_folds_alone_is_absent_from_none() -> None:
    frame = table()
    y = frame["emotion"].to_numpy(str)
    split = SplitSpec(outer="leave-one-speaker-out", inner="stratified-k-fold", inner_folds=2)
    found = lint(frame, y, LABELS, make_plan(frame, y, y != "", split), split)
    assert found.absent == []
    assert found.notes == [
        "12 of 12 parts have no held-out row of a class (first made/00 test: sad)"
    ]
    assert "!" not in found.table()


def test_a_split_that_cannot_be_made_names_the_recipe(tmp_path: Path) -> None:
    synthetic.classes(tmp_path / "stores")
    text = """
target = "emotion"
[split]
outer = "speaker-k-fold"
outer_folds = 9
[head]
kind = "svc"
select = "uar"
"""
    recipe = synthetic.recipe(tmp_path, text)
    with pytest.raises(RunError, match=r"study.toml: \[split\] outer .* at most 8 folds"):
        lint_recipe(recipe, tmp_path / "stores")


@pytest.mark.parametrize("condition", ["speaker-seen", "sentence-seen", "both-seen"])
def test_the_grid_allows_what_it_is_there_for(condition: str) -> None:
    frame = table(48).assign(
        speaker=[f"{i % 4}" for i in range(48)], sentence=[f"{i // 4 % 4}" for i in range(48)]
    )
    found = check(frame, outer="speaker-sentence-grid", outer_folds=2, inner="stratified-k-fold")
    assert not found.faults
    seen = [one.shared for one in found.parts if one.part == condition]
    assert len(seen) == 4
    for kind in ("speaker", "sentence"):
        assert all(bool(one[kind]) == (condition in (f"{kind}-seen", "both-seen")) for one in seen)


def test_the_command_prints_the_table_and_refuses(tmp_path: Path, features) -> None:
    frame = synthetic.classes(tmp_path / "stores")
    text = """
target = "emotion"
[split]
outer = "stratified-holdout"
inner = "speaker-k-fold"
[head]
kind = "svc"
select = "uar"
"""
    recipe = synthetic.recipe(tmp_path, text)
    assert lint_recipe(recipe, tmp_path / "stores").parts[0].held_out == len(frame) // 5
    code, out = features("lint", recipe.path)
    assert code == 1
    assert out.splitlines()[0] == "split stratified-holdout, inner speaker-k-fold, seed 0"
    assert "8 of 8 speakers held out" in out
    assert 'expect_overlap = ["speaker"]' in out
    declared = text.replace("[head]", 'expect_overlap = ["speaker"]\n[head]')
    assert features("lint", synthetic.recipe(tmp_path, declared).path)[0] == 0


def test_a_segment_that_is_nearly_a_fitted_one_stops_the_run() -> None:
    frame = table()
    # One recording, two segments, of which the held-out one ends ten milliseconds earlier.
    frame.loc[[0, 8], ["path", "file_hash", "recording_hash"]] = ["long.wav", "f", "r"]
    frame.loc[[0, 8], ["start", "end"]] = [[1.0, 2.0], [1.0, 1.99]]
    found = check(frame)
    assert [one.shared["audio"] for one in found.parts] == [[], ["made/u008"]]
    with pytest.raises(RunError, match="audio overlap in 1 of 2 .*made/u008.*all segments of"):
        found.refuse("recipe")
    declared = check(frame, expect_overlap=["audio"])
    assert declared.faults == []
    assert "audio overlap in 1 of 2" in declared.declared[0]


@pytest.mark.parametrize("inner", ["speaker-k-fold", "stratified-k-fold"])
def test_segments_that_overlap_are_found_across_speakers_and_in_inner_folds(inner: str) -> None:
    frame = table()
    frame.loc[[0, 3], "file_hash"] = "f"
    frame.loc[[0, 3], "emotion"] = ["calm", "sad"]
    frame.loc[[0, 3], ["start", "end"]] = [[0.0, 2.0], [1.5, 3.0]]
    found = check(frame, outer="leave-one-speaker-out", inner=inner, inner_folds=3)
    hit = {one.fold: one.shared["audio"] for one in found.parts if one.shared["audio"]}
    assert hit == {"made/00": ["made/u000"], "made/03": ["made/u003"]}
    assert any("outer = " in one or "audio overlap" in one for one in found.faults)
    assert any(one.shared["audio"] for one in found.inner)


def test_tables_without_the_new_hashes_are_compared_by_path_and_it_is_said() -> None:
    frame = table().assign(file_hash="", samples_hash="", recording_hash="")
    frame.loc[[0, 8], "path"] = "long.wav"
    frame.loc[[0, 8], ["start", "end"]] = [[1.0, 2.0], [1.5, 1.99]]
    found = check(frame)
    assert found.parts[1].shared["audio"] == ["made/u008"]
    (note,) = (one for one in found.notes if "file_hash" in one)
    assert note.startswith("the table of 12 of 12 rows was written before")
    assert "features table" in note


def test_rows_of_unknown_content_are_compared_by_their_file_and_counted() -> None:
    frame = table()
    frame.loc[[0, 8], CONTENT] = ""
    frame.loc[[0, 8], "path"] = "one.wav"
    found = check(frame)
    assert found.parts[1].shared["audio"] == ["made/u008"]
    assert "the content of the audio of 2 of 12 rows is unknown: not compared" in found.notes
