"""Linear discriminants: scikit-learn's own at every shrinkage, through search, refit and file."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler
from skops import io

import models.fits
from features.common.errors import RecipeError, RunError
from features.recipe.head import HeadSpec
from features.splits.plan import Fold
from models.exact import discriminants
from models.exact.discriminants import Side, ledoit_wolf, obstacle
from models.fits import Fits, route
from models.heads import cells, check_grid
from models.problem import Problem
from models.search import Choice, Refit, refit, search
from models.single import apply
from tests.models import synthetic

LABELS = ("sad", "angry", "keen", "calm")
SHRINKAGES: list[float | str] = ["auto", 1e-3, 0.05, 0.4, 1.0]
SHAPES = [(90, 12), (100, 200), (200, 1)]
IDS = ["n > D", "n < D", "one column"]


def sample(
    n: int, d: int, labels: tuple[str, ...] = LABELS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping, uneven classes in correlated columns of unlike size."""
    rng = np.random.default_rng(seed + n + d)
    share = np.arange(1, len(labels) + 1)
    index = rng.choice(len(labels), n, p=share / share.sum())
    noise = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)
    X = rng.normal(size=(len(labels), d))[index] + noise
    return X * rng.uniform(0.1, 5, d) + rng.normal(size=d), np.array(labels)[index]


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.nanmax(np.abs(theirs)))


def problem(
    shape: tuple[int, int] = (90, 12), labels: tuple[str, ...] = LABELS, **values: object
) -> tuple[Problem, list[Fold]]:
    X, y = sample(*shape, labels)
    given = {"grid": {"shrinkage": SHRINKAGES}, **values}
    head = HeadSpec.model_validate({"kind": "lda", "select": "uar", **given})
    speaker = np.arange(len(X)) % 3
    folds = [Fold(str(i), np.flatnonzero(speaker != i), np.flatnonzero(speaker == i))
             for i in range(3)]  # fmt: skip
    return Problem(X.astype(np.float32), y, labels, head), folds


def run(given: Problem, folds: list[Fold], engine: str, jobs: int = 1) -> tuple[Choice, Fits]:
    head = given.head.model_copy(update={"engine": engine})
    with Fits(Problem(given.X, given.y, given.names, head), jobs, 10**6) as fits:
        return search(fits.problem, folds, fits, "here"), fits


def same(given: Problem, folds: list[Fold]) -> None:
    """All that a search gives is what scikit-learn's estimator gives, for each of its cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.fits, "run_fit", None)  # nothing may fall back on the pipeline
        ours, fits = run(given, folds, "exact-path")
    theirs, others = run(given, folds, "sklearn")
    assert (fits.done, fits.warned) == (others.done, others.warned)
    assert ours.cells == theirs.cells
    pd.testing.assert_frame_equal(ours.table, theirs.table, rtol=1e-9)
    close(ours.values, theirs.values)


@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["four", "two"])
@pytest.mark.parametrize("shape", SHAPES[:2], ids=IDS[:2])
def test_decision_values_are_those_of_scikit_learn(
    shape: tuple[int, int], labels: tuple[str, ...], solver: str
) -> None:
    X, y = sample(*shape, labels)
    new = 3 * np.random.default_rng(1).normal(size=(20, shape[1]))
    for i, found in Side(X, y).discriminants(SHRINKAGES):
        theirs = LinearDiscriminantAnalysis(solver=solver, shrinkage=SHRINKAGES[i]).fit(X, y)
        assert found is not None
        scores = found.scores(new)
        ours = scores[:, 1] - scores[:, 0] if len(labels) == 2 else scores
        close(ours, theirs.decision_function(new))


def test_two_columns_by_hand() -> None:
    """Classes at (-1, 0) and (1, 0) with covariances diag(1, 4): half shrunk, diag(1.75, 3.25)."""
    offsets = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
    X = np.concatenate([offsets - [1, 0], offsets + [1, 0]])
    ((_, found),) = Side(X, np.repeat(["a", "b"], 4)).discriminants([0.5])
    assert found is not None
    np.testing.assert_allclose(found.coef, [[-1 / 1.75, 0], [1 / 1.75, 0]], atol=1e-12)
    np.testing.assert_allclose(found.intercept, np.log(0.5) - 1 / 3.5)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_the_shrinkage_of_ledoit_and_wolf_is_scikit_learns(shape: tuple[int, int]) -> None:
    X = StandardScaler().fit_transform(sample(*shape)[0])
    shrinkage, size = ledoit_wolf(X)
    assert shrinkage == pytest.approx(ledoit_wolf_shrinkage(X), abs=1e-12)
    assert size == pytest.approx(np.trace(X.T @ X) / X.size)


def test_equal_rows_shrink_by_nothing() -> None:
    assert ledoit_wolf(np.zeros((4, 3))) == (0.0, 0.0)


@pytest.mark.parametrize("scaler", ["standard", "minmax", "robust", "none"])
@pytest.mark.parametrize("shape", SHAPES[:2], ids=IDS[:2])
def test_a_search_is_that_of_the_pipeline(shape: tuple[int, int], scaler: str) -> None:
    same(*problem(shape, scalers=[scaler]))


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS[:3]], ids=["two", "three"])
def test_few_classes_and_several_scalers(labels: tuple[str, ...]) -> None:
    same(*problem(labels=labels, scalers=["standard", "none"]))


def test_a_class_that_a_fold_lacks() -> None:
    given, folds = problem()
    y = given.y.copy()
    y[folds[0].train] = np.where(y[folds[0].train] == "sad", "keen", y[folds[0].train])
    lacking = Problem(given.X, y, given.names, given.head)
    same(lacking, folds[:1])
    choice, _ = run(lacking, folds[:1], "exact-path")
    scores = choice.values  # noqa: PD011
    assert np.isnan(scores[:, 0]).all()


@pytest.mark.parametrize(
    "name",
    ["constant columns", "nearly constant column", "duplicate columns", "duplicate rows", "zero"],
)
def test_awkward_columns(name: str) -> None:
    given, folds = problem(scalers=["standard", "none"])
    X = synthetic.awkward(name, given.X.astype(float)).astype(np.float32)
    awkward = Problem(X, given.y, given.names, given.head)
    ours, _ = run(awkward, folds, "auto")
    theirs, _ = run(awkward, folds, "sklearn")
    close(ours.values, theirs.values)
    assert ours.cells == theirs.cells


def test_what_the_shrinkage_leaves_singular_is_left_to_scikit_learn_and_counted() -> None:
    given, folds = problem((60, 200), grid={"shrinkage": [1e-12]})
    choice, fits = run(given, folds, "auto")
    assert fits.warned[discriminants.LOST] == 3
    close(choice.values, run(given, folds, "sklearn")[0].values)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["four", "two"])
@pytest.mark.parametrize("shape", SHAPES[:2], ids=IDS[:2])
def test_a_kept_head_is_scikit_learns_and_predicts_the_same_from_a_file(
    shape: tuple[int, int], labels: tuple[str, ...]
) -> None:
    given, folds = problem(shape, labels)
    grid = cells(given.head)
    train, test = folds[0].train, folds[0].test
    for cell in grid[:3]:
        with Fits(given, 1, 2) as fits:
            (((values,), head),) = refit(given, [Refit([cell], train, (test,), keep=True)], fits)
        loaded = io.loads(io.dumps(head))  # nothing of ours, so that nothing has to be trusted
        assert type(loaded["head"]) is LinearDiscriminantAnalysis
        close(apply(loaded, given.X[test], labels), values, 1e-9)
        theirs = given.pipeline(cell).fit(given.X[train].astype(float), given.y[train])
        new = given.X[test].astype(float)
        assert (loaded.predict(new) == theirs.predict(new)).all()
        close(loaded.predict_proba(new), theirs.predict_proba(new))


def test_threads_change_no_bit() -> None:
    given, folds = problem((60, 200))
    (one, _), (three, _) = (run(given, folds, "auto", jobs) for jobs in (1, 3))
    np.testing.assert_array_equal(one.values, three.values)
    assert one.table.equals(three.table)


def test_a_class_of_one_row() -> None:
    X, y = sample(60, 8)
    y[5] = "rare"
    new = sample(9, 8)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            LinearDiscriminantAnalysis("lsqr", shrinkage).fit(X, y).decision_function(new)
            for shrinkage in SHRINKAGES
        ]
    for i, found in Side(X, y).discriminants(SHRINKAGES):
        assert found is not None
        close(found.scores(new), theirs[i])


def test_what_has_no_shared_covariance_is_said() -> None:
    head = HeadSpec.model_validate(
        {"kind": "lda", "select": "uar", "grid": {"shrinkage": ["none", 0.1]}}
    )
    expected = "shared covariances; scikit-learn: no shrinkage (1 of 2 cells)"
    assert route(head, 100) == expected
    with pytest.raises(RecipeError, match="shrinkage none: no shrinkage"):
        route(head.model_copy(update={"engine": "exact-path"}), 100)
    assert obstacle(LinearDiscriminantAnalysis(shrinkage=0.1)) == "solver svd"
    assert obstacle(LinearDiscriminantAnalysis("lsqr", 0.1, priors=[0.5, 0.5])) != ""


def test_class_weights_are_refused() -> None:
    head = HeadSpec.model_validate(
        {"kind": "lda", "select": "uar", "fixed": {"class_weight": "balanced"}}
    )
    with pytest.raises(RecipeError, match=r"\[head.fixed\] class_weight: lda has no such"):
        check_grid(head, LABELS)


def test_a_row_a_class_is_an_error_that_names_the_fold() -> None:
    given, _ = problem()
    rows = np.array([np.flatnonzero(given.y == label)[0] for label in LABELS])
    with pytest.raises(RunError, match="here: .*each of another class"):
        run(given, [Fold("0", np.sort(rows), np.arange(5))], "auto")
