"""The heads that `[head] kind` may name; `models.heads` has their estimators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from features.recipe.known.records import CLASSIFICATION, REGRESSION, by_key

_DECADES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Head:
    """One kind of head.

    Attributes
    ----------
    key : str
        What a recipe calls it.
    task : str
        `"classification"` or `"regression"`.
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
    """

    key: str
    task: str
    grid: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    several: bool = False
    exact: bool = False
    draws_rows: bool = False
    asks_rows: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)


# The grid of linear-svr is that of the emotion-share paper. With its squared loss, primal and dual
# have one optimum, and scikit-learn's "auto" takes the one that suits the shape of X.
HEADS = by_key(
    [
        Head(
            "linear-svr",
            REGRESSION,
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
        Head("svr", REGRESSION, {"kernel": ("linear", "rbf"), "C": (1e-2, 1e-1, 1.0)}, exact=True),
        Head(
            "ridge", REGRESSION, {"alpha": tuple(10.0**i for i in range(6))}, several=True,
            exact=True,
        ),
        Head(
            "linear-svc", CLASSIFICATION, {"C": _DECADES}, {"max_iter": 50000}, exact=True,
            draws_rows=True,
        ),
        Head(
            "svc",
            CLASSIFICATION,
            {"kernel": ("linear", "rbf"), "C": (1e-2, 1e-1, 1.0, 10.0)},
            {"decision_function_shape": "ovr", "break_ties": True},
            exact=True,
        ),
        Head("logistic", CLASSIFICATION, {"C": _DECADES}, {"max_iter": 5000}),
        Head(
            "lda",
            CLASSIFICATION,
            {"shrinkage": ("auto", 1e-3, 1e-2, 0.1, 0.3, 0.6, 0.9)},
            {"solver": "lsqr"},
            exact=True,
        ),
        Head(
            "knn", CLASSIFICATION, {"n_neighbors": (1, 3, 5, 9, 15, 25)}, exact=True,
            asks_rows="n_neighbors",
        ),
    ]
)  # fmt: skip
