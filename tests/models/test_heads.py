"""Heads: grids and refused parameters."""

from __future__ import annotations

import pytest
from sklearn.svm import LinearSVR

from features.common.errors import RecipeError
from features.recipe.head import HeadSpec
from features.recipe.known.heads import HEADS
from models.heads import cells, check_grid, pipeline

LABELS = ("angry", "calm", "sad")
SELECT = {"regression": "nmse", "classification": "uar"}


def spec(kind: str, **values: object) -> HeadSpec:
    return HeadSpec.model_validate({"kind": kind, "select": SELECT[HEADS[kind].tasks[0]], **values})


def test_cells_come_scalers_first_then_in_the_order_of_the_recipe() -> None:
    grid = {"kernel": ["rbf", "linear"], "C": [1.0, 0.1]}
    found = cells(spec("svc", scalers=["minmax", "none"], grid=grid))
    assert [str(cell) for cell in found[:5]] == [
        "minmax, kernel rbf, C 1.0",
        "minmax, kernel rbf, C 0.1",
        "minmax, kernel linear, C 1.0",
        "minmax, kernel linear, C 0.1",
        "none, kernel rbf, C 1.0",
    ]
    assert [cell.index for cell in found] == list(range(8))


@pytest.mark.parametrize("kind", HEADS)
def test_default_grids_and_fixed_parameters_are_accepted(kind: str) -> None:
    scalers = ["standard", "minmax", "robust", "none"]
    labels = LABELS if HEADS[kind].tasks[0] == "classification" else ()
    check_grid(spec(kind, scalers=scalers), labels)


def test_recipe_wins_over_the_record_and_the_record_over_scikit_learn() -> None:
    one = spec("linear-svr", fixed={"max_iter": 7, "tol": 0.5}, random_state=5)
    head = pipeline(one, cells(one)[2]).named_steps["head"]
    assert isinstance(head, LinearSVR)
    assert (head.max_iter, head.tol, head.C, head.random_state) == (7, 0.5, 1e-4, 5)
    assert (head.loss, head.epsilon) == ("squared_epsilon_insensitive", 0.0)
    two = spec("linear-svr", grid={"epsilon": [0.1]})
    assert pipeline(two, cells(two)[0]).named_steps["head"].epsilon == 0.1


def test_a_fixed_parameter_leaves_the_default_grid() -> None:
    one = spec("svc", fixed={"kernel": "poly"})
    assert [cell.params for cell in cells(one)] == [{"C": c} for c in (0.01, 0.1, 1.0, 10.0)]
    assert pipeline(one, cells(one)[0]).named_steps["head"].kernel == "poly"


def test_class_weights_and_gammas_reach_the_estimator() -> None:
    grid = {"class_weight": ["none", "balanced", {"sad": 2.0}], "gamma": ["scale", 0.5]}
    one = spec("svc", grid=grid)
    check_grid(one, LABELS)
    heads = [pipeline(one, cell).named_steps["head"] for cell in cells(one)]
    assert [(h.class_weight, h.gamma) for h in heads] == [
        (None, "scale"),
        (None, 0.5),
        ("balanced", "scale"),
        ("balanced", 0.5),
        ({"sad": 2.0}, "scale"),
        ({"sad": 2.0}, 0.5),
    ]
    assert all(h.break_ties for h in heads)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("svc", {"grid": {"gama": [1]}}, r"\[head.grid\] gama: svc has no.*did you mean 'gamma'"),
        ("ridge", {"fixed": {"epsilon": 1}}, r"\[head.fixed\] epsilon: ridge has no such"),
        ("svc", {"grid": {"C": [1.0, -1.0]}}, "standard, C -1.0: The 'C' parameter"),
        ("linear-svr", {"fixed": {"loss": "epsilon_insensitive", "dual": False}}, "Unsupported"),
        ("svc", {"fixed": {"class_weight": {"sat": 2.0}}}, "'sat' is no class; .* 'sad'"),
        ("svc", {"fixed": {"kernel": "precomputed"}}, "square"),
        ("svc", {"grid": {"gamma": ["scal"]}}, "'gamma' parameter"),
        ("lda", {"fixed": {"solver": "svd"}}, "shrinkage auto: shrinkage not supported"),
        ("lda", {"grid": {"shrinkage": [1.5]}}, "'shrinkage' parameter"),
    ],
)
def test_parameters_that_cannot_be_are_refused(
    kind: str, values: dict[str, object], message: str
) -> None:
    labels = LABELS if HEADS[kind].tasks[0] == "classification" else ()
    with pytest.raises(RecipeError, match=message):
        check_grid(spec(kind, **values), labels)


def test_scores_that_are_not_one_a_class_are_refused() -> None:
    one = spec("svc", fixed={"decision_function_shape": "ovo", "break_ties": False})
    with pytest.raises(RecipeError, match="use decision_function_shape = 'ovr'"):
        check_grid(one, ("a", "b", "c", "d"))
