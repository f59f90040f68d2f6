"""Outer and inner folds: which utterances a head is fitted on and which it is judged by.

Conventions
-----------
- Folds hold int64 positions into the rows frame, ascending.
- Splits are made inside each corpus and united: fold k of the whole is fold k of every corpus; when
  a group is left out, all other rows of all corpora train.
- Speakers and sessions are named `corpus/speaker`; two corpora never share one.
- The result depends on the seed and on the (corpus, utterance) keys, not on the order of the rows.
- Predefined partitions are no business of this module: they stand in the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from features.errors import RunError
from features.recipe import SplitSpec


@dataclass(frozen=True)
class Fold:
    """One division of rows: `name`, and int64 positions of `train` and `test`."""

    name: str
    train: np.ndarray
    test: np.ndarray


def outer_folds(rows: pd.DataFrame, split: SplitSpec, y: np.ndarray) -> list[Fold]:
    """Divide all rows for scoring.

    Parameters
    ----------
    rows : DataFrame
        Utterance table, one row a truth of `y`.
    split : SplitSpec
        `[split]` of the recipe; `outer` is anything but `predefined`.
    y : str, shape (n,), or float64, shape (n, n_targets)
        Truth; `""` or NaN where masked. Masked rows are held out like any other. Of a stratified
        hold-out they are all in the test part, since nothing can be fitted on them.

    Returns
    -------
    list of Fold
        Every row is in exactly one test part (of a hold-out: in at most one).

    Raises
    ------
    RunError
        Unknown or too few speakers, sessions or utterances of a class.
    """
    everything = np.arange(len(rows))
    if split.outer in ("leave-one-speaker-out", "leave-one-session-out"):
        column = "speaker" if split.outer == "leave-one-speaker-out" else "session"
        groups = _groups(rows, everything, column, f"outer = '{split.outer}'")
        names = sorted(set(groups))
        if len(names) < 2:
            raise RunError(f"[split] outer = '{split.outer}': only one {column}: {names[0]}")
        return [
            Fold(name, np.flatnonzero(groups != name), np.flatnonzero(groups == name))
            for name in names
        ]
    if split.outer == "speaker-k-fold":
        return _speaker_folds(rows, everything, y, split.outer_folds, split.seed, "outer")
    if split.outer == "stratified-holdout":
        return _holdout(rows, y, split)
    raise ValueError(f"outer = '{split.outer}' is made from the table's partitions")


def inner_folds(
    rows: pd.DataFrame, positions: np.ndarray, y: np.ndarray, split: SplitSpec
) -> list[Fold]:
    """Divide the training rows of an outer fold for the choice of hyperparameters.

    Parameters
    ----------
    rows : DataFrame
        Utterance table.
    positions : int64, shape (m,)
        Rows to divide; all with a truth.
    y : str, shape (n,), or float64, shape (n, n_targets)
        Truth of all rows of the table.
    split : SplitSpec
        `[split]` of the recipe; `inner` is anything but `devel`.

    Returns
    -------
    list of Fold
        `inner_folds` of them, named "0", "1", ...; every position is in exactly one test part.

    Raises
    ------
    RunError
        Unknown or too few speakers, or too few utterances of every class.
    """
    positions = np.asarray(positions, dtype=np.int64)
    if split.inner == "speaker-k-fold":
        return _speaker_folds(rows, positions, y, split.inner_folds, split.seed, "inner")
    if split.inner == "stratified-k-fold":
        _need_classes(y, "inner = 'stratified-k-fold'")
        where = f"[split] inner = 'stratified-k-fold' of {split.inner_folds}"
        chooser = StratifiedKFold(split.inner_folds, shuffle=True, random_state=split.seed)
        return _united(
            rows,
            positions,
            split.inner_folds,
            where,
            lambda part: [test for _, test in chooser.split(part, y[part])],
        )
    raise ValueError(f"inner = '{split.inner}' is made from the table's partitions")


def shared_speakers(rows: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> list[str]:
    """Known speakers (`corpus/speaker`) that occur on both sides, sorted."""

    def known(positions: np.ndarray) -> set[str]:
        part = rows.iloc[positions]
        part = part[part["speaker"] != ""]
        return set(part["corpus"] + "/" + part["speaker"])

    return sorted(known(train) & known(test))


def _speaker_folds(
    rows: pd.DataFrame, positions: np.ndarray, y: np.ndarray, k: int, seed: int, which: str
) -> list[Fold]:
    """Speaker-disjoint k-fold, balanced by class, or by count where the truth is no class."""
    where = f"[split] {which} = 'speaker-k-fold' of {k}"
    speakers = np.full(len(rows), "", dtype=object)
    speakers[positions] = _groups(rows, positions, "speaker", where)

    def parts(part: np.ndarray) -> list[np.ndarray]:
        n_speakers = len(set(speakers[part]))
        if n_speakers < k:
            raise RunError(
                f"{where}: {rows['corpus'].iloc[part[0]]} has {n_speakers} speakers among these "
                f"{len(part)} utterances; ask for at most {n_speakers} folds"
            )
        if y.ndim == 2:
            return _even_groups(speakers[part], k, seed)
        chooser = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        return [test for _, test in chooser.split(part, y[part], speakers[part])]

    return _united(rows, positions, k, where, parts)


def _even_groups(groups: np.ndarray, k: int, seed: int) -> list[np.ndarray]:
    """Shuffle groups, then give each, the largest first, to the smallest fold so far."""
    names, member, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes = np.zeros(k, dtype=np.int64)
    fold = np.empty(len(names), dtype=np.int64)
    for group in order:
        fold[group] = np.argmin(sizes)
        sizes[fold[group]] += counts[group]
    return [np.flatnonzero(fold[member] == one) for one in range(k)]


def _holdout(rows: pd.DataFrame, y: np.ndarray, split: SplitSpec) -> list[Fold]:
    """One test part of `test_size` of each corpus, each class in its share."""
    _need_classes(y, "outer = 'stratified-holdout'")
    where = f"[split] outer = 'stratified-holdout' with test_size = {split.test_size}"
    chooser = StratifiedShuffleSplit(1, test_size=split.test_size, random_state=split.seed)
    known = np.flatnonzero(y != "")
    (held,) = _united(
        rows, known, 1, where, lambda part: [test for _, test in chooser.split(part, y[part])]
    )
    return [Fold("0", held.train, np.sort(np.concatenate([held.test, np.flatnonzero(y == "")])))]


def _united(
    rows: pd.DataFrame,
    positions: np.ndarray,
    k: int,
    where: str,
    divide: Callable[[np.ndarray], list[np.ndarray]],
) -> list[Fold]:
    """Divide the positions of each corpus and unite the k-th parts.

    `divide` gets the positions of one corpus, sorted by utterance, and returns k arrays of indices
    into them: the test parts.
    """
    keys = rows.iloc[positions][["corpus", "utterance"]].set_axis(positions)
    keys = keys.sort_values(["corpus", "utterance"])
    tests: list[list[np.ndarray]] = [[] for _ in range(k)]
    for corpus, of_corpus in keys.groupby("corpus", sort=True):
        part = of_corpus.index.to_numpy(dtype=np.int64)
        with warnings.catch_warnings():
            # Balanced as far as possible: a class of fewer utterances than folds is no fault.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            try:
                divided = divide(part)
            except ValueError as error:  # scikit-learn's words on too few utterances of a class
                raise RunError(f"{where}: {corpus}: {error}") from None
        for fold, (test, indices) in enumerate(zip(tests, divided, strict=True)):
            if not len(indices):
                raise RunError(f"{where}: {corpus}: fold {fold} is empty; ask for fewer folds")
            test.append(part[indices])
    folds = []
    for fold, parts in enumerate(tests):
        held = np.sort(np.concatenate(parts))
        folds.append(Fold(str(fold), np.setdiff1d(positions, held), held))
    return folds


def _groups(rows: pd.DataFrame, positions: np.ndarray, column: str, where: str) -> np.ndarray:
    """`corpus/value` of each position; unknown values are an error."""
    part = rows.iloc[positions]
    unknown = part[part[column] == ""]
    if len(unknown):
        some = ", ".join((unknown["corpus"] + "/" + unknown["utterance"]).head(3))
        raise RunError(
            f"{where if where.startswith('[') else '[split] ' + where}: the {column} of "
            f"{len(unknown)} of {len(part)} utterances is unknown ({some}"
            f"{', ...' if len(unknown) > 3 else ''}); choose a split that needs none"
        )
    return (part["corpus"] + "/" + part[column]).to_numpy(dtype=object)


def _need_classes(y: np.ndarray, where: str) -> None:
    if y.ndim == 2:
        raise RunError(f"[split] {where} needs classes (target), not targets; use speakers")
