"""What combinations of class scores say of every row: confusion matrices of many subsets at once.

Conventions
-----------
- What is said is the label of the highest combined score, as `numpy.nanargmax` of what
  `fusion.methods` gives. Sums over members are made in another order than there; where the two
  highest are so near that rounding could tell, the row is combined again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluate.metrics.calibration import shares
from fusion.subsets.parts import Floats, Ints

_NEAR = 2.0**-36
"""Of the largest value of a row, far more than rounding moves sums of 62 members by."""
_BYTES = 1 << 26
"""Of the sums that are made at a stroke."""


class Confusions:
    """Confusion matrices of subsets, exactly.

    Parameters
    ----------
    truth : int64, shape (n,)
        Positions in the label list.
    scores : float64, shape (n_members, n, n_labels)
        NaN where the fold of a row lacked a class, in which members agree.
    method : str
        Of `features.recipe.known.fusion_methods.SUBSET_METHODS`.
    combined : callable
        What combines a subset.
    """

    def __init__(
        self,
        truth: Ints,
        scores: Floats,
        method: str,
        combined: Callable[[Sequence[int]], Floats],
    ) -> None:
        self.truth, self.combined = truth, combined
        self.n_labels = scores.shape[2]
        values = np.stack([shares(member) for member in scores]) if method == "mean" else scores
        self._absent = np.isnan(scores[0])
        self._values = np.where(self._absent, 0.0, values)
        self._size = np.abs(self._values).max(axis=(0, 2))
        self._votes: Floats | None = None
        if method == "vote":
            said = np.nanargmax(scores, axis=2)
            self._votes = (said[:, :, None] == np.arange(self.n_labels)).astype(np.float64)

    def of(self, subsets: Ints) -> Ints:
        """Confusion matrices of subsets of one size: (q, k) -> (q, n_labels, n_labels).

        Parameters
        ----------
        subsets : int64, shape (q, k)
            Members of q subsets.

        Returns
        -------
        int64, shape (q, n_labels, n_labels)
            Rows are the truth, columns what is said.
        """
        n = len(self.truth)
        result = np.empty((len(subsets), self.n_labels, self.n_labels), np.int64)
        step = max(1, _BYTES // (8 * n * self.n_labels))
        for start in range(0, len(subsets), step):
            some = subsets[start : start + step]
            said = self._said(some)
            cells = self.truth * self.n_labels + said
            cells += np.arange(len(some))[:, None] * self.n_labels**2
            counts = np.bincount(cells.ravel(), minlength=len(some) * self.n_labels**2)
            result[start : start + step] = counts.reshape(-1, self.n_labels, self.n_labels)
        return result

    def _said(self, subsets: Ints) -> NDArray[np.int64]:
        """Positions of the labels that are said: int64, shape (q, n)."""
        sums = self._summed(self._values, subsets)
        near = _NEAR * subsets.shape[1] * self._size
        if self._votes is not None:
            # A vote outweighs any sum of scores, which lie within a half of each other.
            largest = np.where(self._size > 0, self._size, 1) * 4 * subsets.shape[1]
            sums = self._summed(self._votes, subsets) + sums / largest[:, None]
            near = np.full_like(self._size, _NEAR * subsets.shape[1])
        sums[:, self._absent] = -np.inf
        said = sums.argmax(axis=2)
        highest = np.partition(sums, -2, axis=2)[:, :, -2:]
        open_ = highest[:, :, 1] - highest[:, :, 0] <= near
        for i in np.flatnonzero(open_.any(axis=1)):
            rows = open_[i]
            said[i, rows] = np.nanargmax(self.combined(subsets[i])[rows], axis=1)
        return np.asarray(said, dtype=np.int64)

    @staticmethod
    def _summed(values: Floats, subsets: Ints) -> Floats:
        """Sums over the members of each subset: (q, k) -> (q, n, n_labels)."""
        total = values[subsets[:, 0]]
        for members in subsets.T[1:]:
            total += values[members]
        return np.asarray(total)


def macro_f1_bounds(right: Ints, support: Ints, n_labels: int) -> Floats:
    """The highest macro F1 that there can be with so many right rows of each class.

    Wrong rows lower the F1 of the classes that they are taken for. The sum of F1 is convex in their
    numbers, so that it is highest where all are taken for one class: one that occurs, or one that
    does not, which then counts as 0.

    Parameters
    ----------
    right : int64, shape (n_present, ...)
        Right rows of each class that occurs, or more.
    support : int64, shape (n_present,)
        Rows of it.
    n_labels : int
        Classes of the label list.

    Returns
    -------
    float64, shape (...)

    Examples
    --------
    All are right; or all but one row of the first class (taken for the second, it is 0.733).

    >>> macro_f1_bounds(np.array([[2, 1], [2, 2]]), np.array([2, 2]), 2).round(3).tolist()
    [1.0, 0.75]
    """
    n = support.reshape(-1, *[1] * (right.ndim - 1))
    wrong = support.sum() - right.sum(axis=0)
    alone = 2 * right / (n + right)
    total = alone.sum(axis=0)
    least_lost = (alone - 2 * right / (n + right + wrong)).min(axis=0)
    bounds = (total - least_lost) / len(support)
    if n_labels > len(support):
        bounds = np.maximum(bounds, total / (len(support) + 1))
    return np.asarray(bounds)
