"""The plan of a run's folds and what was found in it: made once for rows that are the same.

All models of a recipe have the same rows, as long as no store lacks any.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RunError
from features.matrix import has_truth, load_rows
from features.recipe.model import Recipe
from features.splits.folds import SplitPlan
from features.splits.lint import Lint, lint
from features.splits.plan import make_plan


@dataclass(frozen=True)
class DividedRows:
    """Rows, their folds, and what the sides of the folds share.

    Attributes
    ----------
    rows : DataFrame
        Of the utterance tables, index 0..n-1.
    y : float64, shape (n, n_targets), NaN where masked, or str, shape (n,), empty where masked
    plan : SplitPlan
    found : Lint
    """

    rows: pd.DataFrame
    y: NDArray[Any]
    plan: SplitPlan
    found: Lint

    def is_of(self, rows: pd.DataFrame, y: NDArray[Any]) -> bool:
        """Whether these are the rows and truths that were divided."""
        same = self.y.shape == y.shape and np.array_equal(self.y, y, equal_nan=y.dtype.kind == "f")
        return same and self.rows.equals(rows)


class Divisions:
    """Divides the rows of one recipe; the last division serves as long as the rows are the same.

    Parameters
    ----------
    recipe : Recipe
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._last: DividedRows | None = None

    def of(self, rows: pd.DataFrame, y: NDArray[Any], labels: tuple[str, ...]) -> DividedRows:
        """The division of rows.

        Parameters
        ----------
        rows : DataFrame
        y : as of `DividedRows`
        labels : tuple of str
            The class list; empty for regression.

        Raises
        ------
        RunError
            The split cannot be made.
        """
        if self._last is None or not self._last.is_of(rows, y):
            plan = make_plan(rows, y, has_truth(y), self.recipe.split)
            self._last = DividedRows(rows, y, plan, lint(rows, y, labels, plan, self.recipe.split))
        return self._last

    def check(self, stores: Path) -> None:
        """Refuse folds whose sides share what they must not, from the tables alone.

        Raises
        ------
        CorpusError
            A table is missing.
        RunError
            The split cannot be made, or has faults; the recipe's file is named.
        """
        rows, truth, labels = load_rows(self.recipe, stores)
        try:
            division = self.of(rows, truths(truth), labels)
        except RunError as error:
            raise RunError(f"{self.recipe.path}: {error}") from None
        division.found.refuse(self.recipe.path)


def truths(y: NDArray[Any]) -> NDArray[Any]:
    """Truths as heads take them: float64 a target, or text of fixed width."""
    return y if y.ndim == 2 else y.astype(str)
