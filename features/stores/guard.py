"""Checksums of a store, and what a damaged one says."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLOCK = 64
"""Utterances a checksum covers."""

FRAME_BLOCK = 4096
"""Frames a checksum covers."""

FRAME_STEP_BYTES = 64_000_000
"""Most frames that are in memory at a time when they are written or verified."""

STEP_BYTES = 256_000_000
"""Most that is in memory at a time when a store is written or verified."""

INDEX_COLUMNS = ("utterance", "audio_hash", "size", "mtime_ns")

DAMAGE = (
    KeyError, ValueError, OSError, RuntimeError, TypeError, AttributeError, IndexError, MemoryError,
    OverflowError,
)  # fmt: skip
"""What the bytes of a damaged file and a value of another type raise."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Damage:
    """A block whose bytes are not those that were written; or rows of it that no model gives.

    Attributes
    ----------
    utterances : tuple of str
        Those of the block; of values that are not finite, those that have them.
    finite : bool
        False where the values are those that were written, and not finite.
    """

    statistic: str
    layer: int
    block: int
    utterances: tuple[str, ...]
    finite: bool = True

    def __str__(self) -> str:
        return self.naming(3)

    def naming(self, n: int) -> str:
        """Where it is, with the names of at most `n` utterances."""
        rest = len(self.utterances) - n
        more = f" and {rest} more" if rest > 0 else ""
        named = ", ".join(self.utterances[:n])
        why = "" if self.finite else ": values that are not finite"
        return f"/{self.statistic}, layer {self.layer}, utterances {named}{more}{why}"


def read_into(rows: NDArray[Any], handle: int, start: int) -> None:
    """Fill rows, whole and contiguous, from a byte of a file on.

    Raises
    ------
    OSError
    """
    left = rows.reshape(-1).view(np.uint8).data
    while left:
        n_bytes = os.preadv(handle, [left], start)
        if not n_bytes:
            raise OSError(f"the file ends at byte {start}")
        left, start = left[n_bytes:], start + n_bytes


def checksums(matrix: Float32) -> NDArray[np.uint32]:
    """CRC-32 of each block of 64 utterances of one layer, little-endian float32 bytes."""
    contiguous = np.ascontiguousarray(matrix, dtype="<f4")
    return np.array(
        [zlib.crc32(contiguous[i : i + BLOCK].data) for i in range(0, len(contiguous), BLOCK)],
        dtype=np.uint32,
    )


def frame_checksums(frames: NDArray[Any]) -> NDArray[np.uint32]:
    """CRC-32 of each block of 4,096 frames of one layer, little-endian, as they are stored."""
    contiguous = np.ascontiguousarray(frames)
    starts = range(0, len(contiguous), FRAME_BLOCK)
    return np.array(
        [zlib.crc32(contiguous[i : i + FRAME_BLOCK].data) for i in starts], dtype=np.uint32
    )


def index_bytes(index: pd.DataFrame) -> bytes:
    """The index as the bytes that its checksum is of."""
    rows = zip(*(index[name] for name in INDEX_COLUMNS), strict=True)
    return "\n".join("\t".join(str(value) for value in row) for row in rows).encode()


def key_bytes(
    attributes: Mapping[str, Any],
    layers: Sequence[int],
    names: Mapping[str, Sequence[str]],
    failed: Sequence[Sequence[str]],
) -> bytes:
    """What the file says of itself beside the index, as the bytes that its checksum is of.

    Parameters
    ----------
    attributes : mapping
        All of the root's, as they were before they became JSON text.
    layers : sequence of int
    names : mapping
        Statistic -> names of its columns.
    failed : sequence of (utterance, audio_hash, reason)

    Returns
    -------
    bytes
        JSON with sorted keys.
    """
    whole = {
        "failed": [list(row) for row in failed],
        "attributes": dict(attributes),
        "layers": [int(layer) for layer in layers],
        "names": {statistic: list(given) for statistic, given in names.items()},
    }
    return json.dumps(whole, sort_keys=True).encode()


def not_finite(rows: Float32) -> NDArray[np.int64]:
    """Numbers of the rows with a value that is not finite.

    Examples
    --------
    >>> not_finite(np.array([[0, 1], [np.nan, 1]], dtype=np.float32)).tolist()
    [1]
    """
    finite = np.isfinite(rows)
    return np.empty(0, np.int64) if finite.all() else np.flatnonzero(~finite.all(axis=1))


def steps(n: int, width: int) -> list[tuple[int, int]]:
    """Whole blocks of rows of at most `STEP_BYTES`, from (0, ...) to (..., n)."""
    return _steps(n, max(1, STEP_BYTES // (4 * width * BLOCK)) * BLOCK)


def frame_steps(n: int, frame_bytes: int) -> list[tuple[int, int]]:
    """Whole blocks of frames of at most `FRAME_STEP_BYTES`, from (0, ...) to (..., n)."""
    block_bytes = frame_bytes * FRAME_BLOCK
    return _steps(n, max(1, FRAME_STEP_BYTES // block_bytes) * FRAME_BLOCK)


def _steps(n: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, n)) for start in range(0, n, step)]
