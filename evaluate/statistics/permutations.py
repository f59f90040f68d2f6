"""Paired comparisons of systems on the same rows: arrays in, floats out.

Conventions
-----------
- Systems are compared on the same rows, in one order. Matrices of pairs have shape (n_systems,
  n_systems); entry (i, j) speaks of system i less system j.
- A *unit* is a speaker with all rows, or a lone row whose speaker is unknown (`intervals.units`).
- Scores of a regression are means over the targets that have a truth.
- All p values are two-sided.
- An interval (`intervals.draw`, one draw for all systems) says how large a difference may be; a
  permutation test says whether two systems could be one and the same. Both take the heads as they
  are: neither knows what other training data would change.

Permutation test
----------------
The two systems' predictions are swapped for some units and not for others; under the hypothesis
that nothing tells the systems apart, every such choice is as likely as the one seen. While the
choices are few (up to half of 2^n_units are `n_swaps`) all are taken, and p is the share of those
whose difference is at least as large. Else `n_swaps` are drawn, and p = (b + 1) / (m + 1) with b
of m as large (Phipson and Smyth 2010).

What is swapped stays on a scale of its own system where the score takes none from it: for
Spearman's rho the ranks over all rows (they are not ranked again), for Pearson's r the predictions
less their mean in units of their deviation. Raw values of systems on different scales would test
the scales. For CCC, errors and classes it is the predictions themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evaluate.metrics.metrics import average_ranks, encode, scores_of
from evaluate.statistics.resampling import defined, units

Floats = NDArray[np.float64]

POWER = 0.8
"""Probability with which the minimum detectable difference is found (Cohen 1988)."""
_BLOCK = 256
"""Swaps at a time."""
_ROUNDING = 1e-12
"""Relative to the two scores: differences closer than this are equal."""


@dataclass(frozen=True)
class Swaps:
    """Choices of the units whose predictions are swapped.

    Attributes
    ----------
    unit : int64, shape (n_rows,)
        The unit of each row.
    n : int
        Choices.
    exact : bool
        They are all there are, but for their mirror images; else they were drawn.
    seed : int
    """

    unit: NDArray[np.int64]
    n: int
    exact: bool
    seed: int

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return int(self.unit.max()) + 1

    @property
    def smallest_p(self) -> float:
        """The least p value that there can be."""
        return 1 / (self.n if self.exact else self.n + 1)

    def blocks(self) -> Iterator[Floats]:
        """The choices, block by block.

        Yields
        ------
        float64, shape (up to 256, n_units)
            The next choices, 1 where swapped.
        """
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.n, _BLOCK):
            size = min(_BLOCK, self.n - start)
            if self.exact:
                # The last unit never is: swapping the others instead changes but the sign.
                numbers = np.arange(start, start + size)[:, None]
                yield (numbers >> np.arange(self.n_units) & 1).astype(np.float64)
            else:
                bits = rng.integers(0, 256, (size, -(-self.n_units // 8)), dtype=np.uint8)
                yield np.unpackbits(bits, axis=1, count=self.n_units).astype(np.float64)


def draw_swaps(groups: Sequence[str] | NDArray[np.object_], n_swaps: int, seed: int) -> Swaps:
    """Choose whose predictions are swapped: all choices while they are at most `n_swaps`.

    Parameters
    ----------
    groups : str, shape (n_rows,)
        `corpus/speaker` of each row, "" where unknown.
    n_swaps, seed : int

    Raises
    ------
    ValueError
        On empty input.

    Examples
    --------
    >>> swaps = draw_swaps(["a/1", "a/2", "a/1", "a/3"], n_swaps=1000, seed=0)
    >>> swaps.n, swaps.exact, next(swaps.blocks()).astype(int).tolist()
    (4, True, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    """
    unit = units(groups)
    if not len(unit):
        raise ValueError("groups: expected (n,) with n > 0")
    free = int(unit.max())
    exact = free < 63 and 2**free <= n_swaps
    return Swaps(unit, 2**free if exact else n_swaps, exact, seed)


def classification_p(
    truth: ArrayLike, predictions: Sequence[ArrayLike], labels: Sequence[str], swaps: Swaps
) -> dict[str, Floats]:
    """P values of the differences in UAR, WA and macro F1 of every two systems.

    Parameters
    ----------
    truth : str, shape (n,)
    predictions : str, shape (n_systems, n)
    labels : sequence of str
    swaps : Swaps

    Returns
    -------
    dict
        `{metric: float64, shape (n_systems, n_systems)}`, symmetric, 1 on the diagonal; NaN where
        a score is undefined.
    """
    k = len(labels)
    cells = swaps.unit * k * k + encode(truth, labels, "truth") * k
    size = swaps.n_units * k * k
    counts = [
        np.bincount(cells + encode(predicted, labels, "prediction"), minlength=size)
        for predicted in predictions
    ]
    sums = np.stack(counts).reshape(len(counts), swaps.n_units, k * k).astype(np.float64)

    def scores(flat: Floats) -> dict[str, Floats]:
        return scores_of(flat.reshape(*flat.shape[:-1], k, k))

    return _p_values(sums, scores, swaps)


def regression_p(truth: Floats, predictions: Floats, metric: str, swaps: Swaps) -> Floats:
    """P values of the differences in a regression metric of every two systems.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked; such a row is left out for that target.
    predictions : float64, shape (n_systems, n, n_targets)
    metric : str
        Of `metrics.REGRESSION`.
    swaps : Swaps

    Returns
    -------
    float64, shape (n_systems, n_systems)
        Symmetric, 1 on the diagonal; NaN where a score is undefined.
    """
    sums, counts, squares = [], [], []
    for t in np.flatnonzero(~np.isnan(truth).all(axis=0)):
        known = ~np.isnan(truth[:, t])
        columns, square = _columns(metric, truth[known, t], predictions[:, known, t])
        sums.append(_by_unit(columns, swaps.unit[known], swaps.n_units))
        counts.append(known.sum())
        squares.append(square)
    if not sums:
        return np.full((len(predictions),) * 2, np.nan)
    stacked = np.stack(sums, axis=2)  # (n_systems, n_units, n_targets, n_columns)
    shape = stacked.shape[2:]
    n, xx = np.array(counts, dtype=np.float64), np.array(squares)

    def scores(flat: Floats) -> dict[str, Floats]:
        return {metric: _score(metric, flat.reshape(*flat.shape[:-1], *shape), n, xx).mean(axis=-1)}

    return _p_values(stacked.reshape(*stacked.shape[:2], -1), scores, swaps)[metric]


def _by_unit(columns: Floats, unit: NDArray[np.int64], n_units: int) -> Floats:
    """Sums over the rows of each unit: (n_systems, n, n_columns) -> (.., n_units, n_columns)."""
    order = np.argsort(unit, kind="stable")
    present, starts = np.unique(unit[order], return_index=True)
    result = np.zeros((len(columns), n_units, columns.shape[2]))
    result[:, present] = np.add.reduceat(columns[:, order], starts, axis=1)
    return result


def _columns(metric: str, x: Floats, ys: Floats) -> tuple[Floats, float]:
    """What has to be summed over rows for a score.

    Returns
    -------
    columns : float64, shape (n_systems, n, n_columns)
    xx : float
        The truth's sum of squares.
    """
    if metric in ("mae", "mse"):
        apart = np.abs(x - ys)
        return (apart if metric == "mae" else apart**2)[:, :, None], 0.0
    if metric == "spearman":
        x, ys = average_ranks(x), np.stack([average_ranks(y) for y in ys])
    if metric == "pearson":
        x, ys = _standardised(x), np.stack([_standardised(y) for y in ys])
    offset = x.mean()
    x, ys = np.where(np.ptp(x) > 0, x - offset, 0), ys - offset
    return np.stack([ys, ys * ys, x * ys], axis=2), float(x @ x)


def _standardised(values: Floats) -> Floats:
    """Values less their mean in units of their deviation; 0 where all are equal."""
    if np.ptp(values) == 0:
        return np.zeros(len(values))
    centred = values - values.mean()
    centred /= np.abs(centred).max()  # squares of tiny or huge values would leave the range
    return np.asarray(centred / centred.std())


def _score(metric: str, sums: Floats, n: Floats, xx: Floats) -> Floats:
    """Score targets from sums of `_columns`, shape (..., n_targets, n_columns)."""
    if metric in ("mae", "mse"):
        return np.asarray(sums[..., 0] / n)
    y, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = yy - y * y / n
        variance = np.where(variance > 1e-12 * yy, variance, 0)  # below that it is rounding
        if metric == "ccc":
            apart = np.where(xx + variance > 0, xx + variance + y * y / n, 0)
            return np.asarray(2 * xy / apart)
        return np.asarray(xy / np.sqrt(xx * variance))


def _p_values(sums: Floats, scores: Any, swaps: Swaps) -> dict[str, Floats]:
    """Count the swaps with a difference as large as the one seen.

    Parameters
    ----------
    sums : float64, shape (n_systems, n_units, n_columns)
        What the scores are made of, which adds up over units.
    scores : callable
        Sums (..., n_columns) -> `{metric: float64, shape (...)}`.
    """
    n_systems, n_units, n_columns = sums.shape
    seen = sums.sum(axis=1)
    plain = scores(seen)
    least = {}
    for metric, values in plain.items():
        size = np.abs(values)[:, None] + np.abs(values)
        least[metric] = np.abs(values[:, None] - values) - _ROUNDING * size
    larger = {metric: np.zeros((n_systems, n_systems)) for metric in plain}
    flat = np.ascontiguousarray(sums.transpose(1, 0, 2).reshape(n_units, -1))
    for chosen in swaps.blocks():
        moved = (chosen @ flat).reshape(len(chosen), n_systems, n_columns)
        for i in range(n_systems - 1):
            change = moved[:, i + 1 :] - moved[:, i, None]
            ours, theirs = scores(seen[i] + change), scores(seen[i + 1 :] - change)
            for metric, count in larger.items():
                apart = np.abs(ours[metric] - theirs[metric])
                # A difference that is undefined counts as a large one.
                count[i, i + 1 :] += (~(apart < least[metric][i, i + 1 :])).sum(axis=0)
    result = {}
    for metric, count in larger.items():
        p = count / swaps.n if swaps.exact else (count + 1) / (swaps.n + 1)
        p = np.triu(p, 1)
        p += p.T + np.eye(n_systems)
        undefined = np.isnan(plain[metric])
        p[undefined] = p[:, undefined] = np.nan
        result[metric] = p
    return result


def mcnemar_p(right: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Floats]:
    """McNemar's exact test of the accuracies of every two systems.

    Takes the rows for independent, which those of one speaker are not: the permutation test does
    without that. Where the systems differ in no row, p is 1.

    Parameters
    ----------
    right : bool, shape (n_systems, n)

    Returns
    -------
    only : int64, shape (n_systems, n_systems)
        Entry (i, j): rows that i has right and j has not.
    p : float64, shape (n_systems, n_systems)
        As `scipy.stats.binomtest(only[i, j], only[i, j] + only[j, i]).pvalue`.

    Examples
    --------
    >>> only, p = mcnemar_p(np.array([[True] * 5 + [False], [False] * 5 + [True]]))
    >>> only.tolist(), p.tolist()
    ([[0, 5], [1, 0]], [[1.0, 0.21875], [0.21875, 1.0]])
    """
    # In float64 the product is BLAS's, and counts are exact.
    values = right.astype(np.float64)
    only = np.rint(values @ (1 - values).T).astype(np.int64)
    return only, np.minimum(1, 2 * stats.binom.cdf(np.minimum(only, only.T), only + only.T, 0.5))


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down correction (Holm 1979) of the p values of a table.

    Parameters
    ----------
    p : float, shape (n,)
        A NaN stays one and does not count as a comparison.

    Returns
    -------
    float64, shape (n,)
        Adjusted p values: those at most a level are significant at that level for the whole table.

    Examples
    --------
    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    values = np.array(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(1, np.maximum.accumulate(steps))
    return values


def not_worse(
    scores: Floats, p_values: Floats, level: float
) -> tuple[int | None, NDArray[np.bool_]]:
    """The best system, and those that are not significantly worse than it.

    As in multiple comparisons with the best (Hsu 1981): which system is the best in truth is not
    known, but whichever it is, it is left out only where one of the n - 1 others is found to be
    better. Its own p values are therefore multiplied by n - 1 (Bonferroni), not by the number of
    all pairs, and the systems that remain hold the best one with a probability of 1 - level.

    Parameters
    ----------
    scores : float64, shape (n_systems,)
        Higher is better; NaN where undefined.
    p_values : float64, shape (n_systems, n_systems)
        Of every two systems, not corrected.
    level : float
        Such as 0.05.

    Returns
    -------
    best : int or None
        The first of the highest; None where every score is undefined.
    mask : bool, shape (n_systems,)
        The best, and all whose difference to it is not significant.

    Examples
    --------
    >>> p_values = np.array([[1.0, 0.03, 0.02], [0.03, 1.0, 0.3], [0.02, 0.3, 1.0]])
    >>> best, mask = not_worse(np.array([0.7, 0.6, 0.5]), p_values, 0.05)
    >>> best, mask.tolist()
    (0, [True, True, False])
    """
    if np.isnan(scores).all():
        return None, np.zeros(len(scores), dtype=np.bool_)
    best = int(np.nanargmax(scores))
    mask = p_values[best] * (np.isfinite(scores).sum() - 1) > level
    mask[best] = True
    return best, mask


def minimum_detectable(differences: Floats, n_units: int, level: float) -> float:
    """The smallest true difference that a test of this size finds with a probability of 80 %.

    (t(1 - level/2) + t(0.8)) times the standard error of the difference, with Student's t of
    n_units - 1 degrees of freedom (Bloom 1995); the standard error is the deviation of the
    difference over resamples. It says what a test set is good for, not what was found on it: power
    computed for the difference that was seen says nothing beyond its p value.

    Parameters
    ----------
    differences : float64, shape (n_resamples,)
        NaN where undefined.
    n_units : int
        Speakers, or rows where none are known.
    level : float
        Of a two-sided test, such as 0.05.

    Returns
    -------
    float
        In the unit of the score; NaN with one unit, with fewer than two defined resamples, and
        where more than half are undefined.

    Examples
    --------
    >>> round(minimum_detectable(np.array([-0.01, 0.01, -0.01, 0.01]), 1000, 0.05), 4)
    0.0324
    """
    known = defined(differences)
    if n_units < 2 or len(known) < 2:
        return float("nan")
    quantiles = stats.t.ppf([1 - level / 2, POWER], n_units - 1)
    return float(quantiles.sum() * known.std(ddof=1))
