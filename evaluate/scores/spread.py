"""Scores over the systems that subsets are chosen from -> `runs/<recipe>/spread.json`.

Conventions
-----------
- Systems are the members of `[fusion.subsets]`; with one that has no finished run of today's recipe
  there is no file. It is made where a table of the recipe (`[[published]]`) asks for it.
- The rows of a partition are those that all systems have and that have a truth. Where a recipe has
  several corpora, each is also taken alone.
- One draw of speakers (utterances where none is known) serves all systems. The deviation is the
  sample deviation over systems; it has no interval, since resampled systems lie further apart.
  `largest` and `least` are chosen on the rows that they are scored on, once: the first is
  optimistic. A system whose score is undefined is neither.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluate.metrics import metrics
from evaluate.runs.arrays import count_speakers, plain_scores, resampled_scores, speakers
from evaluate.runs.files import file_hash
from evaluate.runs.folders import PREDICTIONS, spread_path
from evaluate.runs.predictions import read_predictions
from evaluate.scores import version_0
from evaluate.scores.marks import spread_marks
from evaluate.scores.names import PARTITIONS
from evaluate.scores.pairs import align
from evaluate.scores.records import (
    Estimate,
    MetricSpread,
    PartitionSpread,
    Spread,
    SpreadOfRows,
    estimate,
    number_or_none,
)
from evaluate.scores.score import Scored
from evaluate.scores.stored import FileKind
from evaluate.statistics import resampling as intervals
from features.recipe.published import asks_for_spread

if TYPE_CHECKING:
    from features.recipe.model import Recipe

SPREAD_NUMERICS = 1
"""Raised with every change that can move a number of `spread.json`."""
FILE = FileKind("spread", Spread, version_0.spread, spread_marks)


def make_spread(
    recipe: Recipe, scored: Sequence[Scored], runs_folder: Path, *, force: bool = False
) -> Spread | None:
    """Sum up the systems, where that was not done for just these predictions.

    None where nobody asks, or a system has no run.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
        Its finished runs.
    runs_folder : Path
    force : bool
        Sum up anew in any case.

    Returns
    -------
    Spread or None
    """
    systems = _systems(recipe, scored)
    if not systems:
        return None
    path = spread_path(runs_folder, recipe.name)
    return FILE.made(path, _inputs(recipe, systems), lambda: _spread(recipe, systems), force=force)


def _spread(recipe: Recipe, systems: Sequence[Scored]) -> Spread:
    predictions = {run.name: read_predictions(run.folder / PREDICTIONS) for run in systems}
    partitions = {
        partition: found
        for partition in PARTITIONS
        if (found := _of_partition(predictions, partition, recipe)) is not None
    }
    return Spread(tuple(predictions), partitions)


def read_spread(recipe: Recipe, scored: Sequence[Scored], runs_folder: Path) -> Spread | None:
    """As `make_spread`, but computing nothing.

    Raises
    ------
    RunError
        Where the file is missing, or older than a system's predictions or `[evaluate]`.
    """
    systems = _systems(recipe, scored)
    if not systems:
        return None
    return FILE.current(spread_path(runs_folder, recipe.name), _inputs(recipe, systems), recipe)


def _systems(recipe: Recipe, scored: Sequence[Scored]) -> list[Scored]:
    """The runs of all systems; none where nobody asks, or one is missing or stale."""
    if recipe.subsets is None or not asks_for_spread(recipe.published):
        return []
    fresh = {run.name: run for run in scored if not run.stale}
    members = recipe.subsets.members
    return [fresh[member] for member in members] if set(members) <= set(fresh) else []


def _inputs(recipe: Recipe, systems: Sequence[Scored]) -> dict[str, Any]:
    return {
        "numerics": SPREAD_NUMERICS,
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "predictions": {run.name: file_hash(run.folder / PREDICTIONS) for run in systems},
    }


def _of_partition(
    predictions: Mapping[str, pd.DataFrame], partition: str, recipe: Recipe
) -> PartitionSpread | None:
    parts = {name: own[own["partition"] == partition] for name, own in predictions.items()}
    rows = align(parts, {})
    if rows is None or len(rows.predictions) < len(predictions):
        return None
    first, *_ = rows.predictions.values()
    corpora = sorted(first["corpus"].unique())
    alone = {
        corpus: {
            name: own[own["corpus"] == corpus].reset_index(drop=True)
            for name, own in rows.predictions.items()
        }
        for corpus in corpora
        if len(corpora) > 1
    }
    corpora_alone = {corpus: _sum_up(of, rows.names, recipe) for corpus, of in alone.items()}
    return PartitionSpread(
        **vars(_sum_up(rows.predictions, rows.names, recipe)), corpora=corpora_alone
    )


def _sum_up(
    predictions: Mapping[str, pd.DataFrame], names: Sequence[str], recipe: Recipe
) -> SpreadOfRows:
    """Values and statistics over systems, which have the same rows."""
    first, *_ = predictions.values()
    drawn = intervals.draw(speakers(first), recipe.evaluate.bootstrap, recipe.evaluate.seed)
    with warnings.catch_warnings():
        # Said already where each is scored.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        plain = [plain_scores(rows, names) for rows in predictions.values()]
        resampled = [resampled_scores(rows, names, drawn) for rows in predictions.values()]
    found = {}
    for metric in recipe.shown:
        values = np.array([scores[metric] for scores in plain])
        draws = np.array([scores[metric] for scores in resampled])
        statistics = {"mean": (values.mean(), draws.mean(axis=0))}
        if not np.isnan(values).all():
            for name, pick in (("largest", np.nanargmax), ("least", np.nanargmin)):
                statistics[name] = values[pick(values)], draws[pick(values)]
        entries = {
            name: estimate(value, each, recipe.evaluate.confidence)
            for name, (value, each) in statistics.items()
        }
        found[metric] = MetricSpread(
            dict(zip(predictions, map(number_or_none, values), strict=True)),
            Estimate(number_or_none(values.std(ddof=1))),
            **entries,
        )
    return SpreadOfRows(len(first), count_speakers(first), found)
