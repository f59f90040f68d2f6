"""What earlier looks at the audio of a corpus have found.

Conventions
-----------
- `stores/<corpus>/files.json` remembers the hash of every file that was looked at. It is looked up
  by the file's absolute path, size, inode, and times of change of its bytes and of its entry: a
  file that is another one in any of these is read again. It belongs to one machine, and may be
  deleted at any time.
- What is heard in a row is looked up in the table as it was written before, by the hash of the
  file's bytes, start and end, and only where the same decoder (`features.audio.decode.DECODER`)
  wrote it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.audio.decode import DECODER, Clip, Heard, listen
from features.common.errors import AudioError, CorpusError, StoreError
from features.common.files import parse_json, read_text, stamp_of, write_text
from features.stores.key import audio_hash, file_digest
from features.utterances import CONTENT, SILENT, read_table

FILES = "files.json"
NO_FILE = "no such file"
_INT64 = np.iinfo(np.int64)

Times = tuple[float, float]
TimesKey = tuple[str, str]
"""Start and end as they are written."""
Kept = tuple[float, str, str]
"""Seconds, hash of the samples, hash of the audio."""


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


class Memory:
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
        self.rows: dict[tuple[str, str, str], Kept] = {}
        try:
            about = parse_json(read_text(self.path))
            files = dict(about["files"]) if about["decoder"] == DECODER else {}
            old = read_table(folder).rows
        except (OSError, ValueError, KeyError, TypeError, CorpusError):
            return
        self.files = {name: entry for name, entry in files.items() if _is_entry(entry)}
        self._written = files if about["decoder"] == DECODER else None
        self._by_hash = {entry[1]: entry for entry in self.files.values()}
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
        """Look at one file and all its rows.

        Parameters
        ----------
        path : Path
        rows : list of (int, Clip)
            Position in the table, and the clip, of each row that lies in the file.

        Returns
        -------
        list of Look
            One a row, in the order of `rows`; of a file that cannot be read all with the reason.
        """
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
        status = path.stat()
        stamp = [*stamp_of(status)]
        spans = [(clip.start, clip.end) for _, clip in rows]
        entry, digest = self._entry(path, stamp)
        heard = {} if entry is None else self._kept(entry[1], spans)
        if entry is None or len(heard) < len({*map(_span_key, spans)}):
            digest = digest or file_digest(path)
            listened = listen(str(path), spans)
            heard |= _heard(listened, spans, digest)
            entry = [stamp, digest.hexdigest(), _recording_hash(listened), listened.decoder]
            if [*stamp_of(path.stat())] != stamp:
                raise AudioError("was changed while it was read; run the same command again")
        self.files[os.path.abspath(path)] = entry
        looks = []
        for (position, _), span in zip(rows, spans, strict=True):
            result = heard[_span_key(span)]
            if isinstance(result, AudioError):
                looks.append(Look(position, reason=str(result)))
                continue
            seconds, samples, hashed = result
            content = hashed, entry[1], samples, entry[2]
            looks.append(Look(position, seconds, content, status.st_size, time_of(status)))
        return looks

    def _entry(self, path: Path, stamp: list[int]) -> tuple[list[Any] | None, Any]:
        """What is known of a file, and the digest of its bytes where they had to be read."""
        entry = self.files.get(os.path.abspath(path))
        if entry is not None and entry[0] == stamp:
            return entry, None
        digest = file_digest(path)
        known = self._by_hash.get(digest.hexdigest())
        return None if known is None else [stamp, *known[1:]], digest

    def _kept(self, file_hash: str, spans: Sequence[Times]) -> dict[TimesKey, Kept | AudioError]:
        """What the table said before of spans of a file of these bytes."""
        kept = {key: self.rows.get((file_hash, *key)) for key in map(_span_key, spans)}
        return {key: heard for key, heard in kept.items() if heard is not None}


def _span_key(span: Times) -> TimesKey:
    start, end = span
    return repr(start), repr(end)


def _heard(
    listened: Heard, spans: Sequence[Times], digest: hashlib.blake2b
) -> dict[TimesKey, Kept | AudioError]:
    """Seconds and hashes of each span, or why there are none."""
    heard: dict[TimesKey, Kept | AudioError] = {}
    for span, result in zip(spans, listened.spans, strict=True):
        if isinstance(result, AudioError):
            heard[_span_key(span)] = result
            continue
        hashed = audio_hash(digest, *span, decoder=result.decoder)
        samples = SILENT if result.silent else result.samples_hash
        heard[_span_key(span)] = result.seconds, samples, hashed
    return heard


def _recording_hash(listened: Heard) -> str:
    """The hash of all of a file's samples; of one that is silent the word for it."""
    recording = listened.recording_hash
    silent = (
        result.samples_hash
        for result in listened.spans
        if not isinstance(result, AudioError) and result.silent
    )
    return SILENT if recording in {*silent} else recording


def time_of(status: os.stat_result) -> int:
    """A file's time of change in nanoseconds; of one beyond int64 (the year 2262) its bound."""
    return min(max(status.st_mtime_ns, int(_INT64.min)), int(_INT64.max))


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and [type(value) for value in entry] == [list, str, str, int]
        and all(type(value) is int for value in entry[0])
    )
