"""Outer and inner folds: which utterances a head is fitted on and which it is judged by.

Conventions
-----------
- Folds hold codes and make their positions when asked (`features.splits.folds`): int64 positions
  into the table of rows, ascending.
- Splits are made inside each corpus and united: fold k of the whole is fold k of every corpus; when
  a group is left out, all other rows of all corpora train.
- Speakers and sessions are named `corpus/speaker`; two corpora never share one.
- The result depends on the seed and on the (corpus, utterance) keys, not on the order of the rows.
- A split's promise (no speaker on both sides) is kept here and checked by `features.splits.lint`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from features.common.errors import RunError, nearest
from features.recipe.split import SplitSpec
from features.splits.emobox import read_emobox
from features.splits.faults import coded, refuse_unknown
from features.splits.folds import Division, Fold, InnerFolds, Positions, SplitPlan
from features.splits.groups import GroupDivider, groups_of
from features.splits.rows import RowDivider
from features.utterances import key_order

__all__ = ["Fold", "SplitPlan", "Positions", "inner_folds", "make_plan", "outer_folds"]

PARTITIONS = ("train", "devel", "test")
CONDITIONS = {
    "test": (),
    "speaker-seen": ("speaker",),
    "sentence-seen": ("sentence",),
    "both-seen": ("speaker", "sentence"),
}
"""Of the grid of speakers and sentences: the partition its rows go by, and what may be shared."""


def make_plan(
    rows: pd.DataFrame, y: NDArray[Any], known: NDArray[np.bool_], split: SplitSpec
) -> SplitPlan:
    """Divide rows for scoring, and the training rows of each division for choosing.

    Parameters
    ----------
    rows : DataFrame
        Utterance table, sorted by key.
    y : str, shape (n,), or float64, shape (n, n_targets)
    known : bool, shape (n,)
        Rows with a truth.
    split : SplitSpec

    Returns
    -------
    SplitPlan

    Raises
    ------
    RunError
        As of `outer_folds` and `inner_folds`; or no row is held out, or a development part is
        asked for where there is none.
    """
    notes: list[str] = []
    folds = [fold.fitted_on(known) for fold in outer_folds(rows, split, y, notes)]
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
        return SplitPlan(folds, [[Fold("devel", fold.train, fold.devel)]], [], notes)
    divider = _inner(rows, y, split)
    final = np.flatnonzero(known)
    return SplitPlan(folds, InnerFolds(divider, folds), divider.folds(final), notes)


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
    return OUTER[split.outer](rows, y, split, [] if notes is None else notes)


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
    return _inner(rows, y, split).folds(np.sort(np.asarray(positions, dtype=np.int64)))


def _inner(rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec) -> GroupDivider | RowDivider:
    """What divides the training rows of every outer fold."""
    if split.inner == "speaker-k-fold":
        where = f"[split] inner = 'speaker-k-fold' of {split.inner_folds}"
        otherwise = "choose another outer"
        if y.ndim == 1:
            otherwise = "choose inner = 'stratified-k-fold' or another outer"
        return GroupDivider(rows, y, split, split.inner_folds, "speaker", where, otherwise)
    if split.inner == "stratified-k-fold":
        _need_classes(y, "inner = 'stratified-k-fold'")
        where = f"[split] inner = 'stratified-k-fold' of {split.inner_folds}"
        chooser = StratifiedKFold(split.inner_folds, shuffle=True, random_state=split.seed)
        truth = coded(y)
        return RowDivider(
            rows,
            split.inner_folds,
            where,
            lambda part: [test for _, test in chooser.split(part, truth[part])],
        )
    raise ValueError(f"inner = '{split.inner}' is made from the table's partitions")


def _predefined(
    rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]
) -> list[Fold]:
    """The table's own partitions."""
    train, devel, test = _partitions(rows)
    return [Fold("", train, test, devel)]


def _leave_one_out(
    column: str, rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]
) -> list[Fold]:
    """A fold a speaker or session."""
    where = f"[split] outer = '{split.outer}'"
    names, codes = groups_of(rows, column)
    refuse_unknown(rows, codes, np.arange(len(rows)), column, where)
    if len(names) < 2:
        raise RunError(f"{where}: only one {column}: {names[0]}")
    return Division(codes).folds(names, (column,))


def _of_groups(
    column: str, rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]
) -> list[Fold]:
    """`outer_folds` parts that divide no speaker, session or sentence."""
    where = f"[split] outer = '{split.outer}' of {split.outer_folds}"
    divider = GroupDivider(rows, y, split, split.outer_folds, column, where)
    return divider.folds(np.arange(len(rows)))


def _partitions(rows: pd.DataFrame) -> list[Positions]:
    """Positions of train, devel and test; any other partition is an error."""
    other = rows[~rows["partition"].isin(PARTITIONS)]
    if len(other):
        found = sorted({name or "(none)" for name in other["partition"]})
        hint = next(filter(None, (nearest(name, PARTITIONS) for name in found)), "")
        raise RunError(
            f"[split] outer = 'predefined': {len(other)} of {len(rows)} rows are of the partition "
            f"{', '.join(found)} (first {other['corpus'].iloc[0]}/{other['utterance'].iloc[0]}), "
            f"expected {', '.join(PARTITIONS)}{hint}; choose another [split] outer"
        )
    return [np.flatnonzero(rows["partition"] == name) for name in PARTITIONS]


def _holdout(rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]) -> list[Fold]:
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

        return RowDivider(rows, 1, where, divide).folds(positions)[0]

    fold = held(known, split.test_size)
    test = np.sort(np.concatenate([fold.test, np.flatnonzero(y == "")]))
    if split.devel_size is None:
        return [Fold("0", fold.train, test)]
    where += f", devel_size = {split.devel_size}"
    rest = held(fold.train, split.devel_size)
    return [Fold("0", rest.train, test, rest.test)]


def _emobox(rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]) -> list[Fold]:
    """The folds that EmoBox ships, fold k of every corpus united."""
    if split.emobox is None:
        raise ValueError("outer = 'emobox' needs the folder")
    found = {}
    for corpus, of_corpus in rows.groupby("corpus", sort=True):
        name = split.emobox_names.get(str(corpus))
        emobox = read_emobox(Path(split.emobox).expanduser(), str(corpus), of_corpus, name)
        notes += [f"{corpus}: {finding.text}" for finding in emobox.findings]
        at = of_corpus.index.to_numpy(dtype=np.int64)
        found[str(corpus)] = [
            {part: at[i] for part, i in fold.positions(of_corpus["utterance"]).items()}
            for fold in emobox.folds
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
            np.sort(np.concatenate([positions[part] for positions in parts]))
            for part in ("train", "valid", "test")
        )
        folds.append(Fold(str(number), train, test, valid))
    if len(folds) > 1 and any(len(fold.devel) for fold in folds):
        notes.append("EmoBox's lists valid are part of what is trained on: there are several folds")
        folds = [
            Fold(fold.name, np.sort(np.concatenate([fold.train, fold.devel])), fold.test)
            for fold in folds
        ]
    return folds


def _cross_corpus(
    rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]
) -> list[Fold]:
    """Fit on corpora, test on others; and inside a corpus where that is asked for."""
    corpus = rows["corpus"].to_numpy(str)
    there = sorted(set(corpus))
    sources = [name for name in split.train or there if name in there]
    tested = [name for name in split.test or there if name in there]
    pairs: dict[tuple[str, ...], list[str]] = {}
    for test in tested:
        others = [source for source in sources if source != test]
        for train in [tuple(others)] if split.pool else [(source,) for source in others]:
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
    for source in sources:
        if source not in tested:
            continue
        at = np.flatnonzero(corpus == source)
        for fold in outer_folds(rows.iloc[at].reset_index(drop=True), inside, y[at]):
            name = f"within {source}/{fold.name.removeprefix(f'{source}/')}"
            folds.append(fold.within(at, name, "within"))
    return folds


def _grid(rows: pd.DataFrame, y: NDArray[Any], split: SplitSpec, notes: list[str]) -> list[Fold]:
    """Cells of speakers and sentences, each under the four conditions."""
    everything, k = np.arange(len(rows)), split.outer_folds
    where = f"[split] outer = '{split.outer}' of {k} x {k}"
    group = {}
    for column in ("speaker", "sentence"):
        divider = GroupDivider(rows, y, split, k, column, where)
        group[column] = divider.codes(everything)[divider.group]
    known = y != "" if y.ndim == 1 else ~np.isnan(y).any(axis=1)
    classes = coded(y) if y.ndim == 1 else np.zeros(len(rows), dtype=np.int64)
    by_key = key_order(rows)

    def train(cell: tuple[int, int], number: int, seen: tuple[str, ...]) -> Positions:
        same = {"speaker": group["speaker"] == cell[0], "sentence": group["sentence"] == cell[1]}
        strict = known & ~same["speaker"] & ~same["sentence"]
        pool = known & ~(same["speaker"] & same["sentence"])
        for column in same.keys() - set(seen):
            pool &= ~same[column]
        rng = np.random.default_rng([split.seed, number, *cell])
        order = rng.permutation(by_key[pool[by_key]])
        drawn = [
            order[classes[order] == label][: int((classes[strict] == label).sum())]
            for label in np.unique(classes[strict])
        ]
        return np.sort(np.concatenate(drawn)) if drawn else _none()

    def test(cell: tuple[int, int]) -> Positions:
        return np.flatnonzero((group["speaker"] == cell[0]) & (group["sentence"] == cell[1]))

    folds: dict[str, list[Fold]] = {condition: [] for condition in CONDITIONS}
    for cell in itertools.product(range(k), range(k)):
        if not len(test(cell)):
            continue
        for number, (condition, seen) in enumerate(CONDITIONS.items()):
            unseen = tuple(kind for kind in ("speaker", "sentence") if kind not in seen)
            folds[condition].append(
                Fold(f"{condition} {cell[0]}.{cell[1]}", partial(train, cell, number, seen),
                     partial(test, cell), _none, condition, unseen, seen)
            )  # fmt: skip
    return [fold for same in folds.values() for fold in same]


def _none() -> Positions:
    return np.empty(0, dtype=np.int64)


def _need_classes(y: np.ndarray, where: str) -> None:
    if y.ndim == 2:
        raise RunError(f"[split] {where} needs classes (target), not targets; use speakers")


OUTER: Mapping[str, Callable[[pd.DataFrame, NDArray[Any], SplitSpec, list[str]], list[Fold]]] = (
    MappingProxyType(
        {
            "predefined": _predefined,
            "leave-one-speaker-out": partial(_leave_one_out, "speaker"),
            "leave-one-session-out": partial(_leave_one_out, "session"),
            "speaker-k-fold": partial(_of_groups, "speaker"),
            "session-k-fold": partial(_of_groups, "session"),
            "sentence-disjoint": partial(_of_groups, "sentence"),
            "stratified-holdout": _holdout,
            "four-to-one-in-five": _holdout,
            "emobox": _emobox,
            "cross-corpus": _cross_corpus,
            "speaker-sentence-grid": _grid,
        }
    )
)
"""What makes the folds of an outer split: of rows, y, split, and notes that it adds to."""
