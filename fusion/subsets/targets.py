"""The score of continuous targets for many subsets at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluate.metrics import metrics
from fusion.methods import mean
from fusion.subsets.concordance import Concordance
from fusion.subsets.parts import (
    _BINNED,
    _BINNED_ROWS,
    _BLOCK,
    _PIECE,
    _SORTED,
    Floats,
    Ints,
    SubsetBlock,
    SubsetParts,
)
from fusion.subsets.search import NEAR, SubsetProblem, members_of

Score = Callable[[Floats, Floats], float]


class Shares(SubsetProblem):
    """Regression values of several models, combined by their mean; Spearman's rho and CCC.

    CCC is made of the members' covariances. Rho is not additive: every subset has ranks of its own.
    In a large search those of bins bound it from above (`fusion.subsets.rank_bins`), and only what
    can reach the best is sorted. A sum carries the rank of the truth in its last bits, so that one
    sort of whole numbers gives all that rho needs. Where two sums are so near that rounding could
    change their order, or equal, rho is computed from the values themselves.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked; such a row is left out for that target.
    values : float64, shape (n_members, n, n_targets)
    by : sequence of str
        Of `spearman` and `ccc`.
    binned : bool, optional
        Whether bins are used; by default where they are worth their compiling.
    """

    def __init__(
        self,
        truth: Floats,
        values: Floats,
        by: Sequence[str] = ("spearman",),
        *,
        binned: bool | None = None,
    ) -> None:
        self.metrics = tuple(by)
        self.n_members = len(values)
        self.truth, self.values = truth, values
        scored = np.flatnonzero(~np.isnan(truth).all(axis=0))
        self._targets = [_Target(truth[:, t], values[:, :, t]) for t in scored]
        size = sum(len(target.ranks) for target in self._targets)
        self.parts = SubsetParts(self.n_members, 8 * size, max(1, min(_BLOCK, _SORTED // size)))
        self._concordances = [Concordance(target.truth, target.values) for target in self._targets]
        worth = len(truth) <= _BINNED_ROWS and size << self.n_members > _BINNED
        self.binned = worth if binned is None else binned
        self._tables = [self.parts.table(target.units) for target in self._targets if self.binned]

    def screen(self, block: SubsetBlock, known: Mapping[str, float]) -> dict[str, Floats]:
        """Bounds from above of the means over targets: shape (n_heads, n_tails).

        Parameters
        ----------
        block : SubsetBlock
        known : mapping
            Metric -> the highest score so far: bounds below it are left as they are.

        Returns
        -------
        dict
            Metric -> float64, shape (n_heads, n_tails).
        """
        masks = self.parts.masks(block)
        size = block.heads.shape[1] + len(self.parts.tails[block.tails.start])
        subsets = members_of(masks.ravel(), self.n_members, size)
        found = {}
        for metric in self.metrics:
            if metric == "spearman" and self.binned:
                upper = self._bounds(block).ravel()
                self._tighten(upper, subsets, known["spearman"])
            else:
                upper = self.scores(subsets, metric)
            found[metric] = upper.reshape(masks.shape)
        return found

    def _bounds(self, block: SubsetBlock) -> Floats:
        """Bounds by the ranks of bins: shape (n_heads, n_tails)."""
        from fusion.subsets.rank_bins import rho_bounds  # compiles: not for small searches

        bounds = [
            rho_bounds(
                target.units,
                block.heads,
                table[block.tails],
                target.ranks,
                target.slack << target.bits,
            )
            for target, table in zip(self._targets, self._tables, strict=True)
        ]
        return np.mean(bounds, axis=0)

    def _tighten(self, upper: Floats, subsets: Ints, known: float) -> None:
        """Put scores for bounds, from the largest, until none can reach the best score."""
        floor = np.fmax(known, -np.inf)
        left, step = np.argsort(-upper), 1
        while len(some := left[:step][upper[left[:step]] >= floor - NEAR]):
            upper[some] = self.scores(subsets[some], "spearman")
            floor = np.fmax.reduce(upper[some], initial=floor)
            left, step = left[step:], 2 * step

    def scores(self, subsets: Ints, metric: str) -> Floats:
        """Scores of subsets of one size, shape (q, k), within `NEAR`.

        Parameters
        ----------
        subsets : int64, shape (q, k)
            Members of q subsets.
        metric : str

        Returns
        -------
        float64, shape (q,)
        """
        if metric == "ccc":
            return np.mean([target.of(subsets) for target in self._concordances], axis=0)
        total = np.zeros(len(subsets))
        for target in self._targets:
            step = max(1, _PIECE // len(target.ranks))
            for start in range(0, len(subsets), step):
                some = subsets[start : start + step]
                sums = target.units[some[:, 0]]
                for members in some.T[1:]:
                    sums += target.units[members]
                total[start : start + step] += target.rho(sums, some)
        return total / len(self._targets)

    def exact(self, subsets: Ints, metric: str) -> tuple[list[float], Floats]:
        """Scores of subsets of one size, shape (q, k), as `evaluate.metrics.metrics` gives them."""
        score = metrics.REGRESSION[metric]
        values = np.array(
            [np.mean([t.exact(subset, score) for t in self._targets]) for subset in subsets]
        )
        return values.tolist(), values

    def combined(self, subset: Sequence[int]) -> Floats:
        """Mean of the values, float64, shape (n, n_targets)."""
        return mean(self.values[np.asarray(subset)])


class _Target:
    """One target: its rows with a truth, in whole numbers that leave room for a rank.

    Attributes
    ----------
    ranks : int64, shape (n,)
        Twice the average rank of the truth.
    units : int64, shape (n_members, n)
        Values in steps so small that sums of all members fill an int64, moved left by the bits
        that a rank takes.
    """

    def __init__(self, truth: Floats, values: Floats) -> None:
        known = ~np.isnan(truth)
        self.truth, self.values = truth[known], values[:, known]
        n_members, n = self.values.shape
        self.ranks = np.rint(2 * metrics.average_ranks(self.truth)).astype(np.int64)
        self.bits = int(2 * n).bit_length()
        low, high = float(self.values.min()), float(self.values.max())
        width = (high - low) or 1.0
        steps = 2 ** (62 - self.bits) // n_members
        units = np.rint((self.values - low) / width * steps).astype(np.int64)
        self.units = units << self.bits
        # Two sums are off by half a step a member each, and by what float64 loses: three roundings
        # a member here, those of the partial sums of a mean and of its division there.
        largest = max(abs(low), abs(high)) / width * steps
        lost = n_members * (n_members + 14) * 2.0**-53 * largest
        self.slack = n_members + 1 + math.ceil(lost)
        centred = self.ranks / 2 - (n + 1) / 2
        self.size = math.sqrt(n * (n * n - 1) / 12 * float(centred @ centred))

    def rho(self, sums: Ints, subsets: Ints) -> Floats:
        """Spearman's rho of sums of units, shape (q, n), that belong to subsets, shape (q, k).

        The sums are changed.
        """
        n = len(self.ranks)
        sums += self.ranks
        sums.sort(axis=1)
        products = (sums & ((1 << self.bits) - 1)) @ np.arange(1, n + 1)
        sums >>= self.bits
        near = (np.diff(sums, axis=1) <= self.slack).any(axis=1)
        if self.size == 0:
            return np.full(len(sums), np.nan)
        rho = (products / 2 - n * (n + 1) * (n + 1) / 4) / self.size
        rho[near] = [self.exact(subset) for subset in subsets[near]]
        return rho

    def exact(self, subset: Sequence[int], score: Score = metrics.spearman) -> float:
        """A score of a subset, as `evaluate.metrics.metrics` gives it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", metrics.ScoreWarning)
            prediction = mean(self.values[np.asarray(subset)][:, :, None])[:, 0]
            return score(self.truth, prediction)
