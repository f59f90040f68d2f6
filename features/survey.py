"""What the audio of a corpus is now: hashes, lengths and silence of every row, kept for next time.

Conventions
-----------
- `stores/<corpus>/files.json` remembers the hash of every file that was looked at. It is looked up
  by the file's absolute path, size, inode, and times of change of its bytes and of its entry: a
  file that is another one in any of these is read again. It belongs to one machine, and may be
  deleted at any time.
- What is heard in a row is looked up in the table as it was written before, by the hash of the
  file's bytes, start and end, and only where the same decoder (`features.audio.decode.DECODER`)
  wrote it.
- A file that cannot be read or decoded stops nothing: its rows are failures with their reasons.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.audio.decode import DECODER, Clip, listen
from features.common.errors import AudioError, CorpusError, StoreError
from features.common.files import parse_json, read_text, stamp_of, write_text
from features.common.findings import Finding, finding
from features.common.progress import Progress
from features.stores.key import audio_hash, file_digest
from features.utterances import (
    CONTENT,
    SILENT,
    SILENT_AUDIO,
    Table,
    read_table,
    write_table,
)

FILES_AT_ONCE = 32
"""Files that a thread looks at before it tells."""
MOST_THREADS = 8
FILES = "files.json"
NO_FILE = "no such file"
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class Look:
    """What was found in one row's file.

    Attributes
    ----------
    position : int
        Of the row.
    seconds : float
    content : tuple of str
        As `CONTENT` has them.
    size, mtime_ns : int
    reason : str
        Why there is no content; else empty.
    """

    position: int
    seconds: float = math.nan
    content: tuple[str, ...] = ("",) * len(CONTENT)
    size: int = 0
    mtime_ns: int = 0
    reason: str = ""


@dataclass
class Survey:
    """What the audio folder holds now.

    Attributes
    ----------
    frame : DataFrame
        The table with `seconds` and the hashes filled in, and columns `size` and `mtime_ns`.
    failures : dict
        Utterance -> reason, for rows whose audio cannot be used at all.
    root : Path
    findings : list of Finding
        What was odd.
    """

    frame: pd.DataFrame
    failures: dict[str, str]
    root: Path
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        clips = clips_of(self.frame, self.root)
        stats = zip(self.frame["size"].tolist(), self.frame["mtime_ns"].tolist(), strict=True)
        self._files = {c.utterance: (c, *stat) for c, stat in zip(clips, stats, strict=True)}

    def clip(self, utterance: str) -> Clip:
        """Where an utterance's audio is."""
        return self._files[utterance][0]

    def file(self, utterance: str) -> tuple[Clip, int, int]:
        """An utterance's clip, and size and time of its file when it was looked at."""
        return self._files[utterance]


def clips_of(frame: pd.DataFrame, root: Path) -> list[Clip]:
    """Where the audio of a table's rows is."""
    columns = (frame[name].tolist() for name in ("utterance", "path", "start", "end"))
    return [
        Clip(utterance, str(root / path), start, end)
        for utterance, path, start, end in zip(*columns, strict=True)
    ]


def survey(table: Table, root: Path, folder: Path, keep: Table | None = None) -> Survey:
    """Look at the audio of a corpus, and write its table with what is found.

    Parameters
    ----------
    table : Table
        As read from the corpus; its frame gets `seconds` and the hashes, its findings what is odd.
    root : Path
        The corpus's folder.
    folder : Path
        Where its table and stores are.
    keep : Table, optional
        An older one, whose findings stand for rows whose audio is not here.

    Raises
    ------
    StoreError, CorpusError
        The folder cannot be written.
    """
    memory = _Memory(folder)
    frame = table.frame.reset_index(drop=True).copy()
    by_file: dict[str, list[tuple[int, Clip]]] = {}
    for position, clip in enumerate(clips_of(frame, root)):
        by_file.setdefault(clip.path, []).append((position, clip))
    files = list(by_file.items())
    # A future a file would be the largest thing in memory.
    portions = [files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE)]
    found: list[Look] = []
    progress = Progress(f"{root}: looking at the audio", len(files), "files")
    with ThreadPoolExecutor(max_workers=min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        looks = pool.map(lambda some: [memory.look(Path(p), rows) for p, rows in some], portions)
        for portion in looks:
            progress.add(len(portion))
            found.extend(chain(*portion))
    progress.close()
    found.sort(key=lambda one: one.position)
    frame["seconds"] = np.array([one.seconds for one in found], dtype=np.float64)
    for i, name in enumerate(CONTENT):
        frame[name] = pd.Series([one.content[i] for one in found], index=frame.index, dtype=str)
    ids = frame["utterance"].tolist()
    seen = Survey(
        frame.assign(
            size=np.array([one.size for one in found], dtype=np.int64),
            mtime_ns=np.array([one.mtime_ns for one in found], dtype=np.int64),
        ),
        {ids[one.position]: one.reason for one in found if one.reason},
        root,
        _silent(frame),
    )
    table.frame = frame
    table.findings = [*table.findings, *seen.findings]
    if keep is not None:
        absent = [one.position for one in found if one.reason == NO_FILE]
        keep_measured(table, keep, absent)
    write_table(folder, table)
    memory.write()
    return seen


def _silent(frame: pd.DataFrame) -> list[Finding]:
    names = frame.loc[frame["samples_hash"] == SILENT, "utterance"].tolist()
    return finding(
        SILENT_AUDIO,
        names,
        "rows are silent (all samples alike, or channels that cancel out) and stay in the table",
        "row is silent (all samples alike, or channels that cancel out) and stays in the table",
    )


def keep_measured(table: Table, old: Table, absent: Sequence[int]) -> None:
    """Take over what an earlier look found in rows whose audio is not here.

    A row counts as the same where utterance, path, start and end are.

    Parameters
    ----------
    table, old : Table
    absent : sequence of int
        Positions of those rows.
    """
    names = ["utterance", "path", "start", "end"]
    columns = (old.frame[name].map(repr).tolist() for name in names)
    before = {key: i for i, key in enumerate(zip(*columns, strict=True))}
    columns = (table.frame[name].iloc[list(absent)].map(repr).tolist() for name in names)
    known = [
        (row, before[key])
        for row, key in zip(absent, zip(*columns, strict=True), strict=True)
        if key in before
    ]
    rows, taken = [row for row, _ in known], [at for _, at in known]
    for name in ("seconds", *CONTENT):
        values = table.frame[name].to_numpy(copy=True)
        values[rows] = old.frame[name].to_numpy()[taken]
        table.frame[name] = values


def pointed_elsewhere(old: Table, new: Table, root: Path) -> list[str]:
    """Utterances whose path has become another file's, whose bytes are others.

    A file that is not there, or lies somewhere else as it was, is none of them.

    Parameters
    ----------
    old : Table
        With the hashes of the audio, as it was extracted.
    new : Table
        As the corpus has it now.
    root : Path
        Its folder.
    """
    columns = (old.frame[name].tolist() for name in ("utterance", "path", "audio_hash"))
    before = {utterance: (path, hashed) for utterance, path, hashed in zip(*columns, strict=True)}
    found = []
    columns = (new.frame[name].tolist() for name in ("utterance", "path", "start", "end"))
    for utterance, path, start, end in zip(*columns, strict=True):
        was, hashed = before.get(utterance, (path, ""))
        if path == was or not hashed:
            continue
        with contextlib.suppress(OSError, ValueError):
            if not is_hash_of(hashed, file_digest(root / path), start, end):
                found.append(utterance)
    return found


def is_hash_of(hashed: str, digest: hashlib.blake2b, start: float, end: float) -> bool:
    """Whether an audio hash is of these bytes and this span, whichever decoder heard them."""
    versions = range(1, DECODER + 1)
    return hashed in {audio_hash(digest, start, end, decoder=one) for one in versions}


def decoders_of(path: Path, spans: Sequence[tuple[float, float]]) -> list[int]:
    """Versions of the decoding that give the samples of spans; 1 for what cannot be decoded."""
    try:
        found = listen(str(path), spans).spans
    except AudioError:
        return [1] * len(spans)
    return [1 if isinstance(one, AudioError) else one.decoder for one in found]


def forget(folder: Path, paths: Iterable[Path]) -> None:
    """Have files read again by the next look, whatever size and times say."""
    memory = _Memory(folder)
    gone = {os.path.abspath(one) for one in paths} & memory.files.keys()
    for one in gone:
        del memory.files[one]
    if gone:
        memory.write()


class _Memory:
    """What earlier looks at the audio of a corpus have found.

    Attributes
    ----------
    files : dict
        Absolute path -> [stamp, file_hash, recording_hash, decoder].
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILES
        self.files: dict[str, list[Any]] = {}
        self._written: dict[str, list[Any]] | None = None
        self._by_hash: dict[str, list[Any]] = {}
        self.rows: dict[tuple[str, str, str], tuple[float, str, str]] = {}
        try:
            about = parse_json(read_text(self.path))
            files = dict(about["files"]) if about["decoder"] == DECODER else {}
            old = read_table(folder).frame
        except (OSError, ValueError, KeyError, TypeError, CorpusError):
            return
        self.files = {name: one for name, one in files.items() if _is_entry(one)}
        self._written = files if about["decoder"] == DECODER else None
        self._by_hash = {one[1]: one for one in self.files.values()}
        names = ("file_hash", "start", "end", "seconds", "samples_hash", "audio_hash")
        for file, start, end, seconds, samples, audio in zip(
            *(old[name].tolist() for name in names), strict=True
        ):
            if file and samples and audio and not math.isnan(seconds):
                self.rows[file, repr(start), repr(end)] = seconds, samples, audio

    def write(self) -> None:
        """Write what is known, whole or not at all."""
        if self.files == self._written:
            return
        about = {"decoder": DECODER, "files": dict(sorted(self.files.items()))}
        write_text(self.path, json.dumps(about, indent=0), StoreError)

    def look(self, path: Path, rows: list[tuple[int, Clip]]) -> list[Look]:
        """Look at one file and all its rows."""
        try:
            return self._look(path, rows)
        except FileNotFoundError:
            reason = NO_FILE
        except (OSError, ValueError) as error:
            # ValueError: a name that no file can have.
            reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        except AudioError as error:
            reason = str(error)
        self.files.pop(os.path.abspath(path), None)
        return [Look(position, reason=reason) for position, _ in rows]

    def _look(self, path: Path, rows: list[tuple[int, Clip]]) -> list[Look]:
        name, status = os.path.abspath(path), path.stat()
        stamp = [*stamp_of(status)]
        entry = self.files.get(name)
        digest = None
        if entry is None or entry[0] != stamp:
            digest = file_digest(path)
            known = self._by_hash.get(digest.hexdigest())
            entry = None if known is None else [stamp, *known[1:]]
        spans = [(clip.start, clip.end) for _, clip in rows]
        keys = [(repr(start), repr(end)) for start, end in spans]
        heard: dict[tuple[str, str], tuple[float, str, str] | AudioError] = {}
        if entry is not None:
            kept = {key: self.rows.get((entry[1], *key)) for key in keys}
            heard = {key: one for key, one in kept.items() if one is not None}
        if entry is None or len(heard) < len({*keys}):
            digest = digest or file_digest(path)
            now = listen(str(path), spans)
            recording = now.recording_hash
            for key, span, one in zip(keys, spans, now.spans, strict=True):
                if isinstance(one, AudioError):
                    heard[key] = one
                    continue
                hashed = audio_hash(digest, *span, decoder=one.decoder)
                samples = SILENT if one.silent else one.samples_hash
                recording = SILENT if one.silent and one.samples_hash == recording else recording
                heard[key] = one.seconds, samples, hashed
            entry = [stamp, digest.hexdigest(), recording, now.decoder]
            if [*stamp_of(path.stat())] != stamp:
                raise AudioError("was changed while it was read; run the same command again")
        self.files[name] = entry
        found = []
        for (position, _), key in zip(rows, keys, strict=True):
            result = heard[key]
            if isinstance(result, AudioError):
                found.append(Look(position, reason=str(result)))
                continue
            seconds, samples, hashed = result
            content = hashed, entry[1], samples, entry[2]
            found.append(Look(position, seconds, content, status.st_size, time_of(status)))
        return found


def time_of(status: os.stat_result) -> int:
    """A file's time of change in nanoseconds; of one beyond int64 (the year 2262) its bound."""
    return min(max(status.st_mtime_ns, int(_INT64.min)), int(_INT64.max))


def _is_entry(one: Any) -> bool:
    return (
        isinstance(one, list)
        and [type(value) for value in one] == [list, str, str, int]
        and all(type(value) is int for value in one[0])
    )
