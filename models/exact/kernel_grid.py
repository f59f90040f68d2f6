"""SVC and SVR over one kernel matrix a fold and scaler, instead of one a cell inside libsvm.

Conventions
-----------
- libsvm computes the kernel of a cell entry by entry, again for every cell, target and test part.
  Here BLAS computes the inner products once; rbf follows from them by the squared distances, and
  every cell is `kernel="precomputed"`. The optimisation is libsvm's own, on the same numbers but
  for the rounding of sums: predictions are the pipeline's, decision values agree far within
  libsvm's own tolerance (1e-14 on EmoDB with 6,373 columns).
- What stands before the head is fitted on the fold's own training rows, gamma is scikit-learn's on
  these.
- What is not exact this way has an `obstacle` and is left to the pipeline.
- Memory of a thread: the rows in float64 and scaled, then two matrices of n_train x (n_train +
  n_test) float64: products or distances, and one rbf kernel. `MOST_ROWS` bounds a square one.
- Must not import `models.search`, which calls this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, SVR

MOST_ROWS = 8192
"""Rows of a problem up to which kernel matrices are built: 0.5 GiB each."""
LOST_DIGITS = 1e-11
"""Relative rounding of an rbf kernel above which scikit-learn fits. libsvm rounds kernels to
float32 (6e-8); where distances far from the origin lose more digits, its sums lose other ones."""
LOST = "rows too far from the origin for shared rbf kernels at this gamma; fitted by scikit-learn"
HEADS = (SVC, SVR)

Matrix = NDArray[np.float64]


def obstacle(estimator: Any, n_rows: int) -> str:
    """Why a head of a problem of `n_rows` is left to scikit-learn; empty where kernels are shared.

    Parameters
    ----------
    estimator : SVC or SVR
    n_rows : int
        Of the problem.

    Returns
    -------
    str

    Examples
    --------
    >>> obstacle(SVC(kernel="poly"), 100)
    'kernel poly'
    """
    if n_rows > MOST_ROWS:
        return f"{n_rows} rows, at most {MOST_ROWS}"
    if estimator.kernel not in ("linear", "rbf"):
        return f"kernel {estimator.kernel}"
    if getattr(estimator, "probability", False) not in (False, "deprecated"):
        return "probability"  # its folds are drawn inside libsvm
    if estimator.max_iter != -1:
        return "max_iter"  # where libsvm stops halfway depends on rounding
    return ""


def kernels(
    steps: Pipeline, heads: Sequence[Any], train: Matrix, tests: Sequence[Matrix]
) -> Iterator[tuple[int, list[Matrix] | None]]:
    """Kernel matrices of heads that share rows and what stands before them.

    Parameters
    ----------
    steps : Pipeline
        All but the head. Unfitted; fitted here on `train`.
    heads : sequence of SVC or SVR
        Without an `obstacle`.
    train : float64, shape (n_train, n_columns)
    tests : sequence of float64, shape (n_test, n_columns)

    Yields
    ------
    position : int
        In `heads`; those of one kernel follow each other, linear ones first.
    matrices : list of float64, shape (n_train or n_test, n_train), or None
        Of `train` and of each of `tests`; overwritten by the next kernel. None where the distances
        lose too many digits.
    """
    rows, n_columns = [train, *tests], train.shape[1]
    del train, tests
    fitted = clone(steps).fit(rows[0])
    # An empty part has no row to transform, and scikit-learn refuses it.
    rows = [fitted.transform(part) if len(part) else part for part in rows]
    products = [part @ rows[0].T for part in rows]
    squares = [np.einsum("ij,ij->i", part, part) for part in rows]
    variance = rows[0].var()
    del rows
    for i, head in enumerate(heads):
        if head.kernel == "linear":
            yield i, products

    by_gamma: dict[float, list[int]] = {}
    for i, head in enumerate(heads):
        if head.kernel == "rbf":
            by_gamma.setdefault(_gamma(head.gamma, n_columns, variance), []).append(i)
    if not by_gamma:
        return
    distances = products
    for matrix, square in zip(distances, squares, strict=True):
        matrix *= -2
        matrix += square[:, None]
        matrix += squares[0]
        np.maximum(matrix, 0, out=matrix)
    np.fill_diagonal(distances[0], 0)
    rounding = np.finfo(np.float64).eps * squares[0].max()
    buffers = [np.empty_like(matrix) for matrix in distances]
    for gamma, members in by_gamma.items():
        for matrix, buffer in zip(distances, buffers, strict=True):
            np.exp(np.multiply(matrix, -gamma, out=buffer), out=buffer)
        for i in members:
            yield i, buffers if gamma * rounding <= LOST_DIGITS else None


def _gamma(gamma: float | str, n_columns: int, variance: float) -> float:
    """A gamma in figures, as scikit-learn has it."""
    if gamma == "auto":
        return 1.0 / n_columns
    if gamma == "scale":
        return float(1.0 / (n_columns * variance)) if variance != 0 else 1.0
    return float(gamma)
