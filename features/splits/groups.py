"""Groups divided over folds: by speaker or session, even or drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RunError
from features.common.words import counted
from features.recipe.split import SplitSpec
from features.splits.faults import coded, refuse_empty, refuse_unknown
from features.splits.folds import Codes, Division, Fold, Positions, smallest
from features.splits.group_folds import dense, drawn_groups, even_groups, stratified_groups


class GroupDivider:
    """Divides whole groups (speakers, sessions or sentences) among k folds.

    Balanced by class (and gender, where asked for), or by count where the truth is no class. Those
    that are hardest to balance are given first, and the seed decides between equals alone; with
    `shuffle` it draws the order, which balances somewhat less.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        y: NDArray[Any],
        split: SplitSpec,
        k: int,
        column: str,
        where: str,
        otherwise: str = "choose another outer",
    ) -> None:
        self._rows, self._split, self._k, self._where = rows, split, k, where
        self._column, self._otherwise = column, otherwise
        self.names, self.promises = [str(fold) for fold in range(k)], (column,)
        groups, self.group = groups_of(rows, column)
        self._n_groups = len(groups)
        strata = y if y.ndim == 1 else None
        if split.balance_gender:
            gender = rows["gender"].to_numpy(str)
            strata = (
                gender if strata is None else np.char.add(np.char.add(y.astype(str), "|"), gender)
            )
        self._strata = None if strata is None else coded(strata)
        corpora, corpus = np.unique(rows["corpus"].to_numpy(str), return_inverse=True)
        self._corpora, self._corpus = [str(name) for name in corpora], corpus

    def codes(self, positions: Positions) -> Codes:
        """The fold of each group.

        Parameters
        ----------
        positions : int64, shape (n_positions,)
            The rows that are divided.

        Returns
        -------
        int, shape (n_groups,)
            0 to k - 1; -1 of a group that none of the rows is of.

        Raises
        ------
        RunError
            Unknown or too few groups.
        """
        refuse_unknown(self._rows, self.group, positions, self._column, self._where)
        fold = np.full(self._n_groups, -1, dtype=np.int64)
        for i, corpus in enumerate(self._corpora):
            part = positions
            if len(self._corpora) > 1:
                part = positions[self._corpus[positions] == i]
            if len(part):
                given, of = self._given(corpus, part)
                refuse_empty(self._where, corpus, np.bincount(of, minlength=self._k))
                fold[given] = of
        return smallest(fold, self._k)

    def _given(self, corpus: str, part: Positions) -> tuple[Positions, Positions]:
        """The groups of one corpus, and the fold of each."""
        groups, member = dense(self.group[part])
        k, seed = self._k, self._split.seed
        if len(groups) < k:
            n = len(groups)
            way_out = f"ask for at most {n} folds" if n > 1 else self._otherwise
            raise RunError(
                f"{self._where}: {corpus} has {counted(n, self._column)} "
                f"among these {counted(len(part), 'utterance')}; {way_out}"
            )
        stratum = np.zeros(len(part), dtype=np.int64)
        if self._strata is not None:
            stratum = dense(self._strata[part])[1]
        if self._split.shuffle:
            return groups, drawn_groups(stratum, member, k, seed)
        if self._strata is None:
            return groups, even_groups(member, k, seed)
        try:
            return groups, stratified_groups(stratum, member, k, seed)
        except ValueError as error:  # scikit-learn's words on too few utterances of a class
            raise RunError(f"{self._where}: {corpus}: {error}") from None

    def folds(self, positions: Positions) -> list[Fold]:
        """The folds of these rows."""
        division = Division(self.codes(positions), self.group, positions)
        return division.folds(self.names, self.promises)


def groups_of(rows: pd.DataFrame, column: str) -> tuple[list[str], Codes]:
    """The sorted names `corpus/value`, and which of them each row has; -1 where it is unknown."""
    known = (rows[column] != "").to_numpy()
    names = (rows["corpus"] + "/" + rows[column]).to_numpy(str)[known]
    found, member = np.unique(names, return_inverse=True)
    codes = np.full(len(rows), -1, dtype=np.int64)
    codes[known] = member
    return [str(name) for name in found], smallest(codes, len(found))
