"""Runs of heads, made again from what `run.json` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions, write_predictions
from features.common.command import run_chosen, run_command
from features.common.errors import RunError
from features.common.folders import Folders
from features.stores.read import Store
from features.stores.write import write_store
from models.__main__ import parser
from models.layers import run_member, work_of
from models.reproduce import reproduce
from models.train import Training
from tests.models import synthetic
from tests.models.test_layers import deep
from tests.models.test_train import KNN, LDA, RIDGE, SVC, weighted


def train(folder: Path, text: str) -> Path:
    recipe = synthetic.recipe(folder, text)
    return synthetic.train(
        recipe, "one", folders=Folders(stores=folder, runs=folder / "runs"), jobs=1
    )


@pytest.mark.parametrize("text", [RIDGE, SVC, LDA, KNN])
def test_a_run_is_the_same_again_without_its_recipe(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (synthetic.regression if text is RIDGE else synthetic.classes)(tmp_path)
    folder = train(tmp_path, text)
    (tmp_path / "study.toml").unlink()
    before = (folder / "run.json").read_bytes()
    argv = ["reproduce", str(folder), "--stores", str(tmp_path), "--jobs", "1"]
    assert run_command(run_chosen, parser(), argv) == 0
    out = capsys.readouterr().out
    assert "chosen cells: equal\nversions: equal\n" in out
    assert out.endswith(f"{folder}: the same again\n")
    assert (folder / "run.json").read_bytes() == before


def test_a_run_with_weights_is_the_same_again(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    recipe = weighted(tmp_path, RIDGE, "[1, 3]")
    folder = synthetic.train(
        recipe, "one+two", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    _, equal = reproduce(folder, stores=tmp_path, jobs=1)
    assert equal


def test_a_number_that_was_changed_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.regression(tmp_path)
    folder = train(tmp_path, RIDGE)
    frame = read_predictions(folder / "predictions.csv")
    was = float(frame.loc[5, "sad_pred"])
    frame.loc[5, "sad_pred"] = np.nextafter(was, 2)
    write_predictions(folder / "predictions.csv", frame)
    argv = ["reproduce", str(folder), "--stores", str(tmp_path), "--jobs", "1"]
    assert run_command(run_chosen, parser(), argv) == 1
    out = capsys.readouterr().out
    assert f"made/{frame['utterance'][5]}, partition devel: sad_pred" in out
    assert f"then, {was} now (1 of 150 rows differ)" in out
    assert out.endswith("NOT the same\n")


def test_other_stores_are_refused(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    folder = train(tmp_path, RIDGE)
    then = read_run(folder)["inputs"]["corpora"]["made"]["store"]
    path = tmp_path / "made/one.h5"
    with Store(path) as store:
        key, index, X = {**store.key, "precision": "float16"}, store.index, store.read(0, "mean")
    write_store(
        path, key, index, [0], lambda _, i, start, stop: X[start:stop], default=["mean"],
        columns={"mean": X.shape[1]},
    )  # fmt: skip
    with pytest.raises(RunError, match=f"corpora made store: {then} then, .* now"):
        reproduce(folder, stores=tmp_path, jobs=1)


def test_rows_that_were_allowed_to_lack_are_allowed_again(tmp_path: Path) -> None:
    synthetic.regression(tmp_path)
    path = tmp_path / "made/one.h5"
    with Store(path) as store:
        key, index, X = store.key, store.index[:-1], store.read(0, "mean")
    write_store(
        path, key, index, [0], lambda _, i, start, stop: X[start:stop], default=["mean"],
        columns={"mean": X.shape[1]},
    )  # fmt: skip
    recipe = synthetic.recipe(tmp_path, RIDGE)
    folder = synthetic.train(
        recipe,
        "one",
        folders=Folders(stores=tmp_path, runs=tmp_path / "runs"),
        jobs=1,
        allow_failures=1,
    )
    assert reproduce(folder, stores=tmp_path, jobs=1)[1]


@pytest.mark.slow
def test_the_best_layer_is_made_of_all_layers_again(tmp_path: Path) -> None:
    deep(tmp_path)
    text = SVC.replace("[head.grid]", 'layer = ["best", "weighted"]\n[head.grid]')
    recipe = synthetic.recipe(tmp_path, text.replace("[0.001, 0.1]", "[0.1]"))
    training = Training(recipe, Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1)
    for member in work_of(recipe, tmp_path):
        if member.model == "one":
            run_member(training, member)
    for layer, line in (("best", "chosen layers: equal"), ("weighted", "weights of layers: equal")):
        lines, equal = reproduce(tmp_path / f"runs/study/one@{layer}", stores=tmp_path, jobs=1)
        assert equal
        assert line in lines
