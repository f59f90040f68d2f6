"""The scores of one partition, and of the pairs of corpora of a cross-corpus run.

Conventions
-----------
- Scores are computed on all held-out rows of a partition pooled; mean and sample deviation over
  folds stand beside them. Where a recipe has several corpora, each is also scored alone.
- Rows whose truth is masked are left out and counted (`n_masked`).
- A regression's `metrics` are means over its targets. A target without any truth is left out; a
  target whose score is undefined makes the mean undefined.
- What there is to say of the scores is added to `notes`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evaluate.metrics import metrics
from evaluate.runs.arrays import (
    count_speakers,
    has_truth,
    plain_scores,
    speakers,
    values_of,
)
from evaluate.scores.names import NAMES
from evaluate.scores.records import (
    ClassScore,
    Estimate,
    Folds,
    PartitionScores,
    RowScores,
    TargetScore,
    Transfer,
    estimate,
    number_or_none,
)
from evaluate.statistics import resampling as intervals
from features.common.words import counted

if TYPE_CHECKING:
    from features.recipe.model import Recipe

_OVER_CLASSES = " and ".join(NAMES[metric] for metric in metrics.OVER_CLASSES)


def score_partition(
    rows: pd.DataFrame, name: str, names: Sequence[str], recipe: Recipe, notes: list[str]
) -> PartitionScores:
    """Score the rows of a partition, those of each corpus, and single folds.

    Parameters
    ----------
    rows : DataFrame
        Predictions of the partition.
    name : str
        Of the partition, for the notes.
    names : sequence of str
        Labels or targets.
    recipe : Recipe
    notes : list of str
        What there is to say is added.

    Returns
    -------
    PartitionScores
    """
    score = _classification if recipe.task == "classification" else _regression
    known = has_truth(rows, names)
    whole = score(rows[known], name, names, recipe, notes)
    masked = int((~known).sum())
    if masked:
        notes.append(f"{name}: {masked} of {len(rows)} rows have no truth; left out")
    folds = _folds(rows[known], name, names, recipe, notes)
    corpora = sorted(rows["corpus"].unique())
    alone = {
        corpus: score(
            rows[known & (rows["corpus"] == corpus)], f"{name}, {corpus}", names, recipe, notes
        )
        for corpus in corpora
        if len(corpora) > 1
    }
    return PartitionScores(**vars(whole), n_masked=masked, folds=folds, corpora=alone)


def _counts(rows: pd.DataFrame, name: str, notes: list[str]) -> tuple[int, int | None]:
    """Rows and speakers; rows without a speaker are noted."""
    n_speakers = count_speakers(rows)
    unknown = int((rows["speaker"] == "").sum())
    if n_speakers and unknown:
        notes.append(
            f"{name}: {counted(unknown, 'row has', 'rows have')} no speaker; resampled one by one"
        )
    return len(rows), n_speakers


def _regression(
    rows: pd.DataFrame, name: str, targets: Sequence[str], recipe: Recipe, notes: list[str]
) -> RowScores:
    n, n_speakers = _counts(rows, name, notes)
    if rows.empty:
        return RowScores(n, n_speakers, {})
    truth, prediction = values_of(rows, targets)
    values: dict[str, dict[str, float]] = {}
    for i, target in enumerate(targets):
        with _noted(f"{name}, {target}: ", notes):
            values |= metrics.regression_scores(truth[:, [i]], prediction[:, [i]], [target])
    drawn = intervals.draw(speakers(rows), recipe.evaluate.bootstrap, recipe.evaluate.seed)
    resampled = intervals.regression_resampled(truth, prediction, drawn)
    counts = (~np.isnan(truth)).sum(axis=0)
    confidence = recipe.evaluate.confidence
    per_target = {
        target: TargetScore(
            int(counts[i]),
            {
                metric: estimate(values[target][metric], resampled[metric][i], confidence)
                for metric in metrics.REGRESSION
            },
        )
        for i, target in enumerate(targets)
    }
    scored = [i for i, count in enumerate(counts) if count]
    means = {
        metric: estimate(
            float(np.mean([values[targets[i]][metric] for i in scored])),
            resampled[metric][scored].mean(axis=0),
            confidence,
        )
        for metric in metrics.REGRESSION
    }
    return RowScores(n, n_speakers, means, per_target=per_target)


def _classification(
    predictions: pd.DataFrame, name: str, labels: Sequence[str], recipe: Recipe, notes: list[str]
) -> RowScores:
    n, n_speakers = _counts(predictions, name, notes)
    if predictions.empty:
        return RowScores(n, n_speakers, {})
    truth, prediction = predictions["true"].to_numpy(), predictions["pred"].to_numpy()
    matrix = metrics.confusion(truth, prediction, labels)
    with warnings.catch_warnings():
        # Said by name.
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        values = metrics.classification_scores(matrix)
    per_class = {
        label: ClassScore(**found) for label, found in metrics.per_class(matrix, labels).items()
    }
    notes += absent_classes(name, per_class)
    drawn = intervals.draw(speakers(predictions), recipe.evaluate.bootstrap, recipe.evaluate.seed)
    resampled = intervals.classification_resampled(truth, prediction, labels, drawn)
    confidence = recipe.evaluate.confidence
    found = {
        metric: estimate(value, resampled[metric], confidence) for metric, value in values.items()
    }
    notes += lacking_notes(name, found, recipe)
    rows = tuple(map(tuple, matrix.tolist()))
    return RowScores(n, n_speakers, found, per_class=per_class, confusion=rows)


def lacking_notes(name: str, found: Mapping[str, Estimate], recipe: Recipe) -> list[str]:
    """Say how many resamples lack a class; nothing where none does."""
    text = lacking_text(found, recipe)
    return [f"{name}, {_OVER_CLASSES}: {text}"] if text else []


def lacking_text(found: Mapping[str, Estimate], recipe: Recipe) -> str:
    """What became of the resamples that lack a class: of the entries of a set of rows."""
    undefined = found["uar"].undefined if "uar" in found else 0
    return intervals.lacking_text(undefined, recipe.evaluate.bootstrap)


def absent_classes(name: str, per_class: Mapping[str, ClassScore]) -> list[str]:
    """Say which classes no scored row of a partition is of; nothing where each has one.

    Parameters
    ----------
    name : str
        Of the partition.
    per_class : mapping
        Class -> its scores.

    Returns
    -------
    list of str
        One line, or none.

    Examples
    --------
    >>> sad, calm = ClassScore(0.5, 0.5, 0.5, support=3), ClassScore(0, None, None, support=0)
    >>> absent_classes("test", {"sad": sad, "calm": calm})
    ['test: no row is of calm; UAR is the mean over the other 1 of 2 classes']
    """
    absent = [label for label, of_class in per_class.items() if not of_class.support]
    if not absent:
        return []
    n = len(per_class)
    return [
        f"{name}: no row is of {', '.join(absent)}; UAR is the mean over the other "
        f"{n - len(absent)} of {n} classes"
    ]


def _folds(
    predictions: pd.DataFrame, name: str, names: Sequence[str], recipe: Recipe, notes: list[str]
) -> Folds | None:
    """Mean and sample deviation of the scores of single folds; None where there is one fold."""
    scores, partial = [], 0
    for _, rows in predictions.groupby("fold", sort=True):
        found: list[str] = []
        with _noted("", found):
            scores.append(plain_scores(rows, names))
        partial += bool(found)
    if len(scores) < 2:
        return None
    if partial:
        notes.append(
            f"{name}: in {partial} of {len(scores)} folds a class has no true sample or a score is "
            f"undefined; mean and deviation over folds go without it"
        )
    table = pd.DataFrame(scores)
    mean, std = (
        {str(metric): number_or_none(value) for metric, value in of.items()}
        for of in (table.mean(), table.std(ddof=1))
    )
    return Folds(mean, std, len(table))


@contextlib.contextmanager
def _noted(prefix: str, notes: list[str]) -> Iterator[None]:
    """Turn warnings into notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", metrics.ScoreWarning)
        yield
    notes += [prefix + str(warning.message) for warning in caught]


def score_transfer(
    predictions: pd.DataFrame, names: Sequence[str], recipe: Recipe, notes: list[str]
) -> Transfer:
    """Scores of every training set (rows) on every corpus (columns); None where there is none.

    Parameters
    ----------
    predictions : DataFrame
        Of a cross-corpus run.
    names : sequence of str
        Labels or targets.
    recipe : Recipe
    notes : list of str
        What there is to say is added.

    Returns
    -------
    Transfer
    """
    score = _classification if recipe.task == "classification" else _regression
    known = predictions[has_truth(predictions, names)]
    across, within = (known[known["partition"] == part] for part in ("test", "within"))
    trained = [fold.removeprefix("from ") for fold in sorted(across["fold"].unique())]
    tested = sorted(known["corpus"].unique())

    def cell(train: str, test: str) -> RowScores | None:
        rows = within if train == test else across[across["fold"] == f"from {train}"]
        rows = rows[rows["corpus"] == test]
        found = score(rows, f"{train} on {test}", names, recipe, notes)
        return RowScores(found.n, found.n_speakers, found.metrics) if len(rows) else None

    cells = tuple(tuple(cell(train, test) for test in tested) for train in trained)
    return Transfer(tuple(trained), tuple(tested), cells)
