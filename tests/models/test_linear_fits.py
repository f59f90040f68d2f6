"""Linear heads of shared Gram matrices give what scikit-learn's own give, and are such heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from skops import io

import models.fits
from features.common.errors import RecipeError
from features.recipe.head import HeadSpec
from features.splits.plan import Fold
from models.exact import linear_fits
from models.exact.linear_fits import LOST, obstacle
from models.fits import Fits, route
from models.heads import cells
from models.problem import Fit, Problem
from models.search import (
    Choice,
    Refit,
    decide,
    refit,
    search,
)
from models.single import Fitted, apply
from tests.models import synthetic

LABELS = ("sad", "angry", "keen", "calm")
SCALERS = ["standard", "minmax", "robust", "none"]
PRIMAL = {"tol": 1e-11, "dual": False, "max_iter": 100_000}
DUAL = {"tol": 1e-9, "dual": True, "max_iter": 40_000}
SHAPES = [(90, 10), (45, 60)]
IDS = ["n > D", "n < D"]
KINDS = ["linear-svr", "linear-svc", "ridge"]
SUMMED = 1e-8
"""What the order in which rows are summed may change, relative to the spread."""
CS = [1e-4, 1e-2, 1.0]


class Recorded(Fits):
    """Keeps what each fit gave."""

    results: list[Fitted]

    def __call__(self, fits: Sequence[Fit]) -> list[Fitted]:
        self.results = super().__call__(fits)
        return self.results


def spec(kind: str, **values: object) -> HeadSpec:
    select = "uar" if kind == "linear-svc" else "nmse"
    if kind == "ridge":
        values = {"grid": {"alpha": [1e-2, 1.0, 1e3, 1e6]}} | values
    else:
        values = {"grid": {"C": CS}, "fixed": PRIMAL} | values
    return HeadSpec.model_validate({"kind": kind, "select": select, **values})


def by_speaker(speaker: np.ndarray) -> list[Fold]:
    return [
        Fold(str(one), np.flatnonzero(speaker != one), np.flatnonzero(speaker == one))
        for one in np.unique(speaker)
    ]


def problem_of(
    kind: str,
    shape: tuple[int, int] = SHAPES[0],
    labels: tuple[str, ...] = LABELS,
    n_speakers: int = 3,
    **values: object,
) -> tuple[Problem, list[Fold]]:
    """Overlapping classes, or two targets, of some speakers."""
    n, d = shape
    rng = np.random.default_rng(n + d)
    head, folds = spec(kind, **values), by_speaker(rng.integers(0, n_speakers, n))
    if kind == "linear-svc":
        weights = np.arange(1, len(labels) + 1)
        index = rng.choice(len(labels), n, p=weights / weights.sum())
        X = rng.normal(size=(len(labels), d))[index] + 1.5 * rng.normal(size=(n, d))
        return Problem(X.astype(np.float32), np.array(labels)[index], labels, head), folds
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 3, d) + rng.normal(size=d)
    Y = np.clip(X[:, :2] / 10 + 0.4 + 0.2 * rng.normal(size=(n, 2)), 0, 1)
    return Problem(X.astype(np.float32), Y, ("calm", "sad"), head), folds


def run(
    problem: Problem,
    folds: list[Fold],
    engine: str = "exact-path",
    jobs: int = 1,
    parts: Sequence[np.ndarray] = (),
) -> tuple[Choice, Recorded]:
    head = problem.head.model_copy(update={"engine": engine})
    given = Problem(problem.X, problem.y, problem.names, head)
    with Recorded(given, jobs, 10**6, parts=parts) as fits:
        fits.serial, fits.jobs = True, 1
        return search(given, folds, fits, "here"), fits


def close(ours: np.ndarray, theirs: np.ndarray, rtol: float) -> None:
    """Equal to `rtol` of the spread of each column, or of 1 % of the values if they hardly vary."""
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    ours, theirs = np.nan_to_num(ours), np.nan_to_num(theirs)
    spread = np.maximum(theirs.std(axis=0), 0.01 * np.abs(theirs).max(axis=0))
    assert (np.abs(ours - theirs) <= rtol * spread).all(), np.max(np.abs(ours - theirs) / spread)


def same(problem: Problem, folds: list[Fold], rtol: float | None = None) -> None:
    """Each fit of a search, and the choice, is the same on both engines."""
    # However small its `tol`, liblinear's search in the primal ends up to 3e-6 from the minimum.
    rtol = rtol or (1e-6 if problem.head.kind == "ridge" else 5e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.fits, "run_fit", None)  # nothing may fall back on the pipeline
        ours, fits = run(problem, folds)
    theirs, others = run(problem, folds, "sklearn")
    assert fits.done == others.done
    assert fits.warned == Counter()
    for one, other in zip(fits.results, others.results, strict=True):
        close(one.outputs[0], other.outputs[0], rtol)
    scores = [choice.table.filter(like="score").to_numpy() for choice in (ours, theirs)]
    np.testing.assert_allclose(*scores, rtol=10 * rtol, atol=1e-12)
    for cell, other, mine in zip(ours.cells, theirs.cells, ours.scores, strict=True):
        rows = theirs.table[theirs.table["cell"] == cell.index]
        assert cell == other or abs(rows["score"].mean() - mine) < 1e-6
    if problem.labels:
        assert (decide(ours.values, problem.labels) == decide(theirs.values, problem.labels)).all()


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_scalers(kind: str, shape: tuple[int, int], scaler: str) -> None:
    same(*problem_of(kind, shape, scalers=[scaler]))


def test_several_scalers_at_once() -> None:
    for kind in KINDS:
        same(*problem_of(kind, scalers=SCALERS))


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_two_classes(shape: tuple[int, int]) -> None:
    for labels in (("sad", "angry"), ("angry", "sad")):
        same(*problem_of("linear-svc", shape, labels))


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["four", "two"])
def test_class_weights(labels: tuple[str, ...], shape: tuple[int, int]) -> None:
    weights = ["none", "balanced", {"sad": 3.0, "angry": 0.5}]
    same(*problem_of("linear-svc", shape, labels, grid={"class_weight": weights, "C": [0.01, 0.5]}))


@pytest.mark.parametrize("weight", ["none", "balanced"])
@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("labels", [LABELS, LABELS[:3]], ids=["four", "three"])
def test_a_class_that_a_fold_lacks(
    labels: tuple[str, ...], shape: tuple[int, int], weight: str
) -> None:
    grid = {"C": CS, "class_weight": [weight]}
    problem, folds = problem_of("linear-svc", shape, labels, grid=grid)
    y = problem.y.copy()
    y[folds[0].train] = np.where(y[folds[0].train] == "sad", "keen", y[folds[0].train])
    lacking = Problem(problem.X, y, problem.names, problem.head)
    same(lacking, folds)
    scores = run(lacking, folds)[0].values  # noqa: PD011
    assert np.isnan(scores[np.isin(np.arange(len(y)), folds[0].test), 0]).all()
    assert not np.isnan(scores[:, 1:]).any()


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_epsilon_in_the_grid(shape: tuple[int, int]) -> None:
    same(*problem_of("linear-svr", shape, grid={"epsilon": [0.0, 0.02, 0.1, 5.0], "C": CS[:2]}))


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_loss_in_the_grid(kind: str, shape: tuple[int, int]) -> None:
    losses = {
        "linear-svr": ["epsilon_insensitive", "squared_epsilon_insensitive"],
        "linear-svc": ["hinge", "squared_hinge"],
    }
    grid = {"loss": losses[kind], "C": [1e-3, 1e-2, 0.05]}
    same(*problem_of(kind, shape, grid=grid, fixed=DUAL), 1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_intercepts_in_the_grid(kind: str, shape: tuple[int, int]) -> None:
    grid: dict[str, Any] = {"fit_intercept": [True, False]}
    more: dict[str, Any] = {"alpha": [1.0]} if kind == "ridge" else {"intercept_scaling": [1, 10.0]}
    same(*problem_of(kind, shape, scalers=["standard", "none"], grid=grid | more))


@pytest.mark.parametrize("per_target", [False, True])
@pytest.mark.parametrize("kind", ["linear-svr", "ridge"])
def test_targets(kind: str, per_target: bool) -> None:
    for shape in SHAPES:
        problem, folds = problem_of(kind, shape, per_target=per_target)
        problem.y[:] = np.random.default_rng(1).normal(size=problem.y.shape)
        problem.y[:, 0] += 3 * problem.X[:, :3].sum(axis=1)
        same(problem, folds)
        cells = run(problem, folds)[0].cells
        assert len({cell.index for cell in cells}) == (2 if per_target else 1)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize(
    "name",
    [
        "constant columns",
        "nearly constant column",
        "duplicate columns",
        "duplicate rows",
        "1e6 and 1e-6",
        "far away",
        "one value",
    ],
)
def test_awkward_columns(name: str, shape: tuple[int, int]) -> None:
    for kind in KINDS:
        problem, folds = problem_of(kind, shape, scalers=SCALERS[:3])
        X = synthetic.awkward(name, problem.X.astype(float)).astype(np.float32)
        same(Problem(X, problem.y, problem.names, problem.head), folds)


@pytest.mark.parametrize("name", ["constant columns", "duplicate columns", "duplicate rows"])
def test_awkward_columns_and_plain_losses(name: str) -> None:
    for kind, loss in (("linear-svr", "epsilon_insensitive"), ("linear-svc", "hinge")):
        values = {"grid": {"C": [1e-2, 0.1]}, "fixed": {**DUAL, "loss": loss}}
        problem, folds = problem_of(kind, labels=LABELS[:2], **values)
        X = synthetic.awkward(name, problem.X.astype(float)).astype(np.float32)
        same(Problem(X, problem.y, problem.names, problem.head), folds, 1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("scaler", ["standard", "minmax", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_kept_heads_are_scikit_learns(kind: str, scaler: str, shape: tuple[int, int]) -> None:
    problem, folds = problem_of(kind, shape, scalers=[scaler])
    choice, _ = run(problem, folds)
    train, test = folds[1].train, folds[1].test
    outcomes = []
    for engine in ("exact-path", "sklearn"):
        head = problem.head.model_copy(update={"engine": engine})
        given = Problem(problem.X, problem.y, problem.names, head)
        with Fits(given, 1, 2) as fits:
            (outcome,) = refit(given, [Refit(choice.cells, train, (test, train), "", True)], fits)
        outcomes.append(outcome)
    (ours, head), (theirs, other) = outcomes
    X = problem.X.astype(np.float64)
    loaded = io.loads(io.dumps(head))  # nothing of ours, so that nothing has to be trusted
    for positions, one, two in zip((test, train), ours, theirs, strict=True):
        close(one, two, 1e-6)
        for model in (head, loaded):
            close(apply(model, X[positions], problem.labels), one, 1e-9)
    assert type(head) is type(other)
    pairs = [(head, other)]
    if isinstance(head, MultiOutputRegressor):
        assert len(head.estimators_) == 2
        assert head.n_features_in_ == other.n_features_in_
        pairs = list(zip(head.estimators_, other.estimators_, strict=True))
    for mine, their in pairs:
        assert isinstance(mine, Pipeline)
        assert [type(one) for _, one in mine.steps] == [type(one) for _, one in their.steps]
        final, expected = mine["head"], their["head"]
        assert final.get_params() == expected.get_params()
        for name in ("coef_", "intercept_"):
            assert np.shape(getattr(final, name)) == np.shape(getattr(expected, name)), name
            np.testing.assert_allclose(
                getattr(final, name), getattr(expected, name), rtol=1e-4, atol=1e-6
            )
        for name in ("classes_", "n_features_in_"):
            np.testing.assert_array_equal(getattr(final, name, 0), getattr(expected, name, 0))
        assert set(vars(expected)) <= set(vars(final)) | {"feature_names_in_"}


def test_kept_heads_of_a_target_each() -> None:
    problem, folds = problem_of("ridge", per_target=True)
    problem.y[:, 1] = np.random.default_rng(1).normal(size=len(problem.y))
    choice, _ = run(problem, folds)
    with Fits(problem, 1, 2) as fits:
        ((values,), head) = refit(
            problem, [Refit(choice.cells, folds[0].train, (folds[0].test,), "", True)], fits
        )[0]
    assert [one["head"].alpha for one in head.estimators_] == [
        cell.params["alpha"] for cell in choice.cells
    ]
    predicted = io.loads(io.dumps(head)).predict(problem.X[folds[0].test].astype(np.float64))
    close(predicted, values, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_row_numbers_of_parts_or_none(kind: str) -> None:
    problem, folds = problem_of(kind, (400, 9), n_speakers=5, scalers=SCALERS)
    _, plain = run(problem, folds)
    rng = np.random.default_rng(3)
    for parts in (
        [fold.test for fold in folds],
        [fold.test for fold in folds[:2]],
        [one for fold in folds for one in np.array_split(fold.test, 2)],
        [np.flatnonzero(rng.integers(0, 7, 400) == 3)],  # no part of a fold
    ):
        _, fits = run(problem, folds, parts=parts)
        for one, other in zip(fits.results, plain.results, strict=True):
            close(one.outputs[0], other.outputs[0], SUMMED)


def counted(monkeypatch: pytest.MonkeyPatch, n: int) -> np.ndarray:
    """How often each row is read for sums, from now on."""
    reads = np.zeros(n, dtype=int)
    sums = linear_fits.sums

    def count(part: Any, *args: Any) -> Any:
        np.add.at(reads, part.positions, 1)
        return sums(part, *args)

    monkeypatch.setattr(linear_fits, "sums", count)
    return reads


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_serves_all_folds_and_the_refit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, folds = problem_of(kind, (400, 9), n_speakers=5, scalers=SCALERS[:2])
    every = np.arange(400)
    for parts, expected in (([fold.test for fold in folds], 1), ([], 2)):
        reads = counted(monkeypatch, 400)
        with Fits(problem, 1, 2, parts=parts) as fits:
            choice = search(problem, folds, fits, "here")
            assert (reads == 1).all()
            refit(problem, [Refit(choice.cells, every, (), "", True)], fits)
        assert (reads == expected).all()
        monkeypatch.undo()


def test_sums_that_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, folds = problem_of("linear-svr", (400, 9), n_speakers=5, scalers=SCALERS)
    parts = [fold.test for fold in folds]
    _, plain = run(problem, folds)
    size = 8 * 9**2
    for budget, least in ((0, 1200), (3 * size, 800)):
        monkeypatch.setattr(linear_fits, "BUDGET", budget)
        reads = counted(monkeypatch, 400)
        for given in ((), parts):
            _, fits = run(problem, folds, parts=given)
            assert reads.sum() >= least
            assert len(fits._paths._kept) * size <= budget
            for one, other in zip(fits.results, plain.results, strict=True):
                close(one.outputs[0], other.outputs[0], SUMMED)
        monkeypatch.undo()


@pytest.mark.parametrize("n_folds", [1, 2, 5])
@pytest.mark.parametrize("shape", [(700, 9), (45, 60)], ids=IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_number_depends_on_the_threads(kind: str, shape: tuple[int, int], n_folds: int) -> None:
    grid = {} if kind == "ridge" else {"fixed": {}, "grid": {"C": CS}}
    problem, folds = problem_of(kind, shape, n_speakers=5, scalers=SCALERS[:2], **grid)
    results = [run(problem, folds[:n_folds], jobs=jobs)[1].results for jobs in (1, 2, 3)]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one.outputs[0], two.outputs[0])


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_done_is_scikit_learns_and_counted(
    kind: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, folds = problem_of(kind, shape)
    _, theirs = run(problem, folds, "sklearn")
    solve = linear_fits.solve

    def lost(*args: Any, **kwargs: Any) -> Any:
        solution = solve(*args, **kwargs)
        return replace(solution, done=np.zeros_like(solution.done))

    monkeypatch.setattr(linear_fits, "solve", lost)
    _, ours = run(problem, folds)
    assert ours.warned == {LOST: len(ours.results), **theirs.warned}
    assert ours.done == theirs.done == len(ours.results)
    for one, other in zip(ours.results, theirs.results, strict=True):
        np.testing.assert_array_equal(one.outputs[0], other.outputs[0])


def test_only_what_is_not_done_is_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, folds = problem_of("linear-svr")
    solve = linear_fits.solve

    def lost(operator: Any, columns: Any, *args: Any, **kwargs: Any) -> Any:
        solution = solve(operator, columns, *args, **kwargs)
        return replace(solution, done=solution.done & (columns.C != 1.0))

    monkeypatch.setattr(linear_fits, "solve", lost)
    choice, fits = run(problem, folds)
    assert fits.warned[LOST] == 3 * 2  # one C of three, three folds, two targets
    with Fits(problem, 1, 2) as again:
        cell = next(c for c in cells(problem.head) if c.params["C"] == 1.0)
        ((_, head),) = refit(problem, [Refit([cell], folds[0].train, (), "", True)], again)
    assert again.warned[LOST] == 2
    assert head.estimators_[0]["head"].n_iter_ > 0
    assert len(choice.values) == len(problem.X)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@pytest.mark.parametrize("kind", KINDS)
def test_empty_test_parts(kind: str, shape: tuple[int, int]) -> None:
    problem, folds = problem_of(kind, shape)
    choice, _ = run(problem, folds)
    tests = (np.arange(0), folds[0].test, np.arange(0))
    with Fits(problem, 1, 2) as fits:
        ((values, head),) = refit(problem, [Refit(choice.cells, folds[0].train, tests)], fits)
    width = len(problem.names)
    assert [one.shape for one in values] == [(0, width), (len(folds[0].test), width), (0, width)]
    assert head is None


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (LinearSVC(penalty="l1"), "penalty l1"),
        (LinearSVC(multi_class="crammer_singer"), "multi_class crammer_singer"),
        (Ridge(positive=True), "positive"),
        (Ridge(alpha=0), "alpha 0"),
        (Ridge(alpha=0.0), "alpha 0"),
        (Ridge(), ""),
        (LinearSVC(loss="hinge"), ""),
        (LinearSVR(epsilon=0.3), ""),
    ],
)
def test_obstacles(estimator: Any, why: str) -> None:
    assert obstacle(estimator) == why


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (spec("linear-svc", fixed={"penalty": "l1", "dual": False}), "penalty l1"),
        (spec("linear-svc", fixed={"multi_class": "crammer_singer"}), "multi_class crammer_sing"),
        (spec("ridge", fixed={"positive": True}), "positive"),
        (spec("ridge", grid={"alpha": [0.0, 1.0]}), "alpha 0"),
    ],
)
def test_what_has_an_obstacle_is_refused_or_left_to_scikit_learn(
    head: HeadSpec, fault: str
) -> None:
    exact = head.model_copy(update={"engine": "exact-path"})
    with pytest.raises(RecipeError, match=rf"'auto'.*(.|\n)*{fault}"):
        route(exact, 100)
    assert fault in route(head, 100)
    problem, folds = problem_of(head.kind)
    given = Problem(problem.X, problem.y, problem.names, head)
    (ours, fits), (theirs, _) = (run(given, folds, engine) for engine in ("auto", "sklearn"))
    pd.testing.assert_frame_equal(ours.table, theirs.table, rtol=1e-6)
    assert LOST not in fits.warned


def test_the_route_is_said_in_words() -> None:
    for kind in KINDS:
        assert route(spec(kind), 10**6) == "exact path"
    mixed = spec("ridge", grid={"alpha": [0.0, 1.0, 2.0]})
    assert route(mixed, 100) == "exact path; scikit-learn: alpha 0 (1 of 3 cells)"


def test_a_scaler_warns_as_in_the_pipeline_or_not_at_all() -> None:
    """Scaling a constant column says nothing."""
    problem, folds = problem_of("ridge", scalers=SCALERS[:3])
    problem.X[:, 0] = 1e8
    _, fits = run(problem, folds)
    assert fits.warned == Counter()


def test_a_pipeline_of_its_own_is_left_unfitted() -> None:
    problem, folds = problem_of("linear-svr")
    pipeline = Pipeline([("scaler", StandardScaler()), ("head", LinearSVR(**PRIMAL, loss=LOSS))])
    fits = [Fit(pipeline, (0,), folds[0].train, (folds[0].test,), keep) for keep in (True, False)]
    with Fits(problem, 1, 2) as runner:
        first, second = runner(fits)
    np.testing.assert_array_equal(first.outputs[0], second.outputs[0])
    assert second.pipeline is None
    assert first.pipeline is not pipeline
    assert not hasattr(pipeline["head"], "coef_")
    assert not hasattr(pipeline["scaler"], "mean_")
    assert clone(first.pipeline).get_params()["head__C"] == 1.0


LOSS = "squared_epsilon_insensitive"


def test_kept_scalers_are_fitted_to_the_training_rows() -> None:
    problem, folds = problem_of("ridge", scalers=["minmax"])
    cell = cells(problem.head)[0]
    with Fits(problem, 1, 2) as fits:
        ((_, head),) = refit(problem, [Refit([cell], folds[0].train, (), "", True)], fits)
    expected = MinMaxScaler().fit(problem.X[folds[0].train].astype(np.float64))
    np.testing.assert_array_equal(head["scaler"].data_min_, expected.data_min_)
    np.testing.assert_array_equal(head["scaler"].scale_, expected.scale_)
