"""Bootstrap intervals of scores on a held-out set.

Conventions
-----------
- What is resampled are speakers, with all their utterances; an utterance whose speaker is unknown
  is resampled on its own.
- One resample serves all targets and metrics, so that the mean over targets has an interval of
  its own (not a mean of bounds).
- Bounds are percentiles of the resampled scores. A resample in which a score is undefined is left
  out of that score's percentiles and counted; where more than half are, there are no bounds.
- A mean over classes (UAR, macro F1) is undefined in a resample that has no row of a class which
  the whole set has rows of: over fewer classes it would be another metric. Accuracy is not.
- The heads are not fitted anew: an interval shows what other speakers would change, not what
  other training data would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from evaluate.metrics.metrics import OVER_CLASSES, REGRESSION, encode, scores_of

Floats = NDArray[np.float64]

_BLOCK_VALUES = 1 << 19
"""Values of one (resamples, rows) block: 4 MB, so that it stays in the cache."""


@dataclass(frozen=True)
class Interval:
    """Bounds of one score; NaN where it was undefined in more than half of the resamples.

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


def units(groups: Sequence[str] | NDArray[np.object_]) -> NDArray[np.int64]:
    """Number the speakers in their order; a row without one is a unit of its own.

    Examples
    --------
    >>> units(["a/1", "", "a/1", ""]).tolist()
    [0, 1, 0, 2]
    """
    position: dict[object, int] = {}
    return np.array(
        # An int cannot be a speaker's name.
        [position.setdefault(group or i, len(position)) for i, group in enumerate(groups)],
        dtype=np.int64,
    )


def draw(groups: Sequence[str] | NDArray[np.object_], n_resamples: int, seed: int) -> Resamples:
    """Draw as many units as there are, with replacement, `n_resamples` times.

    Parameters
    ----------
    groups : str, shape (n_rows,)
        `corpus/speaker` of each row, "" where unknown.
    n_resamples, seed : int

    Returns
    -------
    Resamples

    Examples
    --------
    >>> drawn = draw(["a/1", "a/1", "a/2", ""], n_resamples=5, seed=0)
    >>> drawn.unit.tolist(), drawn.counts.sum(axis=0).tolist()
    ([0, 0, 1, 2], [3.0, 3.0, 3.0, 3.0, 3.0])
    """
    unit = units(groups)
    n = int(unit.max(initial=-1)) + 1
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
    found = systems_resampled(truth, prediction[None], resamples)
    return {name: values[0] for name, values in found.items()}


def systems_resampled(
    truth: Floats, predictions: Floats, resamples: Resamples
) -> dict[str, Floats]:
    """As `regression_resampled`, of several systems on the same rows and resamples.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
    predictions : float64, shape (n_systems, n, n_targets)

    Returns
    -------
    dict
        `{metric: float64, shape (n_systems, n_targets, n_resamples)}`.
    """
    n_resamples = resamples.counts.shape[1]
    shape = (len(predictions), truth.shape[1], n_resamples)
    result = {name: np.full(shape, np.nan) for name in REGRESSION}
    counts = np.ascontiguousarray(resamples.counts.T)
    # Threads share out the blocks; BLAS threads within them would wait for one another.
    with threadpool_limits(1), ThreadPoolExecutor(joblib.cpu_count()) as pool:
        for t in range(truth.shape[1]):
            known = ~np.isnan(truth[:, t])
            if not known.any():
                continue
            target = _Target(truth[known, t], predictions[:, known, t])
            blocks = list(_blocks(int(known.sum()), n_resamples))
            tasks = [(target, counts[block], resamples.unit[known]) for block in blocks]
            for block, scores in zip(blocks, pool.map(_block_scores, tasks), strict=True):
                for name, values in scores.items():
                    result[name][:, t, block] = values
    return result


def _block_scores(task: tuple[_Target, Floats, NDArray[np.int64]]) -> dict[str, Floats]:
    target, counts, unit = task
    return target.scores(counts[:, unit])


def classification_resampled(
    truth: ArrayLike, prediction: ArrayLike, labels: Sequence[str], resamples: Resamples
) -> dict[str, Floats]:
    """UAR, WA and macro F1 in every resample.

    Parameters
    ----------
    truth, prediction : str, shape (n,)
    labels : sequence of str
    resamples : Resamples

    Returns
    -------
    dict
        `{metric: float64, shape (n_resamples,)}`: that of the resampled rows; UAR and macro F1 are
        NaN where these lack a class that some row of the whole set is of.

    Examples
    --------
    Of two speakers the second alone is ever sad:

    >>> drawn = Resamples(np.array([0, 1, 1]), np.array([[1.0, 2.0], [1.0, 0.0]]))
    >>> found = classification_resampled(
    ...     ["calm", "calm", "sad"], ["calm", "sad", "sad"], ["calm", "sad"], drawn)
    >>> found["uar"].tolist(), found["wa"].round(3).tolist()
    ([0.75, nan], [0.667, 1.0])
    """
    k = len(labels)
    cell = encode(truth, labels, "truth") * k + encode(prediction, labels, "prediction")
    per_unit = np.zeros((len(resamples.counts), k * k))
    np.add.at(per_unit, (resamples.unit, cell), 1)
    matrices = (resamples.counts.T @ per_unit).reshape(-1, k, k)
    supports, whole = matrices.sum(axis=2), per_unit.sum(axis=0).reshape(k, k).sum(axis=1)
    lacking = ((supports == 0) & (whole > 0)).any(axis=1)
    return {
        name: np.where(lacking & (name in OVER_CLASSES), np.nan, values)
        for name, values in scores_of(matrices).items()
    }


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
    known = defined(values)
    undefined = int(np.isnan(values).sum())
    if not len(known):
        return Interval(float("nan"), float("nan"), undefined)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), undefined)


def defined(values: Floats) -> Floats:
    """The resampled scores that are not NaN; none where more than half of them are.

    Examples
    --------
    >>> defined(np.array([1.0, np.nan])).tolist(), defined(np.array([1.0, *[np.nan] * 2])).tolist()
    ([1.0], [])
    """
    known = values[~np.isnan(values)]
    return known if 2 * len(known) >= len(values) else known[:0]


def lacking_text(n: int, n_resamples: int) -> str:
    """Say what became of the resamples that lack a class; empty where none does.

    Examples
    --------
    >>> lacking_text(70, 1000)
    '70 of 1,000 resamples lack a class and are left out'
    >>> lacking_text(501, 1000)
    '501 of 1,000 resamples lack a class: too few are left for an interval'
    """
    if not n:
        return ""
    end = ": too few are left for an interval" if 2 * n > n_resamples else " and are left out"
    return f"{n:,} of {n_resamples:,} resamples lack a class{end}"


def _blocks(n_rows: int, n_resamples: int) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // n_rows)
    for start in range(0, n_resamples, step):
        yield slice(start, min(start + step, n_resamples))


class _Target:
    """Truth of one target with the predictions of several systems, for scores under row weights."""

    def __init__(self, x: Floats, ys: Floats) -> None:
        from evaluate.statistics.rank_sums import Order  # compiles: not for those who only read

        # Moments about the whole set's means lose no digits to a large common offset.
        dx, dys = x - x.mean(), ys - ys.mean(axis=1, keepdims=True)
        self.offsets = (x.mean() - ys.mean(axis=1))[:, None]
        each = np.stack([dys, dys * dys, dx * dys, np.abs(x - ys), (x - ys) ** 2])
        self.moments = np.concatenate([np.stack([dx, dx * dx]), each.reshape(-1, len(x))]).T
        self.order, self.orders = Order(x), [Order(y) for y in ys]

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Scores under weights (n_resamples, n): each of shape (n_systems, n_resamples)."""
        from evaluate.statistics.rank_sums import spearman_weighted

        spearman, constant_x, constant_y = spearman_weighted(
            weights.astype(np.int32), self.order, self.orders
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            moments = (weights @ self.moments).T / weights.sum(axis=1)
            mx, xx = moments[:2]
            my, yy, xy, absolute, squared = moments[2:].reshape(5, len(self.orders), -1)
            xx, yy, xy = xx - mx * mx, yy - my * my, xy - mx * my
            pearson = np.clip(xy / np.sqrt(xx * yy), -1, 1)
            ccc = 2 * xy / (xx + yy + (mx - my + self.offsets) ** 2)
        either, both = constant_x | constant_y, constant_x & constant_y
        return {
            "spearman": spearman,
            "pearson": np.where(either, np.nan, pearson),
            "ccc": np.where(both, np.nan, np.where(either, 0.0, ccc)),
            "mae": absolute,
            "mse": squared,
        }
