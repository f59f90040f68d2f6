"""What is in a table, and what is odd about its audio, for people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from features.audio_memory import NO_FILE
from features.common.files import read_bytes
from features.common.findings import Finding, finding
from features.common.progress import duration
from features.common.words import counted
from features.corpora import CORPORA
from features.splits.truths import constant
from features.survey import Survey
from features.utterances import Table

LFS = b"version https://git-lfs"
LFS_BYTES = 1024
"""A pointer of Git LFS begins with the one and is smaller than the other (its specification)."""


def describe_table(made: Table) -> list[str]:
    """Rows, speakers, counts of labels, ranges of targets, and the findings, a line each.

    Parameters
    ----------
    made : Table
        `seconds` is counted where the audio was looked at.

    Returns
    -------
    list of str
    """
    table, speakers = made.rows, made.rows["speaker"]
    known = table["seconds"].dropna()
    heard = f", {duration(known.sum())} of audio" if len(known) else ""
    n_speakers = counted(speakers[speakers != ""].nunique(), "speaker")
    lines = [f"{counted(len(table), 'utterance')}, {n_speakers}{heard}"]
    if (speakers != "").any():
        lines.append(f"speaker: {_speakers(speakers)}")
    lines += _label_lines(made)
    for target in made.targets:
        lines += _target_lines(target, table[target])
    return [*lines, *(f"odd: {finding.text}" for finding in made.findings)]


def _label_lines(made: Table) -> list[str]:
    """How often each value of a column of texts occurs."""
    lines = []
    for column in ("partition", "gender", "language", "session", *made.labels):
        counts = made.rows[column].value_counts()
        known = made.labels.get(column, sorted(counts.index))
        order = [label for label in known if label in counts]
        if list(order) != [""]:
            named = (f"{label or '(none)'} {counts[label]}" for label in order)
            lines.append(f"{column}: " + ", ".join(named))
    for name, mapping in CORPORA[made.corpus["reader"]].label_maps.items():
        counts = made.rows["emotion"].map(mapping).value_counts().sort_index()
        text = ", ".join(f"{label} {n}" for label, n in counts.items())
        lines.append(f"emotion by the map {name}: {text}; {counts.sum()} in all")
    return lines


def _target_lines(target: str, values: pd.Series) -> list[str]:
    """The range of a target; nothing where no value is known."""
    if values.isna().all():
        return []
    flat = constant(target, values.to_numpy(dtype=np.float64))
    return [
        f"{target}: {values.notna().sum()} known, {values.min():.3g} to {values.max():.3g}, "
        f"{(values == 0).mean():.0%} zero",
        *([f"odd: {flat}"] if flat else []),
    ]


def _speakers(speakers: pd.Series) -> str:
    """Say how many utterances speakers have: one by one up to 24 of them, else the range."""
    counts = speakers.replace("", "(none)").value_counts().sort_index()
    least, most = counts.min(), counts.max()
    if least == most:
        return f"{most} each"
    if len(counts) > 24:
        return f"{least} to {most} each"
    return ", ".join(f"{speaker} {n}" for speaker, n in counts.items())


def not_audio(seen: Survey) -> list[Finding]:
    """Files that hold no audio, as a copy without its large files has them, or none to be used.

    Parameters
    ----------
    seen : Survey

    Returns
    -------
    list of Finding
        `empty-files`, `lfs-pointers` and `unusable-audio`, where there are any.
    """
    empty: dict[str, None] = {}
    pointers: dict[str, None] = {}
    unusable: dict[str, None] = {}
    for utterance, reason in seen.failures.items():
        path = Path(seen.clip(utterance).path)
        name = os.path.relpath(path, seen.root)
        try:
            n_bytes = path.stat().st_size
            head = read_bytes(path, LFS_BYTES) if 0 < n_bytes <= LFS_BYTES else b""
        except (OSError, ValueError):
            if reason != NO_FILE:  # the reader names those that are not there
                unusable[f"{utterance} ({reason})"] = None
            continue
        if not n_bytes:
            empty[name] = None
        elif head.startswith(LFS):
            pointers[name] = None
        else:
            unusable[f"{utterance} ({reason})"] = None
    text = "audio files stand for ones that Git LFS has not fetched (git lfs pull does)"
    bad = "rows have audio that cannot be used"
    return [
        *finding("empty-files", empty, "audio files are empty", "audio file is empty"),
        *finding("lfs-pointers", pointers, text),
        *finding("unusable-audio", unusable, bad, "row has audio that cannot be used"),
    ]
