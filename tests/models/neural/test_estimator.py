"""Estimators: scikit-learn's own checks, what they are fitted to, files that give the same bits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from features.common.errors import RunError
from models.neural.engine import NeuralFit, NeuralRows, train
from models.neural.estimator import (
    HEAD,
    NeuralClassifier,
    NeuralRegressor,
    load_neural,
    save_neural,
)
from models.neural.files import read_tensors, write_tensors
from models.neural.settings import settings_for

TWO_COLUMNS = "decision_function has a column a class, of two classes, too"
EXPECTED = {
    "check_classifiers_train": TWO_COLUMNS,
    "check_classifiers_classes": TWO_COLUMNS,
    "check_decision_proba_consistency": TWO_COLUMNS,
}
QUICK: dict[str, Any] = {"hidden": (16,), "epochs": 12, "batch_size": 32, "learning_rate": 0.02}


def expected(estimator: Any) -> dict[str, str]:
    return EXPECTED if isinstance(estimator, NeuralClassifier) else {}


@pytest.mark.slow
@parametrize_with_checks(
    [NeuralClassifier(**{**QUICK, "epochs": 40}), NeuralRegressor(**{**QUICK, "epochs": 40})],
    expected_failed_checks=expected,
)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        # With a pandas that infers strings, scikit-learn's own check of names warns.
        warnings.simplefilter("ignore", DeprecationWarning)
        check(estimator)


def blobs(n: int = 120, labels: tuple[str, ...] = ("sad", "angry", "keen")) -> tuple:
    rng = np.random.default_rng(n)
    index = rng.integers(0, len(labels), n)
    X = 2 * rng.normal(size=(len(labels), 10))[index] + rng.normal(size=(n, 10))
    return X.astype(np.float32), np.array(labels)[index]


def test_classes_are_learnt() -> None:
    X, y = blobs()
    head = NeuralClassifier(**QUICK).fit(X[:80], y[:80])
    assert head.score(X[80:], y[80:]) > 0.9
    assert list(head.classes_) == ["angry", "keen", "sad"]
    logits = head.decision_function(X)
    assert logits.shape == (120, 3)
    shares = head.predict_proba(X)
    torch.testing.assert_close(torch.tensor(shares), torch.tensor(logits).softmax(1))
    assert (head.predict(X) == head.classes_[logits.argmax(1)]).all()
    assert [row["epoch"] for row in head.curve_] == list(range(1, 13))
    assert head.curve_[-1]["loss"] < head.curve_[0]["loss"] / 3
    assert (head.n_steps_, head.n_epochs_) == (36, 12)  # 32 + 32 + 16 rows


def test_two_classes_have_two_logits() -> None:
    X, y = blobs(labels=("b", "a"))
    head = NeuralClassifier(**QUICK).fit(X, y)
    assert head.decision_function(X).shape == (120, 2)


def test_values_are_learnt_on_their_own_scale() -> None:
    X, _ = blobs()
    y = np.column_stack([1000 + 50 * X[:, 0], 0.01 * X[:, 1] - 5])
    for loss in ("mse", "ccc"):
        head = NeuralRegressor(loss=loss, **QUICK).fit(X[:80], y[:80])
        assert head.predict(X).shape == (120, 2)
        assert head.score(X[80:], y[80:]) > 0.7, loss
    single = NeuralRegressor(**QUICK).fit(X, y[:, 0])
    assert single.predict(X).shape == (120,)


def test_the_estimator_is_the_engine_and_a_seed_gives_the_same_bits() -> None:
    X, y = blobs()
    head = NeuralClassifier(**QUICK, random_state=7, fold="f").fit(X, y)
    again = clone(head).fit(X, y)
    assert (again.decision_function(X) == head.decision_function(X)).all()
    targets = np.eye(3, dtype=np.float32)[np.searchsorted(head.classes_, y)]
    fit = NeuralFit(settings_for("mlp", "cross-entropy", **QUICK), np.arange(120), 7, "f")
    (result,) = train(NeuralRows(X, targets), [fit])
    assert (result.net.outputs(X) == head.decision_function(X)).all()
    other = NeuralClassifier(**QUICK, random_state=8, fold="f").fit(X, y)
    assert (other.decision_function(X) != head.decision_function(X)).any()


def test_a_prediction_does_not_depend_on_the_rows_beside_it() -> None:
    X, y = blobs()
    for head in (NeuralClassifier(**{**QUICK, "hidden": (256, 64)}),
                 NeuralClassifier("superb", n_layers=2, steps=9)):  # fmt: skip
        head.fit(X, y)
        whole = head.decision_function(X)
        rows = [head.decision_function(X[i : i + 1]) for i in (0, 7, 119)]
        assert (np.concatenate(rows) == whole[[0, 7, 119]]).all()
        assert (head.decision_function(X[::-3]) == whole[::-3]).all()


def test_a_pipeline_is_searched() -> None:
    X, y = blobs()
    steps = make_pipeline(StandardScaler(), NeuralClassifier(**{**QUICK, "epochs": 8}))
    grid = {"neuralclassifier__hidden": [(8,), (16, 8)], "neuralclassifier__dropout": [0.0, 0.3]}
    search = GridSearchCV(steps, grid, cv=2, scoring="balanced_accuracy").fit(X, y)
    assert isinstance(search.best_estimator_, Pipeline)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.8


def test_superb_takes_layers_side_by_side_and_has_the_defaults_of_its_source() -> None:
    X, y = blobs()
    layers = np.hstack([np.random.default_rng(0).normal(size=X.shape), X, 0 * X]).astype(np.float32)
    head = NeuralClassifier("superb", n_layers=3, steps=80, learning_rate=0.05).fit(layers, y)
    assert head.score(layers, y) > 0.9
    weights = np.exp(head.net_.parameters["layers"])
    assert weights.argmax() == 1
    settings = NeuralClassifier("superb").settings()
    assert (settings.optimiser, settings.learning_rate, settings.batch_size) == ("adam", 1e-4, 32)
    assert (settings.steps, settings.epochs, settings.clip_norm) == (30_000, None, 1.0)
    assert (settings.projection, settings.evaluate_every) == (256, 1_000)


def test_the_mlp_has_the_defaults_of_its_source() -> None:
    settings = NeuralClassifier().settings()
    assert (settings.hidden, settings.optimiser, settings.learning_rate) == (
        (256, 64),
        "adam",
        1.1e-3,
    )
    assert (settings.batch_size, settings.epochs, settings.steps) == (150, 20, None)


def test_patience_looks_at_inner_rows_that_are_not_fitted() -> None:
    X, y = blobs()
    inner = np.arange(120) % 4 == 0
    head = NeuralClassifier(**{**QUICK, "epochs": 99}, patience=5).fit(X, y, inner=inner)
    scores = [row["score"] for row in head.curve_]
    best = int(np.argmax(scores))
    assert head.n_epochs_ == best + 1
    assert len(scores) == best + 6 < 99
    wrong = y.copy()
    wrong[inner] = y[inner][::-1]
    moved = NeuralClassifier(**QUICK).fit(X, wrong, inner=inner)
    plain = NeuralClassifier(**QUICK).fit(X, y, inner=inner)
    assert (moved.decision_function(X) == plain.decision_function(X)).all()


def test_shares_are_fitted_and_rows_without_votes_use_their_label() -> None:
    X, y = blobs()
    classes = np.unique(y)
    labels = (y[:, None] == classes).astype(float)
    votes = 3 * labels
    votes[::3] = np.nan
    votes[1::3] = 0
    plain = NeuralClassifier(loss="kl", **QUICK).fit(X, y)
    same = NeuralClassifier(loss="kl", **QUICK).fit(X, y, shares=votes)
    assert (plain.decision_function(X) == same.decision_function(X)).all()
    soft = 0.8 * labels + 0.1
    head = NeuralClassifier(loss="kl", **{**QUICK, "epochs": 40}).fit(X, y, shares=soft)
    expected = soft / soft.sum(1, keepdims=True)
    assert np.abs(head.predict_proba(X) - expected).mean() < 0.05


def test_class_weights_move_the_decision() -> None:
    X, y = blobs(labels=("a", "b"))
    X = X * 0  # nothing to tell them by
    few = {**QUICK, "batch_norm": False, "hidden": (), "epochs": 30, "learning_rate": 0.05}
    shares = [
        (NeuralClassifier(**few, class_weight=weight).fit(X, y).predict(X) == "a").mean()
        for weight in ({"a": 30.0, "b": 1.0}, None, {"a": 1.0, "b": 30.0})
    ]
    assert shares[0] > 0.95
    assert shares[2] < 0.05


def test_a_checkpoint_is_gone_on_from_and_removed(tmp_path: Path) -> None:
    X, y = blobs()
    folder = tmp_path / "state"
    head = NeuralClassifier(**QUICK, checkpoint=folder, checkpoint_every_s=0).fit(X, y)
    plain = NeuralClassifier(**QUICK).fit(X, y)
    assert (head.decision_function(X) == plain.decision_function(X)).all()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("head", "more", "expected"),
    [
        (NeuralClassifier("mpl"), {}, "network: got 'mpl', allowed: mlp, superb, emobox, "),
        (NeuralClassifier(loss="mse"), {}, "loss: got 'mse', allowed: cross-entropy, focal, kl"),
        (NeuralClassifier(patience=3), {}, "patience needs inner rows"),
        (NeuralClassifier(), {"inner": [1, 0]}, "inner: got int64 of shape (2,), expected"),
        (NeuralClassifier(), {"shares": np.ones((120, 2))}, "shares: got shape (120, 2), expected"),
        (NeuralClassifier(), {"shares": -np.ones((120, 3))}, "shares: row 0 has [-1.0, -1.0,"),
        (NeuralClassifier("superb", n_layers=3), {}, "10 columns are no 3 layers"),
        (NeuralClassifier(precision="bfloat16"), {}, "precision: bfloat16 is for CUDA, the device"),
        (NeuralClassifier(learning_rate=1e30), {}, "lower learning_rate"),
        (NeuralClassifier(epochs=2, steps=3), {}, "epochs, steps: give one of both"),
    ],
)  # fmt: skip
def test_errors_are_one_line(head: Any, more: dict[str, Any], expected: str) -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match="^[^\n]*$") as caught:
        head.fit(X, y, **more)
    assert expected in str(caught.value)


def test_what_is_not_fitted_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        NeuralClassifier().predict([[0.0]])
    with pytest.raises(NotFittedError):
        save_neural(tmp_path / "head.safetensors", NeuralClassifier())


@pytest.mark.parametrize("kind", ["texts", "objects", "whole numbers", "values", "superb"])
def test_a_saved_head_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    X, y = blobs()
    path = tmp_path / "head.safetensors"
    head: Any = NeuralClassifier(**{**QUICK, "epochs": 5}, loss="focal", focal_gamma=1.5)
    if kind == "objects":
        y = y.astype(object)
    elif kind == "whole numbers":
        y = np.searchsorted(np.unique(y), y) * 10
    elif kind == "values":
        head, y = NeuralRegressor(**{**QUICK, "epochs": 5}), X[:, :2]
    elif kind == "superb":
        head = NeuralClassifier("superb", n_layers=2, steps=20)
    head.fit(X, y)
    save_neural(path, head)
    loaded = load_neural(path)
    assert type(loaded) is type(head)
    assert (loaded.predict(X) == head.predict(X)).all()
    assert loaded.predict(X).dtype == head.predict(X).dtype
    assert loaded.net_.outputs(X).tobytes() == head.net_.outputs(X).tobytes()
    assert json.dumps(loaded.curve_) == json.dumps(head.curve_)
    assert loaded.settings() == head.settings()
    save_neural(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_loaded_head_knows_the_names_of_its_columns(tmp_path: Path) -> None:
    import pandas as pd

    X, y = blobs()
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(10)], dtype=np.float32)
    head = NeuralClassifier(**{**QUICK, "epochs": 2}).fit(frame, y)
    save_neural(tmp_path / "head.safetensors", head)
    loaded = load_neural(tmp_path / "head.safetensors")
    assert list(loaded.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame.rename(columns={"c0": "d0"}))


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    X, y = blobs()
    path = tmp_path / "head.safetensors"
    save_neural(path, NeuralClassifier(**{**QUICK, "epochs": 1}).fit(X, y))
    whole = path.read_bytes()
    tensors, record = read_tensors(path, HEAD, 1)

    def refused(match: str) -> None:
        with pytest.raises(RunError, match=match) as caught:
            load_neural(path)
        assert "\n" not in str(caught.value)

    for n in (0, 5, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:n])
        refused("head.safetensors: cannot be read")
    path.write_bytes(b"\xff" * 64)
    refused("cannot be read")
    path.unlink()
    refused("cannot be read")
    write_tensors(path, HEAD, 2, tensors, record)
    refused("version 2: expected 'serfuse-neural-head', 1")
    write_tensors(path, "serfuse-training", 1, tensors, record)
    refused("format 'serfuse-training'")
    narrow = {**tensors, "parameter.0.bias": tensors["parameter.0.bias"][:-1]}
    write_tensors(path, HEAD, 1, narrow, record)
    refused("its parts do not fit: 0.bias of shape")
    write_tensors(path, HEAD, 1, tensors, {**record, "estimator": "Unknown"})
    refused("its parts do not fit")
    write_tensors(path, HEAD, 1, tensors, {**record, "settings": {"network": "mlp"}})
    refused("its parts do not fit")
