"""Features that other programs made: CSV or Parquet, a row an utterance, matched to a table.

Conventions
-----------
- CSV is separated by `;` or `,` (what the header has more of) and quoted by `'` or `"`. The first
  column names the utterance, or the second where only it is called one of `ID_NAMES`. What stands
  before it is left out, and so are openSMILE's `frameTime`, `start` and `end` behind it. All other
  columns are features.
- An utterance is named by its id, or by a path that ends as its file's does (or the other way
  round); suffixes of audio files do not count.
- Ids and names of columns are compared in the clean form (`features.common.text`).
- Values are finite float32. Every fault is found before anything is refused: it is named by file,
  line (row of a Parquet file) and column.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import UserError, nearest
from features.common.files import open_regular
from features.common.findings import EXAMPLES, some
from features.common.progress import Progress
from features.common.text import clean
from features.common.words import counted
from features.corpora.base import AUDIO_SUFFIXES

ID_NAMES = ("filename", "name", "file", "utterance", "path")
NOT_FEATURES = ("frametime", "start", "end")
PARQUET = (".parquet", ".pq")
NOT_READ = (".arff", ".h5", ".npz")


@dataclass(frozen=True)
class FeatureColumns:
    """Which columns of a file are what.

    Attributes
    ----------
    names : tuple of str
        The features, in the order of the file.
    left_out : tuple of str
        Columns that are neither id nor feature.
    """

    path: Path
    id_position: int
    positions: tuple[int, ...]
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    id_name: str


@dataclass(frozen=True)
class MatchedFeatures:
    """What the files hold for a table.

    Attributes
    ----------
    utterances : list of str
        In the order of the table.
    X : float32, shape (n_utterances, n_features)
    unmatched : list of str
        Rows whose utterance the table does not have, with file and line.
    """

    utterances: list[str]
    X: NDArray[np.float32]
    unmatched: list[str]


@dataclass
class _Faults:
    """The first few faults, and how many there are."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.first) < EXAMPLES:
            self.first.append(text)

    def refuse(self, way_out: str) -> None:
        if self.count:
            more = self.count - len(self.first)
            lines = [*self.first, *([f"and {more} more"] if more else [])]
            head = f"{counted(self.count, 'fault')}; {way_out}"
            raise UserError("\n  ".join([head, *lines]))


def read_layouts(files: Sequence[Path], drop: Sequence[str] = ()) -> list[FeatureColumns]:
    """Read the headers of files that are to be stacked.

    Parameters
    ----------
    drop : sequence of str
        Columns that are no features.

    Returns
    -------
    list of FeatureColumns
        One a file; all have the names of the first.

    Raises
    ------
    UserError
        A file is missing, its header says nothing usable, or it has other features than the first.
    """
    if len({path.resolve() for path in files}) != len(files):
        raise UserError("a file is named twice; name each once")
    layouts = []
    for path in files:
        layouts.append(_layout(path, next(_rows(path))[1], drop))
    first = layouts[0]
    for layout in layouts[1:]:
        if layout.names != first.names:
            pairs = zip(layout.names, first.names, strict=False)
            apart = next((f"{a!r} for {b!r}" for a, b in pairs if a != b), "the last ones")
            raise UserError(
                f"{layout.path}: has other features than {first.path} ({len(layout.names)} and "
                f"{len(first.names)}; first difference: {apart}); files that are stacked have the "
                f"same columns in the same order"
            )
    return layouts


def _layout(path: Path, header: Sequence[Any], drop: Sequence[str]) -> FeatureColumns:
    names = [clean(str(cell)) for cell in header]
    id_position = next((i for i, n in enumerate(names[:2]) if n.lower() in ID_NAMES), 0)
    unknown = [name for name in drop if name not in names]
    if unknown:
        raise UserError(f"{path}: no column {unknown[0]!r} to drop{nearest(unknown[0], names)}")
    begin = id_position + 1
    while begin < len(names) and names[begin].lower() in NOT_FEATURES:
        begin += 1
    positions = tuple(i for i in range(begin, len(names)) if names[i] not in drop)
    kept = tuple(names[i] for i in positions)
    twice = sorted(name for name, count in Counter(kept).items() if count > 1)
    if twice:
        raise UserError(
            f"{path}: line 1: {counted(len(twice), 'column stands', 'columns stand')} twice: "
            f"{some(twice)}; is it a header?"
        )
    if "" in kept:
        column = positions[kept.index("")] + 1
        raise UserError(f"{path}: line 1: column {column} has no name; name it, or remove it")
    if not kept:
        raise UserError(
            f"{path}: line 1: {names} has no column of features; a header with the name of the "
            f"utterance first and a column a feature is expected, separated by ; or ,"
        )
    out = tuple(n for i, n in enumerate(names) if i != id_position and i not in set(positions))
    return FeatureColumns(path, id_position, positions, kept, out, names[id_position])


def read_features(layouts: Sequence[FeatureColumns], table: pd.DataFrame) -> MatchedFeatures:
    """Read the rows of the files and match them to a table.

    Parameters
    ----------
    layouts : sequence of FeatureColumns
        As `read_layouts` gives them.
    table : DataFrame
        utterance, path.

    Returns
    -------
    MatchedFeatures

    Raises
    ------
    UserError
        A cell is no finite float32, a row has another width than the header, an utterance stands
        twice, or no row is of the table. The first faults are named by file, line and column.
    """
    gathered = _Gathered(table, len(layouts[0].names))
    progress = Progress("reading features", len(table), "utterances")
    for layout in layouts:
        rows = _rows(layout.path)
        width = len(next(rows)[1])
        if isinstance(gathered.find(layout.id_name), str):
            raise UserError(
                f"{layout.path}: line 1 is the row of {layout.id_name}; a header line with the "
                f"names of the columns is expected"
            )
        for where, cells in rows:
            progress.add(1)
            gathered.take(layout, f"{layout.path}, {where}", cells, width)
    progress.close()
    way_out = "mend the files, or name columns that are no features with --drop"
    if any(name.lower() == "frametime" for layout in layouts for name in layout.left_out):
        way_out += " (of features a frame, make functionals first: one row an utterance)"
    gathered.faults.refuse(way_out)
    return gathered.result()


class _Gathered:
    """Rows of files, taken one by one for the utterances of a table."""

    def __init__(self, table: pd.DataFrame, n_features: int) -> None:
        self.names: list[str] = table["utterance"].tolist()
        self.find = Matcher(table)
        self.faults = _Faults()
        self._row_of = {utterance: i for i, utterance in enumerate(self.names)}
        self._X = np.empty((len(self.names), n_features), dtype=np.float32)
        self._seen: dict[str, str] = {}
        self._unmatched: list[str] = []

    def take(self, layout: FeatureColumns, place: str, cells: Sequence[Any], width: int) -> None:
        """Take a row of a file whose header has `width` cells; `place` is where it stands."""
        if len(cells) != width:
            self.faults.add(f"{place}: {counted(len(cells), 'cell')}, the header has {width}")
            return
        name = clean(str(cells[layout.id_position]))
        found = self.find(name)
        if not isinstance(found, str):
            reason = f" (could be {' or '.join(sorted(found)[:2])})" if found else ""
            self._unmatched.append(f"{name}{reason} in {place}")
            return
        if found in self._seen:
            there = self._seen[found]
            self.faults.add(f"{place}: {name} is {found}, which stands in {there} already")
            return
        self._seen[found] = place
        values = [cells[i] for i in layout.positions]
        try:
            self._X[self._row_of[found]] = _numbers(values)
        except (ValueError, TypeError):
            for column, cell in zip(layout.names, values, strict=True):
                if reason := _reason(cell):
                    self.faults.add(f"{place}, column {column!r}: {reason}")

    def result(self) -> MatchedFeatures:
        """What was taken, in the order of the table.

        Raises
        ------
        UserError
            Nothing was.
        """
        if not self._seen:
            raise UserError(
                f"none of {counted(len(self._unmatched), 'row')} is of an utterance of the table: "
                f"the files say {some(self._unmatched, 2)}; the table has {some(self.names, 2)}"
            )
        keep = [i for i, name in enumerate(self.names) if name in self._seen]
        X = self._X if len(keep) == len(self._X) else self._X[keep]
        return MatchedFeatures([self.names[i] for i in keep], X, self._unmatched)


def _numbers(cells: Sequence[Any]) -> NDArray[np.float32]:
    """Cells as finite float32, shape (n_cells,).

    Raises
    ------
    ValueError, TypeError
        One is none.
    """
    values = np.fromiter(map(float, cells), np.float64, len(cells))
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    # float() takes 1_000.
    if not np.isfinite(result).all() or "_" in "".join(c for c in cells if isinstance(c, str)):
        raise ValueError
    return result


def _reason(cell: Any) -> str:
    """What is wrong with a cell; empty where nothing is."""
    with contextlib.suppress(ValueError, TypeError):
        _numbers([cell])
        return ""
    if cell is None or cell is pd.NA or not str(cell).strip():
        return "is empty"
    try:
        number = float(str(cell).replace("_", "x"))
    except ValueError:
        comma = re.fullmatch(r"\s*[+-]?\d*,\d+\s*", str(cell))
        hint = f" (a decimal comma? write {str(cell).strip().replace(',', '.')})" if comma else ""
        return f"{cell!r} is no number{hint}"
    return f"{cell!r} is beyond float32" if np.isfinite(number) else f"{cell!r} is not finite"


class Matcher:
    """Finds the utterance of a table that a name means.

    Examples
    --------
    >>> frame = pd.DataFrame({"utterance": ["a", "b"], "path": ["wav/x/a.wav", "wav/y/b.wav"]})
    >>> find = Matcher(frame)
    >>> find("a"), find("b.wav"), find("y/b.wav"), find("/mnt/wav/x/a.flac"), find("c.wav")
    ('a', 'b', 'b', 'a', set())
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._ids = {clean(utterance): utterance for utterance in table["utterance"]}
        paths = [clean(path) for path in table["path"]]
        self._suffixes = {*AUDIO_SUFFIXES, *(PurePosixPath(path).suffix.lower() for path in paths)}
        self._paths: dict[str, set[str]] = defaultdict(set)
        self._tails: dict[str, set[str]] = defaultdict(set)
        for utterance, path in zip(table["utterance"], paths, strict=True):
            for number, tail in enumerate(_tails(self._bare(path))):
                self._tails[tail].add(utterance)
                if number == 0:
                    self._paths[tail].add(utterance)

    def __call__(self, name: str) -> str | set[str]:
        """The utterance, or the set of those that it could be: of none, or of several."""
        name = clean(name).replace("\\", "/").removeprefix("./")
        if name in self._ids:
            return self._ids[name]
        bare = self._bare(name)
        if bare in self._ids:
            return self._ids[bare]
        could = self._tails.get(bare, set())
        for tail in _tails(bare):
            could = could or self._paths.get(tail, set())
            if not could and tail in self._ids:
                return self._ids[tail]
        return next(iter(could)) if len(could) == 1 else could

    def _bare(self, name: str) -> str:
        suffix = PurePosixPath(name).suffix
        if not suffix or suffix.lower() not in self._suffixes:
            return name
        return name[: -len(suffix)].rstrip()  # as ids are clean


def _tails(path: str) -> Iterator[str]:
    """A path, and the same without its first folders.

    Examples
    --------
    >>> list(_tails("a/b/c"))
    ['a/b/c', 'b/c', 'c']
    """
    parts = PurePosixPath(path).parts
    return ("/".join(parts[i:]).replace("//", "/") for i in range(len(parts)))


def _rows(path: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    """The header, then the rows of a file, each with the words for its place."""
    if path.suffix.lower() in NOT_READ:
        raise UserError(f"{path}: {path.suffix} is not read; give a CSV or Parquet file")
    try:
        yield from (_parquet_rows if path.suffix.lower() in PARQUET else _csv_rows)(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _csv_rows(path: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    with open_regular(path, encoding="utf-8-sig", newline="") as file:
        try:
            head, second = file.readline(), file.readline()
            file.seek(0)
            reader = csv.reader(
                file,
                delimiter=";" if head.count(";") > head.count(",") else ",",
                quotechar="'" if head.startswith("'") or second.startswith("'") else '"',
                strict=True,
            )
            if not head.strip():
                raise UserError(f"{path}: line 1 is empty; a header is expected")
            for row in reader:
                if row:
                    yield f"line {reader.line_num}", row
        except UnicodeDecodeError:
            raise UserError(
                f"{path}: not UTF-8 text; convert it (iconv -f latin1 -t utf-8), or give Parquet"
            ) from None
        except csv.Error as error:
            raise UserError(f"{path}: line {reader.line_num}: {error}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    require_parquet(path)
    try:
        with open_regular(path, "rb") as file:
            table = pd.read_parquet(file, engine="pyarrow")
    except ValueError as error:
        raise UserError(f"{path}: no Parquet file ({str(error).splitlines()[0]})") from None
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    yield "header", list(table.columns)
    for number, row in enumerate(table.itertuples(index=False, name=None), start=1):
        yield f"row {number}", row


def require_parquet(path: Path) -> None:
    """Say how to get what Parquet needs, where it is not there.

    Raises
    ------
    UserError
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            f"{path}: Parquet needs the package pyarrow, which is not installed: run make with "
            f"EXTRAS=demo,opensmile,parquet,dev, or pip install pyarrow; .csv needs nothing more"
        )
