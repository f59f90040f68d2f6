"""The score of class labels for many subsets at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.metrics import metrics
from evaluate.metrics.calibration import shares
from features.common.errors import RunError
from fusion.methods import METHODS
from fusion.subsets.confusions import Confusions, macro_f1_bounds
from fusion.subsets.parts import (
    _TABLE_BYTES,
    _TILE_BYTES,
    Floats,
    Ints,
    SubsetBlock,
    SubsetParts,
)
from fusion.subsets.search import _LARGEST, SubsetProblem

MACRO_F1 = "macro_f1"
F1_DIGITS = 12
"""To which macro F1 are compared: more than rounding moves, so that equal means equal."""


class Classes(SubsetProblem):
    """Class scores of several models, combined by one method.

    Parameters
    ----------
    truth : int64, shape (n,)
        Positions in the label list; rows without a truth are left out by the caller.
    scores : float64, shape (n_members, n, n_labels)
        NaN where the fold of a row lacked a class, in which members agree.
    method : str
        Of `features.recipe.known.fusion_methods.SUBSET_METHODS`.
    metrics : sequence of str
        Of `uar`, `wa` and `macro_f1`.

    Raises
    ------
    RunError
        Where members lack different classes.
    """

    def __init__(self, truth: Ints, scores: Floats, method: str, metrics: Sequence[str]) -> None:
        self.n_members, _, self.n_labels = scores.shape
        self.metrics = tuple(metrics)
        self.truth, self.values, self.method = truth, scores, method
        # Half a unit a member that rounding takes, and as much that float64 may lose in its sums.
        self.slack = 2 * self.n_members + 2
        self.support = np.bincount(truth, minlength=self.n_labels)
        self._present = np.flatnonzero(self.support)
        rows = [truth == label for label in self._present]
        margins = _margins(truth, scores, method, self.slack, _LARGEST)
        self._margins = [margins[:, :, own] for own in rows]
        self._fields = _Fields(2 if method == "vote" else 3, self.slack)
        margins = _margins(truth, scores, method, self.slack, self._fields.largest)
        self._packed = [self._fields.packed(margins[:, :, own]) for own in rows]
        size = sum(packed[:, 0].nbytes for packed in self._packed)
        self.parts = SubsetParts(self.n_members, size)
        self._tables = [self.parts.table(packed) for packed in self._packed]
        whole = math.lcm(*(int(n) for n in self.support[self._present]))
        # In units of 1 / whole, recalls are whole numbers.
        self._units = {
            "uar": [whole // int(n) for n in self.support[self._present]],
            "wa": [1] * len(self._present),
        }

        self._confusions = Confusions(truth, scores, method, self.combined)

    def screen(self, block: SubsetBlock, known: Mapping[str, float]) -> dict[str, Floats]:
        """Bounds from above of every metric: shape (n_heads, n_tails).

        Parameters
        ----------
        block : SubsetBlock
        known : mapping
            Metric -> the highest score so far; not needed here.

        Returns
        -------
        dict
            Metric -> float64, shape (n_heads, n_tails).
        """
        right = np.zeros(
            (len(self._present), len(block.heads), block.tails.stop - block.tails.start), np.int64
        )
        for c, (packed, table) in enumerate(zip(self._packed, self._tables, strict=True)):
            sums = self.parts.head_sums(packed, block.heads, self._fields.start)
            _count(sums, table[:, block.tails], self._fields.signs, right[c])
        return {metric: self._bounds(metric, right) for metric in self.metrics}

    def _bounds(self, metric: str, right: Ints) -> Floats:
        if metric == MACRO_F1:
            return macro_f1_bounds(right, self.support[self._present], self.n_labels)
        return np.asarray(np.tensordot(self._weights(metric), right, axes=1))

    def _weights(self, metric: str) -> Floats:
        if metric == "wa":
            return np.full(len(self._present), 1 / self.support.sum())
        return 1 / self.support[self._present] / len(self._present)

    def exact(self, subsets: Ints, metric: str) -> tuple[list[Any], Floats]:
        """Numbers that order subsets of one size, and their scores: whole but for macro F1.

        Parameters
        ----------
        subsets : int64, shape (q, k)
            Members of q subsets.
        metric : str

        Returns
        -------
        keys : list
            The higher, the better; equal where scores are equal.
        scores : float64, shape (q,)
        """
        if metric == MACRO_F1:
            values = metrics.scores_of(self._confusions.of(subsets))[metric]
            return np.round(values, F1_DIGITS).tolist(), values
        right = self.right(subsets)
        units = np.array(self._units[metric], dtype=object)
        keys = (right.astype(object) * units).sum(axis=1).tolist()
        # A confusion matrix with as many right ones has the same scores, wherever the wrong are.
        matrices = np.zeros((len(right), self.n_labels, self.n_labels), np.int64)
        wrong = self.support[self._present] - right
        matrices[:, self._present, self._present] = right
        matrices[:, self._present, (self._present + 1) % self.n_labels] += wrong
        return keys, metrics.scores_of(matrices)[metric]

    def right(self, subsets: Ints) -> Ints:
        """Right rows of each class that occurs, exactly: shape (q, k) -> (q, n_present).

        Parameters
        ----------
        subsets : int64, shape (q, k)
            Members of q subsets.

        Returns
        -------
        int64, shape (q, n_present)
        """
        result = np.empty((len(subsets), len(self._present)), np.int64)
        step = max(1, _TABLE_BYTES // 64 // len(self.truth) // self.n_labels)
        for start in range(0, len(subsets), step):
            some = subsets[start : start + step]
            upper, lower = result[start : start + step], np.empty((len(some), len(self._present)))
            for c, margins in enumerate(self._margins):
                sums = np.zeros((len(margins), len(some), margins.shape[-1]), np.int32)
                for members in some.T:
                    sums += margins[:, members]
                least = sums.min(axis=0)
                upper[:, c] = (least >= -self.slack).sum(axis=1)
                lower[:, c] = (least > self.slack).sum(axis=1)
            for i in np.flatnonzero((upper != lower).any(axis=1)):
                chosen = np.nanargmax(self.combined(some[i]), axis=1)
                counts = np.bincount(self.truth[chosen == self.truth], minlength=self.n_labels)
                upper[i] = counts[self._present]
        return result

    def scores(self, subsets: Ints, metric: str) -> Floats:
        """Scores of subsets of one size, shape (q, k)."""
        return self.exact(subsets, metric)[1]

    def combined(self, subset: Sequence[int]) -> Floats:
        """Combined class scores, float64, shape (n, n_labels)."""
        return METHODS[self.method](self.values[np.asarray(subset)])


def _margins(
    truth: Ints, scores: Floats, method: str, slack: int, largest: int
) -> NDArray[np.int32]:
    """Margins of the true class over each other one, rounded.

    Sums of them over any subset stay within `largest`, even with `slack` more; they are above
    `slack` only where the true class wins, and below `-slack` only where it does not.

    Returns
    -------
    int32, shape (n_labels - 1, n_members, n)
    """
    n_members, n, n_labels = scores.shape
    absent = np.isnan(scores)
    if (absent != absent[0]).any():
        row = int(np.argwhere((absent != absent[0]).any(axis=(0, 2)))[0, 0])
        raise RunError(
            f"members lack the scores of different classes, first in row {row + 1} of those with a "
            f"truth; train them anew on the same rows"
        )
    values = scores
    if method == "mean":
        values = np.stack([shares(score) for score in scores])
    others = np.array([[c for c in range(n_labels) if c != t] for t in range(n_labels)])[truth]
    rows = np.arange(n)
    margin = values[:, rows, truth][:, :, None] - values[:, rows[:, None], others]
    # Against scores that are 2**20 times as large, what float64 loses in their sums would show.
    size = np.nanmax(np.abs(values), axis=(0, 2)) * 2.0**-20
    size = np.fmax(size, np.nanmax(np.abs(np.nan_to_num(margin)), axis=(0, 2)))
    if method == "vote":
        unit = (largest - (2 * n_members + 1) * slack) // (n_members * (n_members + 1))
    else:
        unit = (largest - slack) // n_members
    scaled = np.rint(np.nan_to_num(margin / np.where(size > 0, size, 1)[None, :, None]) * unit)
    if method == "vote":
        vote = np.nanargmax(scores, axis=2)[:, :, None]
        ahead = (vote == truth[:, None]).astype(np.int64) - (vote == others)
        scaled += ahead * (n_members * unit + 2 * slack)
    scaled = np.where(absent[:, rows[:, None], others], unit, scaled)
    scaled[:, absent[0, rows, truth]] = -unit
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)).astype(np.int32)


class _Fields:
    """Margins side by side in one int64, added at one stroke; they never reach into each other.

    Parameters
    ----------
    n_fields : int
        How many in one number.
    slack : int
        How far below 0 a sum of margins still counts as right.

    Attributes
    ----------
    largest : int
        What sums of margins, with the slack, stay within.
    start : int
        What a sum of packed margins starts from: then the highest bit of a field is set where its
        margin is at least `-slack`.
    signs : int
        These bits.
    """

    def __init__(self, n_fields: int, slack: int) -> None:
        self.n_fields, self.bits = n_fields, 63 // n_fields
        self.largest = 2 ** (self.bits - 1) - 1
        ones = sum(1 << self.bits * i for i in range(n_fields))
        self.signs = ones << self.bits - 1
        self.start = self.signs + ones * slack

    def packed(self, margins: NDArray[np.int32]) -> Ints:
        """Shape (n_labels - 1, n_members, n) -> (n_words, n_members, n), n a multiple of 64.

        Rows that are added are never right.
        """
        n_others, n_members, n = margins.shape
        # The last margin stands as often as there are fields left.
        fields = np.pad(margins, ((0, -n_others % self.n_fields), (0, 0), (0, 0)), mode="edge")
        never = -(self.largest // (2 * n_members))
        fields = np.pad(fields, ((0, 0), (0, 0), (0, -n % 64)), constant_values=never)
        words = fields.astype(np.int64).reshape(-1, self.n_fields, *fields.shape[1:])
        shifts = self.bits * np.arange(self.n_fields)
        return (words << shifts[:, None, None]).sum(axis=1)


def _count(heads: Ints, tails: Ints, signs: int, right: Ints) -> None:
    """Count the rows in which all margins have their sign bits, for each head with each tail.

    Parameters
    ----------
    heads : int64, shape (n_words, n_heads, n)
    tails : int64, shape (n_words, n_tails, n)
    signs : int
    right : int64, shape (n_heads, n_tails)
        Filled.
    """
    n_words, n_tails, n = tails.shape
    tile = max(1, min(n_tails, _TILE_BYTES // (8 * n * n_words)))
    margin, other = np.empty((2, tile, n), np.int64)
    wins = np.empty((tile, n), np.bool_)
    bits = np.empty((heads.shape[1], tile, n // 8), np.uint8)
    for start in range(0, n_tails, tile):
        part = tails[:, start : start + tile]
        m = part.shape[1]
        a, b, w = margin[:m], other[:m], wins[:m]
        for h in range(heads.shape[1]):
            np.add(part[0], heads[0, h], out=a)
            for i in range(1, n_words):
                np.add(part[i], heads[i, h], out=b)
                np.bitwise_and(a, b, out=a)
            np.bitwise_and(a, signs, out=a)
            np.equal(a, signs, out=w)
            bits[h, :m] = np.packbits(w, axis=1)
        words = np.bitwise_count(bits[:, :m].view(np.uint64))
        right[:, start : start + m] = words.sum(axis=2, dtype=np.int64)
