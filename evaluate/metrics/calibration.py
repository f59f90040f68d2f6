"""Probabilities out of class scores, and how far they can be believed.

Conventions
-----------
- Class scores are float64, shape (n, n_labels), higher is likelier; their softmax is taken for
  probabilities. NaN is a class that the head has not seen: its probability is 0.
- Those of a combination are of one of `KINDS`. Probabilities are taken as they are, shares divided
  by their sum. Votes, ranks and least-squares values only order the classes: no calibration.
- `truth` is int64, shape (n,): the index of the true class.
- A temperature divides the scores before the softmax: it changes no decision (Guo et al. 2017,
  On Calibration of Modern Neural Networks). It is fitted where the scores are not judged.
- Calibration is that of the predicted class: confidence is its probability, and a bin's accuracy
  the share of right predictions. Bins have equal width; a confidence on an edge counts below, as in
  the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

KINDS = ("score", "probability", "share", "votes", "mean ranks", "least-squares values")
"""Of class scores; the first is that of heads, `share` a probability but for a factor a row."""
AS_PROBABILITIES = ("probability", "share")
NO_PROBABILITIES = ("votes", "mean ranks", "least-squares values")
N_BINS = 15
"""Of the paper."""
_SPAN = 10.0
"""The temperature is sought within exp(+-_SPAN) of the scores' own spread."""


@dataclass(frozen=True)
class Reliability:
    """Confidence beside accuracy, a bin each.

    Attributes
    ----------
    confidence, accuracy : float64, shape (n_bins,)
        Means over the rows of a bin; NaN in an empty one.
    counts : int64, shape (n_bins,)
    error : float
        Expected calibration error: |accuracy - confidence|, averaged over the rows.
    """

    confidence: Floats
    accuracy: Floats
    counts: Codes
    error: float


def probabilities(scores: Floats, temperature: float | Floats = 1.0) -> Floats:
    """Softmax of class scores over the last axis; 0 for a class without a score.

    Parameters
    ----------
    scores : float64, shape (..., n_labels)
    temperature : float
        Or an array that broadcasts against the scores.

    Examples
    --------
    >>> probabilities(np.log([[1.0, 3.0, np.nan]])).tolist()
    [[0.25, 0.75, 0.0]]
    """
    absent = np.isnan(scores)
    return np.asarray(softmax(np.where(absent, -np.inf, scores / temperature), axis=-1))


def temperature(scores: Floats, truth: Codes) -> float:
    """The temperature that gives the true classes the highest likelihood.

    Parameters
    ----------
    scores : float64, shape (n, n_labels)
    truth : int64, shape (n,)

    Returns
    -------
    float
        Greater than 0. Rows whose class has no score are left out; 1 where no row is left, or
        where all scores of a row are equal.

    Examples
    --------
    Right in three rows of four, whatever the score:

    >>> scores = np.array([[2.0, 0.0]] * 4)
    >>> round(2.0 / temperature(scores, np.array([0, 0, 0, 1])), 4) == round(float(np.log(3)), 4)
    True
    """
    known = ~np.isnan(scores[np.arange(len(scores)), truth])
    scores, truth = scores[known], truth[known]
    scores = np.where(np.isnan(scores), -np.inf, scores)
    seen = np.isfinite(scores)
    if not seen.any():
        return 1.0
    scores = scores - scores.max(axis=1, keepdims=True, where=seen, initial=-np.inf)
    spread = float(-scores[seen].min())
    if spread == 0:
        return 1.0
    own = scores[np.arange(len(scores)), truth]

    def surprise(log: float) -> float:
        scale = np.exp(-log) / spread
        return float((logsumexp(scores * scale, axis=1) - own * scale).mean())

    found = minimize_scalar(surprise, bounds=(-_SPAN, _SPAN), method="bounded",
                            options={"xatol": 1e-6})  # fmt: skip
    return float(np.exp(found.x) * spread)


def reliability(probability: Floats, truth: Codes, n_bins: int = N_BINS) -> Reliability:
    """Confidence and accuracy by bins of confidence.

    Parameters
    ----------
    probability : float64, shape (n, n_labels)
        Rows sum to 1.
    truth : int64, shape (n,)
    n_bins : int

    Returns
    -------
    Reliability

    Examples
    --------
    >>> found = reliability(np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([0, 1]), n_bins=2)
    >>> found.counts.tolist(), round(found.error, 3)
    ([0, 2], 0.3)
    """
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == truth
    # The edge i/n belongs to the bin below it.
    bin_of = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    counts = np.bincount(bin_of, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bin_of, values, n_bins) / counts for values in (confidence, right)]
    gaps = np.abs(np.bincount(bin_of, right - confidence, n_bins))
    error = float(gaps.sum() / len(truth)) if len(truth) else float("nan")
    return Reliability(means[0], means[1], counts, error)


@dataclass(frozen=True)
class Calibrated:
    """Reliability as it is and with a temperature a fold."""

    plain: Reliability
    tempered: Reliability
    temperatures: dict[str, float]


def of_run(
    predictions: pd.DataFrame, inner: pd.DataFrame, labels: Sequence[str], *, kind: str = "score"
) -> dict[str, Calibrated]:
    """Calibration of a run's predictions, as they are and with a temperature a fold.

    Parameters
    ----------
    predictions, inner : DataFrame
        `predictions.csv` and `inner.csv`: the temperature of a fold is fitted on its inner rows.
    labels : sequence of str
    kind : str
        What the class scores are, of `KINDS`.

    Returns
    -------
    dict
        Partition -> `Calibrated`. Partitions without a truth are left out, and so is one whose rows
        the temperature would be fitted on (devel). Empty where the scores have no probabilities.
    """
    if kind in NO_PROBABILITIES:
        return {}
    codes = {label: code for code, label in enumerate(labels)}
    columns = [f"score_{label}" for label in labels]

    def scores_of(rows: pd.DataFrame) -> tuple[Floats, Codes]:
        known = rows[rows["true"] != ""]
        values = known[columns].to_numpy(np.float64)
        truth = np.array([codes[label] for label in known["true"]], dtype=np.int64)
        if kind in AS_PROBABILITIES:
            # The softmax of their logarithms divides a row by its sum.
            with np.errstate(divide="ignore"):
                values = np.maximum(np.log(values), np.log(np.finfo(np.float64).tiny))
        return values, truth

    fitted = {str(fold): temperature(*scores_of(rows)) for fold, rows in inner.groupby("fold")}
    result = {}
    for name, rows in predictions.groupby("partition", sort=False):
        if (inner["partition"] == name).any():
            continue
        values, truth = scores_of(rows)
        if not len(truth):
            continue
        folds = rows.loc[rows["true"] != "", "fold"]
        divide = np.array([fitted[fold] for fold in folds], dtype=np.float64)[:, None]
        result[str(name)] = Calibrated(
            reliability(probabilities(values), truth),
            reliability(probabilities(values, divide), truth),
            {fold: fitted[fold] for fold in map(str, rows["fold"].unique())},
        )
    return result


def shares(scores: Floats) -> Floats:
    """Softmax of class scores over the last axis; NaN for a class without a score.

    Parameters
    ----------
    scores : float64, shape (..., n_labels)

    Examples
    --------
    >>> shares(np.array([0.0, np.nan, 0.0])).tolist()
    [0.5, nan, 0.5]
    """
    return np.where(np.isnan(scores), np.nan, probabilities(scores))
