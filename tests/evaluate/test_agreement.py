"""Ours against scipy, scikit-learn and audmetric, on random and on degenerate input.

Where these differ from one another, the table in `evaluate.metrics.metrics` says which is followed;
the rows of that table are tested here, too.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from evaluate.metrics import metrics
from evaluate.statistics import resampling as intervals
from evaluate.statistics.rank_sums import Order, spearman_weighted

LABELS = ["a", "b", "c", "d"]


@pytest.fixture
def audmetric():
    """The package, where it is installed (extra `dev`)."""
    pytest.importorskip("audmetric")
    return importlib.import_module("audmetric")


def quietly(function: Callable, *args, **kwargs):
    """Call a function; what it warns of is not the subject here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def same(ours: float, theirs: float) -> bool:
    return ours == pytest.approx(float(theirs), abs=1e-12, rel=1e-12, nan_ok=True)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction by the name of what is special about them."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    constant = np.full(40, 0.1)
    return {
        "random": (x, y),
        "ties": (rng.integers(0, 3, 40) / 2, rng.integers(0, 4, 40) / 3),
        "ties in the truth": (x.round(), y),
        "nearly constant": (x, np.where(np.arange(40) == 3, 0.2, 0.1)),
        "constant prediction": (x, constant),
        "constant truth": (constant, y),
        "both constant and equal": (constant, constant),
        "reversed": (x, -x),
        "far from zero": (x + 1e6, y + 1e6),
        "two rows": (x[:2], y[:2]),
        "signed zeros": (np.array([0.0, -0.0, 1.0]), np.array([-0.0, 0.0, 2.0])),
    }


@pytest.mark.parametrize("name", pairs())
def test_scipy(name: str) -> None:
    x, y = pairs()[name]
    assert same(quietly(metrics.spearman, x, y), quietly(stats.spearmanr, x, y)[0])
    assert same(quietly(metrics.pearson, x, y), quietly(stats.pearsonr, x, y)[0])
    assert metrics.average_ranks(x).tolist() == stats.rankdata(x).tolist()


@pytest.mark.parametrize("name", pairs())
def test_errors_of_scikit_learn(name: str) -> None:
    x, y = pairs()[name]
    assert same(metrics.mae(x, y), sklearn.mean_absolute_error(x, y))
    assert same(metrics.mse(x, y), sklearn.mean_squared_error(x, y))


@pytest.mark.parametrize("name", pairs())
def test_regression_of_audmetric(name: str, audmetric) -> None:
    x, y = pairs()[name]
    theirs = {
        "pearson": audmetric.pearson_cc,
        "ccc": audmetric.concordance_cc,
        "mae": audmetric.mean_absolute_error,
        "mse": audmetric.mean_squared_error,
    }
    for metric, function in theirs.items():
        assert same(quietly(metrics.REGRESSION[metric], x, y), quietly(function, x, y)), metric


@pytest.mark.parametrize("name", pairs())
def test_resamples_of_the_same_rows(name: str) -> None:
    x, y = pairs()[name]
    drawn = intervals.draw([""] * len(x), 20, seed=1)
    weights = drawn.counts.T.astype(np.int32)
    found, _, _ = spearman_weighted(weights, Order(x), [Order(y), Order(-y)])
    for b, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(x)), weight)
        expected = quietly(stats.spearmanr, x[rows], y[rows])[0]
        assert same(found[0, b], expected)
        assert same(found[1, b], -expected)


def classes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(4)
    truth, prediction = rng.choice(LABELS, 60), rng.choice(LABELS, 60)
    some = rng.choice(LABELS[:3], 60)
    return {
        "random": (truth, prediction),
        "a class never true": (some, prediction),
        "a class neither true nor predicted": (some, rng.choice(LABELS[:3], 60)),
        "a class never predicted": (truth, some),
        "constant prediction": (truth, np.full(60, "b")),
        "one class, never predicted": (np.full(60, "a"), np.full(60, "b")),
        "one class, always right": (np.full(60, "a"), np.full(60, "a")),
        "one row": (np.array(["a"]), np.array(["b"])),
    }


@pytest.mark.parametrize("name", classes())
def test_scikit_learn(name: str) -> None:
    truth, prediction = classes()[name]
    options = {"labels": LABELS, "zero_division": np.nan}
    matrix = metrics.confusion(truth, prediction, LABELS)
    assert (matrix == sklearn.confusion_matrix(truth, prediction, labels=LABELS)).all()
    uar = quietly(metrics.uar, truth, prediction, LABELS)
    assert same(uar, quietly(sklearn.balanced_accuracy_score, truth, prediction))
    recall = quietly(sklearn.recall_score, truth, prediction, average="macro", **options)
    assert same(uar, recall)
    assert same(metrics.wa(truth, prediction, LABELS), sklearn.accuracy_score(truth, prediction))
    f1 = quietly(sklearn.f1_score, truth, prediction, average="macro", **options)
    assert same(metrics.macro_f1(truth, prediction, LABELS), f1)
    table = metrics.per_class(matrix, LABELS)
    parts = quietly(sklearn.precision_recall_fscore_support, truth, prediction, **options)
    for part, values in zip(("precision", "recall", "f1", "support"), parts, strict=True):
        for label, value in zip(LABELS, values, strict=True):
            assert same(table[label][part], value)


@pytest.mark.parametrize("name", classes())
def test_classification_of_audmetric(name: str, audmetric) -> None:
    truth, prediction = (list(one) for one in classes()[name])
    assert same(metrics.wa(truth, prediction, LABELS), audmetric.accuracy(truth, prediction))
    matrix = metrics.confusion(truth, prediction, LABELS)
    assert matrix.tolist() == audmetric.confusion_matrix(truth, prediction, labels=LABELS)
    table = metrics.per_class(matrix, LABELS)
    for part, function in (
        ("precision", audmetric.precision_per_class),
        ("recall", audmetric.recall_per_class),
        ("f1", audmetric.fscore_per_class),
    ):
        theirs = quietly(function, truth, prediction, labels=LABELS)
        for label in LABELS:
            ours = table[label][part]
            assert same(0.0 if np.isnan(ours) else ours, theirs[label])  # it counts them as 0
    if (matrix.sum(axis=1) > 0).all():
        uar = metrics.uar(truth, prediction, LABELS)
        assert same(uar, audmetric.unweighted_average_recall(truth, prediction, labels=LABELS))


def test_where_audmetric_says_otherwise(audmetric) -> None:
    constant, other = np.full(4, 0.2), np.full(4, 0.1)
    assert np.isnan(quietly(metrics.ccc, constant, other))
    assert audmetric.concordance_cc(constant, other) == 0
    truth, prediction = ["a", "a", "b"], ["a", "a", "b"]
    assert quietly(metrics.uar, truth, prediction, LABELS) == 1
    assert quietly(audmetric.unweighted_average_recall, truth, prediction, labels=LABELS) == 0.5


def test_one_row_has_no_correlation() -> None:
    for metric in (metrics.spearman, metrics.pearson):
        assert np.isnan(quietly(metric, [1.0], [2.0]))
    with pytest.raises(ValueError, match="at least 2"):
        stats.pearsonr([1.0], [2.0])
