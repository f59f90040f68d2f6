"""The utterance table: one row an utterance, whatever corpus it comes from.

Rows are sorted by (corpus, utterance), which is their key. Text is plain `str` and empty where
nothing is known: ids, speakers and sessions are never numbers (`03` stays `03`) and never missing
(`NA` is a name). `start`, `end` and `seconds` are float64 seconds, NaN for a whole file or where
nobody has looked yet. Continuous targets are float64, NaN where the truth is masked. `path` is
relative to the corpus root, or absolute where a manifest says so.

Four columns say what is heard, for programs: `audio_hash` as FORMAT.md has it, `file_hash` of the
file's bytes alone (BLAKE2b-128), `samples_hash` of the row's decoded samples (`silent` where all
are the same) and `recording_hash` of those of the whole file: equal in any container that keeps
them. They are empty where nobody has looked.

On disk a table is `utterances.csv` with `utterances.json` beside it (class lists, targets, the
corpus's record and what was found when it was read). Numbers read back to the same float64.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import CorpusError
from features.common.files import (
    IrregularFileError,
    parse_json,
    read_bytes,
    read_csv,
    read_text,
    write_text,
)
from features.common.findings import Finding, finding, some
from features.common.text import clean, merged
from features.common.words import counted

KEY = ("corpus", "utterance")
COLUMNS = (
    *KEY, "path", "start", "end", "seconds",
    "speaker", "gender", "language", "session", "sentence", "partition",
)  # fmt: skip
TIMES = ("start", "end", "seconds")
AUDIO_HASH = "audio_hash"
FILE_HASH, SAMPLES_HASH, RECORDING_HASH = "file_hash", "samples_hash", "recording_hash"
CONTENT = (AUDIO_HASH, FILE_HASH, SAMPLES_HASH, RECORDING_HASH)
"""What `features.survey` finds in the audio; empty where nobody has looked yet."""
SILENT = "silent"
"""The `samples_hash` of a row whose samples are all the same, which tells no recordings apart."""
# What may change without another label, split or prediction: where a file lies, and its bytes.
INCIDENTAL = ("path", "seconds", *CONTENT)


def unmatched(rows: Iterable[str], files: Iterable[str]) -> list[Finding]:
    """The findings of a corpus that its label file defines: rows without audio, and the reverse.

    Parameters
    ----------
    rows : iterable of str
        Names of labels without audio.
    files : iterable of str
        Audio without a label.

    Returns
    -------
    list of Finding
        `labels-without-audio` and `audio-without-labels`, where there are any.
    """
    return [
        *finding(
            "labels-without-audio",
            rows,
            "label rows without audio stay in the table",
            "label row without audio stays in the table",
        ),
        *finding(
            "audio-without-labels",
            files,
            "audio files without a label row are left out",
            "audio file without a label row is left out",
        ),
    ]


SPELLINGS, SILENT_AUDIO = "spellings", "silent-audio"


def make_clean(columns: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], list[Finding]]:
    """Bring the texts of columns into the one form, and tell which of them became one.

    Parameters
    ----------
    columns : mapping
        Column -> text of each row.

    Returns
    -------
    dict
        The same columns.
    list of Finding
        Values that had more than one form.
    """
    found, folded = {}, []
    for name, texts in columns.items():
        form = {text: clean(text) for text in set(texts)}
        folded += merged(name, texts) if len(set(form.values())) < len(form) else []
        found[name] = [form[text] for text in texts]
    return found, finding(
        SPELLINGS,
        folded,
        "names stood in several spellings (accents, blanks, invisible characters) and are one each",
        "name stood in several spellings (accents, blanks, invisible characters) and is one",
    )


@dataclass
class Table:
    """The utterances of one corpus and what is known about the corpus.

    Attributes
    ----------
    rows : pandas.DataFrame
        `COLUMNS`, then the label sets (text), the targets (float64) and `CONTENT`.
    labels : dict
        Label set -> ordered class list.
    targets : tuple of str
        The continuous targets.
    findings : list of Finding
        What was odd when the corpus was read.
    corpus : dict
        The corpus's record, JSON-able: key, reader, title, licence, expected counts, ...
    """

    rows: pd.DataFrame
    labels: dict[str, tuple[str, ...]]
    targets: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    corpus: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """All columns in their order."""
        return columns_of(self.labels, self.targets)


def key_order(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Positions of rows in the order of their key, shape (n,)."""
    return np.lexsort((rows["utterance"].to_numpy(str), rows["corpus"].to_numpy(str)))


def columns_of(labels: Iterable[str], targets: Iterable[str]) -> list[str]:
    """List the columns of a table with these label sets and targets."""
    return [*COLUMNS, *labels, *targets, *CONTENT]


def write_table(folder: Path, table: Table) -> None:
    """Write `utterances.csv` and `utterances.json`; files that would not change are left alone.

    Each file is written under a temporary name, synced and renamed, so that a reader never sees
    half of one.

    Parameters
    ----------
    folder : Path
        `STORES/<corpus>`; it is made.
    table : Table
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "labels": table.labels,
        "targets": table.targets,
        "findings": [asdict(finding) for finding in table.findings],
        "corpus": table.corpus,
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(zip(*(_as_text(table.rows[name]) for name in table.columns), strict=True))
    about_text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    for name, content in (("utterances.json", about_text), ("utterances.csv", text.getvalue())):
        path = folder / name
        if not path.is_file() or read_bytes(path) != content.encode():
            write_text(path, content)


def read_table(folder: Path) -> Table:
    """Read what `write_table` wrote.

    Parameters
    ----------
    folder : Path
        `STORES/<corpus>`.

    Returns
    -------
    Table

    Raises
    ------
    CorpusError
        If a file is missing or damaged, or the two do not belong together.
    """
    rows, about = Path(folder) / "utterances.csv", Path(folder) / "utterances.json"
    way_out = "write it anew with `make extract` or `python -m features table`"
    for path in (rows, about):
        if path.is_dir():
            raise CorpusError(f"{path}: is a folder: remove it or put the file there")
        if not path.exists():
            raise CorpusError(f"{path}: no utterance table there; {way_out}")
    try:
        info = parse_json(read_text(about))
        labels = {
            name: tuple(dict.fromkeys(map(clean, classes)))
            for name, classes in info["labels"].items()
        }
        targets = tuple(info["targets"])
        findings = [
            Finding(finding["kind"], finding["count"], tuple(finding["examples"]), finding["text"])
            for finding in info["findings"]
        ]
        corpus = info["corpus"]
    except OSError as error:
        raise CorpusError(_unread(about, error)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{about}: not readable ({error!r}); {way_out}") from None
    try:
        table = read_csv(rows)
        wanted = columns_of(labels, targets)
        # Tables of before the other three hashes end with that of the audio.
        if list(table.columns) == wanted[: 1 - len(CONTENT)]:
            table = table.assign(**dict.fromkeys(CONTENT[1:], ""))
        if list(table.columns) != wanted:
            raise ValueError(f"its columns are not those that {about.name} describes")
        for name in (*TIMES, *targets):
            table[name] = _floats(table[name])
        # Of older versions, or by hand: ids stay, stores know them.
        names = [name for name in (*COLUMNS, *labels) if name not in (*KEY, "path", *TIMES)]
        texts, folded = make_clean({name: table[name].tolist() for name in names})
        for name in names:
            table[name] = pd.Series(texts[name], dtype=str)
    except OSError as error:
        raise CorpusError(_unread(rows, error)) from None
    except ValueError as error:
        raise CorpusError(f"{rows}: {error}; {way_out}") from None
    return Table(table, labels, targets, findings + folded, corpus)


def _unread(path: Path, error: OSError) -> str:
    """Say why a file that is there is not read; writing it anew may not be the way out."""
    if isinstance(error, IrregularFileError):
        return str(error)
    return f"{path}: cannot be read: {error.strerror or error}"


def table_hash(table: Table, columns: Sequence[str] | None = None) -> str:
    """Hash what a head can learn from: all columns but `INCIDENTAL`.

    Parameters
    ----------
    table : Table
        The order of its rows does not matter.
    columns : sequence of str, optional
        Hash these columns (and the key) alone.

    Returns
    -------
    str
        BLAKE2b-128 in hex.
    """
    if columns is None:
        columns = [name for name in table.columns if name not in INCIDENTAL]
    names = [*KEY, *sorted(set(columns) - set(KEY))]
    head = [names, {name: table.labels[name] for name in names if name in table.labels}]
    rows = sorted(zip(*(_as_text(table.rows[name]) for name in names), strict=True))
    digest = hashlib.blake2b(digest_size=16)
    for part in (head, *rows):
        digest.update(json.dumps(part, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def differences(old: Table, new: Table) -> list[str]:
    """Say in which rows and labels two tables differ, one line a kind of difference.

    `INCIDENTAL` columns do not count, as in `table_hash`.

    Parameters
    ----------
    old, new : Table

    Returns
    -------
    list of str
        Empty where the tables are equal. Each line names the first few utterances.
    """
    lines = []
    for name in sorted(old.labels.keys() | new.labels.keys()):
        before, after = old.labels.get(name), new.labels.get(name)
        if before != after:
            lines.append(f"label set {name}: {_classes(before)} became {_classes(after)}")
    if old.targets != new.targets:
        lines.append(f"targets: {_classes(old.targets)} became {_classes(new.targets)}")
    # A dict and no join of tables: text stays text, and NaN equals NaN.
    names = [n for n in old.columns if n in set(new.columns) and n not in INCIDENTAL]
    was, now = _by_key(old.rows, names), _by_key(new.rows, names)
    for kind, keys in (("gone", was.keys() - now.keys()), ("new", now.keys() - was.keys())):
        if keys:
            named = some(["/".join(key) for key in sorted(keys)])
            lines.append(f"{counted(len(keys), 'row')} {kind}: {named}")
    both = sorted(was.keys() & now.keys())
    for column, name in enumerate(names):
        changed = [
            f"{'/'.join(key)} ({was[key][column] or 'empty'} became {now[key][column] or 'empty'})"
            for key in both
            if was[key][column] != now[key][column]
        ]
        if changed:
            lines.append(f"{name} differs in {counted(len(changed), 'row')}: {some(changed, 3)}")
    return lines


def _by_key(table: pd.DataFrame, names: Sequence[str]) -> dict[tuple[str, ...], tuple[str, ...]]:
    values = zip(*(_as_text(table[name]) for name in names), strict=True)
    keys = zip(*(_as_text(table[name]) for name in KEY), strict=True)
    return dict(zip(keys, values, strict=True))


def _classes(names: Sequence[str] | None) -> str:
    return "none" if not names else f"[{', '.join(names)}]"


def _as_text(column: pd.Series) -> list[str]:
    """Write floats so that they read back to the same float64, NaN as an empty text."""
    values = column.to_list()
    if column.dtype != np.float64:
        return values
    return ["" if value != value else repr(value) for value in values]


def _floats(column: pd.Series) -> np.ndarray:
    """Read texts as float64, shape (n,); empty is NaN."""
    try:
        return np.array([float(text) if text else np.nan for text in column], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"column {column.name}: {error}") from None
