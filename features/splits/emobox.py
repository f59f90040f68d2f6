"""The partitions that EmoBox ships, for the utterances of a corpus.

EmoBox (https://github.com/emo-box/EmoBox) holds for each of its corpora
`data/<corpus>/fold_<k>/<corpus>_{train,valid,test}_fold_<k>.jsonl`: one JSON object a line, of
which `wav` (a path with its suffix) and `key` are read. A fold without a valid file leaves the
choice of hyperparameters to inner folds.

An entry is matched with an utterance by the end of its path: `downloads/savee/JE_su07.wav` is the
utterance `JE/su07`, and `downloads/emovo/f2/tri-f2-n4.wav` is `tri-f2-n4`. Separators (`/`, `_`,
`-`, blanks) and case do not count. Keys are not used for it: several corpora write them in another
way than their files. Entries without an utterance, and utterances in no fold, are named.

Most of these folds share speakers between train and test; where the table knows the speakers, a
finding says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import CorpusError, nearest
from features.common.files import read_bytes, read_text
from features.common.findings import Finding, finding, some
from features.common.text import clean
from features.common.walk import existing
from features.common.words import counted

PARTS = ("train", "valid", "test")
FOLD = re.compile(r"fold_(\d+)")
SEPARATORS = re.compile(r"[/\\_\s-]+")


@dataclass(frozen=True)
class EmoBoxFold:
    """One fold: its name (`"1"`), and ids of utterances, in the order of the table.

    `valid` is empty where EmoBox ships no such list.
    """

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    def positions(self, utterances: pd.Series) -> dict[str, NDArray[np.int64]]:
        """Give int64 positions of `train`, `valid` and `test` in a column of ids, ascending."""
        return {part: np.flatnonzero(utterances.isin(getattr(self, part))) for part in PARTS}


@dataclass(frozen=True)
class EmoBoxSplit:
    """The folds of one corpus.

    Attributes
    ----------
    folds : tuple of EmoBoxFold
        Ascending by number.
    unmatched : tuple of str
        Keys of entries that no utterance of the table stands for, each once.
    left_out : tuple of str
        Utterances that are in no list of any fold.
    findings : list of Finding
        `emobox-unmatched`, `emobox-left-out` and `emobox-shared-speakers`, where there are any.
    """

    folds: tuple[EmoBoxFold, ...]
    unmatched: tuple[str, ...]
    left_out: tuple[str, ...]
    findings: list[Finding]


def read_emobox(
    root: Path, corpus: str, rows: pd.DataFrame, name: str | None = None
) -> EmoBoxSplit:
    """Read EmoBox's folds of a corpus, and match them with the utterances of its table.

    Parameters
    ----------
    root : Path
        A copy of the EmoBox repository, its `data` folder, or the folder of the corpus in it.
    corpus : str
        Key of the corpus here. EmoBox's name is the same without `-`, in lower case (`crema-d` is
        `cremad`), unless `name` gives another.
    rows : DataFrame
        The corpus's rows of the utterance table; `utterance` and `speaker` are read.
    name : str, optional
        EmoBox's name of the corpus.

    Returns
    -------
    EmoBoxSplit
        `test` lists of different folds may overlap or leave utterances out: they are what EmoBox
        ships.

    Raises
    ------
    CorpusError
        If there are no folds of the corpus; a train or test list is missing (some are so large that
        copies lack them); a line is no entry; one utterance stands for two entries of a list, or is
        in two lists of a fold; or no entry at all matches.
    """
    name = name or _name_of(corpus)
    folder = _folder(existing(root), name)
    lists = _lists(folder, name)
    ids = rows["utterance"].tolist()
    known = _by_tokens(ids, corpus)
    matched, unmatched = _matched(lists, known, corpus)
    if not any(matched.values()):
        raise CorpusError(
            f"{folder}: none of {counted(len(unmatched), 'entry', 'entries')} is an utterance of "
            f"{corpus}: {some(unmatched, 3)} against {some(ids, 3)}"
        )
    folds = _folds(folder, lists, matched, ids)
    used = set().union(*matched.values())
    left_out = tuple(utterance for utterance in ids if utterance not in used)
    findings = [
        *finding(
            "emobox-unmatched",
            unmatched,
            "entries of EmoBox are no utterances of the table",
            "entry of EmoBox is no utterance of the table",
        ),
        *finding(
            "emobox-left-out",
            left_out,
            "utterances are in no fold of EmoBox",
            "utterance is in no fold of EmoBox",
        ),
        *_shared_speakers(folds, rows),
    ]
    return EmoBoxSplit(tuple(folds), tuple(unmatched), left_out, findings)


def _matched(
    lists: Mapping[tuple[str, str], Path], known: Mapping[tuple[str, ...], str], corpus: str
) -> tuple[dict[tuple[str, str], set[str]], list[str]]:
    """The utterances of each list, and keys of entries that no utterance stands for."""
    matched: dict[tuple[str, str], set[str]] = {}
    unmatched: dict[str, None] = {}
    for (fold, part), path in lists.items():
        found: dict[str, str] = {}
        twice = []
        for key, wav in _entries(path):
            utterance = _match(wav, known)
            if utterance is None:
                unmatched[key] = None
            elif found.setdefault(utterance, key) != key:
                twice.append(f"{utterance} ({found[utterance]} and {key})")
        if twice:
            stand = counted(len(twice), "utterance stands", "utterances stand")
            raise CorpusError(
                f"{path}: of {corpus} {stand} for two entries: {some(twice)}; the table holds a "
                "part of the corpus, or the list another one"
            )
        matched[fold, part] = set(found)
    return matched, list(unmatched)


def _folds(
    folder: Path,
    lists: Mapping[tuple[str, str], Path],
    matched: Mapping[tuple[str, str], set[str]],
    ids: Sequence[str],
) -> list[EmoBoxFold]:
    """The folds by number, their utterances in the order of the table."""
    folds = []
    for fold in sorted({fold for fold, _ in lists}, key=int):
        parts = {part: matched.get((fold, part), set()) for part in PARTS}
        both = sorted(
            (parts["train"] & parts["test"])
            | (parts["train"] & parts["valid"])
            | (parts["valid"] & parts["test"])
        )
        if both:
            are = counted(len(both), "utterance is", "utterances are")
            raise CorpusError(f"{folder}: fold {fold}: {are} in two lists: {some(both)}")
        train, valid, test = (
            tuple(utterance for utterance in ids if utterance in parts[part]) for part in PARTS
        )
        folds.append(EmoBoxFold(fold, train, valid, test))
    return folds


def emobox_hash(root: Path, corpus: str, name: str | None = None) -> str:
    """Hash the lists of a corpus: BLAKE2b-128 of their names and bytes, in hex.

    Raises
    ------
    CorpusError
        As of `read_emobox`, where they are not there.
    """
    name = name or _name_of(corpus)
    digest = hashlib.blake2b(digest_size=16)
    for (fold, part), path in sorted(_lists(_folder(existing(root), name), name).items()):
        content = read_bytes(path)
        digest.update(f"{fold} {part} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _name_of(corpus: str) -> str:
    return re.sub(r"[^a-z0-9]", "", corpus.lower())


def _folder(root: Path, name: str) -> Path:
    """Find the folder with `fold_<k>` of a corpus."""
    for folder in (root / "data" / name, root / name, root):
        if folder.is_dir() and any(FOLD.fullmatch(path.name) for path in folder.iterdir()):
            return folder
    base = root / "data" if (root / "data").is_dir() else root
    there = sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    raise CorpusError(
        f"{root}: no folder data/{name}/fold_1{nearest(name, there)} Clone "
        "https://github.com/emo-box/EmoBox and give its folder"
    )


def _lists(folder: Path, name: str) -> dict[tuple[str, str], Path]:
    """List the files by (fold, part); train and test must be there."""
    lists, lost = {}, []
    for place in sorted(folder.iterdir()):
        match = FOLD.fullmatch(place.name)
        if match is None or not place.is_dir():
            continue
        for part in PARTS:
            path = place / f"{name}_{part}_fold_{match[1]}.jsonl"
            if path.is_file():
                lists[match[1], part] = path
            elif part != "valid":
                lost.append(f"{place.name}/{path.name}")
    if lost:
        raise CorpusError(f"{folder}: {len(lost)} lists are not there: {some(lost, 10)}")
    return lists


def _entries(path: Path) -> list[tuple[str, str]]:
    """Read (key, wav) of each line."""
    entries, faults = [], []
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read: {error}") from None
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            entries.append((str(entry.get("key", entry["wav"])), str(entry["wav"])))
        except (ValueError, KeyError, AttributeError, TypeError):
            faults.append(f"line {place} ({line[:40]!r})")
    if faults:
        raise CorpusError(
            f"{path}: {counted(len(faults), 'line is', 'lines are')} no JSON object with a wav: "
            f"{some(faults)}; a file that only names its size is left over from a clone without "
            "its large files"
        )
    return entries


def _tokens(path: str) -> tuple[str, ...]:
    return tuple(part for part in SEPARATORS.split(clean(path).casefold()) if part)


def _by_tokens(ids: Sequence[str], corpus: str) -> dict[tuple[str, ...], str]:
    known: dict[tuple[str, ...], str] = {}
    for utterance in ids:
        other = known.setdefault(_tokens(utterance), utterance)
        if other != utterance:
            raise CorpusError(
                f"{corpus}: the utterances {other} and {utterance} differ in separators or case "
                "alone; EmoBox's lists cannot tell them apart"
            )
    return known


def _match(wav: str, known: Mapping[tuple[str, ...], str]) -> str | None:
    """Find the utterance whose parts are the last ones of a path; the longest such id counts.

    Examples
    --------
    >>> known = {("je", "a01"): "JE/a01", ("a01",): "a01"}
    >>> _match("downloads/savee/JE_a01.wav", known), _match("x/JE_a02.wav", known)
    ('JE/a01', None)
    """
    stem = re.sub(r"\.[A-Za-z0-9]{1,4}$", "", wav)
    tokens = _tokens(stem)
    return next(
        (known[tokens[i:]] for i in range(len(tokens)) if tokens[i:] in known),
        None,
    )


def _shared_speakers(folds: Sequence[EmoBoxFold], rows: pd.DataFrame) -> list[Finding]:
    speaker = dict(zip(rows["utterance"], rows["speaker"], strict=True))
    items = []
    for fold in folds:
        fitted = {*map(speaker.get, (*fold.train, *fold.valid))} - {""}
        held = {*map(speaker.get, fold.test)} - {""}
        if fitted & held:
            items.append(f"fold {fold.name} ({len(fitted & held)} of {len(held)} test speakers)")
    text = "folds of EmoBox test on speakers that they train on"
    return finding("emobox-shared-speakers", items, text)
