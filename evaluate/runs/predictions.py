"""`predictions.csv` and `inner.csv`: written, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from features.common.errors import RunError
from features.common.files import (
    IrregularFileError,
    read_csv,
    write_text,
)
from features.common.words import counted

if TYPE_CHECKING:
    pass


KEY = ["corpus", "utterance", "partition", "fold", "speaker"]

_TEXT = {*KEY, "true", "pred"}


def write_predictions(path: str | Path, rows: pd.DataFrame) -> None:
    """Write predictions whole or not at all.

    Parameters
    ----------
    path : path
        Its folder is made where it is missing.
    rows : DataFrame
        Columns `corpus, utterance, partition, fold, speaker`, then `<target>_true, <target>_pred`
        a target, or `true, pred` and one `score_<class>` a class.

    Raises
    ------
    RunError
        Where `read_predictions` would refuse the file.
    """
    write_text(path, predictions_text(path, rows), RunError)


def predictions_text(path: str | Path, rows: pd.DataFrame) -> str:
    """What `write_predictions` writes.

    Raises
    ------
    RunError
        Where `read_predictions` would refuse it.
    """
    rows = rows.reset_index(drop=True)
    for column in rows.columns.difference(list(_TEXT)):
        rows[column] = rows[column].astype(np.float64)
    _check_predictions(Path(path), rows)
    return rows.to_csv(index=False, lineterminator="\n")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions, in the order of the file.

    Parameters
    ----------
    path : path

    Returns
    -------
    DataFrame
        Text columns of str, numbers of float64 as they were written.

    Raises
    ------
    RunError
        On a missing file, missing or unknown columns, values that are no numbers, predictions
        that are not finite, and utterances that stand twice in a fold.
    """
    path = Path(path)
    try:
        rows = read_csv(path)
    except FileNotFoundError:
        raise RunError(f"{path}: no such predictions; run make train (or make fuse)") from None
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: not readable as CSV: {error}; train or fuse anew") from None
    for column in rows.columns:
        if column in _TEXT:
            rows[column] = rows[column].astype(object)
            continue
        text = rows[column].to_numpy(dtype=object)
        try:  # float() reads back exactly what was written; pandas' own parser need not
            rows[column] = np.array([float(cell) if cell else np.nan for cell in text], np.float64)
        except ValueError as error:
            raise RunError(f"{path}: column {column}: {error}; train or fuse anew") from None
    _check_predictions(path, rows)
    return rows


def _check_predictions(path: Path, rows: pd.DataFrame) -> None:
    def refuse(what: str) -> RunError:
        return RunError(f"{path}: {what}; train or fuse anew")

    missing = [column for column in KEY if column not in rows.columns]
    if missing:
        raise refuse(f"no column {', '.join(missing)}")
    if "true" in rows.columns:
        numbers = [f"score_{label}" for label in predicted_labels(rows)]
        expected = [*KEY, "true", "pred", *numbers]
    else:
        targets = predicted_targets(rows)
        numbers = [f"{target}_pred" for target in targets]
        expected = [*KEY, *(f"{t}_{side}" for t in targets for side in ("true", "pred"))]
    if list(rows.columns) != expected or not numbers:
        raise refuse(f"got the columns {list(rows.columns)}, expected {expected} and predictions")
    for column in numbers:
        values = rows[column].to_numpy(dtype=np.float64)
        # The score of a class that the fitted rows lacked is empty.
        bad = np.isinf(values) if "true" in rows.columns else ~np.isfinite(values)
        if bad.any():
            first = rows["utterance"][int(np.argmax(bad))]
            raise refuse(f"column {column}: {int(bad.sum())} values not finite, first at {first}")
    twice = rows.duplicated(["corpus", "utterance", "partition", "fold"])
    if twice.any():
        first = rows[twice].iloc[0]
        stand = counted(int(twice.sum()), "row stands", "rows stand")
        raise refuse(f"{stand} twice, first {first['corpus']} {first['utterance']}")


def predicted_labels(rows: pd.DataFrame) -> tuple[str, ...]:
    """The ordered label list of the predictions of a classification."""
    return tuple(c.removeprefix("score_") for c in rows.columns if c.startswith("score_"))


def predicted_targets(rows: pd.DataFrame) -> tuple[str, ...]:
    """The targets of the predictions of a regression."""
    return tuple(c.removesuffix("_pred") for c in rows.columns if c.endswith("_pred"))
