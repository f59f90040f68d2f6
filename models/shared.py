"""Fits of one scaler and the same rows that share what is costly: kernels, covariances, neighbours.

Conventions
-----------
- A way of sharing is one record of `WAYS`: which heads it serves, what stands against it, and how
  a group of fits is run. Groups run side by side in threads, with one BLAS thread each.
- The steps before the head are fitted once a group, in float64, on the fold's own training rows.
- None in the place of a result leaves that fit to the pipeline, which is counted and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from features.common.errors import RunError
from models import limits
from models.exact import discriminants, kernel_grid, neighbours
from models.exact.neighbours import CosineNeighbours
from models.heads import two_sided
from models.limits import UnderWay
from models.problem import Fit
from models.single import Fitted, apply, by_label, truth_of

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Fits of one scaler, `train` and `tests`, and the matrix that they are of.

    Attributes
    ----------
    X : float32, shape (n, n_columns)
    y : float64, shape (n, n_targets), or str, shape (n,)
    labels : tuple of str
        The label list; empty for regression.
    fits : sequence of Fit
    now : UnderWay
    """

    X: NDArray[np.float32]
    y: NDArray[Any]
    labels: tuple[str, ...]
    fits: Sequence[Fit]
    now: UnderWay

    @property
    def heads(self) -> list[Any]:
        """The unfitted head of each fit."""
        return [fit.pipeline["head"] for fit in self.fits]

    @property
    def truth(self) -> NDArray[Any]:
        """Of the training rows, for fits that learn the same."""
        return truth_of(self.y, self.fits[0])

    def rows(self) -> tuple[Rows, list[Rows]]:
        """The training rows, and those of each test part, in float64."""
        first = self.fits[0]
        train = self.X[first.train].astype(np.float64)
        return train, [self.X[test].astype(np.float64) for test in first.tests]

    def scaled(self) -> tuple[Pipeline, Rows, list[Rows]]:
        """The fitted steps before the head, the training rows and those of each test part."""
        train, tests = self.rows()
        steps = clone(self.fits[0].pipeline[:-1]).fit(train)
        # An empty part has no row to transform, and scikit-learn refuses it.
        return steps, steps.transform(train), [steps.transform(t) if len(t) else t for t in tests]


@dataclass(frozen=True)
class Way:
    """One way to share the work of fits.

    Attributes
    ----------
    heads : tuple of type
    obstacle : callable
        Of a head and the number of rows: why scikit-learn fits it; empty where it is shared.
    run : callable
        The result of each fit of a group; None leaves it to scikit-learn.
    lost : str
        What is said where it does.
    keeps : bool
        Whether it can give the fitted pipeline; else what is kept is fitted by scikit-learn.
    divides : bool
        Whether a group may be cut where threads would have no work; the cells are costly then, not
        what they share.
    """

    heads: tuple[type, ...]
    obstacle: Callable[[Any, int], str]
    run: Callable[[Group], list[Fitted | None]]
    lost: str = ""
    keeps: bool = False
    divides: bool = False


def over_kernels(group: Group) -> list[Fitted | None]:
    """SVC and SVR, over the kernels of `kernel_grid.kernels`.

    Parameters
    ----------
    group : Group

    Returns
    -------
    list of Fitted or None
        In the order of the fits; None is left to scikit-learn.
    """
    fits, heads = group.fits, group.heads
    done: dict[int, Fitted | None] = {}
    for i, matrices in kernel_grid.kernels(fits[0].pipeline[:-1], heads, *group.rows()):
        if matrices is None:
            done[i] = None
            continue
        head = clone(heads[i]).set_params(kernel="precomputed")
        with (
            group.now.fitting(fits[i].title),
            limits.limited(head, len(fits[i].train), fits[i].limited),
        ):
            head.fit(matrices[0], truth_of(group.y, fits[i]))
            stopped = limits.reached(head)
        values = [apply(head, matrix, group.labels) for matrix in matrices[1:]]
        done[i] = Fitted(values, None, Counter(), stopped)
    return [done[i] for i in range(len(fits))]


def over_covariances(group: Group) -> list[Fitted | None]:
    """LinearDiscriminantAnalysis, over one covariance.

    Parameters
    ----------
    group : Group

    Returns
    -------
    list of Fitted or None
        In the order of the fits; None is left to scikit-learn.

    Raises
    ------
    RunError
        There are no more rows than classes.
    """
    fits, heads = group.fits, group.heads
    with group.now.fitting(fits[0].title):
        steps, train, tests = group.scaled()
        side = discriminants.Side(train, group.truth)
        if len(train) == len(side.classes):
            raise RunError(f"{fits[0].title}: {len(train)} rows to fit on, each of another class")
        results: list[Fitted | None] = []
        for i, found in side.discriminants([head.shrinkage for head in heads]):
            if found is None:
                results.append(None)
                continue
            values = [by_label(_two(found.scores(t)), side.classes, group.labels) for t in tests]
            head = discriminants.fitted(heads[i], side, found) if fits[i].keep else None
            pipeline = Pipeline([*steps.steps, ("head", head)]) if head else None
            results.append(Fitted(values, pipeline, Counter()))
    return results


def _two(scores: Rows) -> Rows:
    """Decision values: of two classes (-d, d), as every head gives them."""
    return two_sided(scores[:, 1] - scores[:, 0]) if scores.shape[1] == 2 else scores


def over_neighbours(group: Group) -> list[Fitted | None]:
    """CosineNeighbours, over one matrix of distances.

    Parameters
    ----------
    group : Group

    Returns
    -------
    list of Fitted or None
        In the order of the fits; None is left to scikit-learn.
    """
    ks = [head.n_neighbors for head in group.heads]
    with group.now.fitting(group.fits[0].title):
        _, train, tests = group.scaled()
        classes, member = np.unique(group.truth, return_inverse=True)
        known = neighbours.directions(train)
        counts = [neighbours.votes(test, known, member, ks) for test in tests]
    return [
        Fitted(
            [
                by_label(neighbours.scores(each[i], k), classes, group.labels)
                for each in counts
            ],
            None,
            Counter(),
        )
        for i, k in enumerate(ks)
    ]  # fmt: skip


def refuse_few_rows(fit: Fit) -> None:
    """Refuse more neighbours than a fold has rows.

    Parameters
    ----------
    fit : Fit

    Raises
    ------
    RunError
    """
    head = fit.pipeline["head"]
    if not isinstance(head, CosineNeighbours):
        return
    if refusal := neighbours.misfit(head.n_neighbors, len(fit.train)):
        raise RunError(
            f"{fit.title}: {refusal}; name fewer in [head.grid] n_neighbors (by default up to 25)"
        )


def _never(head: Any, n_rows: int) -> str:
    """Nothing stands against it."""
    return ""


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "shared kernels": Way(
            kernel_grid.HEADS,
            kernel_grid.obstacle,
            over_kernels,
            kernel_grid.LOST,
            divides=True,
        ),
        "shared covariances": Way(
            discriminants.HEADS,
            discriminants.obstacle,
            over_covariances,
            discriminants.LOST,
            keeps=True,
        ),
        "shared neighbours": Way((CosineNeighbours,), _never, over_neighbours),
    }
)
