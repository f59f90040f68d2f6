"""The corpora: one module each, their registry, and the reading that they share.

A corpus module knows where files lie, how names and label files read, and which side defines the
set: the audio (EmoDB, TurEV-DB) or the label file (the ComParE layout, a manifest). What the other
side has beyond it is counted and named. No audio is opened here, not even its header.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from features.common.errors import CorpusError, nearest
from features.common.findings import Finding, finding, some
from features.common.text import clean, clean_all
from features.common.walk import existing
from features.corpora.audformat_database import AUDFORMAT
from features.corpora.base import Corpus, Reading, refuse_duplicates
from features.corpora.crema_d import CREMA_D
from features.corpora.demo import DEMO
from features.corpora.ema import EMA
from features.corpora.emodb import EMODB
from features.corpora.emovo import EMOVO
from features.corpora.enterface import ENTERFACE
from features.corpora.hume_prosody import HUME_PROSODY
from features.corpora.iemocap import IEMOCAP
from features.corpora.jtes import JTES
from features.corpora.manifest import MANIFEST
from features.corpora.msp_podcast import MSP_PODCAST
from features.corpora.oddities import columns_near, oddities
from features.corpora.ravdess import RAVDESS
from features.corpora.savee import SAVEE
from features.corpora.tess import TESS
from features.corpora.turev_db import TUREV_DB
from features.utterances import (
    CONTENT,
    KEY,
    TIMES,
    Table,
    columns_of,
    make_clean,
)

__all__ = ["CORPORA", "Corpus", "Reading", "get_corpus", "origin", "read_corpus"]


def _registry(records: Iterable[Corpus]) -> dict[str, Corpus]:
    registry: dict[str, Corpus] = {}
    for record in records:
        if record.key in registry:
            raise ValueError(f"two corpora have the key {record.key!r}")
        registry[record.key] = record
    return registry


CORPORA = _registry(
    [
        *(HUME_PROSODY, EMODB, TUREV_DB),
        *(RAVDESS, TESS, SAVEE, EMOVO, JTES, EMA, ENTERFACE),
        *(CREMA_D, IEMOCAP, MSP_PODCAST),
        *(DEMO, MANIFEST, AUDFORMAT),
    ]
)


def get_corpus(key: str) -> Corpus:
    """Look up a corpus's record.

    Raises
    ------
    CorpusError
        With the nearest keys, if there is none.
    """
    if key not in CORPORA:
        raise CorpusError(
            f"no corpus is called {key!r}{nearest(key, CORPORA)} Known: {', '.join(CORPORA)}; a "
            f'corpus of your own is read with [corpora.{key}] reader = "manifest" in the recipe'
        )
    return CORPORA[key]


def origin(record: Corpus, root: str | Path) -> str:
    """Say where a corpus comes from and where it belongs.

    Examples
    --------
    >>> origin(get_corpus("demo"), "data/demo").partition(", so that ")[0]
    'Put it at data/demo'
    """
    where = f"Get it from {record.homepage} (licence: {record.licence}), put"
    return f"{where if record.homepage else 'Put'} it at {root}, so that this holds {record.layout}"


def read_corpus(
    name: str,
    root: Path,
    *,
    reader: str | None = None,
    strict_counts: bool = False,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Table:
    """Read the utterance table of a corpus from its files.

    Parameters
    ----------
    name : str
        What the recipe calls the corpus; the `corpus` column of the table.
    root : Path
        Its folder.
    reader : str, optional
        Key of the record that reads it, where that is not `name`.
    strict_counts : bool
        Make counts other than the published ones an error instead of a finding.
    options : mapping
        Options of the reader (of `manifest`: `file`, `labels`, `targets`).

    Returns
    -------
    Table
        `seconds` is NaN and `audio_hash` empty: no audio is opened.

    Raises
    ------
    CorpusError
        If there is no such reader, option or folder, the files contradict each other, or none of
        them is of this corpus.
    """
    record, root = get_corpus(reader or name), Path(root)
    _refuse_unknown_options(name, record, options)
    root, options = existing(root), clean_all(options, [], ("file",))
    if not os.path.isdir(root):
        raise CorpusError(
            f"{root}: no such folder: the corpus {name} ({record.title}) is missing. "
            f"{origin(record, root)}, or pass DATA=<the folder that holds {root.name}/>"
        )
    reading = record.read(root, options)
    labels, targets, own = _columns(record, reading)
    findings = list(reading.findings)
    if reading.rows.empty:
        raise CorpusError(_not_here("no utterance of it is there", record, root, findings))
    table, folded = _completed(reading.rows.rename(columns=own), name, labels, targets)
    findings += folded
    refuse_duplicates(table["utterance"], table["path"], root)
    findings += _blank_unknown_labels(table, labels)
    unlabelled = [found for found in findings if found.kind == "labels-outside-list"]
    if any(found.count == len(table) for found in unlabelled):
        raise CorpusError(_not_here("no row has a label of it", record, root, unlabelled))
    if record.shares:
        findings += _mask_beyond_shares(table, targets)
    counts = _counts(table, record)
    findings += counts
    if counts and strict_counts:
        raise CorpusError(f"{root}: {counts[0].text}; strict_counts = true refuses that")
    asked = [*options.get("labels", ()), *options.get("targets", ())]
    findings += columns_near((*labels, *targets), asked)
    findings += oddities(table, labels, record.key)
    return Table(table, labels, targets, findings, _about(name, record))


def _refuse_unknown_options(name: str, record: Corpus, options: Iterable[str]) -> None:
    for option in options:
        if option not in record.options:
            known = f"it takes {', '.join(record.options) or 'none'}"
            hint = nearest(option, record.options)
            raise CorpusError(
                f"[corpora.{name}]: {record.key} has no option {option!r}{hint} ({known})"
            )


def _about(name: str, record: Corpus) -> dict[str, Any]:
    """What a table keeps of its corpus's record."""
    return {
        "key": name,
        "reader": record.key,
        **{
            key: getattr(record, key)
            for key in ("title", "licence", "homepage", "citation", "source", "tree", "published")
        },
        "languages": list(record.languages),
        "expected": dict(record.expected),
    }


def _not_here(what: str, record: Corpus, root: Path, findings: Iterable[Finding]) -> str:
    """Say that a folder holds something else than the corpus, with what was found instead."""
    return "; ".join(
        [
            f"{root}: not the corpus {record.key}: {what}",
            *(finding.text for finding in findings),
            f"{record.key} is expected to hold {record.layout}",
        ]
    )


def _columns(
    record: Corpus, reading: Reading
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], dict[str, str]]:
    """Label sets with their classes, and targets, in the clean form; and the names they had."""
    labels = record.labels if reading.labels is None else reading.labels
    targets = record.targets if reading.targets is None else reading.targets
    named = {column: clean(column) for column in (*labels, *targets)}
    if len(set(named.values())) < len(named):
        unclean = [ascii(column) for column in named if column != named[column]]
        raise CorpusError(
            f"{record.key}: columns differ in accents' forms, blanks or invisible characters "
            f"alone: {some(unclean)}; rename them"
        )
    classes = {
        named[column]: tuple(dict.fromkeys(map(clean, names))) for column, names in labels.items()
    }
    return classes, tuple(named[column] for column in targets), named


def _completed(
    table: pd.DataFrame, name: str, labels: Mapping[str, Any], targets: Iterable[str]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Give what was read all columns of a table, as clean text and float64, sorted by key."""
    columns = {}
    texts = {}
    for column in columns_of(labels, targets):
        if column in (*TIMES, *targets):
            values = table.get(column, np.nan)
            columns[column] = pd.Series(values, index=table.index, dtype=np.float64)
        else:
            texts[column] = table[column].tolist() if column in table else [""] * len(table)
    names, folded = make_clean(
        {column: text for column, text in texts.items() if column not in (*KEY, "path")}
    )
    names |= {"utterance": list(map(clean, texts["utterance"])), "path": texts["path"]}
    for column in set(texts) - {"corpus"}:
        columns[column] = pd.Series(names[column], index=table.index, dtype=str)
    columns["corpus"] = pd.Series(name, index=table.index, dtype=str)
    columns |= {name: pd.Series("", index=table.index, dtype=str) for name in CONTENT}
    made = pd.DataFrame(columns)[columns_of(labels, targets)]
    return made.sort_values(list(KEY), kind="stable", ignore_index=True), folded


def _blank_unknown_labels(
    table: pd.DataFrame, labels: Mapping[str, tuple[str, ...]]
) -> list[Finding]:
    found = []
    for name, classes in labels.items():
        odd = ~table[name].isin([*classes, ""])
        pairs = zip(table.loc[odd, "utterance"], table.loc[odd, name], strict=True)
        items = [f"{utterance} ({label})" for utterance, label in pairs]
        table.loc[odd, name] = ""
        whose = f"whose {name} is none of {', '.join(classes)}"
        found += finding(
            "labels-outside-list",
            items,
            f"rows {whose} count as unlabelled",
            f"row {whose} counts as unlabelled",
        )
    return found


def _mask_beyond_shares(table: pd.DataFrame, targets: Iterable[str]) -> list[Finding]:
    items = []
    for name in targets:
        odd = (table[name] < 0) | (table[name] > 1)
        pairs = zip(table.loc[odd, "utterance"], table.loc[odd, name], strict=True)
        items += [f"{utterance} ({name} {value:g})" for utterance, value in pairs]
        table.loc[odd, name] = np.nan
    return finding("shares-outside-range", items, "shares outside [0, 1] count as masked")


def _counts(table: pd.DataFrame, record: Corpus) -> list[Finding]:
    """Compare with the published counts."""
    odd = []
    for what, expected in record.expected.items():
        column, _, value = what.partition("=")
        which = ""
        if column == "utterances":
            n = len(table)
        elif column == "speakers":
            there = {name for name in table["speaker"] if name}
            n, which = len(there), _other_speakers(there, record)
        else:
            n = int((table[column] == value).sum())
            what = what if value else f"rows without {column}"
        if n != expected or which:
            odd.append(f"{what} {n} (published: {expected}{which})")
    if not odd:
        return []
    text = f"counts differ from the published ones: {some(odd, 20)}"
    return [Finding("counts", len(odd), tuple(odd), text)]


def _other_speakers(there: set[str], record: Corpus) -> str:
    """Name the corpus's speakers without an utterance, and speakers that it does not have."""
    if not record.speakers:
        return ""
    known = {*record.speakers}
    sides = {"missing": sorted(known - there), "unknown": sorted(there - known)}
    return "".join(f"; {side}: {some(names)}" for side, names in sides.items() if names)
