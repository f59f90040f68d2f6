"""How scores of several members become one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from evaluate.metrics.calibration import probabilities, shares
from features.recipe.fusion import FusionSpec
from fusion.stacking import weighted_mean

Floats = NDArray[np.float64]


def mean(values: Floats) -> Floats:
    """Arithmetic mean over the members.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)

    Examples
    --------
    >>> mean(np.array([[[0.0]], [[1.0]]])).tolist()
    [[0.5]]
    """
    return np.asarray(values.mean(axis=0))


def median(values: Floats) -> Floats:
    """Median over the members.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)
    """
    return np.asarray(np.median(values, axis=0))


def trimmed(values: Floats, n_out: int) -> Floats:
    """Mean over the members but the `n_out` lowest and the `n_out` highest.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)
    n_out : int
        At each end, of each value by itself.

    Examples
    --------
    >>> trimmed(np.array([[[0.0]], [[9.0]], [[1.0]], [[2.0]]]), 1).tolist()
    [[1.5]]
    """
    return mean(np.sort(values, axis=0)[n_out : len(values) - n_out])


def of_probabilities(combine: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    """Combine the members' probabilities, and bring the rows to sum 1 again.

    Parameters
    ----------
    combine : callable
        float64, shape (n_members, n, n_labels) -> (n, n_labels).

    Returns
    -------
    callable
        Scores, float64, shape (n_members, n, n_labels) -> (n, n_labels). A class that some member
        has no score of is NaN.
    """

    def combined(scores: Floats) -> Floats:
        values = combine(probabilities(scores))
        total = values.sum(axis=1, keepdims=True)
        # Where each class has a member against it altogether, none is likelier than another.
        values = np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[1])
        return np.where(np.isnan(scores).any(axis=0), np.nan, values)

    return combined


def mean_probability(scores: Floats) -> Floats:
    """Mean over the members of the softmax of their class scores.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> mean_probability(np.log([[[1.0, 3.0]], [[3.0, 1.0]]])).tolist()
    [[0.5, 0.5]]
    """
    return mean(shares(scores))


def product(scores: Floats) -> Floats:
    """Product over the members of their probabilities, rows brought to sum 1.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> product(np.log([[[1.0, 3.0]], [[1.0, 1.0]]])).round(6).tolist()
    [[0.25, 0.75]]
    """
    # The sum of logarithms of probabilities is that of the scores but for a constant a row.
    total = logit_sum(scores)
    return np.where(np.isnan(total), np.nan, probabilities(total))


def logit_sum(scores: Floats) -> Floats:
    """Sum over the members of their class scores.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> logit_sum(np.array([[[1.0, -1.0]], [[0.5, 3.0]]])).tolist()
    [[1.5, 2.0]]
    """
    return np.asarray(scores.sum(axis=0))


def vote(scores: Floats) -> Floats:
    """Majority vote: each member gives one vote to its highest class.

    Classes with equally many votes are ranked by their summed scores: the result is the number of
    votes plus a share below one half that grows with the summed score, so that its highest value
    is the winner and its nearest integer the count.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    Two members, two opinions; the more decided one wins.

    >>> np.round(vote(np.array([[[1.0, -1.0]], [[-3.0, 3.0]]])), 3).tolist()
    [[1.0, 1.25]]
    """
    n_labels = scores.shape[2]
    votes = (np.nanargmax(scores, axis=2)[:, :, None] == np.arange(n_labels)).sum(axis=0)
    total = logit_sum(scores)
    # The rank, not the size, of the sum: no scale of the scores can outweigh a vote.
    rank = (total[:, None, :] < total[:, :, None]).sum(axis=2) / (2 * n_labels)
    return np.where(np.isnan(total), np.nan, votes + rank)


def borda(scores: Floats) -> Floats:
    """Mean over the members of the class's rank within the row, less one, over that of the highest.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> borda(np.array([[[3.0, 1.0, 2.0]], [[3.0, 2.0, 1.0]]])).tolist()
    [[1.0, 0.25, 0.25]]
    """
    ranks = rankdata(scores, axis=2, nan_policy="omit") - 1
    highest = np.maximum((~np.isnan(scores)).sum(axis=2, keepdims=True) - 1, 1)
    return mean(ranks / highest)


METHODS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "mean": mean_probability,
        "median": of_probabilities(median),
        "rank-mean": borda,
        "product": product,
        "max": of_probabilities(lambda values: np.asarray(values.max(axis=0))),
        "logit-sum": logit_sum,
        "vote": vote,
    }
)
"""Of class scores."""
VALUE_METHODS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"mean": mean, "median": median}
)
"""Of regression values."""


def _trimmed(spec: FusionSpec) -> Callable[[Floats], Floats]:
    return functools.partial(trimmed, n_out=spec.trim or 1)


def _weighted(spec: FusionSpec) -> Callable[[Floats], Floats] | None:
    if spec.weights is None:
        return None  # they are learned
    return functools.partial(weighted_mean, weights=np.array(spec.weights)[:, None])


WITH_SETTINGS: Mapping[str, Callable[[FusionSpec], Callable[[Floats], Floats] | None]] = (
    MappingProxyType({"trimmed": _trimmed, "weighted": _weighted})
)
"""Of values or probabilities, by settings of their own."""


def fixed_method(spec: FusionSpec, classes: bool) -> Callable[[Floats], Floats] | None:
    """The method of a combination, where it learns nothing; else None."""
    if spec.method in WITH_SETTINGS:
        found = WITH_SETTINGS[spec.method](spec)
        return of_probabilities(found) if found and classes else found
    return (METHODS if classes else VALUE_METHODS).get(spec.method)
