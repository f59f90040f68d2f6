"""Linear discriminants at every shrinkage from one covariance of a training side.

Conventions
-----------
- The covariance is that inside the classes, each class weighted by its share of the rows, as
  scikit-learn's `LinearDiscriminantAnalysis` has it with `solver="lsqr"` or `"eigen"`. Shrunk by a,
  it is (1 - a) S + a b I with b the mean of its diagonal: one eigendecomposition of S serves all a.
- `"auto"` shrinks every class by Ledoit and Wolf (2004, "A well-conditioned estimator for
  large-dimensional covariance matrices") in columns of unit deviation, as scikit-learn does: a
  matrix of its own, I and a diagonal added to rows with weights.
- Fewer rows than columns: S is made in the basis of the rows, where it is as large as they are
  many. Coefficients have no part outside of it.
- Coefficients and intercepts are scikit-learn's to rounding; what the rounding may move by more
  than about 1e-6 is left to scikit-learn.
- Memory: the rows in float64 three times, and matrices of the smaller side squared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

Matrix = NDArray[np.float64]

HEADS = (LinearDiscriminantAnalysis,)
WORST_CONDITION = 1e10
"""Ratio of the largest to the smallest eigenvalue from which on scikit-learn fits."""
LOST = "covariances that the shrinkage leaves singular; fitted by scikit-learn"


def obstacle(estimator: LinearDiscriminantAnalysis, n_rows: int = 0) -> str:
    """Why a head is left to scikit-learn; empty where it shares a covariance.

    Parameters
    ----------
    estimator : LinearDiscriminantAnalysis
    n_rows : int
        Any number goes.

    Returns
    -------
    str

    Examples
    --------
    >>> obstacle(LinearDiscriminantAnalysis(solver="lsqr"))
    'no shrinkage'
    """
    if estimator.solver not in ("lsqr", "eigen"):
        return f"solver {estimator.solver}"
    if estimator.priors is not None or estimator.covariance_estimator is not None:
        return "priors or covariance_estimator"
    if estimator.shrinkage is None or estimator.shrinkage == 0:
        return "no shrinkage"
    return ""


@dataclass(frozen=True)
class Discriminant:
    """A score a class: x @ coef.T + intercept.

    Attributes
    ----------
    coef : float64, shape (n_classes, n_columns)
    intercept : float64, shape (n_classes,)
    """

    coef: Matrix
    intercept: Matrix

    def scores(self, rows: Matrix) -> Matrix:
        """Of rows of shape (n, n_columns); shape (n, n_classes)."""
        return np.asarray(rows @ self.coef.T + self.intercept)


class Side:
    """A training side: its rows, and what all shrinkages share.

    Parameters
    ----------
    rows : float64, shape (n, n_columns)
    truth : str, shape (n,)

    Attributes
    ----------
    classes : str, shape (n_classes,), ascending
    priors : float64, shape (n_classes,)
    means : float64, shape (n_classes, n_columns)
    """

    def __init__(self, rows: Matrix, truth: NDArray[Any]) -> None:
        self.rows = rows
        self.classes, self._member = np.unique(truth, return_inverse=True)
        self._counts = np.bincount(self._member)
        self.priors = self._counts / len(rows)
        self.means = self._means(rows)
        self._centred = rows - self.means[self._member]

    def _means(self, rows: Matrix) -> Matrix:
        """Of the rows of each class."""
        return np.stack([rows[self._member == i].mean(axis=0) for i in range(len(self.classes))])

    def discriminants(
        self, shrinkages: Sequence[float | str]
    ) -> Iterator[tuple[int, Discriminant | None]]:
        """The discriminant of each shrinkage; None where scikit-learn's pseudo-inverse has to do.

        Parameters
        ----------
        shrinkages : sequence of float or "auto"
            Above 0, at most 1.

        Yields
        ------
        position : int
            In `shrinkages`.
        discriminant : Discriminant or None
        """
        for i, shrinkage in enumerate(shrinkages):
            coef = self._automatic if shrinkage == "auto" else self._given(float(shrinkage))
            if coef is None:
                yield i, None
                continue
            intercept = np.log(self.priors) - (self.means * coef).sum(axis=1) / 2
            yield i, Discriminant(coef, intercept)

    @cached_property
    def _spectrum(self) -> tuple[Matrix, Matrix, Matrix]:
        """Eigenvalues of the covariance, the means in its eigenvectors, and these by the columns.

        Returns
        -------
        values : float64, shape (rank,)
        means : float64, shape (n_classes, rank)
        back : float64, shape (rank, n_columns)
        """
        (n, n_columns), centred, means = self.rows.shape, self._centred, self.means
        basis = None
        if n < n_columns:
            basis, upper = np.linalg.qr(self.rows.T)
            inside = np.ascontiguousarray(upper.T)  # rows = inside @ basis.T
            means = self._means(inside)
            centred = inside - means[self._member]
        values, vectors = np.linalg.eigh(centred.T @ centred / n)
        back = vectors.T if basis is None else vectors.T @ basis.T
        return np.maximum(values, 0), means @ vectors, back

    def _given(self, shrinkage: float) -> Matrix | None:
        """Coefficients at a shrinkage that is given."""
        values, means, back = self._spectrum
        size = np.square(self._centred).sum() / self.rows.size
        shrunk = (1 - shrinkage) * values + shrinkage * size
        if shrunk.max() >= WORST_CONDITION * shrunk.min():
            return None
        return np.asarray((means / shrunk) @ back)

    @cached_property
    def _automatic(self) -> Matrix | None:
        """Coefficients at the shrinkage that Ledoit and Wolf's formula gives each class.

        With W the weights of the centred rows C and d the diagonal that shrinking adds, the
        covariance is d + C'WC. In columns divided by the root of d it is I + Z'Z: a matrix of all
        columns, or by Woodbury's identity I + ZZ', one of all rows.
        """
        (n, n_columns), weight, diagonal = self.rows.shape, np.empty(len(self.classes)), 0.0
        for i, (prior, count) in enumerate(zip(self.priors, self._counts, strict=True)):
            mine = self.rows[self._member == i]
            scale = StandardScaler().fit(mine).scale_
            shrinkage, size = ledoit_wolf((mine - mine.mean(axis=0)) / scale)
            weight[i] = prior * (1 - shrinkage) / count
            diagonal = diagonal + prior * shrinkage * size * scale**2
        if np.min(diagonal) <= 0:
            return None
        root = np.sqrt(diagonal)
        Z = self._centred * np.sqrt(weight)[self._member, None] / root
        if 1 + np.square(Z).sum() >= WORST_CONDITION:  # no eigenvalue is larger
            return None
        means = self.means / root
        if n < n_columns:
            inner = np.linalg.solve(Z @ Z.T + np.eye(n), Z @ means.T)
            return np.asarray((means - inner.T @ Z) / root)
        return np.asarray(np.linalg.solve(Z.T @ Z + np.eye(n_columns), means.T).T / root)


def ledoit_wolf(centred: Matrix) -> tuple[float, float]:
    """The shrinkage of a covariance by Ledoit and Wolf, and the mean of its diagonal.

    As `sklearn.covariance.ledoit_wolf`, which makes two matrices of all columns for it; the sums of
    their squares need none: one is a sum over rows, the other that of the smaller Gram matrix.

    Parameters
    ----------
    centred : float64, shape (n, n_columns)
        Rows whose mean is 0.

    Returns
    -------
    shrinkage, size : float
        The shrinkage is 0 of one column, and where all rows are equal.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(50, 2)) * [1.0, 2.0]
    >>> shrinkage, size = ledoit_wolf(rows - rows.mean(axis=0))
    >>> bool(0 < shrinkage < 0.2), bool(2 < size < 3)
    (True, True)
    """
    n, n_columns = centred.shape
    squares = np.square(centred)
    size = float(squares.sum()) / (n * n_columns)
    if n_columns == 1:
        return 0.0, size
    gram = centred @ centred.T if n < n_columns else centred.T @ centred
    second = float(np.square(gram).sum()) / n**2
    fourth = float(np.square(squares.sum(axis=1)).sum()) / n
    spread = (second - n_columns * size**2) / n_columns
    noise = min((fourth - second) / (n_columns * n), spread)
    return (noise / spread if noise else 0.0), size


def fitted(
    head: LinearDiscriminantAnalysis, side: Side, found: Discriminant
) -> LinearDiscriminantAnalysis:
    """scikit-learn's estimator with the solution set, as if it had been fitted.

    It has no `covariance_`, which predictions do not need and which is by far the largest part.

    Parameters
    ----------
    head : LinearDiscriminantAnalysis
        Its parameters count.
    side : Side
        The training rows.
    found : Discriminant
        A row a class.

    Returns
    -------
    LinearDiscriminantAnalysis
        Of two classes with one row, as scikit-learn has it.
    """
    result = clone(head)
    result.classes_, result.priors_, result.means_ = side.classes, side.priors, side.means
    result.coef_, result.intercept_ = found.coef, found.intercept
    if len(side.classes) == 2:
        result.coef_ = found.coef[1:] - found.coef[:1]
        result.intercept_ = found.intercept[1:] - found.intercept[:1]
    result.n_features_in_ = side.rows.shape[1]
    result._max_components = min(len(side.classes) - 1, side.rows.shape[1])
    result._n_features_out = result._max_components
    return result
