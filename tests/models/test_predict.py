"""Saved heads on new audio: the right layer and weights, and features of the very same kind."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from evaluate.runs.folders import new_folder, run_folder
from evaluate.runs.predictions import read_predictions
from features.common.command import run_chosen
from features.common.errors import RunError, StoreError
from features.common.folders import Folders
from features.matrix import load_matrix
from features.new_audio import corpus_name
from features.recipe.model import Recipe
from features.stores.read import Store
from features.stores.write import write_store
from features.utterances import AUDIO_HASH
from models.__main__ import parser
from models.outputs import load_head
from models.single import apply
from tests.models import synthetic
from tests.models.test_layers import deep
from tests.models.test_train import KNN, LDA, RIDGE, SVC, WITHOUT_TORCH

AUDIO = "/speech"
ONE_CELL = SVC.replace("[0.001, 0.1]", "[0.1]")


def new_audio(stores: Path, recipe: Recipe, n: int = 9, drop: tuple[str, ...] = ()) -> None:
    """Stores of new audio with other names: the first rows of the recipe's corpus, all layers."""
    corpus = corpus_name([AUDIO])
    frame = synthetic.rows(n, corpus, path=[f"{AUDIO}/u{i:03}.wav" for i in range(n)])
    stacks = {}
    for model in ("one", "two"):
        with Store(stores / "made" / f"{model}.h5") as store:
            stacks[model] = np.stack([store.read(i, "mean")[:n] for i in store.layers])
    synthetic.write(stores, frame, stacks)
    for model in drop:
        lose_last_row(stores, corpus, model)


def lose_last_row(stores: Path, corpus: str, model: str) -> None:
    path = stores / corpus / f"{model}.h5"
    with Store(path) as store:
        key, index, layers = store.key, store.index[:-1], store.layers
        stack = np.stack([store.read(i, "mean")[:-1] for i in layers])
    write_store(
        path, key, index, layers, lambda _, i, start, stop: stack[i, start:stop],
        default=["mean"], columns={"mean": stack.shape[2]},
    )  # fmt: skip


def run(folder: Path, recipe: Recipe, *more: str) -> None:
    words = [recipe.path, "--stores", str(folder), "--runs", str(folder / "runs")]
    run_chosen(parser().parse_args(["predict", *words, *more, "--audio", AUDIO]))


def said(folder: Path, member: str) -> pd.DataFrame:
    at = new_folder(folder / "runs", "study", corpus_name([AUDIO]), member)
    return read_predictions(at / "predictions.csv")


@pytest.mark.parametrize("text", [ONE_CELL, RIDGE, LDA, KNN])
def test_the_head_says_of_new_audio_what_it_says_of_the_same_features(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (synthetic.regression if "targets" in text else synthetic.classes)(tmp_path)
    recipe = synthetic.recipe(tmp_path, text)
    folder = synthetic.train(
        recipe, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    new_audio(tmp_path, recipe)
    run(tmp_path, recipe, "--member", "one")
    assert capsys.readouterr().out.endswith("one: 9 files\n")
    frame = said(tmp_path, "one")
    matrix = load_matrix(recipe, tmp_path, "one")
    wanted = apply(load_head(folder / "head.skops"), matrix.X[:9], matrix.labels)
    columns = [f"score_{one}" for one in matrix.labels] or [f"{t}_pred" for t in recipe.targets]
    assert (frame[columns].to_numpy() == wanted).all()
    if matrix.labels:
        assert frame["pred"].tolist() == [matrix.labels[i] for i in wanted.argmax(axis=1)]
        assert set(frame["true"]) == {""}


LAYERS = '["last", 1, "mean", "1+3", "weighted", "best"]'


@pytest.mark.slow
def test_every_kind_of_layer(tmp_path: Path) -> None:
    deep(tmp_path)
    text = ONE_CELL.replace("[head.grid]", f"layer = {LAYERS}\n[head.grid]")
    recipe = synthetic.recipe(tmp_path, text)
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    records = {}
    for layer in (0, 1, 2, 3, "last", "mean", "1+3", "weighted", "best"):
        at = synthetic.train(recipe, "one", layer, jobs=1, folders=folders)
        records[layer] = (at, json.loads((at / "run.json").read_text()))
    new_audio(tmp_path, recipe)
    with Store(tmp_path / corpus_name([AUDIO]) / "one.h5") as store:
        stack = [store.read(i, "mean").astype(np.float64) for i in range(4)]
    factors = records["weighted"][1]["layer_factors"]["all"]
    chosen = records["best"][1]["chosen_layers"]["all"]
    inputs = {
        "last": stack[3],
        1: stack[1],
        "mean": np.mean(stack[1:], axis=0),
        "1+3": np.hstack([stack[1], stack[3]]),
        "weighted": sum(one * layer for one, layer in zip(factors, stack, strict=True)),
        "best": stack[chosen],
    }
    for layer, X in inputs.items():
        at, _ = records[layer]
        run(tmp_path, recipe, "--member", at.name)
        found = said(tmp_path, at.name).filter(like="score_").to_numpy()
        np.testing.assert_allclose(
            found, apply(load_head(at / "head.skops"), X, synthetic.LABELS), rtol=1e-5, atol=1e-6
        )


def side_by_side(folder: Path, model: str = '"one+two"') -> Recipe:
    synthetic.classes(folder)
    recipe = synthetic.recipe(folder, ONE_CELL)
    path = Path(recipe.path)
    path.write_text(path.read_text().replace('"two"]', f'"two", {model}]'))
    return synthetic.load_recipe(path)


def test_weights_of_models_side_by_side_are_applied(tmp_path: Path) -> None:
    recipe = side_by_side(tmp_path, '{name = "one+two", weights = [1, 3]}')
    folder = synthetic.train(
        recipe, "one+two", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    new_audio(tmp_path, recipe)
    run(tmp_path, recipe, "--member", "one+two")
    matrix, head = load_matrix(recipe, tmp_path, "one+two"), load_head(folder / "head.skops")
    X, weights = matrix.X.astype(np.float64), np.repeat([1.0, 3.0], matrix.X.shape[1] // 2)
    Z = StandardScaler().fit(X).transform(X)[:9] * weights
    wanted = Z @ head["head"].coef_.T + head["head"].intercept_
    found = said(tmp_path, "one+two").filter(like="score_")
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    other = side_by_side(tmp_path, '{name = "one+two", weights = [1, 4]}')
    with pytest.raises(RunError, match=r"the run of one\+two was made with other settings than"):
        run(tmp_path, other, "--member", "one+two")


def test_models_side_by_side_and_what_one_of_them_lacks(tmp_path: Path) -> None:
    recipe = side_by_side(tmp_path)
    folder = synthetic.train(
        recipe, "one+two", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    new_audio(tmp_path, recipe, drop=("two",))
    run(tmp_path, recipe, "--member", "one+two")
    frame = said(tmp_path, "one+two")
    assert frame["utterance"].tolist() == [f"u{i:03}" for i in range(8)]
    X = np.hstack([load_matrix(recipe, tmp_path, one).X[:8] for one in ("one", "two")])
    wanted = apply(load_head(folder / "head.skops"), X, synthetic.LABELS)
    assert (frame.filter(like="score_").to_numpy() == wanted).all()


@pytest.mark.parametrize("part", ["one", "two"])
def test_features_of_another_key_are_refused_with_both_values(tmp_path: Path, part: str) -> None:
    recipe = side_by_side(tmp_path)
    synthetic.train(
        recipe, "one+two", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    new_audio(tmp_path, recipe)
    path = tmp_path / corpus_name([AUDIO]) / f"{part}.h5"
    with Store(path) as store:
        key = {**store.key, "precision": "bfloat16"}
        index, X = store.index, store.read("last", "mean")
    write_store(
        path, key, index, [0], lambda _, i, start, stop: X[start:stop], default=["mean"],
        columns={"mean": X.shape[1]},
    )  # fmt: skip
    with pytest.raises(
        RunError,
        match=rf"{part}.h5: not as the features of made .*: precision was None, is 'bfloat16'; "
        "make extract and make train again",
    ):
        run(tmp_path, recipe, "--member", "one+two")


def test_runs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, ONE_CELL)
    with pytest.raises(RunError, match="no finished run of one; run make train RECIPE="):
        run(tmp_path, recipe, "--member", "one", "--check")
    synthetic.train(recipe, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1)
    run(tmp_path, recipe, "--member", "one", "--check")
    with pytest.raises(StoreError, match=r"one.h5: no such store"):
        run(tmp_path, recipe, "--member", "one")
    other = synthetic.recipe(tmp_path, SVC)
    with pytest.raises(RunError, match="the run of one was made with other settings than"):
        run(tmp_path, other, "--member", "one", "--check")
    standard = synthetic.recipe(
        tmp_path, ONE_CELL.replace("[head.grid]", 'standardise = "speaker"\n[head.grid]')
    )
    synthetic.train(
        standard, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    with pytest.raises(RunError, match="standardise = 'speaker': the head of one expects rows"):
        run(tmp_path, standard, "--member", "one", "--check")


def test_audio_that_changed_since_its_extraction_is_refused(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, ONE_CELL)
    synthetic.train(recipe, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1)
    new_audio(tmp_path, recipe)
    path = tmp_path / corpus_name([AUDIO]) / "utterances.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[3, AUDIO_HASH] = "11" * 16
    frame.to_csv(path, index=False, lineterminator="\n")
    with pytest.raises(StoreError, match=r"the audio of 1 utterance has changed since \(u003\)"):
        run(tmp_path, recipe, "--member", "one")


def test_a_head_that_is_none_is_refused(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, ONE_CELL)
    folder = synthetic.train(
        recipe, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    new_audio(tmp_path, recipe)
    (folder / "head.skops").write_bytes(b"no head")
    with pytest.raises(RunError, match=r"head.skops: no head to load .* run make train again"):
        run(tmp_path, recipe, "--member", "one")
    assert run_folder(tmp_path / "runs", "study", "one") == folder


@pytest.mark.process
def test_heads_and_fusion_predict_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, ONE_CELL + '[fusion.nine]\nmethod = "logistic"\n')
    for model in ("one", "two"):
        synthetic.train(
            recipe, model, folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
        )
    new_audio(tmp_path, recipe)
    top = Path(__file__).resolve().parents[2]
    words = [recipe.path, "--stores", str(tmp_path), "--audio", AUDIO]
    done = [
        subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, room, "predict", *words], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(top)}, capture_output=True, text=True, check=False,
        )
        for room in ("models", "fusion")
    ]  # fmt: skip
    assert [one.returncode for one in done] == [0, 0], done
    assert done[0].stdout == "one: 9 files\ntwo: 9 files\n"
    assert "nine (logistic: one, two); learned from 160 rows of predictions.csv" in done[1].stdout


def test_the_command_line_wants_audio() -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["predict", "recipes/demo.toml"])
    args = parser().parse_args(["predict", "recipes/demo.toml", "--audio", "a", "b"])
    assert isinstance(args, argparse.Namespace)
    assert args.audio == ["a", "b"]
