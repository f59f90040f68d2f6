"""The nearest rows by cosine, for every number of neighbours from one matrix of similarities.

Conventions
-----------
- The distance of two rows is 1 less the cosine of their angle, in float64; a row of zeros is at 1
  from all others. No index: every distance is computed.
- Where rows tie for the last place among the k nearest, those that come first in the training rows
  are taken. Distances within `TIE` of that of the k-th tie: rounding alone moves them by less.
- The score of a class is log((votes + 1) / (k + n_classes)), of the classes that were fitted: a
  logarithm of probabilities that are never 0. Where the votes tie, the first class is predicted.
- Rows to predict are worked on in blocks, so that memory is bounded: distances of at most `BLOCK`
  entries, three times. The size of a block depends on the training rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

Matrix = NDArray[np.float64]

BLOCK = 2**22
"""Distances that are held at once: 32 MB."""
TIE = 1e-12


class CosineNeighbours(ClassifierMixin, BaseEstimator):
    """Classes by the votes of the nearest training rows, by cosine.

    The neighbours are those of scikit-learn's `KNeighborsClassifier(metric="cosine",
    algorithm="brute")` where no distances tie.

    Parameters
    ----------
    n_neighbors : int
        How many rows vote.

    Attributes
    ----------
    classes_ : shape (n_classes,), ascending
    directions_ : float64, shape (n, n_columns)
        The training rows, each of length 1 (or 0).
    member_ : int64, shape (n,)
        The class of each, as a position in `classes_`.

    Examples
    --------
    >>> head = CosineNeighbours(n_neighbors=2).fit([[1, 0], [2, 1], [0, 1]], ["a", "a", "b"])
    >>> head.predict_proba([[3, 0.1]]).tolist()  # (2 + 1) / (2 + 2), (0 + 1) / (2 + 2)
    [[0.75, 0.25]]
    """

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, X: Any, y: Any) -> CosineNeighbours:
        """Keep the directions of rows.

        Parameters
        ----------
        X : float, shape (n, n_columns)
        y : shape (n,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            `n_neighbors` is no whole number from 1 to n.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        refusal = misfit(self.n_neighbors, len(X))
        if refusal:
            raise ValueError(refusal)
        self.classes_, self.member_ = np.unique(y, return_inverse=True)
        self.directions_ = directions(X)
        return self

    def predict_log_proba(self, X: Any) -> Matrix:
        """The score of each class.

        Parameters
        ----------
        X : float, shape (n, n_columns)

        Returns
        -------
        float64, shape (n, n_classes)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        counts = votes(X, self.directions_, self.member_, [self.n_neighbors])
        return scores(counts[0], self.n_neighbors)

    def predict_proba(self, X: Any) -> Matrix:
        """The share of each class among the votes and one more a class."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of most votes, the first of those that tie."""
        best = np.argmax(self.predict_log_proba(X), axis=1)
        return np.asarray(self.classes_[best])


def misfit(n_neighbors: Any, n_rows: int) -> str:
    """What is wrong with a number of neighbours among so many rows; empty where nothing is.

    Examples
    --------
    >>> misfit(5, 100), misfit(5, 3)
    ('', 'n_neighbors: 5, with n_samples = 3 to fit on')
    """
    whole = isinstance(n_neighbors, int | np.integer) and not isinstance(n_neighbors, bool)
    if not whole or n_neighbors < 1:
        return f"The 'n_neighbors' parameter is {n_neighbors!r}, expected a whole number from 1"
    if n_neighbors > n_rows:
        return f"n_neighbors: {n_neighbors}, with n_samples = {n_rows} to fit on"
    return ""


def directions(rows: Matrix) -> Matrix:
    """Rows divided by their length; rows of zeros stay.

    Parameters
    ----------
    rows : float64, shape (n, n_columns)

    Returns
    -------
    float64, shape (n, n_columns)
    """
    largest = np.abs(rows).max(axis=1, keepdims=True)  # no square overflows, none vanishes
    rows = rows / np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def scores(counts: NDArray[np.int64], n_neighbors: int) -> Matrix:
    """log((votes + 1) / (k + n_classes)).

    Parameters
    ----------
    counts : int64, shape (n, n_classes)
        Votes; they add up to `n_neighbors` in each row.

    Examples
    --------
    >>> np.exp(scores(np.array([[3, 0]]), 3)).tolist()
    [[0.8, 0.2]]
    """
    return np.asarray(np.log((counts + 1) / (n_neighbors + counts.shape[1])))


def votes(
    rows: Matrix, known: Matrix, member: NDArray[np.int64], ks: Sequence[int]
) -> NDArray[np.int64]:
    """How many of the k nearest rows are of each class, for every k.

    Parameters
    ----------
    rows : float64, shape (n, n_columns)
        Of any length.
    known : float64, shape (n_known, n_columns)
        `directions` of the training rows.
    member : int64, shape (n_known,)
        The class of each, 0 ..; every class occurs.
    ks : sequence of int
        Each from 1 to n_known.

    Returns
    -------
    int64, shape (len(ks), n, n_classes)
    """
    n_classes = int(member.max()) + 1
    result = np.zeros((len(ks), len(rows), n_classes), dtype=np.int64)
    size = max(BLOCK // len(known), 1)
    for start in range(0, len(rows), size):
        distances = 1 - directions(rows[start : start + size]) @ known.T
        for i, (row, near) in enumerate(nearest(distances, ks)):
            place = row * n_classes + member[near]
            counted = np.bincount(place, minlength=len(distances) * n_classes)
            result[i, start : start + size] = counted.reshape(len(distances), n_classes)
    return result


def nearest(
    distances: Matrix, ks: Sequence[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The k columns of the smallest entries of each row, for every k.

    Parameters
    ----------
    distances : float64, shape (n, n_known)
    ks : sequence of int

    Yields
    ------
    row, column : int64, shape (n * k,)
        In the order of the rows, then of the columns.

    Examples
    --------
    The second and the third tie for the second place.

    >>> next(nearest(np.array([[0.3, 0.2, 0.2, 0.1]]), [2]))[1].tolist()
    [1, 3]
    """
    places = sorted({k - 1 for k in ks})
    last = dict(zip(places, np.partition(distances, places, axis=1)[:, places].T, strict=True))
    row, column = np.nonzero(distances <= last[places[-1]][:, None] + TIE)
    away = distances[row, column]
    starts = np.searchsorted(row, np.arange(len(distances)))
    for k in ks:
        excess = away - last[k - 1][row]
        inside, tied = excess < -TIE, np.abs(excess) <= TIE
        left = k - np.bincount(row[inside], minlength=len(distances))
        turn = np.cumsum(tied)  # of a row: less what came before it
        before = turn[starts] - tied[starts]
        taken = inside | (tied & (turn - before[row] <= left[row]))
        yield row[taken], column[taken]
