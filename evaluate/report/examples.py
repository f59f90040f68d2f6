"""Single utterances of the report: where their audio is, which cell they fell into, which are hard.

Conventions
-----------
- A row of predictions is (corpus, utterance, partition, fold).
- The *margin* of a class prediction is the score of the true class less the highest score of
  another one, as they stand in `predictions.csv`: negative where the prediction is wrong. It is NaN
  where the fitted rows lacked the true class. The *distance* of a regression's is the mean over the
  targets with a truth of |prediction - truth|. Neither is a score of a run: they order rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs.predictions import predicted_labels, predicted_targets
from features.utterances import KEY, Table

ROW = [*KEY, "partition", "fold"]


@dataclass(frozen=True)
class Audio:
    """Where the recordings are.

    Attributes
    ----------
    links : dict
        (corpus, utterance) -> address relative to the report's folder, percent-encoded; a segment
        has its seconds as a media fragment.
    missing : dict
        Corpus -> why some of its utterances cannot be heard; no entry where all can.
    """

    links: Mapping[tuple[str, str], str]
    missing: Mapping[str, str]


def find_audio(corpora: Mapping[str, Path], tables: Mapping[str, Table], folder: Path) -> Audio:
    """Look for the audio of every utterance of the tables.

    Parameters
    ----------
    corpora : mapping
        Corpus -> its root.
    tables : mapping
        Corpus -> its table; a corpus without one has no audio that could be found.
    folder : path
        The report's, which the links start from.

    Returns
    -------
    Audio
        Links relative to `folder`, and what cannot be heard.
    """
    links: dict[tuple[str, str], str] = {}
    missing = {}
    for corpus, root in corpora.items():
        if corpus not in tables:
            missing[corpus] = f"the table of {corpus}, which says where its audio is, is not there"
            continue
        rows = tables[corpus].rows
        found = 0
        columns = (rows[name] for name in ("utterance", "path", "start", "end"))
        for utterance, path, start, end in zip(*columns, strict=True):
            if (root / path).is_file():
                found += 1
                links[(corpus, utterance)] = _link(root / path, folder) + _fragment(start, end)
        if found < len(rows):
            missing[corpus] = (
                f"{len(rows) - found} of {len(rows)} recordings of {corpus} are not below {root}"
            )
    return Audio(links, missing)


def _link(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path.resolve(), folder.resolve()))
    return "/".join([*([] if relative.parts[0] == ".." else ["."]), *map(quote, relative.parts)])


def _fragment(start: float, end: float) -> str:
    if np.isnan(start) and np.isnan(end):
        return ""
    first = 0.0 if np.isnan(start) else start
    return f"#t={first:.3f}" + ("" if np.isnan(end) else f",{end:.3f}")


def confused(rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """The utterances of each cell of a confusion matrix that has any.

    Parameters
    ----------
    rows : DataFrame
        Predictions of a partition.
    labels : sequence of str
        Cells count from 0 in this order.

    Returns
    -------
    dict
        `"<true>,<predicted>"` -> (corpus, utterance), in the order of the rows.
    """
    place = {label: i for i, label in enumerate(labels)}
    cells: dict[str, list[tuple[str, str]]] = {}
    known = rows[rows["true"] != ""]
    for corpus, utterance, true, pred in zip(
        known["corpus"], known["utterance"], known["true"], known["pred"], strict=True
    ):
        cells.setdefault(f"{place[true]},{place[pred]}", []).append((corpus, utterance))
    return cells


def difficulty(rows: pd.DataFrame) -> pd.Series:
    """How far off every prediction is: the higher, the worse.

    Parameters
    ----------
    rows : DataFrame
        Predictions.

    Returns
    -------
    Series
        Margin with its sign turned, or distance, in the rows's order. A class that the fitted rows
        lacked is infinitely hard; a row without a truth has NaN.
    """
    hard = _distance(rows) if "true" not in rows.columns else -_margin(rows)
    return pd.Series(hard, index=rows.index)


def _margin(rows: pd.DataFrame) -> NDArray[np.float64]:
    labels = np.array(predicted_labels(rows), dtype=object)
    scores = rows[[f"score_{label}" for label in labels]].to_numpy(dtype=np.float64)
    is_true = rows["true"].to_numpy(dtype=object)[:, None] == labels
    of_true = np.where(is_true, scores, 0.0).sum(axis=1)
    best_other = np.nanmax(np.where(is_true, -np.inf, scores), axis=1)
    margin = np.where(np.isnan(of_true), -np.inf, of_true - best_other)
    return np.where(is_true.any(axis=1), margin, np.nan)


def _distance(rows: pd.DataFrame) -> NDArray[np.float64]:
    targets = predicted_targets(rows)
    truth = rows[[f"{target}_true" for target in targets]].to_numpy(dtype=np.float64)
    prediction = rows[[f"{target}_pred" for target in targets]].to_numpy(dtype=np.float64)
    known = ~np.isnan(truth)
    total = np.where(known, np.abs(prediction - truth), 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
