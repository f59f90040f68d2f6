"""The exact linear heads minimise what liblinear does, and say so where they could not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.utils.estimator_checks import parametrize_with_checks
from skops import io

from models.exact import linear_path
from models.exact.linear_path import LinearPathSVC, LinearPathSVR
from tests.models import synthetic

SQUARED, PLAIN = "squared_epsilon_insensitive", "epsilon_insensitive"
SVC_LOSSES, SVR_LOSSES = ["squared_hinge", "hinge"], [SQUARED, PLAIN]
WIDE, TALL = (30, 60), (120, 8)
NO_INTERCEPT: dict[str, Any] = {"fit_intercept": False}
INTERCEPTS: list[dict[str, Any]] = [{}, {"intercept_scaling": 10.0}, NO_INTERCEPT]

Matrix = NDArray[np.float64]


def shares(shape: tuple[int, int] = TALL, k: int = 1) -> tuple[Matrix, Matrix]:
    n, d = shape
    rng = np.random.default_rng(n + d)
    X = rng.normal(size=shape) * rng.uniform(0.5, 2, d) + rng.normal(size=d)
    Y = X @ rng.normal(size=(d, k)) / d + 0.4 + 0.3 * rng.normal(size=(n, k))
    return X, Y if k > 1 else Y.ravel()


def classes(shape: tuple[int, int] = TALL, k: int = 3) -> tuple[Matrix, NDArray[np.str_]]:
    n, d = shape
    rng = np.random.default_rng(n + d + k)
    index = rng.permutation(np.arange(n) ** 2 % (2 * k + 1) % k)
    X = rng.normal(size=(k, d))[index] + 1.5 * rng.normal(size=shape)
    return X, np.array(["sad", "angry", "keen", "calm"])[index]


def objective(
    head: Any, X: Matrix, y: Any, weights: Matrix | None = None, of: Any = None
) -> NDArray[np.float64]:
    """What each column of a fitted head is worth; `of` has the parameters, where `head` has not."""
    of = of or head
    coef, constant = np.atleast_2d(head.coef_), np.atleast_1d(head.intercept_)
    scaling = of.intercept_scaling if of.fit_intercept else np.inf
    values = X @ coef.T + constant
    s = (np.ones(len(X)) if weights is None else weights)[:, None]
    if hasattr(head, "classes_"):
        names = head.classes_[1:] if len(head.classes_) == 2 else head.classes_
        loss = np.maximum(1 - np.where(np.asarray(y)[:, None] == names, 1, -1) * values, 0)
    else:
        loss = np.maximum(np.abs(y.reshape(len(X), -1) - values) - of.epsilon, 0)
    loss = s * (loss**2 if of.loss.startswith("squared") else loss)
    return (coef**2).sum(axis=1) / 2 + (constant / scaling) ** 2 / 2 + of.C * loss.sum(axis=0)


def dual(head: Any, X: Matrix, y: Matrix) -> tuple[Matrix, float]:
    """Fitted values and worth of one column of a squared loss: the dual, as least squares."""
    scaling = head.intercept_scaling if head.fit_intercept else 0.0
    Z = np.column_stack([X, np.full(len(X), scaling)]) if scaling else X
    if isinstance(head, LinearPathSVC):
        side, worth = y[:, None] * Z, np.ones(len(y))
    else:
        side = np.vstack([Z, -Z])
        worth = np.concatenate([y - head.epsilon, -y - head.epsilon])
    root = np.sqrt(2 * head.C)
    A = np.vstack([side.T, np.eye(len(side)) / root])
    a, _ = scipy.optimize.nnls(A, np.concatenate([np.zeros(Z.shape[1]), root * worth]))
    v = side.T @ a
    return Z @ v, float(worth @ a - v @ v / 2 - a @ a / (4 * head.C))


def least(head: Any, X: Matrix, y: Matrix) -> float:
    """The least objective of a plain loss, by a quadratic programme with a slack a row."""
    scaling = head.intercept_scaling if head.fit_intercept else 0.0
    Z = np.column_stack([X, np.full(len(X), scaling)]) if scaling else X
    n, d = Z.shape
    if isinstance(head, LinearPathSVC):
        A, b = np.hstack([y[:, None] * Z, np.eye(n)]), np.ones(n)
    else:
        A = np.vstack([np.hstack([Z, np.eye(n)]), np.hstack([-Z, np.eye(n)])])
        b = np.concatenate([y, -y]) - head.epsilon
    slope = np.concatenate([np.zeros(d), np.ones(n)])
    found = scipy.optimize.minimize(
        lambda x: x[:d] @ x[:d] / (2 * head.C) + slope @ x,
        np.concatenate([np.zeros(d), np.abs(y) + 1]),
        jac=lambda x: np.concatenate([x[:d] / head.C, np.ones(n)]),
        bounds=[(None, None)] * d + [(0, None)] * n,
        constraints={"type": "ineq", "fun": lambda x: A @ x - b, "jac": lambda _: A},
        method="SLSQP",
        options={"ftol": 1e-11, "maxiter": 500},
    )
    assert found.status in (0, 8)  # 8: no step lowers the objective in float64
    return float(head.C * found.fun)


def close(ours: Matrix, theirs: Matrix, rtol: float = 1e-6) -> None:
    """Equal to `rtol` of the spread of each column, or of 1 % of the values if they hardly vary."""
    spread = np.maximum(np.std(theirs, axis=0), 0.01 * np.abs(theirs).max(axis=0))
    assert np.all(np.abs(ours - theirs) <= rtol * spread), np.max(np.abs(ours - theirs) / spread)


def liblinear(head: Any, **changed: Any) -> Any:
    """scikit-learn's estimator of the same parameters, tight; that it is not there yet is ignored.

    liblinear's `tol` is never reached by the last few digits.
    """
    params = {k: v for k, v in head.get_params().items() if k not in ("tol", "n_jobs")}
    kind = LinearSVR if isinstance(head, LinearPathSVR) else LinearSVC
    dual = not head.loss.startswith("squared")
    other = kind(**params, tol=1e-10, max_iter=300_000, dual=dual, random_state=0)
    return other.set_params(**changed)


def fit(head: Any, X: Any, y: Any, weights: Any = None) -> Any:
    """Fit liblinear, whether or not it says that it could go on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return head.fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=["1", "10", "none"])
@pytest.mark.parametrize("C", [1e-8, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["n > D", "n < D"])
def test_squared_regression_is_the_dual(
    shape: tuple[int, int], epsilon: float, C: float, intercept: dict[str, Any]
) -> None:
    X, y = shares(shape)
    head = LinearPathSVR(loss=SQUARED, epsilon=epsilon, C=C, **intercept).fit(X, y)
    assert (head.gap_ < 1e-6).all()
    close(head.predict(X), dual(head, X, y)[0])


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=["1", "10", "none"])
@pytest.mark.parametrize("C", [1e-8, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["n > D", "n < D"])
def test_squared_hinge_is_the_dual(
    shape: tuple[int, int], C: float, intercept: dict[str, Any]
) -> None:
    X, y = classes(shape)
    head = LinearPathSVC(C=C, **intercept).fit(X, y)
    assert (head.gap_ < 1e-6).all()
    for values, name in zip(head.decision_function(X).T, head.classes_, strict=True):
        close(values, dual(head, X, np.where(y == name, 1.0, -1.0))[0])


@pytest.mark.parametrize("C", [1e-8, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, None], ids=["0", "0.1", "hinge"])
@pytest.mark.parametrize("shape", [(50, 5), (15, 25)], ids=["n > D", "n < D"])
def test_plain_losses_are_least(shape: tuple[int, int], epsilon: float | None, C: float) -> None:
    """Objective and gap, against a quadratic programme."""
    head: Any
    if epsilon is None:
        X, y = classes(shape, 2)
        head, truth = LinearPathSVC(loss="hinge", C=C), np.where(y == "sad", 1.0, -1.0)
    else:
        X, y = shares(shape)
        head, truth = LinearPathSVR(epsilon=epsilon, C=C), y
    best = least(head, X, truth)
    for tol in (1e-2, 1e-4, 1e-8):
        head.set_params(tol=tol).fit(X, y)
        (ours,) = objective(head, X, y)
        assert head.gap_ <= tol
        assert -1e-6 * best <= ours - best <= head.gap_[0] * ours + 1e-6 * best


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=["1", "10", "none"])
@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("loss", SVR_LOSSES)
def test_regression_is_liblinears(loss: str, epsilon: float, intercept: dict[str, Any]) -> None:
    X, y = shares()
    head = LinearPathSVR(loss=loss, epsilon=epsilon, C=0.3, tol=1e-13, **intercept).fit(X, y)
    close(head.predict(X), fit(liblinear(head), X, y).predict(X))
    assert head.coef_.shape == (8,)
    assert head.intercept_.shape == (1,)


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=["1", "10", "none"])
@pytest.mark.parametrize("weights", [None, "balanced", {"sad": 3.0, "angry": 0.25}])
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("loss", SVC_LOSSES)
def test_classification_is_liblinears(
    loss: str, k: int, weights: Any, intercept: dict[str, Any]
) -> None:
    X, y = classes(k=k)
    head = LinearPathSVC(loss=loss, C=0.3, class_weight=weights, tol=1e-13, **intercept).fit(X, y)
    other = fit(liblinear(head), X, y)
    close(head.decision_function(X), other.decision_function(X), 2e-6)
    assert (head.predict(X) == other.predict(X)).all()
    assert head.coef_.shape == other.coef_.shape
    assert head.intercept_.shape == (len(head.coef_),)
    np.testing.assert_array_equal(head.classes_, other.classes_)


@pytest.mark.parametrize("C", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_few_rows_of_many_columns(loss: str, epsilon: float, C: float) -> None:
    """Rows that can be fitted without an error, at the tolerance that is the default."""
    head: Any
    if loss in SVR_LOSSES:
        X, y = shares((200, 1000))
        head, truth = LinearPathSVR(loss=loss, epsilon=epsilon, C=C), y
    else:
        X, y = classes((200, 1000), 2)
        head, truth = LinearPathSVC(loss=loss, C=C), np.where(y == "sad", 1.0, -1.0)
    head.fit(X, y)
    assert head.gap_ <= (1e-10 if loss.startswith("squared") else 1e-4)
    if loss.startswith("squared"):
        close(X @ head.coef_.ravel() + head.intercept_, dual(head, X, truth)[0])


@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_fewer_rows_than_columns(loss: str) -> None:
    head: Any
    if loss in SVR_LOSSES:
        (X, y), head = shares(WIDE), LinearPathSVR(loss=loss, epsilon=0.05, C=0.1, tol=1e-13)
    else:
        (X, y), head = classes(WIDE), LinearPathSVC(loss=loss, C=0.1, tol=1e-13)
    ours, theirs = head.fit(X, y), fit(liblinear(head, dual=True), X, y)
    close(X @ np.atleast_2d(ours.coef_).T, X @ np.atleast_2d(theirs.coef_).T)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", SVR_LOSSES)
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["n > D", "n < D"])
def test_a_tube_around_everything(shape: tuple[int, int], loss: str) -> None:
    X, y = shares(shape)
    head = LinearPathSVR(loss=loss, epsilon=50.0, C=1e4).fit(X, y)
    assert head.gap_ <= 1e-10
    np.testing.assert_allclose(head.predict(X), 0, atol=1e-12)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["n > D", "n < D"])
@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_weights_are_repeated_rows(loss: str, shape: tuple[int, int]) -> None:
    head: Any
    if loss in SVR_LOSSES:
        (X, y), head = shares(shape), LinearPathSVR(loss=loss, epsilon=0.05, C=0.1, tol=1e-13)
    else:
        (X, y), head = classes(shape), LinearPathSVC(loss=loss, C=0.1, tol=1e-13)
        head.set_params(class_weight="balanced")
    weights = np.arange(len(X)) % 4
    repeated = clone(head).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights, axis=0))
    for given in (weights, weights.tolist(), weights.astype(np.float32)):
        weighted = clone(head).fit(X, y, sample_weight=given)
        close(
            X @ np.atleast_2d(weighted.coef_).T + weighted.intercept_,
            X @ np.atleast_2d(repeated.coef_).T + repeated.intercept_,
            2e-6,
        )


@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_fractional_weights_are_liblinears(loss: str, rng: np.random.Generator) -> None:
    head: Any
    if loss in SVR_LOSSES:
        (X, y), head = shares(), LinearPathSVR(loss=loss, epsilon=0.05, C=0.1, tol=1e-13)
    else:
        (X, y), head = classes(), LinearPathSVC(loss=loss, C=0.1, tol=1e-13)
    weights = rng.uniform(0, 2, len(X)) * (rng.uniform(size=len(X)) < 0.8)
    ours, theirs = head.fit(X, y, weights), fit(liblinear(head), X, y, weights)
    close(X @ np.atleast_2d(ours.coef_).T, X @ np.atleast_2d(theirs.coef_).T, 2e-6)
    np.testing.assert_allclose(
        objective(ours, X, y, weights), objective(theirs, X, y, weights), rtol=1e-9
    )


def test_one_number_as_weight_is_a_factor_of_C() -> None:
    X, y = shares()
    weighted = LinearPathSVR(loss=SQUARED, C=0.1).fit(X, y, sample_weight=3)
    close(weighted.predict(X), LinearPathSVR(loss=SQUARED, C=0.3).fit(X, y).predict(X), 1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["n > D", "n < D"])
@pytest.mark.parametrize("loss", SVR_LOSSES)
def test_several_targets_are_one_at_a_time(
    loss: str, shape: tuple[int, int], epsilon: float
) -> None:
    X, Y = shares(shape, 4)
    Y *= [1.0, 1e-3, 1e3, 0.0]
    head = LinearPathSVR(loss=loss, epsilon=epsilon, C=0.1, tol=1e-8)
    together = clone(head).fit(X, Y)
    assert together.coef_.shape == (4, shape[1])
    assert together.intercept_.shape == together.gap_.shape == (4,)
    values = together.predict(X)
    for i, y in enumerate(Y.T):
        alone = clone(head).fit(X, y).predict(X)
        assert np.abs(values[:, i] - alone).max() <= 1e-6 * np.abs(alone).max() + 1e-15
    single = clone(head).fit(X, Y[:, :1])
    assert single.coef_.shape == (1, shape[1])
    assert single.predict(X).shape == (shape[0], 1)


AWKWARD = [
    "constant columns",
    "duplicate columns",
    "duplicate rows",
    "1e6 and 1e-6",
    "far away",
    "one value",
    "zero",
]


@pytest.mark.parametrize("C", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(120, 8), (10, 12)], ids=["n > D", "n < D"])
@pytest.mark.parametrize("name", AWKWARD)
def test_squared_losses_on_awkward_columns(name: str, shape: tuple[int, int], C: float) -> None:
    """The gap bounds the error, and where it is not small it is said."""
    for dtype in (np.float64, np.float32):
        for epsilon in (0.0, 0.05):
            X, y = shares(shape)
            X = synthetic.awkward(name, X).astype(dtype)
            head = LinearPathSVR(loss=SQUARED, epsilon=epsilon, C=C)
            check_squared(head, X, y, y)
        X, names = classes(shape, 2)
        X = synthetic.awkward(name, X).astype(dtype)
        head, truth = LinearPathSVC(C=C), np.where(names == "sad", 1.0, -1.0)
        if name == "1e6 and 1e-6" and shape[0] < shape[1] and C >= 1:
            # A margin that is met to the last digit still pulls: the minimum is below rounding.
            with pytest.warns(ConvergenceWarning, match="scale the columns of X"):
                head.fit(X, names)
            assert head.gap_ > 1e-9
            continue
        check_squared(head, X, names, truth)


def check_squared(head: Any, X: Matrix, y: Any, truth: Matrix) -> None:
    """The search comes to its end, where it should."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head.fit(X, y)
    assert {one.category for one in caught} <= {ConvergenceWarning}
    assert not caught
    X = X.astype(np.float64)
    (ours,), (_, worth) = objective(head, X, y), dual(head, X, truth)
    assert -1e-9 * ours <= ours - worth <= min(head.gap_[0] + 1e-9, 1e-7) * ours


@pytest.mark.parametrize("shape", [(60, 8), (10, 12)], ids=["n > D", "n < D"])
@pytest.mark.parametrize("name", AWKWARD)
def test_plain_losses_on_awkward_columns(name: str, shape: tuple[int, int]) -> None:
    X, y = shares(shape)
    X = synthetic.awkward(name, X)
    X = X / max(np.abs(X).max(), 1)  # liblinear has to get there too
    names = np.where(y > np.median(y), "sad", "calm")
    for head, truth in (
        (LinearPathSVR(epsilon=0.05, tol=1e-9), y),
        (LinearPathSVR(tol=1e-9), y),
        (LinearPathSVC(loss="hinge", tol=1e-9), names),
    ):
        ours, theirs = head.fit(X, truth), fit(liblinear(head), X, truth)
        assert ours.gap_ <= 1e-9
        (value,), (other,) = objective(ours, X, truth), objective(theirs, X, truth, of=head)
        assert value <= other * (1 + 2e-9)
        if theirs.n_iter_ < theirs.max_iter:
            assert other <= value * (1 + 2e-8)


@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_float32_rows_are_those_numbers_in_float64(loss: str) -> None:
    head: Any
    if loss in SVR_LOSSES:
        (X, y), head = shares((3000, 5)), LinearPathSVR(loss=loss, C=0.1, tol=1e-12)
    else:
        (X, y), head = classes((3000, 5)), LinearPathSVC(loss=loss, C=0.1, tol=1e-12)
    X = X.astype(np.float32)
    ours, theirs = clone(head).fit(X, y), clone(head).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-7)
    assert ours.coef_.dtype == ours.intercept_.dtype == np.float64


@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_no_number_depends_on_the_threads(loss: str) -> None:
    results = []
    for n_jobs in (None, 1, 3):
        head: Any
        if loss in SVR_LOSSES:
            (X, y), head = shares((5000, 6), 2), LinearPathSVR(loss=loss, epsilon=0.05)
        else:
            (X, y), head = classes((5000, 6)), LinearPathSVC(loss=loss)
        head.set_params(n_jobs=n_jobs).fit(X, y)
        results.append(np.concatenate([head.coef_.ravel(), head.intercept_, head.gap_]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("value", [0.1, 0.5, -3.0, 1e6])
@pytest.mark.parametrize("epsilon", [0.0, 0.02])
@pytest.mark.parametrize("loss", SVR_LOSSES)
def test_a_constant_target(loss: str, epsilon: float, value: float) -> None:
    X, _ = shares((300, 4))
    y = np.full(300, value)
    head = LinearPathSVR(loss=loss, epsilon=epsilon, C=0.1).fit(X, y)
    (ours,) = objective(head, X, y)
    (theirs,) = objective(fit(liblinear(head), X, y), X, y, of=head)
    assert head.gap_ <= 1e-4
    assert ours <= theirs * (1 + 1e-4)


@pytest.mark.parametrize("loss", SVR_LOSSES)
def test_a_column_that_is_constant_in_every_other_row(loss: str) -> None:
    X, y = shares((3000, 3))
    X[:, 0] = 0.1
    X[1::100, 0] = 1e5
    head = LinearPathSVR(loss=loss, C=0.1, tol=1e-6).fit(X, y)
    X[:, 0] = 2 * (X[:, 0] > 1)  # what such a column says, but for a constant
    tame = LinearPathSVR(loss=loss, C=0.1, tol=1e-6).fit(X, y)
    np.testing.assert_allclose(head.coef_[1:], tame.coef_[1:], atol=1e-3)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["n > D", "n < D"])
@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_a_search_that_gives_up_is_said(
    loss: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    head: Any
    if loss in SVR_LOSSES:
        (X, y), head = shares(shape), LinearPathSVR(loss=loss, epsilon=0.1, tol=1e-8)
    else:
        (X, y), head = classes(shape), LinearPathSVC(loss=loss, tol=1e-8)
    best = objective(clone(head).fit(X, y), X, y)
    for name in ("NEWTON_STEPS", "BOX_STEPS"):
        monkeypatch.setattr(linear_path, name, 1)
    with pytest.warns(ConvergenceWarning, match=r"^[123] of [13] columns are not at their minim"):
        head.fit(X, y)
    ours = objective(head, X, y)
    assert (head.gap_ > 1e-8).any()
    assert (ours - best <= (head.gap_ + 1e-7) * ours).all()


@pytest.mark.parametrize("loss", ["squared_hinge", SQUARED])
def test_the_gap_bounds_the_error(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head: Any
    if loss == SQUARED:
        (X, y), head = shares(), LinearPathSVR(loss=loss, epsilon=0.1)
    else:
        (X, y), head = classes(k=2), LinearPathSVC()
    (best,) = objective(clone(head).fit(X, y), X, y)
    errors = []
    for steps in (0, 1, 2):
        monkeypatch.setattr(linear_path, "NEWTON_STEPS", steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            (ours,) = objective(head.fit(X, y), X, y)
        assert 0 <= ours - best <= head.gap_[0] * ours
        errors.append(ours - best)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-6 * best


@pytest.mark.parametrize("kind", [LinearPathSVR, LinearPathSVC])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(kind: Any, value: float) -> None:
    X, names = classes()
    y = np.linspace(0, 1, len(X)) if kind is LinearPathSVR else names
    bad = X.copy()
    bad[3, 1] = value
    said = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=said):
        kind().fit(bad, y)
    with pytest.raises(ValueError, match=said):
        kind().fit(X, y).predict(bad)
    with pytest.raises(ValueError, match=said):
        kind().fit(X, y, sample_weight=np.where(np.arange(len(X)) == 2, value, 1))
    if kind is LinearPathSVR:
        with pytest.raises(ValueError, match=said):
            kind().fit(X, np.where(np.arange(len(X)) == 2, value, y))


@pytest.mark.parametrize("kind", [LinearPathSVR, LinearPathSVC])
@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"C": 0.0}, "C = 0.0, expected a positive number"),
        ({"C": -1.0}, "C = -1.0, expected a positive number"),
        ({"C": np.nan}, "C = nan, expected a positive number"),
        ({"tol": 0.0}, "tol = 0.0, expected a positive number"),
        ({"intercept_scaling": 0.0}, "intercept_scaling = 0.0, expected a positive number"),
        ({"loss": "logistic"}, "loss = 'logistic', allowed: .*, squared_"),
    ],
)
def test_parameters_without_a_minimum_are_refused(
    kind: Any, params: dict[str, Any], fault: str
) -> None:
    X, y = classes()
    truth = np.linspace(0, 1, len(X)) if kind is LinearPathSVR else y
    with pytest.raises(ValueError, match=f"^{fault}"):
        kind(**params).fit(X, truth)


@pytest.mark.parametrize("C", [np.inf])
@pytest.mark.parametrize("kind", [LinearPathSVR, LinearPathSVC])
def test_a_C_without_end_is_refused(kind: Any, C: float) -> None:
    X, y = classes()
    truth = np.linspace(0, 1, len(X)) if kind is LinearPathSVR else y
    with pytest.raises(ValueError, match="C = inf, expected"):
        kind(C=C).fit(X, truth)


def test_other_faults_are_said() -> None:
    X, y = shares()
    for epsilon in (-0.1, np.nan):
        with pytest.raises(ValueError, match=f"epsilon = {epsilon}, expected 0 or more"):
            LinearPathSVR(epsilon=epsilon).fit(X, y)
    with pytest.raises(ValueError, match=r"y has one class, 'sad': a head needs two classes"):
        LinearPathSVC().fit(X, ["sad"] * len(X))
    with pytest.raises(ValueError, match="Unknown label type"):
        LinearPathSVC().fit(X, y)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\), expected \(120,\)"):
        LinearPathSVR().fit(X, y, sample_weight=[1, 2, 3])
    with pytest.raises(ValueError, match="sample_weight has negative values"):
        LinearPathSVR().fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="sample_weight is zero for every row"):
        LinearPathSVR().fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearPathSVR().fit(X, y[1:])


def test_weights_that_leave_one_class_are_refused_or_finite() -> None:
    X, y = classes(k=2)
    head = LinearPathSVC().fit(X, y, sample_weight=(y == "sad").astype(float))
    assert np.isfinite(head.coef_).all()
    assert (head.predict(X) == "sad").mean() > 0.9


def test_heads_live_in_a_pipeline_and_a_grid_search() -> None:
    X, y = classes(k=2)
    grid = {"head__C": [1e-4, 1e-2, 1.0], "head__class_weight": [None, "balanced"]}
    scores = []
    for head in (LinearPathSVC(), liblinear(LinearPathSVC())):
        steps = Pipeline([("scaler", StandardScaler()), ("head", head)])
        found = GridSearchCV(steps, grid, scoring="roc_auc", cv=3).fit(X, y)
        scores.append(found.cv_results_["mean_test_score"])
    np.testing.assert_allclose(*scores, atol=1e-12)
    assert len(set(scores[0])) > 2


@pytest.mark.parametrize("loss", [*SVR_LOSSES, *SVC_LOSSES])
def test_skops_and_clone(loss: str) -> None:
    head: Any
    if loss in SVR_LOSSES:
        (X, y), head = shares(k=2), LinearPathSVR(loss=loss, epsilon=0.05, C=0.1)
    else:
        (X, y), head = classes(), LinearPathSVC(loss=loss, class_weight={"sad": 2.0})
    head.fit(X, y)
    data = io.dumps(head)
    untrusted = io.get_untrusted_types(data=data)
    assert untrusted == [f"models.exact.linear_path.{type(head).__name__}"]
    loaded = io.loads(data, trusted=untrusted)
    np.testing.assert_array_equal(loaded.predict(X), head.predict(X))
    assert loaded.get_params() == head.get_params()
    again = clone(head)
    assert not hasattr(again, "coef_")
    np.testing.assert_array_equal(again.fit(X, y).coef_, head.coef_)


def expected(estimator: Any) -> dict[str, str]:
    if estimator.loss.startswith("squared"):
        return {}
    why = "predictions agree to the square root of the gap; the check wants 1e-7"
    return {"check_sample_weight_equivalence_on_dense_data": why}


@parametrize_with_checks(
    [
        *(LinearPathSVR(loss=one) for one in SVR_LOSSES),
        *(LinearPathSVC(loss=o) for o in SVC_LOSSES),
    ],
    expected_failed_checks=expected,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)
