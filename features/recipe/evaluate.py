"""`[evaluate]`: what is shown of the scores, and how they are judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from features.common.errors import nearest
from features.common.sections import Among, Section
from features.recipe.known.metrics import METRICS, showable, shown
from features.recipe.known.records import TASKS, task_of

SHOWABLE = tuple(metric for task in TASKS for metric in showable(task))


class EvaluateSpec(Section):
    """`[evaluate]`: bootstrap intervals, and the metrics of the tables.

    `show` has the metrics that tables, statistics and plots are of; the first is that of those that
    are of one. Without it they are Spearman's rho, or UAR and WA. `gains` has pairs of heads, the
    base first, that are compared speaker by speaker.
    """

    left_out: ClassVar[tuple[str, ...]] = ("show", "gains")

    bootstrap: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    show: Annotated[list[Annotated[str, Among(SHOWABLE)]], Field(max_length=len(SHOWABLE))] = []
    gains: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []

    def shown(self, task: str) -> tuple[str, ...]:
        """The fields of the metrics that are shown of a task."""
        return tuple(METRICS[key].field for key in self.show or shown(task))


def show_choices(top: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """What `show` may hold by the recipe's task, where it says which."""
    task = task_of(top)
    return {"show": showable(task)} if task else {}


def gains_faults(evaluate: EvaluateSpec, heads: Collection[str]) -> list[str]:
    """Pairs of `gains` that are no two heads of the recipe, a line each.

    Examples
    --------
    >>> gains_faults(EvaluateSpec(gains=[["base", "personl"]]), ["base", "personal"])
    ["[evaluate] gains: 'personl' is no [heads.NAME]; did you mean 'personal'?"]
    """
    faults = [
        f"[evaluate] gains: {name!r} is no [heads.NAME]{nearest(name, heads)}"
        for name in dict.fromkeys(name for pair in evaluate.gains for name in pair)
        if name not in heads
    ]
    faults += [f"[evaluate] gains: {a!r} against itself" for a, b in evaluate.gains if a == b]
    pairs = [tuple(pair) for pair in evaluate.gains]
    if len(set(pairs)) != len(pairs):
        faults.append("[evaluate] gains: a pair is named twice")
    return faults


def evaluate_faults(evaluate: EvaluateSpec, task: str) -> list[str]:
    """Metrics of another task, and those that are named twice.

    Parameters
    ----------
    evaluate : EvaluateSpec
    task : {"classification", "regression"}

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = [
        f"[evaluate] show: got '{metric}', for {task}: {', '.join(showable(task))}"
        for metric in evaluate.show
        if metric not in showable(task)
    ]
    if len(set(evaluate.show)) != len(evaluate.show):
        faults.append(f"[evaluate] show: got {evaluate.show}, one is named twice")
    return faults
