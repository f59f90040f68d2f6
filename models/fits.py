"""The fits of a search, and the way that each goes: exact, shared, or by scikit-learn."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from features.common.errors import RecipeError
from features.recipe.head import HeadSpec
from models import limits
from models.exact import kernel_grid, linear_fits
from models.exact.gram import Team
from models.exact.linear_fits import threads
from models.heads import cells, pipeline
from models.limits import UnderWay
from models.problem import Fit, Positions, Problem, Result

SERIAL_WORK = 3e7

MOST_VALUES = 2**25

MOST_POSITIONS = 2**25

EXACT, SHARED, SKLEARN = "exact path", "shared kernels", "scikit-learn"

LIBSVM_LIMIT = "Solver terminated early (max_iter="

Sides = tuple[Positions, Positions]


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
class Fitted:
    """What a fit gives: predictions at each of `tests`, the pipeline if kept, warnings counted.

    `stopped` says whether it ended at a limit of iterations, before its minimum.
    """

    outputs: list[NDArray[np.float64]]
    pipeline: Pipeline | None
    warned: Counter[str]
    stopped: bool = False


Fitting = Callable[[Sequence[Fit]], list[Fitted]]


class Counting(Protocol):
    """Whatever counts finished fits: `features.common.progress.Progress`."""

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
