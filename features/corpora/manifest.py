"""A corpus of the user's own: one CSV with a row an utterance.

Column `path` (relative to the root, or absolute) and any of utterance, start, end (seconds),
speaker, gender, language, session, sentence, partition. Every further column is a continuous target
where all that stands in it is numbers, else a label set whose classes are its sorted values. The
recipe's options say otherwise: `labels = ["mood"]` or `labels.mood = ["calm", "tense"]` (an order),
`targets = ["arousal"]`; `file` names the CSV, `manifest.csv` by default. The CSV defines the set: a
row whose audio is missing stays, and extraction will say that it failed. A path is looked up as it
is written and in the other Unicode form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from features.common.errors import CorpusError, nearest
from features.common.findings import finding, some
from features.common.text import clean
from features.common.walk import Lookup, existing
from features.common.words import counted
from features.corpora.base import Corpus, Reading, make_ids, number, read_rows, segment_id
from features.utterances import COLUMNS, CONTENT, TIMES

OPTIONS = ("file", "labels", "targets")
# Columns of the table that no manifest may give: they are found out, not told.
NOT_READ = ("corpus", "seconds", *CONTENT)
N_FAULTS = 10


def read_manifest(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read a manifest.

    Options: `file` (manifest.csv), `labels` and `targets` (columns, or column -> classes).

    Raises
    ------
    CorpusError
        If an option names no column, or rows have faults; all of them are listed by line.
    """
    path = existing(root / _option(options, "file", str, "manifest.csv"))
    header, rows = read_rows(path)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or "path" not in header:
        what = f"the column {twice[0]} stands twice" if twice else "no column 'path'"
        raise CorpusError(f"{path}: {what}; it has {', '.join(header)}")
    given = dict(zip(header, ([row[n] for row in rows] for n in range(len(header))), strict=True))
    labels, targets = _columns(path, given, options)

    columns = _numbers(path, given, targets)
    for name in (*COLUMNS, *labels):
        if name in given and name not in (*NOT_READ, *TIMES):
            columns[name] = given[name]
    times = zip(columns["start"], columns["end"], strict=True)
    made = [
        name + segment_id(start, end)
        for name, (start, end) in zip(make_ids(given["path"]), times, strict=True)
    ]
    own = given.get("utterance", [""] * len(rows))
    columns["utterance"] = [mine or ours for mine, ours in zip(own, made, strict=True)]
    look_up = Lookup(root)
    there = {file: look_up.file(file) for file in dict.fromkeys(given["path"])}
    columns["path"] = [there[file] or file for file in given["path"]]
    findings = [
        *finding(
            "labels-without-audio",
            [file for file, found in there.items() if found is None],
            "files are not there; their rows stay in the table",
            "file is not there; its row stays in the table",
        ),
        *finding(
            "columns-ignored",
            [name for name in NOT_READ if name in header],
            "columns are found out, not read",
            "column is found out, not read",
        ),
    ]
    return Reading(pd.DataFrame(columns), findings, labels, targets)


def _numbers(
    path: Path, given: Mapping[str, list[str]], targets: Sequence[str]
) -> dict[str, list[Any]]:
    """Start, end and targets of each row as numbers; all rows with faults are named."""
    faults: dict[int, list[str]] = {}
    columns: dict[str, list[Any]] = {}
    for name in ("start", "end", *targets):
        texts = given.get(name, [""] * len(given["path"]))
        columns[name] = [_finite(text, name, faults, n) for n, text in enumerate(texts)]
    for n, (start, end) in enumerate(zip(columns["start"], columns["end"], strict=True)):
        if start < 0 or end < 0:
            faults.setdefault(n, []).append(f"start {start:g}, end {end:g}: negative")
        elif end <= (0 if math.isnan(start) else start):
            faults.setdefault(n, []).append(f"end {end:g} is not after start {start:g}")
        if not given["path"][n]:
            faults.setdefault(n, []).append("no path")
    if faults:
        lines = [f"row {n + 1}: {', '.join(faults[n])}" for n in sorted(faults)]
        raise CorpusError(
            f"{path}: {counted(len(faults), 'row has', 'rows have')} faults (rows counted without "
            f"the header): {some(lines, N_FAULTS)}"
        )
    return columns


def _option(options: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = options.get(name, default)
    if not isinstance(value, kind):
        raise CorpusError(f"option {name} = {value!r}: expected {kind.__name__}")
    return value


def _columns(
    path: Path, given: Mapping[str, list[str]], options: Mapping[str, Any]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Tell label sets (with their classes) from targets; options first, then what stands there."""
    asked = options.get("labels", [])
    targets = options.get("targets", [])
    if isinstance(asked, Mapping):
        shapes_right = all(_is_names(classes) and classes for classes in asked.values())
    else:
        shapes_right = _is_names(asked)
    if not shapes_right or not _is_names(targets):
        raise CorpusError(
            f"{path}: options labels = {asked!r}, targets = {targets!r}: expected a list of "
            "columns, or for labels a table of column = [classes]"
        )
    further = [name for name in given if name not in (*COLUMNS, *CONTENT)]
    faults = [f"{n!r} is none{nearest(n, further)}" for n in (*asked, *targets) if n not in further]
    faults += [f"{name!r} is both a label set and a target" for name in targets if name in asked]
    if faults:
        raise CorpusError(
            f"{path}: options labels and targets name further columns of the file "
            f"({', '.join(further) or 'it has none'}): {'; '.join(faults)}"
        )
    labels = {name: tuple(asked[name]) for name in asked} if isinstance(asked, Mapping) else {}
    found = list(targets)
    for name in further:
        if name in labels or name in targets:
            continue
        if name not in asked and _all_numbers(given[name]):
            found.append(name)
        else:
            labels[name] = tuple(sorted({clean(text) for text in set(given[name])} - {""}))
    return labels, tuple(found)


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _all_numbers(texts: list[str]) -> bool:
    """Tell whether a column holds numbers only, masked ones aside, and at least one."""
    try:
        return not all([math.isnan(number(text)) for text in texts])
    except ValueError:
        return False


def _finite(text: str, name: str, faults: dict[int, list[str]], row: int) -> float:
    """Parse a number; what is none, or infinite, is a fault of its row. Masked is NaN."""
    try:
        value = number(text)
        if math.isinf(value) or (name in TIMES and text and math.isnan(value)):
            raise ValueError
    except ValueError:
        faults.setdefault(row, []).append(f"{name} is {text!r}, no number")
        return math.nan
    return value


MANIFEST = Corpus(
    key="manifest",
    title="a corpus of your own, listed in a CSV",
    labels={},
    languages=(),
    licence="",
    homepage="",
    citation="",
    source="",
    tree="verified",
    layout="manifest.csv with a column path, and the audio",
    expected={},
    published=False,
    read=read_manifest,
    options=OPTIONS,
)
