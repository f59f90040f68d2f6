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

import errno
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
from features.files import Sink, replacing
from features.recipe import side_by_side

FORMAT_VERSION = 1
NUMERICS = 2
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

_DAMAGE = (
    KeyError, ValueError, OSError, RuntimeError, TypeError, AttributeError, IndexError, MemoryError,
    OverflowError,
)  # fmt: skip
"""What h5py and a value of another type raise on a damaged file."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Damage:
    """A block whose bytes are not those that were written."""

    statistic: str
    layer: int
    block: int
    utterances: tuple[str, ...]

    def __str__(self) -> str:
        return self.naming(3)

    def naming(self, n: int) -> str:
        """Where it is, with the names of at most `n` utterances."""
        rest = len(self.utterances) - n
        more = f" and {rest} more" if rest > 0 else ""
        named = ", ".join(self.utterances[:n])
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


def key_hash(key: Mapping[str, Any]) -> str:
    """Hash of a key alone: BLAKE2b-128, hex."""
    return hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).hexdigest()


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
            if self.path.suffix != ".h5":
                raise StoreError(f"{self.path}: is no store (no HDF5 file)") from None
            if "file locking flag" in str(error):  # HDF5's words, where another handle locks
                raise StoreError(
                    f"{self.path}: is open elsewhere in this process, with locking; close it there "
                    "(or open it with h5py.File(..., locking=False))"
                ) from None
            raise StoreError(
                f"{self.path}: cannot be opened as HDF5 ({_first_line(error)}); {_anew(self.path)}"
            ) from None
        try:
            self._n_bytes = self.path.stat().st_size
            self._read_index()
        except StoreError:
            self._file.close()
            raise
        except _DAMAGE as error:
            self._file.close()
            raise StoreError(
                f"{self.path}: damaged ({_first_line(error)}); {_anew(self.path)}"
            ) from None

    def _read_index(self) -> None:
        self._refuse_damaged_heaps()
        attributes = {name: self._attribute(name) for name in self._file.attrs}
        version = attributes.get("format_version")
        if attributes.get("format") != "serfuse" or version is None:
            raise StoreError(f"{self.path}: is no store (no attribute format = 'serfuse')")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{self.path}: format version {version}, this program reads {FORMAT_VERSION}; "
                f"use a newer program, or extract again"
            )
        self.key = {k: v for k, v in attributes.items() if k not in _NOT_KEY}
        json.dumps(self.key, sort_keys=True)  # a name or a value of another type raises here
        if not isinstance(self.key["model"], str):
            raise ValueError(f"attribute model is {self.key['model']!r}")
        self.statistics = tuple(_texts("statistics", self.key["statistics"]))
        self.default: list[str] = _texts("statistics_default", attributes["statistics_default"])
        if not set(self.default) <= set(self.statistics):
            raise ValueError(f"statistics {self.statistics}, of which by default {self.default}")
        self.layers = [int(one) for one in self._array("layers", (None,), "<i8")[:]]
        named = self.key.get("layers", self.layers)
        if not self.layers or self.layers != named:
            raise ValueError(f"/layers is {self.layers}, attribute layers {named}")
        if not isinstance(self.key.get("n_layers", 0), int):
            raise ValueError(f"attribute n_layers is {self.key['n_layers']!r}")
        self.failed: list[list[str]] = []
        if "failed" in self._file:
            rows = self._array("failed", (None,), "O").asstr()[:]
            self.failed = [_texts("/failed", json.loads(one), 3) for one in rows]
        n = self._array("utterance", (None,), "O").shape[0]
        self.index = pd.DataFrame(
            {
                "utterance": self._file["utterance"].asstr()[:].astype(object),
                "audio_hash": [bytes(r).hex() for r in self._array("audio_hash", (n, 16), "u1")[:]],
                "size": self._array("size", (n,), "<i8")[:],
                "mtime_ns": self._array("mtime_ns", (n,), "<i8")[:],
            }
        )
        n_layers = len(self.layers)
        self._data = {
            statistic: self._array(statistic, (n_layers, n, None), "<f4")
            for statistic in self.statistics
        }
        for statistic in self.statistics:
            self._array(f"crc/{statistic}", (n_layers, -(-n // BLOCK)), "<u4")
        self.names: dict[str, list[str]] = {}
        for statistic in self._file.get("names", ()):
            of = (self.columns(statistic),) if statistic in self.statistics else (None,)
            self.names[statistic] = list(self._array(f"names/{statistic}", of, "O").asstr()[:])
        sealed = {
            "index": ("/utterance, /audio_hash, /size, /mtime_ns", _index_bytes(self.index)),
            "key": (
                "the attributes, /layers, /names, /failed",
                _key_bytes(attributes, self.layers, self.names, self.failed),
            ),
        }
        for name, (what, found) in sealed.items():
            if name == "key" and name not in self._file["crc"]:
                continue  # written before there was one
            if zlib.crc32(found) != int(self._array(f"crc/{name}", (), "<u4")[()]):
                raise StoreError(f"{self.path}: damaged (checksum of {what}); {_anew(self.path)}")

    def _attribute(self, name: str) -> Any:
        """One attribute, decoded; HDF5 crashes on values of a type that a flipped bit made up."""
        one = self._file.attrs.get_id(name)
        kinds = (h5py.h5t.TypeStringID, h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
        if not isinstance(name, str) or one.shape != () or not isinstance(one.get_type(), kinds):
            raise ValueError(f"attribute {name!r} is neither text nor a number")
        return _decode(self._file.attrs[name])

    def _array(self, name: str, shape: tuple[int | None, ...], dtype: str) -> Any:
        """A dataset of this shape (None is any length) and type, which the file's bytes fill."""
        found = self._file[name]
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise ValueError(f"/{name} is no array")
        fits = len(found.shape) == len(shape) and all(
            wanted in (None, length) for length, wanted in zip(found.shape, shape, strict=True)
        )
        if not fits or found.dtype != np.dtype(dtype):
            raise ValueError(
                f"/{name} has shape {found.shape} and type {found.dtype}, expected "
                f"{str(shape).replace('None', 'any')} and {np.dtype(dtype)}"
            )
        # A declared shape is a claim: one without bytes behind it would be filled up in memory.
        if math.prod(found.shape) * found.dtype.itemsize > self._n_bytes:
            raise ValueError(f"/{name} has shape {found.shape}, more than the file's bytes")
        if found.is_virtual or found.external is not None:
            raise ValueError(f"/{name} lies in another file")
        return found

    def _refuse_damaged_heaps(self) -> None:
        """Walk the heaps that hold texts: HDF5 (2.0) may loop in a damaged one without end."""
        arrays = []
        for name in self._file:
            one = self._file.get(name)
            if isinstance(one, h5py.Dataset) and one.ndim == 3 and one.id.get_offset() is not None:
                arrays.append((one.id.get_offset(), one.id.get_storage_size()))
        start = 0
        with self.path.open("rb") as file:
            for offset, size in [*sorted(arrays), (self._n_bytes, 0)]:
                file.seek(start)
                _walk_heaps(file.read(max(0, offset - start)))
                start = max(start, offset + size)

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
    def mending(self) -> str:
        """What heals damaged blocks; the file itself must not be deleted for it."""
        if self.imported:
            return "import it again"
        if _is_part(self.path):
            return _anew(self.path)
        return f"make extract MODEL={self.path.stem} VERIFY=1 computes the damaged blocks again"

    @property
    def imported(self) -> bool:
        """Whether other programs made the features (`python -m features import`)."""
        return str(self.key.get("source", "")).startswith("imported:")

    @property
    def other_numerics(self) -> str:
        """What to know of a store that another version's numbers are in; empty for today's.

        An imported one has numbers of its own, which no version of this program computes.
        """
        made = self.key.get("numerics")
        if self.imported or made == NUMERICS:
            return ""
        return (
            f"made with numerics {made}, this version computes {NUMERICS}: scores can move; "
            f"make extract MODEL={self.path.stem} FORCE=1 makes it anew"
        )

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
            more = ", or extract with other [extract] layers"
            if lacking[0] > top and "n_layers" in self.key:
                more = f": {top} is the model's last"
            raise StoreError(
                f"{self.path}: layer {layer!r} needs layer {lacking[0]}, stored are "
                f"{_ranges(self.layers)}; choose one of these{more}"
            )
        return [self.layers.index(one) for one in wanted]

    def columns_of(self, layer: int | str) -> list[int | str]:
        """The layers, each one to be `read`, whose columns a recipe's layer has side by side.

        Raises
        ------
        StoreError
            For a layer that is not stored, naming those that are.
        """
        if layer in ("weighted", "best"):
            return list(self.layers)
        layers: list[int | str] = [*side_by_side(layer)] or [layer]
        for one in layers:
            self.layer_position(one)
        return layers

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
        except _DAMAGE as error:
            raise StoreError(
                f"{self.path}: /{statistic}, layer {self.layers[position]}: cannot be read "
                f"({_first_line(error)}); {_anew(self.path)}"
            ) from None

    def _heal(self, damage: Damage) -> StoreError:
        return StoreError(f"{self.path}: damaged: {damage}; {self.mending}")

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
        Sink(temporary) as sink,
        h5py.File(sink, "w", libver="earliest", locking=False) as file,
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
        file["crc/key"] = np.uint32(zlib.crc32(_key_bytes(attributes, layers, named, failed)))
        for statistic, width in columns.items():
            data = file.create_dataset(statistic, (len(layers), n, width), dtype="<f4")
            crc = np.zeros((len(layers), -(-n // BLOCK)), dtype=np.uint32)
            for position in range(len(layers)):
                for start, stop in _steps(n, width):
                    values = matrix(statistic, position, start, stop)
                    data[position, start:stop] = values
                    sink.check()
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
    # A pipe or a device may never answer, or never end.
    if not path.is_file() and not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest


def audio_hash(digest: hashlib.blake2b, start: float, end: float, *, decoder: int = 1) -> str:
    """Hash of an utterance: its file's bytes, start and end (seconds) if any, who decodes it.

    Parameters
    ----------
    digest : hashlib object
        Over the file's bytes (`file_digest`); it is not used up.
    start, end : float
    decoder : int
        The decoder version whose samples they are (`features.audio.Heard.decoder`). A row of
        another version is another row: its features are computed again.
    """
    part = digest.copy()
    if not (math.isnan(start) and math.isnan(end)):
        part.update(f"#{float(start)!r}-{float(end)!r}".encode())
    if decoder != 1:
        part.update(f"@decoder{decoder}".encode())
    return part.hexdigest()


def sealed_parts(folder: Path) -> Iterator[tuple[Path, Store | None]]:
    """The parts in a folder, opened one after the other; None for one that is damaged."""
    for path in sorted(folder.glob("part-*.h5")):
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
    attributes: Mapping[str, Any],
    layers: Sequence[int],
    names: Mapping[str, Sequence[str]],
    failed: Sequence[Sequence[str]],
) -> bytes:
    whole = {
        "failed": [list(one) for one in failed],
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


def _texts(name: str, value: Any, n: int | None = None) -> list[str]:
    """A list of texts, of `n` where that is said."""
    wrong = not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value)
    if wrong or n not in (None, len(value)):
        raise ValueError(f"{name} is {value!r}, expected a list of {n or ''} texts")
    return value


def _walk_heaps(data: bytes) -> None:
    """Raise ValueError where a global heap's objects do not fill it.

    HDF5 File Format Specification 3.0, III.E: a collection is `GCOL`, version, its size; an object
    its index, its size and its bytes, padded to 8; the object 0 is the space that is left.
    """
    at = data.find(b"GCOL")
    while at >= 0:
        end = at + int.from_bytes(data[at + 8 : at + 16], "little")
        place = at + 16
        while place + 16 <= end <= len(data):
            n_bytes = int.from_bytes(data[place + 8 : place + 16], "little")
            if data[place : place + 2] == b"\0\0":
                place += n_bytes
                break
            place += 16 + -(-n_bytes // 8) * 8
        if place > end or end - place >= 16 or end > len(data):
            raise ValueError("a heap of texts")
        at = data.find(b"GCOL", end)


def _is_part(path: Path) -> bool:
    return path.parent.suffix == ".parts"


def _anew(path: Path) -> str:
    """What replaces a file of which nothing can be used."""
    if _is_part(path):
        return f"make extract MODEL={path.parent.stem} goes on, and computes it again"
    return (
        f"make extract MODEL={path.stem} FORCE=1 replaces it (one that was imported: import it "
        f"again with --force)"
    )


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
