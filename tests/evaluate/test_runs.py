"""Run folders: exact files, whole or not at all, and what makes a run stale."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.runs import record as runs
from evaluate.runs.files import file_hash, fingerprint, read_json, read_run, versions, write_json
from evaluate.runs.folders import (
    INNER,
    PREDICTIONS,
    fusion_folder,
    run_folder,
    run_folders,
)
from evaluate.runs.freshness import fusion_inputs, is_fresh, is_stale, train_inputs
from evaluate.runs.predictions import KEY, predicted_labels, read_predictions, write_predictions
from features.common.errors import RunError, StoreError
from features.common.folders import Folders
from features.recipe.load import load_recipe
from features.recipe.member import Member
from tests.evaluate import made
from tests.models import synthetic

ODD_TEXTS = ["NA", "03", "", "nan", 'a "quoted", one', "é ß 語", " spaced ", "1e5", "null"]


def odd_numbers(rng: np.random.Generator, n: int) -> np.ndarray:
    values = rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n)
    values[:5] = [0.1 + 0.2, 5e-324, -0.0, 1 / 3, 1.7976931348623157e308]
    return values


def test_predictions_read_back_to_the_same_values(tmp_path: Path, rng) -> None:
    frame = made.regression(n=60)
    frame["Anger_pred"] = odd_numbers(rng, 60)
    frame.loc[: len(ODD_TEXTS) - 1, "utterance"] = [f"u{one}" for one in ODD_TEXTS]
    frame.loc[: len(ODD_TEXTS) - 1, "speaker"] = ODD_TEXTS
    write_predictions(tmp_path / "a" / "predictions.csv", frame)
    again = read_predictions(tmp_path / "a" / "predictions.csv")
    assert list(again.columns) == list(frame.columns)
    for column in frame.columns:
        if column in KEY:
            assert again[column].tolist() == frame[column].tolist()
        else:
            ours, theirs = again[column].to_numpy(), frame[column].to_numpy()
            assert ours.tobytes() == theirs.astype(np.float64).tobytes()


def test_float32_predictions_keep_their_value(tmp_path: Path) -> None:
    frame = made.regression()
    single = frame["Anger_pred"].to_numpy(np.float32)
    write_predictions(tmp_path / "p.csv", frame.assign(Anger_pred=single))
    again = read_predictions(tmp_path / "p.csv")
    assert (again["Anger_pred"].to_numpy() == single.astype(np.float64)).all()


def test_labels_are_text_in_the_order_of_the_columns(tmp_path: Path) -> None:
    labels = ("NA", made.UNLUCKY, "01")
    frame = made.classification(labels=labels)
    frame.loc[3, "true"] = ""
    write_predictions(tmp_path / "p.csv", frame)
    again = read_predictions(tmp_path / "p.csv")
    assert predicted_labels(again) == labels
    assert again["true"].tolist() == frame["true"].tolist()
    assert again["pred"].tolist() == frame["pred"].tolist()


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda f: f.drop(columns="fold"), "no column fold"),
        (lambda f: f.drop(columns="Anger_true"), "got the columns"),
        (lambda f: f.assign(extra="1"), "got the columns .*extra"),
        (lambda f: f.assign(Anger_pred=np.nan), "Anger_pred: 60 values not finite, first at u000"),
        (lambda f: pd.concat([f, f.iloc[[3]]]), "1 row stands twice, first mine u003"),
        (lambda f: f[KEY], "and predictions"),
    ],
)
def test_broken_predictions_are_refused_at_writing_and_reading(tmp_path, edit, match) -> None:
    frame = edit(made.regression())
    with pytest.raises(RunError, match=match):
        write_predictions(tmp_path / "p.csv", frame)
    assert not (tmp_path / "p.csv").exists()
    frame.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(RunError, match=rf"p\.csv: .*{match}"):
        read_predictions(tmp_path / "p.csv")


def test_text_where_a_number_should_be_is_named(tmp_path: Path) -> None:
    made.regression().astype({"Anger_pred": object}).replace(
        {"Anger_pred": {made.regression()["Anger_pred"][0]: "high"}}
    ).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(RunError, match="column Anger_pred: .*'high'"):
        read_predictions(tmp_path / "p.csv")
    with pytest.raises(RunError, match="no such predictions; run make train"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(RunError, match="not readable as CSV"):
        read_predictions(tmp_path / "empty.csv")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(RunError, match="cannot be written: "):
        write_json(path / "below.json", {})


def test_json_has_no_nan_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": (np.float64("nan"), np.int64(3)), "b": tmp_path, "c": "é"})
    assert read_json(path) == {"a": [None, 3], "b": str(tmp_path), "c": "é"}
    path.write_text(path.read_text()[:-5])
    with pytest.raises(RunError, match=r"x\.json: damaged: .*; remove it"):
        read_json(path)


def test_fingerprints_depend_on_content_alone() -> None:
    one = fingerprint({"a": 1, "b": [1, 2.5, None], "c": {"x": "é", "y": True}})
    assert fingerprint({"c": {"y": True, "x": "é"}, "b": (1, 2.5, None), "a": 1}) == one
    assert fingerprint({"a": 2, "b": [1, 2.5, None], "c": {"x": "é", "y": True}}) != one
    assert len(one) == 32


def test_file_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == hashlib.blake2b(b"abc", digest_size=16).hexdigest()


def test_a_run_is_fresh_while_inputs_and_outputs_stand(tmp_path: Path) -> None:
    inputs = {"head": {"C": (1.0, 0.1)}}
    assert not is_fresh(tmp_path, inputs, ["p.csv"])
    (tmp_path / "p.csv").write_text("")
    assert not is_fresh(tmp_path, inputs, ["p.csv"])
    runs.write_run(tmp_path, {"inputs": inputs, "title": "x"})
    assert is_fresh(tmp_path, inputs, ["p.csv"])
    assert read_run(tmp_path)["title"] == "x"
    assert not is_fresh(tmp_path, {"head": {"C": (1.0, 0.2)}}, ["p.csv"])
    os.remove(tmp_path / "p.csv")
    assert not is_fresh(tmp_path, inputs, ["p.csv"])


def test_folders_of_members() -> None:
    root = Path("runs")
    for member in ("mfcc", "xlsr-1b@12", "xlsr-1b@mean"):
        assert str(Member.parse(member)) == member
        assert run_folder(root, "study", member) == root / "study" / member
    assert run_folder(root, "study", "mfcc@last") == root / "study" / "mfcc"
    assert fusion_folder(root, "study", "mean") == root / "study" / "fusion" / "mean"


def test_run_folders_follow_the_recipe(tmp_path: Path) -> None:
    text = (made.recipe(tmp_path), (tmp_path / "study.toml").read_text())[1]
    (tmp_path / "sweep.toml").write_text(
        text.replace('select = "nmse"', 'select = "nmse"\nlayer = ["last", 3]')
    )
    found = list(run_folders(load_recipe(tmp_path / "sweep.toml"), Path("r")))
    assert [(kind, member) for kind, member, _ in found] == [
        ("model", "one"),
        ("model", "one@3"),
        ("model", "two"),
        ("model", "two@3"),
        ("fusion", "mean"),
    ]


def test_versions_name_what_numbers_depend_on() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["pandas"] == pd.__version__
    assert set(found) >= {"python", "serfuse", "scikit-learn", "scipy", "joblib", "h5py"}


def test_train_inputs_change_with_recipe_table_and_store(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    frame = synthetic.classes(stores)
    recipe = made.recipe(tmp_path, "classification", corpora="made")
    first = train_inputs(recipe, Member("one"), stores)
    assert first == train_inputs(recipe, Member("one"), stores)
    assert first != train_inputs(recipe, Member("two"), stores)
    assert first != train_inputs(recipe, Member("one", 0), stores)
    other = made.recipe(tmp_path, "classification", "[head.grid]\nC = [3.0]", corpora="made")
    assert train_inputs(other, Member("one"), stores)["head"] != first["head"]
    with pytest.raises(StoreError, match=r"three\.h5"):
        train_inputs(recipe, Member("three"), stores)

    labels = {"emotion": synthetic.LABELS}
    changed = frame.copy()
    changed.loc[0, "emotion"] = "sad" if frame["emotion"][0] != "sad" else "calm"
    synthetic.write(stores, changed, {"one": np.zeros((len(frame), 3))}, labels=labels)
    second = train_inputs(recipe, Member("one"), stores)["corpora"]["made"]
    assert second["table"] != first["corpora"]["made"]["table"]
    assert second["store"] == first["corpora"]["made"]["store"]  # same key and audio
    synthetic.write(stores, changed[:-1], {"one": np.zeros((len(frame) - 1, 3))}, labels=labels)
    third = train_inputs(recipe, Member("one"), stores)["corpora"]["made"]
    assert third["store"] != second["store"]


def test_a_fusion_needs_finished_and_fresh_members(tmp_path: Path) -> None:
    stores, folder = tmp_path / "stores", tmp_path / "runs"
    synthetic.classes(stores)
    recipe = made.recipe(tmp_path, "classification", corpora="made")
    with pytest.raises(RunError, match="fusion mean: one has no finished run in .*MODEL=one"):
        fusion_inputs(recipe, "mean", Folders(stores=stores, runs=folder))
    for member in ("one", "two"):
        where = made.finish(recipe, folder, member, made.classification())
        inputs = train_inputs(recipe, Member(member), stores)
        runs.write_run(where, {"inputs": inputs})
    first = fusion_inputs(recipe, "mean", Folders(stores=stores, runs=folder))
    assert first["members"]["one"] == first["members"]["two"]
    write_predictions(where / INNER, made.classification(seed=5))
    assert fusion_inputs(recipe, "mean", Folders(stores=stores, runs=folder)) != first
    other = made.recipe(tmp_path, "classification", "[head.grid]\nC = [3.0]", corpora="made")
    with pytest.raises(RunError, match="the run of one in .* is stale"):
        fusion_inputs(other, "mean", Folders(stores=stores, runs=folder))


def test_stale_runs_are_known_without_stores(tmp_path: Path) -> None:
    recipe, folder = made.recipe(tmp_path), tmp_path / "runs"
    for member in ("one", "two", "mean"):
        made.finish(recipe, folder, member, made.regression())

    def stale(recipe) -> list[bool]:
        return [
            is_stale(recipe, kind, member, folder, read_run(where))
            for kind, member, where in run_folders(recipe, folder)
        ]

    assert stale(recipe) == [False, False, False]
    assert stale(made.recipe(tmp_path, more="[head.grid]\nC = [3.0]")) == [True, True, True]
    assert stale(made.recipe(tmp_path, corpora="mine yours")) == [True, True, True]
    made.finish(recipe, folder, "two", made.regression(seed=9))
    assert stale(recipe) == [False, False, True]


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "[" * 100_000, '{"a": [1}', "\udce9"])
def test_json_that_is_not_as_it_was_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"run.json: damaged: .*remove it and run the command again"):
        read_run(tmp_path)


def test_a_run_whose_record_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    runs.write_run(tmp_path, {"inputs": {"corpora": {}}, "optimistic": True})
    assert read_run(tmp_path)["optimistic"] is True
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(RunError, match="damaged: not as it was written"):
        read_run(tmp_path)


@pytest.mark.parametrize(("more", "n"), [(",1", 12), ("", 10)])
def test_rows_of_another_width(tmp_path: Path, more: str, n: int) -> None:
    """A wider row's first field would be taken for its name: all columns would shift."""
    path = tmp_path / "predictions.csv"
    write_predictions(path, made.regression(12))
    header, *lines = path.read_text().splitlines()
    lines = [line + more if more else line.rpartition(",")[0] for line in lines]
    path.write_text("\n".join([header, *lines]))
    with pytest.raises(RunError, match=f"row 1 has {n} fields, the header 11; train or fuse anew"):
        read_predictions(path)


def test_files_that_somebody_changed_are_named(tmp_path: Path) -> None:
    for name in (PREDICTIONS, INNER):
        (tmp_path / name).write_text("a\n")
    runs.write_run(tmp_path, {"inputs": {"a": 1}})
    record = read_run(tmp_path)
    assert runs.changed_outputs(tmp_path, record) == []
    (tmp_path / INNER).write_text("b\n")
    assert runs.changed_outputs(tmp_path, record) == [str(tmp_path / INNER)]
    assert is_fresh(tmp_path, {"a": 1}, (PREDICTIONS, INNER))
    del record["outputs"]  # as runs had it that recorded none
    assert runs.changed_outputs(tmp_path, record) == []
