"""What models have in common, and what each adds to their fusion: arrays in, floats out.

Conventions
-----------
- Matrices of pairs have shape (n_models, n_models), are symmetric, and NaN where undefined.
- Errors are compared as by Kuncheva and Whitaker (2003), by counting rows: both right, one right,
  none right.
- A *value function* takes subsets of the models, bool, shape (n_subsets, n_models), and gives
  scores, float64, shape (n_subsets, n_metrics): what the fusion of each subset is worth. It is
  never asked for the empty subset, whose worth the caller says (that of guessing). Nothing here
  knows how predictions are combined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Subsets = NDArray[np.bool_]
Value = Callable[[Subsets], Floats]

EXACT_UP_TO = 12
"""Models up to which Shapley values are exact: 4,095 subsets."""
SAMPLED_SUBSETS = 4096
"""About so many subsets are looked at where Shapley values are sampled."""


@dataclass(frozen=True)
class Agreement:
    """How the errors of every two models go together.

    Attributes
    ----------
    correlation : float64, shape (n_models, n_models)
        Pearson's r of being right; NaN where a model is always or never right.
    disagreement : float64, shape (n_models, n_models)
        Share of rows that one of the two has right and the other has not.
    q : float64, shape (n_models, n_models)
        Yule's Q, (ad - bc) / (ad + bc) of the counts a both right, d none right, b and c one
        right; NaN where ad + bc is 0.
    double_fault : float64, shape (n_models, n_models)
        Share of rows that both have wrong.
    """

    correlation: Floats
    disagreement: Floats
    q: Floats
    double_fault: Floats


def agreement(right: NDArray[np.bool_]) -> Agreement:
    """Compare the errors of every two models.

    Parameters
    ----------
    right : bool, shape (n_models, n), n > 0
        Whether a model has a row right.

    Returns
    -------
    Agreement
        Matrices of shape (n_models, n_models).

    Examples
    --------
    >>> found = agreement(np.array([[True, True, False, False], [True, False, True, False]]))
    >>> found.disagreement[0, 1], found.double_fault[0, 1], found.q[0, 1]
    (np.float64(0.5), np.float64(0.25), np.float64(0.0))
    """
    n = right.shape[1]
    hits = right.astype(np.float64)
    both, first = hits @ hits.T, hits @ (1 - hits).T
    other, none = first.T, (1 - hits) @ (1 - hits).T
    count = hits.sum(axis=1) * (n - hits.sum(axis=1))
    same, apart = both * none, first * other
    with np.errstate(invalid="ignore"):
        correlation = (same - apart) / np.sqrt(count[:, None] * count)
        q = (same - apart) / (same + apart)
    return Agreement(correlation, (first + other) / n, q, none / n)


def residual_correlation(truth: Floats, predictions: Floats) -> Floats:
    """Pearson's r of the residuals of every two models, the mean over targets.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked; such a row is left out for that target, as is a target without a truth.
    predictions : float64, shape (n_models, n, n_targets)

    Returns
    -------
    float64, shape (n_models, n_models)
        NaN where the residuals of a model are constant.
    """
    found = []
    for t in np.flatnonzero(~np.isnan(truth).all(axis=0)):
        known = ~np.isnan(truth[:, t])
        residuals = predictions[:, known, t] - truth[known, t]
        constant = np.ptp(residuals, axis=1) == 0
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = np.atleast_2d(np.corrcoef(residuals))
        matrix[constant] = matrix[:, constant] = np.nan
        found.append(matrix)
    return np.mean(found, axis=0) if found else np.full((len(predictions),) * 2, np.nan)


def oracle_labels(truth: ArrayLike, predictions: ArrayLike) -> NDArray[np.object_]:
    """The truth wherever any model has it, else what the first model says.

    No combination that chooses among the models' answers can do better.

    Parameters
    ----------
    truth : str, shape (n,)
    predictions : str, shape (n_models, n)

    Examples
    --------
    >>> oracle_labels(["a", "b", "a"], [["a", "a", "b"], ["b", "b", "b"]]).tolist()
    ['a', 'b', 'b']
    """
    right, said = np.asarray(truth, dtype=object), np.asarray(predictions, dtype=object)
    return np.where((said == right).any(axis=0), right, said[0])


def oracle_values(truth: Floats, predictions: Floats) -> Floats:
    """Of each row and target the prediction nearest to the truth; the first one where it is masked.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked.
    predictions : float64, shape (n_models, n, n_targets)

    Returns
    -------
    float64, shape (n, n_targets)

    Examples
    --------
    >>> oracle_values(np.array([[0.0], [1.0]]), np.array([[[0.1], [0.5]], [[0.2], [0.9]]])).tolist()
    [[0.1], [0.9]]
    """
    apart = np.nan_to_num(np.abs(predictions - truth), nan=0.0)
    return np.take_along_axis(predictions, apart.argmin(axis=0)[None], axis=0)[0]


@dataclass(frozen=True)
class Contributions:
    """What each model adds to the fusion of all.

    Attributes
    ----------
    whole : float64, shape (n_metrics,)
        Worth of the fusion of all models.
    alone : float64, shape (n_models, n_metrics)
        Worth of each model by itself.
    left_out : float64, shape (n_models, n_metrics)
        Worth of all models less that of all others: what is lost without it.
    shapley : float64, shape (n_models, n_metrics)
        Mean of what a model adds over all orders in which the models can join (Shapley 1953). They
        sum to `whole` less the worth of the empty subset.
    error : float64, shape (n_models, n_metrics), or None
        Standard error of sampled Shapley values; None where they are exact.
    n_subsets : int
        Subsets looked at.
    """

    whole: Floats
    alone: Floats
    left_out: Floats
    shapley: Floats
    error: Floats | None
    n_subsets: int


def contributions(value: Value, n_models: int, empty: ArrayLike, seed: int) -> Contributions:
    """Say what each model adds: exactly up to `EXACT_UP_TO` models, else over sampled orders.

    Parameters
    ----------
    value : callable
        Subsets -> scores.
    n_models : int
        Two or more.
    empty : float, shape (n_metrics,)
        Worth of the empty subset.
    seed : int
        Of the sampled orders.

    Returns
    -------
    Contributions

    Examples
    --------
    Two models of which one suffices, and a third that is worth nothing.

    >>> either = lambda subsets: (subsets[:, [0]] | subsets[:, [1]]).astype(float)
    >>> contributions(either, 3, [0.0], seed=0).shapley.tolist()
    [[0.5], [0.5], [0.0]]
    """
    nothing = np.asarray(empty, dtype=np.float64)
    eye = np.eye(n_models, dtype=np.bool_)
    if n_models <= EXACT_UP_TO:
        numbers = np.arange(1 << n_models)
        worth = np.concatenate([nothing[None], value(_subsets(numbers[1:], n_models))])
        shapley, error = _exact(worth, n_models), None
        single, all_but_one = worth[1 << np.arange(n_models)], worth[~(1 << np.arange(n_models))]
        whole = worth[-1]
        return Contributions(whole, single, whole - all_but_one, shapley, error, len(numbers) - 1)
    single, all_but_one = value(eye), value(~eye)
    shapley, error, n_subsets = _sampled(value, n_models, nothing, seed)
    whole = value(np.ones((1, n_models), dtype=np.bool_))[0]
    return Contributions(
        whole, single, whole - all_but_one, shapley, error, n_subsets + 2 * n_models + 1
    )


def _subsets(numbers: NDArray[np.int64], n_models: int) -> Subsets:
    """Bit k of a number says whether model k is in."""
    return (numbers[:, None] >> np.arange(n_models) & 1).astype(np.bool_)


def _exact(worth: Floats, n_models: int) -> Floats:
    numbers = np.arange(len(worth))
    size = _subsets(numbers, n_models).sum(axis=1)
    # A model joins a subset of this size in so large a share of all orders.
    share = np.array([1 / (n_models * comb(n_models - 1, s)) for s in range(n_models)])
    shapley = []
    for model in range(n_models):
        without = numbers[numbers >> model & 1 == 0]
        gain = worth[without | 1 << model] - worth[without]
        shapley.append(share[size[without]] @ gain)
    return np.array(shapley)


def _sampled(value: Value, n_models: int, empty: Floats, seed: int) -> tuple[Floats, Floats, int]:
    """Mean and standard error over orders, each drawn with its reverse."""
    rng = np.random.default_rng(seed)
    n_pairs = max(2, SAMPLED_SUBSETS // (2 * n_models))
    first = np.stack([rng.permutation(n_models) for _ in range(n_pairs)])
    orders = np.concatenate([first, first[:, ::-1]])
    place = np.argsort(orders, axis=1)
    joined = place[:, None, :] <= np.arange(n_models)[:, None]  # (orders, steps, models)
    subsets, inverse = np.unique(joined.reshape(-1, n_models), axis=0, return_inverse=True)
    worth = value(subsets)[inverse.ravel()].reshape(len(orders), n_models, -1)
    gains = np.diff(worth, axis=1, prepend=np.broadcast_to(empty, (len(orders), 1, len(empty))))
    each = np.take_along_axis(gains, place[:, :, None], axis=1)
    pairs = (each[:n_pairs] + each[n_pairs:]) / 2
    error = pairs.std(axis=0, ddof=1) / np.sqrt(n_pairs)
    return pairs.mean(axis=0), error, len(subsets)


def pair_subsets(n_models: int) -> tuple[NDArray[np.int64], Subsets]:
    """Every two models, and the subsets that hold just them.

    Returns
    -------
    pairs : int64, shape (n_pairs, 2)
    subsets : bool, shape (n_pairs, n_models)

    Examples
    --------
    >>> pairs, subsets = pair_subsets(3)
    >>> pairs.tolist(), subsets.astype(int).tolist()
    ([[0, 1], [0, 2], [1, 2]], [[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    """
    pairs = np.column_stack(np.triu_indices(n_models, 1))
    subsets = np.zeros((len(pairs), n_models), dtype=np.bool_)
    np.put_along_axis(subsets, pairs, True, axis=1)
    return pairs, subsets
