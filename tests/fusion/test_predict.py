"""Members' predictions of new audio as one: fixed rules, learned ones, spread, the CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import RidgeCV

from evaluate.metrics.calibration import temperature
from evaluate.runs.folders import new_folder, run_folder
from evaluate.runs.predictions import read_predictions
from features.common.command import run_chosen
from features.common.errors import RunError
from features.common.files import read_csv
from features.common.folders import Folders
from features.new_audio import corpus_name
from features.recipe.model import Recipe
from features.stores.failures import write_failures
from fusion.__main__ import parser
from fusion.stacking import ALPHAS
from tests.models import synthetic
from tests.models import test_predict as heads
from tests.models.test_train import RIDGE, SVC

ONE_CELL = SVC.replace("[0.001, 0.1]", "[0.1]")


def prepared(folder: Path, text: str, fusion: str, n: int = 9) -> Recipe:
    """Two trained models of made-up features, and what their heads say of new audio."""
    (synthetic.regression if "targets" in text else synthetic.classes)(folder)
    recipe = synthetic.recipe(folder, f"{text}\n[fusion.both]\n{fusion}\n")
    for model in recipe.models:
        synthetic.train(recipe, model, folders=Folders(stores=folder, runs=folder / "runs"), jobs=1)
    heads.new_audio(folder, recipe, n)
    heads.run(folder, recipe)
    return recipe


def run(folder: Path, recipe: Recipe, *more: str) -> tuple[int, pd.DataFrame]:
    to = folder / "out.csv"
    words = [recipe.path, "--stores", str(folder), "--runs", str(folder / "runs"), *more]
    args = parser().parse_args(["predict", *words, "--to", str(to), "--audio", heads.AUDIO])
    code, found = run_chosen(args), read_csv(to)
    numbers = [name for name in found if name not in ("path", "utterance", "pred")]
    return code, found.assign(**{one: found[one].map(float).astype(float) for one in numbers})


def stack(folder: Path, output: str | None = None) -> np.ndarray:
    """The members' values: of new audio, or of a file of their runs."""
    frames = [
        heads.said(folder, one)
        if output is None
        else read_predictions(run_folder(folder / "runs", "study", one) / output)
        for one in ("one", "two")
    ]
    columns = [c for c in frames[0] if c.startswith("score_") or c.endswith("_pred")]
    return np.stack([frame[columns].to_numpy(dtype=np.float64) for frame in frames])


def test_mean_of_classes_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = prepared(tmp_path, ONE_CELL, 'method = "mean"', n=30)
    capsys.readouterr()
    code, found = run(tmp_path, recipe)
    members = softmax(stack(tmp_path), axis=2)
    mean = (members[0] + members[1]) / 2
    labels = list(synthetic.LABELS)
    assert list(found) == [
        "path", "utterance", *(f"score_{one}" for one in labels), "pred", "spread", "agree",
    ]  # fmt: skip
    np.testing.assert_allclose(found[[f"score_{one}" for one in labels]], mean, rtol=1e-12)
    winner = mean.argmax(axis=1)
    assert found["pred"].tolist() == [labels[i] for i in winner]
    apart = np.abs(members[0] - members[1])[np.arange(30), winner] / 2
    np.testing.assert_allclose(found["spread"], apart, rtol=1e-9)
    assert found["agree"].tolist() == (members.argmax(axis=2) == winner).mean(axis=0).tolist()
    assert {0.5, 1.0} >= set(found["agree"])
    assert found["path"][0] == f"{heads.AUDIO}/u000.wav"
    text = capsys.readouterr().out
    assert text.count("\nu0") == 20
    assert "\n... and 10 more\n" in text
    assert f"both (mean: one, two)\n{tmp_path / 'out.csv'}" in text
    assert code == 0


def test_mean_of_a_regression_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = prepared(tmp_path, RIDGE, 'method = "mean"')
    capsys.readouterr()
    _, found = run(tmp_path, recipe)
    one, two = stack(tmp_path)
    wanted = [f"{t}_{what}" for what in ("pred", "spread") for t in synthetic.TARGETS]
    assert list(found) == ["path", "utterance", *wanted]
    np.testing.assert_allclose(found[wanted[:3]], (one + two) / 2, rtol=1e-12)
    np.testing.assert_allclose(found[wanted[3:]], np.abs(one - two) / 2, rtol=1e-9)
    first = f"{found['calm_pred'][0]:.3f} ±{found['calm_spread'][0]:.3f}"
    assert first in capsys.readouterr().out.splitlines()[1]


def test_one_run_alone_has_no_spread(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, ONE_CELL, 'method = "mean"')
    _, found = run(tmp_path, recipe, "--member", "two")
    assert list(found)[-1] == "pred"
    assert (found.filter(like="score_").to_numpy() == stack(tmp_path)[1]).all()


def test_of_partitions_a_rule_is_learned_on_devel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = prepared(tmp_path, RIDGE, 'method = "ridge"')
    capsys.readouterr()
    _, found = run(tmp_path, recipe)
    assert "both (ridge: one, two); learned from 75 rows of inner.csv" in capsys.readouterr().out
    at = run_folder(tmp_path / "runs", "study", "one")
    inner = read_predictions(at / "inner.csv")
    assert set(inner["partition"]) == {"devel"}
    known, new = stack(tmp_path, "inner.csv"), stack(tmp_path)
    for i, target in enumerate(synthetic.TARGETS):
        oracle = RidgeCV(ALPHAS).fit(known[:, :, i].T, inner[f"{target}_true"])
        np.testing.assert_allclose(
            found[f"{target}_pred"], oracle.predict(new[:, :, i].T), rtol=1e-9
        )


def test_of_a_cross_validation_temperatures_are_learned_on_all_held_out_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = prepared(tmp_path, ONE_CELL, 'method = "mean"\ncalibrate = true')
    capsys.readouterr()
    _, found = run(tmp_path, recipe)
    assert "; learned from 160 rows of predictions.csv" in capsys.readouterr().out
    at = run_folder(tmp_path / "runs", "study", "one")
    truth = read_predictions(at / "predictions.csv")["true"].map(synthetic.LABELS.index)
    held_out, new = stack(tmp_path, "predictions.csv"), stack(tmp_path)
    heat = [temperature(one, truth.to_numpy()) for one in held_out]
    assert abs(heat[0] - 1) > 0.01
    members = [softmax(one / t, axis=1) for one, t in zip(new, heat, strict=True)]
    mean = (members[0] + members[1]) / 2
    np.testing.assert_allclose(found.filter(like="score_"), mean, rtol=1e-12)
    winner = mean.argmax(axis=1)
    apart = np.abs(members[0] - members[1])[np.arange(9), winner] / 2
    np.testing.assert_allclose(found["spread"], apart, rtol=1e-9)


def test_too_few_rows_to_learn_from_are_named(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, RIDGE, 'method = "nnls"')
    for model in recipe.models:
        at = run_folder(tmp_path / "runs", "study", model) / "inner.csv"
        at.write_text("\n".join(at.read_text().splitlines()[:2]) + "\n")
    with pytest.raises(RunError, match="fusion both: 1 row with a truth to learn 'nnls'"):
        run(tmp_path, recipe)


def test_files_without_a_prediction_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = prepared(tmp_path, ONE_CELL, 'method = "vote"')
    corpus, bad = corpus_name([heads.AUDIO]), f"{heads.AUDIO}/u008.wav"
    heads.lose_last_row(tmp_path, corpus, "two")
    write_failures(tmp_path / corpus / "two.h5", [(corpus, "u008", bad, "too short", "")])
    heads.run(tmp_path, recipe)
    capsys.readouterr()
    code, found = run(tmp_path, recipe)
    assert (code, len(found)) == (1, 8)
    text = capsys.readouterr().out
    assert f"1 of 9 files has no prediction:\n  {bad}: too short\n" in text
    assert "or accept them with ALLOW_FAILURES=1\n" in text
    assert run(tmp_path, recipe, "--allow-failures", "1")[0] == 0
    text = capsys.readouterr().out
    assert f"\n  {bad}: too short\n" in text
    assert "accept them" not in text


def test_predictions_of_another_run_or_other_audio_are_refused(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, ONE_CELL, 'method = "mean"')
    corpus = corpus_name([heads.AUDIO])
    synthetic.train(
        recipe, "two", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1, force=True
    )
    with pytest.raises(RunError, match="no predictions of two by the run and the audio as they"):
        run(tmp_path, recipe)
    heads.run(tmp_path, recipe)
    run(tmp_path, recipe)
    (new_folder(tmp_path / "runs", "study", corpus, "one") / "run.json").unlink()
    with pytest.raises(RunError, match="predict/predict-.*/one: no predictions of one"):
        run(tmp_path, recipe)
    other = synthetic.recipe(tmp_path, SVC + '\n[fusion.both]\nmethod = "mean"\n')
    with pytest.raises(RunError, match="made with other settings than"):
        run(tmp_path, other)
