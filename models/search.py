"""Grid search over any scikit-learn pipeline, on all cores.

Conventions
-----------
- Every fitted step, the scaler too, is fitted inside its fold.
- A cell's score is the mean over the inner folds. Higher is better: errors are negated. Ties go to
  the first cell in grid order; a score that is NaN in any fold never wins.
- What a head gives is one column a target, or one column a class in the order of the label list:
  one-vs-rest decision values, (-d, d) for two classes. A class that the fitted rows lack has NaN.
- The cores go to processes or to threads of ours, never to BLAS: no number depends on how many.
- Fits of the same rows share their work where that gives the same predictions: linear heads by
  their Gram matrices (`linear_fits`), the others in the ways of `models.shared`.
  `models.fits.route` says who fits what.
- Must not import torch, nor anything that does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.multioutput import MultiOutputRegressor

from evaluate.metrics import metrics
from features.common.errors import RunError
from features.splits.plan import Fold
from features.splits.truths import check_fold, why_undefined
from models.fits import Fitting
from models.heads import GridCell, cells
from models.problem import Fit, Positions, Problem
from models.single import Fitted

MOST_VALUES = 2**25
"""Held-out predictions of all cells that searches are batched up to: 256 MB."""
MOST_POSITIONS = 2**25
"""Positions of rows that fits are batched up to: 256 MB."""

Sides = tuple[Positions, Positions]
"""The rows that are fitted and those that are held out."""


def decide(scores: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.object_]:
    """The label of the highest score of each row; the first in the list where scores tie.

    Parameters
    ----------
    scores : float64, shape (n, n_labels)
        NaN for a class that cannot be chosen.
    """
    return np.asarray(labels, dtype=object)[np.nanargmax(scores, axis=1)]


def _nmse(truth: NDArray[Any], values: NDArray[np.float64]) -> float:
    return -metrics.mse(truth, values)


def _nmae(truth: NDArray[Any], values: NDArray[np.float64]) -> float:
    return -metrics.mae(truth, values)


SELECTION: Mapping[str, Callable[..., float]] = MappingProxyType(
    {
        "nmse": _nmse,
        "nmae": _nmae,
        "spearman": metrics.spearman,
        "ccc": metrics.ccc,
        "uar": metrics.uar,
        "wa": metrics.wa,
        "macro-f1": metrics.macro_f1,
    }
)


def selection_scores(
    select: str, truth: NDArray[Any], values: NDArray[np.float64], labels: tuple[str, ...]
) -> NDArray[np.float64]:
    """Score predictions for the choice of a cell; higher is better.

    Parameters
    ----------
    select : str
        Key of `SELECTION`.
    truth : float64, shape (n, n_targets), or str, shape (n,)
    values : float64, shape (n, n_targets) or (n, n_labels)

    Returns
    -------
    float64, shape (n_targets,), or (1,) for classes
        NaN where the score is undefined. The score over all targets is its mean, as that of
        scikit-learn's multi-output scorers.
    """
    score = SELECTION[select]
    with warnings.catch_warnings():
        # Thousands of cells: an undefined score shows as an empty field of the search table.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        if labels:
            return np.array([score(truth, decide(values, labels), labels)])
        return np.array([score(truth[:, i], values[:, i]) for i in range(truth.shape[1])])


@dataclass(frozen=True)
class Choice:
    """The outcome of one search.

    Attributes
    ----------
    cells : list of GridCell
        The chosen cell of each target; of one element where one choice serves all.
    scores : list of float
        Selection score of each.
    table : DataFrame
        One row a cell (and target): cell, scaler, parameters, [target], score, a column
        `score_<fold>` each inner fold, chosen; where fits have stopped at the limit of iterations,
        `at_limit` counts them.
    positions : int64, shape (m,)
        The inner folds' test rows, ascending.
    values : float64, shape (m, n_targets) or (m, n_labels)
        Their predictions by the chosen cells, fitted without them.
    """

    cells: list[GridCell]
    scores: list[float]
    table: pd.DataFrame
    positions: Positions
    values: NDArray[np.float64]

    def without_rows(self) -> Choice:
        """The same choice, for whoever keeps those of many folds."""
        return replace(self, positions=np.empty(0, np.int64), values=np.empty((0, 0)))


@dataclass(frozen=True)
class Inner:
    """The folds of one search, and what errors call it.

    Attributes
    ----------
    folds : sequence of Fold
        Their test parts are disjoint.
    where : str
    scored : bool, shape (n,), or None
        Rows that count in the score, where test parts hold rows without a truth.
    """

    folds: Sequence[Fold]
    where: str
    scored: NDArray[np.bool_] | None = None

    def at(self, fold: Fold) -> str:
        """What errors call one fold."""
        several = len(self.folds) > 1
        return f"{self.where}, inner fold {fold.name}" if several else self.where


def search(
    problem: Problem,
    folds: Sequence[Fold],
    fits: Fitting,
    where: str,
    scored: NDArray[np.bool_] | None = None,
) -> Choice:
    """Evaluate all cells on all inner folds and choose: `searches` of one.

    Parameters
    ----------
    problem : Problem
    folds : sequence of Fold
    fits : callable
        Runs fits.
    where : str
        What titles and errors begin with.
    scored : bool, shape (n,), optional
        Rows that count for the score; default all.

    Returns
    -------
    Choice
    """
    (choice,) = searches(problem, [Inner(folds, where, scored)], fits)
    return choice


def searches(problem: Problem, inners: Sequence[Inner], fits: Fitting) -> list[Choice]:
    """Evaluate all cells on all inner folds of several searches, and choose in each.

    Raises
    ------
    RunError
        A fold cannot be fitted or scored, or no cell has a score.
    """
    return list(search_each(problem, inners, fits))


def search_each(problem: Problem, inners: Sequence[Inner], fits: Fitting) -> Iterator[Choice]:
    """As `searches`, each choice as soon as it is made.

    As many searches as `MOST_VALUES` and `MOST_POSITIONS` allow are one batch of fits, so that all
    cores have work; the rows of their folds are made for that batch alone.

    Parameters
    ----------
    problem : Problem
    inners : sequence of Inner
    fits : callable
        Runs fits.

    Yields
    ------
    Choice
        In the order of `inners`.

    Raises
    ------
    RunError
        A fold cannot be fitted, or none of its rows has a truth; before any fit.
    """
    for inner in inners:
        for fold in inner.folds:
            check_fold(problem.y, problem.names, fold.train, inner.at(fold))
            if inner.scored is not None and not inner.scored[fold.test].any():
                raise RunError(f"{inner.at(fold)}: no row to score the cells by has a truth")
    width = len(cells(problem.head)) * len(problem.names)
    left = list(inners)
    while left:
        batch: list[tuple[Inner, list[Sides]]] = []
        n_values = n_positions = 0
        for inner in left:
            sides = [(fold.train, fold.test) for fold in inner.folds]
            n_values += width * sum(len(test) for _, test in sides)
            n_positions += sum(len(train) + len(test) for train, test in sides)
            if batch and (n_values > MOST_VALUES or n_positions > MOST_POSITIONS):
                break
            batch.append((inner, sides))
        left = left[len(batch) :]
        done = iter(fits([fit for inner, sides in batch for fit in _plan(problem, inner, sides)]))
        yield from [_choose(problem, inner, sides, done) for inner, sides in batch]


def _plan(problem: Problem, inner: Inner, sides: Sequence[Sides]) -> list[Fit]:
    """The fits of one search: cells outermost, then folds, then columns.

    Fits of a fold have the same arrays, which is how their work is shared.
    """
    parts = [
        (train, (test,), inner.at(fold))
        for fold, (train, test) in zip(inner.folds, sides, strict=True)
    ]
    return [
        problem.fit(cell, column, train, tests, where, search=inner.where, inner=True)
        for cell in cells(problem.head)
        for train, tests, where in parts
        for column in problem.columns
    ]


def _choose(
    problem: Problem, inner: Inner, sides: Sequence[Sides], done: Iterator[Fitted]
) -> Choice:
    """Score the cells of one search, whose fits come in the order of `_plan`."""
    head, grid, columns, folds = problem.head, cells(problem.head), problem.columns, inner.folds
    held_out: list[list[NDArray[np.float64]]] = []  # cell, fold
    stopped = [0] * len(grid)
    by_fold = np.empty((len(grid), len(folds), 1 if problem.labels else len(problem.names)))
    for cell in grid:
        held_out.append([])
        for i, (_, test) in enumerate(sides):
            fitted = [next(done) for _ in columns]
            values = np.concatenate([result.outputs[0] for result in fitted], axis=1)
            held_out[-1].append(values)
            stopped[cell.index] += sum(result.stopped for result in fitted)
            counts = slice(None) if inner.scored is None else inner.scored[test]
            by_fold[cell.index, i] = selection_scores(
                head.select, problem.y[test][counts], values[counts], problem.labels
            )
    by_target = by_fold
    if not head.per_target:
        by_fold = by_fold.mean(axis=2, keepdims=True)
    mean = by_fold.mean(axis=1)
    names = problem.names if head.per_target else ("",)
    undefined = [name for name, scores in zip(names, mean.T, strict=True) if np.isnan(scores).all()]
    if undefined:
        of = f" of {', '.join(undefined)}" if head.per_target else ""
        raise RunError(
            f"{inner.where}: the score '{head.select}' is undefined for every cell{of}: "
            f"{_reason(problem, inner, sides, np.asarray(np.isnan(by_target).all(axis=0)))}"
        )
    best = np.nanargmax(mean, axis=0)
    tests = [test for _, test in sides]
    order = np.argsort(np.concatenate(tests), kind="stable")
    chosen = [np.concatenate(held_out[index])[order] for index in best]
    if head.per_target:
        chosen = [np.column_stack([values[:, i] for i, values in enumerate(chosen)])]
    return Choice(
        [grid[index] for index in best],
        [float(mean[index, i]) for i, index in enumerate(best)],
        _table(grid, [fold.name for fold in folds], by_fold, best, names, stopped),
        np.concatenate(tests)[order],
        chosen[0],
    )


def _reason(
    problem: Problem, inner: Inner, sides: Sequence[Sides], undefined: NDArray[np.bool_]
) -> str:
    """Why no cell of a search has a score, and what to do."""
    if not problem.labels:
        scored = [test if inner.scored is None else test[inner.scored[test]] for _, test in sides]
        named = [
            (inner.at(fold), train, test)
            for fold, (train, _), test in zip(inner.folds, sides, scored, strict=True)
        ]
        if found := why_undefined(problem.y, problem.names, named, undefined):
            return (
                f"a constant truth: {found}; leave the target out, choose another [split], or "
                "select by another score"
            )
    return "constant truths or predictions; widen [head] grid or select by another score"


def _table(
    grid: Sequence[GridCell],
    folds: Sequence[str],
    by_fold: NDArray[np.float64],
    best: NDArray[np.int64],
    names: Sequence[str],
    stopped: Sequence[int],
) -> pd.DataFrame:
    rows = []
    for cell in grid:
        for i, name in enumerate(names):
            row: dict[str, Any] = {"cell": cell.index, "scaler": cell.scaler, **cell.params}
            if name:
                row["target"] = name
            scores = by_fold[cell.index, :, i]
            row["score"] = scores.mean()
            row.update((f"score_{fold}", value) for fold, value in zip(folds, scores, strict=True))
            row["chosen"] = bool(best[i] == cell.index)
            if any(stopped):  # elsewhere the table has no such column
                row["at_limit"] = stopped[cell.index]
            rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Refit:
    """Chosen cells (one, or one a target) to fit to `train` and apply at each of `tests`."""

    cells: Sequence[GridCell]
    train: Positions
    tests: tuple[Positions, ...] = ()
    where: str = ""
    keep: bool = False
    search: str = ""
    """What chose the cells, as `Inner.where` has it."""


def refit(
    problem: Problem, refits: Iterable[Refit], fits: Fitting
) -> list[tuple[list[NDArray[np.float64]], Any]]:
    """Fit chosen cells, as many as `MOST_POSITIONS` allows in one batch.

    Parameters
    ----------
    refits : iterable of Refit
        May make their rows as they are asked for.

    Returns
    -------
    list of (predictions at each of `tests`, head or None)
        The head of a regression has `predict(X)` of shape (n, n_targets), that of a classification
        is its pipeline.
    """
    results: list[tuple[list[NDArray[np.float64]], Any]] = []
    batch: list[Refit] = []
    n_positions = 0
    for wanted in refits:
        check_fold(problem.y, problem.names, wanted.train, wanted.where)
        size = len(wanted.train) + sum(map(len, wanted.tests))
        if batch and n_positions + size > MOST_POSITIONS:
            results += _refit(problem, batch, fits)
            batch, n_positions = [], 0
        batch.append(wanted)
        n_positions += size
    return results + _refit(problem, batch, fits)


def _refit(
    problem: Problem, refits: Sequence[Refit], fits: Fitting
) -> list[tuple[list[NDArray[np.float64]], Any]]:
    plans = []
    for wanted in refits:
        columns = problem.columns
        if len({cell.index for cell in wanted.cells}) > 1:
            columns = [(target,) for target in range(len(problem.names))]
        plans.append(
            [
                problem.fit(
                    wanted.cells[column[0] if len(wanted.cells) > 1 else 0],
                    column,
                    wanted.train,
                    wanted.tests,
                    f"{wanted.where}, chosen",
                    wanted.keep,
                    wanted.search,
                )
                for column in columns
            ]
        )
    done = iter(fits([fit for plan in plans for fit in plan]))
    results: list[tuple[list[NDArray[np.float64]], Any]] = []
    for wanted, plan in zip(refits, plans, strict=True):
        fitted = [next(done) for _ in plan]
        values = [
            np.concatenate([each.outputs[i] for each in fitted], axis=1)
            for i in range(len(wanted.tests))
        ]
        results.append(
            (values, _joined([each.pipeline for each in fitted]) if wanted.keep else None)
        )
    return results


def _joined(pipelines: Sequence[Any]) -> Any:
    """One head out of one pipeline a target."""
    if len(pipelines) == 1:
        return pipelines[0]
    # scikit-learn's own type, so that a saved head needs none of ours; each target has its own
    # fitted pipeline, and with per_target its own cell.
    head = MultiOutputRegressor(clone(pipelines[0]))
    head.estimators_ = list(pipelines)
    head.n_features_in_ = pipelines[0][-1].n_features_in_  # a scaler may be "passthrough"
    return head
