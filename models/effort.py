"""What a run will take, said before its first fit where that is more than a person means."""

from __future__ import annotations

from features.common.words import counted
from features.splits.folds import SplitPlan
from models.heads import cells
from models.problem import Problem

MANY_FITS = 20_000
"""A recipe of a paper has some hundreds; ten times the largest of the recipes that are shipped."""
MANY_ROWS = 20_000_000
"""Rows of `inner.csv`: some 2 GB."""
BYTES_A_ROW = 60
"""About, of the names; a number takes some 20 more."""


def count_fits(problem: Problem, plan: SplitPlan) -> int:
    """How many fits a run takes (one or two fewer where a refit serves twice)."""
    n_refits = len(plan.folds) + 1
    n_searched = plan.n_searched * len(cells(problem.head))
    return (n_searched + n_refits) * len(problem.columns)


def warning(problem: Problem, plan: SplitPlan) -> str:
    """Say what a plan takes, and what to change; empty where it is no more than usual.

    Parameters
    ----------
    problem : Problem
    plan : SplitPlan

    Returns
    -------
    str
    """
    n_fits = count_fits(problem, plan)
    n_rows = 0
    if len(plan.folds) > 1:
        n_rows = sum(len(fold.train) for fold in plan.folds)
    if n_fits <= MANY_FITS and n_rows <= MANY_ROWS:
        return ""
    n_cells, n_columns = len(cells(problem.head)), len(problem.columns)
    each = f" x {counted(n_columns, 'target')}" if n_columns > 1 else ""
    text = (
        f"{n_fits:,} fits to come: {counted(len(plan.folds), 'outer fold')}, "
        f"{plan.n_searched:,} inner folds x {counted(n_cells, 'cell')}{each}; how long they take "
        "is said when the first are done"
    )
    if n_rows > MANY_ROWS:
        n_numbers = len(problem.names) * (1 if problem.labels else 2)
        gigabytes = n_rows * (BYTES_A_ROW + 20 * n_numbers) / 1e9
        text += f". inner.csv will have {n_rows:,} rows, about {gigabytes:,.0f} GB"
    if len(plan.folds) > 1:
        text += ". Fewer: [split] outer = 'speaker-k-fold' has outer_folds of them"
    return text
