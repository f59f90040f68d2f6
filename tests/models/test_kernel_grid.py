"""Shared kernels give what the pipelines give, and what they cannot do is refused or said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

import models.fits
from evaluate.runs.files import read_run
from features.common.errors import RecipeError
from features.common.folders import Folders
from features.recipe.head import HeadSpec
from features.splits.plan import Fold
from models.exact import kernel_grid
from models.fits import Fits, route
from models.heads import cells, pipeline
from models.outputs import load_head
from models.problem import Fit, Problem
from models.search import (
    Choice,
    Refit,
    decide,
    refit,
    search,
)
from tests.models import synthetic

LABELS = ("sad", "angry", "keen", "calm")
SCALERS = ["standard", "minmax", "robust", "none"]
ENDS = {"kernel": ["linear", "rbf"], "C": [1e-5, 0.5, 100.0]}
SVR_ENDS = {"kernel": ["linear", "rbf"], "C": [1e-5, 0.1, 2.0]}


def spec(kind: str, **values: object) -> HeadSpec:
    select = "uar" if kind in ("svc", "linear-svc", "logistic") else "nmse"
    return HeadSpec.model_validate({"kind": kind, "select": select, **values})


def by_speaker(speaker: np.ndarray) -> list[Fold]:
    return [
        Fold(str(one), np.flatnonzero(speaker != one), np.flatnonzero(speaker == one))
        for one in np.unique(speaker)
    ]


def classes(
    n: int = 90, d: int = 20, labels: tuple[str, ...] = LABELS, **values: object
) -> tuple[Problem, list[Fold]]:
    """Overlapping classes of three speakers."""
    rng = np.random.default_rng(n + d)
    index = rng.choice(
        len(labels), n, p=np.arange(1, len(labels) + 1) / sum(range(len(labels) + 1))
    )
    X = rng.normal(size=(len(labels), d))[index] + 1.5 * rng.normal(size=(n, d))
    y = np.array(labels)[index]
    head = spec("svc", **values)
    return Problem(X.astype(np.float32), y, labels, head), by_speaker(rng.integers(0, 3, n))


def shares(n: int = 48, d: int = 16, **values: object) -> tuple[Problem, list[Fold]]:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, d)) * rng.uniform(0.5, 3, d) + rng.normal(size=d)
    Y = np.clip(X[:, :2] / 10 + 0.4 + 0.2 * rng.normal(size=(n, 2)), 0, 1)
    head = spec("svr", **values)
    return Problem(X.astype(np.float32), Y, ("calm", "sad"), head), by_speaker(np.arange(n) % 3)


def run(problem: Problem, folds: list[Fold], engine: str, jobs: int = 1) -> tuple[Choice, Fits]:
    head = problem.head.model_copy(update={"engine": engine})
    with Fits(Problem(problem.X, problem.y, problem.names, head), jobs, 10**6) as fits:
        return search(fits.problem, folds, fits, "here"), fits


def same(problem: Problem, folds: list[Fold], rtol: float = 1e-6) -> None:
    """All that a search gives is the same on both engines, for each of its cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.fits, "run_fit", None)  # nothing may fall back on the pipeline
        ours, fits = run(problem, folds, "exact-path")
    theirs, others = run(problem, folds, "sklearn")
    assert (fits.done, fits.warned) == (others.done, others.warned)
    assert ours.cells == theirs.cells
    pd.testing.assert_frame_equal(ours.table, theirs.table, rtol=1e-9, atol=1e-12)
    size = np.nanmax(np.abs(theirs.values))
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=rtol * size)
    if problem.labels:
        assert (decide(ours.values, problem.labels) == decide(theirs.values, problem.labels)).all()


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]], ids=["four", "two"])
@pytest.mark.parametrize("shape", [(90, 20), (45, 200)], ids=["n > D", "n < D"])
def test_classes(labels: tuple[str, ...], shape: tuple[int, int]) -> None:
    grid = {"gamma": ["scale", "auto", 0.03], **ENDS}
    same(*classes(*shape, labels, scalers=SCALERS[:2], grid=grid))


@pytest.mark.parametrize("scaler", SCALERS)
def test_scalers_and_class_weights(scaler: str) -> None:
    weights = ["none", "balanced", {"sad": 3.0, "calm": 0.5}]
    same(*classes(scalers=[scaler], grid={"class_weight": weights, "kernel": ["rbf", "linear"]}))
    same(*shares(scalers=[scaler], grid=SVR_ENDS))


def test_a_class_that_a_fold_lacks() -> None:
    problem, folds = classes(grid=ENDS)
    y = problem.y.copy()
    y[folds[0].train] = np.where(y[folds[0].train] == "sad", "keen", y[folds[0].train])
    lacking = Problem(problem.X, y, problem.names, problem.head)
    same(lacking, folds)
    choice, _ = run(lacking, folds, "exact-path")
    scores = choice.values  # noqa: PD011
    assert np.isnan(scores[:, 0]).any()


@pytest.mark.parametrize("per_target", [False, True])
def test_regression(per_target: bool) -> None:
    grid = {"epsilon": [0.0, 0.05, 5.0], "gamma": ["scale", 0.01], **SVR_ENDS}
    same(*shares(grid=grid, per_target=per_target))


@pytest.mark.parametrize(
    "name", ["constant columns", "duplicate columns", "duplicate rows", "1e6 and 1e-6", "one value"]
)
def test_awkward_columns(name: str) -> None:
    for problem, folds in (classes(grid=ENDS, scalers=SCALERS[:3]), shares(grid=SVR_ENDS)):
        X = synthetic.awkward(name, problem.X.astype(float)).astype(np.float32)
        same(Problem(X, problem.y, problem.names, problem.head), folds)


def test_rows_far_from_the_origin_are_left_to_scikit_learn_and_counted() -> None:
    problem, folds = classes(scalers=["none"], grid={"gamma": [0.1], "kernel": ["rbf"]})
    far = Problem(problem.X + np.float32(1e4), problem.y, problem.names, problem.head)
    choice, fits = run(far, folds, "auto")
    assert fits.warned == {kernel_grid.LOST: 3}
    pd.testing.assert_frame_equal(choice.table, run(far, folds, "sklearn")[0].table, rtol=1e-9)


def test_a_mixed_grid_gives_the_pipelines_table() -> None:
    problem, folds = classes(grid={"kernel": ["poly", "rbf", "sigmoid"], "C": [1.0, 0.1]})
    ours, theirs = (run(problem, folds, engine)[0] for engine in ("auto", "sklearn"))
    pd.testing.assert_frame_equal(ours.table, theirs.table, rtol=1e-9)
    assert ours.cells == theirs.cells


def test_ties_go_to_the_first_cell() -> None:
    problem, folds = classes(grid={"gamma": [0.5, 0.1], "C": [1.0], "kernel": ["linear"]})
    ours, theirs = (run(problem, folds, engine)[0] for engine in ("exact-path", "sklearn"))
    assert ours.cells[0].index == theirs.cells[0].index == 0
    assert len(set(ours.table["score"])) == 1


def test_threads_and_split_groups_give_what_one_thread_gives() -> None:
    problem, folds = classes(grid=ENDS)
    alone, _ = run(problem, folds[:1], "auto")
    split, fits = run(problem, folds[:1], "auto", jobs=2)
    assert fits.threads == 2
    assert alone.table.equals(split.table)
    np.testing.assert_array_equal(alone.values, split.values)


def test_fewer_groups_than_threads_are_split_by_kernel() -> None:
    problem, folds = classes()  # two kernels, four values of C
    fits = Fits(problem, 1, 1)
    fits.threads = 2
    for n, expected in (
        (1, [["linear"] * 4, ["rbf"] * 4]),
        (2, [["linear"] * 4 + ["rbf"] * 4] * 2),
    ):
        plan = [
            Fit(pipeline(problem.head, cell), (), fold.train, (fold.test,))
            for cell in cells(problem.head)
            for fold in folds[:n]
        ]
        _, shared, alone = fits._groups(plan)
        assert [[plan[i].pipeline["head"].kernel for i in group] for _, group in shared] == expected
        assert alone == []


def test_a_kept_head_is_the_pipeline_and_its_refit_the_same() -> None:
    problem, folds = classes(grid=ENDS)
    choice, _ = run(problem, folds, "auto")
    wanted = [Refit(choice.cells, folds[0].train, (folds[0].test,), "", keep) for keep in (0, 1)]
    with Fits(problem, 1, 2) as fits:
        ((ours,), none), ((theirs,), head) = refit(problem, wanted, fits)
    assert none is None
    assert isinstance(head, Pipeline)
    assert head["head"].kernel == choice.cells[0].params["kernel"]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (
            spec("logistic", engine="exact-path"),
            "standard, C 1e-05: LogisticRegression has no exact route",
        ),
        (
            spec("svc", engine="exact-path", grid={"kernel": ["rbf", "poly"]}),
            "standard, kernel poly: kernel poly",
        ),
        (spec("svc", engine="exact-path", fixed={"probability": True}), "C 0.01: probability"),
        (spec("svr", engine="exact-path", fixed={"max_iter": 9}), "linear, C 0.01: max_iter"),
    ],
)
def test_exact_path_refuses_what_has_no_exact_route(head: HeadSpec, fault: str) -> None:
    with pytest.raises(RecipeError, match=rf"'auto'.*(.|\n)*{fault}"):
        route(head, 100)
    auto = head.model_copy(update={"engine": "auto"})
    assert "scikit-learn: " + fault.rpartition(": ")[2] in route(auto, 100)


def test_the_route_is_said_in_words() -> None:
    assert route(spec("svc"), 100) == "shared kernels"
    assert route(spec("svc", engine="sklearn"), 100) == "scikit-learn: engine"
    mixed = spec("svc", grid={"kernel": ["rbf", "poly", "linear"]})
    assert route(mixed, 100) == "shared kernels; scikit-learn: kernel poly (1 of 3 cells)"
    assert route(spec("svr"), 9000) == "scikit-learn: 9000 rows, at most 8192"
    with pytest.raises(RecipeError, match="9000 rows, at most 8192"):
        route(spec("svr", engine="exact-path"), 9000)


def test_train_says_and_records_the_route(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.classes(tmp_path)
    text = """
target = "emotion"
[split]
outer = "leave-one-session-out"
inner_folds = 3
[head]
kind = "svc"
select = "uar"
engine = "{}"
[head.grid]
kernel = ["linear", "rbf"]
"""
    said = {"auto": "shared kernels", "sklearn": "scikit-learn: engine"}
    tables = []
    for engine, words in said.items():
        recipe = synthetic.recipe(tmp_path, text.format(engine))
        runs = tmp_path / engine
        folder = synthetic.train(
            recipe, "one", folders=Folders(stores=tmp_path, runs=runs), jobs=1, tell=print
        )
        assert capsys.readouterr().out.endswith(f", {words}\n")
        record = read_run(folder)
        assert record is not None
        assert record["engine"] == words
        assert record["inputs"]["head"]["engine"] == engine
        tables.append([pd.read_csv(folder / f"{one}.csv") for one in ("search", "predictions")])
        assert load_head(folder / "head.skops")["head"].kernel in ("linear", "rbf")
    for ours, theirs in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9, atol=1e-10)
