"""All finished runs of a recipe against one another -> `runs/<recipe>/statistics.json`.

Conventions
-----------
- A system is a finished run; its name is its folder below `runs/<recipe>`: `mfcc`, `xlsr-1b@12`,
  `fusion/mean`. Runs that were chosen on the rows that they are scored on (`optimistic`) are not
  compared, nor are those with other targets, labels or truths than the first; `left_out` says why.
- The rows of a partition are those that all its systems have, by (corpus, utterance, fold), and
  that have a truth; `n_dropped` counts the others.
- One draw of speakers (utterances where none is known) serves all systems and targets; resamples
  that lack a class are left out of the intervals of UAR and counted
  (`evaluate.statistics.resampling`).
- P values are corrected over all pairs of systems of a partition and metric (Holm). `not_worse`
  holds the best system and all that do not differ from it at the level, over n_systems - 1
  comparisons (`comparisons.not_worse`). With few speakers no p value can be small: `can_tell` is
  false where even the least, `smallest_p`, is above `level / n_pairs`, and `can_mark` where it is
  above `level / (n_systems - 1)`.
- The fusion that models are judged by is the mean of values, or of probabilities, whatever
  `[fusion]` says. Its models are those at the layer `last`, with every head; where a head does not
  list it, all.
- It lies in the upper half of `evaluate` because it combines: the lower half knows no fusion.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from evaluate.metrics import complementarity, metrics
from evaluate.metrics.calibration import shares
from evaluate.runs.arrays import count_speakers, has_truth, speakers, truth_of, values_of
from evaluate.runs.files import file_hash
from evaluate.runs.folders import PREDICTIONS, statistics_path
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from evaluate.scores import version_0
from evaluate.scores.marks import statistics_marks
from evaluate.scores.records import (
    Complementarity,
    Contribution,
    Difference,
    FusedPair,
    Matrix,
    McNemar,
    MetricComparison,
    MetricContributions,
    PartitionStatistics,
    PermutationTest,
    Statistics,
    estimate,
    number_or_none,
)
from evaluate.scores.score import Scored, optimism
from evaluate.scores.stored import FileKind
from evaluate.statistics import permutations as comparisons
from evaluate.statistics import resampling as intervals

if TYPE_CHECKING:
    from features.recipe.model import Recipe

STATISTICS_NUMERICS = 3
"""Raised with every change that can move a number of `statistics.json`."""
FILE = FileKind("statistics", Statistics, version_0.statistics, statistics_marks)
AGREEMENT = ("disagreement", "q", "double_fault")
"""Of a classification, beside the correlation."""
LEVEL = 0.05
"""Of tests, for the whole table."""
N_SWAPS = 10_000
"""Of a permutation test; all choices are taken with up to 14 speakers."""
MOST_SYSTEMS = 40
"""So many are compared; models at the default layer and fusions come first."""

_KEY = ["corpus", "utterance", "fold"]
_BLOCK_VALUES = 1 << 21
"""Fused predictions at a time: 16 MB."""

Floats = NDArray[np.float64]


def make_statistics(
    recipe: Recipe, scored: Sequence[Scored], runs_folder: Path, *, force: bool = False
) -> Statistics:
    """Compare the finished runs of a recipe, where that was not done for just these predictions.

    Parameters
    ----------
    recipe : Recipe
    scored : sequence of Scored
        What `evaluate.scores.score.score_all` gives.
    runs_folder : Path

    Returns
    -------
    Statistics
    """
    path = statistics_path(runs_folder, recipe.name)
    found = FILE.made(
        path, _inputs(recipe, scored), lambda: _statistics(recipe, scored), force=force
    )
    return _with_optimism(found, scored)


def _statistics(recipe: Recipe, scored: Sequence[Scored]) -> Statistics:
    systems, left_out = _systems(scored)
    predictions = {name: read_predictions(run.folder / PREDICTIONS) for name, run in systems}
    names = [name for own in predictions.values() for name in own["partition"].unique()]
    partitions = {}
    for partition in dict.fromkeys(names):
        parts = {name: own[own["partition"] == partition] for name, own in predictions.items()}
        rows = align({name: part for name, part in parts.items() if len(part)}, left_out)
        if rows is not None:
            partitions[partition] = _compare(rows, recipe)
    return _with_optimism(Statistics(partitions), scored)


def read_statistics(recipe: Recipe, scored: Sequence[Scored], runs_folder: Path) -> Statistics:
    """As `make_statistics`, but computing nothing.

    Raises
    ------
    RunError
        Where the file is missing, or older than a run's predictions or the recipe's `[evaluate]`.
    """
    path = statistics_path(runs_folder, recipe.name)
    return _with_optimism(FILE.current(path, _inputs(recipe, scored), recipe), scored)


def _with_optimism(found: Statistics, scored: Sequence[Scored]) -> Statistics:
    """The same with why a partition is optimistic, which files of version 0 do not say."""
    partitions = {
        name: replace(part, optimistic=optimism(name, scored))
        for name, part in found.partitions.items()
    }
    return statistics_marks(Statistics(partitions))


def _inputs(recipe: Recipe, scored: Sequence[Scored]) -> dict[str, Any]:
    return {
        "numerics": STATISTICS_NUMERICS,
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "task": recipe.task,
        "models": _models(recipe),
        "runs": {
            run.name: {
                "predictions": file_hash(run.folder / PREDICTIONS),
                "optimistic": bool(run.scores.optimistic),
            }
            for run in scored
        },
    }


def _systems(scored: Sequence[Scored]) -> tuple[list[tuple[str, Scored]], dict[str, str]]:
    """The runs to compare in the order of `scored`, and why others are not."""
    left_out = {
        run.name: "chosen on the rows that it is scored on"
        for run in scored
        if run.scores.optimistic
    }
    found = [(run.name, run) for run in scored if run.name not in left_out]
    first = sorted(found, key=lambda named: named[1].at_other_layer)[:MOST_SYSTEMS]
    for name, _ in found:
        if name not in dict(first):
            left_out[name] = f"only {MOST_SYSTEMS} runs are compared"
    return [named for named in found if named[0] in dict(first)], left_out


@dataclass(frozen=True)
class Rows:
    """The shared rows of a partition.

    Attributes
    ----------
    names : tuple of str
        Labels or targets.
    predictions : dict
        System -> its predictions of these rows, in one order.
    left_out : dict
        System -> why it is not among them.
    n_dropped : int
        Rows with a truth that some system has and another lacks.
    """

    names: tuple[str, ...]
    predictions: dict[str, pd.DataFrame]
    left_out: dict[str, str]
    n_dropped: int


def align(predictions: Mapping[str, pd.DataFrame], left_out: Mapping[str, str]) -> Rows | None:
    """Find the rows with a truth that all systems have; None where fewer than two share any.

    A system that predicts something else than the first, shares no row with those before it, or
    has other truths is left out.

    Parameters
    ----------
    predictions : mapping
        System -> its predictions of a partition.
    left_out : mapping
        System -> why it is not among them.

    Returns
    -------
    Rows or None
    """
    kept: dict[str, pd.DataFrame] = {}
    why = dict(left_out)
    names: tuple[str, ...] = ()
    shared: Any = None
    everything: Any = None
    for system, rows in predictions.items():
        here = predicted_labels(rows) or predicted_targets(rows)
        rows = rows[has_truth(rows, here)].set_index(_KEY).sort_index()
        if rows.empty:
            continue
        if not kept:
            names, shared, everything = here, rows.index, rows.index
        both = shared[shared.isin(rows.index)]
        first = next(iter(kept.values()), rows)
        if list(rows.columns) != list(first.columns):
            why[system] = f"predicts something else than {next(iter(kept))}"
        elif not len(both):
            why[system] = "has no row that those before it have"
        elif truth_of(first.loc[both], names) != truth_of(rows.loc[both], names):
            why[system] = f"has other truths than {next(iter(kept))}"
        else:
            kept[system], shared = rows, both
            everything = everything.union(rows.index)
    if len(kept) < 2:
        return None
    return Rows(
        names,
        {system: rows.loc[shared].reset_index() for system, rows in kept.items()},
        why,
        len(everything) - len(shared),
    )


def _predictions(rows: Rows, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and the predictions of all systems: labels (.., n), or values (.., n, n_targets)."""
    first, *_ = rows.predictions.values()
    if recipe.task == "classification":
        said = [predicted["pred"].to_numpy(dtype=object) for predicted in rows.predictions.values()]
        return first["true"].to_numpy(dtype=object), np.stack(said)
    truth, _ = values_of(first, rows.names)
    scored = ~np.isnan(truth).all(axis=0)
    values = [values_of(predicted, rows.names)[1] for predicted in rows.predictions.values()]
    return truth[:, scored], np.stack(values)[:, :, scored]


def _compare(rows: Rows, recipe: Recipe) -> PartitionStatistics:
    first, *_ = rows.predictions.values()
    groups, settings = speakers(first), recipe.evaluate
    drawn = intervals.draw(groups, settings.bootstrap, settings.seed)
    swaps = comparisons.draw_swaps(groups, N_SWAPS, settings.seed)
    truth, predictions = _predictions(rows, recipe)
    systems = list(rows.predictions)
    pairs = list(itertools.combinations(range(len(systems)), 2))
    classes = recipe.task == "classification"
    if classes:
        one_by_one = [
            intervals.classification_resampled(truth, predicted, rows.names, drawn)
            for predicted in predictions
        ]
        resampled = {
            m: np.stack([drawn_scores[m] for drawn_scores in one_by_one]) for m in recipe.shown
        }
        p_values = comparisons.classification_p(truth, list(predictions), rows.names, swaps)
    else:
        each = intervals.systems_resampled(truth, predictions, drawn)
        resampled = {m: each[m].mean(axis=1) for m in recipe.shown}
        p_values = {m: comparisons.regression_p(truth, predictions, m, swaps) for m in recipe.shown}
    plain = [_scores(truth, predicted, rows.names, recipe) for predicted in predictions]
    found = {
        metric: _metric(
            systems, pairs, np.array([own[metric] for own in plain]), resampled[metric],
            p_values[metric], swaps.n_units, settings.confidence,
            lacking_of(metric, resampled[metric][0]),
        )
        for metric in recipe.shown
    }  # fmt: skip
    return PartitionStatistics(
        tuple(systems),
        rows.left_out,
        len(first),
        rows.n_dropped,
        count_speakers(first),
        swaps.n_units,
        _test(swaps, len(systems), len(pairs)),
        found,
        mcnemar=_mcnemar(systems, pairs, predictions == truth) if classes else None,
        complementarity=_complementarity(rows, recipe),
    )


def _test(swaps: comparisons.Swaps, n_systems: int, n_pairs: int) -> PermutationTest:
    """What the test could show of so many systems and pairs."""
    return PermutationTest(
        LEVEL,
        n_pairs,
        swaps.n,
        swaps.exact,
        swaps.smallest_p,
        can_tell=swaps.smallest_p <= LEVEL / n_pairs,
        can_mark=swaps.smallest_p <= LEVEL / (n_systems - 1),
    )


def _scores(
    truth: np.ndarray, prediction: np.ndarray, names: Sequence[str], recipe: Recipe
) -> dict[str, float]:
    """The shown metrics of one system; what is undefined was said where it was scored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        if recipe.task == "classification":
            matrix = metrics.confusion(truth, prediction, names)
            return {m: metrics.classification_scores(matrix)[m] for m in recipe.shown}
        targets = [str(i) for i in range(truth.shape[1])]
        each = metrics.regression_scores(truth, prediction, targets)
        return {m: float(np.mean([own[m] for own in each.values()])) for m in recipe.shown}


def _metric(
    systems: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    scores: Floats,
    resampled: Floats,
    p_values: Floats,
    n_units: int,
    confidence: float,
    lacking: str,
) -> MetricComparison:
    adjusted = _corrected(p_values, pairs)
    listed = []
    for i, j in pairs:
        apart = resampled[i] - resampled[j]
        listed.append(
            Difference(
                systems[i],
                systems[j],
                estimate(scores[i] - scores[j], apart, confidence),
                number_or_none(p_values[i, j]),
                number_or_none(adjusted[i, j]),
                number_or_none(comparisons.minimum_detectable(apart, n_units, LEVEL)),
            )
        )
    best, mask = comparisons.not_worse(scores, p_values, LEVEL)
    known = [pair.detectable for pair in listed if pair.detectable is not None]
    return MetricComparison(
        _numbers(systems, scores),
        None if best is None else systems[best],
        tuple(name for name, on in zip(systems, mask, strict=True) if on),
        float(np.median(known)) if known else None,
        tuple(listed),
        lacking,
    )


def _numbers(names: Sequence[str], values: Iterable[float]) -> dict[str, float | None]:
    return dict(zip(names, map(number_or_none, values), strict=True))


def lacking_of(metric: str, resampled: Floats) -> str:
    """What became of the resamples that lack a class; empty where none does.

    Parameters
    ----------
    metric : str
    resampled : float64, shape (n_resamples,)
        Of any system: all have the same rows, and so the same resamples without a class.
    """
    if metric not in metrics.OVER_CLASSES:
        return ""
    return intervals.lacking_text(int(np.isnan(resampled).sum()), len(resampled))


def _corrected(p_values: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    adjusted = np.full(p_values.shape, np.nan)
    rows, columns = np.array(pairs).T
    adjusted[rows, columns] = adjusted[columns, rows] = comparisons.holm(p_values[rows, columns])
    return adjusted


def _mcnemar(
    systems: Sequence[str], pairs: Sequence[tuple[int, int]], right: NDArray[np.bool_]
) -> tuple[McNemar, ...]:
    only, p_values = comparisons.mcnemar_p(right)
    adjusted = _corrected(p_values, pairs)
    return tuple(
        McNemar(
            systems[i],
            systems[j],
            int(only[i, j]),
            int(only[j, i]),
            number_or_none(p_values[i, j]),
            number_or_none(adjusted[i, j]),
        )
        for i, j in pairs
    )


def _complementarity(rows: Rows, recipe: Recipe) -> Complementarity | None:
    models = {
        name: predicted for name, predicted in rows.predictions.items() if name in _models(recipe)
    }
    if len(models) < 2:
        return None
    chosen = Rows(rows.names, models, {}, 0)
    truth, predictions = _predictions(chosen, recipe)
    shown, names = recipe.shown, list(models)
    more: dict[str, Matrix] = {}
    if recipe.task == "classification":
        agreement = complementarity.agreement(predictions == truth)
        correlation = agreement.correlation
        more = {key: _matrix(getattr(agreement, key)) for key in AGREEMENT}
        oracle: np.ndarray = complementarity.oracle_labels(truth, predictions)
        classes = [of[[f"score_{x}" for x in rows.names]].to_numpy() for of in models.values()]
        codes = metrics.encode(truth, rows.names)
        value = functools.partial(value_of_classes, codes, np.stack(classes), shown)
        empty = np.full(len(shown), 1 / len(rows.names))
    else:
        correlation = complementarity.residual_correlation(truth, predictions)
        oracle = complementarity.oracle_values(truth, predictions)
        value = functools.partial(value_of_values, truth, predictions, shown)
        empty = np.zeros(len(shown))
    adds = complementarity.contributions(value, len(models), empty, recipe.evaluate.seed)
    pairs, subsets = complementarity.pair_subsets(len(models))
    fused = value(subsets)
    best = _scores(truth, oracle, rows.names, recipe)
    return Complementarity(
        tuple(names),
        _matrix(correlation),
        _numbers(list(best), best.values()),
        _numbers(shown, empty),
        adds.n_subsets,
        adds.error is None,
        {metric: _contributions(names, adds, m) for m, metric in enumerate(shown)},
        {
            metric: tuple(
                _fused_pair(names, pair, correlation, adds.alone[:, m], both[m])
                for pair, both in zip(pairs, fused, strict=True)
            )
            for m, metric in enumerate(shown)
        },
        **more,
    )


def _matrix(values: Floats) -> Matrix:
    return tuple(tuple(map(number_or_none, row)) for row in values.tolist())


def _contributions(
    names: Sequence[str], adds: complementarity.Contributions, m: int
) -> MetricContributions:
    """What each model adds, by the metric at a position."""
    error = np.full(len(names), np.nan) if adds.error is None else adds.error[:, m]
    columns = (adds.alone[:, m], adds.left_out[:, m], adds.shapley[:, m], error)
    each = [Contribution(*map(number_or_none, of)) for of in zip(*columns, strict=True)]
    return MetricContributions(number_or_none(adds.whole[m]), dict(zip(names, each, strict=True)))


def _fused_pair(
    names: Sequence[str], pair: tuple[int, int], correlation: Floats, alone: Floats, both: float
) -> FusedPair:
    i, j = pair
    numbers = (correlation[i, j], alone[i], alone[j], both, both - max(alone[i], alone[j]))
    return FusedPair(names[i], names[j], *map(number_or_none, numbers))


def _models(recipe: Recipe) -> list[str]:
    """Those whose fusion is looked at."""
    return [
        str(member)
        for member in recipe.members()
        if (layer := recipe.head_of(member.head).default_layer) is None or member.layer == layer
    ]


def value_of_classes(
    truth: NDArray[np.int64], scores: Floats, shown: Sequence[str], subsets: NDArray[np.bool_]
) -> Floats:
    """Scores of the mean of probabilities of each subset of models.

    Parameters
    ----------
    truth : int64, shape (n,)
        Positions in the label list.
    scores : float64, shape (n_models, n, n_labels)
        NaN for a class that a head has not seen.
    shown : sequence of str
    subsets : bool, shape (n_subsets, n_models)

    Returns
    -------
    float64, shape (n_subsets, n_metrics)
    """
    k = scores.shape[2]
    # A class without scores is below every probability.
    share = np.stack([np.nan_to_num(shares(of_system), nan=-1.0) for of_system in scores])
    flat = share.reshape(len(share), -1)
    result = []
    step = max(1, _BLOCK_VALUES // flat.shape[1])
    for start in range(0, len(subsets), step):
        block = subsets[start : start + step].astype(np.float64)
        said = (block @ flat).reshape(len(block), len(truth), k).argmax(axis=2)
        cells = np.arange(len(block))[:, None] * k * k + truth * k + said
        counts = np.bincount(cells.ravel(), minlength=len(block) * k * k).reshape(-1, k, k)
        found = metrics.scores_of(counts)
        result.append(np.stack([found[metric] for metric in shown], axis=1))
    return np.concatenate(result)


def value_of_values(
    truth: Floats, predictions: Floats, shown: Sequence[str], subsets: NDArray[np.bool_]
) -> Floats:
    """Scores, mean over targets, of the mean of values of each subset of models.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked; each target has some truth.
    predictions : float64, shape (n_models, n, n_targets)
    shown : sequence of str
    subsets : bool, shape (n_subsets, n_models)

    Returns
    -------
    float64, shape (n_subsets, n_metrics)
    """
    known = ~np.isnan(truth)
    sides = [_ranks(truth[rows, t]) for t, rows in enumerate(known.T)]

    def rho(fused: Floats) -> float:
        each = []
        for t, side in enumerate(sides):
            other = _ranks(fused[known[:, t], t])
            squares = (side @ side) * (other @ other)
            each.append(float(side @ other / np.sqrt(squares)) if squares > 0 else np.nan)
        return float(np.mean(each))

    def mean_of(metric: str, fused: Floats) -> float:
        score = metrics.REGRESSION[metric]
        columns = zip(truth.T, fused.T, known.T, strict=True)
        return float(np.mean([score(x[at], y[at]) for x, y, at in columns]))

    def scores(subset: NDArray[np.bool_]) -> list[float]:
        fused = predictions[subset].mean(axis=0)
        return [rho(fused) if metric == "spearman" else mean_of(metric, fused) for metric in shown]

    # BLAS threads within these would wait for one another.
    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
        ThreadPoolExecutor(joblib.cpu_count()) as pool,
    ):
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        return np.array(list(pool.map(scores, subsets)))


def _ranks(values: Floats) -> Floats:
    """Ranks less their mean."""
    return metrics.average_ranks(values) - (len(values) + 1) / 2
