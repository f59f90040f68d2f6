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
  their Gram matrices (`linear_fits`), SVC and SVR by their kernels (`kernel_grid`). `route` says
  who fits what.
- Must not import torch, nor anything that does.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, TypeVar

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline

from evaluate.metrics import metrics
from features.common.errors import RecipeError, RunError
from features.recipe.load import HeadSpec
from features.splits.plan import Fold
from features.splits.truths import check_fold, why_undefined
from models import limits
from models.exact import kernel_grid, linear_fits
from models.exact.gram import Team
from models.exact.linear_fits import threads
from models.heads import HEADS, Cell, cells, pipeline
from models.limits import UnderWay

SERIAL_WORK = 3e7
"""Rows x columns x fits below which no processes are started: about three seconds of liblinear,
which is what starting them takes. It changes no number."""

MOST_VALUES = 2**25
"""Held-out predictions of all cells that searches are batched up to: 256 MB."""
MOST_POSITIONS = 2**25
"""Positions of rows that fits are batched up to: 256 MB."""
EXACT, SHARED, SKLEARN = "exact path", "shared kernels", "scikit-learn"

LIBSVM_LIMIT = "Solver terminated early (max_iter="

Positions = NDArray[np.int64]
Sides = tuple[Positions, Positions]
"""The rows that are fitted and those that are held out."""
Result = TypeVar("Result")


def way(head: Any, n_rows: int) -> tuple[str, str]:
    """Who may fit a head of a problem of `n_rows`, and why not a faster way.

    Returns
    -------
    str
        `EXACT`, `SHARED` or `SKLEARN`.
    str
        Empty but for `SKLEARN`.
    """
    if type(head) in linear_fits.HEADS:
        name, why = EXACT, linear_fits.obstacle(head)
    elif type(head) in kernel_grid.HEADS:
        name, why = SHARED, kernel_grid.obstacle(head, n_rows)
    else:
        name, why = SKLEARN, f"{type(head).__name__} has no exact route"
    return (SKLEARN if why else name), why


def route(spec: HeadSpec, n_rows: int) -> str:
    """Who fits the cells of a recipe, and why scikit-learn where it does.

    Parameters
    ----------
    spec : HeadSpec
    n_rows : int
        Rows of the problem.

    Raises
    ------
    RecipeError
        With `engine = "exact-path"`, naming the cells that have no exact route.

    Examples
    --------
    >>> route(HeadSpec(kind="ridge", select="nmse"), 100)
    'exact path'
    >>> route(HeadSpec(kind="logistic", select="uar"), 100)
    'scikit-learn: LogisticRegression has no exact route'
    """
    if spec.engine == "sklearn":
        return f"{SKLEARN}: engine"
    ways = {str(cell): way(pipeline(spec, cell)["head"], n_rows) for cell in cells(spec)}
    against = Counter(why for _, why in ways.values() if why)
    if against and spec.engine == "exact-path":
        faults = [f"{cell}: {why}" for cell, (_, why) in ways.items() if why]
        raise RecipeError(
            "\n  ".join(
                [
                    "[head] engine: 'exact-path', but cells have no exact route; allowed: 'auto', "
                    "which leaves them to scikit-learn",
                    *faults,
                ]
            )
        )
    left = f"{SKLEARN}: {', '.join(against)}"
    if against.total() == len(ways):
        return left
    fast = next(name for name, why in ways.values() if not why)
    return f"{fast}; {left} ({against.total()} of {len(ways)} cells)" if against else fast


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
    """

    X: NDArray[np.float32]
    y: NDArray[Any]
    names: tuple[str, ...]
    head: HeadSpec
    weights: NDArray[np.float64] | None = None

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
        return [every] if HEADS[self.head.kind].several else [(one,) for one in every]

    def pipeline(self, cell: Cell) -> Pipeline:
        """The unfitted pipeline of one cell."""
        return pipeline(self.head, cell, self.weights)

    def fit(
        self,
        cell: Cell,
        columns: tuple[int, ...],
        train: Positions,
        tests: tuple[Positions, ...],
        where: str,
        keep: bool = False,
    ) -> Fit:
        """One fit of a cell."""
        target = f", {self.names[columns[0]]}" if len(columns) == 1 < len(self.names) else ""
        limited = "max_iter" not in {**self.head.fixed, **self.head.grid}
        title = f"{where}{target}: {cell}"
        return Fit(self.pipeline(cell), columns, train, tests, keep, title, limited)


@dataclass(frozen=True)
class Fit:
    """One fit: a pipeline on `columns` of y at `train`, applied at each array of `tests`.

    `title` is what the line of progress calls it; `limited` says whether a solver without a limit
    of iterations gets the default one.
    """

    pipeline: Pipeline
    columns: tuple[int, ...]
    train: Positions
    tests: tuple[Positions, ...]
    keep: bool = False
    title: str = ""
    limited: bool = True


@dataclass(frozen=True)
class Fitted:
    """What a fit gives: predictions at each of `tests`, the pipeline if kept, warnings counted.

    `stopped` says whether it ended at a limit of iterations, before its minimum.
    """

    outputs: list[NDArray[np.float64]]
    pipeline: Pipeline | None
    warned: Counter[str]
    stopped: bool = False


Fitting = Callable[[Sequence[Fit]], list[Fitted]]
"""Whatever runs fits: `Fits`, `models.layer_weights.WeightedFits`."""


class Counting(Protocol):
    """Whatever counts finished fits: `features.common.command.Progress`."""

    def add(self, amount: float) -> None:
        """Count `amount` more as done."""

    def tell(self, now: Callable[[], str]) -> AbstractContextManager[None]:
        """Say what is under way, in a body where little may be done for long."""


class Fits:
    """Runs fits of one problem, in processes where that pays; a context manager.

    Parameters
    ----------
    problem : Problem
    jobs : int
        Threads for fits that share their work, processes for the others; -1 is all cores.
    n_fits : int
        How many fits are to come, for the rule of `SERIAL_WORK`.
    progress : Counting, optional
    parts : sequence of int64
        Disjoint rows that the folds to come are mostly made of.

    Attributes
    ----------
    warned : Counter
        How often scikit-learn warned of what, over all fits.
    done : int
        Finished fits.
    """

    def __init__(
        self,
        problem: Problem,
        jobs: int,
        n_fits: int,
        progress: Counting | None = None,
        parts: Sequence[Positions] = (),
    ) -> None:
        self.problem, self.progress = problem, progress
        self.warned: Counter[str] = Counter()
        self.done = 0
        self.threads = joblib.effective_n_jobs(jobs)
        jobs = min(self.threads, n_fits)
        self.serial = jobs <= 1 or problem.X.size * n_fits < SERIAL_WORK
        self.jobs = 1 if self.serial else jobs
        self._stack = ExitStack()
        self._paths = linear_fits.Paths(problem.X, problem.y, problem.labels, parts)

    def __enter__(self) -> Fits:
        return self

    @functools.cached_property
    def _parallel(self) -> joblib.Parallel:
        """The processes, kept from call to call; none are started before they are needed."""
        parallel = joblib.Parallel(self.jobs, return_as="generator")
        self._stack.enter_context(parallel)
        return parallel

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __call__(self, fits: Sequence[Fit]) -> list[Fitted]:
        """Run fits; results in their order."""
        now = UnderWay()
        with self.progress.tell(now.text) if self.progress else nullcontext():
            return self._run(fits, now)

    def _run(self, fits: Sequence[Fit], now: UnderWay) -> list[Fitted]:
        linear, shared, alone = self._groups(fits)
        results: dict[int, Fitted] = {}
        paths = self._paths.run([[fits[i] for i in one] for one in linear], self.threads)
        titles = [fits[one[0]].title for one in linear]
        for i, done in _awaited(paths, titles, now):
            for position, fitted in zip(linear[i], done, strict=True):
                if fitted.done:
                    results[position] = Fitted(fitted.outputs, fitted.pipeline, Counter())
                    self._finish(1)
                else:
                    alone.append(position)
                    self.warned[linear_fits.LOST] += 1
        groups = [[fits[i] for i in one] for one in shared]
        for group, fitted_group in self._shared(groups, shared, now):
            for position, one in zip(group, fitted_group, strict=True):
                if one:
                    results[position] = one
                    self._finish(1)
                else:
                    alone.append(position)
                    self.warned[kernel_grid.LOST] += 1
        X, y, labels = self.problem.X, self.problem.y, self.problem.labels
        todo = [joblib.delayed(run_fit)(X, y, labels, fits[i]) for i in alone]
        titles = [fits[i].title for i in alone]
        fitting = _awaited(self._parallel(todo) if todo else [], titles, now)
        for i, fitted in zip(alone, fitting, strict=True):
            results[i] = fitted
            self.warned += fitted.warned
            self._finish(1)
        n_stopped = sum(one.stopped for one in results.values())
        self.warned += Counter({limits.REACHED: n_stopped} if n_stopped else {})
        return [results[i] for i in range(len(fits))]

    def _shared(
        self, groups: Sequence[Sequence[Fit]], positions: Sequence[list[int]], now: UnderWay
    ) -> Iterator[tuple[list[int], list[Fitted | None]]]:
        """Run groups over shared kernels, in threads: libsvm and BLAS let the others run."""
        X, y, labels = self.problem.X, self.problem.y, self.problem.labels
        with (
            threads().limit(limits=1),
            Team(self.threads) as team,
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            done = team.map(lambda group: run_shared(X, y, labels, group, now), groups)
            yield from zip(positions, done, strict=True)
        self.warned += _count(caught)

    def _finish(self, n_fits: int) -> None:
        self.done += n_fits
        if self.progress:
            self.progress.add(n_fits)

    def _groups(self, fits: Sequence[Fit]) -> tuple[list[list[int]], list[list[int]], list[int]]:
        """Positions of the fits that share Gram matrices, that share kernels, and of the others.

        An SVC or SVR that is kept is fitted by its pipeline, so that it can do without the rows.
        """
        linear: dict[tuple[Any, ...], list[int]] = {}
        shared: dict[tuple[Any, ...], list[int]] = {}
        alone = []
        for i, fit in enumerate(fits):
            name, _ = way(fit.pipeline["head"], len(self.problem.X))
            rows = id(fit.train), *map(id, fit.tests)
            if self.problem.head.engine == "sklearn" or name == SKLEARN:
                alone.append(i)
            elif name == EXACT:
                linear.setdefault(rows, []).append(i)
            elif fit.keep:
                alone.append(i)
            else:
                shared.setdefault((repr(fit.pipeline["scaler"]), *rows), []).append(i)
        # Fewer groups than threads are split, each part with fits of one kernel where it can be.
        pieces = -(-self.threads // max(len(shared), 1))
        parts = []
        for group in shared.values():
            group.sort(key=lambda i: fits[i].pipeline["head"].kernel)
            size = -(-len(group) // pieces)
            parts += [group[start : start + size] for start in range(0, len(group), size)]
        return list(linear.values()), parts, alone


def _awaited(results: Iterable[Result], titles: Sequence[str], now: UnderWay) -> Iterator[Result]:
    """Pass results on; the one that is waited for is under way: they come in order."""
    coming = iter(results)
    for title in titles:
        with now.fitting(title):
            result = next(coming)
        yield result


def run_fit(X: NDArray[np.float32], y: NDArray[Any], labels: tuple[str, ...], fit: Fit) -> Fitted:
    """Fit one pipeline and apply it, in float64 and one thread."""
    head, n = fit.pipeline["head"], len(fit.train)
    with (
        threads().limit(limits=1),
        warnings.catch_warnings(record=True) as caught,
        limits.limited(head, n, fit.limited),
    ):
        warnings.simplefilter("always")
        fit.pipeline.fit(X[fit.train].astype(np.float64), _truth(y, fit))
        stopped = limits.reached(head)
        values = [apply(fit.pipeline, X[test], labels) for test in fit.tests]
    return Fitted(values, fit.pipeline if fit.keep else None, _count(caught), stopped)


def run_shared(
    X: NDArray[np.float32],
    y: NDArray[Any],
    labels: tuple[str, ...],
    fits: Sequence[Fit],
    now: UnderWay,
) -> list[Fitted | None]:
    """Run fits of one scaler, `train` and `tests` over shared kernels, in float64.

    None for a fit that `kernel_grid.kernels` refuses.
    """
    steps, train, tests = fits[0].pipeline[:-1], fits[0].train, fits[0].tests
    heads = [fit.pipeline["head"] for fit in fits]
    done: dict[int, Fitted | None] = {}
    for i, matrices in kernel_grid.kernels(
        steps, heads, X[train].astype(np.float64), [X[one].astype(np.float64) for one in tests]
    ):
        if matrices is None:
            done[i] = None
            continue
        head = clone(heads[i]).set_params(kernel="precomputed")
        with now.fitting(fits[i].title), limits.limited(head, len(train), fits[i].limited):
            head.fit(matrices[0], _truth(y, fits[i]))
            stopped = limits.reached(head)
        values = [apply(head, one, labels) for one in matrices[1:]]
        done[i] = Fitted(values, None, Counter(), stopped)
    return [done[i] for i in range(len(fits))]


def _truth(y: NDArray[Any], fit: Fit) -> NDArray[Any]:
    truth = y[fit.train]
    if not fit.columns:
        return truth
    return truth[:, fit.columns[0] if len(fit.columns) == 1 else list(fit.columns)]


def _count(caught: Sequence[warnings.WarningMessage]) -> Counter[str]:
    # What libsvm says of its limit is counted as `limits.REACHED`.
    return Counter(
        f"{one.category.__name__}: {text}"
        for one in caught
        if not (text := str(one.message).splitlines()[0]).startswith(LIBSVM_LIMIT)
    )


def apply(head: Any, X: NDArray[Any], labels: tuple[str, ...] = ()) -> NDArray[np.float64]:
    """Predictions of a fitted head.

    Parameters
    ----------
    head : estimator
        With `decision_function` and `classes_` where `labels` are given, else with `predict`.
    X : float, shape (n, n_columns)
    labels : tuple of str
        The ordered label list; empty for regression.

    Returns
    -------
    float64, shape (n, n_targets) or (n, n_labels)
        Class scores: higher is likelier; NaN for a class the head has never seen.
    """
    width = len(labels) or 1
    if not len(X):
        return np.empty((0, width))
    X = np.asarray(X, dtype=np.float64)
    if not labels:
        values = np.asarray(head.predict(X), dtype=np.float64)
        return values.reshape(len(X), -1)
    decision = head.decision_function(X)
    if decision.ndim == 1:
        decision = np.column_stack([-decision, decision])
    values = np.full((len(X), width), np.nan)
    values[:, [labels.index(one) for one in head.classes_]] = decision
    return values


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
        "uar": metrics.uar,
        "wa": metrics.wa,
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
    cells : list of Cell
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

    cells: list[Cell]
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
    """Evaluate all cells on all inner folds and choose: `searches` of one."""
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
        done = iter(fits([fit for one, sides in batch for fit in _plan(problem, one, sides)]))
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
        problem.fit(cell, column, train, tests, where)
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
            values = np.concatenate([one.outputs[0] for one in fitted], axis=1)
            held_out[-1].append(values)
            stopped[cell.index] += sum(one.stopped for one in fitted)
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
    grid: Sequence[Cell],
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

    cells: Sequence[Cell]
    train: Positions
    tests: tuple[Positions, ...] = ()
    where: str = ""
    keep: bool = False


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
    for one in refits:
        check_fold(problem.y, problem.names, one.train, one.where)
        size = len(one.train) + sum(map(len, one.tests))
        if batch and n_positions + size > MOST_POSITIONS:
            results += _refit(problem, batch, fits)
            batch, n_positions = [], 0
        batch.append(one)
        n_positions += size
    return results + _refit(problem, batch, fits)


def _refit(
    problem: Problem, refits: Sequence[Refit], fits: Fitting
) -> list[tuple[list[NDArray[np.float64]], Any]]:
    plans = []
    for one in refits:
        columns = problem.columns
        if len({cell.index for cell in one.cells}) > 1:
            columns = [(target,) for target in range(len(problem.names))]
        plans.append(
            [
                problem.fit(
                    one.cells[column[0] if len(one.cells) > 1 else 0],
                    column,
                    one.train,
                    one.tests,
                    f"{one.where}, chosen",
                    one.keep,
                )
                for column in columns
            ]
        )
    done = iter(fits([fit for plan in plans for fit in plan]))
    results: list[tuple[list[NDArray[np.float64]], Any]] = []
    for one, plan in zip(refits, plans, strict=True):
        fitted = [next(done) for _ in plan]
        values = [
            np.concatenate([each.outputs[i] for each in fitted], axis=1)
            for i in range(len(one.tests))
        ]
        results.append((values, _joined([each.pipeline for each in fitted]) if one.keep else None))
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
