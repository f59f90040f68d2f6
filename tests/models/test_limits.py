"""The default limit of iterations: who gets it, what it changes, and what is said of it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVC, SVR, LinearSVC

from models import limits
from models.fits import Fits
from models.heads import cells
from models.limits import limit_of, limited
from models.problem import Problem
from models.search import Refit, refit, search
from tests.models.test_kernel_grid import classes, shares, spec

ENGINES = pytest.mark.parametrize("engine", ["exact-path", "sklearn"])
HARD = {"C": [100.0], "kernel": ["linear"]}


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> int:
    """A default limit that these problems reach."""
    monkeypatch.setattr(limits, "LEAST_ITERATIONS", 7)
    monkeypatch.setattr(limits, "ITERATIONS_A_ROW", 0)
    monkeypatch.setattr(limits, "LIBSVM_A_ROW", 0)
    return 7


def with_engine(problem: Problem, engine: str) -> Problem:
    head = problem.head.model_copy(update={"engine": engine})
    return Problem(problem.X, problem.y, problem.names, head)


def test_the_limit_is_never_below_libsvms_own_and_bounded_in_time() -> None:
    sizes = (1, 500, 501, 1_300, 7_071, 100_000, 100_001, 2**31)
    limit = [limit_of(n) for n in sizes]
    # svm.cpp: max(10000000, l > INT_MAX/100 ? INT_MAX : 100*l)
    libsvm = [max(10_000_000, min(100 * n, 2**31 - 1)) for n in sizes]
    assert all(ours >= theirs for ours, theirs in zip(limit, libsvm, strict=True))
    assert limit[:4] == [10_000_000, 10_000_000, 10_020_000, 26_000_000]
    assert limit[5:] == libsvm[5:]
    assert all(ours * n <= 1.001e12 for ours, n in zip(limit[:6], sizes, strict=False))


def test_only_heads_without_a_limit_get_one_and_for_the_fit_alone() -> None:
    for head, default, inside in (
        (SVC(), True, 10_000_000),
        (SVR(), True, 10_000_000),
        (SVC(), False, -1),
        (SVC(max_iter=5), True, 5),
        (LinearSVC(max_iter=9), True, 9),
    ):
        before = head.get_params()
        with limited(head, 80, default):
            assert head.max_iter == inside
        assert head.get_params() == before


@ENGINES
def test_fits_that_stop_are_those_of_scikit_learn_counted_and_named(low: int, engine: str) -> None:
    problem, folds = classes(scalers=["none"], grid={"C": [1e-5, 100.0], "kernel": ["linear"]})
    with Fits(with_engine(problem, engine), 1, 10**6) as fits:
        choice = search(fits.problem, folds, fits, "here")
    stopped = []
    for C in (1e-5, 100.0):
        n = 0
        for fold in folds:
            X = problem.X[fold.train].astype(float)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                oracle = SVC(
                    C=C, kernel="linear", break_ties=True, decision_function_shape="ovr",
                    max_iter=low,
                ).fit(X, problem.y[fold.train])  # fmt: skip
            n += bool((oracle.n_iter_ >= low).any())
            if choice.cells[0].params["C"] == C:
                at = np.searchsorted(choice.positions, fold.test)
                order = [problem.names.index(one) for one in oracle.classes_]
                np.testing.assert_allclose(
                    choice.values[at][:, order],  # noqa: PD011
                    oracle.decision_function(problem.X[fold.test].astype(float)),
                    rtol=1e-9,
                )
        stopped.append(n)
    assert sum(stopped)
    assert choice.table["at_limit"].tolist() == stopped
    assert fits.warned == {limits.REACHED: sum(stopped)}


@ENGINES
def test_a_limit_that_is_not_reached_shows_nowhere(engine: str) -> None:
    for problem, folds in (classes(grid=HARD), shares(grid=HARD)):
        with Fits(with_engine(problem, engine), 1, 10**6) as fits:
            choice = search(fits.problem, folds, fits, "here")
        assert "at_limit" not in choice.table
        assert not fits.warned


def test_the_recipes_own_limit_wins(low: int) -> None:
    found = {}
    for max_iter in (-1, 3):
        problem, folds = classes(grid=HARD, fixed={"max_iter": max_iter})
        with Fits(problem, 1, 10**6) as fits:
            found[max_iter] = search(problem, folds, fits, "here").table, dict(fits.warned)
    assert "at_limit" not in found[-1][0]
    assert found[-1][1] == {}
    assert found[3][1] == {limits.REACHED: 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "LEAST_ITERATIONS", 10**7)
        problem, folds = classes(grid=HARD)
        with Fits(problem, 1, 10**6) as fits:
            free = search(problem, folds, fits, "here").table
    pd.testing.assert_frame_equal(free, found[-1][0], rtol=1e-9)


def test_a_saved_head_does_not_know_the_limit(low: int) -> None:
    problem, folds = classes(scalers=["none"], grid=HARD)
    with Fits(problem, 1, 10**6) as fits:
        one = Refit(cells(problem.head), folds[0].train, (folds[0].test,), "all", keep=True)
        ((_, head),) = refit(problem, [one], fits)
    assert head["head"].max_iter == -1
    assert fits.warned == {limits.REACHED: 1}


def test_titles_name_where_and_what() -> None:
    problem = Problem(np.zeros((4, 2), np.float32), np.zeros((4, 2)), ("calm", "sad"), spec("svr"))
    rows = np.arange(4)
    fit = problem.fit(cells(problem.head)[1], (1,), rows, (rows,), "outer fold s0, inner fold 2")
    assert fit.title == "outer fold s0, inner fold 2, sad: standard, kernel linear, C 0.1"
