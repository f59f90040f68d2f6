"""Spearman's rho bounded from above without a sort, compiled.

Rows are put into bins by their prediction; one pass adds up how many are in each and the ranks of
their truths. With n rows, let r be the centred rank of a row's prediction, c that of its truth, m
the mean of r in its bin and e = r - m. Bins are in the order of the predictions and have no value
in common, so that m is known and the e of each bin add up to 0. Then

    rho = (N + sum of c e) / (C sqrt(M + w^2)),

where N is the sum of c m, and C^2, M, w^2 are the sums of the squares of c, m, e. Of e it is known
that w^2 <= V, the sum of (k^3 - k) / 12 over bins of k rows (less where predictions are equal), and
that the sum of c e is at most C w (Cauchy-Schwarz):

    rho <= (N / C + w) / sqrt(M + w^2).

The right side rises with w as long as w N / C < M. From there it falls towards 1 and stays above.
So its value at w^2 = V is a bound, or it is above 1. There M + V is (n^3 - n) / 12 = S^2, and

    rho <= min(N / (C S) + sqrt(V) / S, 1).

Nothing is claimed (the bound is 1) where a row is so near to a border that rounding may have put it
into the wrong bin. Ranks here are doubled, to be whole numbers: all sums are exact.

Compiling takes a second or two in each process; numba's cache on disk would spare it, but it is
pickled, and nothing here unpickles files.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BINS = 4096
"""At most so many: their sums just fill the fastest cache."""
_OUTSIDE = 0.002
"""Of the rows, about so many are below all inner bins and so many above: outliers cost no bins."""
_WIDTH, _MOST_SLACK = 1 << 10, 1 << 50
"""Least width of a bin in slacks, so that few rows are near to a border; more slack has no bins."""
_SAMPLED = 1024
"""Rows that the inner bins are chosen by."""


class _Grid(NamedTuple):
    """Bins of sums: s is in (s - low) >> shift, from 0 to n_bins - 1.

    They are 2^shift wide, but for the first, which takes all that is below it, and the last, which
    takes all that is above.
    """

    low: int
    shift: int
    n_bins: int


def rho_bounds(units: Ints, heads: Ints, tails: Ints, ranks: Ints, slack: int) -> Floats:
    """Bounds from above of Spearman's rho, for the sum of each head's members and each tail.

    Other threads run meanwhile.

    Parameters
    ----------
    units : int64, shape (n_members, n)
        Predictions of members; n is at most 2^20.
    heads : int64, shape (n_heads, head_size)
        Members.
    tails : int64, shape (n_tails, n)
        Sums of predictions; with a head's they lie within 0 and 2^62.
    ranks : int64, shape (n,)
        Twice the average ranks of the truth.
    slack : int
        The order of two sums that differ by no more is unknown: they may be equal, too.

    Returns
    -------
    float64, shape (n_heads, n_tails)
        NaN where the truth is constant.

    Examples
    --------
    The second tail changes the order of the first two rows.

    >>> units, tails = np.array([[0, 200, 400]]) << 20, np.array([[0, 0, 0], [300, 0, 0]]) << 20
    >>> bounds = rho_bounds(units, np.array([[0]]), tails, ranks=np.array([2, 4, 6]), slack=1)
    >>> bounds.round(6).tolist()
    [[1.0, 0.5]]
    """
    n = len(ranks)
    centred = ranks - (n + 1)
    squares = int(centred @ centred)
    if squares == 0:
        return np.full((len(heads), len(tails)), np.nan)
    if slack >= _MOST_SLACK:
        return np.ones((len(heads), len(tails)))
    grid = _grid(units, heads, tails, slack)
    # A bin's sum of ranks and, above it, the number of its rows are added at one stroke.
    bits = int(n * (n + 1)).bit_length()
    ones = ranks + (1 << bits)
    found: Floats = _bounds(units, heads, tails, ones, bits, grid, slack, math.sqrt(squares))
    return found


def _grid(units: Ints, heads: Ints, tails: Ints, slack: int) -> _Grid:
    """Bins for the sums of heads and tails.

    Each of some rows is looked at in another one of the sums.
    """
    n = units.shape[1]
    rows = np.arange(0, n, -(-n // _SAMPLED))
    sums = units[heads[rows % len(heads)], rows[:, None]].sum(axis=1)
    sums = np.sort(sums + tails[rows % len(tails), rows])
    outside = int(_OUTSIDE * len(sums))
    low, high = int(sums[outside]), int(sums[-1 - outside])
    shift = max((high - low) // (_BINS - 1), _WIDTH * slack).bit_length()
    # Many rows may share one of the values that are seen here: borders lie between them.
    low -= (1 << shift) // 3
    return _Grid(low, shift, (high - low >> shift) + 1)


@numba.njit(nogil=True)
def _bounds(
    units: Ints,
    heads: Ints,
    tails: Ints,
    ones: Ints,
    bits: int,
    grid: _Grid,
    slack: int,
    size: float,
) -> Floats:
    """The bound of every head and tail: `_bound` of the bins that the rows of their sum fall into.

    Parameters
    ----------
    units : int64, shape (n_members, n)
        Predictions of members.
    heads : int64, shape (n_heads, head_size)
        Members; the sum of a head and a tail is units[members].sum(axis=0) + tail, below 2^62.
    tails : int64, shape (n_tails, n)
    ones : int64, shape (n,)
        What a row adds to its bin: 2^bits, which counts it, + twice the rank of its truth.
    bits : int
        Of n (n + 1), the largest sum of doubled ranks: it and the count never meet.
    grid : _Grid
        The bins of the sums.
    slack : int
        Where a row lies that near above a border of bins, the bound is 1: it may be in the bin
        below.
    size : float
        The root of the sum of squares of the doubled, centred ranks of the truth: 2 C.

    Returns
    -------
    float64, shape (n_heads, n_tails)
    """
    n = len(ones)
    bounds = np.empty((len(heads), len(tails)))
    numbers, bins = np.empty(n, np.uint16), np.empty(grid.n_bins, np.int64)
    above = np.full((len(heads), n), -grid.low)
    for h in range(len(heads)):
        for member in heads[h]:
            above[h] += units[member]
    for t in range(len(tails)):
        for h in range(len(heads)):
            near = _place(above[h], tails[t], grid, slack, numbers)
            bins[:] = 0
            for i in range(n):
                bins[numbers[i]] += ones[i]
            bounds[h, t] = 1.0 if near else _bound(bins, bits, n, size)
    return bounds


@numba.njit(nogil=True)
def _place(head: Ints, tail: Ints, grid: _Grid, slack: int, numbers: NDArray[np.uint16]) -> int:
    """Fill in the numbers of bins; return how many rows are near to the border below them.

    Parameters
    ----------
    head : int64, shape (n,)
        Sums of its members, less `grid.low`.
    tail : int64, shape (n,)
    grid : _Grid
    slack : int
        Rows that are no more above a border are near to it.
    numbers : uint16, shape (n,)
        Is written to: the bin of each row.
    """
    near = 0
    within = (1 << grid.shift) - 1
    for i in range(len(numbers)):
        above = head[i] + tail[i]
        near += (above & within) <= slack
        numbers[i] = min(max(above >> grid.shift, 0), grid.n_bins - 1)
    return near


@numba.njit(nogil=True)
def _bound(bins: Ints, bits: int, n: int, size: float) -> float:
    """min(N / (C S) + sqrt(V) / S, 1), as the top of this module has it.

    A bin of k rows behind b others has the doubled ranks 2 (b + 1), ..., 2 (b + k): their mean is
    2 b + k + 1. Its t is the sum of doubled ranks of truths. So the sum of t (2 b + k) over bins,
    `product`, is 4 N + n^2 (n + 1): the sum of all t is n (n + 1), and their centre is n + 1.

    Parameters
    ----------
    bins : int64, shape (n_bins,)
        k 2^bits + t of each.
    bits, n, size
        As of `_bounds`.
    """
    below, product, cubes = 0, 0, 0
    lowest = (1 << bits) - 1
    for content in bins:
        count = content >> bits
        product += (content & lowest) * (2 * below + count)
        cubes += count * count * count
        below += count
    # Four times N, and 12 times S^2 and V.
    shared, most, within = product - n * n * (n + 1), n * n * n - n, cubes - n
    return min(shared / (size * math.sqrt(most / 3)) + math.sqrt(within / most), 1.0)
