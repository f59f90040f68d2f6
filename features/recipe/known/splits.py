"""The splits of `[split] outer` and `inner`; `features.splits.plan` makes their folds."""

from __future__ import annotations

from dataclasses import dataclass

from features.recipe.known.records import CLASSIFICATION, TASKS, by_key

_CLASSES = (CLASSIFICATION,)


@dataclass(frozen=True)
class OuterSplit:
    """One way of dividing all rows for scoring.

    Attributes
    ----------
    key : str
        What a recipe calls it.
    tasks : tuple of str
    settings : tuple of str
        Keys of `[split]` that go with it alone.
    given : bool
        Whether its lists are given: no seed moves a fold, and rows to choose on may be among them.
    of_groups : bool
        Whether groups are dealt to folds, in an order that `shuffle` draws.
    """

    key: str
    tasks: tuple[str, ...] = TASKS
    settings: tuple[str, ...] = ()
    given: bool = False
    of_groups: bool = False


@dataclass(frozen=True)
class InnerSplit:
    """One way of dividing training rows for choosing; members as of `OuterSplit`."""

    key: str
    tasks: tuple[str, ...] = TASKS
    of_groups: bool = False


OUTER_SPLITS = by_key(
    [
        OuterSplit("predefined", given=True),
        OuterSplit("leave-one-speaker-out"),
        OuterSplit("leave-one-session-out"),
        OuterSplit("speaker-k-fold", of_groups=True),
        OuterSplit("session-k-fold", of_groups=True),
        OuterSplit("sentence-disjoint", of_groups=True),
        OuterSplit("stratified-holdout", _CLASSES, ("devel_size",)),
        OuterSplit("four-to-one-in-five", _CLASSES),
        OuterSplit("emobox", settings=("emobox", "emobox_names"), given=True),
        OuterSplit("cross-corpus", settings=("train", "test", "pool", "within")),
        OuterSplit("speaker-sentence-grid", of_groups=True),
    ]
)
INNER_SPLITS = by_key(
    [
        InnerSplit("devel"),
        InnerSplit("speaker-k-fold", of_groups=True),
        InnerSplit("stratified-k-fold", _CLASSES),
    ]
)
