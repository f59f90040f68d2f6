"""What results are called, and what of them is shown."""

from __future__ import annotations

from features.recipe.known.metrics import METRICS

FEW_SPEAKERS = 20
"""Below this many speakers an interval is shown with their number."""
SMALL_P = 0.01
"""Where no corrected p value can be as small as this, the least that there can be is said."""
NAMES = {metric.field: metric.name for metric in METRICS.values()}
CHOSEN_ON_DEVEL = "the heads' settings were chosen on these rows; test is the honest figure"
"""Why scores on devel are optimistic."""
PARTITIONS = ("devel", "test")
"""Of the overview; those of a cross-corpus run and of the grid have tables of their own."""
GRID = (
    ("speakers new", (("sentences new", "test"), ("sentences seen", "sentence-seen"))),
    ("speakers seen", (("sentences new", "speaker-seen"), ("sentences seen", "both-seen"))),
)
"""Rows and columns of the grid of speakers and sentences, with the partition of each cell."""


def number(value: float | None) -> str:
    """Three decimals; `undefined` for null.

    Examples
    --------
    >>> number(0.12345), number(None)
    ('0.123', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}"


def select_name(select: str) -> str:
    """What a reader calls a score that `[head] select` names.

    Examples
    --------
    >>> select_name("uar"), select_name("nmse")
    ('UAR', 'negated MSE')
    """
    metric = next(each for each in METRICS.values() if each.select == select)
    return metric.name if metric.higher_is_better else f"negated {metric.name}"
