"""Outer and inner folds: which utterances a head is fitted on and which it is judged by.

Conventions
-----------
- Folds hold int64 positions into the rows frame, ascending.
- Splits are made inside each corpus and united: fold k of the whole is fold k of every corpus; when
  a group is left out, all other rows of all corpora train.
- Speakers and sessions are named `corpus/speaker`; two corpora never share one.
- The result depends on the seed and on the (corpus, utterance) keys, not on the order of the rows.
- A split's promise (no speaker on both sides) is kept here and checked by `features.lint`.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from features.emobox import read_emobox
from features.errors import RunError, nearest
from features.recipe import SplitSpec
from features.words import counted

Positions = NDArray[np.int64]
PARTITIONS = ("train", "devel", "test")
GROUPED = {
    "speaker-k-fold": "speaker",
    "session-k-fold": "session",
    "sentence-disjoint": "sentence",
}
"""What is never divided by a split in `outer_folds` parts."""

CONDITIONS = {
    "test": (),
    "speaker-seen": ("speaker",),
    "sentence-seen": ("sentence",),
    "both-seen": ("speaker", "sentence"),
}
"""Of the grid of speakers and sentences: the partition its rows go by, and what may be shared."""


def _none() -> Positions:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Fold:
    """One division of rows.

    Attributes
    ----------
    name : str
    train, test : int64
        Positions of rows.
    devel : int64
        Rows that a head fitted on `train` predicts, before `test` is predicted by a head that is
        fitted on both; mostly none.
    partition : str
        What the rows of `test` go by in the predictions.
    promises : tuple of str
        Kinds of overlap (`features.recipe.OVERLAP_KINDS`) that the split is there to exclude.
    allows : tuple of str
        Kinds that it is there to have.
    """

    name: str
    train: Positions
    test: Positions
    devel: Positions = field(default_factory=_none)
    partition: str = "test"
    promises: tuple[str, ...] = ()
    allows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All folds of a run.

    Attributes
    ----------
    folds : list of Fold
        Outer folds; `train` are the rows with a truth alone.
    inner : list of list of Fold
        The inner folds of each.
    final : list of Fold
        Inner folds of all rows with a truth, for the head that is saved; empty where the choice
        made on `devel` serves it, too.
    notes : list of str
        What is worth knowing about how they were made.
    """

    folds: list[Fold]
    inner: list[list[Fold]]
    final: list[Fold]
    notes: list[str]

    @property
    def single(self) -> bool:
        """Whether there is one fold with a development part of its own."""
        return len(self.folds) == 1 and bool(len(self.folds[0].devel))


def make_plan(
    rows: pd.DataFrame, y: NDArray[Any], known: NDArray[np.bool_], split: SplitSpec
) -> Plan:
    """Divide rows for scoring, and the training rows of each division for choosing.

    Parameters
    ----------
    rows : DataFrame
        Utterance table, sorted by key.
    y : str, shape (n,), or float64, shape (n, n_targets)
    known : bool, shape (n,)
        Rows with a truth.
    split : SplitSpec

    Raises
    ------
    RunError
        As of `outer_folds` and `inner_folds`; or no row is held out, or a development part is
        asked for where there is none.
    """
    notes: list[str] = []
    folds = [
        replace(fold, train=fold.train[known[fold.train]])
        for fold in outer_folds(rows, split, y, notes)
    ]
    if not any(len(fold.test) + len(fold.devel) for fold in folds):
        raise RunError(f"[split] outer = '{split.outer}': no row is of the partition devel or test")
    if split.inner == "devel":
        if len(folds) > 1:
            raise RunError(
                f"[split] inner = 'devel', but outer = '{split.outer}' has {len(folds)} folds; "
                "choose inner = 'speaker-k-fold'"
            )
        (fold,) = folds
        if not len(fold.devel):
            raise RunError("[split] inner = 'devel', but no row is of the partition devel")
        return Plan(folds, [[Fold("devel", fold.train, fold.devel)]], [], notes)
    inner = [inner_folds(rows, fold.train, y, split) for fold in folds]
    return Plan(folds, inner, inner_folds(rows, np.flatnonzero(known), y, split), notes)


def outer_folds(
    rows: pd.DataFrame, split: SplitSpec, y: NDArray[Any], notes: list[str] | None = None
) -> list[Fold]:
    """Divide all rows for scoring.

    Parameters
    ----------
    rows : DataFrame
        Utterance table, one row a truth of `y`.
    split : SplitSpec
        `[split]` of the recipe.
    y : str, shape (n,), or float64, shape (n, n_targets)
        Truth; `""` or NaN where masked. Masked rows are held out like any other. Of a stratified
        hold-out they are all in the test part, since nothing can be fitted on them.
    notes : list of str, optional
        What is worth knowing is appended.

    Returns
    -------
    list of Fold
        - `leave-one-...-out`, `speaker-k-fold`, `session-k-fold`, `sentence-disjoint`: every row is
          in exactly one test part. With as many folds as sessions, each fold leaves out one session
          of every corpus.
        - `predefined`, `stratified-holdout`, `four-to-one-in-five`: one fold.
        - `emobox`: the lists as they ship; of several folds with a list `valid`, that list trains.
        - `cross-corpus`: `from <corpora>` is fitted on them and tests the others; with `within`,
          the folds `within <corpus>/...` have the partition `within`.
        - `speaker-sentence-grid`: speakers and sentences are divided in `outer_folds` groups each.
          Every cell of the two is tested under four conditions, of which each is a partition
          (`CONDITIONS`): fitted without its speakers and its sentences (`test`), without the one
          of them, or without the rows of the cell alone. All four are fitted on as many rows of
          each class, drawn by the seed, so that they differ in what was seen and not in how much.

    Raises
    ------
    RunError
        Unknown or too few speakers, sessions, sentences or utterances of a class.
    CorpusError
        EmoBox's lists are not there or do not fit.
    """
    notes = [] if notes is None else notes
    everything = np.arange(len(rows))
    where = f"[split] outer = '{split.outer}'"
    if split.outer == "predefined":
        train, devel, test = _partitions(rows)
        return [Fold("", train, test, devel)]
    if split.outer in ("leave-one-speaker-out", "leave-one-session-out"):
        column = "speaker" if split.outer == "leave-one-speaker-out" else "session"
        groups = _groups(rows, everything, column, where)
        names = sorted(set(groups))
        if len(names) < 2:
            raise RunError(f"{where}: only one {column}: {names[0]}")
        return [
            Fold(
                name,
                np.flatnonzero(groups != name),
                np.flatnonzero(groups == name),
                promises=(column,),
            )
            for name in names
        ]
    if split.outer in GROUPED:
        column = GROUPED[split.outer]
        where += f" of {split.outer_folds}"
        return _group_folds(rows, everything, y, split.outer_folds, split, column, where)
    if split.outer in ("stratified-holdout", "four-to-one-in-five"):
        return _holdout(rows, y, split)
    if split.outer == "emobox":
        return _emobox(rows, split, notes)
    if split.outer == "cross-corpus":
        return _cross_corpus(rows, split, y)
    return _grid(rows, split, y)


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
        where = f"[split] inner = 'speaker-k-fold' of {split.inner_folds}"
        otherwise = "choose another outer"
        if y.ndim == 1:
            otherwise = "choose inner = 'stratified-k-fold' or another outer"
        return _group_folds(
            rows, positions, y, split.inner_folds, split, "speaker", where, otherwise
        )
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


def _partitions(rows: pd.DataFrame) -> list[Positions]:
    """Positions of train, devel and test; any other partition is an error."""
    other = rows[~rows["partition"].isin(PARTITIONS)]
    if len(other):
        found = sorted({one or "(none)" for one in other["partition"]})
        hint = next(filter(None, (nearest(one, PARTITIONS) for one in found)), "")
        raise RunError(
            f"[split] outer = 'predefined': {len(other)} of {len(rows)} rows are of the partition "
            f"{', '.join(found)} (first {other['corpus'].iloc[0]}/{other['utterance'].iloc[0]}), "
            f"expected {', '.join(PARTITIONS)}{hint}; choose another [split] outer"
        )
    return [np.flatnonzero(rows["partition"] == name) for name in PARTITIONS]


def _group_folds(
    rows: pd.DataFrame,
    positions: Positions,
    y: NDArray[Any],
    k: int,
    split: SplitSpec,
    column: str,
    where: str,
    otherwise: str = "choose another outer",
) -> list[Fold]:
    """Divide whole groups (speakers, sessions or sentences) among k folds.

    Balanced by class (and gender, where asked for), or by count where the truth is no class. Those
    that are hardest to balance are given first, and the seed decides between equals alone; with
    `shuffle` it draws the order, which balances somewhat less.
    """
    groups = np.full(len(rows), "", dtype=object)
    groups[positions] = _groups(rows, positions, column, where)
    strata = y if y.ndim == 1 else None
    if split.balance_gender:
        gender = rows["gender"].to_numpy(str)
        strata = gender if strata is None else np.char.add(np.char.add(y.astype(str), "|"), gender)

    def parts(part: Positions) -> list[Positions]:
        n_groups = len(set(groups[part]))
        if n_groups < k:
            way_out = f"ask for at most {n_groups} folds" if n_groups > 1 else otherwise
            raise RunError(
                f"{where}: {rows['corpus'].iloc[part[0]]} has {counted(n_groups, column)} "
                f"among these {counted(len(part), 'utterance')}; {way_out}"
            )
        if split.shuffle:
            same = np.zeros(len(part)) if strata is None else strata[part]
            return _drawn_groups(same, groups[part], k, split.seed)
        if strata is None:
            return _even_groups(groups[part], k, split.seed)
        chooser = StratifiedGroupKFold(k, shuffle=True, random_state=split.seed)
        return [test for _, test in chooser.split(part, strata[part], groups[part])]

    folds = _united(rows, positions, k, where, parts)
    return [replace(fold, promises=(column,)) for fold in folds]


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


def _drawn_groups(
    strata: NDArray[Any], groups: NDArray[Any], k: int, seed: int
) -> list[NDArray[np.int64]]:
    """Give each group, in an order that is drawn, to the fold that it leaves the most balanced.

    That is where the shares that folds have of each stratum deviate least, on average over strata;
    of equals the fold with the fewest rows. With k groups or more no fold is empty.
    """
    names, member = np.unique(groups.astype(str), return_inverse=True)
    _, stratum = np.unique(strata, return_inverse=True)
    shares = np.zeros((len(names), stratum.max() + 1))
    np.add.at(shares, (member, stratum), 1 / np.bincount(stratum)[stratum])
    sizes = np.bincount(member)
    held, rows = np.zeros((k, shares.shape[1])), np.zeros(k, dtype=np.int64)
    fold = np.empty(len(names), dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(names)):
        given = held + np.eye(k)[:, :, None] * shares[group]
        uneven = given.std(axis=1).mean(axis=1).round(12)
        best = np.lexsort((rows, uneven))[0]
        fold[group] = best
        held[best] += shares[group]
        rows[best] += sizes[group]
    return [np.flatnonzero(fold[member] == one) for one in range(k)]


def _holdout(rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec) -> list[Fold]:
    """One test part of `test_size` of each corpus, each class in its share, and a devel part."""
    _need_classes(y, f"outer = '{split.outer}'")
    where = f"[split] outer = '{split.outer}' with test_size = {split.test_size}"
    known = np.flatnonzero(y != "")
    corpus = rows["corpus"].to_numpy(str)
    counts = {name: int((corpus[known] == name).sum()) for name in set(corpus)}

    def held(positions: Positions, size: float) -> Fold:
        def divide(part: Positions) -> list[Positions]:
            # The share of the corpus, whatever was taken from it before.
            n = math.ceil(size * counts[corpus[part[0]]])
            chooser = StratifiedShuffleSplit(1, test_size=n, random_state=split.seed)
            return [test for _, test in chooser.split(part, y[part])]

        return _united(rows, positions, 1, where, divide)[0]

    fold = held(known, split.test_size)
    test = np.sort(np.concatenate([fold.test, np.flatnonzero(y == "")]))
    if split.devel_size is None:
        return [Fold("0", fold.train, test)]
    where += f", devel_size = {split.devel_size}"
    rest = held(fold.train, split.devel_size)
    return [Fold("0", rest.train, test, rest.test)]


def _emobox(rows: pd.DataFrame, split: SplitSpec, notes: list[str]) -> list[Fold]:
    """The folds that EmoBox ships, fold k of every corpus united."""
    if split.emobox is None:
        raise ValueError("outer = 'emobox' needs the folder")
    found = {}
    for corpus, of_corpus in rows.groupby("corpus", sort=True):
        name = split.emobox_names.get(str(corpus))
        one = read_emobox(Path(split.emobox).expanduser(), str(corpus), of_corpus, name)
        notes += [f"{corpus}: {finding.text}" for finding in one.findings]
        at = of_corpus.index.to_numpy(dtype=np.int64)
        found[str(corpus)] = [
            {part: at[i] for part, i in fold.positions(of_corpus["utterance"]).items()}
            for fold in one.folds
        ]
    counts = {corpus: len(folds) for corpus, folds in found.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{corpus} {count}" for corpus, count in counts.items())
        raise RunError(
            f"[split] outer = 'emobox': the corpora have unequal numbers of folds ({text}); train "
            "on one at a time with CORPUS="
        )
    folds = []
    for number, parts in enumerate(zip(*found.values(), strict=True), 1):
        train, valid, test = (
            np.sort(np.concatenate([one[part] for one in parts]))
            for part in ("train", "valid", "test")
        )
        folds.append(Fold(str(number), train, test, valid))
    if len(folds) > 1 and any(len(fold.devel) for fold in folds):
        notes.append("EmoBox's lists valid are part of what is trained on: there are several folds")
        folds = [
            Fold(one.name, np.sort(np.concatenate([one.train, one.devel])), one.test)
            for one in folds
        ]
    return folds


def _cross_corpus(rows: pd.DataFrame, split: SplitSpec, y: NDArray[Any]) -> list[Fold]:
    """Fit on corpora, test on others; and inside a corpus where that is asked for."""
    corpus = rows["corpus"].to_numpy(str)
    there = sorted(set(corpus))
    sources = [one for one in split.train or there if one in there]
    tested = [one for one in split.test or there if one in there]
    pairs: dict[tuple[str, ...], list[str]] = {}
    for test in tested:
        others = [one for one in sources if one != test]
        for train in [tuple(others)] if split.pool else [(one,) for one in others]:
            if train:
                pairs.setdefault(train, []).append(test)
    if not pairs:
        raise RunError(
            f"[split] outer = 'cross-corpus': nothing to train on {', '.join(sources)} and test on "
            f"{', '.join(tested)}; name two corpora"
        )
    folds = [
        Fold(
            f"from {'+'.join(train)}",
            np.flatnonzero(np.isin(corpus, train)),
            np.flatnonzero(np.isin(corpus, tests)),
            promises=("speaker",),
        )
        for train, tests in sorted(pairs.items())
    ]
    if split.within is None:
        return folds
    inside = split.model_copy(update={"outer": split.within})
    for one in sources:
        if one not in tested:
            continue
        at = np.flatnonzero(corpus == one)
        for fold in outer_folds(rows.iloc[at].reset_index(drop=True), inside, y[at]):
            name = f"within {one}/{fold.name.removeprefix(f'{one}/')}"
            folds.append(
                Fold(name, at[fold.train], at[fold.test], _none(), "within", fold.promises)
            )
    return folds


def _grid(rows: pd.DataFrame, split: SplitSpec, y: NDArray[Any]) -> list[Fold]:
    """Cells of speakers and sentences, each under the four conditions."""
    everything, k = np.arange(len(rows)), split.outer_folds
    where = f"[split] outer = '{split.outer}' of {k} x {k}"
    group = {}
    for column in ("speaker", "sentence"):
        group[column] = np.empty(len(rows), dtype=np.int64)
        for i, fold in enumerate(_group_folds(rows, everything, y, k, split, column, where)):
            group[column][fold.test] = i
    known = y != "" if y.ndim == 1 else ~np.isnan(y).any(axis=1)
    classes = y if y.ndim == 1 else np.zeros(len(rows), dtype=np.int64)
    keys = list(zip(rows["corpus"], rows["utterance"], strict=True))
    by_key = np.array(sorted(everything, key=keys.__getitem__), dtype=np.int64)
    folds: dict[str, list[Fold]] = {condition: [] for condition in CONDITIONS}
    for i, j in itertools.product(range(k), range(k)):
        same = {"speaker": group["speaker"] == i, "sentence": group["sentence"] == j}
        test = same["speaker"] & same["sentence"]
        if not test.any():
            continue
        strict = known & ~same["speaker"] & ~same["sentence"]
        for number, (condition, seen) in enumerate(CONDITIONS.items()):
            pool = known & ~test
            for column in same.keys() - set(seen):
                pool &= ~same[column]
            rng = np.random.default_rng([split.seed, number, i, j])
            order = rng.permutation(by_key[pool[by_key]])
            drawn = [
                order[classes[order] == one][: int((classes[strict] == one).sum())]
                for one in sorted(set(classes[strict]))
            ]
            train = np.sort(np.concatenate(drawn)) if drawn else _none()
            unseen = tuple(one for one in ("speaker", "sentence") if one not in seen)
            folds[condition].append(
                Fold(f"{condition} {i}.{j}", train, np.flatnonzero(test), _none(), condition,
                     unseen, seen)
            )  # fmt: skip
    return [fold for one in folds.values() for fold in one]


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
            f"{where}: the {column} of {len(unknown)} of {len(part)} utterances is unknown ({some}"
            f"{', ...' if len(unknown) > 3 else ''}); choose a split that needs none"
        )
    return (part["corpus"] + "/" + part[column]).to_numpy(dtype=object)


def _need_classes(y: np.ndarray, where: str) -> None:
    if y.ndim == 2:
        raise RunError(f"[split] {where} needs classes (target), not targets; use speakers")
