"""Divisions of rows as codes: what a plan holds, and the rows that its folds make when asked.

Conventions
-----------
- A table has one code a row, or one a group and the group of each row, shared by all folds; a fold
  holds which code it is of. 2,000 folds of 200,000 rows are a few megabytes, their positions are
  gigabytes: whoever walks folds asks for the rows of one at a time, and asks once.
- Positions are int64 and ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from features.common.progress import Progress

Positions = NDArray[np.int64]
Codes = NDArray[np.signedinteger[Any]]
LazyPositions = Positions | Callable[[], Positions]
"""Positions, or what makes them."""

MOST_KEPT = 2**26
"""Bytes of codes that the inner folds of a plan keep; others are made again when asked for."""
FIRST_S = 5.0
"""When a plan that takes long says how long, in seconds."""


def _none() -> Positions:
    return np.empty(0, dtype=np.int64)


class Fold:
    """One division of rows.

    Parameters
    ----------
    name : str
    train, test : LazyPositions
        Positions, or what makes them each time they are asked for.
    devel : LazyPositions
        Rows that a head fitted on `train` predicts, before `test` is predicted by a head that is
        fitted on both; mostly none.
    partition : str
        What the rows of `test` go by in the predictions.
    promises : tuple of str
        Kinds of overlap (`features.recipe.split.OVERLAP_KINDS`) that the split is there to exclude.
    allows : tuple of str
        Kinds that it is there to have.
    """

    def __init__(
        self,
        name: str,
        train: LazyPositions,
        test: LazyPositions,
        devel: LazyPositions = _none,
        partition: str = "test",
        promises: tuple[str, ...] = (),
        allows: tuple[str, ...] = (),
    ) -> None:
        self.name, self.partition = name, partition
        self.promises, self.allows = promises, allows
        self._train, self._test, self._devel = train, test, devel

    @property
    def train(self) -> Positions:
        """Rows to fit on."""
        return _made(self._train)

    @property
    def test(self) -> Positions:
        """Rows that are held out."""
        return _made(self._test)

    @property
    def devel(self) -> Positions:
        """Rows that are held out first and fitted on then."""
        return _made(self._devel)

    def fitted_on(self, known: NDArray[np.bool_]) -> Fold:
        """The same fold, with those rows of `train` alone that are known.

        Parameters
        ----------
        known : bool, shape (n,)
            Of all rows of the table.

        Returns
        -------
        Fold
        """

        def train() -> Positions:
            rows = self.train
            return rows[known[rows]]

        return Fold(
            self.name, train, self._test, self._devel, self.partition, self.promises, self.allows
        )

    def within(self, at: Positions, name: str, partition: str) -> Fold:
        """The same fold of rows that are those at `at` of a larger table, without `devel`."""
        return Fold(
            name, lambda: at[self.train], lambda: at[self.test], _none, partition, self.promises
        )


def _made(rows: LazyPositions) -> Positions:
    return rows() if callable(rows) else rows


@dataclass(frozen=True)
class Division:
    """Rows divided among folds.

    Attributes
    ----------
    codes : int, shape (n,) or (n_groups,)
        The fold of each row of the table, or of each group; negative for none.
    group : int, shape (n,), or None
        The group of each row of the table, negative for none; None where rows have codes
        themselves.
    rows : LazyPositions or None
        What is divided; None is every row.
    """

    codes: Codes
    group: Codes | None = None
    rows: LazyPositions | None = None

    def _of(self, rows: Positions | slice) -> Codes:
        return self.codes[rows] if self.group is None else self.codes[self.group[rows]]

    def test(self, fold: int) -> Positions:
        """The rows of one fold."""
        if self.rows is None:
            return np.flatnonzero(self._of(slice(None)) == fold)
        rows = _made(self.rows)
        return rows[self._of(rows) == fold]

    def train(self, fold: int) -> Positions:
        """The rows of all others."""
        if self.rows is None:
            return np.flatnonzero(self._of(slice(None)) != fold)
        rows = _made(self.rows)
        return rows[self._of(rows) != fold]

    def folds(self, names: Sequence[str], promises: tuple[str, ...] = ()) -> list[Fold]:
        """One a name: fold k holds out the rows of code k."""

        def fold_of(k: int, name: str) -> Fold:
            return Fold(name, lambda: self.train(k), lambda: self.test(k), promises=promises)

        return [fold_of(k, name) for k, name in enumerate(names)]


class Divider(Protocol):
    """Whatever divides rows of a table among folds: `features.splits.plan`."""

    @property
    def group(self) -> Codes | None:
        """The group of each row of the table, where groups have codes."""

    @property
    def names(self) -> list[str]:
        """Of the folds."""

    @property
    def promises(self) -> tuple[str, ...]:
        """Kinds of overlap that the folds are there to exclude."""

    def codes(self, positions: Positions) -> Codes:
        """The codes of a `Division` of these rows."""


class InnerFolds(Sequence[list[Fold]]):
    """The inner folds of each outer fold, made when asked for.

    Parameters
    ----------
    divider : Divider
    folds : sequence of Fold
        The outer folds, whose `train` is divided.

    Raises
    ------
    RunError
        Where one cannot be divided: all are tried here.
    """

    def __init__(self, divider: Divider, folds: Sequence[Fold]) -> None:
        self._divider, self._folds = divider, folds
        self._kept: dict[int, Codes] = {}
        self._room = MOST_KEPT
        self._last: tuple[int, Codes] | None = None
        progress = Progress("inner folds", len(folds), "outer folds", FIRST_S)
        for i in range(len(folds)):
            self._codes(i)
            progress.add(1)
        progress.close()

    def _codes(self, i: int) -> Codes:
        if i in self._kept:
            return self._kept[i]
        if self._last is not None and self._last[0] == i:
            return self._last[1]
        codes = self._divider.codes(self._folds[i].train)
        if codes.nbytes <= self._room:
            self._room -= codes.nbytes
            self._kept[i] = codes
        else:
            self._last = i, codes
        return codes

    def __len__(self) -> int:
        return len(self._folds)

    @overload
    def __getitem__(self, i: int) -> list[Fold]: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[list[Fold]]: ...
    def __getitem__(self, i: int | slice) -> list[Fold] | Sequence[list[Fold]]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        position = range(len(self))[i]
        return [self._fold(position, k) for k in range(len(self._divider.names))]

    def __iter__(self) -> Iterator[list[Fold]]:
        return (self[i] for i in range(len(self)))

    def _fold(self, i: int, k: int) -> Fold:
        outer = self._folds[i]

        def division() -> Division:
            return Division(self._codes(i), self._divider.group, outer.train)

        return Fold(
            self._divider.names[k], lambda: division().train(k), lambda: division().test(k),
            promises=self._divider.promises,
        )  # fmt: skip


@dataclass(frozen=True)
class SplitPlan:
    """All folds of a run.

    Attributes
    ----------
    folds : sequence of Fold
        Outer folds; `train` are the rows with a truth alone.
    inner : sequence of sequence of Fold
        The inner folds of each.
    final : sequence of Fold
        Inner folds of all rows with a truth, for the head that is saved; empty where the choice
        made on `devel` serves it, too.
    notes : list of str
        What is worth knowing about how they were made.
    """

    folds: Sequence[Fold]
    inner: Sequence[Sequence[Fold]]
    final: Sequence[Fold]
    notes: list[str]

    @property
    def single(self) -> bool:
        """Whether there is one fold with a development part of its own."""
        return len(self.folds) == 1 and bool(len(self.folds[0].devel))

    @property
    def n_searched(self) -> int:
        """How many inner folds there are, those for the saved head among them."""
        return sum(map(len, self.inner)) + len(self.final)


def smallest(codes: NDArray[np.int64], n: int) -> Codes:
    """Codes below n (or -1) in the smallest signed type that holds them."""
    for kind in (np.int8, np.int16, np.int32):
        if n <= np.iinfo(kind).max:
            return codes.astype(kind)
    return codes
