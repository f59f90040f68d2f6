"""The ComParE layout of label files, audio and partitions.

`lab/{train,devel,test}.csv` (first column the file name, whatever its header, then the targets;
`?`, empty and NaN are masked) at the root or up to two folders below it (`data/lab`), and beside it
`wav/*.wav`, or else `raw/wav/*.wav`. The label files define the set: a row whose audio is missing
stays, and extraction will say that it failed. `lab/test.unmasked.csv`, where it is there, gives the
truth of the test rows. The public packages name no speakers; `lab/speakers.csv` (filename, speaker,
gender, language), where it is there, does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from features.common.errors import CorpusError
from features.common.findings import Finding, finding, some
from features.common.text import clean
from features.common.walk import find_place
from features.common.words import counted
from features.corpora.base import (
    Reading,
    find_audio,
    make_ids,
    match_audio,
    number,
    read_rows,
)
from features.utterances import unmatched

TARGETS = (
    "Anger",
    "Boredom",
    "Calmness",
    "Concentration",
    "Determination",
    "Excitement",
    "Interest",
    "Sadness",
    "Tiredness",
)
PARTITIONS = ("train", "devel", "test")
LAYOUT = "lab/{train,devel,test}.csv and wav/*.wav"
ABOUT_SPEAKERS = ("speaker", "gender", "language")


def read_compare(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read a corpus in the ComParE layout with the nine emotion shares.

    Raises
    ------
    CorpusError
        If there is no label file, one lacks a target or holds what is no number, or a file name
        stands twice.
    """
    base = find_place(root, lambda folder: (folder / "lab").is_dir())
    if base is None:
        raise CorpusError(f"{root}: no folder lab/ (nor data/lab/); {LAYOUT} are expected")
    audio = base / "wav"
    if not audio.is_dir() and (base / "raw/wav").is_dir():
        audio = base / "raw/wav"
    findings: list[Finding] = []
    parts = []
    for partition in PARTITIONS:
        path, unmasked = base / "lab" / f"{partition}.csv", base / "lab/test.unmasked.csv"
        if partition == "test" and unmasked.is_file():
            part = _labels(unmasked)
            if path.is_file():
                _same_files(path, unmasked, part)
            text = "test rows have their truth from lab/test.unmasked.csv"
            findings += finding("unmasked", part["name"].tolist(), text)
        elif path.is_file():
            part = _labels(path)
        else:
            findings += finding(
                "partition-missing",
                [path.name],
                "label files are not there",
                "label file is not there",
            )
            continue
        parts.append(part.assign(partition=partition))
    if not parts:
        raise CorpusError(f"{base / 'lab'}: no label file; {LAYOUT} are expected")
    table = pd.concat(parts, ignore_index=True)
    _refuse_repeated(table, base)
    findings += _find_files(table, root, audio)
    findings += _add_speakers(table, base / "lab/speakers.csv")
    table["utterance"] = make_ids(table["path"].tolist(), audio.relative_to(root).as_posix())
    return Reading(table.drop(columns="name"), findings)


def _labels(path: Path) -> pd.DataFrame:
    """Read one label file: `name` as in its first column, and the targets as float64."""
    header, rows = read_rows(path)
    places = {name.lower(): place for place, name in enumerate(header) if place}
    missing = [name for name in TARGETS if name.lower() not in places]
    if missing:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; it has {', '.join(header)}")
    faults: list[str] = []
    columns: dict[str, list[Any]] = {"name": [row[0] for row in rows]}
    for target in TARGETS:
        columns[target] = []
        for row in rows:
            text = row[places[target.lower()]]
            try:
                columns[target].append(number(text))
            except ValueError:
                faults.append(f"{target} of {row[0]} is {text!r}")
    if faults:
        values_are = counted(len(faults), "value is no number", "values are no numbers")
        raise CorpusError(f"{path}: {values_are} (nor masked as ?): {some(faults, 10)}")
    table = pd.DataFrame(columns)
    return table.astype({"name": str, **dict.fromkeys(TARGETS, float)})


def _same_files(masked: Path, unmasked: Path, part: pd.DataFrame) -> None:
    names = {clean(row[0]) for row in read_rows(masked)[1]}
    odd = sorted(names ^ set(part["name"].map(clean)))
    if odd:
        raise CorpusError(
            f"{masked} and {unmasked.name} differ in {counted(len(odd), 'file')}: {some(odd)}; "
            "both must name the same ones"
        )


def _refuse_repeated(table: pd.DataFrame, base: Path) -> None:
    names = table["name"].map(clean)
    again = table[names.duplicated(keep=False)]
    if len(again):
        where = {
            name: " and ".join(f"{p}.csv" for p in group["partition"])
            for name, group in again.groupby(names)
        }
        items = [f"{name} in {files}" for name, files in where.items()]
        raise CorpusError(
            f"{base / 'lab'}: {counted(len(items), 'file stands', 'files stand')} in the labels "
            "more than once: "
            f"{some(items)}; each belongs in one partition"
        )


def _find_files(table: pd.DataFrame, root: Path, folder: Path) -> list[Finding]:
    """Add `path`; a row whose audio is not there gets the one that it should have."""
    prefix = folder.relative_to(root).as_posix()
    names = table["name"].tolist()
    paths, passed = find_audio(root, folder)
    found, spare = match_audio(names, paths, prefix)
    both = list(zip(names, found, strict=True))
    table["path"] = [path or f"{prefix}/{name}" for name, path in both]
    lost = [name for name, path in both if path is None]
    return [*passed, *unmatched(lost, spare)]


def _add_speakers(table: pd.DataFrame, path: Path) -> list[Finding]:
    if not path.is_file():
        return []
    header, rows = read_rows(path)
    wanted = ("filename", *ABOUT_SPEAKERS)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; it has {', '.join(header)}")
    places = [header.index(name) for name in wanted]
    known = {clean(row[places[0]]): [row[place] for place in places[1:]] for row in rows}
    names = table["name"].map(clean).tolist()
    for column, name in enumerate(ABOUT_SPEAKERS):
        table[name] = [known[file][column] if file in known else "" for file in names]
    lost = [name for name in names if name not in known]
    return finding(
        "speakers-missing",
        lost,
        f"label rows are not in {path.name}",
        f"label row is not in {path.name}",
    )


def counts(partitions: Sequence[int], **others: int) -> dict[str, int]:
    """Name the expected counts of train, devel and test, and of their sum.

    Examples
    --------
    >>> counts([3, 2, 1])
    {'utterances': 6, 'partition=train': 3, 'partition=devel': 2, 'partition=test': 1}
    """
    parts = zip(PARTITIONS, partitions, strict=True)
    return {"utterances": sum(partitions), **others, **{f"partition={p}": n for p, n in parts}}
