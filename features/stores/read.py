"""The HDF5 store: every stored layer of one model for one corpus. `FORMAT.md` specifies the file.

Conventions
-----------
- A store is written once, under a temporary name, synced and renamed; readers never see half a
  file. Parts of an extraction under way have the same format and lie in `<model>.parts/`.
- The key (root attributes) holds all that changes a number. Stores of different keys never mix.
- `features.stores.write` alone imports h5py. What it wrote is read by `features.stores.hdf5`: HDF5
  itself follows links out of a file, and takes memory without bound for, or loops in, a damaged
  one.
- HDF5's file locking is not used, which network file systems often lack; a writer holds
  `<model>.lock` (see `features.common.lock`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.common.errors import StoreError, first_line, nearest
from features.common.files import IrregularFileError
from features.stores import hdf5
from features.stores.blocks import Blocks
from features.stores.contents import Contents, read_contents
from features.stores.guard import BLOCK, DAMAGE, Damage, Float32
from features.stores.key import anew, identity, is_imported, is_part, numerics_note, parts_path
from features.stores.key import title as title_of
from features.stores.layers import LayerAxis


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
    names : dict
        Statistic -> names of its columns, where they have any.
    failed : list of [utterance, audio_hash, reason]
        Of a part: what could not be computed.

    Raises
    ------
    StoreError
        There is no such store, the file is none, it is one of a newer program, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            contents = _contents(self.path, self._file)
        except StoreError:
            self._file.close()
            raise
        self.key, self.index = contents.key, contents.index
        self.layers, self.statistics = contents.layers, contents.statistics
        self.default, self.names, self.failed = contents.default, contents.names, contents.failed
        utterances = self.index["utterance"].to_numpy(object)
        self._blocks = {
            statistic: Blocks(
                self.path, self._file, contents.arrays[statistic],
                contents.arrays[f"crc/{statistic}"], self.layers, utterances,
            )
            for statistic in self.statistics
        }  # fmt: skip
        self._axis = LayerAxis(self.path, self.layers, self.key.get("n_layers"))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
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
        return title_of(self.key)

    @property
    def imported(self) -> bool:
        """Whether other programs made the features (`python -m features import`)."""
        return is_imported(self.key)

    @property
    def other_numerics(self) -> str:
        """What to know of a store that another version's numbers are in; empty for today's."""
        return numerics_note(self.key, self.path.stem)

    @property
    def mending(self) -> str:
        """What heals damaged blocks; the file itself must not be deleted for it."""
        if self.imported:
            return "import it again"
        if is_part(self.path):
            return anew(self.path)
        return f"make extract MODEL={self.path.stem} VERIFY=1 computes the damaged blocks again"

    def columns(self, statistic: str) -> int:
        """Width of one statistic: the hidden size, or the number of features."""
        return int(self._blocks[statistic].matrices.shape[2])

    def columns_of(self, layer: int | str) -> list[int | str]:
        """The layers, each one to be `read`, whose columns a recipe's layer has side by side.

        Raises
        ------
        StoreError
            For a layer that is not stored, naming those that are.
        """
        return self._axis.columns(layer)

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
        positions = self._axis.positions(layer)
        if len(positions) == 1:
            return self.read_position(positions[0], statistic, check=check)
        total = np.zeros((len(self.index), self.columns(statistic)), dtype=np.float64)
        for position in positions:
            total += self.read_position(position, statistic, check=check)
        return (total / len(positions)).astype(np.float32)

    def read_position(self, position: int, statistic: str, *, check: bool = False) -> Float32:
        """The matrix at one position of the layer axis: one sequential read.

        Parameters
        ----------
        position : int
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
        blocks = self._blocks[statistic]
        whole = blocks.read(position, 0, len(self.index), sums=check)
        if damaged := blocks.damaged(position, whole):
            raise self._refusal(damaged[0])
        return whole.matrix

    def read_rows(self, position: int, statistic: str, rows: NDArray[np.int64]) -> Float32:
        """Some rows at one position of the layer axis, the blocks that they lie in checked.

        Parameters
        ----------
        position : int
        statistic : str
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
        blocks = self._blocks[statistic]
        stretch = blocks.read(position, start, stop, sums=True)
        odd = stretch.odd[np.isin(stretch.odd + start, rows)]
        needed = set((rows // BLOCK).tolist())
        for damage in blocks.damaged(position, replace(stretch, odd=odd)):
            if damage.block in needed:
                raise self._refusal(damage)
        return stretch.matrix[rows - start]

    def _refusal(self, damage: Damage) -> StoreError:
        return StoreError(f"{self.path}: damaged: {damage}; {self.mending}")

    def verify(self) -> list[Damage]:
        """Compare all blocks with their checksums, and look for values that are not finite."""
        return [damage for blocks in self._blocks.values() for damage in blocks.verify()]


def _open(path: Path) -> hdf5.File:
    """The file, or a StoreError that says what to do instead."""
    try:
        return hdf5.File(path)
    except FileNotFoundError:
        state = "not finished: run" if parts_path(path).is_dir() else "no such store: run"
        beside = [store.stem for store in path.parent.glob("*.h5")]
        raise StoreError(
            f"{path}: {state} make extract MODEL={path.stem}{nearest(path.stem, beside)}"
        ) from None
    except IrregularFileError as error:
        raise StoreError(str(error)) from None
    except hdf5.LayoutError as error:
        raise StoreError(f"{path}: {error}; {anew(path)}") from None
    except (OSError, *DAMAGE) as error:
        if path.suffix != ".h5":
            raise StoreError(f"{path}: is no store (no HDF5 file)") from None
        raise StoreError(
            f"{path}: cannot be opened as HDF5 ({first_line(error)}); {anew(path)}"
        ) from None


def _contents(path: Path, file: hdf5.File) -> Contents:
    """What the file says of itself, or a StoreError that says what to do instead."""
    try:
        return read_contents(path, file)
    except StoreError:
        raise
    except hdf5.LayoutError as error:
        raise StoreError(f"{path}: {error}; {anew(path)}") from None
    except DAMAGE as error:
        raise StoreError(f"{path}: damaged ({first_line(error)}); {anew(path)}") from None


def sealed_parts(folder: Path) -> Iterator[tuple[Path, Store | None]]:
    """The parts in a folder, opened one after the other; None for one that is damaged.

    Parameters
    ----------
    folder : Path

    Yields
    ------
    path : Path
    part : Store or None
        Closed when the next is asked for.
    """
    for path in sorted(folder.glob("part-*.h5")):
        try:
            part = Store(path)
        except StoreError:
            yield path, None
            continue
        with part:
            yield path, part
