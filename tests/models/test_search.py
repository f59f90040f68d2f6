"""Grid search: scores, choice, processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import models.fits
from features.common.errors import RunError
from features.recipe.head import HeadSpec
from features.splits.plan import Fold
from models import search as search_module
from models.fits import Fits
from models.heads import cells
from models.problem import Fit, Problem
from models.search import (
    Inner,
    Refit,
    decide,
    refit,
    search,
    searches,
    selection_scores,
)
from models.single import Fitted, apply


def problem(kind: str = "ridge", n: int = 60, **values: object) -> Problem:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    Y = X[:, :2] + 0.5 * rng.normal(size=(n, 2))
    head = HeadSpec.model_validate({"kind": kind, "select": "nmse", **values})
    return Problem(X, Y, ("calm", "sad"), head)


def folds(n: int = 60, k: int = 3) -> list[Fold]:
    fold = np.arange(n) % k
    return [Fold(str(i), np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def run(one: Problem, parts: list[Fold], jobs: int = 1, **values: object):
    with Fits(one, jobs, 10**6) as fits:
        return search(one, parts, fits, "here", **values)


def test_cells_are_scored_inside_their_folds() -> None:
    one = problem(grid={"alpha": [1.0, 30.0, 1000.0]})
    choice = run(one, folds())
    X, Y = one.X.astype(float), one.y
    for cell, alpha in enumerate([1.0, 30.0, 1000.0]):
        row = choice.table.iloc[cell]
        scores = []
        for fold in folds():
            scaler = StandardScaler().fit(X[fold.train])
            ridge = Ridge(alpha=alpha).fit(scaler.transform(X[fold.train]), Y[fold.train])
            error = Y[fold.test] - ridge.predict(scaler.transform(X[fold.test]))
            scores.append(-(error**2).mean())
            assert row[f"score_{fold.name}"] == pytest.approx(scores[-1], rel=1e-7)
        assert row["score"] == pytest.approx(np.mean(scores), rel=1e-7)
    assert choice.cells[0].index == choice.table["score"].argmax()
    assert choice.table["chosen"].sum() == 1
    assert choice.positions.tolist() == list(range(60))
    assert choice.scores[0] == pytest.approx(-np.mean((choice.values - Y) ** 2), rel=1e-9)


def test_ties_go_to_the_first_cell_in_grid_order() -> None:
    # The default solver of ridge does not iterate: max_iter changes nothing.
    one = problem(grid={"max_iter": [900, 100], "alpha": [1.0]})
    choice = run(one, folds())
    assert choice.table["score"].nunique() == 1
    assert choice.cells[0].params["max_iter"] == 900


def test_one_choice_a_target() -> None:
    one = problem(grid={"alpha": [0.1, 1e5]}, per_target=True)
    Y = one.y.copy()
    Y[:, 1] = np.random.default_rng(2).normal(size=60)  # noise: the heavy penalty wins
    one = Problem(one.X, Y, one.names, one.head)
    choice = run(one, folds())
    assert [cell.params["alpha"] for cell in choice.cells] == [0.1, 1e5]
    assert choice.table["target"].tolist() == ["calm", "sad"] * 2
    with Fits(one, 1, 1) as fits:
        ((values,), head), _ = refit(
            one,
            [
                Refit(choice.cells, np.arange(40), (np.arange(40, 60),), keep=True),
                Refit(choice.cells, np.arange(50)),
            ],
            fits,
        )
    np.testing.assert_allclose(head.predict(one.X[40:].astype(float)), values, rtol=1e-9)
    for i, alpha in enumerate([0.1, 1e5]):
        X = one.X.astype(float)
        scaler = StandardScaler().fit(X[:40])
        ridge = Ridge(alpha=alpha).fit(scaler.transform(X[:40]), Y[:40, i])
        theirs = ridge.predict(scaler.transform(X[40:]))
        np.testing.assert_allclose(values[:, i], theirs, atol=1e-6 * theirs.std())


def test_an_undefined_score_never_wins() -> None:
    # Within epsilon nothing is an error: the prediction is constant and has no rank.
    one = problem("svr", select="spearman", grid={"epsilon": [100.0, 0.1]})
    choice = run(one, folds())
    assert np.isnan(choice.table["score"][0])
    assert choice.cells[0].params["epsilon"] == 0.1
    hopeless = problem("svr", select="spearman", grid={"epsilon": [100.0]})
    with pytest.raises(RunError, match="here: the score 'spearman' is undefined for every cell"):
        run(hopeless, folds())


def test_rows_without_a_truth_are_predicted_and_not_scored() -> None:
    one = problem(grid={"alpha": [1.0, 10.0]})
    Y = one.y.copy()
    Y[50:] = np.nan
    masked = Problem(one.X, Y, one.names, one.head)
    known = np.arange(60) < 50
    (fold,) = [Fold("devel", np.arange(40), np.arange(40, 60))]
    choice = run(masked, [fold], scored=known)
    shorter = run(one, [Fold("devel", np.arange(40), np.arange(40, 50))])
    assert choice.table.equals(shorter.table)
    assert len(choice.values) == 20
    with pytest.raises(RunError, match="no row to score the cells by has a truth"):
        run(masked, [Fold("devel", np.arange(40), np.arange(50, 60))], scored=known)


@pytest.mark.parametrize("engine", ["auto", "sklearn"])
def test_the_rows_of_few_folds_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    one = problem(grid={"alpha": [1.0, 10.0]}, engine=engine)
    inners = [Inner(folds(), f"{i}") for i in range(4)]
    some = cells(one.head)
    wanted = [Refit([some[i % 2]], fold.train, (fold.test,)) for i, fold in enumerate(folds(60, 6))]
    held: list[int] = []

    def found() -> list[np.ndarray]:
        with Fits(one, 1, 60) as fits:

            def counted(batch: Sequence[Fit]) -> list[Fitted]:
                arrays = {id(rows): len(rows) for fit in batch for rows in (fit.train, *fit.tests)}
                held.append(sum(arrays.values()))
                return fits(batch)

            choices = searches(one, inners, counted)
            return [
                *(choice.values for choice in choices),
                *(values[0] for values, _ in refit(one, iter(wanted), counted)),
            ]

    whole = found()
    n = sum(len(fold.train) + len(fold.test) for fold in folds())
    assert held == [4 * n, 6 * 60]
    held.clear()
    monkeypatch.setattr(search_module, "MOST_POSITIONS", n)
    pieces = found()
    assert held[:4] == [n] * 4
    assert max(held) <= n
    for ours, theirs in zip(pieces, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.process
@pytest.mark.parametrize("kind", ["ridge", "linear-svr"])
def test_processes_give_what_one_process_gives(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    one = problem(kind, engine="sklearn")
    serial = run(one, folds())
    monkeypatch.setattr(models.fits, "SERIAL_WORK", 0)
    with Fits(one, 2, 60) as fits:
        assert not fits.serial
        parallel = search(one, folds(), fits, "here")
    assert serial.table.equals(parallel.table)
    np.testing.assert_array_equal(serial.values, parallel.values)


def test_convergence_warnings_are_counted_not_shown() -> None:
    fixed = {"max_iter": 1}
    one = problem("linear-svr", fixed=fixed, grid={"C": [100.0]}, engine="sklearn")
    with Fits(one, 1, 6) as fits:
        search(one, folds(), fits, "here")
    assert fits.done == 6
    ((text, count),) = fits.warned.items()
    assert text.startswith("ConvergenceWarning: Liblinear failed to converge")
    assert count == 6


def test_class_scores_follow_the_label_list() -> None:
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    two = SVC(kernel="linear").fit(X, ["sad", "sad", "calm", "calm"])
    scores = apply(two, X, ("sad", "angry", "calm"))
    d = two.decision_function(X)  # positive for the last of the sorted classes: sad
    np.testing.assert_array_equal(scores[:, 0], d)
    np.testing.assert_array_equal(scores[:, 2], -d)
    assert np.isnan(scores[:, 1]).all()
    assert decide(scores, ("sad", "angry", "calm")).tolist() == ["sad", "sad", "calm", "calm"]


def test_selection_scores_by_hand() -> None:
    truth, values = np.array([[0.0, 1.0], [1.0, 3.0]]), np.array([[0.5, 2.0], [1.0, 5.0]])
    assert selection_scores("nmse", truth, values, ()).tolist() == [-0.125, -2.5]
    assert selection_scores("nmae", truth, values, ()).tolist() == [-0.25, -1.5]
    assert selection_scores("spearman", truth, values, ()).tolist() == [1.0, 1.0]
    scores = np.eye(2)[[0, 0, 1, 1]]
    labels = np.array(["a", "a", "a", "b"])
    assert selection_scores("uar", labels, scores, ("a", "b")) == [pytest.approx(5 / 6)]
    assert selection_scores("wa", labels, scores, ("a", "b")) == [0.75]


def test_folds_that_cannot_be_fitted_are_named() -> None:
    head = HeadSpec.model_validate({"kind": "linear-svc", "select": "uar"})
    y = np.array(["a"] * 6 + ["b"] * 2)
    one = Problem(np.ones((8, 1), dtype=np.float32), y, ("a", "b"), head)
    bad = Fold("1", np.arange(6), np.array([6, 7]))
    with pytest.raises(RunError, match="here, inner fold 1: all 6 rows to fit on are 'a'"):
        run(one, [Fold("0", np.arange(2, 8), np.arange(2)), bad])
    with pytest.raises(RunError, match="here: no row to fit on has a truth"):
        run(one, [Fold("0", np.array([], dtype=np.int64), np.arange(2))])
