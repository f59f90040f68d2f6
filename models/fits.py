"""The fits of a search, and the way that each goes: exact, shared, or by scikit-learn."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Protocol

import joblib

from features.common.errors import RecipeError
from features.recipe.head import HeadSpec
from models import limits
from models.exact import linear_fits
from models.exact.gram import Team
from models.exact.linear_fits import threads
from models.heads import cells, pipeline
from models.limits import UnderWay
from models.problem import Fit, Positions, Problem, Result
from models.shared import WAYS, Group, refuse_few_rows
from models.single import Fitted, counted, run_fit

SERIAL_WORK = 3e7
"""Rows x columns x fits below which no processes are started: about three seconds of liblinear,
which is what starting them takes. It changes no number."""
EXACT, SKLEARN = "exact path", "scikit-learn"


def way(head: Any, n_rows: int) -> tuple[str, str]:
    """Who may fit a head of a problem of `n_rows`, and why not a faster way.

    Parameters
    ----------
    head : estimator
    n_rows : int
        Of the problem.

    Returns
    -------
    str
        `EXACT`, a key of `models.shared.WAYS`, or `SKLEARN`.
    str
        Empty but for `SKLEARN`.
    """
    if type(head) in linear_fits.HEADS:
        name, why = EXACT, linear_fits.obstacle(head)
    else:
        name, why = SKLEARN, f"{type(head).__name__} has no exact route"
        for key, shared in WAYS.items():
            if type(head) in shared.heads:
                name, why = key, shared.obstacle(head, n_rows)
    return (SKLEARN if why else name), why


def route(spec: HeadSpec, n_rows: int) -> str:
    """Who fits the cells of a head that is no network, and why scikit-learn where it does.

    Parameters
    ----------
    spec : HeadSpec
    n_rows : int
        Rows of the problem.

    Returns
    -------
    str
        The ways of the cells; what is left to scikit-learn, and why, stands last.

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


Fitting = Callable[[Sequence[Fit]], list[Fitted]]
"""Whatever runs fits: `Fits`, `models.layer_weights.WeightedFits`."""


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

    def __exit__(self, *reason: Any) -> None:
        self._stack.__exit__(*reason)

    def __call__(self, fits: Sequence[Fit]) -> list[Fitted]:
        """Run fits; results in their order."""
        now = UnderWay()
        for fit in fits:
            refuse_few_rows(fit)
        results: list[Fitted | None] = [None] * len(fits)
        with self.progress.tell(now.text) if self.progress else nullcontext():
            for position, result in self._each(fits, now):
                results[position] = result
                self._finish(1)
        done = [result for result in results if result is not None]
        n_stopped = sum(result.stopped for result in done)
        self.warned += Counter({limits.REACHED: n_stopped} if n_stopped else {})
        return done

    def _each(self, fits: Sequence[Fit], now: UnderWay) -> Iterator[tuple[int, Fitted]]:
        """The position of each fit and its result, as they come."""
        linear, shared, alone = self._groups(fits)
        for position, path in self._linear(fits, linear, now):
            if path.done:
                yield position, Fitted(path.outputs, path.pipeline, Counter())
            else:
                alone.append(position)
                self.warned[linear_fits.LOST] += 1
        for name, positions, done in self._shared(fits, shared, now):
            for position, result in zip(positions, done, strict=True):
                if result:
                    yield position, result
                else:
                    alone.append(position)
                    self.warned[WAYS[name].lost] += 1
        yield from self._alone(fits, alone, now)

    def _linear(
        self, fits: Sequence[Fit], groups: Sequence[list[int]], now: UnderWay
    ) -> Iterator[tuple[int, linear_fits.PathResult]]:
        """Run groups of fits by their Gram matrices."""
        paths = self._paths.run([[fits[i] for i in group] for group in groups], self.threads)
        titles = [fits[group[0]].title for group in groups]
        for i, done in _awaited(paths, titles, now):
            yield from zip(groups[i], done, strict=True)

    def _alone(
        self, fits: Sequence[Fit], positions: Sequence[int], now: UnderWay
    ) -> Iterator[tuple[int, Fitted]]:
        """Run fits of their own, in processes."""
        X, y, labels = self.problem.X, self.problem.y, self.problem.labels
        todo = [joblib.delayed(run_fit)(X, y, labels, fits[i]) for i in positions]
        titles = [fits[i].title for i in positions]
        fitting = _awaited(self._parallel(todo) if todo else [], titles, now)
        for i, fitted in zip(positions, fitting, strict=True):
            self.warned += fitted.warned
            yield i, fitted

    def _shared(
        self, fits: Sequence[Fit], shared: Sequence[tuple[str, list[int]]], now: UnderWay
    ) -> Iterator[tuple[str, list[int], list[Fitted | None]]]:
        """Run groups of fits in threads: libsvm, BLAS and LAPACK let the others run."""
        X, y, labels = self.problem.X, self.problem.y, self.problem.labels

        def run(piece: tuple[str, list[int]]) -> tuple[str, list[int], list[Fitted | None]]:
            name, positions = piece
            group = Group(X, y, labels, [fits[i] for i in positions], now)
            return name, positions, WAYS[name].run(group)

        with (
            threads().limit(limits=1),
            Team(self.threads) as team,
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            yield from team.map(run, shared)
        self.warned += counted(caught)

    def _finish(self, n_fits: int) -> None:
        self.done += n_fits
        if self.progress:
            self.progress.add(n_fits)

    def _groups(
        self, fits: Sequence[Fit]
    ) -> tuple[list[list[int]], list[tuple[str, list[int]]], list[int]]:
        """Positions of fits: those that share Gram matrices, that share in another way, the others.

        What is kept and cannot be had from shared work is fitted by its pipeline, so that it can do
        without the rows.
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
            elif fit.keep and not WAYS[name].keeps:
                alone.append(i)
            else:
                shared.setdefault((name, repr(fit.pipeline["scaler"]), *rows), []).append(i)
        # Fewer groups than threads are divided, each part with fits of one kernel where it can be.
        pieces = -(-self.threads // max(len(shared), 1))
        parts = []
        for (name, *_), group in shared.items():
            size = len(group)
            if WAYS[name].divides:
                group.sort(key=lambda i: fits[i].pipeline["head"].kernel)
                size = -(-size // pieces)
            parts += [(name, group[start : start + size]) for start in range(0, len(group), size)]
        return list(linear.values()), parts, alone


def _awaited(results: Iterable[Result], titles: Sequence[str], now: UnderWay) -> Iterator[Result]:
    """Pass results on; the one that is waited for is under way: they come in order."""
    coming = iter(results)
    for title in titles:
        with now.fitting(title):
            result = next(coming)
        yield result
