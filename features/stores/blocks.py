"""Rows of a store's matrices: read, summed and judged block by block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.common.errors import StoreError, first_line
from features.stores import hdf5
from features.stores.guard import (
    BLOCK,
    DAMAGE,
    Damage,
    Float32,
    checksums,
    not_finite,
    read_into,
    steps,
)
from features.stores.key import anew

RUN_BYTES = 1 << 22
"""What a thread reads and sums at a time; it stays in the core's cache."""
MAX_READERS = 4


@dataclass(frozen=True)
class Stretch:
    """Consecutive rows of one layer, as the file has them.

    Attributes
    ----------
    start : int
        Number of the first row; it begins a block.
    matrix : float32, shape (n_rows, n_columns)
    sums : uint32, shape (n_blocks,)
        Checksums of the bytes that were read; empty where none were asked for.
    odd : int64
        Rows of `matrix` with a value that is not finite.
    """

    start: int
    matrix: Float32
    sums: NDArray[np.uint32]
    odd: NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """The matrices of one statistic in an open file, a layer each.

    Attributes
    ----------
    path : Path
    file : hdf5.File
    matrices : hdf5.Array
        float32, shape (n_layers, n_utterances, n_columns); its name is the statistic's.
    sums : hdf5.Array
        uint32, shape (n_layers, n_blocks).
    layers : sequence of int
    utterances : object (str), shape (n_utterances,)
    """

    path: Path
    file: hdf5.File
    matrices: hdf5.Array
    sums: hdf5.Array
    layers: Sequence[int]
    utterances: NDArray[Any]

    def read(self, position: int, start: int, stop: int, *, sums: bool) -> Stretch:
        """Rows start..stop at one position of the layer axis, with `sums` their checksums.

        A checksum takes longer than its read, so threads take runs of blocks.

        Parameters
        ----------
        position : int
            On the layer axis.
        start, stop : int
            Rows; `start` begins a block.
        sums : bool
            Whether checksums are wanted.

        Returns
        -------
        Stretch

        Raises
        ------
        StoreError
            The bytes cannot be read.
        """
        n, width = self.matrices.shape[1:]
        matrix = np.empty((stop - start, width), dtype=np.float32)
        row_bytes = width * matrix.itemsize
        step = BLOCK * max(1, RUN_BYTES // (BLOCK * max(1, row_bytes)))
        if not matrix.size:
            return Stretch(start, matrix, checksums(matrix), np.empty(0, np.int64))
        offset = self.matrices.start + (position * n + start) * row_bytes

        def run(first: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
            rows = matrix[first : first + step]
            read_into(rows, self.file.handle, offset + first * row_bytes)
            return checksums(rows) if sums else np.empty(0, np.uint32), first + not_finite(rows)

        firsts = range(0, len(matrix), step)
        try:
            if len(firsts) == 1:
                return Stretch(start, matrix, *run(0))
            with ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1)) as pool:
                found, odd = zip(*pool.map(run, firsts), strict=True)
            return Stretch(start, matrix, np.concatenate(found), np.concatenate(odd))
        except DAMAGE as error:
            raise StoreError(
                f"{self.path}: /{self.matrices.name}, layer {self.layers[position]}: cannot be "
                f"read ({first_line(error)}); {anew(self.path)}"
            ) from None

    def damaged(self, position: int, stretch: Stretch) -> list[Damage]:
        """What is wrong with rows that were read, block by block.

        Parameters
        ----------
        position : int
            On the layer axis.
        stretch : Stretch
            As `read` gives it.

        Returns
        -------
        list of Damage
            By block; empty where all is as it was written, and finite.

        Raises
        ------
        StoreError
            The checksums cannot be read.
        """
        statistic, layer = self.matrices.name, self.layers[position]
        first = stretch.start // BLOCK
        stored = self._stored_sums(position, first, len(stretch.sums))
        wrong = set(np.flatnonzero(stretch.sums != stored).tolist())
        names = self.utterances[stretch.start :]
        found = [
            Damage(
                statistic, layer, first + block,
                tuple(names[block * BLOCK : (block + 1) * BLOCK]),
            )
            for block in wrong
        ]  # fmt: skip
        blocks = stretch.odd // BLOCK
        for block in set(blocks.tolist()) - wrong:
            named = tuple(names[stretch.odd[blocks == block]])
            found.append(Damage(statistic, layer, first + block, named, finite=False))
        return sorted(found, key=lambda damage: damage.block)

    def _stored_sums(self, position: int, first: int, n: int) -> NDArray[np.uint32]:
        """The checksums of `n` blocks of a layer as the file has them."""
        stored = np.empty(n, dtype="<u4")
        start = self.sums.start + 4 * (position * self.sums.shape[1] + first)
        try:
            read_into(stored, self.file.handle, start)
        except OSError as error:
            raise StoreError(
                f"{self.path}: /{self.sums.name}: cannot be read ({first_line(error)}); "
                f"{anew(self.path)}"
            ) from None
        return stored

    def verify(self) -> list[Damage]:
        """Read all rows, a few hundred megabytes at a time, and say what is wrong with them.

        Returns
        -------
        list of Damage
        """
        n, width = self.matrices.shape[1:]
        return [
            damage
            for position in range(len(self.layers))
            for start, stop in steps(n, width)
            for damage in self.damaged(position, self.read(position, start, stop, sums=True))
        ]
