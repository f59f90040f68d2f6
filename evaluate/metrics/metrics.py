"""Scores of a set of predictions: arrays in, floats out.

Conventions
-----------
- Arguments come as `truth, prediction, labels`, one row an utterance. Rows without a truth are
  left out by the caller; only `regression_scores` leaves them out itself, target by target.
- Classification metrics take the corpus's label list, never the labels that happen to occur.
- UAR (unweighted average recall, UA) is the mean of the per-class recalls; WA (weighted
  accuracy, WAR) is the share of right answers.
- An undefined score is NaN with a `ScoreWarning`, never a number. Empty input, NaN or infinite
  values and unknown labels are a ValueError.
- Ours equal those of scipy, scikit-learn and audmetric to 1e-12 wherever these agree with one
  another. Where they do not, we follow the one that keeps to the definition: a class that nobody
  said or meant has no score, and is left out of means rather than counted as 0.

===============================  ======  ==========  ============================  ==============
case                             ours    scipy       scikit-learn                  audmetric
===============================  ======  ==========  ============================  ==============
correlation, a side constant     NaN     NaN         -                             NaN
Pearson's r of one row           NaN     ValueError  -                             NaN
CCC, one side constant           0       -           -                             0
CCC, both sides constant         NaN     -           -                             0; NaN if equal
UAR, a class never true          left    -           left out (balanced accuracy,  0
                                 out                 recall, zero_division=nan)
F1, a class neither true nor     left    -           left out (zero_division=nan)  0
predicted, in the macro mean     out                 or 0 (the default)
F1, a class only predicted       0       -           0                             0
precision, never predicted       NaN     -           NaN (zero_division=nan)       0
===============================  ======  ==========  ============================  ==============
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.recipe.known.metrics import METRICS
from features.recipe.known.records import of_task

Floats = NDArray[np.float64]


class ScoreWarning(UserWarning):
    """A score is undefined, or leaves something out."""


def pearson(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Pearson's correlation, as `scipy.stats.pearsonr`; NaN where a side is constant.

    Parameters
    ----------
    truth, prediction : float, shape (n,)

    Raises
    ------
    ValueError
        On empty input, unequal shapes, NaN or infinite values.

    Examples
    --------
    >>> round(pearson([1, 2, 3], [1, 2, 4]), 6)
    0.981981
    """
    x, y = _pair(truth, prediction)
    if _constant(x, y):
        _warn_constant("Pearson's correlation", x, y)
        return float("nan")
    return _correlation(x, y)


def spearman(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Spearman's rank correlation with average ranks for ties, as `scipy.stats.spearmanr`.

    NaN where a side is constant. Parameters and errors as in `pearson`.

    Examples
    --------
    >>> round(spearman([1, 2, 3, 4], [10, 20, 40, 30]), 12)
    0.8
    """
    x, y = _pair(truth, prediction)
    if _constant(x, y):
        _warn_constant("Spearman's correlation", x, y)
        return float("nan")
    return _correlation(average_ranks(x), average_ranks(y))


def ccc(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Concordance correlation coefficient (Lin 1989), with population moments.

    0 where one side is constant, NaN where both are (also where they are equal). Parameters and
    errors as in `pearson`.

    Parameters
    ----------
    truth, prediction : float, shape (n,)

    Returns
    -------
    float
        In [-1, 1].

    Examples
    --------
    >>> round(ccc([1, 2, 3], [2, 3, 4]), 6)
    0.571429
    """
    x, y = _pair(truth, prediction)
    constant = int(np.ptp(x) == 0) + int(np.ptp(y) == 0)
    if constant == 2:
        _warn_constant("the concordance correlation", x, y)
        return float("nan")
    if constant == 1:
        return 0.0
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def mae(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error, in the unit of the target. Parameters and errors as in `pearson`.

    Examples
    --------
    >>> mae([0, 1], [0.5, 1])
    0.25
    """
    x, y = _pair(truth, prediction)
    return float(np.mean(np.abs(x - y)))


def mse(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Mean squared error, in the target's unit squared. Parameters and errors as in `pearson`.

    Examples
    --------
    >>> mse([0, 1], [0.5, 1])
    0.125
    """
    x, y = _pair(truth, prediction)
    return float(np.mean((x - y) ** 2))


REGRESSION: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "spearman": spearman,
    "pearson": pearson,
    "ccc": ccc,
    "mae": mae,
    "mse": mse,
}
CLASSIFICATION = tuple(METRICS[key].field for key in of_task(METRICS, "classification"))
OVER_CLASSES = tuple(metric.field for metric in METRICS.values() if metric.over_classes)
"""Those that are means over classes: over fewer of them they are another metric."""


def regression_scores(
    truth: ArrayLike, prediction: ArrayLike, targets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Every regression metric of every target.

    Parameters
    ----------
    truth : float, shape (n, n_targets)
        NaN where masked; such a row is left out for that target.
    prediction : float, shape (n, n_targets)
    targets : sequence of str

    Returns
    -------
    dict
        `{target: {metric: value}}`, all NaN for a target without a single truth (with a warning).

    Raises
    ------
    ValueError
        On empty input, wrong shapes, infinite truths, and predictions that are not finite.

    Examples
    --------
    >>> truth = [[0.0], [1.0], [float("nan")]]
    >>> regression_scores(truth, [[0.25], [0.75], [0.5]], ["calmness"])["calmness"]["mae"]
    0.25
    """
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or x.shape[1] != len(targets) or not len(x):
        raise ValueError(
            f"truth {x.shape} and prediction {y.shape}: expected (n, {len(targets)}) with n > 0"
        )
    if not np.isfinite(y).all():
        raise ValueError(f"prediction: {int((~np.isfinite(y)).sum())} values are NaN or infinite")
    result = {}
    for i, target in enumerate(targets):
        known = ~np.isnan(x[:, i])
        if known.any():
            result[target] = {k: f(x[known, i], y[known, i]) for k, f in REGRESSION.items()}
        else:
            _warn(f"{target}: no row has a truth; left out of means over targets")
            result[target] = dict.fromkeys(REGRESSION, float("nan"))
    return result


def average_ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, ties sharing their mean rank, as `scipy.stats.rankdata`.

    Parameters
    ----------
    values : float, shape (n,)

    Returns
    -------
    float64, shape (n,)

    Examples
    --------
    >>> average_ranks([3.0, 1.0, 3.0]).tolist()
    [2.5, 1.0, 2.5]
    """
    flat = np.asarray(values)
    order = np.argsort(flat)
    ordered = flat[order]
    # Where each run of equal values begins, and where the next one does.
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(flat))
    ranks = np.empty(len(flat))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _pair(truth: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"truth {x.shape} and prediction {y.shape}: expected (n,) with n > 0")
    for name, values in (("truth", x), ("prediction", y)):
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise ValueError(f"{name}: {count} of {len(values)} values are NaN or infinite")
    return x, y


def _constant(x: Floats, y: Floats) -> bool:
    return bool(np.ptp(x) == 0 or np.ptp(y) == 0)


def _correlation(x: Floats, y: Floats) -> float:
    x, y = x - x.mean(), y - y.mean()
    # Scaled first: squares of tiny or huge values would leave the range of float64.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def _warn_constant(what: str, x: Floats, y: Floats) -> None:
    sides = [name for name, v in (("truth", x), ("prediction", y)) if np.ptp(v) == 0]
    _warn(f"{what} is undefined: constant {' and '.join(sides)} over {len(x)} rows")


def confusion(truth: ArrayLike, prediction: ArrayLike, labels: Sequence[str]) -> NDArray[np.int64]:
    """Confusion counts, as `sklearn.metrics.confusion_matrix(..., labels=labels)`.

    Parameters
    ----------
    truth, prediction : str, shape (n,)
    labels : sequence of str
        The corpus's ordered label list.

    Returns
    -------
    int64, shape (n_labels, n_labels)
        Rows are the truth, columns the prediction.

    Raises
    ------
    ValueError
        On empty input, unequal lengths, repeated labels, and labels outside the list.

    Examples
    --------
    >>> confusion(["a", "b", "b"], ["a", "a", "b"], ["a", "b"]).tolist()
    [[1, 0], [1, 1]]
    """
    rows, columns = encode(truth, labels, "truth"), encode(prediction, labels, "prediction")
    if rows.shape != columns.shape or not len(rows):
        raise ValueError(f"truth {rows.shape}, prediction {columns.shape}: expected (n,), n > 0")
    k = len(labels)
    return np.bincount(rows * k + columns, minlength=k * k).reshape(k, k)


def encode(values: ArrayLike, labels: Sequence[str], name: str = "values") -> NDArray[np.int64]:
    """Positions of `values` in the label list; a ValueError names values outside it.

    Parameters
    ----------
    values : str, shape (n,)
    labels : sequence of str
    name : str
        What the values are called in an error.

    Returns
    -------
    int64, shape (n,)
        0 to n_labels - 1.

    Raises
    ------
    ValueError
        A value is not in the list.
    """
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels: {list(labels)} has repeated labels")
    position = {label: i for i, label in enumerate(labels)}
    flat = np.asarray(values, dtype=object)
    unknown = sorted({str(label) for label in flat if label not in position})
    if unknown:
        raise ValueError(f"{name}: {unknown} not among the labels {list(labels)}")
    return np.array([position[label] for label in flat], dtype=np.int64)


def uar(truth: ArrayLike, prediction: ArrayLike, labels: Sequence[str]) -> float:
    """Unweighted average recall over the label list, as `sklearn`'s `balanced_accuracy_score`.

    A class without a true sample has no recall: it is left out, and one warning counts it.
    Parameters and errors as in `confusion`.

    Examples
    --------
    >>> uar(["a", "a", "a", "b"], ["a", "a", "b", "b"], ["a", "b"])
    0.8333333333333333
    """
    return classification_scores(confusion(truth, prediction, labels))["uar"]


def wa(truth: ArrayLike, prediction: ArrayLike, labels: Sequence[str]) -> float:
    """Weighted accuracy: the share of right answers. Parameters and errors as in `confusion`.

    Examples
    --------
    >>> wa(["a", "a", "a", "b"], ["a", "a", "b", "b"], ["a", "b"])
    0.75
    """
    return float(scores_of(confusion(truth, prediction, labels))["wa"])


def macro_f1(truth: ArrayLike, prediction: ArrayLike, labels: Sequence[str]) -> float:
    """Mean of the per-class F1, as `sklearn`'s `f1_score(average="macro", zero_division=nan)`.

    A class that is neither true nor predicted anywhere is left out; one that is only predicted
    counts as 0. Parameters and errors as in `confusion`.

    Examples
    --------
    >>> round(macro_f1(["a", "a", "a", "b"], ["a", "a", "b", "b"], ["a", "b"]), 6)
    0.733333
    """
    return float(scores_of(confusion(truth, prediction, labels))["macro_f1"])


def per_class(matrix: NDArray[np.int64], labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and support of each class of a confusion matrix.

    Recall is NaN without a true sample, precision NaN without a predicted one, F1 without either.

    Examples
    --------
    >>> per_class(np.array([[2, 1], [0, 1]]), ["a", "b"])["b"]
    {'precision': 0.5, 'recall': 1.0, 'f1': 0.6666666666666666, 'support': 1}
    """
    parts = _class_scores(np.asarray(matrix))
    return {
        label: {k: float(v[i]) for k, v in parts.items()} | {"support": int(matrix[i].sum())}
        for i, label in enumerate(labels)
    }


def classification_scores(matrix: NDArray[np.int64]) -> dict[str, float]:
    """UAR, WA and macro F1 of one confusion matrix; warns where classes have no true sample."""
    absent = int((matrix.sum(axis=1) == 0).sum())
    if absent:
        _warn(f"{absent} of {len(matrix)} classes have no true sample; left out of the UAR")
    return {name: float(value) for name, value in scores_of(matrix).items()}


def scores_of(matrices: NDArray[Any]) -> dict[str, Floats]:
    """UAR, WA and macro F1 of stacked confusion matrices, without warnings.

    Parameters
    ----------
    matrices : number, shape (..., n_labels, n_labels)

    Returns
    -------
    dict of float64, shape (...)
    """
    parts = _class_scores(matrices)
    right = np.trace(matrices, axis1=-2, axis2=-1)
    return {
        "uar": _mean_of_known(parts["recall"]),
        "wa": _divide(right, matrices.sum(axis=(-2, -1))),
        "macro_f1": _mean_of_known(parts["f1"]),
    }


def _class_scores(matrices: NDArray[Any]) -> dict[str, Floats]:
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    true, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    return {
        "precision": _divide(right, predicted),
        "recall": _divide(right, true),
        "f1": _divide(2 * right, true + predicted),
    }


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1e-300), np.nan)


def _mean_of_known(values: Floats) -> Floats:
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _warn(text: str) -> None:
    warnings.warn(text, ScoreWarning, stacklevel=3)
