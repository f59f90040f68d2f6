"""What the audio of a corpus is now: hashes, lengths and silence of every row, kept for next time.

Conventions
-----------
- What was found before is not looked for again (`features.audio_memory`).
- A file that cannot be read or decoded stops nothing: its rows are failures with their reasons.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from features.audio.decode import DECODER, Clip, listen
from features.audio_memory import NO_FILE, Look, Memory
from features.common.errors import AudioError
from features.common.findings import Finding, finding
from features.common.progress import Progress
from features.stores.key import audio_hash, file_digest
from features.utterances import (
    CONTENT,
    SILENT,
    SILENT_AUDIO,
    Table,
    write_table,
)

FILES_AT_ONCE = 32
"""Files that a thread looks at before it tells."""
MOST_THREADS = 8


@dataclass
class Survey:
    """What the audio folder holds now.

    Attributes
    ----------
    rows : DataFrame
        The table with `seconds` and the hashes filled in, and columns `size` and `mtime_ns`.
    failures : dict
        Utterance -> reason, for rows whose audio cannot be used at all.
    root : Path
    findings : list of Finding
        What was odd.
    """

    rows: pd.DataFrame
    failures: dict[str, str]
    root: Path
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        clips = clips_of(self.rows, self.root)
        stats = zip(self.rows["size"].tolist(), self.rows["mtime_ns"].tolist(), strict=True)
        self._files = {c.utterance: (c, *stat) for c, stat in zip(clips, stats, strict=True)}

    def clip(self, utterance: str) -> Clip:
        """Where an utterance's audio is."""
        return self._files[utterance][0]

    def file(self, utterance: str) -> tuple[Clip, int, int]:
        """An utterance's clip, and size and time of its file when it was looked at."""
        return self._files[utterance]


def clips_of(table: pd.DataFrame, root: Path) -> list[Clip]:
    """Where the audio of a table's rows is."""
    columns = (table[name].tolist() for name in ("utterance", "path", "start", "end"))
    return [
        Clip(utterance, str(root / path), start, end)
        for utterance, path, start, end in zip(*columns, strict=True)
    ]


def survey(table: Table, root: Path, folder: Path, keep: Table | None = None) -> Survey:
    """Look at the audio of a corpus, and write its table with what is found.

    Parameters
    ----------
    table : Table
        As read from the corpus; its rows get `seconds` and the hashes, its findings what is odd.
    root : Path
        The corpus's folder.
    folder : Path
        Where its table and stores are.
    keep : Table, optional
        An older one, whose findings stand for rows whose audio is not here.

    Returns
    -------
    Survey
        With sizes and times of the files, and a reason for each row that cannot be used.

    Raises
    ------
    StoreError, CorpusError
        The folder cannot be written.
    """
    memory = Memory(folder)
    rows = table.rows.reset_index(drop=True).copy()
    looks = _looks(memory, clips_of(rows, root), root)
    rows["seconds"] = np.array([look.seconds for look in looks], dtype=np.float64)
    for i, name in enumerate(CONTENT):
        rows[name] = pd.Series([look.content[i] for look in looks], index=rows.index, dtype=str)
    ids = rows["utterance"].tolist()
    seen = Survey(
        rows.assign(
            size=np.array([look.size for look in looks], dtype=np.int64),
            mtime_ns=np.array([look.mtime_ns for look in looks], dtype=np.int64),
        ),
        {ids[look.position]: look.reason for look in looks if look.reason},
        root,
        _silent(rows),
    )
    table.rows = rows
    table.findings = [*table.findings, *seen.findings]
    if keep is not None:
        absent = [look.position for look in looks if look.reason == NO_FILE]
        keep_measured(table, keep, absent)
    write_table(folder, table)
    memory.write()
    return seen


def _looks(memory: Memory, clips: Sequence[Clip], root: Path) -> list[Look]:
    """Look at the files of all rows, in threads; a look a row, in their order."""
    by_file: dict[str, list[tuple[int, Clip]]] = {}
    for position, clip in enumerate(clips):
        by_file.setdefault(clip.path, []).append((position, clip))
    files = list(by_file.items())
    # A future a file would be the largest thing in memory.
    portions = [files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE)]
    looks: list[Look] = []
    progress = Progress(f"{root}: looking at the audio", len(files), "files")
    with ThreadPoolExecutor(max_workers=min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda some: [memory.look(Path(p), rows) for p, rows in some], portions)
        for portion in found:
            progress.add(len(portion))
            looks.extend(chain(*portion))
    progress.close()
    return sorted(looks, key=lambda look: look.position)


def _silent(table: pd.DataFrame) -> list[Finding]:
    names = table.loc[table["samples_hash"] == SILENT, "utterance"].tolist()
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
    columns = (old.rows[name].map(repr).tolist() for name in names)
    before = {key: i for i, key in enumerate(zip(*columns, strict=True))}
    columns = (table.rows[name].iloc[list(absent)].map(repr).tolist() for name in names)
    known = [
        (row, before[key])
        for row, key in zip(absent, zip(*columns, strict=True), strict=True)
        if key in before
    ]
    rows, taken = [row for row, _ in known], [at for _, at in known]
    for name in ("seconds", *CONTENT):
        values = table.rows[name].to_numpy(copy=True)
        values[rows] = old.rows[name].to_numpy()[taken]
        table.rows[name] = values


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

    Returns
    -------
    list of str
        In the order of the new table.
    """
    columns = (old.rows[name].tolist() for name in ("utterance", "path", "audio_hash"))
    before = {utterance: (path, hashed) for utterance, path, hashed in zip(*columns, strict=True)}
    found = []
    columns = (new.rows[name].tolist() for name in ("utterance", "path", "start", "end"))
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
    return hashed in {audio_hash(digest, start, end, decoder=version) for version in versions}


def decoders_of(path: Path, spans: Sequence[tuple[float, float]]) -> list[int]:
    """Versions of the decoding that give the samples of spans; 1 for what cannot be decoded."""
    try:
        found = listen(str(path), spans).spans
    except AudioError:
        return [1] * len(spans)
    return [1 if isinstance(span, AudioError) else span.decoder for span in found]


def forget(folder: Path, paths: Iterable[Path]) -> None:
    """Have files read again by the next look, whatever size and times say."""
    memory = Memory(folder)
    gone = {os.path.abspath(path) for path in paths} & memory.files.keys()
    for path in gone:
        del memory.files[path]
    if gone:
        memory.write()
