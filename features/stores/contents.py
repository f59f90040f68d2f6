"""What a store's file says of itself: attributes, index, and where its matrices lie.

Nothing is believed before it is checked: shapes and types fit each other and the file's bytes, and
the checksums of the index and of the key are those of what was read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import StoreError
from features.recipe.known.frame_kinds import FRAME_KINDS, FRAMES, SEGMENTS
from features.stores import hdf5
from features.stores.guard import BLOCK, FRAME_BLOCK, index_bytes, key_bytes
from features.stores.key import (
    FORMAT_VERSION,
    FRAMES_VERSION,
    NOT_KEY,
    anew,
    frames_anew,
)

MAX_BRACKETS = 10_000
"""In the JSON of an attribute: an empty list takes thirty times its text."""

POOLED_FORMAT, FRAMES_FORMAT = "serfuse", "serfuse-frames"
"""What the root's attribute `format` says of the two kinds of files."""
FRAME_DTYPES = {"float16": "<f2", "float32": "<f4"}
"""What the key's `dtype` says, and the type of the array."""


class OtherKindError(StoreError):
    """A file of the other kind."""


@dataclass(frozen=True)
class Contents:
    """All of a store but its matrices.

    Attributes
    ----------
    key : dict
        All that changes a number.
    statistics : tuple of str
        Those that are stored.
    default : list of str
        Those of them that a recipe gets that names none.
    layers : list of int
        Layer index of each position of the matrices' first axis.
    index : DataFrame
        One row an utterance: utterance, audio_hash (hex), size (bytes), mtime_ns.
    names : dict
        Statistic -> names of its columns, where they have any.
    failed : list of [utterance, audio_hash, reason]
        Of a part: what could not be computed.
    arrays : dict
        Name in the file, such as `mean` or `crc/mean` -> where it lies.
    """

    key: dict[str, Any]
    statistics: tuple[str, ...]
    default: list[str]
    layers: list[int]
    index: pd.DataFrame
    names: dict[str, list[str]]
    failed: list[list[str]]
    arrays: dict[str, hdf5.Array]


def read_contents(path: Path, file: hdf5.File) -> Contents:
    """Read and check what an open file says of itself.

    Parameters
    ----------
    path : Path
        For errors.
    file : hdf5.File
        Stays open.

    Returns
    -------
    Contents

    Raises
    ------
    StoreError
        It is no store, one of another format version, or its checksums do not fit.
    hdf5.LayoutError
        An array has a layout that stores do not have.
    Exception
        One of `guard.DAMAGE`: the bytes are damaged.
    """
    attributes = {name: _decode(value) for name, value in file.attributes().items()}
    _refuse_other_format(path, attributes)
    key = _key(attributes)
    statistics = tuple(_texts("statistics", key["statistics"]))
    default = _texts("statistics_default", attributes["statistics_default"])
    if not set(default) <= set(statistics):
        raise ValueError(f"statistics {statistics}, of which by default {default}")
    arrays = _arrays(file, statistics)
    names = {
        name.removeprefix("names/"): file.texts(array)
        for name, array in arrays.items()
        if name.startswith("names/")
    }
    failed = _failed(file, arrays)
    layers, index = _layers(file, arrays, key), _index(file, arrays)
    found = Contents(key, statistics, default, layers, index, names, failed, arrays)
    _check_sums(path, file, found, attributes)
    return found


@dataclass(frozen=True)
class FrameContents:
    """All of a file of frames, or of segments, but these.

    Attributes
    ----------
    key, layers, index, failed, arrays
        As of `Contents`.
    offsets : int64, shape (n_utterances + 1,)
        Where the frames of each utterance begin, and where the last one's end; its segments count
        as frames.
    """

    key: dict[str, Any]
    layers: list[int]
    index: pd.DataFrame
    offsets: NDArray[np.int64]
    failed: list[list[str]]
    arrays: dict[str, hdf5.Array]


def read_frame_contents(path: Path, file: hdf5.File) -> FrameContents:
    """Read and check what an open file of frames says of itself.

    Parameters
    ----------
    path : Path
        For errors.
    file : hdf5.File
        Stays open.

    Returns
    -------
    FrameContents

    Raises
    ------
    StoreError
        It holds no frames, is of another format version, or its checksums do not fit.
    hdf5.LayoutError
        An array has a layout that such files do not have.
    Exception
        One of `guard.DAMAGE`: the bytes are damaged.
    """
    attributes = {name: _decode(value) for name, value in file.attributes().items()}
    _refuse_other_format(path, attributes, FRAMES_FORMAT, FRAMES_VERSION)
    key = _key(attributes)
    if key.get("kind") not in FRAME_KINDS or key.get("dtype") not in FRAME_DTYPES:
        raise ValueError(f"attribute kind is {key.get('kind')!r}, dtype {key.get('dtype')!r}")
    most = key.get("segments")
    if (key["kind"] == SEGMENTS) != isinstance(most, int):
        raise ValueError(f"attribute kind is {key['kind']!r}, segments {most!r}")
    arrays = _frame_arrays(file, FRAME_DTYPES[key["dtype"]])
    layers, index = _layers(file, arrays, key), _index(file, arrays)
    offsets = np.asarray(file.numbers(arrays["offsets"]), dtype=np.int64)
    n_frames = arrays["frames"].shape[1]
    if offsets[0] != 0 or offsets[-1] != n_frames or (np.diff(offsets) < 1).any():
        raise ValueError("/offsets does not rise from 0 to the number of frames")
    if most is not None and (np.diff(offsets) > most).any():
        raise ValueError(f"an utterance has more than {most} segments")
    found = FrameContents(key, layers, index, offsets, _failed(file, arrays), arrays)
    _check_sums(path, file, found, attributes)
    return found


def _frame_arrays(file: hdf5.File, kind: str) -> dict[str, hdf5.Array]:
    """All arrays by their names; their shapes and types fit each other and the file's bytes."""
    n_layers, n_frames, width = _array(file, "frames", (None, None, None), kind).shape
    (n_offsets,) = _array(file, "offsets", (None,), "<i8").shape
    n = n_offsets - 1
    if n < 0 or not width:
        raise ValueError(f"/offsets has {n_offsets} numbers, /frames {width} columns")
    wanted: dict[str, tuple[tuple[int | None, ...], str]] = {
        "frames": ((n_layers, n_frames, width), kind),
        "offsets": ((n_offsets,), "<i8"),
        "layers": ((n_layers,), "<i8"),
        "utterance": ((n,), "text"),
        "audio_hash": ((n, 16), "|u1"),
        "size": ((n,), "<i8"),
        "mtime_ns": ((n,), "<i8"),
        "crc/frames": ((n_layers, -(-n_frames // FRAME_BLOCK)), "<u4"),
        "crc/index": ((), "<u4"),
        "crc/key": ((), "<u4"),
        "crc/offsets": ((), "<u4"),
    }
    if "failed" in file.members():
        wanted["failed"] = (None,), "text"
    return {name: _array(file, name, shape, kind) for name, (shape, kind) in wanted.items()}


def _refuse_other_format(
    path: Path,
    attributes: Mapping[str, Any],
    wanted: str = POOLED_FORMAT,
    newest: int = FORMAT_VERSION,
) -> None:
    form, version = attributes.get("format"), attributes.get("format_version")
    if form == FRAMES_FORMAT != wanted:
        kind = attributes.get("kind", FRAMES)
        raise OtherKindError(f"{path}: holds {kind} (format = {form!r}), no pooled features")
    if form == POOLED_FORMAT != wanted:
        raise OtherKindError(f"{path}: holds pooled features (format = {form!r}), no frames")
    if form != wanted or version is None:
        raise StoreError(f"{path}: is no store (no attribute format = {wanted!r})")
    if version != newest:
        raise StoreError(
            f"{path}: format version {version}, this program reads {newest}; "
            f"use a newer program, or extract again"
        )


def _key(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What of the attributes changes a number."""
    key = {name: value for name, value in attributes.items() if name not in NOT_KEY}
    json.dumps(key, sort_keys=True)  # a name or a value of another type raises here
    if not isinstance(key["model"], str):
        raise ValueError(f"attribute model is {key['model']!r}")
    return key


def _failed(file: hdf5.File, arrays: Mapping[str, hdf5.Array]) -> list[list[str]]:
    if "failed" not in arrays:
        return []
    return [_texts("/failed", _loads(line), 3) for line in file.texts(arrays["failed"])]


def _layers(file: hdf5.File, arrays: Mapping[str, hdf5.Array], key: Mapping[str, Any]) -> list[int]:
    """The layer index of each position, as the array and the key agree on it."""
    layers = [int(layer) for layer in file.numbers(arrays["layers"])]
    named = key.get("layers", layers)
    if not layers or layers != named:
        raise ValueError(f"/layers is {layers}, attribute layers {named}")
    if not isinstance(key.get("n_layers", 0), int):
        raise ValueError(f"attribute n_layers is {key['n_layers']!r}")
    return layers


def _index(file: hdf5.File, arrays: Mapping[str, hdf5.Array]) -> pd.DataFrame:
    hashes = file.numbers(arrays["audio_hash"])
    return pd.DataFrame(
        {
            "utterance": pd.Series(file.texts(arrays["utterance"]), dtype=object),
            "audio_hash": [hashed.tobytes().hex() for hashed in hashes],
            "size": file.numbers(arrays["size"]),
            "mtime_ns": file.numbers(arrays["mtime_ns"]),
        }
    )


def _check_sums(
    path: Path, file: hdf5.File, found: Contents | FrameContents, attributes: Mapping[str, Any]
) -> None:
    """Compare what was read with its checksums; a store of before there was one has none."""
    names, way_out = ({}, frames_anew) if isinstance(found, FrameContents) else (found.names, anew)
    sealed = {
        "index": ("/utterance, /audio_hash, /size, /mtime_ns", index_bytes(found.index)),
        "key": (
            "the attributes, /layers, /names, /failed",
            key_bytes(attributes, found.layers, names, found.failed),
        ),
    }
    if isinstance(found, FrameContents):
        sealed["offsets"] = "/offsets", found.offsets.astype("<i8").tobytes()
    for name, (what, data) in sealed.items():
        if f"crc/{name}" not in found.arrays:
            continue
        if zlib.crc32(data) != int(file.numbers(found.arrays[f"crc/{name}"])[()]):
            raise StoreError(f"{path}: damaged (checksum of {what}); {way_out(path)}")


def _arrays(file: hdf5.File, statistics: Sequence[str]) -> dict[str, hdf5.Array]:
    """All arrays by their names; their shapes and types fit each other and the file's bytes.

    A shape is a claim, so that nothing is read before all of them agree.
    """
    first, *_ = statistics
    n_layers, n, _ = _array(file, first, (None, None, None), "<f4").shape
    wanted: dict[str, tuple[tuple[int | None, ...], str]] = {
        "layers": ((n_layers,), "<i8"),
        "utterance": ((n,), "text"),
        "audio_hash": ((n, 16), "|u1"),
        "size": ((n,), "<i8"),
        "mtime_ns": ((n,), "<i8"),
        "crc/index": ((), "<u4"),
    }
    for statistic in statistics:
        wanted[statistic] = (n_layers, n, None), "<f4"
        wanted[f"crc/{statistic}"] = (n_layers, -(-n // BLOCK)), "<u4"
    if "key" in file.members("crc"):
        wanted["crc/key"] = (), "<u4"
    if "failed" in file.members():
        wanted["failed"] = (None,), "text"
    found = {name: _array(file, name, shape, kind) for name, (shape, kind) in wanted.items()}
    for statistic in statistics:
        if not found[statistic].shape[2]:
            raise ValueError(f"/{statistic} has no columns")
    for statistic in file.members("names"):
        if statistic not in statistics:
            raise ValueError(f"/names/{statistic} names the columns of no statistic")
        name = f"names/{statistic}"
        found[name] = _array(file, name, found[statistic].shape[2:], "text")
    return found


def _array(file: hdf5.File, name: str, shape: tuple[int | None, ...], kind: str) -> hdf5.Array:
    """An array of this shape (None is any length) and type, which the file's bytes fill."""
    found = file.array(name)
    fits = len(found.shape) == len(shape) and all(
        wanted in (None, length) for length, wanted in zip(found.shape, shape, strict=True)
    )
    if found.kind.name != kind:
        raise hdf5.LayoutError(
            f"/{name} holds {found.kind}; FORMAT.md wants {hdf5.ElementType(kind, 0)}: write the "
            f"file again so"
        )
    if not fits:
        expected = str(shape).replace("None", "any")
        raise ValueError(f"/{name} has shape {found.shape}, expected {expected}")
    file.check_filled(found)
    return found


def _decode(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("json:"):
        return _loads(value[5:])
    return value


def _loads(text: str) -> Any:
    """Read JSON text that takes little more memory than the text."""
    if text.count("[") + text.count("{") > MAX_BRACKETS:
        raise ValueError(f"JSON with more than {MAX_BRACKETS} brackets")
    return json.loads(text)


def _texts(name: str, value: Any, n: int | None = None) -> list[str]:
    """A list of texts, of `n` where that is said."""
    wrong = not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value)
    if wrong or n not in (None, len(value)):
        raise ValueError(f"{name} is {value!r}, expected a list of {n or ''} texts")
    return value
