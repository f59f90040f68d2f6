"""What a training writes."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs.folders import ALL, CURVES, INNER, PREDICTIONS, SEARCH
from evaluate.runs.predictions import write_predictions
from features.common.errors import RunError
from features.common.files import IrregularFileError, open_regular, read_bytes, write_bytes
from features.recipe.known.heads import HEADS
from models.problem import Positions, Problem
from models.search import (
    Choice,
    decide,
)

HEAD = "head.skops"

NEURAL_HEAD = "head.safetensors"
"""Of a network."""

OURS = ["models.column_weights.ColumnWeights", "models.exact.neighbours.CosineNeighbours"]
"""Types of this project that a saved head may hold: of models with weights, and of `knn`."""

OUTPUTS = (PREDICTIONS, INNER, SEARCH, HEAD)


def outputs_of(kind: str) -> tuple[str, ...]:
    """The files of a finished run of a kind of head.

    Examples
    --------
    >>> outputs_of("svc")[-1], outputs_of("mlp")[-2:]
    ('head.skops', ('head.safetensors', 'curves.csv'))
    """
    own = (NEURAL_HEAD, CURVES) if HEADS[kind].neural else (HEAD,)
    return (PREDICTIONS, INNER, SEARCH, *own)


def write_head(folder: Path, kind: str, head: Any) -> None:
    """Write a fitted head, and take away one of the other sort that lies there."""
    if not HEADS[kind].neural:
        for name in (NEURAL_HEAD, CURVES):
            (folder / name).unlink(missing_ok=True)
        return save_head(folder / HEAD, head)
    from models.neural.estimator import save_neural

    (folder / HEAD).unlink(missing_ok=True)
    save_neural(folder / NEURAL_HEAD, head)


def copy_head(source: Path, folder: Path) -> None:
    """Copy the head of a run, of whichever sort, into another run's folder."""
    for name in (HEAD, NEURAL_HEAD, CURVES):
        (folder / name).unlink(missing_ok=True)
        if (source / name).exists():
            write_bytes(folder / name, read_bytes(source / name), RunError)


def read_head(folder: Path, kind: str) -> Any:
    """The head of a run: as `load_head`, or a network.

    Raises
    ------
    RunError
        It is missing or damaged.
    """
    if not HEADS[kind].neural:
        return load_head(folder / HEAD)
    from models.neural.estimator import load_neural

    return load_neural(folder / NEURAL_HEAD)


def prediction_rows(
    problem: Problem,
    rows: pd.DataFrame,
    positions: Positions,
    partition: str,
    fold: str,
    values: NDArray[np.float64],
) -> pd.DataFrame:
    """Rows of `predictions.csv` or `inner.csv`.

    Parameters
    ----------
    problem : Problem
    rows : DataFrame
        Of the problem.
    positions : int64, shape (n,)
        Of the rows that are predicted.
    partition, fold : str
    values : float64, shape (n, n_targets) or (n, n_labels)

    Returns
    -------
    DataFrame
        Its index is that of the rows.
    """
    part = rows.iloc[positions]
    predictions = part[["corpus", "utterance"]].assign(partition=partition, fold=fold)
    predictions["speaker"] = part["speaker"]
    truth = problem.y[positions]
    columns: dict[str, Any] = {}
    if problem.labels:
        columns["true"] = truth.astype(object)
        columns["pred"] = decide(values, problem.labels)
        columns.update((f"score_{label}", values[:, i]) for i, label in enumerate(problem.labels))
    else:
        for i, target in enumerate(problem.names):
            columns[f"{target}_true"], columns[f"{target}_pred"] = truth[:, i], values[:, i]
    return pd.concat([predictions, pd.DataFrame(columns, index=predictions.index)], axis=1)


def write_sorted(path: Path, predictions: Sequence[pd.DataFrame], order: Sequence[str]) -> None:
    """Write rows of predictions in an order of columns, and in it of the table's rows."""
    rows = pd.concat(predictions)
    rows["_row"] = rows.index  # the position in the table: sorted by key
    rows = rows.sort_values([*order, "_row"], kind="stable").drop(columns="_row")
    write_predictions(path, rows)


def chosen_cells(choice: Choice, problem: Problem) -> list[dict[str, Any]]:
    """The chosen cells as JSON-able values."""
    names = problem.names if len(choice.cells) > 1 else [None]
    return [
        {"cell": cell.index, "scaler": cell.scaler, "params": dict(cell.params), "score": score}
        | ({"target": name} if name else {})
        for name, cell, score in zip(names, choice.cells, choice.scores, strict=True)
    ]


def summary(choices: Mapping[str, Choice], select: str) -> str:
    """Name the choice in a line: the cell, or how many cells were chosen over folds and targets.

    The score is the mean over outer folds, the choice over all rows left out.

    Parameters
    ----------
    choices : mapping
        Outer fold (or `ALL`) -> its choice.
    select : str
        The metric that chose.

    Returns
    -------
    str
    """
    own = [choice for name, choice in choices.items() if name != ALL]
    picked = Counter(str(cell) for choice in own for cell in choice.cells)
    cell, count = picked.most_common(1)[0]
    if len(picked) > 1:
        cell += f" ({count} of {picked.total()} choices)"
    score = np.mean([score for choice in own for score in choice.scores])
    return f"{cell}; {select} {score:.4f}"


def save_head(path: Path, head: Any) -> None:
    """Write a fitted head by skops."""
    from skops import io

    write_bytes(path, io.dumps(head), RunError)


def load_head(path: Path) -> Any:
    """Read a head that `save_head` wrote; it holds scikit-learn's and numpy's types, and `OURS`.

    Parameters
    ----------
    path : Path

    Returns
    -------
    estimator
        Of a regression: `predict(X)` of shape (n, n_targets). Of a classification: a pipeline with
        `predict` and `decision_function`.

    Raises
    ------
    RunError
        Where the file is missing or damaged, or holds types that skops does not trust.
    """
    from skops import io

    try:
        with open_regular(path, "rb") as file:
            # `save_head` does not compress: more than that is made up.
            claimed = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
            if claimed > os.fstat(file.fileno()).st_size:
                raise ValueError(f"its parts claim {claimed} bytes")
            return io.load(file, trusted=OURS)
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (
        OSError,
        ValueError,
        MemoryError,
        zipfile.BadZipFile,
        io.exceptions.UntrustedTypesFoundException,
    ) as error:
        raise RunError(f"{path}: no head to load ({error}); run make train again") from None
