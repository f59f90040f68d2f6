"""Predictions of several members, row by row: who said what of the same utterance."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluate.runs.arrays import speakers
from evaluate.runs.predictions import predicted_labels, predicted_targets
from features.common.errors import RunError
from features.common.findings import some
from features.common.words import counted
from fusion.methods import Floats
from fusion.stacking import StackedRows

KEY = ["corpus", "utterance", "partition", "fold"]


@dataclass(frozen=True)
class Aligned:
    """The members' predictions of the same rows.

    Attributes
    ----------
    predictions : DataFrame
        The first member's predictions of these rows, in its order.
    stack : float64, shape (n_members, n, n_targets) or (n_members, n, n_labels)
    labels : tuple of str
        The label list; empty for regression.
    n_dropped : int
        Rows that some member has and another lacks.
    """

    predictions: pd.DataFrame
    stack: Floats
    labels: tuple[str, ...]
    n_dropped: int

    @property
    def columns(self) -> list[str]:
        """What is combined."""
        return value_columns(self.predictions)

    @property
    def rows(self) -> StackedRows:
        """As rows to learn from.

        Returns
        -------
        StackedRows
            Truths of classes are positions in `labels`, -1 where there is none.
        """
        groups = speakers(self.predictions)
        if self.labels:
            codes = {label: code for code, label in enumerate(self.labels)}
            truth = np.array(
                [codes.get(label, -1) for label in self.predictions["true"]], dtype=np.int64
            )
            return StackedRows(self.stack, truth, groups)
        targets = predicted_targets(self.predictions)
        wanted = self.predictions[[f"{target}_true" for target in targets]]
        return StackedRows(self.stack, wanted.to_numpy(np.float64), groups)

    def predicted(self, values: Floats) -> pd.DataFrame:
        """The rows with combined values in the place of the first member's."""
        rows = self.predictions.copy()
        rows[self.columns] = values
        if self.labels:
            winners = np.nanargmax(values, axis=1)
            rows["pred"] = np.asarray(self.labels, dtype=object)[winners]
        return rows


def align(
    predictions: Mapping[str, pd.DataFrame], missing: str = "error", where: str = "fusion"
) -> Aligned:
    """Bring the members' predictions to the same rows.

    Parameters
    ----------
    predictions : mapping
        Member -> predictions, as `evaluate.runs.predictions.read_predictions` gives them.
    missing : "error" or "drop"
        "drop" takes the rows that all members have.
    where : str
        Named in errors.

    Returns
    -------
    Aligned
        Rows in the order of the first member.

    Raises
    ------
    RunError
        Naming the member, the other one, and the first utterance.
    """
    indexed = {member: rows.set_index(KEY) for member, rows in predictions.items()}
    (first, reference), *others = indexed.items()
    for member, rows in others:
        if list(rows.columns) != list(reference.columns):
            raise RunError(
                f"{where}: {first} and {member} predict different things: "
                f"{', '.join(reference.columns)} and {', '.join(rows.columns)}"
            )
    everywhere = functools.reduce(
        lambda shared, other: shared[shared.isin(other)],
        (rows.index for rows in indexed.values()),
    )
    n_dropped = len(
        functools.reduce(
            lambda every, other: every.union(other, sort=False), (f.index for f in indexed.values())
        )
    ) - len(everywhere)
    if n_dropped and missing == "error":
        raise RunError(f"{where}: {_lacking(indexed)}; train it anew, or set missing = 'drop'")
    if not len(everywhere):
        raise RunError(f"{where}: no utterance that all of {', '.join(predictions)} predict")
    aligned = {member: rows.loc[everywhere] for member, rows in indexed.items()}
    reference = aligned[first]
    labels = predicted_labels(reference)
    truths = ["true"] if labels else [f"{target}_true" for target in predicted_targets(reference)]
    for member, rows in list(aligned.items())[1:]:
        ours, theirs = reference[truths].to_numpy(object), rows[truths].to_numpy(object)
        other = (ours != theirs) & ~(pd.isna(ours) & pd.isna(theirs))
        if other.any():
            row, column = np.argwhere(other)[0]
            raise RunError(
                f"{where}: {first} and {member} disagree on the truth of {int(other.any(1).sum())} "
                f"rows: {_name(everywhere[row])}: {truths[column]} is {ours[row, column]!r} and "
                f"{theirs[row, column]!r}; train both anew"
            )
    columns = value_columns(reference)
    stack = np.stack([rows[columns].to_numpy(np.float64) for rows in aligned.values()])
    rows = reference.reset_index()[list(next(iter(predictions.values())).columns)]
    return Aligned(rows, stack, labels, n_dropped)


def value_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of predictions that are combined."""
    names = map(str, rows.columns)
    return [name for name in names if name.startswith("score_") or name.endswith("_pred")]


def _name(key: tuple[str, ...]) -> str:
    corpus, utterance, partition, fold = key
    return f"{corpus}/{utterance} ({partition}{f', fold {fold}' if fold else ''})"


def _lacking(indexed: Mapping[str, Any]) -> str:
    """Name the first member that lacks rows which another has, and some of the rows."""
    for member, predictions in indexed.items():
        for other, theirs in indexed.items():
            rows = theirs.index[~theirs.index.isin(predictions.index)]
            if len(rows):
                return f"{member} lacks {counted(len(rows), 'row')} of {other}: " + some(
                    [_name(key) for key in rows], 3
                )
    return ""
