"""Differences of two sets of predictions on the rows that both hold out, in pairs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from evaluate.metrics import metrics
from evaluate.runs.arrays import (
    count_speakers,
    has_truth,
    plain_scores,
    resampled_scores,
    speakers,
    truth_of,
)
from evaluate.runs.predictions import predicted_labels, predicted_targets
from evaluate.scores.partition import lacking_text
from evaluate.scores.records import (
    Gap,
    estimate,
    number_or_none,
)
from evaluate.statistics import resampling as intervals

if TYPE_CHECKING:
    from features.recipe.model import Recipe


def grid_gaps(rows: pd.DataFrame, found: Sequence[str], recipe: Recipe) -> dict[str, Gap] | None:
    """The differences to `test` of the grid of speakers and sentences; None of other splits.

    Parameters
    ----------
    rows : DataFrame
        Predictions of all partitions.
    found : sequence of str
        The partitions that there are.
    recipe : Recipe

    Returns
    -------
    dict or None
        Partition -> its scores minus those of `test`, on the same rows.
    """
    if recipe.split.outer != "speaker-sentence-grid":
        return None
    strict = rows[rows["partition"] == "test"]
    return {
        name: paired_gap(rows[rows["partition"] == name], strict, recipe)
        for name in found
        if name != "test"
    }


def paired_gap(first: pd.DataFrame, second: pd.DataFrame, recipe: Recipe) -> Gap:
    """Difference of the scores of two sets of predictions on the rows that both have.

    Speakers are resampled, with their rows in both. Without such rows, or where an utterance stands
    several times, there is none.

    Parameters
    ----------
    first, second : DataFrame
        Predictions of one recipe's task.
    recipe : Recipe

    Returns
    -------
    Gap
        First minus second; with a reason in place of numbers where there are none.
    """
    predictions = shared_rows(first, second)
    if isinstance(predictions, str):
        return no_gap(predictions)
    names = predicted_labels(first) or predicted_targets(first)
    drawn = intervals.draw(
        speakers(predictions[0]), recipe.evaluate.bootstrap, recipe.evaluate.seed
    )
    with warnings.catch_warnings():
        # Said already where each is scored.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        a, b = (plain_scores(rows, names) for rows in predictions)
    of_a, of_b = (resampled_scores(rows, names, drawn) for rows in predictions)
    confidence = recipe.evaluate.confidence
    values = {
        metric: estimate(a[metric] - b[metric], of_a[metric] - of_b[metric], confidence)
        for metric in a
    }
    return Gap(
        len(predictions[0]),
        count_speakers(predictions[0]),
        values,
        {metric: (number_or_none(a[metric]), number_or_none(b[metric])) for metric in values},
        lacking=lacking_text(values, recipe),
    )


def shared_rows(
    first: pd.DataFrame, second: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame] | str:
    """The rows with a truth that two sets of predictions have, in one order; or why there are none.

    By corpus and utterance, whatever the folds: two protocols divide the same rows otherwise.

    Parameters
    ----------
    first, second : DataFrame
        Predictions.

    Returns
    -------
    (DataFrame, DataFrame) or str
    """
    if list(first.columns) != list(second.columns):
        return "they predict other things"
    names = predicted_labels(first) or predicted_targets(first)
    key = ["corpus", "utterance"]
    ours, other = (rows[has_truth(rows, names)].set_index(key) for rows in (first, second))
    if not (ours.index.is_unique and other.index.is_unique):
        return "rows are held out several times"
    shared = ours.index.intersection(other.index).sort_values()
    if not len(shared):
        return "no row is held out in both"
    ours, other = ours.loc[shared].reset_index(), other.loc[shared].reset_index()
    return (ours, other) if truth_of(ours, names) == truth_of(other, names) else "the truths differ"


def no_gap(why: str) -> Gap:
    """No difference, and why."""
    return Gap(0, None, {}, {}, why=why)
