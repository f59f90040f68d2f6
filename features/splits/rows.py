"""Rows divided over folds, by class."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property

import numpy as np
import pandas as pd

from features.common.errors import RunError
from features.splits.faults import refuse_empty
from features.splits.folds import Codes, Division, Fold, Positions, smallest
from features.utterances import key_order


class RowDivider:
    """Divides the rows of each corpus among k folds and unites the k-th parts.

    Parameters
    ----------
    rows : DataFrame
    k : int
    where : str
        What errors call it.
    divide : callable
        Gets the positions of one corpus, sorted by utterance, and returns k arrays of indices into
        them: the test parts.
    """

    group = None

    def __init__(
        self,
        rows: pd.DataFrame,
        k: int,
        where: str,
        divide: Callable[[Positions], list[Positions]],
    ) -> None:
        self._rows, self._k, self._where, self._divide = rows, k, where, divide
        self.names, self.promises = [str(fold) for fold in range(k)], ()

    @cached_property
    def _order(self) -> list[tuple[str, Positions]]:
        """The rows of each corpus, sorted by utterance."""
        order, corpus = key_order(self._rows), self._rows["corpus"].to_numpy(str)
        names, starts = np.unique(corpus[order], return_index=True)
        return list(zip(map(str, names), np.split(order, starts[1:]), strict=True))

    def codes(self, positions: Positions) -> Codes:
        """The fold of each row of the table; -1 where it is not divided.

        Parameters
        ----------
        positions : int64, shape (n_positions,)
            The rows that are divided.

        Returns
        -------
        int, shape (n_rows,)
            0 to k - 1, or -1.

        Raises
        ------
        RunError
            Too few utterances of every class.
        """
        fold = np.full(len(self._rows), -1, dtype=np.int64)
        wanted = np.zeros(len(self._rows), dtype=bool)
        wanted[positions] = True
        for corpus, order in self._order:
            part = order[wanted[order]]
            if not len(part):
                continue
            with warnings.catch_warnings():
                # Balanced as far as possible: a class of fewer utterances than folds is no fault.
                warnings.filterwarnings("ignore", "The least populated class", UserWarning)
                try:
                    tests = self._divide(part)
                except ValueError as error:  # scikit-learn's words on too few utterances of a class
                    raise RunError(f"{self._where}: {corpus}: {error}") from None
            refuse_empty(self._where, corpus, np.array([len(test) for test in tests]))
            for k, test in enumerate(tests):
                fold[part[test]] = k
        return smallest(fold, self._k)

    def folds(self, positions: Positions) -> list[Fold]:
        """The folds of these rows."""
        return Division(self.codes(positions), None, positions).folds(self.names)
