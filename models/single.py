"""One fit: a pipeline on some rows, applied at others."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from features.sequences import Sequences
from models import limits
from models.exact.linear_fits import threads
from models.heads import class_scores
from models.problem import Fit

LIBSVM_LIMIT = "Solver terminated early (max_iter="


@dataclass(frozen=True)
class Fitted:
    """What a fit gives: predictions at each of `tests`, the pipeline if kept, warnings counted.

    `stopped` says whether it ended at a limit of iterations, before its minimum.
    """

    outputs: list[NDArray[np.float64]]
    pipeline: Pipeline | None
    warned: Counter[str]
    stopped: bool = False


def run_fit(X: NDArray[np.float32], y: NDArray[Any], labels: tuple[str, ...], fit: Fit) -> Fitted:
    """Fit one pipeline and apply it, in float64 and one thread.

    Parameters
    ----------
    X : float32, shape (n, n_columns)
        All rows of the problem.
    y : shape (n,) or (n, n_targets)
    labels : tuple of str
        The classes; empty for regression.
    fit : Fit

    Returns
    -------
    Fitted
        With the warnings that it gave, counted.
    """
    head, n = fit.pipeline["head"], len(fit.train)
    with (
        threads().limit(limits=1),
        warnings.catch_warnings(record=True) as caught,
        limits.limited(head, n, fit.limited),
    ):
        warnings.simplefilter("always")
        fit.pipeline.fit(X[fit.train].astype(np.float64), truth_of(y, fit))
        stopped = limits.reached(head)
        values = [apply(fit.pipeline, X[test], labels) for test in fit.tests]
    return Fitted(values, fit.pipeline if fit.keep else None, counted(caught), stopped)


def truth_of(y: NDArray[Any], fit: Fit) -> NDArray[Any]:
    """The truths that a fit learns."""
    truth = y[fit.train]
    if not fit.columns:
        return truth
    return truth[:, fit.columns[0] if len(fit.columns) == 1 else list(fit.columns)]


def counted(caught: Sequence[warnings.WarningMessage]) -> Counter[str]:
    """How often what was warned of."""
    # What libsvm says of its limit is counted as `limits.REACHED`.
    return Counter(
        f"{warning.category.__name__}: {text}"
        for warning in caught
        if not (text := str(warning.message).splitlines()[0]).startswith(LIBSVM_LIMIT)
    )


def apply(
    head: Any, X: NDArray[Any] | Sequences, labels: tuple[str, ...] = ()
) -> NDArray[np.float64]:
    """Predictions of a fitted head.

    Parameters
    ----------
    head : estimator
        As `models.heads.class_scores` takes it where `labels` are given, else with `predict`.
    X : float, shape (n, n_columns), or Sequences
    labels : tuple of str
        The ordered label list; empty for regression.

    Returns
    -------
    float64, shape (n, n_targets) or (n, n_labels)
        Class scores: higher is likelier; NaN for a class the head has never seen.
    """
    width = len(labels) or 1
    if not len(X):
        return np.empty((0, width))
    if not isinstance(X, Sequences):
        X = np.asarray(X, dtype=np.float64)
    if not labels:
        values = np.asarray(head.predict(X), dtype=np.float64)
        return values.reshape(len(X), -1)
    return by_label(class_scores(head, X), head.classes_, labels)


def by_label(
    scores: NDArray[np.float64], classes: Iterable[str], labels: tuple[str, ...]
) -> NDArray[np.float64]:
    """Scores of the classes that were fitted, a column a label: NaN where there is no such class.

    Parameters
    ----------
    scores : float64, shape (n, n_classes)
    classes : iterable of str
        Of the columns of `scores`.

    Returns
    -------
    float64, shape (n, n_labels)
    """
    values = np.full((len(scores), len(labels)), np.nan)
    values[:, [labels.index(label) for label in classes]] = scores
    return values
