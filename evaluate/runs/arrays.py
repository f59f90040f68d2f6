"""Frames of predictions -> the arrays that metrics take, and scores of a frame.

Frames are those of `evaluate.runs.predictions.read_predictions`; `names` are the labels of a
classification or the targets of a regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluate.metrics import metrics
from evaluate.statistics import resampling as intervals


def has_truth(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Which rows have a truth, of a regression in any target; bool, shape (n,)."""
    if "true" in frame.columns:
        return frame["true"] != ""
    return frame[[f"{target}_true" for target in names]].notna().any(axis=1)


def speakers(frame: pd.DataFrame) -> np.ndarray:
    """`corpus/speaker` of each row, "" where unknown; object, shape (n,)."""
    names = frame["speaker"].to_numpy(dtype=object)
    return np.where(names == "", "", frame["corpus"].to_numpy(dtype=object) + "/" + names)


def count_speakers(frame: pd.DataFrame) -> int | None:
    """How many known speakers there are; None where none is known."""
    count = len(set(speakers(frame)) - {""})
    return count or None


def values_of(frame: pd.DataFrame, targets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of a regression, each float64, shape (n, n_targets)."""
    truth = frame[[f"{target}_true" for target in targets]].to_numpy(dtype=np.float64)
    return truth, frame[[f"{target}_pred" for target in targets]].to_numpy(dtype=np.float64)


def truth_of(frame: pd.DataFrame, names: Sequence[str]) -> list[Any]:
    """The truths of each row, for comparing them with others; "" where masked."""
    columns = ["true"] if "true" in frame.columns else [f"{target}_true" for target in names]
    values = frame[columns].to_numpy(dtype=object)
    return np.where(pd.isna(values), "", values).tolist()


def plain_scores(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Every metric, of a regression the mean over the targets that have a truth."""
    if "true" in frame.columns:
        return metrics.classification_scores(
            metrics.confusion(frame["true"].to_numpy(), frame["pred"].to_numpy(), names)
        )
    truth, prediction = values_of(frame, names)
    scored = [i for i in range(len(names)) if not np.isnan(truth[:, i]).all()]
    values = metrics.regression_scores(
        truth[:, scored], prediction[:, scored], [names[i] for i in scored]
    )
    return {m: float(np.mean([v[m] for v in values.values()])) for m in metrics.REGRESSION}


def resampled_scores(
    frame: pd.DataFrame, names: Sequence[str], drawn: intervals.Resamples
) -> dict[str, np.ndarray]:
    """Every metric in every resample, of regression the mean over targets that have a truth."""
    if "true" in frame.columns:
        return intervals.classification_resampled(
            frame["true"].to_numpy(), frame["pred"].to_numpy(), names, drawn
        )
    truth, prediction = values_of(frame, names)
    scored = ~np.isnan(truth).all(axis=0)
    found = intervals.regression_resampled(truth, prediction, drawn)
    return {metric: values[scored].mean(axis=0) for metric, values in found.items()}
