"""The metrics: what may choose, what is shown, what a table of a paper may name.

`evaluate.metrics.metrics` computes them, `models.search` those that choose a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from features.recipe.known.records import CLASSIFICATION, REGRESSION, by_key, of_task


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    key : str
        What a recipe calls it.
    task : str
    name : str
        What a reader calls it.
    low, high : float
        Its range.
    higher_is_better : bool
    over_classes : bool
        Whether it is a mean over classes: over fewer of them it is another metric.
    select : str
        What `[head] select` calls it; empty where no cell is chosen by it. Errors are negated, and
        have an n before their name.
    shown : bool
        Whether it is shown where the recipe does not say what is.
    of_subsets : bool
        Whether subsets are searched by it.
    """

    key: str
    task: str
    name: str
    low: float
    high: float
    higher_is_better: bool = True
    over_classes: bool = False
    select: str = ""
    shown: bool = False
    of_subsets: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)

    @property
    def field(self) -> str:
        """What files of scores and the code call it.

        Examples
        --------
        >>> METRICS["macro-f1"].field
        'macro_f1'
        """
        return self.key.replace("-", "_")


METRICS = by_key(
    [
        Metric("mse", REGRESSION, "MSE", 0, math.inf, higher_is_better=False, select="nmse"),
        Metric("mae", REGRESSION, "MAE", 0, math.inf, higher_is_better=False, select="nmae"),
        Metric("spearman", REGRESSION, "Spearman's rho", -1, 1, select="spearman", shown=True,
               of_subsets=True),
        Metric("pearson", REGRESSION, "Pearson's r", -1, 1),
        Metric("ccc", REGRESSION, "CCC", -1, 1, select="ccc", of_subsets=True),
        Metric("uar", CLASSIFICATION, "UAR", 0, 1, over_classes=True, select="uar", shown=True,
               of_subsets=True),
        Metric("wa", CLASSIFICATION, "WA", 0, 1, select="wa", shown=True, of_subsets=True),
        Metric("macro-f1", CLASSIFICATION, "macro F1", 0, 1, over_classes=True, select="macro-f1",
               of_subsets=True),
    ]
)  # fmt: skip


def selections(task: str) -> tuple[str, ...]:
    """What `[head] select` may name, of a task.

    Examples
    --------
    >>> selections("classification")
    ('uar', 'wa', 'macro-f1')
    """
    return tuple(METRICS[key].select for key in of_task(METRICS, task) if METRICS[key].select)


def shown(task: str) -> tuple[str, ...]:
    """What is shown of a task where the recipe does not say."""
    return tuple(key for key in of_task(METRICS, task) if METRICS[key].shown)


def showable(task: str) -> tuple[str, ...]:
    """What `[evaluate] show` may name, of a task: tables mark the highest as the best."""
    return tuple(key for key in of_task(METRICS, task) if METRICS[key].higher_is_better)


def of_subsets(task: str) -> tuple[str, ...]:
    """By what subsets may be searched, of a task."""
    return tuple(key for key in of_task(METRICS, task) if METRICS[key].of_subsets)
