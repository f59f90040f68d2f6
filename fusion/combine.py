"""Combine the predictions of several runs.

The methods that learn nothing are here, those that do in `fusion.stacking`.

Conventions
-----------
- Stacks of predictions are float64, shape (n_members, n, n_targets) or (n_members, n, n_labels).
- Rows are the same row where corpus, utterance, partition and fold agree.
- A class that a member's head has not seen has NaN scores; in the combination it has none either,
  and cannot win. (Members share their folds, so they lack the same classes.)
- `scores` of `run.json` says what the combined class scores are
  (`evaluate.metrics.calibration.KINDS`).
- Where combined scores tie, the first class of the label list wins.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from evaluate.metrics.calibration import probabilities
from evaluate.runs import record as files
from evaluate.runs.arrays import speakers
from features.common.errors import RunError
from features.common.words import counted
from features.recipe.load import FusionSpec, Recipe
from features.utterances import some
from fusion.stacking import Rows, crossfit, learn, weighted_mean

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


def median(values: Floats) -> Floats:
    """Median over the members.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)
    """
    return np.asarray(np.median(values, axis=0))


def trimmed(values: Floats, n_out: int) -> Floats:
    """Mean over the members but the `n_out` lowest and the `n_out` highest.

    Parameters
    ----------
    values : float64, shape (n_members, n, n_targets)
    n_out : int
        At each end, of each value by itself.

    Examples
    --------
    >>> trimmed(np.array([[[0.0]], [[9.0]], [[1.0]], [[2.0]]]), 1).tolist()
    [[1.5]]
    """
    return mean(np.sort(values, axis=0)[n_out : len(values) - n_out])


def of_probabilities(combine: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    """Combine the members' probabilities, and bring the rows to sum 1 again.

    Parameters
    ----------
    combine : callable
        float64, shape (n_members, n, n_labels) -> (n, n_labels).
    """

    def combined(scores: Floats) -> Floats:
        values = combine(probabilities(scores))
        total = values.sum(axis=1, keepdims=True)
        # Where each class has a member against it altogether, none is likelier than another.
        values = np.where(total > 0, values / np.where(total > 0, total, 1), 1 / values.shape[1])
        return np.where(np.isnan(scores).any(axis=0), np.nan, values)

    return combined


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
    return mean(np.where(np.isnan(scores), np.nan, probabilities(scores)))


def product(scores: Floats) -> Floats:
    """Product over the members of their probabilities, rows brought to sum 1.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> product(np.log([[[1.0, 3.0]], [[1.0, 1.0]]])).round(6).tolist()
    [[0.25, 0.75]]
    """
    # The sum of logarithms of probabilities is that of the scores but for a constant a row.
    total = logit_sum(scores)
    return np.where(np.isnan(total), np.nan, probabilities(total))


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


def borda(scores: Floats) -> Floats:
    """Mean over the members of the class's rank within the row, less one, over that of the highest.

    Parameters
    ----------
    scores : float64, shape (n_members, n, n_labels)

    Examples
    --------
    >>> borda(np.array([[[3.0, 1.0, 2.0]], [[3.0, 2.0, 1.0]]])).tolist()
    [[1.0, 0.25, 0.25]]
    """
    ranks = rankdata(scores, axis=2, nan_policy="omit") - 1
    highest = np.maximum((~np.isnan(scores)).sum(axis=2, keepdims=True) - 1, 1)
    return mean(ranks / highest)


METHODS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "mean": mean_probability,
        "median": of_probabilities(median),
        "rank-mean": borda,
        "product": product,
        "max": of_probabilities(lambda values: np.asarray(values.max(axis=0))),
        "logit-sum": logit_sum,
        "vote": vote,
    }
)
"""Of class scores; "trimmed" and "weighted" have settings of their own."""
VALUE_METHODS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"mean": mean, "median": median}
)
"""Of regression values."""
SCORES: Mapping[str, str] = MappingProxyType(
    {
        "nnls": "share",
        "logit-sum": "score",
        "logistic": "score",
        "vote": "votes",
        "rank-mean": "mean ranks",
        "ridge": "least-squares values",
    }
)
"""What the class scores of a method are, of `evaluate.metrics.calibration.KINDS`; else
probabilities."""


def fixed_method(spec: FusionSpec, classes: bool) -> Callable[[Floats], Floats] | None:
    """The method of a combination, where it learns nothing; else None."""
    if spec.method == "trimmed":
        trim = functools.partial(trimmed, n_out=spec.trim or 1)
        return of_probabilities(trim) if classes else trim
    if spec.weights is not None:
        weigh = functools.partial(weighted_mean, weights=np.array(spec.weights)[:, None])
        return of_probabilities(weigh) if classes else weigh
    return (METHODS if classes else VALUE_METHODS).get(spec.method)


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
    notes, aligned = [], {}
    for output in OUTPUTS:
        frames = {
            member: files.read_predictions(files.run_folder(runs, recipe.name, member) / output)
            for member in spec.members
        }
        aligned[output] = align(frames, spec.missing, f"fusion {name}: {output}")
        if n_dropped := aligned[output].n_dropped:
            notes.append(f"{output}: {counted(n_dropped, 'row')} dropped that not every member has")
    combined, learned = _by_rule(aligned, spec, f"fusion {name}")
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
        **({"learned": learned} if learned else {}),
        "scores": SCORES.get(spec.method, "probability"),
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


@dataclass(frozen=True)
class Aligned:
    """The members' predictions of the same rows.

    Attributes
    ----------
    frame : DataFrame
        The first member's predictions of these rows, in its order.
    stack : float64, shape (n_members, n, n_targets) or (n_members, n, n_labels)
    labels : tuple of str
        The label list; empty for regression.
    n_dropped : int
        Rows that some member has and another lacks.
    """

    frame: pd.DataFrame
    stack: Floats
    labels: tuple[str, ...]
    n_dropped: int

    @property
    def columns(self) -> list[str]:
        """What is combined."""
        return value_columns(self.frame)

    @property
    def rows(self) -> Rows:
        """As rows to learn from."""
        groups = speakers(self.frame)
        if self.labels:
            codes = {label: code for code, label in enumerate(self.labels)}
            truth = np.array([codes.get(one, -1) for one in self.frame["true"]], dtype=np.int64)
            return Rows(self.stack, truth, groups)
        targets = files.predicted_targets(self.frame)
        wanted = self.frame[[f"{one}_true" for one in targets]]
        return Rows(self.stack, wanted.to_numpy(np.float64), groups)

    def predicted(self, values: Floats) -> pd.DataFrame:
        """The frame with combined values in the place of the first member's."""
        frame = self.frame.copy()
        frame[self.columns] = values
        if self.labels:
            winners = np.nanargmax(values, axis=1)
            frame["pred"] = np.asarray(self.labels, dtype=object)[winners]
        return frame


def combine(
    frames: Mapping[str, pd.DataFrame], spec: FusionSpec, where: str = "fusion"
) -> tuple[pd.DataFrame, int]:
    """Align the members' predictions and combine them by a method that learns nothing.

    Parameters
    ----------
    frames, where
        As of `align`.
    spec : FusionSpec

    Returns
    -------
    frame : DataFrame
        Predictions, in the order of the first member's.
    n_dropped : int
        Rows that some member has and another lacks.

    Raises
    ------
    RunError
        As `align`.
    ValueError
        The method learns.
    """
    one = align(frames, spec.missing, where)
    method = fixed_method(spec, bool(one.labels))
    if method is None:
        raise ValueError(f"{spec.method} learns; got predictions to combine alone")
    return one.predicted(method(one.stack)), one.n_dropped


def _by_rule(
    aligned: Mapping[str, Aligned], spec: FusionSpec, where: str
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Combine the predictions fold by fold, by what was learned on the inner ones of the fold."""
    found, inner = aligned[files.PREDICTIONS], aligned[files.INNER]
    fixed = fixed_method(spec, bool(found.labels))
    if fixed and not spec.calibrate:
        return {name: one.predicted(fixed(one.stack)) for name, one in aligned.items()}, {}
    values = {name: np.empty(one.stack.shape[1:]) for name, one in aligned.items()}
    learned = {}
    key = pd.MultiIndex.from_frame(found.frame[["corpus", "utterance"]])
    inner_key = pd.MultiIndex.from_frame(inner.frame[["corpus", "utterance"]])
    for fold in found.frame["fold"].unique():
        at = np.flatnonzero(found.frame["fold"] == fold)
        of = np.flatnonzero(inner.frame["fold"] == fold)
        rows = inner.rows.at(of)
        try:
            with threadpool_limits(1):  # small matrices: threads would wait for each other
                rule = learn(spec, fixed, rows)
                crossed = crossfit(spec, fixed, rows)
        except RunError as error:
            raise RunError(f"{where}{f', fold {fold}' if fold else ''}: {error}") from None
        learned[str(fold)] = rule.learned
        values[files.PREDICTIONS][at] = rule.apply(found.stack[:, at])
        values[files.INNER][of] = crossed
        # Devel is both: what is learned from a row does not predict it.
        both = inner_key[of].get_indexer(key[at])
        values[files.PREDICTIONS][at[both >= 0]] = crossed[both[both >= 0]]
    return {name: one.predicted(values[name]) for name, one in aligned.items()}, learned


def align(
    frames: Mapping[str, pd.DataFrame], missing: str = "error", where: str = "fusion"
) -> Aligned:
    """Bring the members' predictions to the same rows.

    Parameters
    ----------
    frames : mapping
        Member -> predictions, as `evaluate.runs.record.read_predictions` gives them.
    missing : "error" or "drop"
        "drop" takes the rows that all members have.
    where : str
        Named in errors.

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
    if n_dropped and missing == "error":
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
    columns = value_columns(reference)
    stack = np.stack([frame[columns].to_numpy(np.float64) for frame in aligned.values()])
    frame = reference.reset_index()[list(next(iter(frames.values())).columns)]
    return Aligned(frame, stack, labels, n_dropped)


def value_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of predictions that are combined."""
    names = map(str, frame.columns)
    return [name for name in names if name.startswith("score_") or name.endswith("_pred")]


def _name(key: tuple[str, ...]) -> str:
    corpus, utterance, partition, fold = key
    return f"{corpus}/{utterance} ({partition}{f', fold {fold}' if fold else ''})"


def _lacking(indexed: Mapping[str, Any]) -> str:
    """Name the first member that lacks rows which another has, and some of the rows."""
    for member, frame in indexed.items():
        for other, theirs in indexed.items():
            rows = theirs.index[~theirs.index.isin(frame.index)]
            if len(rows):
                return f"{member} lacks {counted(len(rows), 'row')} of {other}: " + some(
                    [_name(key) for key in rows], 3
                )
    return ""
