"""Predictions of held-out speakers, shifted to the truths of fitted speakers who sound alike.

Conventions
-----------
- PLDC, personalised label distribution calibration: of a speaker without a fitted row, the k fitted
  speakers of highest cosine similarity are taken; mu and sigma are mean and deviation (with n) of
  all their truths pooled, m and s those of the speaker's predictions, and a prediction y becomes
  (y - m) / s * sigma + mu. Where s is 0 it becomes mu.
- A speaker's vector is the mean of its rows of the matrix, before any scaler: the fitted rows of a
  fitted speaker, the held-out rows of another. It needs all held-out rows of a speaker at once:
  their features, not their truths.
- With a least similarity, a speaker whose k neighbours are less alike in the mean keeps the
  predictions as they are. (The code that belongs to the paper has such a threshold, 0.985, with the
  condition the other way round.)
- It is a part of the head: inner folds are shifted by their own fitted speakers, so that a cell is
  chosen by shifted predictions, and what learns from `inner.csv` sees such.

Source: M. Tran, Y. Yin and M. Soleymani (2023), Personalized Adaptation with Pre-Trained Speech
Encoders for Continuous Emotion Recognition, arXiv 2309.02418.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from features.common.errors import RecipeError
from features.common.words import counted
from features.matrix import Matrix
from features.recipe.head import HeadSpec
from features.splits.folds import SplitPlan
from models.fits import Fitting
from models.problem import Fit, Positions, Problem
from models.single import Fitted
from models.speakers import speaker_codes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """A held-out speaker and who is alike.

    Attributes
    ----------
    speaker : int
        Its code.
    at : int64, shape (n,)
        Its places among the held-out rows.
    rows : int64, shape (m,)
        Fitted rows of its neighbours.
    similarity : float
        Mean cosine similarity of the neighbours.
    """

    speaker: int
    at: Positions
    rows: Positions
    similarity: float


def likenesses(
    X: NDArray[np.floating], codes: NDArray[np.int64], train: Positions, test: Positions, k: int
) -> list[Likeness]:
    """The neighbours of every held-out speaker without a fitted row.

    Parameters
    ----------
    X : float, shape (n, n_columns)
    codes : int64, shape (n,)
        The speaker of each row.
    train, test : int64
        Positions of rows that are fitted, and held out.
    k : int
        Neighbours; all fitted speakers where they are fewer.

    Returns
    -------
    list of Likeness
    """
    fitted = np.unique(codes[train])
    new = np.setdiff1d(codes[test], fitted)
    if not len(new) or not len(fitted):
        return []
    known = np.stack([_direction(X[train[codes[train] == code]]) for code in fitted])
    found = []
    for code in new:
        at = np.flatnonzero(codes[test] == code)
        similarity = known @ _direction(X[test[at]])
        nearest = np.argsort(-similarity, kind="stable")[:k]
        rows = train[np.isin(codes[train], fitted[nearest])]
        found.append(Likeness(int(code), at, rows, float(similarity[nearest].mean())))
    return found


def _direction(rows: NDArray[np.floating]) -> Floats:
    """The mean of rows, of length 1; of length 0 where all is 0."""
    mean = rows.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    return mean / length if length else mean


def shifted(values: Floats, truths: Floats) -> Floats:
    """Predictions of one speaker with mean and deviation of some truths.

    Parameters
    ----------
    values : float64, shape (n, n_targets)
    truths : float64, shape (m, n_targets)

    Returns
    -------
    float64, shape (n, n_targets)

    Examples
    --------
    >>> shifted(np.array([[1.0], [3.0]]), np.array([[10.0], [20.0]])).tolist()
    [[10.0], [20.0]]
    """
    spread, varies = values.std(axis=0), np.ptp(values, axis=0) > 0  # that of equal ones is rounded
    scale = np.divide(truths.std(axis=0), spread, out=np.zeros_like(spread), where=varies)
    return np.asarray((values - values.mean(axis=0)) * scale + truths.mean(axis=0))


@dataclass(frozen=True)
class ShiftedFits:
    """Runs fits and shifts what they predict of speakers without a fitted row.

    Attributes
    ----------
    fits : callable
        Runs fits.
    problem : Problem
        Of numbers.
    X : float32, shape (n, n_columns)
        Embeddings, without columns of speakers.
    codes : int64, shape (n,)
        The speaker of each row.
    moved, left : set of int
        Speakers whose predictions outside the inner folds were shifted, and kept as they are.
    """

    fits: Fitting
    problem: Problem
    X: NDArray[np.float32]
    codes: NDArray[np.int64]
    moved: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)

    def __call__(self, fits: Sequence[Fit]) -> list[Fitted]:
        """Run fits; results in their order."""
        alike: dict[tuple[int, int], list[Likeness]] = {}  # fits of a fold have the same arrays
        k = self.problem.head.shift_k

        def of(train: Positions, test: Positions) -> list[Likeness]:
            key = id(train), id(test)
            if key not in alike:
                alike[key] = likenesses(self.X, self.codes, train, test, k)
            return alike[key]

        return [
            replace(
                fitted,
                outputs=[
                    self._shifted(fit, values, of(fit.train, test))
                    for values, test in zip(fitted.outputs, fit.tests, strict=True)
                ],
            )
            for fit, fitted in zip(fits, self.fits(fits), strict=True)
        ]

    def _shifted(self, fit: Fit, values: Floats, speakers: Sequence[Likeness]) -> Floats:
        result, least = values.copy(), self.problem.head.shift_similarity
        for each in speakers:
            far = least is not None and each.similarity < least
            if not fit.inner:
                (self.left if far else self.moved).add(each.speaker)
            if not far:
                truths = self.problem.y[np.ix_(each.rows, np.array(fit.columns))]
                result[each.at] = shifted(values[each.at], truths)
        return result

    def notes(self) -> list[str]:
        """How many speakers were shifted, for people."""
        held = counted(len(self.moved | self.left), "held-out speaker")
        text = f"shift = 'pldc': predictions of {len(self.moved)} of {held} were shifted by mean "
        text += "and deviation of all their held-out predictions: this uses unlabelled test data"
        if self.left:
            text += f"; {len(self.left)} keep theirs: their neighbours are less alike than "
            text += f"shift_similarity = {self.problem.head.shift_similarity:g}"
        return [text]


def shifted_fits(problem: Problem, matrix: Matrix, fits: Fitting) -> ShiftedFits | None:
    """What runs fits and shifts, where the head asks for it.

    Parameters
    ----------
    problem : Problem
    matrix : Matrix
        Of the problem's rows; all speakers are known.
    fits : callable
    """
    if problem.head.shift is None:
        return None
    _, codes = np.unique(matrix.groups.astype(str), return_inverse=True)
    return ShiftedFits(fits, problem, matrix.X, codes.astype(np.int64))


def check_shift(head: HeadSpec, matrix: Matrix, plan: SplitPlan, table: str) -> list[str]:
    """Refuse a shift that no held-out speaker is there for.

    Parameters
    ----------
    head : HeadSpec
    matrix : Matrix
    plan : SplitPlan
    table : str
        What the head's table is called.

    Returns
    -------
    list of str
        A line where there are fewer fitted speakers than neighbours are asked for; nothing of a
        head without a shift.

    Raises
    ------
    RecipeError
        Every test speaker of every outer fold has fitted rows.
    RunError
        The speaker of a row is unknown.
    """
    if head.shift is None:
        return []
    codes, _ = speaker_codes(matrix.rows, matrix.groups, f"[{table}] shift", head.shift)
    fewest, new = np.iinfo(np.int64).max, 0
    for fold in plan.folds:
        fitted = np.unique(codes[np.concatenate([fold.train, fold.devel])])
        held = np.setdiff1d(codes[fold.test], fitted)
        new += len(held)
        fewest = min(fewest, len(fitted)) if len(held) else fewest
    if not new:
        raise RecipeError(
            f"[{table}] shift = {head.shift!r}: every test speaker has fitted rows, there is "
            "nobody to shift; choose a [split] that holds speakers out, or leave it out"
        )
    if fewest < head.shift_k:
        return [
            f"shift_k = {head.shift_k}: a fold has {counted(int(fewest), 'fitted speaker')}, all "
            "of them are neighbours"
        ]
    return []
