"""A store is written whole: under a temporary name, synced, renamed."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import StoreError
from features.common.files import Sink, replacing
from features.stores import hdf5
from features.stores.contents import FRAME_DTYPES, FRAMES_FORMAT, POOLED_FORMAT
from features.stores.guard import (
    BLOCK,
    FRAME_BLOCK,
    Float32,
    checksums,
    frame_checksums,
    frame_steps,
    index_bytes,
    key_bytes,
    steps,
)
from features.stores.key import FORMAT_VERSION, FRAMES_VERSION


def write_store(
    path: Path,
    key: Mapping[str, Any],
    index: pd.DataFrame,
    layers: Sequence[int],
    matrix: Callable[[str, int, int, int], Float32],
    *,
    default: Sequence[str],
    columns: Mapping[str, int],
    names: Mapping[str, Sequence[str]] | None = None,
    failed: Sequence[Sequence[str]] = (),
) -> None:
    """Write a store (or a part) under a temporary name, sync it, and rename it into place.

    Parameters
    ----------
    path : Path
    key : mapping
        Complete, as `full_key` gives it.
    index : DataFrame
        Columns utterance, audio_hash (hex), size (bytes), mtime_ns.
    layers : sequence of int
        Layer index of each position of the first axis.
    matrix : callable
        `matrix(statistic, position, start, stop)` gives float32, shape (stop - start, n_columns):
        rows start..stop of a layer. Called in order, for at most `guard.STEP_BYTES` at a time, so
        that memory does not grow with the number of utterances.
    default : sequence of str
        Statistics that a recipe gets that names none.
    columns : mapping
        Width of each statistic.
    names : mapping, optional
        Names of the columns of a statistic, where they have any.
    failed : sequence of (utterance, audio_hash, reason)
        For parts: what could not be computed.

    Raises
    ------
    StoreError
        When the disk is full or the folder cannot be written, or a text is longer than a store
        can hold; nothing is left behind.
    """
    attributes: dict[str, Any] = {
        **key,
        "format": POOLED_FORMAT,
        "format_version": FORMAT_VERSION,
        "statistics_default": list(default),
    }
    named = {statistic: list(given) for statistic, given in (names or {}).items()}
    lines = [json.dumps(list(row)) for row in failed]
    encoded = {name: _encode(value) for name, value in attributes.items()}
    whole = "".join(value for value in encoded.values() if isinstance(value, str))
    _refuse_long(path, [whole, *index["utterance"], *itertools.chain(*named.values()), *lines])
    n_bytes = len(index) * sum(columns.values()) * len(layers) * 4
    with (
        replacing(path, StoreError, n_bytes) as temporary,
        Sink(temporary) as sink,
        h5py.File(sink, "w", libver="earliest", locking=False) as file,
    ):
        for name, value in encoded.items():
            file.attrs[name] = value
        _write_index(file, index)
        file["layers"] = np.asarray(layers, dtype=np.int64)
        for statistic, given in named.items():
            file.create_dataset(f"names/{statistic}", data=given, dtype=_text())
        if failed:
            file.create_dataset("failed", data=lines, dtype=_text())
        file["crc/index"] = np.uint32(zlib.crc32(index_bytes(index)))
        file["crc/key"] = np.uint32(zlib.crc32(key_bytes(attributes, layers, named, failed)))
        for statistic, width in columns.items():
            shape = len(layers), len(index), width
            _write_matrices(file, sink, statistic, shape, matrix)


def write_frames(
    path: Path,
    key: Mapping[str, Any],
    index: pd.DataFrame,
    offsets: NDArray[np.int64],
    layers: Sequence[int],
    frames: Callable[[int, int, int], NDArray[Any]],
    *,
    width: int,
    failed: Sequence[Sequence[str]] = (),
) -> None:
    """Write a file of frames or segments (or a part of one) as `write_store` writes a store.

    Parameters
    ----------
    path : Path
    key : mapping
        Complete; `kind` and `dtype` say what is stored.
    index : DataFrame
        Columns utterance, audio_hash (hex), size (bytes), mtime_ns.
    offsets : int64, shape (n_utterances + 1,)
        From 0 to the number of all frames; every utterance has at least one.
    layers : sequence of int
        Layer index of each position of the first axis.
    frames : callable
        `frames(position, start, stop)` gives frames start..stop of a layer, counted over all
        utterances: shape (stop - start, width), of the key's `dtype`. Called in order, for at most
        `guard.FRAME_STEP_BYTES` at a time, or one block where that is more.
    width : int
        Hidden size.
    failed : sequence of (utterance, audio_hash, reason)
        For parts: what could not be computed.

    Raises
    ------
    StoreError
        As `write_store`.
    """
    attributes = {**key, "format": FRAMES_FORMAT, "format_version": FRAMES_VERSION}
    lines = [json.dumps(list(row)) for row in failed]
    encoded = {name: _encode(value) for name, value in attributes.items()}
    whole = "".join(value for value in encoded.values() if isinstance(value, str))
    _refuse_long(path, [whole, *index["utterance"], *lines])
    offsets = np.asarray(offsets, dtype=np.int64)
    kind = np.dtype(FRAME_DTYPES[key["dtype"]])
    shape = len(layers), int(offsets[-1]), width
    with (
        replacing(path, StoreError, math.prod(shape) * kind.itemsize) as temporary,
        Sink(temporary) as sink,
        h5py.File(sink, "w", libver="earliest", locking=False) as file,
    ):
        for name, value in encoded.items():
            file.attrs[name] = value
        _write_index(file, index)
        file["layers"] = np.asarray(layers, dtype=np.int64)
        file["offsets"] = offsets
        if failed:
            file.create_dataset("failed", data=lines, dtype=_text())
        file["crc/index"] = np.uint32(zlib.crc32(index_bytes(index)))
        file["crc/key"] = np.uint32(zlib.crc32(key_bytes(attributes, layers, {}, failed)))
        file["crc/offsets"] = np.uint32(zlib.crc32(offsets.astype("<i8").tobytes()))
        data = file.create_dataset("frames", shape, dtype=kind)
        crc = np.zeros((shape[0], -(-shape[1] // FRAME_BLOCK)), dtype=np.uint32)
        for position in range(shape[0]):
            for start, stop in frame_steps(shape[1], width * kind.itemsize):
                values = np.asarray(frames(position, start, stop), dtype=kind)
                data[position, start:stop] = values
                sink.check()
                crc[position, start // FRAME_BLOCK : -(-stop // FRAME_BLOCK)] = frame_checksums(
                    values
                )
        file["crc/frames"] = crc


def _refuse_long(path: Path, texts: Iterable[str]) -> None:
    for text in texts:
        if len(text.encode()) > hdf5.MAX_TEXT:
            raise StoreError(
                f"{path}: a text of {len(text.encode()):,} bytes ({text[:40]!r}...); a store holds "
                f"at most {hdf5.MAX_TEXT:,}: use shorter names"
            )


def _write_index(file: h5py.File, index: pd.DataFrame) -> None:
    n = len(index)
    file.create_dataset("utterance", data=list(index["utterance"]), dtype=_text(), shape=(n,))
    hashes = b"".join(bytes.fromhex(hashed) for hashed in index["audio_hash"])
    file["audio_hash"] = np.frombuffer(hashes, dtype=np.uint8).reshape(n, 16)
    file["size"] = index["size"].to_numpy(dtype=np.int64)
    file["mtime_ns"] = index["mtime_ns"].to_numpy(dtype=np.int64)


def _write_matrices(
    file: h5py.File,
    sink: Sink,
    statistic: str,
    shape: tuple[int, int, int],
    matrix: Callable[[str, int, int, int], Float32],
) -> None:
    """The matrices of one statistic, a layer each, and the checksums of their blocks."""
    n_layers, n, width = shape
    data = file.create_dataset(statistic, shape, dtype="<f4")
    crc = np.zeros((n_layers, -(-n // BLOCK)), dtype=np.uint32)
    for position in range(n_layers):
        for start, stop in steps(n, width):
            values = matrix(statistic, position, start, stop)
            data[position, start:stop] = values
            sink.check()
            crc[position, start // BLOCK : -(-stop // BLOCK)] = checksums(values)
    file[f"crc/{statistic}"] = crc


def _text() -> Any:
    return h5py.string_dtype("utf-8")


def _encode(value: Any) -> Any:
    """An attribute as HDF5 has it: text and numbers as they are, all else as JSON text."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if plain else "json:" + json.dumps(value, sort_keys=True)
