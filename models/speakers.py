"""Who speaks, beside the columns of a matrix: what `[head] speaker` gives to a network.

Conventions
-----------
- Behind the columns of the matrix stand those of the speaker, as `models.neural.speakers` takes
  them: of `mean-mfcc` the row's MFCC means, and last the number of its speaker. No scaler and no
  weight touches them.
- Speakers are `corpus/speaker`, in the order of their names.
- What a speaker without a fitted row gets is said by a note of the run.
- Must not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RecipeError, RunError, StoreError
from features.common.findings import some
from features.common.words import counted
from features.matrix import Matrix, stored_rows
from features.recipe.head import HeadSpec, speaker_model
from features.recipe.known.personalisation import OWN_ROWS
from features.splits.folds import SplitPlan
from features.stores.key import store_path
from features.stores.read import Store
from models.problem import Positions, SpeakerColumns

NEW = -1
"""Code of a speaker that no head knows."""


def with_speakers(
    matrix: Matrix, head: HeadSpec, stores: Path, table: str
) -> tuple[NDArray[np.float32], SpeakerColumns | None]:
    """The columns of a matrix with those of its speakers, where the head takes any.

    Parameters
    ----------
    matrix : Matrix
    head : HeadSpec
    stores : Path
    table : str
        What the head's table is called.

    Returns
    -------
    X : float32, shape (n, n_columns)
    SpeakerColumns or None

    Raises
    ------
    RunError
        The speaker of a row is unknown.
    StoreError
        Of `mean-mfcc`, where the store of MFCC is missing, damaged, or lacks rows.
    """
    if head.speaker is None:
        return matrix.X, None
    codes, names = speaker_codes(matrix.rows, matrix.groups, f"[{table}] speaker", head.speaker)
    means = np.empty((len(codes), 0), dtype=np.float32)
    if model := speaker_model(head):
        means = _means(matrix.rows, stores, model)
    X = np.concatenate([matrix.X, means, codes[:, None].astype(np.float32)], axis=1)
    return X, SpeakerColumns(names, means.shape[1])


def speaker_codes(
    rows: pd.DataFrame, groups: NDArray[np.object_], key: str, value: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each row's speaker, and the speakers in order.

    Parameters
    ----------
    rows : DataFrame
    groups : str, shape (n,)
        `corpus/speaker`, empty where unknown.
    key, value : str
        The setting that asks.

    Raises
    ------
    RunError
        The speaker of a row is unknown.
    """
    unknown = rows[groups == ""]
    if len(unknown):
        first = unknown.iloc[0]
        raise RunError(
            f"{key} = {value!r}: the speaker of {len(unknown)} of {len(rows)} rows is unknown "
            f"(first {first['corpus']}/{first['utterance']}); give the table its speakers, or "
            "train without it"
        )
    names, codes = np.unique(groups.astype(str), return_inverse=True)
    return codes.astype(np.int64), tuple(names.tolist())


def _means(rows: pd.DataFrame, stores: Path, model: str) -> NDArray[np.float32]:
    """The means over time of a model's one layer, in the order of the rows."""
    found = None
    for corpus, part in rows.groupby("corpus", sort=False):
        with Store(store_path(stores, str(corpus), model)) as store:
            at, there = stored_rows(store, part)
            if not there.all():
                lacking = part.loc[~there, "utterance"].tolist()
                raise StoreError(
                    f"{store.path}: lacks {some(lacking)}, whose speakers' means are asked for "
                    f"(speaker = 'mean-mfcc'); run make extract MODEL={model} again"
                )
            (layer,) = store.columns_of("last")
            values = store.read(layer, "mean", check=True)[at]
        if found is None:
            found = np.empty((len(rows), values.shape[1]), dtype=np.float32)
        found[part.index.to_numpy()] = values
    return np.empty((0, 1), dtype=np.float32) if found is None else found


def new_speakers(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns of rows whose speakers no head knows: all get the mean row of its table."""
    return np.concatenate([X, np.full((len(X), 1), NEW, dtype=np.float32)], axis=1)


@dataclass(frozen=True)
class _Side:
    """Held-out rows and those that are fitted for them."""

    name: str
    outer: bool
    train: Positions
    test: Positions


def _sides(plan: SplitPlan, known: NDArray[np.bool_]) -> Iterator[_Side]:
    for fold, inside in zip(plan.folds, plan.inner, strict=True):
        train, devel = fold.train, fold.devel
        yield _Side(f"fold {fold.name}", True, np.concatenate([train, devel[known[devel]]]),
                    fold.test)  # fmt: skip
        if len(devel):
            yield _Side(f"fold {fold.name}, devel", True, train, devel)
        for each in inside:
            yield _Side(f"fold {fold.name}, inner fold {each.name}", False, each.train, each.test)
    for each in plan.final:
        yield _Side(f"all rows, inner fold {each.name}", False, each.train, each.test)


def check_speakers(
    head: HeadSpec,
    groups: NDArray[np.object_],
    plan: SplitPlan,
    known: NDArray[np.bool_],
    table: str,
) -> list[str]:
    """Refuse folds whose held-out speakers have no fitted row, unless the recipe says what then.

    Parameters
    ----------
    head : HeadSpec
    groups : str, shape (n,)
        `corpus/speaker` of each row.
    plan : SplitPlan
    known : bool, shape (n,)
        Rows with a truth.
    table : str
        What the head's table is called.

    Returns
    -------
    list of str
        What such speakers get, and how many they are, for people.

    Raises
    ------
    RecipeError
        Naming the key and the first fold.
    """
    if head.speaker is None:
        return []
    names, codes = np.unique(groups.astype(str), return_inverse=True)
    unseen: dict[bool, set[str]] = {True: set(), False: set()}
    n_folds = {True: 0, False: 0}
    for side in _sides(plan, known):
        fitted = np.zeros(len(names), dtype=bool)
        fitted[codes[side.train]] = True
        held = np.unique(codes[side.test])
        new = [str(names[code]) for code in held[~fitted[held]]]
        if new and head.unseen is None:
            raise RecipeError(
                f"[{table}] speaker = {head.speaker!r}: {side.name}: {len(new)} of {len(held)} "
                f"held-out speakers have no fitted row ({some(new)}); unseen = 'mean' gives them "
                f"the mean row of the fitted speakers{_own_hint(head)}, or choose a [split] whose "
                "sides share speakers"
            )
        unseen[side.outer] |= set(new)
        n_folds[side.outer] += bool(new)
    return [
        f"speaker = {head.speaker!r}: {counted(len(unseen[outer]), 'held-out speaker')} of "
        f"{counted(n_folds[outer], kind)} without a fitted row: each gets {what_unseen_get(head)}"
        for outer, kind in ((True, "outer fold"), (False, "inner fold"))
        if unseen[outer]
    ]


def _own_hint(head: HeadSpec) -> str:
    return ", 'own' the mean of their own rows" if head.speaker == "mean-mfcc" else ""


def what_unseen_get(head: HeadSpec) -> str:
    """What a speaker without a fitted row gets, for people."""
    if head.unseen == OWN_ROWS:
        return "the mean of its own held-out rows: this uses unlabelled test data"
    return "the mean row of the fitted speakers"
