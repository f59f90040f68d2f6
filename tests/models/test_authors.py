"""The runs equal plain scikit-learn loops that a user of the field would write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, LinearSVR

from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions
from features.common.folders import Folders
from features.matrix import load_matrix
from models.outputs import load_head
from tests.models import synthetic

AUTHORS = """
targets = ["calm", "sad", "keen"]
[split]
outer = "predefined"
inner = "devel"
[head]
kind = "linear-svr"
scalers = ["standard", "minmax"]
select = "nmse"
[head.grid]
C = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
[head.fixed]
dual = false
tol = 1e-8
"""


@pytest.mark.parametrize("masked", [True, False], ids=["masked test", "unmasked test"])
@pytest.mark.parametrize("select", ["nmse", "nmae"])
@pytest.mark.parametrize("engine", ["exact-path", "sklearn"])
def test_emotion_share_procedure(tmp_path: Path, masked: bool, select: str, engine: str) -> None:
    frame = synthetic.regression(tmp_path, masked_test=masked)
    text = AUTHORS.replace('"nmse"', f'"{select}"\nengine = "{engine}"')
    recipe = synthetic.recipe(tmp_path, text)
    folder = synthetic.train(
        recipe, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )

    matrix = load_matrix(recipe, tmp_path, "one")
    part = frame["partition"].to_numpy()
    learn = np.isin(part, ["train", "devel"])
    X, y = matrix.X[learn], matrix.y[learn]
    base = MultiOutputRegressor(
        LinearSVR(
            loss="squared_epsilon_insensitive",
            dual=False,
            max_iter=50000,
            random_state=42,
            tol=1e-8,
        )
    )
    search = GridSearchCV(
        Pipeline([("scaler", StandardScaler()), ("svr", base)]),
        {
            "scaler": [StandardScaler(), MinMaxScaler()],
            "svr__estimator__C": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        },
        scoring={"nmse": "neg_mean_squared_error", "nmae": "neg_mean_absolute_error"}[select],
        cv=PredefinedSplit(np.where(part[learn] == "devel", 0, -1)),
        refit=False,
    ).fit(X, y)
    best = Pipeline([("scaler", StandardScaler()), ("svr", base)]).set_params(**search.best_params_)

    (chosen,) = read_run(folder)["chosen"][""]
    scaler = {"standard": StandardScaler, "minmax": MinMaxScaler}[chosen["scaler"]]
    assert isinstance(search.best_params_["scaler"], scaler)
    assert chosen["params"] == {"C": search.best_params_["svr__estimator__C"]}
    assert chosen["score"] == pytest.approx(search.best_score_, abs=1e-7)

    found = read_predictions(folder / "predictions.csv")
    columns = [f"{target}_pred" for target in synthetic.TARGETS]
    for name, fitted_on in (("devel", part == "train"), ("test", learn)):
        best.fit(matrix.X[fitted_on], matrix.y[fitted_on])
        ours = found[found["partition"] == name]
        assert ours["utterance"].tolist() == frame["utterance"][part == name].tolist()
        theirs = best.predict(matrix.X[part == name])
        np.testing.assert_allclose(ours[columns].to_numpy(), theirs, atol=1e-6, rtol=0)
    assert set(found["fold"]) == {""}
    devel = found[found["partition"] == "devel"].reset_index(drop=True)
    assert read_predictions(folder / "inner.csv").equals(devel)

    known = ~np.isnan(matrix.y).any(axis=1)
    best.fit(matrix.X[known], matrix.y[known])
    head = load_head(folder / "head.skops")
    np.testing.assert_allclose(head.predict(matrix.X), best.predict(matrix.X), atol=1e-6)


CLASSES = """
target = "emotion"
[split]
outer = "leave-one-speaker-out"
expect_overlap = ["session"]
inner = "stratified-k-fold"
inner_folds = 3
seed = 3
[head]
kind = "svc"
scalers = ["minmax", "standard"]
select = "uar"
[head.grid]
kernel = ["linear", "rbf"]
C = [0.1, 1.0]
class_weight = ["none", "balanced"]
"""


def by_hand(X, y, outer, inner, estimators):
    """A nested loop: the first of the cells with the best mean inner UAR predicts the fold."""
    pred, cells = np.full(len(y), "", dtype=object), []
    for train, test in outer:
        scores = []
        for make in estimators:
            uars = []
            for fit, held in inner(train):
                model = make().fit(X[train[fit]], y[train[fit]])
                uars.append(balanced_accuracy_score(y[train[held]], model.predict(X[train[held]])))
            scores.append(np.mean(uars))
        cells.append(int(np.argmax(scores)))
        pred[test] = estimators[cells[-1]]().fit(X[train], y[train]).predict(X[test])
    return pred, cells


@pytest.mark.slow
def test_leave_one_speaker_out_of_svc(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, CLASSES)
    folder = synthetic.train(
        recipe, "one", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    matrix = load_matrix(recipe, tmp_path, "one")
    X, y, groups = matrix.X.astype(float), matrix.y.astype(str), matrix.groups
    estimators = [
        lambda s=s, k=k, c=c, w=w: Pipeline(
            [("s", s()), ("e", SVC(kernel=k, C=c, class_weight=w, break_ties=True))]
        )
        for s in (MinMaxScaler, StandardScaler)
        for k in ("linear", "rbf")
        for c in (0.1, 1.0)
        for w in (None, "balanced")
    ]
    outer = list(LeaveOneGroupOut().split(X, y, groups))
    folds = StratifiedKFold(3, shuffle=True, random_state=3)
    pred, cells = by_hand(X, y, outer, lambda part: folds.split(part, y[part]), estimators)
    found = read_predictions(folder / "predictions.csv")
    assert found["utterance"].tolist() == frame["utterance"].tolist()
    assert found["fold"].tolist() == list(groups)
    assert found["pred"].tolist() == list(pred)
    chosen = read_run(folder)["chosen"]
    assert list(chosen) == [*sorted(set(groups)), "all"]
    assert [one[0]["cell"] for one in chosen.values()][:-1] == cells
    scores = found[[f"score_{one}" for one in synthetic.LABELS]].to_numpy()
    assert np.array(synthetic.LABELS)[scores.argmax(axis=1)].tolist() == list(pred)


def test_stratified_holdout_of_linear_svc_with_speaker_folds(tmp_path: Path) -> None:
    synthetic.classes(tmp_path)
    text = CLASSES.replace("leave-one-speaker-out", "stratified-holdout")
    text = text.replace('expect_overlap = ["session"]', 'expect_overlap = ["speaker"]')
    text = text.replace('"stratified-k-fold"', '"speaker-k-fold"').replace('"svc"', '"linear-svc"')
    recipe = synthetic.recipe(tmp_path, text.replace('kernel = ["linear", "rbf"]\n', ""))
    folder = synthetic.train(
        recipe, "two", folders=Folders(stores=tmp_path, runs=tmp_path / "runs"), jobs=1
    )
    matrix = load_matrix(recipe, tmp_path, "two")
    X, y = matrix.X.astype(float), matrix.y.astype(str)
    estimators = [
        lambda s=s, c=c, w=w: Pipeline(
            [("s", s()), ("e", LinearSVC(C=c, class_weight=w, max_iter=50000, random_state=42))]
        )
        for s in (MinMaxScaler, StandardScaler)
        for c in (0.1, 1.0)
        for w in (None, "balanced")
    ]
    (split,) = StratifiedShuffleSplit(1, test_size=0.2, random_state=3).split(X, y)
    outer = [tuple(np.sort(one) for one in split)]
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=3)
    pred, _ = by_hand(
        X, y, outer, lambda part: folds.split(part, y[part], matrix.groups[part]), estimators
    )
    found = read_predictions(folder / "predictions.csv")
    assert len(found) == 32
    assert found["pred"].tolist() == list(pred[outer[0][1]])
    assert set(found["fold"]) == {"0"}
