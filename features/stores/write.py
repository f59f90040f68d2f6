"""A store is written whole: under a temporary name, synced, renamed."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from features.common.errors import StoreError
from features.common.files import Sink, replacing
from features.stores import hdf5
from features.stores.guard import (
    BLOCK,
    Float32,
    checksums,
    index_bytes,
    key_bytes,
    steps,
)
from features.stores.key import FORMAT_VERSION


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
        "format": "serfuse",
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
