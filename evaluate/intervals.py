"""Bootstrap intervals of scores on a held-out set.

Conventions
-----------
- What is resampled are speakers, with all their utterances; an utterance whose speaker is unknown
  is resampled on its own.
- One resample serves all targets and metrics, so that the mean over targets has an interval of
  its own (not a mean of bounds).
- Bounds are percentiles of the resampled scores. A resample in which a score is undefined is left
  out of that score's percentiles and counted.
- The heads are not fitted anew: an interval shows what other speakers would change, not what
  other training data would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluate.metrics import REGRESSION, encode, scores_of

Floats = NDArray[np.float64]

_BLOCK_VALUES = 1 << 19
"""Values of one (rows, resamples) block: 4 MB, so that it stays in the cache."""


@dataclass(frozen=True)
class Interval:
    """Bounds of one score; NaN where it was undefined in every resample.

    Attributes
    ----------
    low, high : float
    undefined : int
        Resamples in which the score was undefined.
    """

    low: float
    high: float
    undefined: int = 0


@dataclass(frozen=True)
class Resamples:
    """Resamples of the units of a set of rows.

    Attributes
    ----------
    unit : int64, shape (n_rows,)
        The unit (speaker, or lone utterance) of each row.
    counts : float64, shape (n_units, n_resamples)
        How often each unit was drawn.
    """

    unit: NDArray[np.int64]
    counts: Floats


def draw(groups: Sequence[str] | NDArray[np.object_], n_resamples: int, seed: int) -> Resamples:
    """Draw as many units as there are, with replacement, `n_resamples` times.

    Parameters
    ----------
    groups : str, shape (n_rows,)
        `corpus/speaker` of each row, "" where unknown.
    n_resamples, seed : int

    Examples
    --------
    >>> drawn = draw(["a/1", "a/1", "a/2", ""], n_resamples=5, seed=0)
    >>> drawn.unit.tolist(), drawn.counts.sum(axis=0).tolist()
    ([0, 0, 1, 2], [3.0, 3.0, 3.0, 3.0, 3.0])
    """
    names = np.asarray(groups, dtype=object)
    position: dict[object, int] = {}
    unit = np.array(
        # A row without a speaker is its own unit: an int cannot be a speaker's name.
        [position.setdefault(one or i, len(position)) for i, one in enumerate(names)],
        dtype=np.int64,
    )
    n = len(position)
    rng = np.random.default_rng(seed)
    counts = np.empty((n, n_resamples))
    for b in range(n_resamples):
        counts[:, b] = np.bincount(rng.integers(0, n, n), minlength=n)
    return Resamples(unit, counts)


def regression_resampled(
    truth: Floats, prediction: Floats, resamples: Resamples
) -> dict[str, Floats]:
    """Every regression metric of every target in every resample.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked; such a row is left out for that target.
    prediction : float64, shape (n, n_targets)

    Returns
    -------
    dict
        `{metric: float64, shape (n_targets, n_resamples)}`, equal to `metrics.*` of the resampled
        rows; NaN where undefined.
    """
    n_resamples = resamples.counts.shape[1]
    result = {name: np.full((truth.shape[1], n_resamples), np.nan) for name in REGRESSION}
    for target in range(truth.shape[1]):
        known = ~np.isnan(truth[:, target])
        if not known.any():
            continue
        x, y, unit = truth[known, target], prediction[known, target], resamples.unit[known]
        pair = _Pair(x, y)
        for block in _blocks(len(x), n_resamples):
            weights = resamples.counts[unit, block]
            for name, values in pair.scores(weights).items():
                result[name][target, block] = values
    return result


def classification_resampled(
    truth: ArrayLike, prediction: ArrayLike, labels: Sequence[str], resamples: Resamples
) -> dict[str, Floats]:
    """UAR, WA and macro F1 in every resample: `{metric: float64, shape (n_resamples,)}`."""
    k = len(labels)
    cell = encode(truth, labels, "truth") * k + encode(prediction, labels, "prediction")
    per_unit = np.zeros((len(resamples.counts), k * k))
    np.add.at(per_unit, (resamples.unit, cell), 1)
    return scores_of((resamples.counts.T @ per_unit).reshape(-1, k, k))


def interval(values: Floats, confidence: float) -> Interval:
    """Percentile interval of resampled scores.

    Parameters
    ----------
    values : float64, shape (n_resamples,)
        NaN where undefined.
    confidence : float
        Such as 0.95.

    Examples
    --------
    >>> interval(np.array([0.0, 1.0, 2.0, 3.0, np.nan]), 0.5)
    Interval(low=0.75, high=2.25, undefined=1)
    """
    known = values[~np.isnan(values)]
    undefined = len(values) - len(known)
    if not len(known):
        return Interval(float("nan"), float("nan"), undefined)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), undefined)


def _blocks(n_rows: int, n_resamples: int) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // n_rows)
    for start in range(0, n_resamples, step):
        yield slice(start, min(start + step, n_resamples))


class _Pair:
    """Truth and prediction of one target, prepared for scores under row weights."""

    def __init__(self, x: Floats, y: Floats) -> None:
        # Moments about the whole set's means lose no digits to a large common offset.
        dx, dy = x - x.mean(), y - y.mean()
        self.offset = x.mean() - y.mean()
        self.moments = np.stack(
            [dx, dy, dx * dx, dy * dy, dx * dy, np.abs(x - y), (x - y) ** 2]
        )  # (7, n)
        self.ranks = _Ranks(x), _Ranks(y)

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Scores under weights of shape (n, n_resamples): each of shape (n_resamples,)."""
        n = weights.sum(axis=0)
        a, b = (ranks.centred(weights, n) for ranks in self.ranks)
        weighted = weights * a
        rank_xx = np.einsum("ij,ij->j", weighted, a)
        rank_xy = np.einsum("ij,ij->j", weighted, b)
        rank_yy = np.einsum("ij,ij->j", np.multiply(weights, b, out=weighted), b)
        # Ranks are multiples of 1/2, hence these sums exact: 0 means constant and nothing else.
        constant_x, constant_y = rank_xx == 0, rank_yy == 0
        with np.errstate(invalid="ignore", divide="ignore"):
            # No BLAS for so thin a product: on a busy machine its threads wait ten times as long.
            moments = np.einsum("kn,nb->kb", self.moments, weights)
            mx, my, xx, yy, xy, absolute, squared = moments / n
            xx, yy, xy = xx - mx * mx, yy - my * my, xy - mx * my
            spearman = rank_xy / np.sqrt(rank_xx * rank_yy)
            pearson = np.clip(xy / np.sqrt(xx * yy), -1, 1)
            ccc = 2 * xy / (xx + yy + (mx - my + self.offset) ** 2)
        either, both = constant_x | constant_y, constant_x & constant_y
        return {
            "spearman": np.where(either, np.nan, spearman),
            "pearson": np.where(either, np.nan, pearson),
            "ccc": np.where(both, np.nan, np.where(either, 0.0, ccc)),
            "mae": absolute,
            "mse": squared,
        }


class _Ranks:
    """Average ranks of one variable under row weights, without sorting again."""

    def __init__(self, values: Floats) -> None:
        unique, self.inverse = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.inverse, kind="stable")
        self.starts = np.searchsorted(self.inverse[self.order], np.arange(len(unique)))

    def centred(self, weights: Floats, n: Floats) -> Floats:
        """Ranks less their mean (n + 1) / 2, shape (n_rows, n_resamples)."""
        # A value's ranks run from `below` + 1 to `below` + its own weight; ties share the middle.
        own = np.add.reduceat(weights[self.order], self.starts, axis=0)
        ranks = np.cumsum(own, axis=0)
        own /= 2
        ranks -= own
        ranks -= n / 2
        return ranks[self.inverse]
