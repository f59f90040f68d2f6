"""What a head is fitted on: rows, truths, folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from features.recipe.head import HeadSpec
from features.recipe.known.heads import HEADS
from features.sequences import Sequences
from models.heads import GridCell, pipeline

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class SpeakerColumns:
    """The columns of speakers behind those of a matrix.

    Attributes
    ----------
    names : tuple of str
        Speakers in the order of their codes.
    n_means : int
        Columns of MFCC means; 0 of a table.
    """

    names: tuple[str, ...]
    n_means: int = 0

    @property
    def n_columns(self) -> int:
        """All of them."""
        return self.n_means + 1


@dataclass(frozen=True)
class Problem:
    """What heads are fitted on.

    Attributes
    ----------
    X : float32, shape (n, n_columns)
    y : float64, shape (n, n_targets), or str, shape (n,)
    names : tuple of str
        Targets, or the ordered label list.
    head : HeadSpec
        `[head]` of the recipe.
    weights : float64, shape (n_columns,), or None
        What each column is multiplied by behind the scaler.
    speakers : SpeakerColumns or None
        The last columns of `X`, where the head takes any of speakers.
    frames : Sequences or None
        The frames of the rows, of a head that takes them; `X` then has no columns.
    shares : float64, shape (n, n_labels), or None
        Votes that networks are fitted to beside labels (`features.shares`).
    """

    X: NDArray[np.float32]
    y: NDArray[Any]
    names: tuple[str, ...]
    head: HeadSpec
    weights: NDArray[np.float64] | None = None
    speakers: SpeakerColumns | None = None
    frames: Sequences | None = None
    shares: NDArray[np.float64] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The label list; empty for regression."""
        return self.names if self.y.ndim == 1 else ()

    @property
    def columns(self) -> list[tuple[int, ...]]:
        """The targets that are fitted together; one empty tuple for classes."""
        if self.labels:
            return [()]
        every = tuple(range(len(self.names)))
        return [every] if HEADS[self.head.kind].several else [(target,) for target in every]

    def pipeline(self, cell: GridCell) -> Pipeline:
        """The unfitted pipeline of one cell."""
        return pipeline(self.head, cell, self.weights)

    def fit(
        self,
        cell: GridCell,
        columns: tuple[int, ...],
        train: Positions,
        tests: tuple[Positions, ...],
        where: str,
        keep: bool = False,
        search: str = "",
        inner: bool = False,
    ) -> Fit:
        """One fit of a cell.

        Parameters
        ----------
        cell : GridCell
        columns : tuple of int
            Targets to fit; empty for classes.
        train : int64, shape (n_train,)
            Positions of rows.
        tests : tuple of int64, shape (n_test,)
            Positions of rows to predict.
        where : str
            What its title begins with.
        keep : bool
            Whether the fitted pipeline is wanted.
        search : str
            The search that the cell is of.
        inner : bool
            Whether `tests` are the inner rows of that search, by which the cell is chosen.

        Returns
        -------
        Fit
            A description: nothing is fitted yet.
        """
        target = f", {self.names[columns[0]]}" if len(columns) == 1 < len(self.names) else ""
        limited = "max_iter" not in {**self.head.fixed, **self.head.grid}
        title = f"{where}{target}: {cell}"
        return Fit(
            self.pipeline(cell), columns, train, tests, keep, title, limited,
            (search, cell.index), inner,
        )  # fmt: skip


Result = TypeVar("Result")


@dataclass(frozen=True)
class Fit:
    """One fit: a pipeline on `columns` of y at `train`, applied at each array of `tests`.

    `title` is what the line of progress calls it; `limited` says whether a solver without a limit
    of iterations gets the default one. `cell` is a search with the number of the cell in it, and
    `inner` says that `tests` are the inner rows of that search.
    """

    pipeline: Pipeline
    columns: tuple[int, ...]
    train: Positions
    tests: tuple[Positions, ...]
    keep: bool = False
    title: str = ""
    limited: bool = True
    cell: tuple[str, int] = ("", 0)
    inner: bool = False
