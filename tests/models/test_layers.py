"""Runs over layers: side by side, weighted, and the layer that a fold chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions
from features.common.errors import RunError
from features.common.folders import Folders
from features.matrix import load_matrix
from features.recipe.member import Member
from features.recipe.model import Recipe
from models.layer_weights import mix
from models.layers import run_member, work_of
from models.outputs import load_head
from models.single import apply
from models.train import Training
from tests.models import synthetic

SVC = """
target = "emotion"
[split]
outer = "leave-one-session-out"
inner = "speaker-k-fold"
inner_folds = 3
[head]
kind = "linear-svc"
select = "uar"
layer = {layer}
[head.grid]
C = [0.001, 0.1]
"""
RIDGE = """
targets = ["calm", "sad", "keen"]
[split]
outer = "predefined"
inner = "devel"
[head]
kind = "ridge"
select = "nmse"
layer = ["last", "best", "weighted"]
[head.grid]
alpha = [1.0, 100.0]
"""
N_LAYERS, WIDTH = 4, 12


def deep(stores: Path) -> pd.DataFrame:
    """The made-up classes, told by layer 2 of model `one` alone; `two` has one layer."""
    frame = synthetic.classes(stores)
    rng = np.random.default_rng(5)
    told = load_matrix(synthetic.recipe(stores, SVC.format(layer='"last"')), stores, "one").X
    X = rng.normal(size=(N_LAYERS, len(frame), WIDTH))
    X[2] = told[np.argsort(np.argsort(frame["utterance"]))]
    X[1] = 0.6 * X[2] + X[1]
    labels = {"emotion": synthetic.LABELS}
    synthetic.write(stores, frame, {"one": X, "two": X[2]}, labels=labels)
    return frame


def run_all(folder: Path, recipe: Recipe, *, sweep: bool = False) -> dict[int | str, Path]:
    folders = Folders(stores=folder, runs=folder / "runs")
    return {
        member.layer: run_member(Training(recipe, folders, jobs=1, tell=print), member)
        for member in work_of(recipe, folder, sweep=sweep)
        if member.model == "one"
    }


def test_layers_side_by_side(tmp_path: Path) -> None:
    deep(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC.format(layer='"1+3"'))
    matrix = load_matrix(recipe, tmp_path, "one", "1+3")
    single = [load_matrix(recipe, tmp_path, "one", layer).X for layer in (1, 3)]
    assert (np.hstack(single) == matrix.X).all()
    assert matrix.layers == [1, 3]
    (folder,) = run_all(tmp_path, recipe).values()
    assert folder.name == "one@1+3"
    assert read_run(folder)["columns"] == 2 * WIDTH


def test_every_fold_chooses_its_layer_by_its_inner_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC.format(layer='["last", "best"]'))
    folders = run_all(tmp_path, recipe)
    assert list(folders) == [0, 1, 2, 3, "last", "best"]
    best = read_run(folders["best"])
    found = read_predictions(folders["best"] / "predictions.csv")
    inner = read_predictions(folders["best"] / "inner.csv")
    for fold, chosen in best["chosen_layers"].items():
        scores = [read_run(folders[layer])["chosen"][fold][0]["score"] for layer in range(N_LAYERS)]
        assert chosen == int(np.argmax(scores))
        assert [best["layer_scores"][fold][str(layer)] for layer in range(N_LAYERS)] == scores
        for frame, name in ((found, "predictions.csv"), (inner, "inner.csv")):
            theirs = read_predictions(folders[chosen] / name)
            pd.testing.assert_frame_equal(
                frame[frame["fold"] == fold], theirs[theirs["fold"] == fold]
            )
    assert best["chosen_layers"]["all"] == 2
    assert len(found) == len(read_predictions(folders[2] / "predictions.csv"))
    assert (folders["best"] / "head.skops").read_bytes() == (folders[2] / "head.skops").read_bytes()
    table = pd.read_csv(folders["best"] / "search.csv", dtype=str, keep_default_na=False)
    assert (table[table["chosen"] == "True"].groupby("fold").size() == 1).all()
    assert len(table) == 2 * N_LAYERS * len(best["chosen_layers"])
    assert "one@best: layer 2" in capsys.readouterr().out
    run_all(tmp_path, recipe)
    assert capsys.readouterr().out.count("nothing to do") == 6


def test_ties_go_to_the_lowest_layer(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC.format(layer='"best"'))
    X = load_matrix(recipe, tmp_path, "one", "last").X
    X = X[np.argsort(np.argsort(frame["utterance"]))]
    labels = {"emotion": synthetic.LABELS}
    synthetic.write(tmp_path, frame, {"one": np.stack([X, X]), "two": X}, labels=labels)
    folders = run_all(tmp_path, recipe)
    assert set(read_run(folders["best"])["chosen_layers"].values()) == {0}


def test_the_best_needs_the_runs_of_all_layers(tmp_path: Path) -> None:
    deep(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC.format(layer='"best"'))
    folders = run_all(tmp_path, recipe)
    (folders[1] / "run.json").unlink()
    with pytest.raises(RunError, match="one@best: the run of one@1 is missing or stale; run make"):
        synthetic.train(
            recipe,
            "one",
            "best",
            folders=Folders(stores=tmp_path, runs=tmp_path / "runs"),
            force=True,
        )


def test_a_sweep_takes_all_layers_of_models_that_have_several(tmp_path: Path) -> None:
    deep(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC.format(layer='"last"'))
    work = work_of(recipe, tmp_path, sweep=True)
    assert [member.layer for member in work if member.model == "one"] == [
        0, 1, 2, 3, "last", "mean", "weighted", "best",
    ]  # fmt: skip
    assert work_of(recipe, tmp_path) == [Member("one"), Member("two")]
    assert [str(member) for member in work if member.model == "two"] == ["two"]


def test_weighted_layers(tmp_path: Path) -> None:
    deep(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC.format(layer='"weighted"'))
    (folder,) = run_all(tmp_path, recipe).values()
    record = read_run(folder)
    matrix = load_matrix(recipe, tmp_path, "one", "weighted")
    assert record["layers"] == [0, 1, 2, 3]
    assert record["columns"] == WIDTH
    factors = record["layer_factors"]
    assert sorted(factors) == [
        "all",
        *sorted(matrix.rows["session"].map("made/{}".format).unique()),
    ]
    sizes = matrix.X.reshape(len(matrix.X), N_LAYERS, -1).std(axis=(0, 2))
    assert (np.argmax(np.array(list(factors.values())) * sizes, axis=1) == 2).all()
    # What the saved head gives is what it was fitted on: the mixture of all rows.
    head = load_head(folder / "head.skops")
    mixed = mix(matrix.X, np.array(factors["all"]))
    right = np.array(matrix.labels)[apply(head, mixed, matrix.labels).argmax(axis=1)]
    assert (right == matrix.y).mean() > 0.6


def test_predefined_partitions_choose_on_devel(tmp_path: Path) -> None:
    frame = synthetic.regression(tmp_path)
    recipe = synthetic.recipe(tmp_path, RIDGE)
    X = load_matrix(recipe, tmp_path, "one").X[np.argsort(np.argsort(frame["utterance"]))]
    noise = np.random.default_rng(1).normal(size=X.shape)
    stack = np.stack([noise, X, X + 30 * noise])
    synthetic.write(tmp_path, frame, {"one": stack, "two": X}, targets=synthetic.TARGETS)
    folders = run_all(tmp_path, recipe)
    assert read_run(folders["best"])["chosen_layers"] == {"": 1}
    found = read_predictions(folders["best"] / "predictions.csv")
    pd.testing.assert_frame_equal(found, read_predictions(folders[1] / "predictions.csv"))
    assert sorted(read_run(folders["weighted"])["layer_factors"]) == ["", "all"]
