"""Which rows of tables hold the same audio, in whole or in part.

Conventions
-----------
- Rows are of one *recording* where they name one file (corpus and path), or files of the same bytes
  (`file_hash`) or of the same samples (`recording_hash`), whatever they are called.
- Two rows of one recording share audio where their intervals [start, end) intersect by a
  millisecond or more; a whole file has all of its segments. Segments that touch share nothing.
- Rows of the same samples (`samples_hash`, else `audio_hash`) share audio wherever they lie. Rows
  that are silent share it where they lie in one file, by its name, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from features.splits.folds import Positions
from features.utterances import AUDIO_HASH, CONTENT, FILE_HASH, RECORDING_HASH, SAMPLES_HASH, SILENT

LONGEST_MS = 1 << 40
"""Longer than any recording; the key of a moment is recording * LONGEST_MS + its milliseconds."""


class Recordings:
    """What rows share.

    Parameters
    ----------
    rows : DataFrame
        Utterance tables, one below the other.

    Attributes
    ----------
    codes : int64, shape (n,)
        Rows of the same samples have the same code.
    known : bool, shape (n,)
        Whether the content of a row is known; others are compared by the name of their file alone.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        n = len(rows)
        text = {name: rows[name].to_numpy(object) for name in ("corpus", "path", *CONTENT)}
        paths = np.array([f"{c}\n{p}" for c, p in zip(text["corpus"], text["path"], strict=True)])
        silent = text[SAMPLES_HASH] == SILENT
        samples, sounding, bytes_of = (
            np.where(silent, "", text[name]) for name in (SAMPLES_HASH, AUDIO_HASH, FILE_HASH)
        )
        whole = np.where(text[RECORDING_HASH] == SILENT, "", text[RECORDING_HASH])
        starts_s, ends_s = (rows[name].to_numpy(np.float64) for name in ("start", "end"))
        self.known = np.asarray((text[AUDIO_HASH] != "") | (text[SAMPLES_HASH] != ""), dtype=bool)
        self.complete = np.asarray(text[FILE_HASH] != "", dtype=bool)
        self.codes = _joined([sounding, samples], n)
        recordings = _joined([np.where(text["path"] == "", "", paths), bytes_of, whole], n)
        offsets = recordings * LONGEST_MS
        self._starts = offsets + _milliseconds(starts_s, 0)
        self._ends = offsets + _milliseconds(ends_s, LONGEST_MS - 1)
        alike = np.bincount(self.codes, minlength=1)[self.codes] > 1
        self._partners = self._overlapping() | alike

    def shared(self, fitted: Positions, held_out: Positions) -> NDArray[np.bool_]:
        """Which of the held-out rows hold audio of the fitted ones.

        Parameters
        ----------
        fitted, held_out : int64
            Positions of rows.

        Returns
        -------
        bool, shape (len(held_out),)
        """
        both = np.zeros(len(self.codes), dtype=bool)
        both[fitted] = True
        hit = both[held_out]
        at = np.flatnonzero(self._partners[held_out])
        rows, fitted = held_out[at], fitted[self._partners[fitted]]
        if len(rows) and len(fitted):
            hit[at] |= np.isin(self.codes[rows], self.codes[fitted])
            hit[at] |= self._intersect(fitted, rows)
        return hit

    def _intersect(self, fitted: Positions, rows: Positions) -> NDArray[np.bool_]:
        fitted = fitted[np.argsort(self._starts[fitted], kind="stable")]
        # Of the rows that begin before a row ends, the latest end; another recording's lies lower.
        latest = np.concatenate([[-1], np.maximum.accumulate(self._ends[fitted])])
        begun = np.searchsorted(self._starts[fitted], self._ends[rows], side="left")
        return np.asarray(latest[begun] > self._starts[rows], dtype=bool)

    def _overlapping(self) -> NDArray[np.bool_]:
        """Which rows share an interval with any other."""
        order = np.argsort(self._starts, kind="stable")
        starts, ends = self._starts[order], self._ends[order]
        found = np.zeros(len(order), dtype=bool)
        if len(order) > 1:
            found[1:] |= np.maximum.accumulate(ends)[:-1] > starts[1:]
            found[:-1] |= starts[1:] < ends[:-1]
        result = np.empty_like(found)
        result[order] = found
        return result


def _milliseconds(seconds: NDArray[np.float64], unknown: int) -> NDArray[np.int64]:
    filled = np.where(np.isnan(seconds), unknown / 1000, np.clip(seconds, 0, LONGEST_MS / 2000))
    return np.minimum(np.rint(filled * 1000), LONGEST_MS - 1).astype(np.int64)


def _joined(names: Sequence[NDArray[np.object_]], n: int) -> NDArray[np.int64]:
    """Codes 0.. of n rows: rows that have any of the names in common have the same.

    Examples
    --------
    >>> a, b = np.array(["x", "x", ""], object), np.array(["", "1", "1"], object)
    >>> _joined([a, b], 3).tolist(), _joined([a], 3).tolist()
    ([0, 0, 0], [0, 0, 1])
    """
    rows, nodes, n_nodes = [], [], n
    for column in names:
        at = np.flatnonzero(column != "")
        codes, uniques = pd.factorize(column[at])
        rows.append(at)
        nodes.append(codes + n_nodes)
        n_nodes += len(uniques)
    edges = (np.concatenate(rows), np.concatenate(nodes))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n_nodes, n_nodes))
    _, labels = connected_components(graph, directed=False)
    return pd.factorize(labels[:n])[0].astype(np.int64)
