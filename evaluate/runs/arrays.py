"""Predictions -> the arrays that metrics take, and scores of them.

Rows are those of `evaluate.runs.predictions.read_predictions`; `names` are the labels of a
classification or the targets of a regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluate.metrics import metrics
from evaluate.statistics import resampling as intervals


def has_truth(rows: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Which rows have a truth, of a regression in any target; bool, shape (n,)."""
    if "true" in rows.columns:
        return rows["true"] != ""
    return rows[[f"{target}_true" for target in names]].notna().any(axis=1)


def speakers(rows: pd.DataFrame) -> np.ndarray:
    """`corpus/speaker` of each row, "" where unknown; object, shape (n,)."""
    names = rows["speaker"].to_numpy(dtype=object)
    return np.where(names == "", "", rows["corpus"].to_numpy(dtype=object) + "/" + names)


def count_speakers(rows: pd.DataFrame) -> int | None:
    """How many known speakers there are; None where none is known."""
    count = len(set(speakers(rows)) - {""})
    return count or None


def values_of(rows: pd.DataFrame, targets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of a regression, each float64, shape (n, n_targets)."""
    truth = rows[[f"{target}_true" for target in targets]].to_numpy(dtype=np.float64)
    return truth, rows[[f"{target}_pred" for target in targets]].to_numpy(dtype=np.float64)


def truth_of(rows: pd.DataFrame, names: Sequence[str]) -> list[Any]:
    """The truths of each row, for comparing them with others; "" where masked."""
    columns = ["true"] if "true" in rows.columns else [f"{target}_true" for target in names]
    values = rows[columns].to_numpy(dtype=object)
    return np.where(pd.isna(values), "", values).tolist()


def plain_scores(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Every metric, of a regression the mean over the targets that have a truth.

    Parameters
    ----------
    rows : DataFrame
        Predictions that have a truth.
    names : sequence of str
        Labels or targets.

    Returns
    -------
    dict
        Metric -> score, NaN where it is undefined.
    """
    if "true" in rows.columns:
        return metrics.classification_scores(
            metrics.confusion(rows["true"].to_numpy(), rows["pred"].to_numpy(), names)
        )
    truth, prediction = values_of(rows, names)
    scored = [i for i in range(len(names)) if not np.isnan(truth[:, i]).all()]
    values = metrics.regression_scores(
        truth[:, scored], prediction[:, scored], [names[i] for i in scored]
    )
    return {m: float(np.mean([v[m] for v in values.values()])) for m in metrics.REGRESSION}


def resampled_scores(
    rows: pd.DataFrame, names: Sequence[str], drawn: intervals.Resamples
) -> dict[str, np.ndarray]:
    """Every metric in every resample, of regression the mean over targets that have a truth.

    Parameters
    ----------
    rows : DataFrame
        Predictions that have a truth.
    names : sequence of str
        Labels or targets.
    drawn : Resamples
        Of these rows.

    Returns
    -------
    dict
        Metric -> float64, shape (n_resamples,), NaN where it is undefined.
    """
    if "true" in rows.columns:
        return intervals.classification_resampled(
            rows["true"].to_numpy(), rows["pred"].to_numpy(), names, drawn
        )
    truth, prediction = values_of(rows, names)
    scored = ~np.isnan(truth).all(axis=0)
    found = intervals.regression_resampled(truth, prediction, drawn)
    return {metric: values[scored].mean(axis=0) for metric, values in found.items()}
