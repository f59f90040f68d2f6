"""Weighted columns: the step itself, and every head and engine against scikit-learn by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.utils.estimator_checks import parametrize_with_checks
from skops import io

import models.fits
from features.recipe.head import HeadSpec
from features.recipe.known.heads import HEADS
from features.splits.plan import Fold
from models.column_weights import ColumnWeights
from models.fits import Fits
from models.heads import ESTIMATORS, cells
from models.outputs import OURS
from models.problem import Problem
from models.search import Refit, refit, search
from models.single import apply

LABELS = ("angry", "calm", "sad")
SQUARED = {"loss": "squared_epsilon_insensitive", "epsilon": 0.0}
TIGHT = {"tol": 1e-11, "dual": False, "max_iter": 100_000}
BY_HAND: dict[str, Any] = {
    "linear-svr": LinearSVR(C=0.03, **SQUARED, **TIGHT),
    "svr": SVR(C=0.03, kernel="rbf"),
    "ridge": Ridge(alpha=3.0),
    "linear-svc": LinearSVC(C=0.03, **TIGHT),
    "svc": SVC(C=0.3, kernel="rbf", break_ties=True),
    "logistic": LogisticRegression(C=0.03, max_iter=5000),
    "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2),
    "knn": KNeighborsClassifier(7, metric="cosine", algorithm="brute"),
}
SEARCHED = {
    "linear-svr": {"grid": {"C": [0.03]}, "fixed": TIGHT},
    "svr": {"grid": {"C": [0.03]}, "fixed": {"kernel": "rbf"}},
    "ridge": {"grid": {"alpha": [3.0]}},
    "linear-svc": {"grid": {"C": [0.03]}, "fixed": TIGHT},
    "svc": {"grid": {"C": [0.3]}, "fixed": {"kernel": "rbf"}},
    "logistic": {"grid": {"C": [0.03]}},
    "lda": {"grid": {"shrinkage": [0.2]}},
    "knn": {"grid": {"n_neighbors": [7]}},
}
SCALERS: dict[str, Any] = {
    "standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler, "none": None,
}  # fmt: skip
EXACT = sorted(set(ESTIMATORS) - {"logistic"})
SHAPES = [(90, 12), (40, 60)]
IDS = ["n > D", "n < D"]


@parametrize_with_checks([ColumnWeights()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_columns_are_multiplied_and_their_number_is_compared() -> None:
    step = ColumnWeights(np.array([1.0, 10.0, 0.5]))
    assert step.fit_transform([[1.0, 2.0, 3.0]]).tolist() == [[1.0, 20.0, 1.5]]
    assert ColumnWeights(2.0).fit_transform([[1.0, 2.0]]).tolist() == [[2.0, 4.0]]
    for call in (step.fit, ColumnWeights(step.weights).transform):
        with pytest.raises(ValueError, match="X has 2 columns, there are weights for 3"):
            call([[1.0, 2.0]])


def problem_of(
    kind: str, shape: tuple[int, int], scaler: str = "standard", engine: str = "auto", **more: Any
) -> tuple[Problem, list[Fold]]:
    """Overlapping classes, or two targets, with three folds; the last third of columns x 4."""
    (n, d), rng = shape, np.random.default_rng(sum(shape))
    select = "uar" if HEADS[kind].tasks[0] == "classification" else "nmse"
    values = {**SEARCHED[kind], **more}
    head = HeadSpec.model_validate(
        {"kind": kind, "select": select, "scalers": [scaler], "engine": engine, **values}
    )
    weights = np.repeat([0.5, 4.0], [d - d // 3, d // 3])
    folds = [Fold(str(i), *(np.flatnonzero(test == (np.arange(n) % 3 == i)) for test in (0, 1)))
             for i in range(3)]  # fmt: skip
    if select == "uar":
        index = rng.choice(3, n, p=[0.5, 0.3, 0.2])
        X = rng.normal(size=(3, d))[index] + 1.5 * rng.normal(size=(n, d))
        y = np.array(LABELS)[index]
        return Problem(X.astype(np.float32), y, LABELS, head, weights), folds
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 3, d) + rng.normal(size=d)
    Y = X[:, [0, d - 1]] / 10 + 0.4 + 0.2 * rng.normal(size=(n, 2))
    return Problem(X.astype(np.float32), Y, ("calm", "sad"), head, weights), folds


def by_hand(problem: Problem, scaler: str, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """What scikit-learn predicts at `test`, a column a target or class."""
    X, weights = problem.X.astype(np.float64), problem.weights
    fitted = SCALERS[scaler]().fit(X[train]) if SCALERS[scaler] else None
    learn, held = (
        (fitted.transform(X[rows]) if fitted else X[rows]) * weights for rows in (train, test)
    )
    head = BY_HAND[problem.head.kind]
    if problem.head.kind == "knn":
        votes = 7 * head.fit(learn, problem.y[train]).predict_proba(held)
        return np.log((votes + 1) / (7 + len(LABELS)))
    if problem.labels:
        return head.fit(learn, problem.y[train]).decision_function(held)
    return np.stack([head.fit(learn, y[train]).predict(held) for y in problem.y.T], axis=1)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize(
    ("kind", "engine"),
    [*((one, "exact-path") for one in EXACT), *((one, "sklearn") for one in ESTIMATORS)],
)  # fmt: skip
def test_predictions_are_those_of_scikit_learn_by_hand(
    kind: str, engine: str, scaler: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, folds = problem_of(kind, shape, scaler, engine)
    if engine == "exact-path":
        monkeypatch.setattr(models.fits, "run_fit", None)  # nothing falls back on the pipeline
    with Fits(problem, 1, 10) as fits:
        found = search(problem, folds, fits, "here").values  # noqa: PD011
    for fold in folds:
        theirs = by_hand(problem, scaler, fold.train, fold.test)
        spread = theirs.std(axis=0)
        # liblinear ends up to 3e-6 from the minimum in the primal, whatever its `tol`.
        assert (np.abs(found[fold.test] - theirs) <= 5e-6 * spread).all()
    plain = replace(problem, weights=None)
    with Fits(plain, 1, 10) as fits:
        monkeypatch.undo()
        assert np.abs(search(plain, folds, fits, "here").values - found).max() > 1e-3  # noqa: PD011


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("engine", ["auto", "sklearn"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_saved_head_weights_new_rows_and_holds_types_of_ours_alone(
    kind: str, engine: str, shape: tuple[int, int]
) -> None:
    problem, folds = problem_of(kind, shape, engine=engine)
    train, test = folds[0].train, folds[0].test
    wanted = Refit([cells(problem.head)[0]], train, (test,), keep=True)
    with Fits(problem, 1, 10) as fits:
        (((values,), head),) = refit(problem, [wanted], fits)
    data = io.dumps(head)
    assert io.get_untrusted_types(data=data) == OURS[: 2 if kind == "knn" else 1]
    loaded = apply(io.loads(data, trusted=OURS), problem.X[test], problem.labels)
    np.testing.assert_allclose(loaded, values, rtol=1e-6, atol=1e-6 * values.std())
    theirs = by_hand(problem, "standard", train, test)
    np.testing.assert_allclose(loaded, theirs, rtol=0, atol=5e-6 * theirs.std(axis=0).min())


def test_a_head_without_weights_holds_no_type_of_ours() -> None:
    problem, folds = problem_of("ridge", SHAPES[0])
    plain = replace(problem, weights=None)
    wanted = Refit([cells(plain.head)[0]], folds[0].train, keep=True)
    with Fits(plain, 1, 10) as fits:
        ((_, head),) = refit(plain, [wanted], fits)
    assert isinstance(head, Pipeline)
    assert list(head.named_steps) == ["scaler", "head"]
    assert io.get_untrusted_types(data=io.dumps(head)) == []


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("kind", EXACT)
def test_weights_of_one_change_no_bit(kind: str, shape: tuple[int, int]) -> None:
    problem, folds = problem_of(kind, shape)
    found = []
    for weights in (None, np.ones(shape[1])):
        one = replace(problem, weights=weights)
        with Fits(one, 1, 10) as fits:
            found.append(search(one, folds, fits, "here").values)  # noqa: PD011
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("engine", ["exact-path", "sklearn"])
def test_one_weight_of_all_columns_is_another_strength(engine: str, shape: tuple[int, int]) -> None:
    """Ridge regression on w Z with alpha is that on Z with alpha / w^2."""
    found = []
    for weight, alpha in ((0.25, 3.0), (1.0, 3.0 * 16)):
        problem, folds = problem_of("ridge", shape, engine=engine, grid={"alpha": [alpha]})
        one = replace(problem, weights=np.full(shape[1], weight))
        with Fits(one, 1, 10) as fits:
            found.append(search(one, folds, fits, "here").values)  # noqa: PD011
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)
