"""Combine the predictions of several runs: mean, sum of class scores, majority vote.

Conventions
-----------
- Stacks of predictions are float64, shape (n_members, n, n_targets) or (n_members, n, n_labels).
- Rows are the same row where corpus, utterance, partition and fold agree.
- A class that a member's head has not seen has NaN scores; in the combination it has none either,
  and cannot win. (Members share their folds, so they lack the same classes.)
- Where combined scores tie, the first class of the label list wins.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from evaluate import runs as files
from features.errors import RunError
from features.recipe import FusionSpec, Recipe
from features.utterances import some

Floats = NDArray[np.float64]

KEY = ["corpus", "utterance", "partition", "fold"]
OUTPUTS = (files.PREDICTIONS, files.INNER)


def mean(values: Floats) -> Floats:
    """Arithmetic mean over the members.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)

    Examples
    --------
    >>> mean(np.array([[[0.0]], [[1.0]]])).tolist()
    [[0.5]]
    """
    return np.asarray(values.mean(axis=0))


def mean_probability(scores: Floats) -> Floats:
    """Mean over the members of the softmax of their class scores.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> mean_probability(np.log([[[1.0, 3.0]], [[3.0, 1.0]]])).tolist()
    [[0.5, 0.5]]
    """
    absent = np.isnan(scores)
    probability = softmax(np.where(absent, -np.inf, scores), axis=2)
    return mean(np.where(absent, np.nan, probability))


def logit_sum(scores: Floats) -> Floats:
    """Sum over the members of their class scores.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> logit_sum(np.array([[[1.0, -1.0]], [[0.5, 3.0]]])).tolist()
    [[1.5, 2.0]]
    """
    return np.asarray(scores.sum(axis=0))


def vote(scores: Floats) -> Floats:
    """Majority vote: each member gives one vote to its highest class.

    Classes with equally many votes are ranked by their summed scores: the result is the number of
    votes plus a share below one half that grows with the summed score, so that its highest value
    is the winner and its nearest integer the count.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    Two members, two opinions; the more decided one wins.

    >>> np.round(vote(np.array([[[1.0, -1.0]], [[-3.0, 3.0]]])), 3).tolist()
    [[1.0, 1.25]]
    """
    n_labels = scores.shape[2]
    votes = (np.nanargmax(scores, axis=2)[:, :, None] == np.arange(n_labels)).sum(axis=0)
    total = logit_sum(scores)
    # The rank, not the size, of the sum: no scale of the scores can outweigh a vote.
    rank = (total[:, None, :] < total[:, :, None]).sum(axis=2) / (2 * n_labels)
    return np.where(np.isnan(total), np.nan, votes + rank)


METHODS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"mean": mean_probability, "logit-sum": logit_sum, "vote": vote}
)
"""Of class scores; the one method of regression values is `mean`."""


def fuse(recipe: Recipe, name: str, *, stores: Path, runs: Path, force: bool = False) -> Path:
    """Combine the runs that `[fusion.NAME]` lists, unless a finished run says the same.

    Prints one line.

    Returns
    -------
    Path
        The combination's folder.

    Raises
    ------
    RunError
        A member's run is missing or stale, lacks an utterance, or disagrees on a truth.
    """
    spec = recipe.fusion[name]
    folder = files.fusion_folder(runs, recipe.name, name)
    inputs = files.fusion_inputs(recipe, name, runs, stores)
    if not force and files.is_fresh(folder, inputs, OUTPUTS):
        print(f"fusion {name}: nothing to do")
        return folder
    start = time.monotonic()
    notes, combined = [], {}
    for output in OUTPUTS:
        frames = {
            member: files.read_predictions(files.run_folder(runs, recipe.name, member) / output)
            for member in spec.members
        }
        frame, n_dropped = combine(frames, spec, f"fusion {name}: {output}")
        if n_dropped:
            notes.append(f"{output}: {n_dropped} rows dropped that not every member has")
        combined[output] = frame
    (folder / "run.json").unlink(missing_ok=True)
    (folder / files.SCORES).unlink(missing_ok=True)
    for output, frame in combined.items():
        files.write_predictions(folder / output, frame)
    record = {
        "inputs": inputs,
        "stage": "fuse",
        "title": f"{name} ({spec.method} of {len(spec.members)})",
        "method": spec.method,
        "members": spec.members,
        "recipe": recipe.resolved(),
        "notes": notes,
        "versions": files.versions(),
        "seconds": {"all": time.monotonic() - start},
    }
    files.write_run(folder, record)
    print(f"fusion {name}: {spec.method} of {', '.join(spec.members)}")
    for note in notes:
        print(f"fusion {name}: {note}")
    return folder


def combine(
    frames: Mapping[str, pd.DataFrame], spec: FusionSpec, where: str = "fusion"
) -> tuple[pd.DataFrame, int]:
    """Align the members' predictions and combine them.

    Parameters
    ----------
    frames : mapping
        Member -> predictions, as `evaluate.runs.read_predictions` gives them.
    spec : FusionSpec
        `method`, and `missing`: `"error"`, or `"drop"` to combine the rows that all members have.
    where : str
        Named in errors.

    Returns
    -------
    frame : DataFrame
        Predictions, in the order of the first member's.
    n_dropped : int
        Rows that some member has and another lacks.

    Raises
    ------
    RunError
        Naming the member, the other one, and the first utterance.
    """
    indexed = {member: frame.set_index(KEY) for member, frame in frames.items()}
    (first, reference), *others = indexed.items()
    for member, frame in others:
        if list(frame.columns) != list(reference.columns):
            raise RunError(
                f"{where}: {first} and {member} predict different things: "
                f"{', '.join(reference.columns)} and {', '.join(frame.columns)}"
            )
    everywhere = functools.reduce(
        lambda one, two: one[one.isin(two)], (frame.index for frame in indexed.values())
    )
    n_dropped = len(
        functools.reduce(
            lambda one, two: one.union(two, sort=False), (f.index for f in indexed.values())
        )
    ) - len(everywhere)
    if n_dropped and spec.missing == "error":
        raise RunError(f"{where}: {_lacking(indexed)}; train it anew, or set missing = 'drop'")
    if not len(everywhere):
        raise RunError(f"{where}: no utterance that all of {', '.join(frames)} predict")
    aligned = {member: frame.loc[everywhere] for member, frame in indexed.items()}
    reference = aligned[first]
    labels = files.predicted_labels(reference)
    truths = ["true"] if labels else [f"{one}_true" for one in files.predicted_targets(reference)]
    for member, frame in list(aligned.items())[1:]:
        ours, theirs = reference[truths].to_numpy(object), frame[truths].to_numpy(object)
        other = (ours != theirs) & ~(pd.isna(ours) & pd.isna(theirs))
        if other.any():
            row, column = np.argwhere(other)[0]
            raise RunError(
                f"{where}: {first} and {member} disagree on the truth of {int(other.any(1).sum())} "
                f"rows: {_name(everywhere[row])}: {truths[column]} is {ours[row, column]!r} and "
                f"{theirs[row, column]!r}; train both anew"
            )
    columns = [c for c in reference.columns if c.startswith("score_") or c.endswith("_pred")]
    stack = np.stack([frame[columns].to_numpy(np.float64) for frame in aligned.values()])
    values = METHODS[spec.method](stack) if labels else mean(stack)
    result = reference.copy()
    result[columns] = values
    if labels:
        result["pred"] = np.asarray(labels, dtype=object)[np.nanargmax(values, axis=1)]
    result = result.reset_index()
    return result[list(next(iter(frames.values())).columns)], n_dropped


def _name(key: tuple[str, ...]) -> str:
    corpus, utterance, partition, fold = key
    return f"{corpus}/{utterance} ({partition}{f', fold {fold}' if fold else ''})"


def _lacking(indexed: Mapping[str, Any]) -> str:
    """Name the first member that lacks rows which another has, and some of the rows."""
    for member, frame in indexed.items():
        for other, theirs in indexed.items():
            rows = theirs.index[~theirs.index.isin(frame.index)]
            if len(rows):
                return f"{member} lacks {len(rows)} rows of {other}: " + some(
                    [_name(key) for key in rows], 3
                )
    return ""
