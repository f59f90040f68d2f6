"""The HDF5 store: every stored layer of one model for one corpus. `FORMAT.md` specifies the file.

Conventions
-----------
- A store is written once, under a temporary name, synced and renamed; readers never see half a
  file. Parts of an extraction under way have the same format and lie in `<model>.parts/`.
- The key (root attributes) holds all that changes a number. Stores of different keys never mix.
- This module alone imports h5py. It does not use HDF5's file locking, which network file systems
  often lack; a writer holds `<model>.lock` (see `features.lock`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import StoreError, nearest
from features.files import replacing

FORMAT_VERSION = 1
NUMERICS = 1
"""Raised with every change that moves an extracted number; part of every key."""
BLOCK = 64
"""Utterances a checksum covers."""
STEP_BYTES = 256_000_000
"""Most that is in memory at a time when a store is written or verified."""
RUN_BYTES = 1 << 22
"""What a thread reads and sums at a time; it stays in the core's cache."""
MAX_READERS = 4

INDEX_COLUMNS = ("utterance", "audio_hash", "size", "mtime_ns")
_NOT_KEY = ("format", "format_version", "statistics_default")

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Damage:
    """A block whose bytes are not those that were written."""

    statistic: str
    layer: int
    block: int
    utterances: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.utterances[:3])
        more = f" and {len(self.utterances) - 3} more" if len(self.utterances) > 3 else ""
        return f"/{self.statistic}, layer {self.layer}, utterances {named}{more}"


def store_path(stores: Path, corpus: str, model: str) -> Path:
    """Path of the store of a corpus and model."""
    return stores / corpus / f"{model}.h5"


def parts_path(store: Path) -> Path:
    """Folder of the plan and the sealed parts of an extraction under way."""
    return store.with_suffix(".parts")


def full_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a model's key with what belongs to every store, in JSON-able values."""
    return json.loads(json.dumps({**key, "numerics": NUMERICS}, sort_keys=True))


def key_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Name the first attributes in which two keys differ, with both values; None if equal."""
    named = [
        f"{name}: stored {theirs.get(name)!r}, asked {ours.get(name)!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    return "; ".join(named) if named else None


def identity(key: Mapping[str, Any], index: pd.DataFrame) -> str:
    """Hash of a key and of the sorted (utterance, audio hash): BLAKE2b-128, hex."""
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16)
    for utterance, audio_hash in sorted(zip(index["utterance"], index["audio_hash"], strict=True)):
        digest.update(f"\n{utterance}\t{audio_hash}".encode())
    return digest.hexdigest()


class Store:
    """A store opened for reading.

    Attributes
    ----------
    key : dict
        All that changes a number.
    index : DataFrame
        One row an utterance, in the order of the matrices: utterance, audio_hash, size, mtime_ns.
    layers : list of int
        Layer index of each stored layer, in the order of the first axis.
    statistics : tuple of str
        Of `mean`, `std`, `functionals`.
    default : list of str
        The statistics that a recipe gets that names none, side by side.
    hidden_size : int
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r", locking=False)
        except FileNotFoundError:
            state = "not finished: run" if parts_path(self.path).is_dir() else "no such store: run"
            raise StoreError(
                f"{self.path}: {state} make extract MODEL={self.path.stem}"
                f"{nearest(self.path.stem, [one.stem for one in self.path.parent.glob('*.h5')])}"
            ) from None
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be opened as HDF5 ({_first_line(error)}); "
                f"delete it and extract again"
            ) from None
        try:
            self._read_index()
        except StoreError:
            self._file.close()
            raise
        except (KeyError, ValueError, OSError, RuntimeError, TypeError) as error:
            self._file.close()
            raise StoreError(
                f"{self.path}: damaged ({_first_line(error)}); delete it and extract again"
            ) from None

    def _read_index(self) -> None:
        attributes = {name: _decode(value) for name, value in self._file.attrs.items()}
        version = attributes.get("format_version")
        if attributes.get("format") != "serfuse" or version is None:
            raise StoreError(f"{self.path}: not a store (no attribute format = 'serfuse')")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{self.path}: format version {version}, this program reads {FORMAT_VERSION}; "
                f"use a newer program, or extract again"
            )
        self.key = {k: v for k, v in attributes.items() if k not in _NOT_KEY}
        self.default: list[str] = list(attributes["statistics_default"])
        self.failed: list[list[str]] = (
            [json.loads(one) for one in self._file["failed"].asstr()[:]]
            if "failed" in self._file
            else []
        )
        self.statistics = tuple(self.key["statistics"])
        self.layers = [int(one) for one in self._file["layers"][:]]
        self.index = pd.DataFrame(
            {
                "utterance": self._file["utterance"].asstr()[:].astype(object),
                "audio_hash": [bytes(row).hex() for row in self._file["audio_hash"][:]],
                "size": self._file["size"][:],
                "mtime_ns": self._file["mtime_ns"][:],
            }
        )
        self.names = (
            {s: list(self._file[f"names/{s}"].asstr()[:]) for s in self._file["names"]}
            if "names" in self._file
            else {}
        )
        sealed = {
            "index": ("/utterance, /audio_hash, /size, /mtime_ns", _index_bytes(self.index)),
            "key": (
                "the attributes, /layers, /names",
                _key_bytes(attributes, self.layers, self.names),
            ),
        }
        for name, (what, found) in sealed.items():
            if name in self._file["crc"] and zlib.crc32(found) != int(self._file["crc"][name][()]):
                raise StoreError(
                    f"{self.path}: damaged (checksum of {what}); delete it and extract again"
                )
        shape = (len(self.layers), len(self.index))
        self._data = {statistic: self._file[statistic] for statistic in self.statistics}
        for statistic, data in self._data.items():
            if data.shape[:2] != shape:
                raise StoreError(
                    f"{self.path}: /{statistic} has shape {data.shape}, "
                    f"expected {shape} + (columns,); delete it and extract again"
                )

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def identity(self) -> str:
        """Hash of the key and of the sorted (utterance, audio hash)."""
        return identity(self.key, self.index)

    @property
    def title(self) -> str:
        """The model's key as it is shown: random weights say so."""
        untrained = str(self.key.get("source", "")).startswith("untrained:")
        return f"{self.key['model']} (untrained)" if untrained else str(self.key["model"])

    @property
    def imported(self) -> bool:
        """Whether other programs made the features (`python -m features import`)."""
        return str(self.key.get("source", "")).startswith("imported:")

    def columns(self, statistic: str) -> int:
        """Width of one statistic: the hidden size, or the number of features."""
        return int(self._data[statistic].shape[2])

    def layer_position(self, layer: int | str) -> list[int]:
        """Positions on the layer axis of `"last"`, `"mean"` (1..L) or an index.

        Raises
        ------
        StoreError
            For a layer that is not stored, naming those that are.
        """
        if len(self.layers) == 1 and layer in ("last", "mean"):
            return [0]
        top = int(self.key.get("n_layers", max(self.layers)))
        wanted = {"last": [top], "mean": list(range(1, top + 1))}.get(str(layer))
        if wanted is None:
            wanted = [int(layer)]
        lacking = [one for one in wanted if one not in self.layers]
        if lacking:
            raise StoreError(
                f"{self.path}: layer {layer!r} needs layer {lacking[0]}, stored are "
                f"{_ranges(self.layers)}; choose one of these, or extract with other "
                f"[extract] layers"
            )
        return [self.layers.index(one) for one in wanted]

    def read(self, layer: int | str, statistic: str, *, check: bool = False) -> Float32:
        """One layer of one statistic for all utterances.

        Parameters
        ----------
        layer : int, "last" or "mean"
            `"mean"` is the plain mean over layers 1..L.
        statistic : str
        check : bool
            Compare every block with its checksum.

        Returns
        -------
        float32, shape (n_utterances, n_columns)
        """
        if statistic not in self.statistics:
            raise StoreError(
                f"{self.path}: no statistic {statistic!r}; stored are {', '.join(self.statistics)}"
            )
        positions = self.layer_position(layer)
        if len(positions) == 1:
            return self.read_position(positions[0], statistic, check=check)
        total = np.zeros((len(self.index), self.columns(statistic)), dtype=np.float64)
        for position in positions:
            total += self.read_position(position, statistic, check=check)
        return (total / len(positions)).astype(np.float32)

    def read_position(self, position: int, statistic: str, *, check: bool = False) -> Float32:
        """The matrix at one position of the layer axis: one sequential read."""
        matrix, found = self._read(position, statistic, 0, len(self.index), sums=check)
        if check and (damaged := self._damaged(found, position, statistic, 0)):
            raise self._heal(damaged[0])
        return matrix

    def read_rows(self, position: int, statistic: str, rows: NDArray[np.int64]) -> Float32:
        """Some rows at one position of the layer axis, the blocks that they lie in checked.

        Parameters
        ----------
        rows : int64, shape (n_rows,)
            Row numbers, in any order. What lies between the first and the last is read.

        Returns
        -------
        float32, shape (n_rows, n_columns)

        Raises
        ------
        StoreError
            A block with one of the rows is damaged; damage elsewhere is no matter.
        """
        start = int(rows.min()) // BLOCK * BLOCK
        stop = min((int(rows.max()) // BLOCK + 1) * BLOCK, len(self.index))
        matrix, found = self._read(position, statistic, start, stop, sums=True)
        needed = set((rows // BLOCK).tolist())
        for damage in self._damaged(found, position, statistic, start):
            if damage.block in needed:
                raise self._heal(damage)
        return matrix[rows - start]

    def _read(
        self, position: int, statistic: str, start: int, stop: int, *, sums: bool
    ) -> tuple[Float32, NDArray[np.uint32]]:
        """Rows start..stop of a layer and, with `sums`, the checksums of what was read.

        The bytes are read past HDF5, which lets one thread in at a time: a checksum takes longer
        than its read, so threads take runs of blocks.
        """
        dataset = self._data[statistic]
        n, width = dataset.shape[1:]
        matrix = np.empty((stop - start, width), dtype=dataset.dtype)
        row_bytes = width * matrix.itemsize
        step = BLOCK * max(1, RUN_BYTES // (BLOCK * row_bytes)) if sums else max(1, len(matrix))
        if not matrix.size:
            return matrix, checksums(matrix)
        try:
            handle = self._file.id.get_vfd_handle()
            offset = dataset.id.get_offset() + (position * n + start) * row_bytes

            def run(first: int) -> NDArray[np.uint32]:
                rows = matrix[first : first + step]
                _read_into(rows, handle, offset + first * row_bytes)
                return checksums(rows) if sums else np.empty(0, np.uint32)

            firsts = range(0, len(matrix), step)
            if len(firsts) == 1:
                return matrix, run(0)
            with ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1)) as pool:
                return matrix, np.concatenate(list(pool.map(run, firsts)))
        except OSError as error:
            raise StoreError(
                f"{self.path}: /{statistic}, layer {self.layers[position]}: cannot be read "
                f"({_first_line(error)}); delete it and extract again"
            ) from None

    def _heal(self, damage: Damage) -> StoreError:
        again = f"make extract MODEL={self.path.stem} VERIFY=1 computes again just those"
        if self.imported:
            again = "import it again"
        return StoreError(f"{self.path}: damaged: {damage}; {again}")

    def _damaged(
        self, found: NDArray[np.uint32], position: int, statistic: str, start: int
    ) -> list[Damage]:
        first = start // BLOCK
        stored = self._file[f"crc/{statistic}"][position, first : first + len(found)]
        return [
            Damage(
                statistic,
                self.layers[position],
                first + int(block),
                tuple(
                    self.index["utterance"].iloc[
                        (first + block) * BLOCK : (first + block + 1) * BLOCK
                    ]
                ),
            )
            for block in np.flatnonzero(found != stored)
        ]

    def verify(self) -> list[Damage]:
        """Compare all blocks with their checksums."""
        n = len(self.index)
        return [
            damage
            for statistic in self.statistics
            for position in range(len(self.layers))
            for start, stop in _steps(n, self.columns(statistic))
            for damage in self._damaged(
                self._read(position, statistic, start, stop, sums=True)[1],
                position,
                statistic,
                start,
            )
        ]


def _read_into(rows: Float32, handle: int, start: int) -> None:
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
        rows start..stop of a layer. Called in order, for at most `STEP_BYTES` at a time, so that
        memory does not grow with the number of utterances.
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
        When the disk is full or the folder cannot be written; nothing is left behind.
    """
    attributes: dict[str, Any] = {
        **key,
        "format": "serfuse",
        "format_version": FORMAT_VERSION,
        "statistics_default": list(default),
    }
    named = {statistic: list(given) for statistic, given in (names or {}).items()}
    n = len(index)
    n_bytes = n * sum(columns.values()) * len(layers) * 4
    with (
        replacing(path, StoreError, n_bytes) as temporary,
        h5py.File(temporary, "w", libver="earliest", locking=False) as file,
    ):
        for name, value in attributes.items():
            file.attrs[name] = _encode(value)
        text = h5py.string_dtype("utf-8")
        file.create_dataset("utterance", data=list(index["utterance"]), dtype=text, shape=(n,))
        hashes = b"".join(bytes.fromhex(one) for one in index["audio_hash"])
        file["audio_hash"] = np.frombuffer(hashes, dtype=np.uint8).reshape(n, 16)
        file["size"] = index["size"].to_numpy(dtype=np.int64)
        file["mtime_ns"] = index["mtime_ns"].to_numpy(dtype=np.int64)
        file["layers"] = np.asarray(layers, dtype=np.int64)
        for statistic, given in named.items():
            file.create_dataset(f"names/{statistic}", data=given, dtype=text)
        if failed:
            rows = [json.dumps(list(one)) for one in failed]
            file.create_dataset("failed", data=rows, dtype=text)
        file["crc/index"] = np.uint32(zlib.crc32(_index_bytes(index)))
        file["crc/key"] = np.uint32(zlib.crc32(_key_bytes(attributes, layers, named)))
        for statistic, width in columns.items():
            data = file.create_dataset(statistic, (len(layers), n, width), dtype="<f4")
            crc = np.zeros((len(layers), -(-n // BLOCK)), dtype=np.uint32)
            for position in range(len(layers)):
                for start, stop in _steps(n, width):
                    values = matrix(statistic, position, start, stop)
                    data[position, start:stop] = values
                    crc[position, start // BLOCK : -(-stop // BLOCK)] = checksums(values)
            file[f"crc/{statistic}"] = crc


def _steps(n: int, width: int) -> list[tuple[int, int]]:
    """Whole blocks of rows of at most `STEP_BYTES`, from (0, ...) to (..., n)."""
    step = max(1, STEP_BYTES // (4 * width * BLOCK)) * BLOCK
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def file_digest(path: Path) -> hashlib.blake2b:
    """BLAKE2b-128 over a file's bytes, as an object that can be copied and updated.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest


def audio_hash(digest: hashlib.blake2b, start: float, end: float) -> str:
    """Hash of an utterance: of its file's bytes, and of start and end (seconds) if it has any."""
    if math.isnan(start) and math.isnan(end):
        return digest.hexdigest()
    part = digest.copy()
    part.update(f"#{float(start)!r}-{float(end)!r}".encode())
    return part.hexdigest()


def sealed_parts(folder: Path, plan: str = "*") -> Iterator[tuple[Path, Store | None]]:
    """The parts of a plan (of all), opened one after the other; None for one that is damaged."""
    for path in sorted(folder.glob(f"part-{plan}-*.h5")):
        try:
            part = Store(path)
        except StoreError:
            yield path, None
            continue
        with part:
            yield path, part


def _index_bytes(index: pd.DataFrame) -> bytes:
    rows = zip(*(index[name] for name in INDEX_COLUMNS), strict=True)
    return "\n".join("\t".join(str(value) for value in row) for row in rows).encode()


def _key_bytes(
    attributes: Mapping[str, Any], layers: Sequence[int], names: Mapping[str, Sequence[str]]
) -> bytes:
    whole = {
        "attributes": dict(attributes),
        "layers": [int(one) for one in layers],
        "names": {statistic: list(given) for statistic, given in names.items()},
    }
    return json.dumps(whole, sort_keys=True).encode()


def _encode(value: Any) -> Any:
    """An attribute as HDF5 has it: text and numbers as they are, all else as JSON text."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if plain else "json:" + json.dumps(value, sort_keys=True)


def _decode(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return json.loads(value[5:]) if value.startswith("json:") else value
    return value.item() if isinstance(value, np.generic) else value


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _ranges(values: Sequence[int]) -> str:
    """Examples: `[0, 1, 2, 5]` is `0-2, 5`."""
    parts: list[str] = []
    start = previous = values[0]
    for value in [*values[1:], None]:
        if value is not None and value == previous + 1:
            previous = value
            continue
        parts.append(str(start) if start == previous else f"{start}-{previous}")
        if value is not None:
            start = previous = value
    return ", ".join(parts)
