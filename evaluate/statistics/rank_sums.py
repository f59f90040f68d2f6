"""Spearman's correlation under many sets of row weights, compiled.

A weight says how often a row stands in a resample. Ranks of a resample follow from the order of the
whole set: nothing is sorted again. Compiling takes a second or two in each process; numba's cache
on disk would spare it, but it is pickled, and nothing here unpickles files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Order:
    """The rows of a variable from its least to its greatest value, in groups of equal values.

    Attributes
    ----------
    rows : int32, shape (n,)
    starts : int32, shape (n_groups + 1,)
        Where each group begins in `rows`; the last entry is n.
    """

    def __init__(self, values: Floats) -> None:
        unique, inverse = np.unique(values, return_inverse=True)
        self.rows = np.argsort(inverse, kind="stable").astype(np.int32)
        starts = np.searchsorted(inverse[self.rows], np.arange(len(unique) + 1))
        self.starts = starts.astype(np.int32)


def spearman_weighted(
    weights: NDArray[np.int32], x: Order, ys: Sequence[Order]
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Spearman's correlation of a variable with others under each set of weights.

    Other threads run meanwhile.

    Parameters
    ----------
    weights : int32, shape (n_sets, n)
    x : Order
    ys : sequence of Order
        Of the same n rows.

    Returns
    -------
    correlation : float64, shape (n_ys, n_sets)
        NaN where a side is constant.
    constant_x : bool, shape (n_sets,)
        Whether x is constant among the rows with a weight.
    constant_y : bool, shape (n_ys, n_sets)

    Examples
    --------
    The second set takes the rows 0, 1 and twice 3.

    >>> x, y = Order(np.array([1.0, 2.0, 3.0, 4.0])), Order(np.array([10.0, 20.0, 40.0, 30.0]))
    >>> weights = np.array([[1, 1, 1, 1], [1, 1, 0, 2]], dtype=np.int32)
    >>> spearman_weighted(weights, x, [y])[0].round(12).tolist()
    [[0.8, 1.0]]
    """
    ends = np.cumsum([0, *(len(y.starts) for y in ys)])
    found: tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]] = _spearman(
        weights, x.rows, x.starts,
        np.stack([y.rows for y in ys]), np.concatenate([y.starts for y in ys]), ends,
    )  # fmt: skip
    return found


@numba.njit(nogil=True)
def _share_out(w: Any, total: float, rows: Any, starts: Any, share: Any) -> Any:
    """Put each row's weight times twice its centred rank in x into `share`.

    What is given back are the cubes of the weights of ties.
    """
    below, cubes = 0.0, 0.0
    for g in range(len(starts) - 1):
        own = 0.0
        for i in range(starts[g], starts[g + 1]):
            own += w[rows[i]]
        rank = 2 * below + own - total
        for i in range(starts[g], starts[g + 1]):
            share[rows[i]] = rank * w[rows[i]]
        below += own
        cubes += own * own * own
    return cubes


@numba.njit(nogil=True)
def _product(w: Any, share: Any, rows: Any, starts: Any) -> Any:
    """The shares times twice the ranks of y, and the cubes of the weights of its ties.

    The shares sum to 0, so that the ranks need no centring.
    """
    below, cubes, product = 0.0, 0.0, 0.0
    for g in range(len(starts) - 1):
        own, shares = 0.0, 0.0
        for i in range(starts[g], starts[g + 1]):
            own += w[rows[i]]
            shares += share[rows[i]]
        product += shares * (2 * below + own)
        below += own
        cubes += own * own * own
    return product, cubes


@numba.njit(nogil=True)
def _product_untied(w: Any, share: Any, rows: Any) -> Any:
    """As `_product` where every row has a value of its own."""
    below, product = 0.0, 0.0
    for i in range(len(rows)):
        own = w[rows[i]]
        product += share[rows[i]] * (2 * below + own)
        below += own
    return product


@numba.njit(nogil=True)
def _spearman(
    weights: Any, x_rows: Any, x_starts: Any, y_rows: Any, y_starts: Any, y_ends: Any
) -> Any:
    # Twice the ranks are whole numbers, and so are all sums: they are exact up to 2^53.
    (n_sets, n), n_ys = weights.shape, len(y_rows)
    correlation = np.full((n_ys, n_sets), np.nan)
    constant_x = np.zeros(n_sets, dtype=np.bool_)
    constant_y = np.zeros((n_ys, n_sets), dtype=np.bool_)
    share = np.empty(n)
    for b in range(n_sets):
        w = weights[b]
        total, cubes = 0.0, 0.0
        for i in range(n):
            own = float(w[i])
            total += own
            cubes += own * own * own
        whole = total * total * total
        cubes_x = _share_out(w, total, x_rows, x_starts, share)
        constant_x[b] = cubes_x == whole
        for k in range(n_ys):
            rows, starts = y_rows[k], y_starts[y_ends[k] : y_ends[k + 1]]
            if len(starts) == n + 1:  # no ties but those of a row with itself: half the time
                product, cubes_y = _product_untied(w, share, rows), cubes
            else:
                product, cubes_y = _product(w, share, rows, starts)
            constant_y[k, b] = cubes_y == whole
            if not (constant_x[b] or constant_y[k, b]):
                # Centred ranks have the sum of squares (total^3 - cubes) / 12 (Kendall 1948).
                squares = np.sqrt(whole - cubes_x) * np.sqrt(whole - cubes_y)
                correlation[k, b] = 3 * product / squares
    return correlation, constant_x, constant_y
