"""Repeats of a recipe with other seeds -> `runs/<recipe>/protocols/seeds.json`.

Conventions
-----------
- A repeat takes its seed in place of `[split] seed` and of the head's `random_state`, and shuffles
  the groups that folds are made of (`[split] shuffle`): else most seeds give one and the same
  folds, so that a repeat with the recipe's own seed need not equal the recipe's run. Every head
  has one minimum: what differs is who is held out and what is chosen on, and only with some of
  scikit-learn's solvers how near they come to it (`HeadSpec.uses_random_state`).
- A system is a run that at least two seeds have; its name is its folder, as in
  `evaluate.scores.pairs`. Stale runs, and those that were chosen on the rows that they are scored
  on, are left out.
- Deviations are sample deviations over seeds: of three, the true one lies between half and six
  times the one that is seen (95 %, if it is normal). The scores of a system are those of its
  `scores.json`; the difference of two is taken in every seed on the rows that both hold out.
- What stands beside the seeds are the speakers: one draw of them (of utterances where none is
  known) serves all seeds. `low, high` is the interval of the mean difference, `error` its deviation
  over resamples; those that lack a class in any seed are left out, and `lacking` says how many.
- Which part the seeds have: `of_gain`, their deviation as a part of the mean difference (of 1 and
  more, a single run with another seed can turn the order round), and `share`, deviation^2 /
  (deviation^2 + error^2), their part of the variance of a single run's difference. Where seeds hold
  out other rows (`same_rows` is false) the deviation has the chance of the rows in it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.metrics import metrics
from evaluate.runs.arrays import plain_scores, resampled_scores, speakers
from evaluate.runs.files import file_hash
from evaluate.runs.folders import PREDICTIONS, seeds_path
from evaluate.runs.predictions import read_predictions
from evaluate.scores import version_0
from evaluate.scores.names import PARTITIONS
from evaluate.scores.pairs import Rows, align, lacking_of
from evaluate.scores.protocols import by_protocol
from evaluate.scores.records import (
    PartitionSeeds,
    SeedDifference,
    Seeds,
    SeedScores,
    estimate,
    number_or_none,
)
from evaluate.scores.score import Scored, read_all, score_all
from evaluate.scores.stored import FileKind
from evaluate.statistics import resampling as intervals
from features.common.folders import Folders

if TYPE_CHECKING:
    from features.recipe.model import EvaluateSpec, Recipe

SEEDS_NUMERICS = 3
"""Raised with every change that can move a number of `seeds.json`."""
FILE = FileKind("seeds", Seeds, version_0.seeds)

Floats = NDArray[np.float64]
Repeats = dict[int, dict[str, Scored]]
"""Seed -> system -> its run."""


def make_seeds(recipe: Recipe, folders: Folders, *, force: bool = False) -> Seeds | None:
    """Score the repeats and sum them up, where that was not done for just these predictions.

    None where fewer than two seeds have finished runs.
    """
    found = _repeats(recipe, folders.runs, lambda repeat: score_all(repeat, folders, force=force))
    if found is None:
        return None
    path = seeds_path(folders.runs, recipe.name)
    return FILE.made(path, _inputs(recipe, found), lambda: _seeds(recipe, found), force=force)


def _seeds(recipe: Recipe, found: Repeats) -> Seeds:
    left_out: dict[str, str] = {}
    kept = _comparable(found, left_out)
    predictions = {
        seed: {name: read_predictions(run.folder / PREDICTIONS) for name, run in of.items()}
        for seed, of in kept.items()
    }
    partitions = {}
    for partition in PARTITIONS:
        systems = _systems(kept, partition, recipe.shown)
        if systems:
            rows = _rows(predictions, partition, left_out)
            partitions[partition] = PartitionSeeds(
                len({tuple(_keys(shared)) for shared in rows.values()}) < 2,
                systems,
                _pairs(rows, recipe.shown, recipe.evaluate),
            )
    return Seeds(tuple(found), left_out, partitions)


def read_seeds(recipe: Recipe, runs_folder: Path) -> Seeds | None:
    """As `make_seeds`, but computing nothing.

    Raises
    ------
    RunError
        Where the file is missing, or older than a run's predictions or the recipe's `[evaluate]`.
    """
    found = _repeats(
        recipe, runs_folder, lambda repeat: read_all(repeat, Folders(runs=runs_folder))
    )
    if found is None:
        return None
    return FILE.current(seeds_path(runs_folder, recipe.name), _inputs(recipe, found), recipe)


def _repeats(
    recipe: Recipe, runs_folder: Path, scored: Callable[[Recipe], list[Scored]]
) -> Repeats | None:
    found = by_protocol(recipe.repeats(), runs_folder, scored)
    if len(found) < 2:
        return None
    return {seed: {run.name: run for run in of} for seed, of in found.items()}


def _inputs(recipe: Recipe, found: Repeats) -> dict[str, Any]:
    return {
        "numerics": SEEDS_NUMERICS,
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "runs": {
            seed: {
                name: {
                    "predictions": file_hash(run.folder / PREDICTIONS),
                    "left_out": _why_not(run),
                }
                for name, run in of.items()
            }
            for seed, of in found.items()
        },
    }


def _why_not(run: Scored) -> str:
    """Why a run is not summed up; empty where it is."""
    if run.stale:
        return "made with another recipe"
    return "chosen on the rows that it is scored on" if run.scores.optimistic else ""


def _comparable(found: Repeats, left_out: dict[str, str]) -> Repeats:
    """The runs to sum up; why others are not is added to `left_out`."""
    kept: Repeats = {seed: {} for seed in found}
    for seed, of in found.items():
        for name, run in of.items():
            why = _why_not(run)
            if why:
                left_out[f"{name}, seed {seed}"] = why
            else:
                kept[seed][name] = run
    for name in dict.fromkeys(name for of in kept.values() for name in of):
        if sum(name in of for of in kept.values()) < 2:
            left_out[name] = "only one seed has a run to take"
    return kept


def _systems(
    kept: Repeats, partition: str, shown: tuple[str, ...]
) -> dict[str, dict[str, SeedScores]]:
    """The scores of every system that two seeds have in a partition."""
    result = {}
    for name in dict.fromkeys(name for of in kept.values() for name in of):
        parts = {
            seed: of[name].scores.partitions.get(partition)
            for seed, of in kept.items()
            if name in of
        }
        known = {seed: part.metrics for seed, part in parts.items() if part and part.metrics}
        if len(known) > 1:
            result[name] = {
                metric: _spread({seed: found[metric].value for seed, found in known.items()})
                for metric in shown
            }
    return result


def _spread(values: Mapping[int, float | None]) -> SeedScores:
    """Mean, deviation, least and largest over seeds; None where a value is undefined."""
    array = np.array(list(values.values()), dtype=np.float64)
    statistics = (array.mean(), array.std(ddof=1), array.min(), array.max())
    return SeedScores(dict(values), *map(number_or_none, statistics))


def _rows(
    predictions: Mapping[int, Mapping[str, pd.DataFrame]], partition: str, left_out: dict[str, str]
) -> dict[int, Rows]:
    """What the systems of each seed have in common; why a system is not in it is added."""
    found = {}
    for seed, of in predictions.items():
        parts = {name: own[own["partition"] == partition] for name, own in of.items()}
        rows = align({name: part for name, part in parts.items() if len(part)}, {})
        if rows is not None:
            found[seed] = rows
            left_out |= {f"{name}, seed {seed}": why for name, why in rows.left_out.items()}
    return found


def _keys(rows: Rows) -> list[str]:
    """Corpus and utterance of each row."""
    first, *_ = rows.predictions.values()
    return (first["corpus"] + "\t" + first["utterance"]).tolist()


def _pairs(
    rows: Mapping[int, Rows], shown: tuple[str, ...], settings: EvaluateSpec
) -> dict[str, tuple[SeedDifference, ...]]:
    plain, resampled = _scores(rows, settings) if rows else ({}, {})
    systems = list(dict.fromkeys(name for of in plain.values() for name in of))
    result: dict[str, list[SeedDifference]] = {metric: [] for metric in shown}
    for a, b in itertools.combinations(systems, 2):
        seeds = [seed for seed, of in plain.items() if a in of and b in of]
        for metric in shown if len(seeds) > 1 else ():
            apart = [resampled[seed][a][metric] - resampled[seed][b][metric] for seed in seeds]
            values = {seed: plain[seed][a][metric] - plain[seed][b][metric] for seed in seeds}
            means = np.mean(apart, axis=0)
            found = _difference(a, b, values, means, settings.confidence)
            result[metric].append(replace(found, lacking=lacking_of(metric, means)))
    return {metric: tuple(listed) for metric, listed in result.items()}


def _scores(
    rows: Mapping[int, Rows], settings: EvaluateSpec
) -> tuple[dict[int, dict[str, dict[str, float]]], dict[int, dict[str, dict[str, Floats]]]]:
    """Scores of every seed and system, and those of every resample; one draw serves all."""
    groups = []
    for shared in rows.values():
        first, *_ = shared.predictions.values()
        # An utterance without a speaker is one and the same in all seeds.
        groups += [
            speaker or key for speaker, key in zip(speakers(first), _keys(shared), strict=True)
        ]
    drawn = intervals.draw(groups, settings.bootstrap, settings.seed)
    plain, resampled, start = {}, {}, 0
    with warnings.catch_warnings():
        # Said already where each is scored.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        for seed, shared in rows.items():
            stop = start + len(next(iter(shared.predictions.values())))
            own = intervals.Resamples(drawn.unit[start:stop], drawn.counts)
            plain[seed] = {
                name: plain_scores(f, shared.names) for name, f in shared.predictions.items()
            }
            resampled[seed] = {
                name: resampled_scores(f, shared.names, own)
                for name, f in shared.predictions.items()
            }
            start = stop
    return plain, resampled


def _difference(
    a: str, b: str, values: Mapping[int, float], resampled: Floats, confidence: float
) -> SeedDifference:
    """A difference over seeds beside what the speakers leave open.

    Examples
    --------
    >>> found = _difference("a", "b", {1: 0.1, 2: 0.3}, np.array([0.1, 0.2, 0.3]), 0.95)
    >>> [round(value, 3) for value in (found.mean.value, found.deviation, found.error)]
    [0.2, 0.141, 0.1]
    >>> [round(value, 3) for value in (found.of_gain, found.share)]
    [0.707, 0.667]
    """
    array = np.array(list(values.values()), dtype=np.float64)
    mean, deviation = array.mean(), array.std(ddof=1)
    known = intervals.defined(resampled)
    error = known.std(ddof=1) if len(known) > 1 else np.nan
    seeds, both = deviation**2, deviation**2 + error**2
    return SeedDifference(
        a,
        b,
        estimate(mean, resampled, confidence),
        {seed: number_or_none(value) for seed, value in values.items()},
        number_or_none(deviation),
        number_or_none(array.min()),
        number_or_none(array.max()),
        number_or_none(error),
        number_or_none(deviation / abs(mean) if mean else np.nan),
        number_or_none(seeds / both if both else np.nan),
    )
