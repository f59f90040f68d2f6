"""The heads that `[head] kind` may name; `models.heads` has their estimators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from features.recipe.known.records import CLASSIFICATION, REGRESSION, TASKS, by_key
from features.recipe.known.training import ON_FRAMES

_CLASSES, _VALUES = (CLASSIFICATION,), (REGRESSION,)
_DECADES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Head:
    """One kind of head.

    Attributes
    ----------
    key : str
        What a recipe calls it.
    tasks : tuple of str
    grid : mapping
        Parameters that are searched where the recipe gives no grid, by scikit-learn's names.
    fixed : mapping
        Parameters set where the recipe neither searches nor fixes them.
    several : bool
        Whether one fit takes all targets at once and gives what one fit a target would.
    exact : bool
        Whether an exact path may do the work of its solver (`[head] engine`).
    draws_rows : bool
        Whether its own solver draws rows by `random_state` unless `dual = false`.
    asks_rows : str
        The parameter that asks for so many rows to fit on; empty where none does.
    neural : bool
        Whether it is a network: settings stand in `[head.training]`, a grid has their names.
    all_layers : bool
        Whether it takes all stored layers, and weighs them itself.
    frames : bool
        Whether it takes frames of utterances, not pooled rows.
    scalers : tuple of str
        Where the recipe names none.
    """

    key: str
    tasks: tuple[str, ...]
    grid: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    several: bool = False
    exact: bool = False
    draws_rows: bool = False
    asks_rows: str = ""
    neural: bool = False
    all_layers: bool = False
    frames: bool = False
    scalers: tuple[str, ...] = ("standard",)


# The grid of linear-svr is that of the emotion-share paper. With its squared loss, primal and dual
# have one optimum, and scikit-learn's "auto" takes the one that suits the shape of X.
HEADS = by_key(
    [
        Head(
            "linear-svr",
            _VALUES,
            {"C": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)},
            {
                "loss": "squared_epsilon_insensitive",
                "epsilon": 0.0,
                "max_iter": 50000,
                "dual": "auto",
            },
            exact=True,
            draws_rows=True,
        ),
        Head("svr", _VALUES, {"kernel": ("linear", "rbf"), "C": (1e-2, 1e-1, 1.0)}, exact=True),
        Head(
            "ridge", _VALUES, {"alpha": tuple(10.0**i for i in range(6))}, several=True,
            exact=True,
        ),
        Head(
            "linear-svc", _CLASSES, {"C": _DECADES}, {"max_iter": 50000}, exact=True,
            draws_rows=True,
        ),
        Head(
            "svc",
            _CLASSES,
            {"kernel": ("linear", "rbf"), "C": (1e-2, 1e-1, 1.0, 10.0)},
            {"decision_function_shape": "ovr", "break_ties": True},
            exact=True,
        ),
        Head("logistic", _CLASSES, {"C": _DECADES}, {"max_iter": 5000}),
        Head(
            "lda",
            _CLASSES,
            {"shrinkage": ("auto", 1e-3, 1e-2, 0.1, 0.3, 0.6, 0.9)},
            {"solver": "lsqr"},
            exact=True,
        ),
        Head(
            "knn", _CLASSES, {"n_neighbors": (1, 3, 5, 9, 15, 25)}, exact=True,
            asks_rows="n_neighbors",
        ),
        Head("mlp", TASKS, {}, several=True, neural=True),
        # As published, layers go in as they are.
        Head(
            "superb", TASKS, {}, several=True, neural=True, all_layers=True, scalers=("none",)
        ),
        *(Head(key, TASKS, {}, several=True, neural=True, frames=True) for key in ON_FRAMES),
    ]
)  # fmt: skip
