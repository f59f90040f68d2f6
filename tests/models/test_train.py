"""Training runs: folders, freshness, protocols, bad input, and no torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from evaluate.report import sheets
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs.files import read_run
from evaluate.runs.freshness import is_stale
from evaluate.runs.predictions import read_predictions
from evaluate.scores.score import score_all, score_run
from features.__main__ import parser as features_parser
from features.common.command import run_chosen, run_command
from features.common.errors import CorpusError, RecipeError, RunError, StoreError
from features.common.folders import Folders
from features.corpora import read_corpus
from features.matrix import load_matrix, standardised
from features.recipe.load import load_recipe
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.survey import survey
from features.utterances import Table, read_table, write_table
from models.checks import check_labels, check_stores, odd_rows
from models.outputs import OUTPUTS, load_head
from models.search import decide
from models.single import apply
from models.train import Training
from tests.features.test_matrix import make_store
from tests.models import synthetic

RIDGE = """
targets = ["calm", "sad", "keen"]
[split]
outer = "predefined"
inner = "devel"
[head]
kind = "ridge"
select = "nmse"
[head.grid]
alpha = [1.0, 100.0]
"""
SVC = """
target = "emotion"
[split]
outer = "leave-one-session-out"
inner = "speaker-k-fold"
inner_folds = 3
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.001, 0.1]
"""

LDA = SVC.replace("linear-svc", "lda").replace("C = [0.001, 0.1]", 'shrinkage = ["auto", 0.2]')
KNN = SVC.replace("linear-svc", "knn").replace("C = [0.001, 0.1]", "n_neighbors = [3, 8]")


def train(folder: Path, recipe, runs: Path | None = None, **values) -> Path:
    folders = Folders(stores=folder, runs=runs or folder / "runs")
    return synthetic.train(recipe, "one", folders=folders, **{"jobs": 1, "tell": print, **values})


def retable(stores: Path, frame: pd.DataFrame, labels=None, targets=()) -> None:
    table = Table(frame, labels or {}, targets, [], {"key": "made"})
    write_table(stores / "made", Table(frame[table.columns], *list(vars(table).values())[1:]))


def test_a_finished_run_is_skipped_until_something_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    folder = train(tmp_path, recipe)
    assert "one: standard, alpha" in capsys.readouterr().out
    before = {name: (folder / name).read_bytes() for name in OUTPUTS}
    stamp = (folder / "run.json").stat().st_mtime_ns

    def again(recipe=recipe, **values: object) -> bool:
        nonlocal stamp
        train(tmp_path, recipe, **values)
        old, stamp = stamp, (folder / "run.json").stat().st_mtime_ns
        assert ("nothing to do" in capsys.readouterr().out) == (old == stamp)
        return old != stamp

    assert not again()
    assert again(force=True)
    assert {name: (folder / name).read_bytes() for name in OUTPUTS[:3]} == {
        name: before[name] for name in OUTPUTS[:3]
    }
    (folder / "search.csv").unlink()
    assert again()
    (folder / "run.json").unlink()  # as a run that was killed leaves it
    stamp = 0
    assert again()
    assert again(synthetic.recipe(tmp_path, RIDGE.replace("100.0", "10.0")))
    frame.loc[3, "calm"] = 0.5
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    assert again(synthetic.recipe(tmp_path, RIDGE.replace("100.0", "10.0")))
    assert not again(synthetic.recipe(tmp_path, RIDGE.replace("100.0", "10.0")))


def test_models_side_by_side_train_as_one(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    recipe = recipe.model_copy(update={"models": {"one+two": recipe.models["one"]}})
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    check_stores(recipe, [Member("one+two")], tmp_path)
    folder = synthetic.train(recipe, "one+two", jobs=1, folders=folders)
    assert folder.name == "one+two"
    record = read_run(folder)
    assert record["columns"] == 80
    assert record["title"] == "one + two"
    assert sorted(record["inputs"]["corpora"]["made"]["store"]) == ["one", "two"]
    assert Training(recipe, folders=folders).is_done(Member("one+two"))
    with pytest.raises(StoreError, match=r"nothing\.h5"):
        check_stores(recipe, [Member("one+nothing")], tmp_path)


def weighted(folder: Path, text: str, weights: str) -> Recipe:
    """The recipe with the one model `one+two`, weighted where weights are given."""
    path = Path(synthetic.recipe(folder, text).path)
    model = f'{{name = "one+two", weights = {weights}}}' if weights else '"one+two"'
    path.write_text(path.read_text().replace('"one", "two"', model))
    return load_recipe(path)


@pytest.mark.parametrize(("weights", "factors"), [("[1, 5]", (1, 5)), ('"size"', (1, 1))])
def test_weights_of_models_side_by_side(
    tmp_path: Path,
    weights: str,
    factors: tuple[float, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    synthetic.regression(tmp_path)
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    recipe = weighted(tmp_path, RIDGE.replace("[1.0, 100.0]", "[1.0]"), weights)
    folder = synthetic.train(recipe, "one+two", jobs=1, tell=print, folders=folders)
    said = "weighted 1 : 5" if weights == "[1, 5]" else "weighted by size"
    assert (
        f"one + two, {said}: behind the scaler columns are multiplied: " in capsys.readouterr().out
    )
    record = read_run(folder)
    assert record["title"] == f"one + two, {said}"
    assert record["recipe"]["models"]["one+two"]["weights"] == recipe.weights_of("one+two")
    assert [one for one in record["notes"] if "40 of two by" in one]

    matrix = load_matrix(recipe, tmp_path, "one+two")
    X, columns = matrix.X.astype(np.float64), np.repeat(factors, 40)
    found = read_predictions(folder / "predictions.csv")
    for partition in ("devel", "test"):
        learn = matrix.rows["partition"].isin(["train", "devel"][: 1 + (partition == "test")])
        held = matrix.rows["partition"] == partition
        scaler = StandardScaler().fit(X[learn])
        head = Ridge(alpha=1.0).fit(scaler.transform(X[learn]) * columns, matrix.y[learn])
        wanted = head.predict(scaler.transform(X[held]) * columns)
        rows = found[found["partition"] == partition].filter(like="_pred")
        np.testing.assert_allclose(rows, wanted, rtol=0, atol=1e-6 * wanted.std())
    new = load_head(folder / "head.skops").predict(X[held])
    np.testing.assert_allclose(new, wanted, rtol=0, atol=1e-6 * wanted.std())


def test_other_weights_make_a_run_stale(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    ways = ["", "[1, 2]", "[2, 1]", '"size"']
    for made in ways:
        folder = synthetic.train(
            weighted(tmp_path, RIDGE, made), "one+two", jobs=1, folders=folders
        )
        for asked in ways:
            recipe = weighted(tmp_path, RIDGE, asked)
            assert Training(recipe, folders=folders).is_done(Member("one+two")) == (asked == made)
            stale = is_stale(recipe, "model", "one+two", tmp_path / "runs", read_run(folder))
            assert stale == (asked != made)


def test_predefined_with_inner_folds(tmp_path: Path) -> None:
    synthetic.regression(tmp_path, masked_test=False)
    text = RIDGE.replace('"devel"', '"speaker-k-fold"')
    recipe = synthetic.recipe(tmp_path, text)
    folder = train(tmp_path, recipe)
    matrix = load_matrix(recipe, tmp_path, "one")
    part = matrix.rows["partition"].to_numpy()
    inner = read_predictions(folder / "inner.csv")
    assert inner["utterance"].tolist() == matrix.rows["utterance"][part == "train"].tolist()
    assert set(inner["partition"]) == {"inner"}
    found = read_predictions(folder / "predictions.csv")
    assert found["partition"].value_counts().to_dict() == {"devel": 75, "test": 75}
    table = pd.read_csv(folder / "search.csv", keep_default_na=False)
    assert table["fold"].tolist() == ["", "", "all", "all"]
    assert [c for c in table if c.startswith("score_")] == [f"score_{i}" for i in range(5)]
    chosen = read_run(folder)["chosen"]
    assert sorted(chosen) == ["", "all"]
    # The saved head is that of all rows: it is not the one that predicted test.
    head = load_head(folder / "head.skops")
    ours = found.loc[found["partition"] == "test", [f"{t}_pred" for t in synthetic.TARGETS]]
    assert not np.allclose(head.predict(matrix.X[part == "test"]), ours)


def test_masked_rows_are_predicted_and_never_fitted(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path / "a")
    masked = frame.copy()
    masked.loc[::10, "emotion"] = ""
    synthetic.classes(tmp_path / "b")
    retable(tmp_path / "b", masked, {"emotion": synthetic.LABELS})
    recipe = synthetic.recipe(tmp_path, SVC.replace("C = [0.001, 0.1]", "C = [0.1]"))
    whole = read_predictions(train(tmp_path / "a", recipe) / "predictions.csv")
    folder = train(tmp_path / "b", recipe)
    found = read_predictions(folder / "predictions.csv")
    assert found["utterance"].tolist() == whole["utterance"].tolist()
    assert (found["true"] == "").to_numpy().nonzero()[0].tolist() == list(range(0, 160, 10))
    assert set(found["pred"]) <= set(synthetic.LABELS)
    assert not found["score_sad"].equals(whole["score_sad"])
    inner = read_predictions(folder / "inner.csv")
    assert "" not in set(inner["true"])
    assert len(inner) == 3 * 144  # each of four sessions is among the training rows of three
    assert read_run(folder)["corpora"]["made"] == {"utterances": 160, "with_truth": 144}


def test_partly_masked_rows_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.regression(tmp_path)
    frame.loc[[0, 5, 6, 8], "sad"] = np.nan
    frame.loc[5, "keen"] = np.nan
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    notes = read_run(train(tmp_path, synthetic.recipe(tmp_path, RIDGE)))["notes"]
    text = (
        "4 rows have a truth for some targets only; not fitted (made/u000, made/u005, made/u006 "
        "and 1 more; lacking: sad 4, keen 1)"
    )
    assert text in notes
    assert f"\none: {text}\n" in capsys.readouterr().out


def test_inner_predictions_know_nothing_of_their_outer_fold(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    folder = train(tmp_path, synthetic.recipe(tmp_path, SVC))
    session = dict(zip(frame["utterance"], "made/" + frame["session"], strict=True))
    inner = read_predictions(folder / "inner.csv")
    assert (inner["utterance"].map(session) != inner["fold"]).all()
    found = read_predictions(folder / "predictions.csv")
    assert (found["utterance"].map(session) == found["fold"]).all()
    assert set(found["partition"]) == {"test"}


def test_several_corpora_are_pooled(tmp_path: Path) -> None:
    one, two = synthetic.classes(tmp_path), synthetic.classes(tmp_path, 90, corpus="another")
    recipe = synthetic.recipe(tmp_path, SVC, ("made", "another"))
    found = read_predictions(train(tmp_path, recipe) / "predictions.csv")
    assert len(found) == len(one) + len(two)
    assert set(found["fold"]) == {f"{c}/{s}" for c in ("made", "another") for s in "0123"}


def test_saved_head_predicts_what_the_pipeline_did(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC)
    folder = train(tmp_path, recipe)
    matrix = load_matrix(recipe, tmp_path, "one")
    head = load_head(folder / "head.skops")
    pred = head.predict(matrix.X)
    assert decide(apply(head, matrix.X, matrix.labels), matrix.labels).tolist() == pred.tolist()
    assert (pred == matrix.y).mean() > 0.8
    (folder / "head.skops").write_bytes(b"nonsense")
    with pytest.raises(RunError, match=r"head.skops: no head to load .* run make train again"):
        load_head(folder / "head.skops")


def test_one_choice_a_target_is_saved_as_one_head(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE.replace("[head]", "[head]\nper_target = true"))
    folder = train(tmp_path, recipe)
    chosen = read_run(folder)["chosen"][""]
    assert [one["target"] for one in chosen] == list(synthetic.TARGETS)
    found = read_predictions(folder / "predictions.csv")
    X = load_matrix(recipe, tmp_path, "one").X[225:]
    # Masked test labels: the head of train + devel is that of all rows with a truth.
    ours = found.loc[found["partition"] == "test", [f"{t}_pred" for t in synthetic.TARGETS]]
    theirs = load_head(folder / "head.skops").predict(X.astype(float))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_class_that_was_not_fitted_has_no_score_and_is_not_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.classes(tmp_path)
    lone = frame["session"] == "0"
    frame.loc[frame["emotion"] == "sad", "emotion"] = "calm"
    frame.loc[lone & (frame["emotion"] == "calm"), "emotion"] = "sad"
    retable(tmp_path, frame, {"emotion": synthetic.LABELS})
    folder = train(tmp_path, synthetic.recipe(tmp_path, SVC))
    found = read_predictions(folder / "predictions.csv")
    of_fold = found["fold"] == "made/0"
    assert found["score_sad"].isna().tolist() == of_fold.tolist()
    assert found[["score_angry", "score_calm"]].notna().all(axis=None)
    assert "sad" not in set(found["pred"][of_fold])
    assert "sad" in set(found["true"][of_fold])
    assert "made/0: no row to fit on is of sad; they get no score" in capsys.readouterr().out


def test_a_fold_of_one_class_is_named(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    frame["emotion"] = np.where(frame["session"] == "2", frame["emotion"], "calm")
    retable(tmp_path, frame, {"emotion": synthetic.LABELS})
    with pytest.raises(RunError, match="outer fold made/2.*all .* rows to fit on are 'calm'"):
        train(tmp_path, synthetic.recipe(tmp_path, SVC))


def test_speakers_on_both_sides_have_to_be_declared(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path)
    frame.loc[[0, 299], "speaker"] = "both"
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    with pytest.raises(RunError, match=r"speaker overlap in 1 of 2 parts \(first test: 1 of 13 .*"
                       r"made/both.*expect_overlap = \[\"speaker\"\]"):  # fmt: skip
        train(tmp_path, synthetic.recipe(tmp_path, RIDGE))
    assert not (tmp_path / "runs").exists()
    declared = RIDGE.replace("[head]", 'expect_overlap = ["speaker"]\n[head]')
    run = read_run(train(tmp_path, synthetic.recipe(tmp_path, declared)))
    assert any(note.startswith("speaker overlap in 1 of 2 parts") for note in run["notes"])
    devel, test = run["split"]["parts"]
    assert [devel["part"], devel["fitted"], devel["held_out"]] == ["devel", 150, 75]
    assert devel["shared"]["speaker"] == {"n": 0, "of": 12}
    assert [test["part"], test["fitted"], test["held_out"]] == ["test", 225, 75]
    assert test["shared"]["speaker"] == {"n": 1, "of": 13}


PREDEFINED = """
target = "emotion"
[split]
outer = "predefined"
inner = "devel"
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.1]
"""


def planted(stores: Path, leak: str) -> None:
    """Rows of which none shares anything across partitions, but for one that leaks."""
    part = ["train"] * 12 + ["devel"] * 6 + ["test"] * 6
    each = [f"{i // 2:02}" for i in range(24)]
    frame = synthetic.rows(
        24,
        partition=part,
        speaker=each,
        session=each,
        sentence=each,
        audio_hash=[f"{i:032x}" for i in range(24)],
        **{
            name: [f"{name}{i}" for i in range(24)]
            for name in ("file_hash", "samples_hash", "recording_hash")
        },
        emotion=["calm", "sad"] * 12,
    )
    if leak == "devel in train":
        frame.loc[13, "audio_hash"] = frame.loc[0, "audio_hash"]
    elif leak == "class":
        frame.loc[18:, "emotion"] = "sad"
    elif leak != "none":
        column = "audio_hash" if leak == "audio" else leak
        frame.loc[20, column] = frame.loc[0, column]
    X = np.random.default_rng(0).normal(size=(24, 4))
    synthetic.write(stores, frame, {"one": X, "two": X}, labels={"emotion": ("calm", "sad")})


@pytest.mark.parametrize(
    ("leak", "stops", "told"),
    [
        ("none", False, ""),
        ("speaker", True, "speaker overlap in 1 of 2 parts (first test: 1 of 4 speakers"),
        ("audio", True, "audio overlap in 1 of 2 parts (first test: 1 of 6 recordings"),
        ("devel in train", True, "audio overlap in 1 of 2 parts (first devel: 1 of 6 recordings"),
        ("session", True, "session overlap in 1 of 2 parts (first test: 1 of 4 sessions"),
        ("sentence", True, "sentence overlap in 1 of 2 parts (first test: 1 of 4 sentences"),
        ("class", False, "test: no row is of calm; UAR is the mean over the classes"),
    ],
)
def test_planted_leaks_are_caught_by_the_linter_and_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], leak: str, stops: bool, told: str
) -> None:
    planted(tmp_path, leak)
    recipe = synthetic.recipe(tmp_path, PREDEFINED)
    code = run_command(
        run_chosen, features_parser(), ["lint", recipe.path, "--stores", str(tmp_path)]
    )
    out = capsys.readouterr().out
    assert code == int(stops)
    assert told in out
    assert ("! " in out) == stops
    if stops:
        with pytest.raises(RunError, match=re.escape(told)):
            train(tmp_path, recipe)
        assert not (tmp_path / "runs").exists()
    else:
        notes = read_run(train(tmp_path, recipe))["notes"]
        assert any(told in note for note in notes) == (leak != "none")
        assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("partition", "dev", r"1 of 300 rows are of the partition dev \(first made/u004\)"),
        ("partition", "", r"1 of 300 rows are of the partition \(none\)"),
    ],
)
def test_other_partitions_are_refused(
    tmp_path: Path, column: str, value: str, message: str
) -> None:
    frame = synthetic.regression(tmp_path)
    frame.loc[4, column] = value
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    with pytest.raises(RunError, match=message):
        train(tmp_path, synthetic.recipe(tmp_path, RIDGE))


def test_refusals_before_any_fit(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path)
    with pytest.raises(RecipeError, match="alhpa: ridge has no such parameter; did you mean"):
        train(tmp_path, synthetic.recipe(tmp_path, RIDGE.replace("alpha", "alhpa")))
    recipe = synthetic.recipe(tmp_path, RIDGE)
    with pytest.raises(StoreError, match=r"three\.h5: no such store"):
        synthetic.train(recipe, "three", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"))
    frame["partition"] = "train"
    retable(tmp_path, frame, targets=synthetic.TARGETS)
    with pytest.raises(RunError, match="no row is of the partition devel"):
        train(tmp_path, recipe)
    assert not (tmp_path / "runs" / "study" / "one" / "run.json").exists()


def test_a_store_that_lacks_rows_stops_training_unless_allowed(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path)
    more = pd.concat([frame, frame.tail(1).assign(utterance="u300")], ignore_index=True)
    retable(tmp_path, more, targets=synthetic.TARGETS)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    with pytest.raises(StoreError, match=r"lacks 1 of the table's 301 utterances \(u300\)"):
        train(tmp_path, recipe)
    folder = train(tmp_path, recipe, allow_failures=1)
    assert any("lacks 1 of" in note for note in read_run(folder)["notes"])


def test_labels_that_changed_in_data_stop_training(tmp_path: Path) -> None:
    root = tmp_path / "data" / "made"
    root.mkdir(parents=True)
    manifest = root / "manifest.csv"
    lines = ["path,speaker,emotion", "a.wav,s1,calm", "b.wav,s2,sad", "c.wav,s3,calm"]
    manifest.write_text("\n".join(lines) + "\n")
    for name in "abc":
        (root / f"{name}.wav").write_bytes(b"")  # no audio is read
    recipe = synthetic.recipe(tmp_path, SVC)
    from features.corpora import read_corpus

    write_table(tmp_path / "stores" / "made", read_corpus("made", root, reader="manifest"))
    stores, data = tmp_path / "stores", tmp_path / "data"
    assert check_labels(recipe, Folders(stores=stores, data=data)) == []
    manifest.write_text("\n".join([*lines[:2], "b.wav,s2,calm", "c.wav,s9,calm"]) + "\n")
    with pytest.raises(CorpusError) as caught:
        check_labels(recipe, Folders(stores=stores, data=data))
    text = str(caught.value)
    assert "made/b (sad became calm)" in text
    assert "speaker differs in 1 row: made/c (s3 became s9)" in text
    assert f"python -m features table made --recipe {recipe.path}" in text
    manifest.unlink()
    (note,) = check_labels(recipe, Folders(stores=stores, data=data))
    assert note.startswith(f"made: the labels in {root} were not compared: ")
    for path in root.iterdir():
        path.unlink()
    root.rmdir()
    assert check_labels(recipe, Folders(stores=stores, data=data)) == []
    assert len(read_table(stores / "made").rows) == 3


WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
import runpy
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.process
def test_train_and_fuse_run_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    synthetic.classes(tmp_path / "stores")
    text = SVC.replace("[0.001, 0.1]", "[0.1]") + '[fusion.vote]\nmethod = "vote"\n'
    recipe = synthetic.recipe(tmp_path, text)
    top = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(top)}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    fused = command("fusion", recipe.path)
    assert fused.returncode == 1
    assert "one has no finished run" in fused.stderr
    trained = command("models", recipe.path, "--jobs", "1")
    assert trained.returncode == 0, trained.stderr
    assert "one: standard, C 0.1; uar" in trained.stdout
    fused = command("fusion", recipe.path)
    assert fused.returncode == 0, fused.stderr
    assert "fusion vote: vote of one, two" in fused.stdout
    again = command("models", recipe.path, "--model", "two")
    assert again.stdout == "two: nothing to do\n"
    wrong = command("models", recipe.path, "--model", "tow")
    assert wrong.returncode == 1
    assert "MODEL=tow: not in the recipe's list (one, two); did you mean 'two'?" in wrong.stderr


@pytest.mark.parametrize(
    "head",
    [
        'kind = "ridge"\nper_target = true\n[head.grid]\nalpha = [1.0, 1e6]',
        'kind = "linear-svr"\n[head.grid]\nC = [0.01]',
        'kind = "svr"\n[head.grid]\nC = [0.1, 1.0]',
    ],
)
def test_heads_without_a_scaler_are_saved_and_predict(tmp_path: Path, head: str) -> None:
    synthetic.regression(tmp_path, 120, 8)
    text = f"""
    targets = ["calm", "sad", "keen"]
    [split]
    outer = "predefined"
    inner = "devel"
    [head]
    scalers = ["none"]
    select = "nmse"
    {head}
    """
    recipe = synthetic.recipe(tmp_path, text)
    folder = train(tmp_path, recipe)
    saved = load_head(folder / "head.skops")
    matrix = load_matrix(recipe, tmp_path, "one")
    frame = read_predictions(folder / "predictions.csv")
    test = (matrix.rows["partition"] == "test").to_numpy()
    expected = frame[frame["partition"] == "test"][["calm_pred", "sad_pred", "keen_pred"]]
    np.testing.assert_allclose(apply(saved, matrix.X[test]), expected, rtol=1e-9)


def test_an_interrupted_forced_run_keeps_the_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    folder = train(tmp_path, recipe)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.protocols.refit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, recipe, force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_rows_that_a_store_lacks_are_asked_for_every_time(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path)
    more = pd.concat([frame, synthetic.rows(1).assign(utterance="zz", partition="test")])
    more[list(synthetic.TARGETS)] = more[list(synthetic.TARGETS)].astype(float)
    table = read_table(tmp_path / "made")
    recipe = synthetic.recipe(tmp_path, RIDGE)
    write_table(tmp_path / "made", Table(more[table.columns], {}, table.targets, [], table.corpus))
    with pytest.raises(StoreError, match="lacks 1 of the table's 301"):
        train(tmp_path, recipe)
    train(tmp_path, recipe, allow_failures=1)
    with pytest.raises(StoreError, match="lacks 1 of the table's 301"):
        train(tmp_path, recipe)
    train(tmp_path, recipe, allow_failures=1)


def test_missing_stores_and_layers_are_named_together(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    with pytest.raises(StoreError) as caught:
        check_stores(recipe, [Member("one"), Member("three"), Member("two", 7)], tmp_path)
    text = str(caught.value)
    assert "three.h5: no such store: run make extract MODEL=three" in text
    assert "layer 7 needs layer 7, stored are 0" in text
    assert "one.h5" not in text


@pytest.mark.parametrize(
    ("split", "partitions"),
    [
        (
            'outer = "stratified-holdout"\ndevel_size = 0.2\ninner = "devel"',
            {"devel": 32, "test": 32},
        ),
        ('outer = "stratified-holdout"\ndevel_size = 0.2', {"devel": 32, "test": 32}),
        ('outer = "four-to-one-in-five"', {"test": 32}),
        (
            'outer = "speaker-sentence-grid"\nouter_folds = 2',
            {"test": 160, "speaker-seen": 160, "sentence-seen": 160, "both-seen": 160},
        ),
    ],
)  # fmt: skip
def test_protocols_end_in_predictions_that_no_engine_changes(
    tmp_path: Path, split: str, partitions: dict[str, int]
) -> None:
    frame = synthetic.classes(tmp_path)
    frame["sentence"] = [f"s{i % 5}" for i in range(160)]
    retable(tmp_path, frame, {"emotion": synthetic.LABELS})
    a, b = SVC.index("outer"), SVC.index("[head]")
    inner = "" if "inner" in split or "four" in split else "inner_folds = 3\n"
    text = f'{SVC[:a]}{split}\n{inner}expect_overlap = ["speaker", "sentence"]\n{SVC[b:]}'
    found = []
    for engine in ("sklearn", "exact-path"):
        values = text.replace("[head.grid]", f'engine = "{engine}"\n[head.grid]')
        folder = train(tmp_path, synthetic.recipe(tmp_path, values), runs=tmp_path / engine)
        found.append(read_predictions(folder / "predictions.csv"))
    assert found[0]["partition"].value_counts().to_dict() == partitions
    for column in ("partition", "fold", "utterance", "pred"):
        assert found[0][column].tolist() == found[1][column].tolist()
    scores = [f"score_{one}" for one in synthetic.LABELS]
    np.testing.assert_allclose(found[0][scores], found[1][scores], atol=2e-3)
    run = read_run(folder)
    assert run["split"]["seed"] == 0
    assert sum(part["held_out"] for part in run["split"]["parts"]) == len(found[0])
    assert run["fits"] > 0
    chosen = set(run["chosen"]) - {"all"}
    assert chosen == {part["fold"] for part in run["split"]["parts"]}


CROSS = """
target = "emotion"
[labels.map.made]
calm = "low"
sad = "low"
angry = "high"
[labels.map.other]
angry = "high"
calm = "low"
[split]
outer = "cross-corpus"
expect_overlap = ["session"]
inner_folds = 3
outer_folds = 4
within = "speaker-k-fold"
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.001, 0.1]
"""


def test_cross_corpus_over_mapped_labels(tmp_path: Path) -> None:
    """The cells of the matrix are the scores of heads fitted by hand on the one corpus."""
    frames = {name: synthetic.classes(tmp_path, corpus=name) for name in ("made", "other")}
    recipe = synthetic.recipe(tmp_path, CROSS, ("made", "other"))
    folder = train(tmp_path, recipe)
    run, matrix = read_run(folder), load_matrix(recipe, tmp_path, "one")
    assert matrix.labels == ("low", "high")
    n_sad = int((frames["other"]["emotion"] == "sad").sum())
    assert (
        f"other: {n_sad} rows dropped, their label is not in the recipe's list: sad {n_sad}"
        in (run["notes"])
    )
    corpus, X, y = (one for one in (matrix.rows["corpus"].to_numpy(), matrix.X, matrix.y))
    assert (y[corpus == "made"] == "low").sum() == (frames["made"]["emotion"] != "angry").sum()
    scores = score_run(folder, recipe)
    transfer = scores.transfer
    assert transfer.train == transfer.test == ("made", "other")
    for i, j in ((0, 1), (1, 0)):
        learn, test = (corpus == transfer.train[one] for one in (i, j))
        (chosen,) = run["chosen"][f"from {transfer.train[i]}"]
        head = make_pipeline(
            StandardScaler(), LinearSVC(**chosen["params"], max_iter=50000, random_state=42)
        )
        expected = balanced_accuracy_score(
            y[test], head.fit(X[learn].astype(float), y[learn].astype(str)).predict(X[test])
        )
        cell = transfer.cells[i][j]
        assert cell.n == test.sum()
        assert cell.metrics["uar"].value == pytest.approx(expected, abs=1e-12)
    for i in range(2):
        cell, name = transfer.cells[i][i], transfer.train[i]
        part = scores.partitions["within"].corpora[name]
        assert cell.metrics == part.metrics
        assert cell.n == (corpus == name).sum()
    assert scores.partitions["test"].n == len(y)
    (one,) = score_all(recipe, Folders(runs=tmp_path / "runs"))
    text = to_terminal(sheets.transfer(one, "uar", "pairs"), 80)
    assert "one: UAR, trained on (rows), tested on (columns)" in text
    value = transfer.cells[0][1].metrics["uar"].value
    row = next(line for line in text.splitlines() if line.startswith("made  "))
    assert f"{value:.3f}" in row
    assert "from made" in set(read_predictions(folder / "predictions.csv")["fold"])


def test_the_diagonal_is_empty_unless_asked_for(tmp_path: Path) -> None:
    for name in ("made", "other"):
        synthetic.classes(tmp_path, corpus=name)
    text = CROSS.replace('within = "speaker-k-fold"\n', "")
    recipe = synthetic.recipe(tmp_path, text, ("made", "other"))
    cells = score_run(train(tmp_path, recipe), recipe).transfer.cells
    assert [[one is None for one in row] for row in cells] == [[True, False], [False, True]]


def test_a_map_of_labels_that_a_table_lacks(tmp_path: Path) -> None:
    for name in ("made", "other"):
        synthetic.classes(tmp_path, corpus=name)
    text = CROSS.replace('sad = "low"', 'sadd = "low"')
    recipe = synthetic.recipe(tmp_path, text, ("made", "other"))
    with pytest.raises(CorpusError, match="names sadd, which is no emotion.*did you mean 'sad'"):
        train(tmp_path, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["speaker", "corpus"])
def test_standardised_runs_are_those_of_standardised_stores_by_both_engines(
    tmp_path: Path, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.classes(tmp_path / "raw")
    plain = load_matrix(synthetic.recipe(tmp_path, SVC), tmp_path / "raw", "one")
    X, _ = standardised(plain.X, plain.rows, by)
    synthetic.write(tmp_path / "done", frame, {"one": X}, labels={"emotion": synthetic.LABELS})
    expected = train(tmp_path / "done", synthetic.recipe(tmp_path, SVC))
    capsys.readouterr()
    for engine in ("sklearn", "exact-path"):
        head = f'standardise = "{by}"\nengine = "{engine}"\n[head.grid]'
        recipe = synthetic.recipe(tmp_path, SVC.replace("[head.grid]", head))
        folder = train(tmp_path / "raw", recipe, runs=tmp_path / engine)
        found, other = (read_predictions(one / "predictions.csv") for one in (folder, expected))
        assert found["pred"].tolist() == other["pred"].tolist()
        scores = [f"score_{one}" for one in synthetic.LABELS]
        np.testing.assert_allclose(found[scores], other[scores], atol=2e-3)
        assert f"one, standardised by {by}: standard, C" in capsys.readouterr().out
        assert any("uses unlabelled test data" in note for note in read_run(folder)["notes"])
        score_run(folder, recipe)
        (one,) = score_all(recipe, Folders(runs=tmp_path / engine))
        assert one.marked_title == f"one, standardised by {by} (uses unlabelled test data)"
    raw = read_predictions(train(tmp_path / "raw", synthetic.recipe(tmp_path, SVC)) / "inner.csv")
    inner = read_predictions(folder / "inner.csv")
    # One corpus is one affine map, which the head's own scaler undoes.
    same = np.allclose(raw[scores], inner[scores], atol=1e-3)
    assert same == (by == "corpus")


def test_emobox_lists_are_part_of_what_a_run_depends_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.classes(tmp_path)
    folder = tmp_path / "box" / "data" / "made" / "fold_1"
    folder.mkdir(parents=True)

    def write(part: str, numbers: range) -> None:
        lines = [f'{{"wav": "x/u{i:03}.wav"}}' for i in numbers]
        (folder / f"made_{part}_fold_1.jsonl").write_text("\n".join(lines))

    for part, numbers in (("train", range(80)), ("valid", range(80, 120))):
        write(part, numbers)
    write("test", range(120, 160))
    a, b = SVC.index("outer"), SVC.index("[head]")
    split = f'outer = "emobox"\nemobox = "{tmp_path / "box"}"\ninner = "devel"\n'
    text = f'{SVC[:a]}{split}expect_overlap = ["speaker"]\n{SVC[b:]}'
    recipe = synthetic.recipe(tmp_path, text)
    found = read_predictions(train(tmp_path, recipe) / "predictions.csv")
    assert found["partition"].value_counts().to_dict() == {"devel": 40, "test": 40}
    assert set(found["fold"]) == {"1"}
    assert found["utterance"].tolist() == [f"u{i:03}" for i in range(80, 160)]
    capsys.readouterr()
    train(tmp_path, recipe)
    assert "nothing to do" in capsys.readouterr().out
    write("test", range(130, 160))
    found = read_predictions(train(tmp_path, recipe) / "predictions.csv")
    assert found["partition"].value_counts().to_dict() == {"devel": 40, "test": 30}


def test_a_store_of_other_numerics_is_noted_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = synthetic.regression(tmp_path, n=60)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    data = np.random.default_rng(0).random((1, 60, 5), dtype=np.float32)
    make_store(tmp_path, "made", data, list(frame["utterance"]), "one", {"numerics": 1})
    folder = train(tmp_path, recipe)
    note = f"{tmp_path / 'made' / 'one.h5'}: made with numerics 1, this version computes"
    assert any(one.startswith(note) for one in read_run(folder)["notes"])
    assert f"one: {note}" in capsys.readouterr().out


def test_silent_rows_of_the_table_are_named_by_the_training(
    tmp_path: Path, make_corpus, tones_recipe
) -> None:
    root, stores = make_corpus(), tmp_path / "stores"
    sf.write(root / "u03.wav", np.zeros((8_000, 2)), 16_000)
    recipe = load_recipe(tones_recipe('["mfcc"]'))
    survey(read_corpus("tones", root, reader="manifest"), root, stores / "tones")
    assert [one for one in odd_rows(recipe, stores) if "silent" in one] == [
        "tones: 1 row is silent (all samples alike, or channels that cancel out) and stays in the "
        "table: u03"
    ]


def test_rows_that_name_another_recording_stop_the_training(
    tmp_path: Path, make_corpus, tones_recipe
) -> None:
    root, stores = make_corpus(), tmp_path / "stores"
    recipe = load_recipe(tones_recipe('["mfcc"]'))
    survey(read_corpus("tones", root, reader="manifest"), root, stores / "tones")
    assert check_labels(recipe, Folders(stores=stores, data=tmp_path / "data")) == []
    (root / "moved").mkdir()
    (root / "u03.wav").rename(root / "moved/u03.wav")
    manifest = root / "manifest.csv"
    lines = manifest.read_text().replace("path,", "utterance,path,").splitlines()
    ids = [line if not i else f"u{i - 1:02},{line}" for i, line in enumerate(lines)]
    manifest.write_text("\n".join(ids).replace("u03.wav", "moved/u03.wav"))
    assert (
        check_labels(recipe, Folders(stores=stores, data=tmp_path / "data")) == []
    )  # it lies elsewhere, as it was
    manifest.write_text(manifest.read_text().replace("u05.wav", "u06.wav"))
    with pytest.raises(CorpusError, match="tones: 1 row names another recording: u05"):
        check_labels(recipe, Folders(stores=stores, data=tmp_path / "data"))


@pytest.mark.parametrize("name", [*OUTPUTS, "scores.json"])
def test_a_folder_where_a_file_is_to_be_written_is_said_before_the_fits(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    folder = tmp_path / "runs" / "study" / "one"
    (folder / name).mkdir(parents=True)
    for force in (False, True):
        with pytest.raises(RunError, match=rf"study/one/{name}: is a folder: remove it$"):
            train(tmp_path, recipe, force=force)
    assert [one.name for one in folder.iterdir()] == [name]
    assert "fit" not in "".join(capsys.readouterr())


def test_neighbours_that_an_inner_fold_lacks_are_refused_before_the_first_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, KNN.replace("8]", "800]"))
    monkeypatch.setattr("models.train._fit", None)
    with pytest.raises(RecipeError, match=r"\[head.grid\] n_neighbors: got 800, with .* rows"):
        train(tmp_path, recipe)


def test_what_was_left_out_of_the_recipe_is_recorded(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC)
    settings = ["head.kind=lda head.fixed={shrinkage = 0.5}"]
    found = load_recipe(recipe.path, settings=settings)
    folder = train(tmp_path, found)
    assert found.notes[0].startswith("[head] kind is set to lda: the recipe's grid, of linear-svc")
    assert read_run(folder)["notes"][: len(found.notes)] == found.notes
