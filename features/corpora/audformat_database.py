"""A database in audformat: a folder with `db.yaml`, its tables, and the media files they name.

Databases that `audb` publishes are such folders once they are on disk:
`audb.load_to("data/emodb", "emodb", version="1.4.1")`. The reader needs the package audformat.

- Rows are those of the `table` (or of several, united): files, or segments of files. Without that
  option it is the one table that has the asked columns; of several, the error lists them.
- Every column of it can be asked for: `labels = ["emotion"]` (or `labels.emotion = [classes]`),
  `targets = ["arousal"]`. Else its columns with listed labels, or with truth values, are label
  sets, and its columns of numbers are targets. Classes come in the order of the scheme.
- `partition` is the type of the table's split (`dev` is devel here), or what the option
  `partitions = {train = "<table>", devel = "<table>", test = "<table>"}` says.
- Columns `speaker`, `gender` (or `sex`), `language`, `session` and `sentence` are looked up in the
  rows' own table first, then in all others; an option of that name, as `speaker = "spk"`, names
  another column. What labels of the speaker's scheme tell of gender and language is taken, too;
  else the database's language, where it has one.

Tables are read as CSV or Parquet. Their pickled copies (`.pkl`) are never opened, and nothing is
written to the folder.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from features.common.errors import CorpusError, nearest
from features.common.files import read_text
from features.common.findings import Finding, finding, some
from features.common.text import clean, nfc, told_apart
from features.common.walk import Lookup, find_place
from features.common.words import counted
from features.corpora.base import Corpus, Reading, make_ids, segment_id
from features.utterances import COLUMNS

HEADER = "db.yaml"
KINDS = ("csv", "parquet")
ABOUT = {
    "speaker": ("speaker",),
    "gender": ("gender", "sex"),
    "language": ("language",),
    "session": ("session",),
    "sentence": ("sentence",),
}
SPLITS = {"train": "train", "dev": "devel", "test": "test"}
TRUTH = ("false", "true")
NUMBERS = ("float", "int")

Key = Hashable
Values = dict[Key, Any]


def read_audformat(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read a database by its header, `db.yaml`.

    Raises
    ------
    CorpusError
        If the package or the header is missing, a table cannot be read, or an option names no
        table or column.
    """
    base = find_place(root, lambda place: (place / HEADER).is_file())
    if base is None:
        raise CorpusError(f"{root}: no {HEADER}; audformat is expected to hold {AUDFORMAT.layout}")
    with _database(base) as db:
        return _read(root, base, _Tables(db, base), options)


@contextlib.contextmanager
def _database(base: Path) -> Iterator[Any]:
    """Load the header, and make the tables loadable, from a folder without pickles."""
    try:
        import audformat  # type: ignore[import-untyped]
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise CorpusError(
            f"{base}: reading it needs the package audformat, which is not installed; "
            "pip install audformat"
        ) from None
    try:
        # audformat's own loader would run what a header's tags ask for.
        header = yaml.safe_load(read_text(base / HEADER))
        tables = [*(header.get("misc_tables") or {}), *(header.get("tables") or {})]
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise CorpusError(f"{base / HEADER}: no header of a database: {_line(error)}") from None
    look_up = Lookup(base)
    files = {
        f"db.{name}.{kind}": look_up.file(f"db.{name}.{kind}") for name in tables for kind in KINDS
    }
    lost = [name for name in tables if not any(files[f"db.{name}.{kind}"] for kind in KINDS)]
    if lost:
        raise CorpusError(
            f"{base}: {len(lost)} tables are not there as .csv or .parquet: {some(lost)}; a .pkl "
            'is not read: save it with audformat, storage_format="csv"'
        )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / HEADER).symlink_to((base / HEADER).resolve())
        for name, file in files.items():
            if file:
                (Path(folder) / name).symlink_to((base / file).resolve())
        with _loading(base / HEADER):
            db = audformat.Database.load(folder)
        yield db


@contextlib.contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Report whatever audformat, yaml or pandas raise over a file."""
    try:
        with warnings.catch_warnings():
            # audformat calls pandas in ways that a later pandas will not take; that is its affair.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    except Exception as error:
        raise CorpusError(f"{path}: audformat cannot read it: {_line(error)}") from error


def _by_clean(base: Path, what: str, names: Iterable[str]) -> dict[str, str]:
    """Names in the clean form -> as the header has them."""
    names = list(names)
    found = {clean(name): name for name in names}
    if len(found) < len(names):
        twice = [name for name in names if name not in found.values()]
        raise CorpusError(
            f"{base / HEADER}: {what} with one name in two forms: {told_apart(twice)}"
        )
    return found


class _Tables:
    """The tables of a database as columns: row's key -> value.

    A key is the file, or (file, start in seconds, end in seconds) of a segment, NaN being None.
    Files are composed (NFC) and names of tables and columns clean, as options of a recipe are.
    """

    def __init__(self, db: Any, base: Path) -> None:
        self.db, self.base = db, base
        self._loaded_tables: dict[str, tuple[list[Key], pd.DataFrame]] = {}
        self._names = _by_clean(base, "tables", self.db.tables)
        self._columns = {
            name: _by_clean(base, f"columns of {own}", self.db.tables[own].columns)
            for name, own in self._names.items()
        }

    def names(self) -> list[str]:
        return list(self._names)

    def table(self, name: str) -> Any:
        return self.db.tables[self._names[name]]

    def keys(self, table: str) -> list[Key]:
        return self._loaded(table)[0]

    def columns(self, table: str) -> list[str]:
        return list(self._columns[table])

    def values(self, table: str, column: str) -> Values:
        keys, rows = self._loaded(table)
        return dict(zip(keys, rows[self._columns[table][column]].tolist(), strict=True))

    def scheme(self, table: str, column: str) -> Any:
        name = self.table(table).columns[self._columns[table][column]].scheme_id
        return None if name is None else self.db.schemes[name]

    def classes(self, scheme: Any) -> list[str] | None:
        """The scheme's labels as text, in their order; None where any value is allowed."""
        if scheme is None or (scheme.labels is None and scheme.dtype != "bool"):
            return None
        if scheme.labels is None:
            return list(TRUTH)
        return [_text(label) for label in self._label_list(scheme)]

    def told(self, scheme: Any, names: Sequence[str]) -> dict[str, str]:
        """What the labels of a scheme tell under the first of these names: label -> text."""
        if scheme is None or scheme.labels is None:
            return {}
        if scheme.uses_table:
            listed = self._misc(scheme.labels)
            rows: dict[Any, Any] = listed.set_axis(list(map(_text, listed.index))).to_dict("index")
        elif isinstance(scheme.labels, Mapping):
            rows = {_text(label): about for label, about in scheme.labels.items()}
        else:
            return {}
        return {
            clean(label): next((_text(about[name]) for name in names if name in about), "")
            for label, about in rows.items()
            if isinstance(about, Mapping)
        }

    def listed(self) -> str:
        return "; ".join(f"{name} ({', '.join(self.columns(name))})" for name in self.names())

    def _label_list(self, scheme: Any) -> list[Any]:
        if scheme.uses_table:
            return self._misc(scheme.labels).index.tolist()
        return list(scheme.labels)

    def _misc(self, table: str) -> pd.DataFrame:
        with _loading(self.base / f"db.{table}"):
            return self.db.misc_tables[table].get()

    def _loaded(self, table: str) -> tuple[list[Key], pd.DataFrame]:
        if table not in self._loaded_tables:
            with _loading(self.base / f"db.{self._names[table]}"):
                rows = self.table(table).get()
            if self.table(table).is_segmented:
                keys: list[Key] = [
                    (nfc(str(file)), _seconds(start), _seconds(end))
                    for file, start, end in rows.index
                ]
            else:
                keys = [nfc(str(file)) for file in rows.index]
            if len(set(keys)) < len(rows.index.unique()):
                raise CorpusError(
                    f"{self.base}: table {table} names files in both Unicode forms, composed and "
                    "decomposed; name each in one"
                )
            self._loaded_tables[table] = keys, rows
        return self._loaded_tables[table]


def _read(root: Path, base: Path, tables: _Tables, options: Mapping[str, Any]) -> Reading:
    asked_labels, asked_targets = _asked(base, options)
    partitions = _partitions(base, tables, options)
    asked = [*asked_labels, *asked_targets]
    chosen = _chosen(base, tables, options, partitions, asked)
    keys = list(dict.fromkeys(key for table in chosen for key in tables.keys(table)))
    there = list(dict.fromkeys(column for table in chosen for column in tables.columns(table)))
    _refuse_unknown(base, asked_labels, asked_targets, chosen, there)
    columns: dict[str, list[Any]] = {}
    labels: dict[str, tuple[str, ...]] = {}
    targets: list[str] = []
    about = {name: _about_names(options, name) for name in ABOUT}
    reserved = {*COLUMNS, *(name for names in about.values() for name in names)}
    for column in there:
        holding = [table for table in chosen if column in tables.columns(table)]
        scheme = tables.scheme(holding[0], column)
        kind = _kind(column, scheme, asked_labels, asked_targets, reserved)
        if kind is None:
            continue
        values = _united(tables, holding, column)
        if kind == "labels":
            columns[column] = [_text(values.get(key)) for key in keys]
            own = asked_labels.get(column) if isinstance(asked_labels, Mapping) else None
            classes = own or tables.classes(scheme) or sorted({*columns[column]} - {""})
            labels[column] = tuple(classes)
        else:
            columns[column] = [_number(base, column, key, values.get(key)) for key in keys]
            targets.append(column)
    if not labels and not targets:
        raise CorpusError(
            f"{base}: {', '.join(chosen)} has no column of labels or numbers; there are "
            f"{tables.listed()}; say which with the options table, labels, targets"
        )
    others = [table for table in tables.names() if table not in chosen]
    columns.update(_about(tables, [*chosen, *others], about, keys))
    columns["partition"] = _partition_of(tables, chosen, partitions, keys)
    places, findings = _places(root, base, keys)
    columns.update(places)
    return Reading(pd.DataFrame(columns), findings, labels, tuple(targets))


def _asked(base: Path, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The options `labels` (a list of columns, or column -> classes) and `targets`."""
    labels, targets = options.get("labels", []), options.get("targets", [])
    lists = list(labels.values()) if isinstance(labels, Mapping) else [labels]
    if not all(map(_is_names, [*lists, targets])):
        raise CorpusError(
            f"{base}: options labels = {labels!r}, targets = {targets!r}: expected a "
            "list of columns, or for labels a table of column = [classes]"
        )
    return labels, targets


def _refuse_unknown(
    base: Path, labels: Any, targets: Any, chosen: Sequence[str], there: Sequence[str]
) -> None:
    """Refuse columns of options that the chosen tables lack, that all have, or of both kinds."""
    asked = [*labels, *targets]
    faults = [f"{name!r} is none{nearest(name, there)}" for name in asked if name not in there]
    faults += [f"{name!r} is a column of every table" for name in asked if name in COLUMNS]
    faults += [f"{name!r} is both" for name in targets if name in labels]
    if faults:
        raise CorpusError(
            f"{base}: options labels and targets name columns of {', '.join(chosen)} "
            f"({', '.join(there)}): {'; '.join(faults)}"
        )


def _places(
    root: Path, base: Path, keys: Sequence[Key]
) -> tuple[dict[str, list[Any]], list[Finding]]:
    """Start, end, path and name of each row; files that are not there are a finding."""
    files = [key[0] if isinstance(key, tuple) else key for key in keys]
    times = [key[1:] if isinstance(key, tuple) else (None, None) for key in keys]
    if all(start in (None, 0.0) and end is None for start, end in times):
        times = [(None, None)] * len(keys)
    starts = [float("nan") if start is None else start for start, _ in times]
    ends = [float("nan") if end is None else end for _, end in times]
    paths = {file: _path(root, base, str(file)) for file in dict.fromkeys(files)}
    spans = zip(starts, ends, strict=True)
    named = zip(make_ids([str(file) for file in files]), spans, strict=True)
    look_up = Lookup(root)
    on_disk = {path: look_up.file(path) for path in dict.fromkeys(paths[file] for file in files)}
    lost = [path for path, found in on_disk.items() if found is None]
    columns: dict[str, list[Any]] = {
        "start": starts,
        "end": ends,
        "path": [on_disk[paths[file]] or paths[file] for file in files],
        "utterance": [name + segment_id(*span) for name, span in named],
    }
    return columns, finding(
        "labels-without-audio",
        lost,
        "files are not there; their rows stay in the table",
        "file is not there; its row stays in the table",
    )


def _partitions(
    base: Path, tables: _Tables, options: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """The option `partitions`: partition -> tables."""
    given = options.get("partitions", {})
    if not isinstance(given, Mapping) or not set(given) <= set(SPLITS.values()):
        raise CorpusError(
            f"{base}: option partitions = {given!r}: expected train, devel, test = a table each"
        )
    return {name: _table_names(base, tables, "partitions", value) for name, value in given.items()}


def _table_names(base: Path, tables: _Tables, option: str, value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not _is_names(names) or not names:
        raise CorpusError(f"{base}: option {option} = {value!r}: expected a table, or a list")
    odd = [f"{name!r} is none{nearest(name, tables.names())}" for name in names
           if name not in tables.names()]  # fmt: skip
    if odd:
        raise CorpusError(f"{base}: option {option}: {'; '.join(odd)}; there are {tables.listed()}")
    return tuple(names)


def _chosen(
    base: Path,
    tables: _Tables,
    options: Mapping[str, Any],
    partitions: Mapping[str, Sequence[str]],
    asked: Sequence[str],
) -> list[str]:
    """Say which tables hold the rows."""
    if "table" in options:
        chosen = list(_table_names(base, tables, "table", options["table"]))
    elif partitions:
        chosen = list(dict.fromkeys(table for names in partitions.values() for table in names))
    else:
        about = {name for names in ABOUT.values() for name in names}
        chosen = [
            table
            for table in tables.names()
            if (
                set(asked) <= set(tables.columns(table))
                if asked
                else any(
                    _kind(column, tables.scheme(table, column), (), (), about) is not None
                    for column in tables.columns(table)
                )
            )
        ]
        if len(chosen) != 1:
            which = f"have {', '.join(asked)}" if asked else "have labels or numbers"
            raise CorpusError(
                f"{base}: {len(chosen)} tables {which}; say which with the option table = ...; "
                f"there are {tables.listed()}"
            )
    if len({tables.table(name).is_segmented for name in chosen}) > 1:
        raise CorpusError(
            f"{base}: of the tables {', '.join(chosen)} some hold files and some segments; choose "
            "either kind with the option table"
        )
    return chosen


def _kind(
    column: str,
    scheme: Any,
    asked_labels: Any,
    asked_targets: Any,
    reserved: set[str],
) -> str | None:
    """Tell whether a column becomes `labels`, `targets` or nothing."""
    if column in asked_labels:
        return "labels"
    if column in asked_targets:
        return "targets"
    if column in reserved or scheme is None:
        return None
    if scheme.labels is not None or scheme.dtype == "bool":
        return "labels"
    return "targets" if scheme.dtype in NUMBERS else None


def _united(tables: _Tables, names: Sequence[str], column: str) -> Values:
    """A column over several tables; the first that has a value for a row gives it."""
    found: Values = {}
    for name in names:
        for key, value in tables.values(name, column).items():
            if found.get(key) is None or pd.isna(found[key]):
                found[key] = value
    return found


def _about_names(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    own = options.get(name)
    if own is None:
        return ABOUT[name]
    if not isinstance(own, str):
        raise CorpusError(f"option {name} = {own!r}: expected the name of a column")
    return (own,)


def _about(
    tables: _Tables, names: Sequence[str], about: Mapping[str, Sequence[str]], keys: Sequence[Key]
) -> dict[str, list[str]]:
    """Look up speaker, gender, language, session and sentence of each row."""
    found = {name: [""] * len(keys) for name in about}
    for name, columns in about.items():
        for table in names:
            for column in columns:
                if column in tables.columns(table):
                    _fill(found[name], _looked_up(tables, table, column, keys))
    for table in names:
        for column in about["speaker"]:
            if column not in tables.columns(table):
                continue
            scheme = tables.scheme(table, column)
            for name in ("gender", "language"):
                told = tables.told(scheme, ABOUT[name])
                _fill(found[name], [told.get(clean(name), "") for name in found["speaker"]])
    spoken = list(tables.db.languages)
    if len(spoken) == 1:
        _fill(found["language"], spoken * len(keys))
    found["language"] = [_language(code) for code in found["language"]]
    found["gender"] = [gender.lower() for gender in found["gender"]]
    return found


def _looked_up(tables: _Tables, table: str, column: str, keys: Sequence[Key]) -> list[str]:
    """Values of another table for these rows: of the same segment, or of the file."""
    values = tables.values(table, column)
    if tables.table(table).is_segmented:
        return [_text(values.get(key)) for key in keys]
    return [_text(values.get(key[0] if isinstance(key, tuple) else key)) for key in keys]


def _fill(known: list[str], more: Sequence[str]) -> None:
    known[:] = [mine or other for mine, other in zip(known, more, strict=True)]


def _partition_of(
    tables: _Tables,
    chosen: Sequence[str],
    partitions: Mapping[str, Sequence[str]],
    keys: Sequence[Key],
) -> list[str]:
    """The partition of each row; a row of two partitions is an error."""
    of: dict[str, str] = {table: name for name, names in partitions.items() for table in names}
    if not partitions:
        for table in chosen:
            split = tables.table(table).split_id
            if split is not None:
                of[table] = SPLITS.get(str(tables.db.splits[split].type), "")
    found: dict[Key, str] = {}
    twice = []
    for table, name in of.items():
        for key in tables.keys(table):
            if found.setdefault(key, name) != name:
                twice.append(f"{key} ({found[key]} and {name})")
    if twice:
        rows_are = counted(len(twice), "row is", "rows are")
        raise CorpusError(f"{tables.base}: {rows_are} in two partitions: {some(twice)}")
    return [found.get(key, "") for key in keys]


def _path(root: Path, base: Path, file: str) -> str:
    """A file relative to the root; absolute ones stay."""
    path = base / file
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _seconds(time: Any) -> float | None:
    return None if pd.isna(time) else time.total_seconds()


def _text(value: Any) -> str:
    """Write a value; a missing one is empty.

    Examples
    --------
    >>> [_text(value) for value in ("a", 3, True, None, float("nan"))]
    ['a', '3', 'true', '', '']
    """
    if value is None or pd.isna(value):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(base: Path, column: str, key: Key, value: Any) -> float:
    if value is None or pd.isna(value):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise CorpusError(f"{base}: {column} of {key} is {value!r}, no number") from None


def _language(code: str) -> str:
    """Write a language by its two letters, as the other corpora have it, where it has such."""
    if len(code) != 3:
        return code
    # Of audformat's own requirements, which names languages by three letters.
    from iso639 import Lang
    from iso639.exceptions import InvalidLanguageValue

    try:
        return Lang(code.lower()).pt1 or code
    except InvalidLanguageValue:
        return code


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


AUDFORMAT = Corpus(
    key="audformat",
    title="a database in audformat",
    labels={},
    languages=(),
    licence="",
    homepage="",
    citation="",
    source="",
    tree="verified",
    layout="db.yaml, its tables as .csv or .parquet, and the media files they name",
    expected={},
    published=False,
    read=read_audformat,
    options=("table", "labels", "targets", "partitions", *ABOUT),
)
