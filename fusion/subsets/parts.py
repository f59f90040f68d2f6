"""Subsets as two parts: sums of each half are made once, and added."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]

Subset = tuple[int, ...]

_TAIL, _TABLE_BYTES = 10, 1 << 27
"""Most members of a tail, and most bytes of its table."""

_HEADS, _BLOCK = 64, 1 << 13
"""Most heads and subsets of a block: a few hundredths of a second, so that a stop is soon."""

_TILE_BYTES = 1 << 19
"""Of the table, what is added to a head at one stroke: half of a core's cache."""

_SORTED, _PIECE = 1 << 24, 1 << 17
"""Values that are sorted at most in a block, and those that are sorted together."""

_BINNED, _BINNED_ROWS = 1 << 27, 1 << 20
"""Where all subsets have more values, bins spare more time than it takes to compile them; of more
rows the numbers of a bin would not fit."""


@dataclass(frozen=True)
class SubsetBlock:
    """Subsets of one size that are scored together.

    Attributes
    ----------
    heads : int64, shape (n_heads, head_size)
        Members of the head, each row rising, rows in lexicographic order.
    tails : slice
        Positions in the table of the tail: all its subsets of one size.
    """

    heads: Ints
    tails: slice


def _combinations(n: int, k: int) -> Ints:
    flat = itertools.chain.from_iterable(itertools.combinations(range(n), k))
    return np.fromiter(flat, np.int64).reshape(math.comb(n, k), k)


class SubsetParts:
    """Members in a head and a tail, and the subsets of the tail in order of their size.

    Parameters
    ----------
    n_members : int
    bytes_of_one : int
        What the table takes for one subset of the tail.
    block : int
        Most subsets of a block, where the tail has no more.

    Attributes
    ----------
    head, tail : int
        How many members; the head's come first.
    tails : list of tuple
        Subsets of the tail's members, counted from 0.
    """

    def __init__(self, n_members: int, bytes_of_one: int, block: int = _BLOCK) -> None:
        self.n_members, self.block = n_members, block
        self.tail = min(n_members, _TAIL)
        while self.tail > 1 and bytes_of_one << self.tail > _TABLE_BYTES:
            self.tail -= 1
        self.head = n_members - self.tail
        sizes = [list(itertools.combinations(range(self.tail), s)) for s in range(self.tail + 1)]
        self.starts = np.cumsum([0, *map(len, sizes)])
        self.tails = [subset for size in sizes for subset in size]
        self.position = {subset: i for i, subset in enumerate(self.tails)}
        self.tail_masks = np.array([sum(1 << self.tail - 1 - i for i in t) for t in self.tails])

    def blocks(self, k: int) -> Iterator[SubsetBlock]:
        """All subsets of `k` members."""
        for size in range(max(0, k - self.tail), min(k, self.head) + 1):
            tails = slice(int(self.starts[k - size]), int(self.starts[k - size + 1]))
            n_heads = max(1, min(_HEADS, self.block // (tails.stop - tails.start)))
            heads = _combinations(self.head, size)
            for start in range(0, len(heads), n_heads):
                yield SubsetBlock(heads[start : start + n_heads], tails)

    def masks(self, block: SubsetBlock) -> Ints:
        """The subsets of a block, shape (n_heads, n_tails)."""
        bits = np.int64(1) << (self.n_members - 1 - block.heads)
        return bits.sum(axis=1, dtype=np.int64)[:, None] + self.tail_masks[block.tails]

    def table(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums of all subsets of the tail: shape (..., n_members, n) -> (..., n_tails, n)."""
        last = values[..., self.head :, :]
        table = np.zeros((*values.shape[:-2], len(self.tails), values.shape[-1]), values.dtype)
        for i, tail in enumerate(self.tails[1:], 1):
            rest = self.position[tail[:-1]]
            np.add(table[..., rest, :], last[..., tail[-1], :], out=table[..., i, :])
        return table

    def head_sums(self, values: NDArray[Any], heads: Ints, start: int = 0) -> NDArray[Any]:
        """Sums of the heads on top of `start`: (..., n_members, n) -> (..., n_heads, n).

        Heads that follow each other share their first members, and the sum of these.

        Parameters
        ----------
        values : shape (..., n_members, n)
        heads : int64, shape (n_heads, head_size)
            Members.
        start : int
            Stands in every sum.

        Returns
        -------
        shape (..., n_heads, n)
            Of the type of `values`, which has to hold the sums.
        """
        *outer, _, n = values.shape
        sums = np.empty((*outer, len(heads), n), values.dtype)
        partial = np.full((heads.shape[1] + 1, *outer, n), start, values.dtype)
        previous: Sequence[int] = [-1] * heads.shape[1]
        for h, head in enumerate(heads.tolist()):
            same = next((i for i, j in enumerate(head) if previous[i] != j), len(head))
            for i in range(same, len(head)):
                np.add(partial[i], values[..., head[i], :], out=partial[i + 1])
            sums[..., h, :] = partial[-1]
            previous = head
        return sums
