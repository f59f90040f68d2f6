"""What is fitted in which order: one division into train, devel and test, or a cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs.folders import ALL
from features.common.findings import some
from features.matrix import Matrix
from features.splits.folds import Fold, SplitPlan
from models.fits import Fitting
from models.outputs import prediction_rows
from models.problem import Problem
from models.search import Choice, Inner, Refit, refit, search, search_each, searches
from models.spool import Spool


@dataclass
class ProtocolResult:
    """What a protocol gives."""

    predictions: list[pd.DataFrame] = field(default_factory=list)
    choices: dict[str, Choice] = field(default_factory=dict)
    head: Any = None
    notes: list[str] = field(default_factory=list)


def one_fold(
    problem: Problem,
    matrix: Matrix,
    plan: SplitPlan,
    known: NDArray[np.bool_],
    fits: Fitting,
    inner: Spool,
) -> ProtocolResult:
    """One division into train, devel and test.

    Parameters
    ----------
    problem : Problem
    matrix : Matrix
        The rows that predictions are written for.
    plan : SplitPlan
        Of one outer fold.
    known : bool, shape (n,)
        Rows with a truth.
    fits : callable
        Runs fits.
    inner : Spool
        Gets the rows of inner.csv.

    Returns
    -------
    ProtocolResult
        `head` is fitted on all rows with a truth.
    """
    rows, outcome = matrix.rows, ProtocolResult()
    (fold,) = plan.folds
    learn, devel, test = fold.train, fold.devel, fold.test
    everything = np.flatnonzero(known)
    both = np.sort(np.concatenate([learn, devel[known[devel]]]))
    wanted: dict[str, Refit] = {}
    searched = "train" if plan.final else "devel"
    if not plan.final:
        choice = last = search(problem, plan.inner[0], fits, searched, known)
        # The chosen cell was fitted on train and applied to devel already: no fit to repeat.
        outcome.predictions.append(
            prediction_rows(problem, rows, devel, "devel", fold.name, choice.values)
        )
        inner.add(fold.name, outcome.predictions[0])
        outcome.choices = {fold.name: choice}
    else:
        inners = [Inner(plan.inner[0], searched), Inner(plan.final, ALL)]
        choice, last = searches(problem, inners, fits)
        predictions = prediction_rows(
            problem, rows, choice.positions, "inner", fold.name, choice.values
        )
        inner.add(fold.name, predictions)
        outcome.choices = {fold.name: choice, ALL: last}
        if len(devel):
            wanted["devel"] = Refit(choice.cells, learn, (devel,), "train", search="train")
    if len(test):
        wanted["test"] = Refit(choice.cells, both, (test,), "train + devel", search=searched)
    if len(test) and last.cells == choice.cells and np.array_equal(both, everything):
        wanted["test"] = replace(wanted["test"], keep=True)  # masked test: it is the head itself
    else:
        of_all = ALL if plan.final else searched
        wanted[ALL] = Refit(last.cells, everything, (), "all rows", keep=True, search=of_all)
    fitted = refit(problem, list(wanted.values()), fits)
    for (name, refitted), (values, head) in zip(wanted.items(), fitted, strict=True):
        outcome.head = head if head is not None else outcome.head
        for held in refitted.tests:
            outcome.predictions.append(
                prediction_rows(problem, rows, held, name, fold.name, values[0])
            )
    outcome.notes = [
        *_unseen(problem, Fold("devel", learn, devel)),
        *_unseen(problem, Fold("test", both, test)),
    ]
    return outcome


def cross_validation(
    problem: Problem,
    matrix: Matrix,
    plan: SplitPlan,
    known: NDArray[np.bool_],
    fits: Fitting,
    inner: Spool,
) -> ProtocolResult:
    """Outer folds with a choice each; the refits of all of them are one batch.

    The rows of a fold, and what is predicted of its inner folds, are held for the fold's own batch
    alone: of many folds they are far more than the matrix.

    Parameters
    ----------
    problem : Problem
    matrix : Matrix
        The rows that predictions are written for.
    plan : SplitPlan
        Of several outer folds.
    known : bool, shape (n,)
        Rows with a truth.
    fits : callable
        Runs fits.
    inner : Spool
        Gets the rows of inner.csv.

    Returns
    -------
    ProtocolResult
        `head` is fitted on all rows with a truth.
    """
    rows, outcome = matrix.rows, ProtocolResult()
    everything = np.flatnonzero(known)
    inners = [
        Inner(folds, f"outer fold {fold.name}")
        for fold, folds in zip(plan.folds, plan.inner, strict=True)
    ]
    inners.append(Inner(plan.final, ALL))
    names = [*(fold.name for fold in plan.folds), ALL]
    for name, choice in zip(names, search_each(problem, inners, fits), strict=True):
        if name != ALL:
            inner.add(
                name, prediction_rows(problem, rows, choice.positions, "inner", name, choice.values)
            )
        outcome.choices[name] = choice.without_rows()

    def wanted() -> Iterator[Refit]:
        for fold, searched in zip(plan.folds, inners[:-1], strict=True):
            outcome.notes.extend(_unseen(problem, fold))
            yield Refit(
                outcome.choices[fold.name].cells, fold.train, (fold.test,), searched.where,
                search=searched.where,
            )  # fmt: skip
        yield Refit(outcome.choices[ALL].cells, everything, (), "all rows", keep=True, search=ALL)

    *fitted, (_, outcome.head) = refit(problem, wanted(), fits)
    for fold, (values, _) in zip(plan.folds, fitted, strict=True):
        outcome.predictions.append(
            prediction_rows(problem, rows, fold.test, fold.partition, fold.name, values[0])
        )
    return outcome


def _unseen(problem: Problem, fold: Fold) -> list[str]:
    """Classes that a head which predicts has not seen."""
    fitted_on = problem.y[fold.train]
    unseen = [label for label in problem.labels if not (fitted_on == label).any()]
    if not unseen or not len(fold.test):
        return []
    return [f"{fold.name}: no row to fit on is of {some(unseen)}; they get no score"]
