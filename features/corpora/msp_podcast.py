"""MSP-Podcast, in the layout of releases 1.6 to 2.0.

`Labels/labels_consensus.csv` (`labels_concensus.csv` in older releases; or the same as `.json`) and
`Audios/*.wav`. The label file defines the set: FileName, EmoClass (a letter), EmoAct, EmoVal and
EmoDom (1 to 7), SpkrID, Gender, Split_Set. Speakers and genders that are `Unknown` stay empty, and
so do labels without agreement (X). `session` is the podcast, the first number of a file's name.

The official partitions are Train, Validation or Development, and up to three test sets. A table has
one partition `test`: the option `test` (`["Test1"]` by default) says which sets it is; rows of the
others are left out and counted. `Partitions.txt`, where it is there, gives the partition of files
that the labels do not name (Test3, whose labels are kept back): they stand in the table unlabelled
where `test` names their set.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from features.common.errors import CorpusError
from features.common.files import read_text
from features.common.findings import Finding, finding, some
from features.common.text import clean
from features.common.walk import find_place
from features.common.words import counted
from features.corpora.base import (
    Corpus,
    Reading,
    find_audio,
    make_ids,
    match_audio,
    number,
    read_rows,
)
from features.utterances import unmatched

CLASSES = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
}
NO_AGREEMENT = "X"
TARGETS = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
SPLITS = {"train": "train", "validation": "devel", "development": "devel"}
FILES = tuple(f"labels_con{letter}ensus.{kind}" for kind in ("csv", "json") for letter in "sc")
LABEL_FOLDERS = ("Labels", "labels", "label", ".")
AUDIO_FOLDERS = ("Audios", "Audio", "audios", "audio")
PARTITIONS = ("Partitions.txt", "Partition.txt")
TEST = ("Test1",)
PODCAST = re.compile(r"MSP-PODCAST_(\d{4})_.*")


def read_msp_podcast(root: Path, options: Mapping[str, Any]) -> Reading:
    """Read MSP-Podcast from its consensus labels.

    The option `test` names the test sets that become the partition `test`.

    Raises
    ------
    CorpusError
        If there is no label file, it lacks a column, values are no numbers, or a file stands twice.
    """
    wanted = _wanted(root, options)
    base = find_place(root, lambda place: _label_file(place) is not None)
    path = base and _label_file(base)
    if base is None or path is None:
        raise CorpusError(
            f"{root}: no {' or '.join(FILES)} below it; msp-podcast is expected to hold "
            f"{MSP_PODCAST.layout}"
        )
    labels = _labels(path)
    splits = _partitions(base)
    for name in splits:
        labels.setdefault(name, {})
    folder = next((base / name for name in AUDIO_FOLDERS if (base / name).is_dir()), base)
    prefix = folder.relative_to(root).as_posix()
    paths, passed = find_audio(root, folder)
    found, spare = match_audio(list(labels), paths, prefix)
    kept: dict[str, dict[str, Any]] = {}
    left: dict[str, list[str]] = defaultdict(list)
    lost = []
    known = {**SPLITS, **{name.lower(): "test" for name in wanted}}
    for (name, row), audio in zip(labels.items(), found, strict=True):
        split = row.get("split_set") or splits.get(name, "")
        if split.lower() not in known:
            left[split].append(name)
            continue
        if audio is None:
            lost.append(name)
        place = audio or (PurePosixPath(prefix) / name).as_posix()
        kept[name] = _row(name, row, place, known[split.lower()])
    if not kept:
        there = [f"{split or '(none)'} ({len(names)})" for split, names in left.items()]
        raise CorpusError(
            f"{path}: no row is of a partition that is asked for; there are {some(there)}"
        )
    table = pd.DataFrame(list(kept.values()))
    table["utterance"] = make_ids(table["path"].tolist(), prefix)
    without = [name for name in kept if _letter(labels[name]) in ("", NO_AGREEMENT)]
    findings = [*passed, *unmatched(lost, spare), *_findings(path, without, left)]
    return Reading(table, findings)


def _wanted(root: Path, options: Mapping[str, Any]) -> Sequence[str]:
    """The test sets that the option `test` names."""
    wanted = options.get("test", TEST)
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, list | tuple) or not all(isinstance(name, str) for name in wanted):
        raise CorpusError(f"{root}: option test = {wanted!r}: expected a list, as ['Test1']")
    return wanted


def _letter(row: Mapping[str, Any]) -> str:
    return str(row.get("emoclass", "")).upper()


def _row(name: str, row: Mapping[str, Any], path: str, partition: str) -> dict[str, Any]:
    """A row of the table from one of the labels."""
    letter = _letter(row)
    podcast = PODCAST.fullmatch(PurePosixPath(name).stem)
    return {
        "path": path,
        "speaker": _known(row.get("spkrid", "")),
        "gender": _known(row.get("gender", "")).lower(),
        "language": "en",
        "session": podcast[1] if podcast else "",
        "partition": partition,
        "emotion": "" if letter == NO_AGREEMENT else CLASSES.get(letter, letter),
        **{target: row.get(column.lower(), math.nan) for column, target in TARGETS.items()},
    }


def _findings(
    path: Path, without: Sequence[str], left: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Rows without a class, rows of no partition that is asked for, and what nobody has checked."""
    findings = [
        *finding(
            "no-agreement",
            without,
            "rows have no class (no agreement, or labels kept back)",
            "row has no class (no agreement, or labels kept back)",
        ),
        *finding(
            "tree-unverified",
            [path.name],
            "label file is read as public code reads it, not compared with the published ones",
        ),
    ]
    for split, names in sorted(left.items()):
        of = f"of {split or 'no partition'}"
        why = "left out (the option test names test sets)"
        findings += finding(
            "partition-left-out", names, f"rows {of} are {why}", f"row {of} is {why}"
        )
    return findings


def _label_file(place: Path) -> Path | None:
    paths = (place / folder / name for name in FILES for folder in LABEL_FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def _labels(path: Path) -> dict[str, dict[str, Any]]:
    """Read the consensus labels: file name -> lower-case column -> text, or number of a target."""
    if path.suffix == ".json":
        try:
            data = json.loads(read_text(path))
            pairs = [
                (name, {key: "" if text is None else str(text) for key, text in row.items()})
                for name, row in data.items()
            ]
        except (OSError, ValueError, AttributeError) as error:
            raise CorpusError(
                f"{path}: not readable as labels, an object of file name -> columns: {error}"
            ) from None
    else:
        header, lines = read_rows(path)
        pairs = [(line[0], dict(zip(header[1:], line[1:], strict=True))) for line in lines]
    rows: dict[str, dict[str, Any]] = {}
    faults, again = [], []
    for name, row in pairs:
        name = clean(name)
        row = {clean(key).lower(): clean(text) for key, text in row.items()}
        lacking = [column for column in ("EmoClass", *TARGETS) if column.lower() not in row]
        if lacking:
            raise CorpusError(f"{path}: {name}: no column {', '.join(lacking)}; it has "
                              f"{', '.join(row)}")  # fmt: skip
        if name in rows:
            again.append(name)
        values: dict[str, Any] = dict(row)
        for column in map(str.lower, TARGETS):
            try:
                values[column] = number(row[column])
            except ValueError:
                faults.append(f"{column} of {name} is {row[column]!r}")
        rows[name] = values
    if faults or again:
        text = counted(len(faults), "value is no number", "values are no numbers")
        text += f": {some(faults, 10)}"
        twice = f"{counted(len(again), 'file stands', 'files stand')} more than once: {some(again)}"
        raise CorpusError(f"{path}: {text if faults else twice}")
    return rows


def _partitions(base: Path) -> dict[str, str]:
    """Read `Partitions.txt`, lines `<set>; <file>`: file name -> set; empty where there is none."""
    path = next((base / name for name in PARTITIONS if (base / name).is_file()), None)
    if path is None:
        return {}
    splits, faults = {}, []
    for place, line in enumerate(read_text(path, "utf-8-sig").splitlines(), 1):
        split, separator, name = (part.strip() for part in line.partition(";"))
        if separator and name:
            splits[clean(name)] = clean(split)
        elif line.strip():
            faults.append(f"line {place} ({line.strip()[:40]!r})")
    if faults:
        lines_are = counted(len(faults), "line is", "lines are")
        raise CorpusError(f"{path}: {lines_are} not '<set>; <file>': {some(faults)}")
    return splits


def _known(text: str) -> str:
    return "" if text.lower() in ("unknown", "nan") else text


MSP_PODCAST = Corpus(
    key="msp-podcast",
    title="MSP-Podcast corpus",
    labels={"emotion": tuple(CLASSES.values())},
    targets=tuple(TARGETS.values()),
    languages=("en",),
    licence="on request from the authors, academic or commercial",
    homepage="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
    citation="Lotfian, Busso (2019), Building Naturalistic Emotionally Balanced Speech Corpus by "
    "Retrieving Emotional Speech From Existing Podcast Recordings, IEEE Transactions on Affective "
    "Computing 10(4), pp. 471-483",
    source="columns, letters and partitions as several public projects read releases 1.6 to 2.0; "
    "releases differ in size, so no count is expected",
    tree="unverified",
    layout="Labels/labels_consensus.csv (or labels_concensus.csv, or .json) and Audios/*.wav",
    expected={},
    published=False,
    read=read_msp_podcast,
    options=("test",),
    label_maps={
        "four-class": {name: name for name in ("angry", "happy", "neutral", "sad")},
        "emobox": {name: name for name in CLASSES.values()},
    },
)
