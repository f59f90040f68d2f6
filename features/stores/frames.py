"""What is stored in time: a file beside the store, specified in `FORMAT.md`.

States of every frame of chosen layers, or their means over equal parts of each utterance, its
segments: to a reader these are frames, a few an utterance.

Conventions
-----------
- Frames of all utterances stand below one another, in the order of the index; `offsets` says where
  each utterance's begin. One layer is one stretch of the file.
- What is read to be stored again is compared with its checksum, a block once. `mapped` gives the
  bytes as they lie in the file: whoever reads that again and again calls `check` before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.common.errors import StoreError, first_line, nearest
from features.common.files import IrregularFileError, open_regular
from features.recipe.known.frame_kinds import FRAMES
from features.stores import hdf5
from features.stores.blocks import MAX_READERS
from features.stores.contents import FrameContents, read_frame_contents
from features.stores.guard import (
    DAMAGE,
    FRAME_BLOCK,
    Damage,
    frame_checksums,
    not_finite,
    read_into,
)
from features.stores.key import (
    frame_kind,
    frames_anew,
    identity,
    is_part,
    numerics_note,
)
from features.stores.key import title as title_of
from features.stores.layers import LayerAxis

_INFINITE = 0x7C00
"""The exponent of halves that are infinite or no numbers."""

Frames = NDArray[Any]
"""float16 or float32, shape (n_frames, hidden size)."""


class FrameStore:
    """A file of frames, or of segments, opened for reading.

    Attributes
    ----------
    key : dict
        All that changes a number; `dtype` is `float16` or `float32`.
    kind : {"frames", "segments"}
    index : DataFrame
        One row an utterance: utterance, audio_hash, size, mtime_ns.
    offsets : int64, shape (n_utterances + 1,)
        Frames of row i are those from offsets[i] to offsets[i + 1].
    layers : list of int
        Layer index of each stored layer.
    width : int
        Hidden size.
    failed : list of [utterance, audio_hash, reason]
        Of a part: what could not be computed.

    Raises
    ------
    StoreError
        There is no such file, it holds neither, is of a newer program, or damaged.
    """

    imported = False
    """Other programs' features have no frames."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            contents = _contents(self.path, self._file)
        except StoreError:
            self._file.close()
            raise
        self.key, self.index, self.failed = contents.key, contents.index, contents.failed
        self.layers, self.offsets = contents.layers, contents.offsets
        self.kind = str(self.key["kind"])
        self._array = contents.arrays["frames"]
        self._sums = self._file.numbers(contents.arrays["crc/frames"])
        self._checked = np.zeros(self._sums.shape, dtype=bool)
        self._axis = LayerAxis(self.path, self.layers, self.key.get("n_layers"), self.kind)
        self.width = self._array.shape[2]

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was mapped stays, and what is read later opens it each time."""
        self._file.close()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, little-endian."""
        return np.dtype(self._array.kind.name)

    @property
    def n_frames(self) -> int:
        """Frames of all utterances."""
        return self._array.shape[1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each utterance, shape (n_utterances,)."""
        return np.diff(self.offsets)

    @property
    def identity(self) -> str:
        """Hash of the key and of the sorted (utterance, audio hash)."""
        return identity(self.key, self.index)

    @property
    def title(self) -> str:
        """The model's key as it is shown: random weights say so."""
        return title_of(self.key)

    @property
    def other_numerics(self) -> str:
        """What to know of frames that another version's numbers are in; empty for today's."""
        return numerics_note(self.key, self.path.stem)

    @property
    def mending(self) -> str:
        """What heals damaged blocks."""
        if is_part(self.path):
            return frames_anew(self.path)
        return f"make extract MODEL={self.path.stem} VERIFY=1 computes the damaged blocks again"

    def require(self, kind: str) -> None:
        """Refuse a file that holds the other of `key.FRAME_KINDS`.

        Raises
        ------
        StoreError
        """
        if self.kind != kind:
            raise StoreError(
                f"{self.path}: holds {self.kind}, no {kind}: those lie in a folder {kind}"
            )

    def position(self, layer: int | str) -> int:
        """Where a layer stands on the first axis.

        Parameters
        ----------
        layer : int or "last"

        Raises
        ------
        StoreError
            It is not stored; those that are are named.
        """
        positions = self._axis.positions(layer)
        if layer == "mean":
            raise StoreError(f"{self.path}: layer 'mean' is of pooled features; name a layer")
        return positions[0]

    def columns_of(self, layer: int | str) -> list[int | str]:
        """The layers that a recipe's layer is one of: all of "best", else itself, as of a store.

        Raises
        ------
        StoreError
            It is not stored.
        """
        return self._axis.columns(layer)

    def mapped(self) -> Frames:
        """All frames as they lie in the file, by a memory map, shape (n_layers, n_frames, width).

        The map is of the file that is open, and outlives it.

        Returns
        -------
        float16 or float32, shape (n_layers, n_frames, width)
            Read-only.
        """
        if not self._array.n_bytes:
            return np.empty(self._array.shape, self.dtype)
        # numpy seeks in what it is given, and keeps it from being closed.
        with os.fdopen(os.dup(self._file.handle), "rb") as file:
            return np.memmap(
                file, self.dtype, mode="r", offset=self._array.start, shape=self._array.shape
            )

    def check(self, position: int, start: int = 0, stop: int | None = None) -> None:
        """Compare the blocks of frames start..stop of a layer with their checksums, each once.

        Raises
        ------
        StoreError
            A block is damaged, cannot be read, or has a value that is not finite.
        """
        stop = self.n_frames if stop is None else stop
        blocks = range(start // FRAME_BLOCK, -(-stop // FRAME_BLOCK))
        left = [block for block in blocks if not self._checked[position, block]]
        for damage in self._damages(position, left):
            raise StoreError(f"{self.path}: damaged: {damage}; {self.mending}")
        self._checked[position, left] = True

    def read(self, position: int, start: int, stop: int) -> Frames:
        """Frames start..stop of a layer, counted over all utterances; their blocks are checked.

        Returns
        -------
        float16 or float32, shape (stop - start, width)

        Raises
        ------
        StoreError
            As `check`.
        """
        self.check(position, start, stop)
        return self._read(position, start, stop)

    def verify(self) -> list[Damage]:
        """Compare all blocks with their checksums, and look for values that are not finite."""
        blocks = range(self._sums.shape[1])
        return [
            damage
            for position in range(len(self.layers))
            for damage in self._damages(position, blocks)
        ]

    def _damages(self, position: int, blocks: Sequence[int]) -> Iterator[Damage]:
        """What is wrong with blocks of a layer, in their order; read by threads."""

        def look(block: int) -> Damage | None:
            frames = self._read(
                position, block * FRAME_BLOCK, min((block + 1) * FRAME_BLOCK, self.n_frames)
            )
            if frame_checksums(frames)[0] != self._sums[position, block]:
                return self._damage(position, block, np.arange(len(frames)), finite=True)
            odd = _not_finite(frames)
            return self._damage(position, block, odd, finite=False) if len(odd) else None

        if len(blocks) < 2:
            found = map(look, blocks)
            yield from (damage for damage in found if damage is not None)
            return
        with ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1)) as pool:
            yield from (damage for damage in pool.map(look, blocks) if damage is not None)

    def _damage(
        self, position: int, block: int, frames: NDArray[np.int64], *, finite: bool
    ) -> Damage:
        """Damage of frames, counted from the beginning of their block."""
        at = np.searchsorted(self.offsets, frames + block * FRAME_BLOCK, side="right") - 1
        named = self.index["utterance"].to_numpy(object)[np.unique(at)]
        return Damage("frames", self.layers[position], block, tuple(named), finite=finite)

    def _read(self, position: int, start: int, stop: int) -> Frames:
        frames = np.empty((stop - start, self.width), self.dtype)
        at = self._array.start + (position * self.n_frames + start) * self.width * frames.itemsize
        try:
            if self._file.closed:
                with open_regular(self.path, "rb", buffering=0) as file:
                    read_into(frames, file.fileno(), at)
            else:
                read_into(frames, self._file.handle, at)
        except OSError as error:
            raise StoreError(
                f"{self.path}: /frames, layer {self.layers[position]}: cannot be read "
                f"({first_line(error)}); {frames_anew(self.path)}"
            ) from None
        return frames


def gathered(
    offsets: NDArray[np.int64],
    start: int,
    stop: int,
    part_of: Callable[[int, int, int], Frames],
) -> Frames:
    """Frames start..stop of all utterances below one another, whoever has each utterance's.

    Parameters
    ----------
    offsets : int64, shape (n_utterances + 1,)
    start, stop : int
        Frames, counted over all utterances.
    part_of : callable
        `part_of(row, first, last)` gives frames first..last of an utterance.

    Returns
    -------
    array, shape (stop - start, width)
    """
    row = int(np.searchsorted(offsets, start, side="right")) - 1
    pieces = []
    while start < stop:
        last = min(stop, int(offsets[row + 1]))
        first = start - int(offsets[row])
        pieces.append(part_of(row, first, first + last - start))
        start, row = last, row + 1
    return np.concatenate(pieces)


def _not_finite(frames: Frames) -> NDArray[np.int64]:
    """Numbers of the frames with a value that is not finite."""
    if frames.dtype.itemsize != 2:
        return not_finite(frames)
    # By their bits: numpy widens halves to ask them, which takes three times as long.
    exponents = frames.view("<u2") & np.uint16(_INFINITE)
    return np.flatnonzero((exponents == _INFINITE).any(axis=1))


def _open(path: Path) -> hdf5.File:
    """The file, or a StoreError that says what to do instead."""
    try:
        return hdf5.File(path)
    except FileNotFoundError:
        beside = [store.stem for store in path.parent.glob("[!.]*.h5")]
        kind = frame_kind(path) or FRAMES
        raise StoreError(
            f"{path}: no {kind} of {path.stem}: set [extract] {kind}, and run make extract "
            f"MODEL={path.stem}{nearest(path.stem, beside)}"
        ) from None
    except IrregularFileError as error:
        raise StoreError(str(error)) from None
    except hdf5.LayoutError as error:
        raise StoreError(f"{path}: {error}; {frames_anew(path)}") from None
    except (OSError, *DAMAGE) as error:
        raise StoreError(
            f"{path}: cannot be opened as HDF5 ({first_line(error)}); {frames_anew(path)}"
        ) from None


def _contents(path: Path, file: hdf5.File) -> FrameContents:
    """What the file says of itself, or a StoreError that says what to do instead."""
    try:
        return read_frame_contents(path, file)
    except StoreError:
        raise
    except hdf5.LayoutError as error:
        raise StoreError(f"{path}: {error}; {frames_anew(path)}") from None
    except DAMAGE as error:
        raise StoreError(f"{path}: damaged ({first_line(error)}); {frames_anew(path)}") from None
