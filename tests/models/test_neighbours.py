"""Nearest neighbours by cosine: scikit-learn's, ties by the rule, memory in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks
from skops import io

from features.common.errors import RecipeError, RunError
from features.recipe.head import HeadSpec
from features.recipe.split import SplitSpec
from features.splits.folds import SplitPlan
from features.splits.plan import Fold, make_plan
from models.checks import check_sizes
from models.exact import neighbours
from models.exact.neighbours import CosineNeighbours, directions, nearest, votes
from models.fits import Fits, route
from models.heads import cells, check_grid
from models.outputs import OURS
from models.problem import Problem
from models.search import Choice, Refit, decide, refit, search
from models.single import apply

LABELS = ("sad", "angry", "keen")
KS = [1, 2, 7, 30]


def sample(n: int = 90, d: int = 12, n_labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + d)
    index = rng.integers(0, n_labels, n)
    X = rng.normal(size=(n_labels, d))[index] + 1.5 * rng.normal(size=(n, d))
    return X.astype(np.float32), np.array(LABELS)[index]


def problem(n_labels: int = 3, **values: object) -> tuple[Problem, list[Fold]]:
    X, y = sample(n_labels=n_labels)
    given = {"grid": {"n_neighbors": KS}, **values}
    head = HeadSpec.model_validate({"kind": "knn", "select": "uar", **given})
    speaker = np.arange(len(X)) % 3
    folds = [Fold(str(i), np.flatnonzero(speaker != i), np.flatnonzero(speaker == i))
             for i in range(3)]  # fmt: skip
    return Problem(X, y, LABELS[:n_labels], head), folds


def run(given: Problem, folds: list[Fold], engine: str, jobs: int = 1) -> tuple[Choice, Fits]:
    head = given.head.model_copy(update={"engine": engine})
    with Fits(Problem(given.X, given.y, given.names, head), jobs, 10**6) as fits:
        return search(fits.problem, folds, fits, "here"), fits


@parametrize_with_checks([CosineNeighbours(2)])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_neighbours_are_those_of_scikit_learn() -> None:
    X, _ = sample(200, 20)
    known, new = X[:150].astype(float), X[150:].astype(float)
    distances = 1 - directions(new) @ directions(known).T
    for k, (row, column) in zip(KS, nearest(distances, KS), strict=True):
        theirs = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(known)
        expected = np.sort(theirs.kneighbors(new, return_distance=False), axis=1)
        assert (column.reshape(len(new), k) == expected).all()
        assert (row == np.repeat(np.arange(len(new)), k)).all()


def test_the_scores_are_smoothed_votes() -> None:
    X, y = sample()
    theirs = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(X[:60], y[:60])
    counts = 7 * theirs.predict_proba(X[60:])
    ours = CosineNeighbours(7).fit(X[:60], y[:60])
    np.testing.assert_allclose(ours.predict_log_proba(X[60:]), np.log((counts + 1) / 10))
    assert (ours.predict(X[60:]) == theirs.predict(X[60:])).all()


def test_by_hand() -> None:
    rows = [[1, 0], [10, 1], [0, 1], [-1, 0]]
    head = CosineNeighbours(3).fit(rows, ["up", "up", "side", "down"])
    # Of (5, 0): angles of 0, 6, 90 and 180 degrees; votes side 1, up 2. Classes: down, side, up.
    np.testing.assert_allclose(np.exp(head.predict_log_proba([[5, 0]])), [[1 / 6, 2 / 6, 3 / 6]])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_rows_at_one_angle_tie_whatever_their_length_and_the_first_are_taken(scale: float) -> None:
    rng = np.random.default_rng(3)
    angle = rng.normal(size=7)
    rows = np.concatenate([rng.normal(size=(4, 7)), np.outer(rng.uniform(0.1, 9, 40), angle)])
    member = np.r_[np.zeros(4, int), np.ones(10, int), np.full(30, 2)]
    order = rng.permutation(44)
    back = np.sort(np.flatnonzero(np.isin(order, np.arange(4, 44))))
    for k in (1, 5, 39):
        counts = votes(scale * angle[None], directions(rows[order]), member[order], [k])[0, 0]
        first = member[order][back[:k]]
        assert counts.tolist() == np.bincount(first, minlength=3).tolist()


def test_a_row_of_zeros_is_as_far_from_all() -> None:
    rows = np.array([[1.0, 0], [0, 1], [-1, 0]])
    assert votes(np.zeros((1, 2)), rows, np.arange(3), [2]).tolist() == [[[1, 1, 0]]]


def test_where_votes_tie_the_first_of_the_label_list_is_predicted() -> None:
    X = np.array([[1.0, 0], [1, 0.1]])
    head = CosineNeighbours(2).fit(X, ["angry", "sad"])
    assert decide(apply(head, X, ("sad", "angry")), ("sad", "angry")).tolist() == ["sad", "sad"]
    assert head.predict(X).tolist() == ["angry", "angry"]


def test_blocks_change_nothing_and_bound_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = sample(300, 9)
    member = np.unique(y[:200], return_inverse=True)[1]
    whole = votes(X[200:], directions(X[:200]), member, KS)
    sizes = []

    def watched(distances: np.ndarray, ks: list[int]) -> Any:
        sizes.append(distances.shape)
        return nearest(distances, ks)

    monkeypatch.setattr(neighbours, "BLOCK", 7 * 200)
    monkeypatch.setattr(neighbours, "nearest", watched)
    assert (votes(X[200:], directions(X[:200]), member, KS) == whole).all()
    assert max(rows * columns for rows, columns in sizes) <= 7 * 200
    assert len(sizes) == 15


@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_search_over_shared_neighbours_is_that_of_the_pipeline(n_labels: int) -> None:
    given, folds = problem(n_labels, scalers=["standard", "minmax", "none"])
    (ours, fits), (theirs, _) = (run(given, folds, engine) for engine in ("exact-path", "sklearn"))
    assert fits.done == len(cells(given.head)) * 3
    pd.testing.assert_frame_equal(ours.table, theirs.table)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=0)
    np.testing.assert_array_equal(ours.values, run(given, folds, "auto", jobs=3)[0].values)
    np.testing.assert_allclose(np.exp(ours.values).sum(axis=1), 1)  # probabilities


def test_a_class_that_a_fold_lacks_has_no_score() -> None:
    given, folds = problem()
    y = given.y.copy()
    y[folds[0].train] = np.where(y[folds[0].train] == "sad", "keen", y[folds[0].train])
    choice, _ = run(Problem(given.X, y, given.names, given.head), folds[:1], "auto")
    scores = choice.values  # noqa: PD011
    assert np.isnan(scores[:, 0]).all()
    np.testing.assert_allclose(np.exp(scores[:, 1:]).sum(axis=1), 1)


def test_a_kept_head_is_read_back() -> None:
    given, folds = problem()
    wanted = Refit([cells(given.head)[2]], folds[0].train, (folds[0].test,), keep=True)
    with Fits(given, 1, 2) as fits:
        (((values,), head),) = refit(given, [wanted], fits)
    data = io.dumps(head)
    assert io.get_untrusted_types(data=data) == OURS[1:]
    loaded = io.loads(data, trusted=OURS)
    np.testing.assert_array_equal(apply(loaded, given.X[folds[0].test], LABELS), values)


@pytest.mark.parametrize("engine", ["auto", "sklearn"])
def test_more_neighbours_than_rows_are_refused_by_the_name_of_the_fold(engine: str) -> None:
    given, folds = problem(grid={"n_neighbors": [61]})
    check_grid(given.head, LABELS)
    expected = "here, inner fold 0: standard, n_neighbors 61: n_neighbors: 61, with n_samples = 60"
    with pytest.raises(RunError, match=expected):
        run(given, folds, engine)


@pytest.mark.parametrize("k", [0, -3, 2.5, "five", True])
def test_numbers_that_count_nothing_are_refused(k: object) -> None:
    given, _ = problem(grid={"n_neighbors": [k]})
    with pytest.raises(RecipeError, match="expected a whole number from 1"):
        check_grid(given.head, LABELS)


def test_the_way_is_said_and_class_weights_are_refused() -> None:
    given, _ = problem()
    assert route(given.head, 100) == "shared neighbours"
    weighted = given.head.model_copy(update={"fixed": {"class_weight": "balanced"}})
    with pytest.raises(RecipeError, match=r"\[head.fixed\] class_weight: knn has no such"):
        check_grid(weighted, LABELS)


def divided(grid: dict[str, list[int]], fixed: dict[str, int]) -> tuple[HeadSpec, SplitPlan]:
    """A head, and a plan of 10 speakers with 6 rows each, of which one speaker has no truth."""
    rows = pd.DataFrame({"corpus": "made", "utterance": [f"{i:02}" for i in range(60)]})
    rows["speaker"] = [str(i % 10) for i in range(60)]
    y = np.array(LABELS)[np.arange(60) % 3]
    split = SplitSpec(outer="leave-one-speaker-out", inner="speaker-k-fold", inner_folds=2)
    head = HeadSpec(kind="knn", select="uar", grid=grid, fixed=fixed)
    return head, make_plan(rows, y, (rows["speaker"] != "3").to_numpy(), split)


def test_more_neighbours_than_the_smallest_inner_fold_are_refused_before_any_fit() -> None:
    head, plan = divided({}, {})
    n_rows = min(len(part.train) for inside in plan.inner for part in inside)
    assert n_rows == 24  # of 9 speakers with a truth 8 remain, and half of these
    expected = (
        r"^\[head.grid\] n_neighbors: got 25, by default of knn, with 24 rows to fit on \(outer "
        r"fold .*, inner fold .*\): the largest that works is 24; as in \[head.grid\] n_neighbors "
        r"= \[1, 3, 5, 9, 15\]$"
    )
    with pytest.raises(RecipeError, match=expected):
        check_sizes(head, plan)


@pytest.mark.parametrize(("table", "refused"), [("grid", [25]), ("fixed", 25)])
def test_the_table_that_asks_for_too_many_neighbours_is_named(table: str, refused: Any) -> None:
    given = {"grid": {}, "fixed": {}, table: {"n_neighbors": refused}}
    expected = rf"^\[head.{table}\] n_neighbors: got 25, with 24 rows to .* works is 24$"
    with pytest.raises(RecipeError, match=expected):
        check_sizes(*divided(**given))


def test_as_many_neighbours_as_rows_are_taken_and_other_heads_ask_for_none() -> None:
    head, plan = divided({"n_neighbors": [24]}, {})
    check_sizes(head, plan)
    check_sizes(HeadSpec(kind="svc", select="uar", grid={"C": [1000]}), plan)
