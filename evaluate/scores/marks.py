"""The marks that follow from what a record says: put in when it is written.

A file of version 0 has none; they are put in when it is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from evaluate.scores.records import (
    OPTIMISTIC,
    RunScores,
    Spread,
    SpreadOfRows,
    Statistics,
    Subsets,
    SubsetsOfRows,
    marked,
)

OfRows = TypeVar("OfRows", bound=SubsetsOfRows)
OverSystems = TypeVar("OverSystems", bound=SpreadOfRows)


def run_marks(scores: RunScores) -> RunScores:
    """The marks of the whole run, and of partitions that settings were chosen on.

    Parameters
    ----------
    scores : RunScores

    Returns
    -------
    RunScores
        With marks at its estimates.
    """
    own = {
        name: [OPTIMISTIC] if part.optimistic or scores.optimistic else []
        for name, part in scores.partitions.items()
    }
    run = [OPTIMISTIC] if scores.optimistic else []
    return replace(
        scores,
        partitions={name: marked(of, own[name]) for name, of in scores.partitions.items()},
        groups={name: marked(of, own.get(name, run)) for name, of in scores.groups.items()},
        transfer=marked(scores.transfer, run),
        gaps=marked(scores.gaps, run),
    )


def subset_marks(found: Subsets) -> Subsets:
    """The best of the subsets was chosen on the rows that it is scored on."""
    whole = _best_marked(found)
    return replace(whole, alone={corpus: _best_marked(of) for corpus, of in found.alone.items()})


def spread_marks(found: Spread) -> Spread:
    """The largest of the systems' scores was chosen on the rows that it is taken on.

    Parameters
    ----------
    found : Spread

    Returns
    -------
    Spread
        With marks at its estimates.
    """
    return replace(
        found,
        partitions={
            name: replace(
                _largest_marked(part),
                corpora={corpus: _largest_marked(of) for corpus, of in part.corpora.items()},
            )
            for name, part in found.partitions.items()
        },
    )


def _best_marked(found: OfRows) -> OfRows:
    choices = [replace(choice, best=marked(choice.best, [OPTIMISTIC])) for choice in found.choices]
    return replace(found, choices=tuple(choices))


def _largest_marked(found: OverSystems) -> OverSystems:
    metrics = {
        metric: replace(of, largest=marked(of.largest, [OPTIMISTIC]))
        for metric, of in found.metrics.items()
    }
    return replace(found, metrics=metrics)


def statistics_marks(found: Statistics) -> Statistics:
    """Differences on a partition whose scores are optimistic.

    Parameters
    ----------
    found : Statistics

    Returns
    -------
    Statistics
        With marks at its estimates.
    """
    partitions = {
        name: replace(
            part,
            metrics=marked(part.metrics, [OPTIMISTIC] if part.optimistic else []),
        )
        for name, part in found.partitions.items()
    }
    return replace(found, partitions=partitions)
