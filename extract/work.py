"""What an extraction has to do: the audio that lies there, beside the store that is there.

Conventions
-----------
- The store is a cache: only utterances that it lacks, whose audio changed, or whose stored rows are
  damaged, are computed. What the table no longer has leaves the store.
- An utterance that failed is not tried again while its audio stays as it is.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract import acoustic
from extract.audio import SAMPLING_RATE_HZ, Clip, seconds
from extract.batches import Job
from extract.registry import Description, Model
from features.command import Progress, duration, size
from features.errors import AudioError, StoreError
from features.failures import failures_path, read_failures
from features.inventory import shown_source
from features.store import (
    Store,
    audio_hash,
    file_digest,
    full_key,
    key_difference,
    store_path,
)
from features.utterances import Table

FILES_AT_ONCE = 32
"""Files that a thread looks at before it tells."""


@dataclass(frozen=True)
class Target:
    """A model as the extraction sees it: its key, the shape of its rows, how to make it."""

    model: Model
    description: Description | acoustic.AcousticDescription
    key: dict[str, Any]

    @property
    def name(self) -> str:
        """The key that the user typed."""
        return self.model.key

    @property
    def title(self) -> str:
        """The name as it is shown: random weights say so."""
        return self.name if self.description.trained else f"{self.name} (UNTRAINED)"

    @property
    def columns(self) -> dict[str, int]:
        """Width of each statistic."""
        if isinstance(self.description, acoustic.AcousticDescription):
            return self.description.columns
        return {"mean": self.description.hidden_size}

    @property
    def default(self) -> list[str]:
        """Statistics that a recipe gets that names none."""
        if isinstance(self.description, acoustic.AcousticDescription):
            return self.description.default
        return ["mean"]

    @property
    def layers(self) -> list[int]:
        """Stored layers."""
        return [int(one) for one in self.key["layers"]]

    @property
    def least_s(self) -> float:
        """Seconds that an utterance costs, however short it is."""
        return getattr(self.description, "padded_samples", 0) / SAMPLING_RATE_HZ

    @property
    def row_bytes(self) -> int:
        """Bytes of one utterance in the store."""
        return 4 * len(self.layers) * sum(self.columns.values())

    def names(self) -> dict[str, list[str]]:
        """Names of the columns, where they have any."""
        acoustic_set = self.model.kind == "acoustic"
        return acoustic.column_names(self.name) if acoustic_set else {}


def make_target(model: Model, description: Description | acoustic.AcousticDescription) -> Target:
    """Complete a description's key with what every store has."""
    n_layers = getattr(description, "n_layers", 0)
    key = full_key({**description.key, "model": model.key, "n_layers": n_layers})
    return Target(model, description, key)


@dataclass(frozen=True)
class Item:
    """An utterance to be computed, where its audio is, and how its file looked when hashed."""

    job: Job
    clip: Clip
    size: int
    mtime_ns: int


@dataclass
class Survey:
    """What the audio folder holds now.

    Attributes
    ----------
    frame : DataFrame
        The table with `seconds` and `audio_hash` filled in, and columns `size` and `mtime_ns`.
    failures : dict
        Utterance -> reason, for files that cannot be read at all.
    root : Path
    """

    frame: pd.DataFrame
    failures: dict[str, str]
    root: Path

    def __post_init__(self) -> None:
        clips = _clips(self.frame, self.root)
        stats = zip(self.frame["size"].tolist(), self.frame["mtime_ns"].tolist(), strict=True)
        self._files = {c.utterance: (c, *stat) for c, stat in zip(clips, stats, strict=True)}

    def clip(self, utterance: str) -> Clip:
        """Where an utterance's audio is."""
        return self._files[utterance][0]

    def items(self, batch: Sequence[Job]) -> list[Item]:
        """A batch with all that a process needs to compute it, whatever its working directory."""
        found = []
        for job in batch:
            clip, n_bytes, mtime_ns = self._files[job.utterance]
            clip = replace(clip, path=os.path.abspath(clip.path))
            found.append(Item(job, clip, n_bytes, mtime_ns))
        return found


def _clips(frame: pd.DataFrame, root: Path) -> list[Clip]:
    columns = (frame[name].tolist() for name in ("utterance", "path", "start", "end"))
    return [
        Clip(utterance, str(root / path), start, end)
        for utterance, path, start, end in zip(*columns, strict=True)
    ]


def survey(table: Table, root: Path, known: pd.DataFrame, old: pd.DataFrame | None) -> Survey:
    """Hash every file and read the length of those that are new.

    Parameters
    ----------
    table : Table
        As read from the corpus.
    root : Path
        The corpus's folder.
    known : DataFrame
        Columns utterance, audio_hash, size, mtime_ns of all stores of the corpus: a file whose
        size and time are as they were is not hashed again.
    old : DataFrame, optional
        The table as it was written before: spares reading the headers of unchanged files.

    Returns
    -------
    Survey
    """
    frame = table.frame.reset_index(drop=True).copy()
    columns = (known[name].tolist() for name in ("utterance", "size", "mtime_ns", "audio_hash"))
    hashes: dict[tuple[str, int, int], str] = {
        row[:3]: row[3] for row in zip(*columns, strict=True)
    }
    lengths: dict[tuple[str, str], float] = {}
    if old is not None:
        lengths = {
            (u, h): s
            for u, h, s in zip(old["utterance"], old["audio_hash"], old["seconds"], strict=True)
            if h and not math.isnan(s)
        }

    def look(rows: list[tuple[int, Clip]]) -> list[tuple[int, str, float, int, int, str]]:
        """Look at one file and all its segments."""
        path = Path(rows[0][1].path)
        digest = None
        found: list[tuple[int, str, float, int, int, str]] = []
        for position, clip in rows:
            try:
                status = path.stat()
                hashed = hashes.get((clip.utterance, status.st_size, status.st_mtime_ns))
                if hashed is None:
                    digest = digest or file_digest(path)
                    hashed = audio_hash(digest, clip.start, clip.end)
                length = lengths.get((clip.utterance, hashed))
                if length is None:
                    length = seconds(clip)
                found.append((position, hashed, length, status.st_size, status.st_mtime_ns, ""))
            except FileNotFoundError:
                found.append((position, "", math.nan, 0, 0, "no such file"))
            except OSError as error:
                found.append((position, "", math.nan, 0, 0, f"cannot be read: {error.strerror}"))
            except AudioError as error:
                found.append((position, "", math.nan, 0, 0, str(error)))
        return found

    by_file: dict[str, list[tuple[int, Clip]]] = {}
    for position, clip in enumerate(_clips(frame, root)):
        by_file.setdefault(clip.path, []).append((position, clip))
    files = list(by_file.values())
    # A future a file would be the largest thing in memory.
    portions = [files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE)]
    audio_hashes = np.full(len(frame), "", dtype=object)
    audio_s = np.full(len(frame), np.nan)
    sizes, times = np.zeros(len(frame), np.int64), np.zeros(len(frame), np.int64)
    failures = {}
    progress = Progress(f"{root}: looking at the audio", len(files), "files")
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for portion in pool.map(lambda some: [look(rows) for rows in some], portions):
            progress.add(len(portion))
            for position, hashed, length, n_bytes, mtime_ns, reason in chain(*portion):
                audio_hashes[position], audio_s[position] = hashed, length
                sizes[position], times[position] = n_bytes, mtime_ns
                if reason:
                    failures[frame["utterance"].iloc[position]] = reason
    progress.close()
    frame["seconds"], frame["audio_hash"] = audio_s, audio_hashes
    return Survey(frame.assign(size=sizes, mtime_ns=times), failures, root)


def known_files(folder: Path) -> pd.DataFrame:
    """utterance, audio_hash, size, mtime_ns of every readable store of a corpus."""
    frames = []
    for path in sorted(folder.glob("*.h5")):
        with contextlib.suppress(StoreError), Store(path) as store:
            frames.append(store.index)
    if not frames:
        return pd.DataFrame({c: [] for c in ("utterance", "audio_hash", "size", "mtime_ns")})
    return pd.concat(frames, ignore_index=True).drop_duplicates()


@dataclass
class Work:
    """What an extraction of one model for one corpus has to do.

    Attributes
    ----------
    wanted : DataFrame
        Rows that the finished store has: utterance, audio_hash, size, mtime_ns, seconds.
    jobs : list of Job
        Those that the store lacks.
    failures : dict
        Utterance -> (reason, audio_hash), of those that are not tried (again).
    leaving : int
        Rows that leave the store.
    n_cached : int
    n_damaged : int
        Rows among the jobs that the store has, but damaged.
    force : bool
        Whether everything is computed anew.
    stamp : tuple or None
        Tells the store's file that this was planned with from a later one.
    """

    corpus: str
    target: Target
    survey: Survey
    path: Path
    wanted: pd.DataFrame
    jobs: list[Job]
    failures: dict[str, tuple[str, str]]
    leaving: int
    n_cached: int
    n_damaged: int
    force: bool
    stamp: tuple[int, int, int] | None
    computed: int = 0
    computed_s: float = 0.0
    sealed_before: int = 0
    elapsed_s: float = 0.0

    def renewed(self) -> Work:
        """The same, or planned again where the store was replaced since."""
        if file_stamp(self.path) == self.stamp:
            return self
        return plan_work(
            self.corpus, self.target, self.survey, self.path.parents[1], force=self.force
        )

    @property
    def audio_s(self) -> float:
        """Seconds of audio to be computed."""
        return sum(job.seconds for job in self.jobs)

    @property
    def idle(self) -> bool:
        """Whether the store is as it should be."""
        return not self.jobs and not self.leaving and self.path.exists()

    @property
    def failure_rows(self) -> list[tuple[str, str, str, str, str]]:
        """What the failures file holds."""
        return [
            (self.corpus, utterance, self.survey.clip(utterance).path, reason, hashed)
            for utterance, (reason, hashed) in sorted(self.failures.items())
        ]

    @property
    def bytes_needed(self) -> int:
        """Bytes on disk at the peak: the new parts, and the finished file beside the old one."""
        if self.idle:
            return 0
        return self.target.row_bytes * (len(self.jobs) + len(self.wanted))

    def __str__(self) -> str:
        n = len(self.survey.frame)
        head = f"{self.corpus}/{self.target.title}: {self.n_cached} of {n} cached"
        if self.failures:
            listed = failures_path(self.path)
            where = f"see {listed}" if listed.exists() else "unreadable"
            head += f", {len(self.failures)} without features ({where})"
        if self.idle:
            return f"{head}, nothing to do"
        damaged = f", {self.n_damaged} damaged" if self.n_damaged else ""
        leaving = f", {self.leaving} to be removed" if self.leaving else ""
        return (
            f"{head}{damaged}{leaving}, {len(self.jobs)} to do ({self.audio_s:,.0f} s of audio), "
            f"needs {size(self.bytes_needed)} of disk"
        )


def plan_work(
    corpus: str, target: Target, seen: Survey, stores: Path, *, force: bool, verify: bool = False
) -> Work:
    """Compare a store with the table and the audio.

    Parameters
    ----------
    force : bool
        Compute everything anew, whatever is stored.
    verify : bool
        Compare all stored blocks with their checksums; rows of damaged blocks are jobs.

    Raises
    ------
    StoreError
        The store was made under another key: both values are named, and the way out.
    """
    path = store_path(stores, corpus, target.name)
    frame = seen.frame
    old = pd.DataFrame({"utterance": [], "audio_hash": []})
    damaged: set[str] = set()
    stamp = file_stamp(path)
    if stamp and not force:
        with Store(path) as store:
            difference = key_difference(target.key, store.key)
            if store.imported:
                raise StoreError(
                    f"{path}: was imported ({shown_source(store.key)}) under the name of a model "
                    f"that is extracted; choose another folder with STORES=, or replace it with "
                    f"FORCE=1"
                )
            if difference:
                raise StoreError(
                    f"{path}: made with other settings: {difference}; ask for the same settings, "
                    f"choose another folder with STORES=, or replace it with FORCE=1"
                )
            for damage in store.verify() if verify else []:
                print(f"{path}: damaged: {damage}")
                damaged.update(damage.utterances)
            old = store.index
    old = old[~old["utterance"].isin(list(damaged))]
    have = set(zip(old["utterance"], old["audio_hash"], strict=True))
    failures = {u: (reason, "") for u, reason in seen.failures.items()}
    if not force:
        by_hash = {u: h for u, h in zip(frame["utterance"], frame["audio_hash"], strict=True) if h}
        before = read_failures(path)
        for utterance, hashed, reason in zip(
            before["utterance"], before["audio_hash"], before["reason"], strict=True
        ):
            if by_hash.get(utterance) == hashed and (utterance, hashed) not in have:
                failures[utterance] = (reason, hashed)
    wanted = frame[~frame["utterance"].isin(list(failures))].reset_index(drop=True)
    pairs = list(zip(wanted["utterance"], wanted["audio_hash"], strict=True))
    jobs = [
        Job(*pair, float(length))
        for pair, length in zip(pairs, wanted["seconds"], strict=True)
        if pair not in have
    ]
    leaving = {utterance for utterance, _ in have} - set(wanted["utterance"])
    return Work(
        corpus, target, seen, path, wanted, jobs, failures,
        leaving=len(leaving), n_cached=len(pairs) - len(jobs),
        n_damaged=len(damaged & set(wanted["utterance"])), force=force, stamp=stamp,
    )  # fmt: skip


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Tell a file from an earlier or later one of its name; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def disk_needed(works: Sequence[Work]) -> int:
    """Bytes at the peak: all finished files and the largest parts, which go with their store."""
    parts = max((work.target.row_bytes * len(work.jobs) for work in works), default=0)
    return parts + sum(w.target.row_bytes * len(w.wanted) for w in works if not w.idle)


def disk_free(stores: Path) -> int:
    """Bytes free where the stores are, or will be."""
    existing = next(one for one in (stores, *stores.absolute().parents) if one.exists())
    return shutil.disk_usage(existing).free


def check_disk(works: Sequence[Work], stores: Path) -> None:
    """Refuse to start where the disk has less than what all stores will take.

    Raises
    ------
    StoreError
    """
    needed, free = disk_needed(works), disk_free(stores)
    if needed > free:
        raise StoreError(
            f"{stores}: the stores need {size(needed)}, the disk has {size(free)} free; "
            f"make room, extract fewer models at once, or store fewer layers with [extract] layers"
        )


def summary(work: Work) -> str:
    """One line on what was done."""
    rate = work.computed_s / work.elapsed_s if work.elapsed_s else 0.0
    text = f"{work.corpus}/{work.target.title}: {work.computed} computed, {work.n_cached} cached"
    if work.sealed_before:
        text += f", {work.sealed_before} sealed before"
    if work.leaving:
        text += f", {work.leaving} removed"
    if work.failures:
        text += f", {len(work.failures)} failed (see {failures_path(work.path)})"
    if work.computed:
        text += f", in {duration(work.elapsed_s)} ({rate:.1f} s of audio a second)"
    return text
