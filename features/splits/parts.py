"""What a held-out set shares with the rows that are fitted for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.recipe.split import OVERLAP_KINDS
from features.splits.folds import Positions
from features.splits.recordings import Recordings

MOST_NAMES = 5
"""Shared names that a part holds; it counts all."""


@dataclass(frozen=True)
class SplitPart:
    """One held-out set and what it shares with the rows that are fitted for it.

    Attributes
    ----------
    fold, part : str
    fitted, held_out : int
        Rows.
    classes : dict
        Class -> [fitted, held out]; empty for regression.
    shared : dict
        Kind -> the first `MOST_NAMES` names on both sides; a kind that the rows do not know is
        absent.
    of : dict
        Kind -> number of names in the held-out rows.
    both : int
        Rows that are on both sides.
    n_shared : dict
        Kind -> number of names on both sides.
    """

    fold: str
    part: str
    fitted: int
    held_out: int
    classes: dict[str, list[int]]
    shared: dict[str, list[str]]
    of: dict[str, int]
    both: int
    n_shared: dict[str, int]

    @property
    def unfitted(self) -> list[str]:
        """Classes without a row to fit on: they are never predicted."""
        return [name for name, (fitted, _) in self.classes.items() if not fitted]

    @property
    def absent(self) -> list[str]:
        """Classes without a held-out row."""
        return [name for name, (_, held_out) in self.classes.items() if not held_out]

    @property
    def missing(self) -> list[str]:
        """Classes without a row on one of the sides.

        Returns
        -------
        list of str
            `<class> (<sides>)`.
        """
        lines = []
        for name, counts in self.classes.items():
            named = zip(("fitted", "held out"), counts, strict=True)
            sides = [side for side, n in named if not n]
            if sides:
                lines.append(f"{name} ({' and '.join(sides)})")
        return lines


class Sides:
    """Compares sides of folds of one table of rows.

    Parameters
    ----------
    rows : DataFrame
        Utterance table.
    y : str, shape (n,), or float64, shape (n, n_targets)
    labels : sequence of str
        The class list; empty for regression.
    """

    def __init__(self, rows: pd.DataFrame, y: NDArray[Any], labels: Sequence[str]) -> None:
        self.labels, self.n = list(labels), len(rows)
        self.codes: dict[str, NDArray[np.int64]] = {}
        self.names: dict[str, NDArray[Any]] = {}
        self.recordings = Recordings(rows)
        for kind in OVERLAP_KINDS:
            if kind == "audio":
                continue
            values = rows[kind].to_numpy(object)
            full = rows["corpus"].to_numpy(object) + "/" + values
            names, codes = np.unique(full.astype(str), return_inverse=True)
            self.codes[kind] = np.where(values == "", -1, codes).astype(np.int64)
            self.names[kind] = names
        keys = rows["corpus"] + "/" + rows["utterance"]
        self.keys = keys.to_numpy(object)
        self.classes: NDArray[np.int64] | None = None
        if self.labels:
            self.classes = pd.Index(self.labels).get_indexer(pd.Index(y)).astype(np.int64)

    def compare(self, fold: str, part: str, train: Positions, test: Positions) -> SplitPart:
        """What the rows that are fitted and those that are held out have in common.

        Parameters
        ----------
        fold, part : str
            What the part is called.
        train, test : int64, shape (n_train,) and (n_test,)
            Positions of the rows that are fitted, and held out.

        Returns
        -------
        SplitPart
        """
        shared, n_shared, of = {}, {}, {}
        for kind, codes in self.codes.items():
            # Unknown is -1: the last entry.
            fitted, held_out = np.zeros((2, len(self.names[kind]) + 1), dtype=bool)
            fitted[codes[train]] = held_out[codes[test]] = True
            held = np.flatnonzero(held_out[:-1])
            if not len(held) or not fitted[:-1].any():
                continue
            of[kind] = len(held)
            names = self.names[kind][held[fitted[held]]]
            n_shared[kind] = len(names)
            shared[kind] = [str(name) for name in names[:MOST_NAMES]]
        if (heard := self._heard(train, test)) is not None:
            shared["audio"], n_shared["audio"], of["audio"] = heard
        on_a_side = np.zeros(self.n, dtype=bool)
        on_a_side[train] = True
        both = int(on_a_side[test].sum())
        counts = self._class_counts(train, test)
        return SplitPart(fold, part, len(train), len(test), counts, shared, of, both, n_shared)

    def _heard(self, train: Positions, test: Positions) -> tuple[list[str], int, int] | None:
        """Names of held-out rows of shared recordings, how many are shared, and of how many.

        None where the recordings of one side are unknown.
        """
        heard = self.recordings
        hit = heard.shared(train, test)
        if not hit.any() and not (heard.known[train].any() and heard.known[test].any()):
            return None
        rows_of = np.bincount(heard.codes[test[heard.known[test] | hit]])
        # A hash says nothing to people: the utterances that are held out are named.
        _, first = np.unique(heard.codes[test[hit]], return_index=True)
        names = [str(name) for name in self.keys[test[hit][first[:MOST_NAMES]]]]
        return names, len(first), int(np.count_nonzero(rows_of))

    def _class_counts(self, train: Positions, test: Positions) -> dict[str, list[int]]:
        """Class -> rows that are fitted, and held out; empty for regression."""
        if self.classes is None:
            return {}
        known = (self.classes[side][self.classes[side] >= 0] for side in (train, test))
        two = [np.bincount(codes, minlength=len(self.labels)) for codes in known]
        return {name: [int(side[i]) for side in two] for i, name in enumerate(self.labels)}

    def unknown(self) -> list[str]:
        """Say which kinds could not be compared for how many rows.

        Returns
        -------
        list of str
            Empty where all is known.
        """
        lines = []
        known = {f"the {kind}": codes >= 0 for kind, codes in self.codes.items()}
        for what, there in {**known, "the content of the audio": self.recordings.known}.items():
            n = int((~there).sum())
            if n:
                lines.append(f"{what} of {n} of {self.n} rows is unknown: not compared")
        n = int((self.recordings.known & ~self.recordings.complete).sum())
        if n:
            lines.append(
                f"the table of {n} of {self.n} rows was written before it had file_hash and "
                "samples_hash: segments of one recording under two names, and its copies in other "
                "containers, are not compared; make extract or python -m features table adds them"
            )
        return lines
