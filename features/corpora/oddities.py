"""What looks wrong in a table and may be right: names alike, lone classes, columns nearly known.

Conventions
-----------
- Nothing here changes a table or stops the work: these are findings, told when a corpus is read
  (`features table`, `extract`) and again when heads are trained, from the table alone.
- Names are alike where case, blanks or what cannot be seen is all that tells them apart
  (`features.common.text.alike`). What enters is clean already; tables of older versions need not
  be.
- A class of one row cannot be learned and tested; nor can one of a single speaker where held-out
  speakers are tested.
- A speaker of two genders is odd; one of two languages is not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from features.common.findings import Finding, finding
from features.common.text import alike, one_letter_apart, told_apart
from features.common.words import counted
from features.utterances import COLUMNS, SILENT_AUDIO, SPELLINGS

NAMES = ("speaker", "gender", "language", "session", "sentence", "partition")
"""Columns whose values are compared with each other, beside the label sets."""


COMMON = ("emotion", "arousal", "valence", "dominance", "activation")
"""Label sets and targets that many corpora have."""
ODD = (
    *(SPELLINGS, SILENT_AUDIO, "columns-near", "names-alike", "class-rare", "rows-unlabelled"),
    "speaker-genders",
)
"""The kinds of findings that are told whole, and again whenever rows are used."""
OWN_READERS = ("manifest", "audformat")
"""Of corpora that only the user knows: all others say themselves which rows have no label."""


def oddities(table: pd.DataFrame, labels: Collection[str], reader: str) -> list[Finding]:
    """Find what is odd in the rows of one corpus.

    Parameters
    ----------
    table : DataFrame
        Rows of a table.
    labels : collection of str
        The label sets that are looked at.
    reader : str
        Key of the record that read the corpus.

    Returns
    -------
    list of Finding
        `names-alike`, `class-rare`, `rows-unlabelled` and `speaker-genders`.
    """
    own = labels if reader in OWN_READERS else ()
    return [
        *_alike(table, [*NAMES, *labels]),
        *(found for name in labels for found in _rare(table, name)),
        *(found for name in own for found in _unlabelled(table, name)),
        *_genders(table),
    ]


def _alike(table: pd.DataFrame, columns: Sequence[str]) -> list[Finding]:
    items = []
    for column in columns:
        counts = Counter(table[column].tolist())
        groups: dict[str, list[str]] = defaultdict(list)
        for name in sorted(set(counts) - {""}):
            groups[alike(name)].append(name)
        for names in groups.values():
            if len(names) > 1:
                pairs = zip(told_apart(names), names, strict=True)
                sides = [f"{text} ({_rows(counts[name])})" for text, name in pairs]
                items.append(f"{column} {' beside '.join(sides)}")
    return finding(
        "names-alike",
        items,
        "groups of names differ in case, blanks or what cannot be seen alone",
        "group of names differs in case, blanks or what cannot be seen alone",
    )


def _rare(table: pd.DataFrame, name: str) -> list[Finding]:
    speakers: dict[str, list[str]] = defaultdict(list)
    for label, speaker in zip(table[name].tolist(), table["speaker"].tolist(), strict=True):
        if label:
            speakers[label].append(speaker)
    several = len({language for spoken in speakers.values() for language in spoken if language}) > 1
    lone = sorted(label for label, spoken in speakers.items() if len(spoken) == 1)
    items = [
        f"{label} ({spoken[0]}, {_rows(len(spoken))})"
        for label, spoken in sorted(speakers.items())
        if several and len(spoken) > 1 and spoken[0] and len(set(spoken)) == 1
    ]
    return [
        *finding(
            "class-rare",
            lone,
            f"classes of {name} have one row each",
            f"class of {name} has one row",
        ),
        *finding(
            "class-rare",
            items,
            f"classes of {name} have one speaker each",
            f"class of {name} has one speaker",
        ),
    ]


def _unlabelled(table: pd.DataFrame, name: str) -> list[Finding]:
    rows = table.loc[table[name] == "", "utterance"].tolist()
    return finding("rows-unlabelled", rows, f"rows have no {name}", f"row has no {name}")


def _genders(table: pd.DataFrame) -> list[Finding]:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for speaker, gender in zip(table["speaker"].tolist(), table["gender"].tolist(), strict=True):
        if speaker and gender:
            counts[speaker][gender] += 1
    items = [
        f"{speaker} ({', '.join(f'{gender} {n}' for gender, n in sorted(genders.items()))})"
        for speaker, genders in sorted(counts.items())
        if len(set(map(alike, genders))) > 1
    ]
    return finding(
        "speaker-genders", items, "speakers have several genders", "speaker has several genders"
    )


def columns_near(names: Iterable[str], asked: Collection[str] = ()) -> list[Finding]:
    """Find columns that became label sets or targets and are nearly named as known ones.

    Parameters
    ----------
    names : iterable of str
        All label sets and targets of a table.
    asked : collection of str
        Those that the user named, which are no slip.

    Returns
    -------
    list of Finding
        One that names all such columns, or none.

    Examples
    --------
    >>> columns_near(["speakr", "emotion"])[0].examples
    ('speakr (speaker?)',)
    """
    known = sorted({*COLUMNS, *COMMON, *asked})
    items = []
    for name in sorted(set(names) - set(known)):
        near = [
            column
            for column in known
            if one_letter_apart(name.casefold(), column.casefold())
            or (column in COLUMNS and alike(column) == alike(name))
        ]
        items += [f"{name} ({' or '.join(near)}?)"] if near else []
    return finding(
        "columns-near",
        items,
        "columns became label sets or targets and are nearly named as known ones",
        "column became a label set or target and is nearly named as a known one",
    )


def _rows(n: int) -> str:
    return counted(n, "row")
