"""Frames + tables + a choice of layer -> padded batches, y, groups: `features.matrix` in time.

With `source = "segments"` the means of equal parts of each utterance stand where the frames do.

Conventions
-----------
- Rows are those of `features.matrix.load_matrix`: the table's rows of all corpora of the recipe,
  sorted by (corpus, utterance). A row is a number from 0 in that order, in every batch.
- Frames are read from the file when a batch is made, by a memory map; nothing is kept. What is
  stored as float16 is given as float32.
- Which rows make a batch, and in which order they come, is a function of the lengths, the size, the
  seed and the epoch. Batches are cut from pools of `POOL_BATCHES` batches that are drawn at random
  and sorted by length, so that few frames are padding.

numpy reads all of it: torch is never imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import StoreError
from features.matrix import (
    Matrix,
    class_list,
    differing_lists,
    lacking_note,
    recipe_tables,
    refuse_unfinished,
    select_rows,
    speaker_groups,
    stored_rows,
    truth_of,
)
from features.recipe.extract import model_parts
from features.recipe.known.frame_kinds import FRAME_KINDS, FRAMES, SEGMENTS
from features.recipe.model import Recipe
from features.stores.frames import Frames, FrameStore
from features.stores.key import frames_path, store_path
from features.utterances import key_order, read_table, table_hash

POOL_BATCHES = 64
"""Batches whose utterances are drawn together and sorted by length."""

WIDEN_VALUES = 1 << 16
"""Values that are widened at a time: they stay in the core's cache."""
_SIGN_AND_HALF = np.int32(-0x70002000)
"""Bits 31, and 27 to 13: the sign that a shift has copied between them is cut out."""
_TO_ITS_VALUE = np.float32(2.0**112)
"""What the other bias of the exponent takes: 2^(127 - 15)."""


@dataclass(frozen=True)
class Padded:
    """A batch: utterances of different lengths as one array.

    Attributes
    ----------
    rows : int64, shape (n,)
        Whose frames they are.
    X : float32, shape (n, longest, n_columns)
        Zeros behind the frames of each utterance.
    lengths : int64, shape (n,)
        Frames of each utterance, at least 1.
    """

    rows: NDArray[np.int64]
    X: NDArray[np.float32]
    lengths: NDArray[np.int64]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which frames are an utterance's own, shape (n, longest)."""
        return np.arange(self.X.shape[1]) < self.lengths[:, None]


@dataclass(frozen=True)
class Sequences:
    """Utterances whose frames can be read.

    Attributes
    ----------
    rows : DataFrame
        The table's rows, index 0..n-1.
    lengths : int64, shape (n,)
        Frames of each row.
    layer : int
        The layer that they are of.
    n_columns : int
        Hidden size.
    y, groups, labels, identity, title, findings, notes, n_lacking
        As of `features.matrix.Matrix`; `y` and `groups` are empty where no truth was asked for.
    lacking : list of str
        Utterances of the tables whose frames are not stored.
    """

    rows: pd.DataFrame
    lengths: NDArray[np.int64]
    layer: int
    n_columns: int
    y: NDArray[Any]
    groups: NDArray[np.object_]
    labels: tuple[str, ...]
    identity: dict[str, Any]
    title: str
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    _places: tuple[tuple[Path, str, int], ...] = ()
    """Of each corpus: file, its identity, position of the layer."""
    _maps: tuple[Frames, ...] = ()
    _map_of: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: where the frames lie, not the frames."""
        return {**vars(self), "_maps": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        maps = tuple(_mapped(*place) for place in state["_places"])
        vars(self).update(state, _maps=maps)

    @property
    def n_lacking(self) -> int:
        """Rows of the tables whose frames are not stored."""
        return len(self.lacking)

    @property
    def fingerprint(self) -> str:
        """A hash of which frames they are: stores, tables, layer, rows in their order."""
        found = hashlib.blake2b(digest_size=16)
        found.update(json.dumps([self.identity, self.layer, len(self)], sort_keys=True).encode())
        names = self.rows["corpus"].astype(str) + "\t" + self.rows["utterance"].astype(str)
        found.update("\n".join(names).encode())
        return found.hexdigest()

    def matrix(self) -> Matrix:
        """What is known of the rows beside their frames: a matrix without columns."""
        return Matrix(
            np.empty((len(self), 0), dtype=np.float32), self.y, self.groups, self.rows,
            self.labels, self.identity, self.title, [self.layer], self.findings, self.notes,
            self.n_lacking,
        )  # fmt: skip

    def frames(self, row: int) -> NDArray[np.float32]:
        """Frames of one row, float32, shape (n_frames, n_columns)."""
        stored = self._stored(row)
        frames = np.empty(stored.shape, dtype=np.float32)
        widen(stored, frames)
        return frames

    def _stored(self, row: int) -> Frames:
        start = self._starts[row]
        return self._maps[self._map_of[row]][start : start + self.lengths[row]]

    def padded(self, rows: NDArray[np.int64] | Sequence[int]) -> Padded:
        """Rows as one batch, in the order given; at least one.

        Parameters
        ----------
        rows : int, shape (n,)
            Positions.

        Returns
        -------
        Padded
        """
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        X = np.empty((len(rows), int(lengths.max()), self.n_columns), dtype=np.float32)
        for values, row, n in zip(X, rows.tolist(), lengths.tolist(), strict=True):
            widen(self._stored(row), values[:n])
            values[n:] = 0
        return Padded(rows, X, lengths)

    def batches(
        self,
        size: int,
        rows: NDArray[np.int64] | Sequence[int] | None = None,
        *,
        seed: int | None = None,
        epoch: int = 0,
    ) -> Iterator[Padded]:
        """All of some rows once, in batches.

        Parameters
        ----------
        size : int
            Utterances of a batch; the last of a pool may have fewer.
        rows : sequence of int, optional
            Without it all.
        seed : int, optional
            Draws the batches, another way in each epoch; without it they are in order of length,
            longest first: for what depends on no order.
        epoch : int

        Yields
        ------
        Padded
        """
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        for batch in plan_batches(self.lengths[rows], size, seed=seed, epoch=epoch):
            yield self.padded(rows[batch])


def widen(stored: Frames, out: NDArray[np.float32]) -> None:
    """Write stored frames as float32, exactly; float16 twice as fast as numpy's own conversion.

    A half's exponent and fraction, moved to where a float32 has them, are its value by 2^-112.

    Parameters
    ----------
    stored : float16 or float32, shape (n_frames, n_columns)
        Finite, contiguous.
    out : float32, the same shape
        Contiguous; is written to.

    Examples
    --------
    >>> halves = np.array([[1.5, -0.0, 6e-8, -65504]], dtype=np.float16)
    >>> found = np.empty((1, 4), dtype=np.float32)
    >>> widen(halves, found)
    >>> np.array_equal(found, halves.astype(np.float32))
    True
    """
    if stored.dtype != np.float16 or sys.byteorder != "little":
        out[...] = stored
        return
    step = max(1, WIDEN_VALUES // max(1, stored.shape[1]))
    for first in range(0, len(stored), step):
        values = out[first : first + step]
        bits = values.view(np.int32)
        halves = stored[first : first + step].view(np.int16)
        np.left_shift(halves, 13, out=bits, dtype=np.int32, casting="unsafe")
        np.bitwise_and(bits, _SIGN_AND_HALF, out=bits)
        np.multiply(values, _TO_ITS_VALUE, out=values)


def plan_batches(
    lengths: NDArray[np.int64], size: int, *, seed: int | None = None, epoch: int = 0
) -> list[NDArray[np.int64]]:
    """Which utterances make which batch, in the order of the batches.

    Parameters
    ----------
    lengths : int64, shape (n,)
        Frames of each utterance.
    size : int
        Utterances of a batch, at least 1.
    seed : int, optional
        Without it all are sorted by length, longest first.
    epoch : int
        The same seed and epoch give the same batches, on any machine.

    Returns
    -------
    list of int64 arrays
        Positions in `lengths`, each once.

    Raises
    ------
    ValueError
        `size` is below 1.

    Examples
    --------
    >>> [batch.tolist() for batch in plan_batches(np.array([3, 9, 5]), 2)]
    [[1, 2], [0]]
    """
    if size < 1:
        raise ValueError(f"size {size}: a batch has at least 1 utterance")
    lengths = np.asarray(lengths)
    if seed is None:
        order = np.argsort(-lengths, kind="stable")
        return [order[i : i + size] for i in range(0, len(order), size)]
    rng = np.random.default_rng([seed, epoch])
    drawn, batches = rng.permutation(len(lengths)), []
    for first in range(0, len(drawn), POOL_BATCHES * size):
        pool = drawn[first : first + POOL_BATCHES * size]
        pool = pool[np.argsort(-lengths[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _mapped(path: Path, identity: str, position: int) -> Frames:
    """The frames of a layer, again."""
    with FrameStore(path) as store:
        if store.identity != identity:
            raise StoreError(f"{path}: was replaced while it was read; run the command again")
        return store.mapped()[position]


@dataclass(frozen=True)
class _Opened:
    """Frames of one corpus for rows of its table.

    Attributes
    ----------
    frames : float16 or float32, shape (n_frames, width)
        A memory map of one layer.
    found : bool, shape (n_rows,)
        Which of the rows have frames.
    starts, lengths : int64, shape (n_found,)
    """

    frames: Frames
    place: tuple[Path, str, int]
    layer: int
    found: NDArray[np.bool_]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    title: str
    key: dict[str, Any]
    identity: str
    note: str


def _opened(
    path: Path, source: str, table: pd.DataFrame, layer: int | str, *, check: bool = True
) -> _Opened:
    with FrameStore(path) as store:
        store.require(source)
        rows, found = stored_rows(store, table)
        position = store.position(layer)
        if check:
            store.check(position)
        note = f"{path}: {store.other_numerics}" if store.other_numerics else ""
        return _Opened(
            store.mapped()[position], (path, store.identity, position),
            store.layers[position], found, store.offsets[rows],
            store.lengths[rows], store.title, store.key, store.identity, note,
        )  # fmt: skip


def load_sequences(
    recipe: Recipe,
    stores: Path,
    model: str,
    layer: int | str = "last",
    *,
    source: str = FRAMES,
    allow_failures: int = 0,
    check: bool = True,
) -> Sequences:
    """Open one layer of a model's frames, or segments, for all corpora of a recipe.

    Parameters
    ----------
    recipe : Recipe
    stores : Path
        Folder of the tables and stores.
    model : str
        A single speech model.
    layer : int or "last"
    source : {"frames", "segments"}
        What is read as frames.
    allow_failures : int
        Rows of the tables that may lack frames; they are left out.
    check : bool
        Compare all of the layer with its checksums first, which reads it once.

    Returns
    -------
    Sequences
        Rows as `features.matrix.load_matrix` has them.

    Raises
    ------
    StoreError
        Frames are missing, unfinished, damaged, of other audio than the table's, or lack rows of
        the table; those of several corpora differ in width, or in the number of segments.
    CorpusError
        The table is missing, or lacks the recipe's target.
    """
    _refuse_side_by_side(model, source)
    tables = recipe_tables(recipe, stores)
    labels = class_list(recipe, tables)
    opened: dict[str, _Opened] = {}
    kept: list[pd.DataFrame] = []
    identity: dict[str, Any] = {}
    notes, findings, lacking = differing_lists(recipe, tables), [], []
    for corpus, table in tables.items():
        rows, dropped = select_rows(recipe, table, labels)
        findings += [f"{corpus}: {finding.text}" for finding in table.findings]
        notes += [f"{corpus}: {dropped}"] if dropped else []
        refuse_unfinished(store_path(stores, corpus, model), corpus, model)
        path = frames_path(stores, corpus, model, source)
        found = opened[corpus] = _opened(path, source, rows, layer, check=check)
        notes += [found.note] if found.note else []
        without = rows.loc[~found.found, "utterance"].tolist()
        lacking += without
        if without:
            notes.append(lacking_note(path, without, len(rows), len(lacking), allow_failures))
        kept.append(rows[found.found])
        identity[corpus] = {"store": found.identity, "key": found.key, "table": table_hash(table)}
    if source == SEGMENTS:
        most = max(found.key[SEGMENTS] for found in opened.values())
        notes.append(f"the means of {most} equal parts of every utterance stand for its frames")
    rows = pd.concat(kept, ignore_index=True)
    order = key_order(rows)
    sequences = _united(rows.iloc[order].reset_index(drop=True), opened, order)
    return replace(
        sequences, y=truth_of(recipe, sequences.rows), groups=speaker_groups(sequences.rows),
        labels=labels, identity=identity, findings=findings, notes=notes, lacking=lacking,
    )  # fmt: skip


def load_frames(
    stores: Path,
    corpus: str,
    model: str,
    layer: int | str = "last",
    *,
    source: str = FRAMES,
    check: bool = True,
) -> Sequences:
    """Open one layer of a model's frames, or segments, for a corpus that needs no truths.

    Parameters
    ----------
    stores : Path
        Folder of the tables and stores.
    corpus, model, layer, source, check
        As of `load_sequences`.

    Returns
    -------
    Sequences
        Rows in the order of the table, those without frames left out (`lacking`).

    Raises
    ------
    StoreError
        As `load_sequences`, but for rows that lack frames.
    CorpusError
        The table is missing or damaged.
    """
    _refuse_side_by_side(model, source)
    table = read_table(stores / corpus)
    refuse_unfinished(store_path(stores, corpus, model), corpus, model)
    path = frames_path(stores, corpus, model, source)
    found = _opened(path, source, table.rows, layer, check=check)
    rows = table.rows[found.found].reset_index(drop=True)
    sequences = _united(rows, {corpus: found}, np.arange(len(rows)))
    identity = {corpus: {"store": found.identity, "key": found.key, "table": table_hash(table)}}
    lacking = table.rows.loc[~found.found, "utterance"].tolist()
    return replace(sequences, identity=identity, lacking=lacking)


def _refuse_side_by_side(model: str, source: str) -> None:
    if source not in FRAME_KINDS:
        raise ValueError(f"source {source!r}: expected one of {', '.join(FRAME_KINDS)}")
    if len(model_parts(model)) > 1:
        raise StoreError(
            f"{model}: {source} are of a single model; {source} of several do not lie side by side"
        )


def _united(
    rows: pd.DataFrame, opened: Mapping[str, _Opened], order: NDArray[np.intp]
) -> Sequences:
    """The rows of all corpora below one another, brought into an order."""
    each = list(opened.values())
    layers = {corpus: found.layer for corpus, found in opened.items()}
    if len(set(layers.values())) > 1:
        raise StoreError(f"the frames of {', '.join(opened)} are of other layers: {layers}")
    parts = {corpus: opened[corpus].key.get(SEGMENTS) for corpus in sorted(opened)}
    if len(set(parts.values())) > 1:
        raise StoreError(f"the utterances of {', '.join(parts)} are cut into other parts: {parts}")
    widths = {found.frames.shape[1] for found in each}
    if len(widths) > 1:
        raise StoreError(f"the frames of {', '.join(opened)} differ in width: {widths}")
    lengths = np.concatenate([found.lengths for found in each])[order]
    map_of = np.concatenate([np.full(len(found.lengths), i) for i, found in enumerate(each)])
    return Sequences(
        rows, lengths, each[-1].layer, widths.pop(),
        y=np.empty(0, object), groups=np.empty(0, object), labels=(), identity={},
        title=each[-1].title,
        _places=tuple(found.place for found in each),
        _maps=tuple(found.frames for found in each),
        _map_of=map_of[order].astype(np.int64),
        _starts=np.concatenate([found.starts for found in each])[order],
    )  # fmt: skip
