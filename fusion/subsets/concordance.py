"""CCC of means over many subsets at once, from the covariances of the members."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from evaluate.metrics import metrics
from fusion.methods import mean
from fusion.subsets.parts import Floats, Ints

_SURE = 1e-4
"""Where the denominator is a smaller share of what it is made of, rounding shows in the score."""
_AT_ONCE = 1 << 22
"""Covariances that are summed at a stroke."""


class Concordance:
    """CCC of one target by subsets: means and covariances of a mean are sums over its members.

    Parameters
    ----------
    truth : float64, shape (n,)
    values : float64, shape (n_members, n)
    """

    def __init__(self, truth: Floats, values: Floats) -> None:
        self.truth, self.values = truth, values
        centred = values - values.mean(axis=1, keepdims=True)
        x = truth - truth.mean()
        self._shift = values.mean(axis=1) - truth.mean()
        self._with_truth = centred @ x / len(truth)
        self._within = centred @ centred.T / len(truth)
        self._variance = float(x @ x) / len(truth)
        self._sizes = np.diag(self._within) + self._shift**2

    def of(self, subsets: Ints) -> Floats:
        """CCC of subsets of one size, shape (q, k), within `fusion.subsets.search.NEAR`.

        Parameters
        ----------
        subsets : int64, shape (q, k)
            Members of q subsets.

        Returns
        -------
        float64, shape (q,)
        """
        k = subsets.shape[1]
        result = np.empty(len(subsets))
        step = max(1, _AT_ONCE // (k * k))
        for start in range(0, len(subsets), step):
            some = subsets[start : start + step]
            within = self._within[some[:, :, None], some[:, None, :]].sum(axis=(1, 2)) / k**2
            shift = self._shift[some].mean(axis=1)
            below = self._variance + within + shift**2
            made_of = self._variance + self._sizes[some].max(axis=1)
            sure = below > _SURE * made_of
            scores = 2 * self._with_truth[some].mean(axis=1) / np.where(sure, below, 1)
            scores[~sure] = [self._exact(subset) for subset in some[~sure]]
            result[start : start + step] = scores
        return result

    def _exact(self, subset: Sequence[int]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", metrics.ScoreWarning)
            prediction = mean(self.values[np.asarray(subset)][:, :, None])[:, 0]
            return metrics.ccc(self.truth, prediction)
