"""The estimators of the heads that a recipe can name, and the grid that is searched over each.

Conventions
-----------
- A head is `Pipeline([("scaler", ...), ("head", estimator)])`. It is fitted and applied in float64.
  Where columns have weights, a step `weights` between the two multiplies by them.
- A cell is one scaler with one value for each searched parameter. Cells are numbered in grid order:
  scalers outermost, then the parameters in the order of the recipe, the last one fastest. (Not
  `ParameterGrid`, which sorts the names: ties go to the first cell, so the order is a setting.)
- TOML knows no null: the text `"none"` stands for None: `class_weight = ["none", "balanced"]`.
- What is neither searched nor fixed by the recipe is fixed by the record, else scikit-learn's own
  default.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from features.common.errors import RecipeError, nearest
from features.recipe.head import HeadSpec
from features.recipe.known.heads import HEADS
from features.recipe.known.metrics import selections
from features.recipe.known.records import CLASSIFICATION
from features.recipe.training import TrainingSpec
from models.column_weights import ColumnWeights
from models.exact.neighbours import CosineNeighbours
from models.limits import limited

SCALERS: Mapping[str, type | None] = MappingProxyType(
    {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler, "none": None}
)
ESTIMATORS: Mapping[str, type] = MappingProxyType(
    {
        "linear-svr": LinearSVR,
        "svr": SVR,
        "ridge": Ridge,
        "linear-svc": LinearSVC,
        "svc": SVC,
        "logistic": LogisticRegression,
        "lda": LinearDiscriminantAnalysis,
        "knn": CosineNeighbours,
    }
)
"""Of the heads that `features.recipe.known.heads` declares, but for networks (`estimator_of`)."""
MOST_MADE_UP = 1024
"""Rows of a class that a cell is tried with."""


@dataclass(frozen=True)
class GridCell:
    """One point of a grid: its number in grid order, its scaler, and the searched parameters."""

    index: int
    scaler: str
    params: Mapping[str, Any]

    def __str__(self) -> str:
        return ", ".join([self.scaler, *(f"{name} {value}" for name, value in self.params.items())])


def estimator_of(spec: HeadSpec) -> type:
    """The class of a head's estimator; no torch is imported before it is fitted."""
    if not HEADS[spec.kind].neural:
        return ESTIMATORS[spec.kind]
    from models.neural.estimator import NeuralClassifier, NeuralRegressor

    return NeuralClassifier if spec.select in selections(CLASSIFICATION) else NeuralRegressor


def layer_of(spec: HeadSpec, layer: int | str) -> int | str:
    """The layer of the matrix for a head: all of them, where it weighs them itself."""
    return "weighted" if HEADS[spec.kind].all_layers else layer


def parameters_of(spec: HeadSpec, cell: GridCell) -> dict[str, Any]:
    """What an estimator is made with, by its own names."""
    record = HEADS[spec.kind]
    said = spec.training.given() if spec.training else {}
    given = {**record.fixed, **spec.fixed, **said, **cell.params}
    params = {name: None if value == "none" else value for name, value in given.items()}
    if "random_state" in inspect.signature(estimator_of(spec)).parameters:
        params.setdefault("random_state", spec.random_state)
    if not record.neural:
        return params
    of_speakers = {"speaker": spec.speaker, "unseen": spec.unseen} if spec.speaker else {}
    return {**params, **of_speakers, "network": spec.kind}


def cells(spec: HeadSpec) -> list[GridCell]:
    """All cells of a recipe's grid, in grid order.

    A recipe without a grid has that of the record, less what the recipe fixes.

    Parameters
    ----------
    spec : HeadSpec

    Returns
    -------
    list of GridCell
        The scaler changes slowest, the last parameter fastest.
    """
    default = HEADS[spec.kind].grid
    free: Mapping[str, Sequence[Any]] = {k: v for k, v in default.items() if k not in spec.fixed}
    grid = spec.grid or free
    points = itertools.product(spec.scalers, itertools.product(*grid.values()))
    return [
        GridCell(index, scaler, dict(zip(grid, values, strict=True)))
        for index, (scaler, values) in enumerate(points)
    ]


def pipeline(
    spec: HeadSpec, cell: GridCell, weights: NDArray[np.float64] | None = None
) -> Pipeline:
    """The unfitted pipeline of one cell.

    Parameters
    ----------
    spec : HeadSpec
    cell : GridCell
    weights : float64, shape (n_columns,), or None
        What each column is multiplied by behind the scaler.

    Returns
    -------
    Pipeline
        Steps `scaler`, `weights` where there are some, and `head`.
    """
    scaler = SCALERS[cell.scaler]
    weighting = [] if weights is None else [("weights", ColumnWeights(weights))]
    return Pipeline(
        [
            ("scaler", scaler() if scaler else "passthrough"),
            *weighting,
            ("head", estimator_of(spec)(**parameters_of(spec, cell))),
        ]
    )


def check_grid(spec: HeadSpec, labels: Sequence[str], table: str = "head") -> None:
    """Refuse parameters that the estimator lacks and values or combinations that it refuses.

    Each cell is fitted once to a few made-up rows of the given classes, so that hours of work do
    not end in the last cell's `ValueError`.

    Parameters
    ----------
    spec : HeadSpec
    labels : sequence of str
        The classes; empty for regression.
    table : str
        What the head's table is called.

    Raises
    ------
    RecipeError
        Naming every fault.
    """
    known = _searchable(spec)
    faults = [
        f"[{table}.{part}] {name}: {spec.kind} has no such parameter{nearest(name, known)}"
        for part, names in (("grid", spec.grid), ("fixed", spec.fixed))
        for name in names
        if name not in known
    ]
    said = spec.training.given() if spec.training else {}
    for part, given in (("grid", spec.grid), ("fixed", spec.fixed), ("training", said)):
        weights = given.get("class_weight", [])
        faults += [
            f"[{table}.{part}] class_weight: {label!r} is no class{nearest(label, labels)}"
            for weight in (weights if isinstance(weights, list) else [weights])
            for label in (weight if isinstance(weight, dict) else ())
            if label not in labels
        ]
    if not faults:
        faults = [fault for cell in cells(spec) if (fault := _refusal(spec, cell, labels))]
    if faults:
        raise RecipeError("\n  ".join([f"[{table}] {spec.kind}:", *faults]))


def _searchable(spec: HeadSpec) -> Collection[str]:
    """Parameters that a grid may name."""
    if HEADS[spec.kind].neural:
        return TrainingSpec.parameters()
    return inspect.signature(ESTIMATORS[spec.kind]).parameters


def _refusal(spec: HeadSpec, cell: GridCell, labels: Sequence[str]) -> str:
    """What the estimator says against a cell, or an empty text."""
    if HEADS[spec.kind].neural:
        try:
            pipeline(spec, cell)["head"].settings()
        except (ValueError, TypeError) as error:
            return f"{cell}: {error}"
        return ""
    each = max(4, _neighbours(spec, cell))  # rows of a class
    X = np.random.default_rng(0).normal(size=(each * max(len(labels), 2), 2))
    y = np.repeat(list(labels), each) if labels else np.linspace(0, 1, len(X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = pipeline(spec, cell)
            with limited(fitted["head"], len(X)):
                fitted.fit(X, y)
        except (ValueError, TypeError, NotImplementedError) as error:
            return f"{cell}: {' '.join(str(error).split())}"
    if len(labels) > 2 and class_scores(fitted, X).shape[1] != len(labels):
        return f"{cell}: its scores are not one per class; use decision_function_shape = 'ovr'"
    return ""


def _neighbours(spec: HeadSpec, cell: GridCell) -> int:
    """How many rows a cell asks for, within reason; `models.checks` compares it with the folds."""
    asked = {**spec.fixed, **cell.params}.get(HEADS[spec.kind].asks_rows, 0)
    return min(asked, MOST_MADE_UP) if isinstance(asked, int) else 0


def class_scores(head: Any, X: Any) -> NDArray[np.float64]:
    """The score of each class that a fitted head knows; higher is likelier.

    Parameters
    ----------
    head : estimator
        With `decision_function`, else with `predict_log_proba`.
    X : float64, shape (n, n_columns), or what else it takes

    Returns
    -------
    float64, shape (n, n_classes)
        In the order of `head.classes_`; (-d, d) for the one decision value of two classes.
    """
    if not hasattr(head, "decision_function"):
        return np.asarray(head.predict_log_proba(X), dtype=np.float64)
    decision = np.asarray(head.decision_function(X), dtype=np.float64)
    return two_sided(decision) if decision.ndim == 1 else decision


def two_sided(decision: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores (-d, d) of two classes for one decision value.

    Parameters
    ----------
    decision : float64, shape (n,)

    Returns
    -------
    float64, shape (n, 2)
    """
    return np.column_stack([-decision, decision])
