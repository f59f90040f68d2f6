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

# -- predictions -----------------------------------------------------------------------------


def write_predictions(path: str | Path, frame: pd.DataFrame) -> None:
    """Write predictions whole or not at all.

    Parameters
    ----------
    path : path
        Its folder is made where it is missing.
    frame : DataFrame
        Columns `corpus, utterance, partition, fold, speaker`, then `<target>_true, <target>_pred`
        a target, or `true, pred` and one `score_<class>` a class.

    Raises
    ------
    RunError
        Where `read_predictions` would refuse the file.
    """
    write_text(path, predictions_text(path, frame), RunError)


def predictions_text(path: str | Path, frame: pd.DataFrame) -> str:
    """What `write_predictions` writes.

    Raises
    ------
    RunError
        Where `read_predictions` would refuse it.
    """
    frame = frame.reset_index(drop=True)
    for column in frame.columns.difference(list(_TEXT)):
        frame[column] = frame[column].astype(np.float64)
    _check_predictions(Path(path), frame)
    return frame.to_csv(index=False, lineterminator="\n")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions, in the order of the file.

    Raises
    ------
    RunError
        On a missing file, missing or unknown columns, values that are no numbers, predictions
        that are not finite, and utterances that stand twice in a fold.
    """
    path = Path(path)
    try:
        frame = read_csv(path)
    except FileNotFoundError:
        raise RunError(f"{path}: no such predictions; run make train (or make fuse)") from None
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: not readable as CSV: {error}; train or fuse anew") from None
    for column in frame.columns:
        if column in _TEXT:
            frame[column] = frame[column].astype(object)
            continue
        text = frame[column].to_numpy(dtype=object)
        try:  # float() reads back exactly what was written; pandas' own parser need not
            frame[column] = np.array([float(cell) if cell else np.nan for cell in text], np.float64)
        except ValueError as error:
            raise RunError(f"{path}: column {column}: {error}; train or fuse anew") from None
    _check_predictions(path, frame)
    return frame


def _check_predictions(path: Path, frame: pd.DataFrame) -> None:
    def refuse(what: str) -> RunError:
        return RunError(f"{path}: {what}; train or fuse anew")

    missing = [column for column in KEY if column not in frame.columns]
    if missing:
        raise refuse(f"no column {', '.join(missing)}")
    if "true" in frame.columns:
        numbers = [f"score_{label}" for label in predicted_labels(frame)]
        expected = [*KEY, "true", "pred", *numbers]
    else:
        targets = predicted_targets(frame)
        numbers = [f"{target}_pred" for target in targets]
        expected = [*KEY, *(f"{t}_{side}" for t in targets for side in ("true", "pred"))]
    if list(frame.columns) != expected or not numbers:
        raise refuse(f"got the columns {list(frame.columns)}, expected {expected} and predictions")
    for column in numbers:
        values = frame[column].to_numpy(dtype=np.float64)
        # The score of a class that the fitted rows lacked is empty.
        bad = np.isinf(values) if "true" in frame.columns else ~np.isfinite(values)
        if bad.any():
            first = frame["utterance"][int(np.argmax(bad))]
            raise refuse(f"column {column}: {int(bad.sum())} values not finite, first at {first}")
    twice = frame.duplicated(["corpus", "utterance", "partition", "fold"])
    if twice.any():
        first = frame[twice].iloc[0]
        stand = counted(int(twice.sum()), "row stands", "rows stand")
        raise refuse(f"{stand} twice, first {first['corpus']} {first['utterance']}")


def predicted_labels(frame: pd.DataFrame) -> tuple[str, ...]:
    """The ordered label list of a predictions frame of a classification."""
    return tuple(c.removeprefix("score_") for c in frame.columns if c.startswith("score_"))


def predicted_targets(frame: pd.DataFrame) -> tuple[str, ...]:
    """The targets of a predictions frame of a regression."""
    return tuple(c.removesuffix("_pred") for c in frame.columns if c.endswith("_pred"))
