"""The HDF5 store: every stored layer of one model for one corpus. `FORMAT.md` specifies the file.

Conventions
-----------
- A store is written once, under a temporary name, synced and renamed; readers never see half a
  file. Parts of an extraction under way have the same format and lie in `<model>.parts/`.
- The key (root attributes) holds all that changes a number. Stores of different keys never mix.
- This module alone imports h5py, to write. What it wrote is read by `features.stores.hdf5`: HDF5
  itself follows links out of a file, and takes memory without bound for, or loops in, a damaged
  one.
- HDF5's file locking is not used, which network file systems often lack; a writer holds
  `<model>.lock` (see `features.common.lock`).
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import StoreError, nearest
from features.common.files import IrregularFileError
from features.recipe.head import side_by_side
from features.stores import hdf5
from features.stores.guard import (
    _DAMAGE,
    BLOCK,
    RUN_BYTES,
    Damage,
    Float32,
    checksums,
    index_bytes,
    key_bytes,
    read_into,
)
from features.stores.key import (
    _NOT_KEY,
    FORMAT_VERSION,
    NUMERICS,
    anew,
    identity,
    is_part,
    parts_path,
)
from features.stores.write import _steps, not_finite

"""Raised with every change that moves an extracted number; part of every key."""
"""Utterances a checksum covers."""
"""Most that is in memory at a time when a store is written or verified."""
"""What a thread reads and sums at a time; it stays in the core's cache."""
MAX_READERS = 4
"""What the bytes of a damaged file and a value of another type raise."""
MAX_BRACKETS = 10_000
"""In the JSON of an attribute: an empty list takes thirty times its text."""


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
            self._file = hdf5.File(self.path)
        except FileNotFoundError:
            state = "not finished: run" if parts_path(self.path).is_dir() else "no such store: run"
            raise StoreError(
                f"{self.path}: {state} make extract MODEL={self.path.stem}"
                f"{nearest(self.path.stem, [one.stem for one in self.path.parent.glob('*.h5')])}"
            ) from None
        except IrregularFileError as error:
            raise StoreError(str(error)) from None
        except hdf5.LayoutError as error:
            raise StoreError(f"{self.path}: {error}; {anew(self.path)}") from None
        except (OSError, *_DAMAGE) as error:
            if self.path.suffix != ".h5":
                raise StoreError(f"{self.path}: is no store (no HDF5 file)") from None
            raise StoreError(
                f"{self.path}: cannot be opened as HDF5 ({_first_line(error)}); {anew(self.path)}"
            ) from None
        try:
            self._read_index()
        except StoreError:
            self._file.close()
            raise
        except hdf5.LayoutError as error:
            self._file.close()
            raise StoreError(f"{self.path}: {error}; {anew(self.path)}") from None
        except _DAMAGE as error:
            self._file.close()
            raise StoreError(
                f"{self.path}: damaged ({_first_line(error)}); {anew(self.path)}"
            ) from None

    def _read_index(self) -> None:
        file = self._file
        attributes = {name: _decode(value) for name, value in file.attributes().items()}
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
        arrays = self._arrays()
        self._data = {statistic: arrays[statistic] for statistic in self.statistics}
        self._sums = {statistic: arrays[f"crc/{statistic}"] for statistic in self.statistics}
        self.layers = [int(one) for one in file.numbers(arrays["layers"])]
        named = self.key.get("layers", self.layers)
        if not self.layers or self.layers != named:
            raise ValueError(f"/layers is {self.layers}, attribute layers {named}")
        if not isinstance(self.key.get("n_layers", 0), int):
            raise ValueError(f"attribute n_layers is {self.key['n_layers']!r}")
        self.failed: list[list[str]] = []
        if "failed" in arrays:
            self.failed = [
                _texts("/failed", _loads(one), 3) for one in file.texts(arrays["failed"])
            ]
        self.index = pd.DataFrame(
            {
                "utterance": pd.Series(file.texts(arrays["utterance"]), dtype=object),
                "audio_hash": [one.tobytes().hex() for one in file.numbers(arrays["audio_hash"])],
                "size": file.numbers(arrays["size"]),
                "mtime_ns": file.numbers(arrays["mtime_ns"]),
            }
        )
        self.names = {
            name.removeprefix("names/"): file.texts(array)
            for name, array in arrays.items()
            if name.startswith("names/")
        }
        sealed = {
            "index": ("/utterance, /audio_hash, /size, /mtime_ns", index_bytes(self.index)),
            "key": (
                "the attributes, /layers, /names, /failed",
                key_bytes(attributes, self.layers, self.names, self.failed),
            ),
        }
        for name, (what, found) in sealed.items():
            if f"crc/{name}" not in arrays:
                continue  # written before there was one
            if zlib.crc32(found) != int(file.numbers(arrays[f"crc/{name}"])[()]):
                raise StoreError(f"{self.path}: damaged (checksum of {what}); {anew(self.path)}")

    def _arrays(self) -> dict[str, hdf5.Array]:
        """All arrays by their names; their shapes and types fit each other and the file's bytes.

        A shape is a claim, so that nothing is read before all of them agree.
        """
        first, *_ = self.statistics
        n_layers, n, _ = self._array(first, (None, None, None), "<f4").shape
        wanted: dict[str, tuple[tuple[int | None, ...], str]] = {
            "layers": ((n_layers,), "<i8"),
            "utterance": ((n,), "text"),
            "audio_hash": ((n, 16), "|u1"),
            "size": ((n,), "<i8"),
            "mtime_ns": ((n,), "<i8"),
            "crc/index": ((), "<u4"),
        }
        for statistic in self.statistics:
            wanted[statistic] = (n_layers, n, None), "<f4"
            wanted[f"crc/{statistic}"] = (n_layers, -(-n // BLOCK)), "<u4"
        if "key" in self._file.members("crc"):
            wanted["crc/key"] = (), "<u4"
        if "failed" in self._file.members():
            wanted["failed"] = (None,), "text"
        found = {name: self._array(name, *one) for name, one in wanted.items()}
        for statistic in self.statistics:
            if not found[statistic].shape[2]:
                raise ValueError(f"/{statistic} has no columns")
        for statistic in self._file.members("names"):
            if statistic not in self.statistics:
                raise ValueError(f"/names/{statistic} names the columns of no statistic")
            name = f"names/{statistic}"
            found[name] = self._array(name, found[statistic].shape[2:], "text")
        return found

    def _array(self, name: str, shape: tuple[int | None, ...], kind: str) -> hdf5.Array:
        """An array of this shape (None is any length) and type, which the file's bytes fill."""
        found = self._file.array(name)
        fits = len(found.shape) == len(shape) and all(
            wanted in (None, length) for length, wanted in zip(found.shape, shape, strict=True)
        )
        if found.kind.name != kind:
            raise hdf5.LayoutError(
                f"/{name} holds {found.kind}; FORMAT.md wants {hdf5.Kind(kind, 0)}: write the "
                f"file again so"
            )
        if not fits:
            expected = str(shape).replace("None", "any")
            raise ValueError(f"/{name} has shape {found.shape}, expected {expected}")
        self._file.check_filled(found)
        return found

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
        if is_part(self.path):
            return anew(self.path)
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

        Raises
        ------
        StoreError
            A value is not finite, or (with `check`) a block is damaged.
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
        matrix, sums, odd = self._read(position, statistic, 0, len(self.index), sums=check)
        if damaged := self._damaged(sums, odd, position, statistic, 0):
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
            A block with one of the rows is damaged, or a row is not finite; what is elsewhere is
            no matter.
        """
        start = int(rows.min()) // BLOCK * BLOCK
        stop = min((int(rows.max()) // BLOCK + 1) * BLOCK, len(self.index))
        matrix, sums, odd = self._read(position, statistic, start, stop, sums=True)
        needed = set((rows // BLOCK).tolist())
        odd = odd[np.isin(odd + start, rows)]
        for damage in self._damaged(sums, odd, position, statistic, start):
            if damage.block in needed:
                raise self._heal(damage)
        return matrix[rows - start]

    def _read(
        self, position: int, statistic: str, start: int, stop: int, *, sums: bool
    ) -> tuple[Float32, NDArray[np.uint32], NDArray[np.int64]]:
        """Rows start..stop of a layer, with `sums` their checksums, and which are not finite.

        A checksum takes longer than its read, so threads take runs of blocks.
        """
        array = self._data[statistic]
        n, width = array.shape[1:]
        matrix = np.empty((stop - start, width), dtype=np.float32)
        row_bytes = width * matrix.itemsize
        step = BLOCK * max(1, RUN_BYTES // (BLOCK * max(1, row_bytes)))
        if not matrix.size:
            return matrix, checksums(matrix), np.empty(0, np.int64)
        offset = array.start + (position * n + start) * row_bytes

        def run(first: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
            rows = matrix[first : first + step]
            read_into(rows, self._file.handle, offset + first * row_bytes)
            return checksums(rows) if sums else np.empty(0, np.uint32), first + not_finite(rows)

        firsts = range(0, len(matrix), step)
        try:
            if len(firsts) == 1:
                return matrix, *run(0)
            with ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1)) as pool:
                found, odd = zip(*pool.map(run, firsts), strict=True)
            return matrix, np.concatenate(found), np.concatenate(odd)
        except _DAMAGE as error:
            raise StoreError(
                f"{self.path}: /{statistic}, layer {self.layers[position]}: cannot be read "
                f"({_first_line(error)}); {anew(self.path)}"
            ) from None

    def _heal(self, damage: Damage) -> StoreError:
        return StoreError(f"{self.path}: damaged: {damage}; {self.mending}")

    def _damaged(
        self,
        sums: NDArray[np.uint32],
        odd: NDArray[np.int64],
        position: int,
        statistic: str,
        start: int,
    ) -> list[Damage]:
        """What is wrong with rows from `start` on, as `_read` gives it; block by block."""
        first, layer = start // BLOCK, self.layers[position]
        stored = self._stored_sums(position, statistic, first, len(sums))
        wrong = set(np.flatnonzero(sums != stored).tolist())
        names = self.index["utterance"].iloc[start:]
        found = [
            Damage(
                statistic, layer, first + block,
                tuple(names.iloc[block * BLOCK : (block + 1) * BLOCK]),
            )
            for block in wrong
        ]  # fmt: skip
        blocks = odd // BLOCK
        for block in set(blocks.tolist()) - wrong:
            named = tuple(names.iloc[odd[blocks == block]])
            found.append(Damage(statistic, layer, first + block, named, finite=False))
        return sorted(found, key=lambda one: one.block)

    def _stored_sums(self, position: int, statistic: str, first: int, n: int) -> NDArray[np.uint32]:
        """The checksums of `n` blocks of a layer as the file has them."""
        array = self._sums[statistic]
        stored = np.empty(n, dtype="<u4")
        try:
            read_into(
                stored, self._file.handle, array.start + 4 * (position * array.shape[1] + first)
            )
        except OSError as error:
            raise StoreError(
                f"{self.path}: /{array.name}: cannot be read ({_first_line(error)}); "
                f"{anew(self.path)}"
            ) from None
        return stored

    def verify(self) -> list[Damage]:
        """Compare all blocks with their checksums, and look for values that are not finite."""
        n = len(self.index)
        return [
            damage
            for statistic in self.statistics
            for position in range(len(self.layers))
            for start, stop in _steps(n, self.columns(statistic))
            for damage in self._damaged(
                *self._read(position, statistic, start, stop, sums=True)[1:],
                position,
                statistic,
                start,
            )
        ]


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
