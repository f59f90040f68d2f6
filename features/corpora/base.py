"""What a corpus module is made of: its record, its reading, and how files are found and named."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from features.common.errors import CorpusError
from features.common.files import read_bytes
from features.common.findings import Finding, some
from features.common.text import clean, nfc, told_apart
from features.common.walk import walk
from features.common.words import counted

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
# What Python makes of a file name's bytes that are no UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")
MASKED = ("", "?", "nan")


@dataclass
class Reading:
    """What a corpus module makes of the files below a root.

    Attributes
    ----------
    rows : pandas.DataFrame
        `utterance` and `path`, and whatever else of the table's columns the files tell.
    findings : list of Finding
        What was odd.
    labels, targets : optional
        In place of the record's, for a corpus that only its files describe.
    """

    rows: pd.DataFrame
    findings: list[Finding] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] | None = None
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Corpus:
    """The record of a corpus, or of a layout that several corpora share.

    Attributes
    ----------
    labels : dict
        Label set -> ordered class list; a row with another label is kept without one.
    targets : tuple of str
        Continuous targets.
    shares : bool
        Targets lie in [0, 1]; a value beyond is masked.
    tree : str
        "verified" where the layout was compared with the published files, else "unverified".
    layout : str
        One line: what is expected below the root.
    expected : dict
        Published counts: `utterances`, `speakers` or `<column>=<value>` -> number.
    published : bool
        Whether published figures may be shown beside a run.
    read : callable
        (root, options) -> `Reading`: the corpus's folder (Path) and the recipe's options for it
        (name -> value, of `options`) give a row an utterance and what was odd. A reader raises
        CorpusError where there is nothing to read, and where its docstring says.
    options : tuple of str
        The options that `read` takes.
    speakers : tuple of str
        All of them, where they are few and published by name.
    label_maps : dict
        Name of a common list -> own label of the set `emotion` -> label of the list; labels that
        are absent are dropped.
    """

    key: str
    title: str
    labels: Mapping[str, tuple[str, ...]]
    languages: tuple[str, ...]
    licence: str
    homepage: str
    citation: str
    source: str
    tree: str
    layout: str
    expected: Mapping[str, int]
    published: bool
    read: Callable[[Path, Mapping[str, Any]], Reading]
    targets: tuple[str, ...] = ()
    shares: bool = False
    options: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    label_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def find_audio(
    root: Path, folder: Path, suffixes: tuple[str, ...] = AUDIO_SUFFIXES
) -> tuple[list[str], list[Finding]]:
    """List the audio files at any depth below `folder`, sorted, relative to `root`, with `/`.

    Hidden files and folders (`._a.wav`, `.DS_Store`) are passed over; links are followed as
    `features.common.walk` says, and what it passes over is in the findings.

    Parameters
    ----------
    root : Path
        Folder of the corpus.
    folder : Path
        The one at or below it that is looked through.
    suffixes : tuple of str
        Lower-case, with their dot.

    Returns
    -------
    paths : list of str
    findings : list of Finding
        What was passed over.

    Raises
    ------
    CorpusError
        A name is no UTF-8: neither a table nor a store can hold it; or a folder holds both forms
        of one name.
    """
    files, findings = walk(folder, suffixes)
    found = [Path(folder, name).relative_to(root).as_posix() for name in files]
    odd = [ascii(path) for path in found if _SURROGATE.search(path)]
    if odd:
        raise CorpusError(
            f"{folder}: {counted(len(odd), 'audio file has', 'audio files have')} a name that is "
            f"no UTF-8: {some(odd)}; rename (convmv does whole folders)"
        )
    return sorted(found), findings


def match_audio(
    names: Sequence[str], paths: Sequence[str], folder: str = ""
) -> tuple[list[str | None], list[str]]:
    """Look up the audio files that a label file names.

    A name is compared under NFC as it stands, then without its suffix, then, where it names no
    folder, with the stems that only one file has; then the same in the clean form, since no-break
    and doubled blanks get lost.

    Parameters
    ----------
    names : sequence of str
        As in the label file, relative to `folder`.
    paths, folder : sequence of str, str
        Files below a root as `find_audio` lists them, and the folder that holds them.

    Returns
    -------
    found : list of str or None
        The path of each name; None where there is no such file.
    spare : list of str
        Files that no name stands for, relative to `folder`.

    Examples
    --------
    >>> match_audio(["a.wav", "b", "c"], ["wav/a.flac", "wav/x/b.wav", "wav/d.wav"], "wav")
    (['wav/a.flac', 'wav/x/b.wav', None], ['d.wav'])
    """
    below = {path: nfc(path).removeprefix(f"{nfc(folder)}/") for path in paths}
    found = _matched([nfc(name) for name in names], below)
    lost = [place for place, path in enumerate(found) if path is None]
    if lost:
        forms: dict[str, list[str]] = defaultdict(list)
        for path, name in below.items():
            forms[clean(name)].append(path)
        folded = {same[0]: name for name, same in forms.items() if len(same) == 1}
        again = _matched([clean(names[place]) for place in lost], folded)
        for place, match in zip(lost, again, strict=True):
            found[place] = match
    used = set(found)
    return found, [name for path, name in below.items() if path not in used]


def _matched(names: Sequence[str], below: Mapping[str, str]) -> list[str | None]:
    """The path of each name, `below` having the names of paths."""
    exact = {name: path for path, name in below.items()}
    loose = {name.rpartition(".")[0]: path for path, name in below.items()}
    stems: dict[str, str | None] = {}
    for name, path in loose.items():
        stem = name.rpartition("/")[2]
        stems[stem] = None if stem in stems else path
    found = []
    for name in names:
        bare = name.rpartition(".")[0] or name
        match = exact.get(name) or loose.get(name) or loose.get(bare)
        found.append(match or stems.get(name) or stems.get(bare))
    return found


def segment_id(start: float, end: float) -> str:
    """Write a segment's part of an id, `#<start ms>-<end ms>`; empty for a whole file.

    Examples
    --------
    >>> segment_id(0.5, 1.25), segment_id(2.0, math.nan), segment_id(math.nan, math.nan)
    ('#500-1250', '#2000-', '')
    """
    if math.isnan(start) and math.isnan(end):
        return ""
    first = 0 if math.isnan(start) else round(start * 1000)
    return f"#{first}-" + ("" if math.isnan(end) else str(round(end * 1000)))


def make_ids(paths: Sequence[str], folder: str = "") -> list[str]:
    """Name files: by stem where all stems differ, else by the path below `folder` without suffix.

    Parameters
    ----------
    paths : sequence of str
        With `/`.
    folder : str
        Of which no name says anything.

    Returns
    -------
    list of str
        One a path, all of them different where the paths are.

    Examples
    --------
    >>> make_ids(["wav/a.wav", "wav/b.wav"], "wav")
    ['a', 'b']
    >>> make_ids(["wav/x/a.wav", "wav/y/a.wav"], "wav")
    ['x/a', 'y/a']
    """
    pure = [PurePosixPath(nfc(path)) for path in paths]
    stems = [path.stem for path in pure]
    if len(set(stems)) == len(set(pure)):
        return stems
    names = [
        path.relative_to(folder) if folder and path.is_relative_to(folder) else path
        for path in pure
    ]
    return [str(path.with_suffix("")) for path in names]


def refuse_duplicates(ids: Iterable[str], sources: Iterable[str], where: object) -> None:
    """Raise a CorpusError that names both files (or rows) of each id that stands twice.

    Parameters
    ----------
    ids : iterable of str
        One a row.
    sources : iterable of str
        The file (or row) that each one comes from.
    where : object
        What the error begins with: the folder or file.

    Raises
    ------
    CorpusError
        All ids that stand twice are named.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for utterance, source in zip(ids, sources, strict=True):
        found[utterance].append(source)
    twice = [
        f"{utterance} ({' and '.join(told_apart(s[:3]))})"
        for utterance, s in sorted(found.items())
        if len(s) > 1
    ]
    if twice:
        raise CorpusError(
            f"{where}: {len(twice)} utterance ids stand more than once: "
            f"{some(twice)}; rename or remove one of each"
        )


def read_rows(path: Path, delimiter: str = ",") -> tuple[list[str], list[list[str]]]:
    """Read a delimited text file as text: the header, and rows of the same width.

    UTF-8 with or without a mark, else Latin-1 where the file is no UTF-8. Blank lines are passed
    over, fields are stripped (of no-break spaces, too). The names of the columns are clean
    (`features.common.text`); of the fields, those that name no file have to be made so.

    Parameters
    ----------
    path : Path
    delimiter : str

    Returns
    -------
    header : list of str
    rows : list of list of str
        Each as wide as the header.

    Raises
    ------
    CorpusError
        If the file cannot be read or rows have another number of fields than the header; all
        such rows are named by line.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in its name
        raise CorpusError(f"{str(path)!r}: cannot be read: {error}") from None
    if b"\0" in data:
        raise CorpusError(f"{path}: holds NUL bytes, as UTF-16 does; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise CorpusError(f"{path}: line {reader.line_num}: {error}") from None
    if not lines:
        raise CorpusError(f"{path}: empty; a header line and a row an utterance are expected")
    header = [clean(name) for name in lines[0][1]]
    odd = [f"line {n} has {len(row)}" for n, row in lines[1:] if len(row) != len(header)]
    if odd:
        raise CorpusError(f"{path}: the header has {len(header)} fields: {some(odd, 10)}")
    return header, [row for _, row in lines[1:]]


def number(text: str) -> float:
    """Parse a finite or infinite decimal number; masked text is NaN.

    Raises
    ------
    ValueError
        If it is none; `1_000` is none, either, though Python says so.

    Examples
    --------
    >>> number("0.25"), number("?")
    (0.25, nan)
    """
    text = clean(text)
    if text.lower() in MASKED:
        return math.nan
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def no_audio(root: Path, folder: Path, corpus: Corpus) -> CorpusError:
    """Make the error of a root that holds none of the audio that the corpus's layout has."""
    return CorpusError(
        f"{folder}: no audio file below it; {corpus.key} is expected to hold "
        f"{corpus.layout} below {root}"
    )
