"""What an extraction has to do: the audio that lies there, beside the store that is there.

Conventions
-----------
- The store is a cache: only utterances that it lacks, whose audio changed, or whose stored rows are
  damaged, are computed. What the table no longer has leaves the store.
- An utterance that failed is not tried again while its audio and the settings stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from numpy.typing import ArrayLike

from extract.audio import SAMPLING_RATE_HZ, Clip
from extract.encoders.registry import Model
from extract.frames import FrameOutput
from extract.plan.batches import Pending
from features.audio_memory import time_of
from features.common.errors import StoreError
from features.common.files import Stamp, file_stamp
from features.common.progress import duration, size
from features.recipe.known.frame_kinds import FRAMES, SEGMENTS
from features.stores.failures import failures_path, read_failures
from features.stores.frames import FrameStore
from features.stores.inventory import shown_source
from features.stores.key import (
    frames_path,
    full_key,
    key_difference,
    key_hash,
    store_path,
)
from features.stores.read import Store
from features.survey import Survey

CHANGED = "its file was changed while it was extracted; run the same command again"
"""The reason of a failure that the next run tries again."""


class Described(Protocol):
    """What is known of a speech model or an acoustic set before anything of it is loaded."""

    @property
    def key(self) -> dict[str, Any]:
        """What a store is keyed by."""

    @property
    def columns(self) -> dict[str, int]:
        """Width of each statistic."""

    @property
    def default(self) -> Sequence[str]:
        """Statistics that a recipe gets that names none."""

    @property
    def n_layers(self) -> int:
        """Number of blocks."""

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give a frame."""

    @property
    def padded_samples(self) -> int:
        """Samples that an utterance costs at least."""

    @property
    def trained(self) -> bool:
        """False for random weights."""

    @property
    def folder(self) -> Path | None:
        """Of the checkpoint."""

    @property
    def feature_set(self) -> str | None:
        """What the processes that decode compute; None where a device does."""

    @property
    def remark(self) -> str:
        """What is said when an extraction starts; "" for nothing."""

    @property
    def framewise(self) -> tuple[FrameOutput, ...]:
        """What is stored in time beside the statistics."""

    def column_names(self) -> dict[str, list[str]]:
        """Names of the columns of each statistic, where they have any."""

    def portable(self) -> Described:
        """The same, as other working directories call its folder."""


@dataclass(frozen=True)
class Target:
    """A model as the extraction sees it: its key, the shape of its rows, how to make it."""

    model: Model
    description: Described
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
        return self.description.columns

    @property
    def default(self) -> list[str]:
        """Statistics that a recipe gets that names none."""
        return list(self.description.default)

    @property
    def in_decoders(self) -> bool:
        """Whether the processes that decode compute the features, and no device."""
        return self.description.feature_set is not None

    @property
    def layers(self) -> list[int]:
        """Stored layers."""
        return [int(layer) for layer in self.key["layers"]]

    @property
    def framewise(self) -> tuple[FrameOutput, ...]:
        """What is stored in time beside the statistics: frames, segments, both, or nothing."""
        return self.description.framewise

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of frames and segments these are."""
        return tuple(output.kind for output in self.framewise)

    @property
    def plan_key(self) -> dict[str, Any]:
        """What a plan of batches and its parts are keyed by."""
        return {**self.key, **{output.kind: output.asked for output in self.framewise}}

    @property
    def least_s(self) -> float:
        """Seconds that an utterance costs, however short it is."""
        return self.description.padded_samples / SAMPLING_RATE_HZ

    @property
    def row_bytes(self) -> int:
        """Bytes of one utterance in the store."""
        return 4 * len(self.layers) * sum(self.columns.values())

    def frame_bytes(self, seconds: ArrayLike) -> int:
        """About how many bytes utterances of such lengths take in time; 0 where nothing is."""
        return sum(output.bytes_of(seconds) for output in self.framewise)

    def bytes_of(self, seconds: Sequence[float]) -> int:
        """About how many bytes utterances of such lengths take in a part."""
        return self.row_bytes * len(seconds) + self.frame_bytes(seconds)

    def names(self) -> dict[str, list[str]]:
        """Names of the columns, where they have any."""
        return self.description.column_names()


def make_target(model: Model, description: Described) -> Target:
    """Complete a description's key with what every store has."""
    own = {"model": model.key, "n_layers": description.n_layers}
    key = full_key({**description.key, **own})
    return Target(model, description, key)


@dataclass(frozen=True)
class Item:
    """An utterance to be computed, where its audio is, and how its file looked when hashed."""

    job: Pending
    clip: Clip
    size: int
    mtime_ns: int

    @property
    def unchanged(self) -> bool:
        """Whether the file looks as it did when it was hashed; one that is gone counts as such."""
        with contextlib.suppress(OSError):
            status = os.stat(self.clip.path)
            return (status.st_size, time_of(status)) == (self.size, self.mtime_ns)
        return True


def items_of(seen: Survey, batch: Sequence[Pending]) -> list[Item]:
    """A batch with all that a process needs to compute it, whatever its working directory."""
    found = []
    for job in batch:
        clip, n_bytes, mtime_ns = seen.file(job.utterance)
        clip = replace(clip, path=os.path.abspath(clip.path))
        found.append(Item(job, clip, n_bytes, mtime_ns))
    return found


@dataclass
class FileState:
    """What one of the files of a model and corpus has, and what it lacks.

    Attributes
    ----------
    path : Path
    wanted : DataFrame
        Rows that the finished file has: utterance, audio_hash, size, mtime_ns, seconds.
    have : set of (utterance, audio hash)
        Rows that it has now, whole.
    lacking : list of Pending
        Those of the wanted rows that it has not.
    failures : dict
        Utterance -> (reason, audio_hash), of those that are not tried (again).
    leaving : int
        Rows that leave it.
    n_damaged : int
        Rows among the lacking that it has, but damaged.
    damages : list of str
        What is damaged, a line a block.
    stamp : tuple or None
        Tells the file that this was planned with from a later one.
    """

    path: Path
    wanted: pd.DataFrame
    have: set[tuple[str, str]]
    lacking: list[Pending]
    failures: dict[str, tuple[str, str]]
    leaving: int
    n_damaged: int
    damages: list[str]
    stamp: Stamp | None

    @property
    def n_cached(self) -> int:
        """Wanted rows that it has."""
        return len(self.wanted) - len(self.lacking)

    @property
    def idle(self) -> bool:
        """Whether it is as it should be."""
        return not self.lacking and not self.leaving and self.path.exists()

    @property
    def audio_s(self) -> float:
        """Seconds of audio that it lacks."""
        return sum(job.seconds for job in self.lacking)

    def describe(self, n: int, n_bytes: int) -> str:
        """What is there and what is to do, of `n` rows of the table."""
        head = f"{self.n_cached} of {n} cached"
        if self.failures:
            listed = failures_path(self.path)
            where = f"see {listed}" if listed.exists() else "unreadable"
            head += f", {len(self.failures)} without features ({where})"
        if self.idle:
            return f"{head}, nothing to do"
        damaged = f", {self.n_damaged} damaged" if self.n_damaged else ""
        leaving = f", {self.leaving} to be removed" if self.leaving else ""
        to_do = (
            f"{len(self.lacking)} to do ({self.audio_s:,.0f} s of audio, {size(n_bytes)} of disk)"
        )
        anew = len(self.lacking) == n and not (damaged or leaving)
        return to_do if anew else f"{head}{damaged}{leaving}, {to_do}"

    def failed(self, failed: Mapping[tuple[str, str], str]) -> None:
        """Take over why rows that it lacks could not be computed."""
        for job in self.lacking:
            reason = failed.get((job.utterance, job.audio_hash))
            if reason is not None:
                self.failures[job.utterance] = (reason, job.audio_hash)


@dataclass
class Work:
    """What an extraction of one model for one corpus has to do.

    Attributes
    ----------
    pooled : FileState
        The store.
    framewise : list of (FrameOutput, FileState)
        The frames and segments beside it, where they are asked for.
    jobs : list of Pending
        What any of them lacks: one forward gives all.
    force : bool
        Whether everything is computed anew.
    """

    corpus: str
    target: Target
    survey: Survey
    pooled: FileState
    framewise: list[tuple[FrameOutput, FileState]]
    force: bool
    computed: int = 0
    computed_s: float = 0.0
    sealed_before: int = 0
    elapsed_s: float = 0.0
    jobs: list[Pending] = field(init=False)

    def __post_init__(self) -> None:
        lacking = {job.utterance: job for side in self.sides for job in side.lacking}
        self.jobs = list(lacking.values())

    @property
    def sides(self) -> list[FileState]:
        """The store, and the frames and segments where they are asked for."""
        return [self.pooled, *(side for _, side in self.framewise)]

    @property
    def path(self) -> Path:
        """The store's file."""
        return self.pooled.path

    @property
    def failures(self) -> dict[str, tuple[str, str]]:
        """Utterance -> (reason, audio_hash), of those that one of the files goes without."""
        return {u: why for side in reversed(self.sides) for u, why in side.failures.items()}

    @property
    def damages(self) -> list[tuple[Path, str]]:
        """What is damaged of which file, a line a block."""
        return [(side.path, damage) for side in self.sides for damage in side.damages]

    def renewed(self) -> Work:
        """The same, or planned again where a file was replaced since."""
        if all(file_stamp(side.path) == side.stamp for side in self.sides):
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
        """Whether all files are as they should be."""
        return all(side.idle for side in self.sides)

    def failure_rows(self, side: FileState) -> list[tuple[str, str, str, str, str]]:
        """What a failures file holds."""
        return [
            (self.corpus, utterance, self.survey.clip(utterance).path, reason, hashed)
            for utterance, (reason, hashed) in sorted(side.failures.items())
        ]

    @property
    def part_bytes(self) -> int:
        """Bytes of the new parts."""
        return self.target.bytes_of([job.seconds for job in self.jobs])

    @property
    def pooled_bytes(self) -> int:
        """Bytes of the finished store, where it is written."""
        return 0 if self.pooled.idle else self.target.row_bytes * len(self.pooled.wanted)

    @property
    def framewise_bytes(self) -> int:
        """About the bytes of the finished frames and segments, where they are written."""
        return sum(_finished_bytes(output, side) for output, side in self.framewise)

    @property
    def bytes_needed(self) -> int:
        """Bytes on disk at the peak: the new parts, and the finished files beside the old ones."""
        return 0 if self.idle else self.part_bytes + self.pooled_bytes + self.framewise_bytes

    def __str__(self) -> str:
        n, row_bytes = len(self.survey.rows), self.target.row_bytes
        name = f"{self.corpus}/{self.target.title}"
        pooled = self.pooled.describe(
            n, row_bytes * len(self.pooled.lacking) + row_bytes * len(self.pooled.wanted)
        )
        text = f"{name}: {pooled}"
        for output, side in self.framewise:
            in_parts = output.bytes_of([job.seconds for job in side.lacking])
            text += f"; {output}: {side.describe(n, in_parts + _finished_bytes(output, side))}"
        return text


def _finished_bytes(output: FrameOutput, side: FileState) -> int:
    """About the bytes of a finished file in time, where it is written."""
    return 0 if side.idle else output.bytes_of(side.wanted["seconds"])


def plan_work(
    corpus: str, target: Target, seen: Survey, stores: Path, *, force: bool, verify: bool = False
) -> Work:
    """Compare a store with the table and the audio.

    Parameters
    ----------
    corpus : str
    target : Target
    seen : Survey
        The corpus's table and what was found of its audio.
    stores : Path
    force : bool
        Compute everything anew, whatever is stored.
    verify : bool
        Compare all stored blocks with their checksums; rows of damaged blocks are jobs.

    Returns
    -------
    Work
        Nothing is written, no model is loaded.

    Raises
    ------
    StoreError
        The store was made under another key: both values are named, and the way out.
    """
    path = store_path(stores, corpus, target.name)
    pooled = _side(path, Store, target.key, seen, force=force, verify=verify)
    framewise = []
    for output in target.framewise:
        beside, key = frames_path(stores, corpus, target.name, output.kind), output.key(target.key)
        side = _side(beside, FrameStore, key, seen, force=force, verify=verify)
        framewise.append((output, side))
    return Work(corpus, target, seen, pooled, framewise, force)


def _side(
    path: Path,
    kind: type[Store] | type[FrameStore],
    key: dict[str, Any],
    seen: Survey,
    *,
    force: bool,
    verify: bool,
) -> FileState:
    """Compare one file with the table and the audio."""
    stamp = file_stamp(path)
    stored = _stored(path, kind, key, verify=verify) if stamp and not force else _Stored()
    failures = {u: (reason, "") for u, reason in seen.failures.items()}
    if not force:
        failures |= _failed_before(path, key, seen.rows, stored.have)
    wanted = seen.rows[~seen.rows["utterance"].isin(list(failures))].reset_index(drop=True)
    pairs = list(zip(wanted["utterance"], wanted["audio_hash"], strict=True))
    lacking = [
        Pending(*pair, float(length))
        for pair, length in zip(pairs, wanted["seconds"], strict=True)
        if pair not in stored.have
    ]
    leaving = {utterance for utterance, _ in stored.have} - set(wanted["utterance"])
    return FileState(
        path, wanted, stored.have, lacking, failures, len(leaving),
        len(stored.damaged & set(wanted["utterance"])), stored.damages, stamp,
    )  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """What a store has.

    Attributes
    ----------
    have : set of (utterance, audio hash)
        Rows that are whole.
    damaged : set of str
        Utterances of damaged blocks.
    damages : list of str
        A line a damaged block.
    """

    have: set[tuple[str, str]] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    damages: list[str] = field(default_factory=list)


def _stored(
    path: Path, kind: type[Store] | type[FrameStore], key: dict[str, Any], *, verify: bool
) -> _Stored:
    """Look into a file, which has to be of that key."""
    damaged: set[str] = set()
    damages: list[str] = []
    with kind(path) as store:
        difference = key_difference(key, store.key)
        if store.imported:
            raise StoreError(
                f"{path}: was imported ({shown_source(store.key)}) under the name of a model "
                f"that is extracted; choose another folder with STORES=, or replace it with "
                f"FORCE=1"
            )
        if difference:
            replaced = "replace it" if kind is Store else "delete it, or replace it and the store"
            raise StoreError(
                f"{path}: made with other settings: {difference}; ask for the same settings, "
                f"choose another folder with STORES=, or {replaced} with FORCE=1"
            )
        for damage in store.verify() if verify else []:
            damages.append(str(damage))
            damaged.update(damage.utterances)
        whole = store.index[~store.index["utterance"].isin(list(damaged))]
    have = set(zip(whole["utterance"], whole["audio_hash"], strict=True))
    return _Stored(have, damaged, damages)


def _failed_before(
    path: Path, key: dict[str, Any], rows: pd.DataFrame, have: set[tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Failures of the same key and audio that are not tried again: utterance -> (reason, hash)."""
    by_hash = {u: h for u, h in zip(rows["utterance"], rows["audio_hash"], strict=True) if h}
    before = read_failures(path)
    before = before[before["key"] == key_hash(key)]
    failed = {}
    for utterance, hashed, reason in zip(
        before["utterance"], before["audio_hash"], before["reason"], strict=True
    ):
        again = reason == CHANGED or (utterance, hashed) in have
        if by_hash.get(utterance) == hashed and not again:
            failed[utterance] = (reason, hashed)
    return failed


def disk_needed(works: Sequence[Work]) -> int:
    """Bytes at the peak: all finished files and the largest parts, which go with their store."""
    parts = max((work.part_bytes for work in works), default=0)
    return parts + sum(work.pooled_bytes + work.framewise_bytes for work in works)


def disk_free(stores: Path) -> int:
    """Bytes free where the stores are, or will be."""
    existing = next(folder for folder in (stores, *stores.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def check_disk(works: Sequence[Work], stores: Path) -> None:
    """Refuse to start where the disk has less than what all stores will take.

    Raises
    ------
    StoreError
    """
    needed, free = disk_needed(works), disk_free(stores)
    if needed > free:
        kinds = {kind for work in works for kind in work.target.kinds}
        raise StoreError(
            f"{stores}: the stores need {size(needed)}, the disk has {size(free)} free; "
            f"make room, extract fewer models at once, or store fewer layers with [extract] layers"
            f"{' and frames' if FRAMES in kinds else ''}"
            f"{', or fewer segments' if SEGMENTS in kinds else ''}"
        )


def summary(work: Work) -> str:
    """One line on what was done.

    Parameters
    ----------
    work : Work
        As `extract.job.run.run` gives it back.

    Returns
    -------
    str
    """
    rate = work.computed_s / work.elapsed_s if work.elapsed_s else 0.0
    pooled = work.pooled
    text = f"{work.corpus}/{work.target.title}: {work.computed} computed, {pooled.n_cached} cached"
    for output, side in work.framewise:
        text += f", {output.kind} of {side.n_cached} cached"
    if work.sealed_before:
        text += f", {work.sealed_before} sealed before"
    named = [("", pooled), *((f"{output.kind} of ", side) for output, side in work.framewise)]
    for what, side in named:
        if side.leaving:
            text += f", {what}{side.leaving} removed"
        if side.failures:
            text += f", {what}{len(side.failures)} failed (see {failures_path(side.path)})"
    if work.computed:
        text += f", in {duration(work.elapsed_s)} ({rate:.{0 if rate >= 10 else 1}f}x real time)"
    return text
