"""Fits of linear heads that share rows: LinearSVR, LinearSVC and Ridge without a fit of their own.

Conventions
-----------
- Fits of one training part are columns of one problem (`linear_path`), a setting of the scaler and
  the intercept at a time. What folds have in common is summed once (`gram`): folds are unions of
  disjoint parts, or the whole less some.
- Fewer rows than columns: the basis of the rows, made for each fold from the rows as
  scikit-learn's scaler gives them.
- The minimum is scikit-learn's, whose solvers come to it as near as their `tol` says. `max_iter`,
  `dual`, `random_state` and `solver` say how scikit-learn searches, and change nothing here; `tol`
  is the relative duality gap where the loss is not squared.
- What is kept is scikit-learn's own estimator with the solution set.
- Memory beside the matrix: Gram matrices, at most `BUDGET` and three a fold that is being fitted; a
  block of rows a thread; and where the loss is not ridge regression a float32 copy of the training
  part of each such fold. So many folds at once that their copies stay within four times `BUDGET`.
- Must not import `models.search`, which calls this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.utils import compute_class_weight
from threadpoolctl import ThreadpoolController

from models.exact.gram import (
    Base,
    Basis,
    Matrix,
    Positions,
    RowPart,
    Scaled,
    Sums,
    Team,
    affine,
    fit_scaler,
    sums,
)
from models.exact.linear_path import Columns, solve

HEADS = (LinearSVR, LinearSVC, Ridge)
BUDGET = 2**30
"""Bytes of Gram matrices that are held for folds to be made of."""

LOST = "the search for the minimum gave up; fitted by scikit-learn"


class PathFit(Protocol):
    """A pipeline to fit to rows and apply to others: `models.problem.Fit`."""

    @property
    def pipeline(self) -> Pipeline:
        """Unfitted: `models.heads.pipeline`."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Targets; empty for classes."""

    @property
    def train(self) -> Positions:
        """Rows to fit to, ascending."""

    @property
    def tests(self) -> tuple[Positions, ...]:
        """Parts to apply at."""

    @property
    def keep(self) -> bool:
        """Whether the fitted pipeline is wanted."""


@dataclass(frozen=True)
class PathResult:
    """What a fit gives.

    Attributes
    ----------
    outputs : list of float64, shape (n_test, n_columns) or (n_test, n_labels)
        As of `models.fits.apply`.
    pipeline : Pipeline or None
        scikit-learn's own, fitted; None where it was not asked for.
    done : bool
        False where the search for the minimum gave up.
    """

    outputs: list[Matrix]
    pipeline: Pipeline | None
    done: bool


@dataclass(frozen=True)
class _Setting:
    """What fits must share to be columns of one operator."""

    scaler: str
    intercept: float
    free: bool  # the intercept is no weight: rows and truths are centred
    squared: bool
    tol: float


@dataclass(frozen=True)
class _Solved:
    """Columns of one operator: the fitted steps, coefficients behind them, values at the tests."""

    steps: Pipeline  # all but the head
    coef: Matrix  # shape (n_columns, k)
    intercept: Matrix
    values: list[Matrix]
    done: NDArray[np.bool_]


def obstacle(estimator: Any) -> str:
    """Why one of `HEADS` is left to scikit-learn; empty where it has an exact path.

    Parameters
    ----------
    estimator : instance of one of `HEADS`

    Returns
    -------
    str

    Examples
    --------
    >>> from sklearn.svm import LinearSVC
    >>> obstacle(LinearSVC(penalty="l1"))
    'penalty l1'
    """
    if type(estimator) is Ridge:
        if estimator.positive:
            return "positive"
        if np.ndim(estimator.alpha):
            return "alpha of each target"
        return "" if estimator.alpha > 0 else f"alpha {estimator.alpha:g}"
    if type(estimator) is LinearSVC:
        if estimator.penalty != "l2":
            return f"penalty {estimator.penalty}"
        if estimator.multi_class != "ovr":
            return f"multi_class {estimator.multi_class}"
    return ""


class Paths:
    """Fits linear heads of one matrix; what rows and folds have in common is computed once.

    Parameters
    ----------
    X : float32 or float64, shape (n, n_columns)
    y : float64, shape (n, n_targets), or str, shape (n,)
    labels : tuple of str
        The label list; empty for regression.
    parts : sequence of int64
        Disjoint rows whose sums are kept: the parts that most folds are made of.
    """

    def __init__(
        self,
        X: NDArray[Any],
        y: NDArray[Any],
        labels: tuple[str, ...] = (),
        parts: Sequence[Positions] = (),
    ) -> None:
        self.X, self.y, self.labels = X, y, labels
        self.Y = np.where(y[:, None] == np.array(labels), 1.0, -1.0) if labels else y
        self._part = np.full(len(X), -1)
        for i, positions in enumerate(parts):
            self._part[positions] = i
        self._n_parts = np.bincount(self._part + 1, minlength=len(parts) + 1)[1:]
        self._kept: dict[int, Sums] = {}

    @cached_property
    def base(self) -> Base:
        """The matrix in the form that sums are made of."""
        return Base(self.X)

    def run(
        self, groups: Sequence[Sequence[PathFit]], jobs: int
    ) -> Iterator[tuple[int, list[PathResult]]]:
        """Fit groups of one `train` and `tests` each.

        Parameters
        ----------
        groups : sequence of sequence of PathFit
            Heads without an `obstacle`.
        jobs : int
            Threads. BLAS has one each, in the whole process, while this runs.

        Yields
        ------
        position : int
            In `groups`.
        results : list of PathResult
        """
        sizes = [len(group[0].train) for group in groups]
        narrow = [i for i, n in enumerate(sizes) if n < self.X.shape[1]]
        wide = [i for i, n in enumerate(sizes) if n >= self.X.shape[1]]
        # A fold a thread, unless that is too many copies of the training part at once.
        copies = max(4 * BUDGET // (8 * self.X.shape[1] * max(sizes, default=1)), 1)
        outside = max(min(jobs, len(groups), copies), 1)
        inside = jobs // outside
        with threads().limit(limits=1), Team(inside) as team, Team(outside) as crowd:
            done = crowd.map(lambda i: self._fit_group(groups[i], team, None), narrow)
            yield from zip(narrow, done, strict=True)
            for some, code, rows in self._affordable([groups[i][0].train for i in wide]):
                with Team(jobs) as all_:
                    atoms = self._atoms([groups[wide[i]][0].train for i in some], code, rows, all_)

                def fit(i: int, atoms: _Atoms = atoms, some: list[int] = some) -> list[PathResult]:
                    return self._fit_group(groups[wide[some[i]]], team, atoms.of(i))

                for i, fitted in enumerate(crowd.map(fit, range(len(some)))):
                    yield wide[some[i]], fitted

    def _affordable(
        self, trains: Sequence[Positions]
    ) -> Iterator[tuple[list[int], NDArray[np.bool_], list[Positions]]]:
        """Cut training parts into pieces whose sums fit into `BUDGET`, with their signatures."""
        size = 8 * self.X.shape[1] ** 2
        most = max(BUDGET // size, 2)
        pieces = [list(range(len(trains)))] if trains else []
        while pieces:
            piece = pieces.pop(0)
            code, rows = _signatures(len(self.X), [trains[i] for i in piece])
            if len(piece) > 1 and len(rows) > most:
                pieces = [piece[: len(piece) // 2], piece[len(piece) // 2 :], *pieces]
            else:
                yield piece, code, rows

    def _atoms(
        self,
        trains: Sequence[Positions],
        code: NDArray[np.bool_],
        rows: list[Positions],
        team: Team,
    ) -> _Atoms:
        """Sums over the disjoint parts that training parts are made of."""
        finer, finer_rows = _signatures(len(self.X), trains, self._part)
        # The parts serve later folds too, if they do not cut the rows into too many pieces.
        size = 8 * self.X.shape[1] ** 2
        if (
            len(finer_rows) <= max(2 * len(rows), len(self._n_parts))
            and len(finer_rows) * size <= BUDGET
        ):
            code, rows = finer, finer_rows
        made = []
        for positions in rows:
            part = int(self._part[positions[0]])
            whole = part >= 0 and len(positions) == self._n_parts[part]
            if whole and part in self._kept:
                made.append(self._kept[part])
                continue
            total = sums(RowPart(self.base, positions, team), self.Y[positions])
            if whole and (len(self._kept) + 1) * size <= BUDGET:
                self._kept[part] = total
            made.append(total)
        return _Atoms(code, made)

    def _fit_group(
        self, fits: Sequence[PathFit], team: Team, known: Sums | None
    ) -> list[PathResult]:
        """Fit heads that share rows: a solution a setting, a column a target or class."""
        train = fits[0].train
        classes = [i for i, label in enumerate(self.labels) if (self.y[train] == label).any()]
        classes.sort(key=lambda i: self.labels[i])  # as scikit-learn's `classes_`
        part = RowPart(self.base, train, team) if known else None
        by_setting: dict[_Setting, list[int]] = {}
        for i, fit in enumerate(fits):
            by_setting.setdefault(_setting(fit.pipeline), []).append(i)
        results: dict[int, PathResult] = {}
        for setting, members in by_setting.items():
            mine = [fits[i] for i in members]
            results.update(
                zip(
                    members,
                    self._fit_setting(mine, setting, part, known, team, classes),
                    strict=True,
                )
            )
        return [results[i] for i in range(len(fits))]

    def _fit_setting(
        self,
        fits: Sequence[PathFit],
        setting: _Setting,
        part: RowPart | None,
        known: Sums | None,
        team: Team,
        classes: Sequence[int],
    ) -> list[PathResult]:
        Y = self.Y[fits[0].train]
        mean = Y.mean(axis=0) if setting.free else np.zeros(Y.shape[1])
        Y = Y - mean if setting.free else Y
        columns, ends = _columns(fits, Y, [self.labels[i] for i in classes], classes)
        if part is None or known is None:
            solved = self._by_rows(fits[0], setting, columns, team)
        else:
            solved = self._by_sums(fits[0], setting, columns, part, known)
        constant = mean[columns.target]
        names = np.array([self.labels[i] for i in classes])
        results = []
        for fit, end in zip(fits, ends, strict=True):
            values = [predicted[:, end] + constant[end] for predicted in solved.values]
            pipeline = None
            if fit.keep:
                intercept = solved.intercept[end] + constant[end]
                head = _head(fit, solved.coef[:, end], intercept, names)
                pipeline = Pipeline([*solved.steps.steps, ("head", head)])
            outputs = [self._output(predicted, classes) for predicted in values]
            results.append(PathResult(outputs, pipeline, bool(solved.done[end].all())))
        return results

    def _by_rows(self, fit: PathFit, setting: _Setting, columns: Columns, team: Team) -> _Solved:
        """In the basis of the rows, as scikit-learn's scaler gives them."""
        steps = clone(fit.pipeline[:-1])
        rows = steps.fit_transform(self.X[fit.train].astype(np.float64))
        offset = rows.mean(axis=0) if setting.free else np.zeros(rows.shape[1])
        operator = Basis(
            rows - offset if setting.free else rows, columns.Y, setting.intercept, team
        )
        solution = solve(operator, columns, setting.tol, measured=False)
        coef, intercept = operator.coefficients(solution.V)
        intercept = intercept - offset @ coef
        values = []
        for test in fit.tests:
            rows = self.X[test].astype(np.float64)
            # An empty part has no row to transform, and scikit-learn refuses it.
            rows = steps.transform(rows) if len(rows) else rows
            values.append(rows @ coef + intercept)
        return _Solved(steps, coef, intercept, values, solution.done)

    def _by_sums(
        self, fit: PathFit, setting: _Setting, columns: Columns, part: RowPart, known: Sums
    ) -> _Solved:
        """By Gram matrices."""
        scaler = fit_scaler(fit.pipeline["scaler"], part, known)
        steps, n_columns = [("scaler", scaler)], self.X.shape[1]
        centre, scale = affine(scaler, n_columns)
        if "weights" in fit.pipeline.named_steps:
            weighting = clone(fit.pipeline["weights"])
            weighting.n_features_in_ = n_columns
            steps.append(("weights", weighting))
            scale = scale / weighting.weights
        offset = np.zeros(len(centre))
        if setting.free:
            raw = part.base.shift + known.total / known.n / part.base.unit
            offset, centre = (raw - centre) / scale, raw
        operator = Scaled(part, known, centre, scale, setting.intercept)
        solution = solve(operator, columns, setting.tol, measured=False)
        coef, intercept = operator.coefficients(solution.V)
        values = [
            operator.predict(RowPart(self.base, test, part.team), solution.V) for test in fit.tests
        ]
        return _Solved(Pipeline(steps), coef, intercept - offset @ coef, values, solution.done)

    def _output(self, values: Matrix, classes: Sequence[int]) -> Matrix:
        """Predictions, or a score a label, NaN where the class is not known."""
        if not self.labels:
            return values
        scores = np.full((len(values), len(self.labels)), np.nan)
        scores[:, classes] = np.column_stack([-values, values]) if len(classes) == 2 else values
        return scores


@dataclass(frozen=True)
class _Atoms:
    """Sums over disjoint parts, and which of them each training part is made of.

    Attributes
    ----------
    code : bool, shape (n_trains, n_atoms)
    """

    code: NDArray[np.bool_]
    made: list[Sums]

    @cached_property
    def whole(self) -> Sums:
        """Of all parts."""
        return _together(self.made)

    def of(self, train: int) -> Sums:
        """Of one training part: added up, or the whole less the others."""
        inside = np.flatnonzero(self.code[train])
        outside = np.flatnonzero(~self.code[train])
        if len(inside) <= len(outside) + 1:
            return _together([self.made[i] for i in inside])
        result = self.whole.copy()
        for i in outside:
            result.add(self.made[i], -1)
        result.low = np.min([self.made[i].low for i in inside], axis=0)
        result.high = np.max([self.made[i].high for i in inside], axis=0)
        return result


def _together(made: Sequence[Sums]) -> Sums:
    if len(made) == 1:
        return made[0]
    result = made[0].copy()
    for other in made[1:]:
        result.add(other)
    return result


def _signatures(
    n: int, trains: Sequence[Positions], part: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.bool_], list[Positions]]:
    """Disjoint parts that training parts are unions of.

    Returns
    -------
    bool, shape (n_trains, n_atoms)
        Which training part holds which.
    list of int64
        The rows of each.
    """
    inside = np.zeros((len(trains), n), dtype=bool)
    for i, train in enumerate(trains):
        inside[i, train] = True
    used = np.flatnonzero(inside.any(axis=0))
    key = np.packbits(inside[:, used], axis=0)
    if part is not None:
        key = np.vstack([key, part[used].astype(np.int64).view(np.uint8).reshape(-1, 8).T])
    _, first, member = np.unique(key, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(member.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(member.ravel()))[:-1]
    return inside[:, used[first]], [used[atom] for atom in np.split(order, ends)]


def _setting(pipeline: Pipeline) -> _Setting:
    head, scaler = pipeline["head"], repr(pipeline["scaler"])
    if type(head) is Ridge:
        return _Setting(scaler, 0.0, bool(head.fit_intercept), True, 0.0)
    squared = head.loss in ("squared_epsilon_insensitive", "squared_hinge")
    intercept = float(head.intercept_scaling) if head.fit_intercept else 0.0
    return _Setting(scaler, intercept, False, squared, 0.0 if squared else float(head.tol))


def _columns(
    fits: Sequence[PathFit], Y: Matrix, names: Sequence[str], classes: Sequence[int]
) -> tuple[Columns, list[slice]]:
    """The columns of several fits, and which are whose."""
    target: list[int] = []
    settings: list[tuple[float, float, float, float]] = []  # C, epsilon, positive, negative
    ends = []
    for fit in fits:
        head, start = fit.pipeline["head"], len(target)
        if type(head) is LinearSVC:
            truth = np.asarray(names)[np.argmax(Y[:, classes], axis=1)]
            given = compute_class_weight(head.class_weight, classes=np.array(names), y=truth)
            weights = dict(zip(names, given, strict=True))
            # One class against the rest, which has weight 1; of two classes the second is +1.
            if len(classes) == 2:
                target.append(classes[1])
                settings.append((head.C, 0.0, weights[names[1]], weights[names[0]]))
            else:
                target += classes
                settings += [(head.C, 0.0, weights[name], 1.0) for name in names]
        else:
            target += fit.columns
            ridge = type(head) is Ridge
            C, epsilon = (1 / (2 * head.alpha), 0.0) if ridge else (head.C, head.epsilon)
            settings += [(C, epsilon, 1.0, 1.0)] * len(fit.columns)
        ends.append(slice(start, len(target)))
    Cs, epsilons, positive, negative = np.array(settings, dtype=np.float64).T
    hinge = type(fits[0].pipeline["head"]) is LinearSVC
    squared = _setting(fits[0].pipeline).squared
    chosen = np.array(target)
    return Columns(Y, chosen, Cs, epsilons, positive, negative, hinge, squared), ends


def _head(fit: PathFit, coef: Matrix, intercept: Matrix, classes: NDArray[Any]) -> Any:
    """scikit-learn's estimator with the solution set, as if it had been fitted."""
    head = clone(fit.pipeline["head"])
    head.n_features_in_ = len(coef)
    head.coef_, head.intercept_ = np.ascontiguousarray(coef.T), np.array(intercept)
    if type(head) is LinearSVC:
        head.classes_, head.n_iter_ = classes, 0
    elif type(head) is LinearSVR:
        head.coef_, head.n_iter_ = head.coef_.ravel(), 0
    else:
        head.n_iter_, head.solver_ = None, "cholesky"
        if len(fit.columns) == 1:
            head.coef_, head.intercept_ = head.coef_.ravel(), float(intercept[0])
    return head


@cache
def threads() -> ThreadpoolController:
    """The BLAS libraries of this process, looked up once: it takes milliseconds."""
    return ThreadpoolController()
