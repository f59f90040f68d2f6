"""Two makings of one run: whether what they depend on, and all their numbers, are the same.

Conventions
-----------
- The *first* is the run on disk, *again* the one that was made from its `run.json` elsewhere.
- What a run depends on is compared before anything is computed: other stores, tables or members are
  an error, since other numbers would say nothing.
- Numbers are equal where they are the same float64; NaN equals NaN.
- Versions, and the numerics of this program, are named where they differ; they make no difference
  by themselves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluate.runs.arrays import has_truth, plain_scores
from evaluate.runs.files import read_run
from evaluate.runs.folders import INNER, PREDICTIONS, SUBSETS
from evaluate.runs.predictions import predicted_labels, predicted_targets, read_predictions
from features.common.errors import RunError
from features.common.words import counted
from features.recipe.known.metrics import METRICS
from features.recipe.model import Recipe

ROWS = ("corpus", "utterance", "partition", "fold")
NUMERICS = "numerics"
_ABSENT = "nothing"
SCORE_TOLERANCE = 0.02
"""Difference of a score between two trainings of the same networks on other devices: a step turns
rounding into other weights, and some rows near to a boundary get another class."""


def recorded(folder: Path, *stages: str) -> tuple[dict[str, Any], Recipe]:
    """The `run.json` of a run and the recipe in it, as it was resolved.

    Parameters
    ----------
    folder : Path
        Of the run.
    stages : "train", "fuse" or "subsets"
        What the run has to be of.

    Returns
    -------
    record : dict
    recipe : Recipe

    Raises
    ------
    RunError
        There is no finished run, or it is of another stage.
    """
    record = read_run(folder)
    if record is None:
        raise RunError(f"{folder}: no run.json: no finished run; RUN= names a folder below runs/")
    if record.get("stage") not in stages:
        room = {"train": "models", "fuse": "fusion", "subsets": "fusion"}
        hint = room.get(str(record.get("stage")))
        hint = f"; `python -m {hint} reproduce {folder}` does it" if hint else ""
        wanted = " or ".join(map(repr, stages))
        raise RunError(f"{folder}: a run of stage {record.get('stage')!r}, not {wanted}{hint}")
    # As JSON: lists of a file stand for tuples.
    return record, Recipe.model_validate_json(json.dumps(record["recipe"]))


def refuse_other_inputs(folder: Path, first: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to make a run again from other stores, tables or predictions of members.

    Parameters
    ----------
    folder : Path
        The run's.
    first, now : mapping
        `inputs` of its `run.json`, and what they would be now.

    Raises
    ------
    RunError
        Naming all that differ, with both hashes.
    """
    faults = []
    for what in ("corpora", "members", "emobox"):
        flat, other = _flat(first.get(what)), _flat(now.get(what))
        faults += [
            f"{what} {name}: {flat.get(name, _ABSENT)} then, {other.get(name, _ABSENT)} now"
            for name in dict.fromkeys([*flat, *other])
            if flat.get(name, _ABSENT) != other.get(name, _ABSENT)
        ]
    if faults:
        raise RunError(
            "\n  ".join(
                [
                    f"{folder}: cannot be made again, what it was made of is not there any more:",
                    *faults,
                    "bring these files back (STORES= names another folder), or make the run anew",
                ]
            )
        )


def compare(folder: Path, again: Path) -> tuple[list[str], bool]:
    """Compare predictions, inner predictions, chosen cells and what was learned.

    Parameters
    ----------
    folder : Path
        Of the run.
    again : Path
        Of the one that was made anew.

    Returns
    -------
    lines : list of str
        One a file, with the first number that differs, and one each that names versions.
    equal : bool
    """
    lines, equal = [], True
    for name in (PREDICTIONS, INNER):
        ours, theirs = read_predictions(folder / name), read_predictions(again / name)
        difference = first_difference(ours, theirs)
        equal &= not difference
        lines.append(f"{name}: {difference or counted(len(ours), 'row') + ', equal'}")
    first, then = read_run(folder) or {}, read_run(again) or {}
    for what, said in (
        ("chosen", "chosen cells"),
        ("chosen_layers", "chosen layers"),
        ("layer_factors", "weights of layers"),
        ("layer_weights", "weights of layers"),
        ("learned", "what was learned"),
    ):
        if what not in first and what not in then:
            continue
        difference = _first_value(first.get(what), then.get(what))
        equal &= not difference
        lines.append(f"{said}: {difference or 'equal'}")
    return lines + _other_versions(first, then), equal


def compare_scores(folder: Path, again: Path, why: str) -> tuple[list[str], bool]:
    """Compare the scores alone of two makings whose numbers need not be the same.

    Parameters
    ----------
    folder : Path
        Of the run.
    again : Path
        Of the one that was made anew.
    why : str
        Why they need not be.

    Returns
    -------
    lines : list of str
        `why`, one line a partition with every metric whose range is bounded, and versions.
    equal : bool
        Whether all scores are within `SCORE_TOLERANCE`.
    """
    found = []
    for run in (folder, again):
        predicted = read_predictions(run / PREDICTIONS)
        names = predicted_labels(predicted) or predicted_targets(predicted)
        known = predicted[has_truth(predicted, names)]
        found.append(
            {str(name): plain_scores(part, names) for name, part in known.groupby("partition")}
        )
    lines, equal = [f"{why}: scores alone are compared, within {SCORE_TOLERANCE}"], True
    for partition in dict.fromkeys([*found[0], *found[1]]):
        then, now = (scores.get(partition, {}) for scores in found)
        told = []
        for metric in METRICS.values():
            if not math.isfinite(metric.high) or metric.field not in {*then, *now}:
                continue
            a, b = (scores.get(metric.field, math.nan) for scores in (then, now))
            near = abs(a - b) <= SCORE_TOLERANCE or (math.isnan(a) and math.isnan(b))
            equal &= near
            told.append(f"{metric.name} {a:.4f} then, {b:.4f} now{'' if near else ' (differs)'}")
        lines.append(f"{partition}: {'; '.join(told)}")
    return lines + _other_versions(*(read_run(run) or {} for run in (folder, again))), equal


def compare_subsets(
    folder: Path, again: Path, read: Callable[[Path], Any]
) -> tuple[list[str], bool]:
    """Compare the choices of two searches of subsets and all that was computed of them.

    Parameters
    ----------
    folder, again : Path
    read : callable
        The content of a file of any version, as JSON values.

    Returns
    -------
    lines, equal
        As `compare` gives them.

    Raises
    ------
    RunError
        A file is damaged.
    """
    values = [read(run / SUBSETS) for run in (folder, again)]
    difference = _first_value(*values)
    line = f"{SUBSETS}: {difference or counted(len(_flat(values[0])), 'value') + ', equal'}"
    records = [read_run(run) or {} for run in (folder, again)]
    return [line, *_other_versions(*records)], not difference


def _first_value(first: Any, again: Any) -> str:
    """The first leaf in which two JSON values differ, in words; empty where none does."""
    then, now = _flat(first), _flat(again)
    other = [name for name in dict.fromkeys([*then, *now]) if then.get(name) != now.get(name)]
    if not other:
        return ""
    name, count = other[0], counted(len(other), "value differs", "values differ")
    return f"{name}: {then.get(name, _ABSENT)} then, {now.get(name, _ABSENT)} now ({count})"


def _other_versions(first: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """A line each for the numerics and versions in which two `run.json` differ."""
    lines = []
    numerics = [record.get("inputs", {}).get(NUMERICS) for record in (first, again)]
    if numerics[0] != numerics[1]:
        lines.append(f"numerics of this program: {numerics[0]} then, {numerics[1]} now")
    old, new = first.get("versions", {}), again.get("versions", {})
    other = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    lines += [
        f"{name}: {old.get(name, _ABSENT)} then, {new.get(name, _ABSENT)} now" for name in other
    ]
    return lines if other else [*lines, "versions: equal"]


def first_difference(first: pd.DataFrame, again: pd.DataFrame) -> str:
    """The first cell in which two files of predictions differ, in words; empty where none does.

    Parameters
    ----------
    first, again : DataFrame
        Predictions, then and now.

    Returns
    -------
    str

    Examples
    --------
    >>> rows = {name: ["a", "b"] for name in ROWS}
    >>> then, now = (pd.DataFrame({**rows, "x_pred": [0.5, last]}) for last in (1.0, 1.5))
    >>> first_difference(then, now)
    'b/b, partition b, fold b: x_pred 1.0 then, 1.5 now (1 of 2 rows differ)'
    """
    if list(first.columns) != list(again.columns):
        return f"columns {', '.join(first.columns)} then, {', '.join(again.columns)} now"
    keys, others = (pd.MultiIndex.from_frame(rows[list(ROWS)]) for rows in (first, again))
    if not keys.equals(others):
        gone, new = keys[~keys.isin(others)], others[~others.isin(keys)]
        if len(gone) or len(new):
            named = [
                f"{counted(len(rows), 'row')} {what}, first {_row(rows[0])}"
                for rows, what in ((gone, "only then"), (new, "only now"))
                if len(rows)
            ]
            return "; ".join(named)
        return f"{len(first)} rows, in another order"
    differs = np.zeros(first.shape, dtype=bool)
    for column, name in enumerate(first.columns):
        ours, theirs = first[name].to_numpy(), again[name].to_numpy()
        differs[:, column] = (ours != theirs) & ~(pd.isna(ours) & pd.isna(theirs))
    if not differs.any():
        return ""
    row, column = np.argwhere(differs)[0]
    name = first.columns[column]
    values = [f"{rows.iloc[row, column]}" for rows in (first, again)]
    count = f"{int(differs.any(axis=1).sum())} of {len(first)} rows differ"
    return f"{_row(keys[row])}: {name} {values[0]} then, {values[1]} now ({count})"


def _row(key: Sequence[Hashable]) -> str:
    corpus, utterance, partition, fold = key
    return f"{corpus}/{utterance}, partition {partition}" + (f", fold {fold}" if fold else "")


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    """The leaves of JSON values by their path."""
    if isinstance(value, Mapping):
        pairs = [(str(key), inside) for key, inside in value.items()]
    elif isinstance(value, list):
        pairs = [(str(i), inside) for i, inside in enumerate(value)]
    else:
        return {} if value is None else {at: value}
    flat: dict[str, Any] = {}
    for key, inside in pairs:
        flat |= _flat(inside, f"{at} {key}".strip())
    return flat
