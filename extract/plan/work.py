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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from extract.audio import SAMPLING_RATE_HZ, Clip
from extract.encoders.registry import Model
from extract.plan.batches import Pending
from features.audio_memory import time_of
from features.common.errors import StoreError
from features.common.files import Stamp, file_stamp
from features.common.progress import duration, size
from features.stores.failures import failures_path, read_failures
from features.stores.inventory import shown_source
from features.stores.key import (
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
    def least_s(self) -> float:
        """Seconds that an utterance costs, however short it is."""
        return self.description.padded_samples / SAMPLING_RATE_HZ

    @property
    def row_bytes(self) -> int:
        """Bytes of one utterance in the store."""
        return 4 * len(self.layers) * sum(self.columns.values())

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
class Work:
    """What an extraction of one model for one corpus has to do.

    Attributes
    ----------
    wanted : DataFrame
        Rows that the finished store has: utterance, audio_hash, size, mtime_ns, seconds.
    jobs : list of Pending
        Those that the store lacks.
    failures : dict
        Utterance -> (reason, audio_hash), of those that are not tried (again).
    leaving : int
        Rows that leave the store.
    n_cached : int
    n_damaged : int
        Rows among the jobs that the store has, but damaged.
    damages : list of str
        What is damaged of the store, a line a block.
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
    jobs: list[Pending]
    failures: dict[str, tuple[str, str]]
    leaving: int
    n_cached: int
    n_damaged: int
    force: bool
    stamp: Stamp | None
    damages: list[str] = field(default_factory=list)
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
        n = len(self.survey.rows)
        name = f"{self.corpus}/{self.target.title}"
        head = f"{name}: {self.n_cached} of {n} cached"
        if self.failures:
            listed = failures_path(self.path)
            where = f"see {listed}" if listed.exists() else "unreadable"
            head += f", {len(self.failures)} without features ({where})"
        if self.idle:
            return f"{head}, nothing to do"
        damaged = f", {self.n_damaged} damaged" if self.n_damaged else ""
        leaving = f", {self.leaving} to be removed" if self.leaving else ""
        to_do = (
            f"{len(self.jobs)} to do ({self.audio_s:,.0f} s of audio, "
            f"{size(self.bytes_needed)} of disk)"
        )
        anew = len(self.jobs) == n and not (damaged or leaving)
        return f"{name}: {to_do}" if anew else f"{head}{damaged}{leaving}, {to_do}"


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
    stamp = file_stamp(path)
    stored = _stored(path, target, verify=verify) if stamp and not force else _Stored()
    failures = {u: (reason, "") for u, reason in seen.failures.items()}
    if not force:
        failures |= _failed_before(path, target, seen.rows, stored.have)
    wanted = seen.rows[~seen.rows["utterance"].isin(list(failures))].reset_index(drop=True)
    pairs = list(zip(wanted["utterance"], wanted["audio_hash"], strict=True))
    jobs = [
        Pending(*pair, float(length))
        for pair, length in zip(pairs, wanted["seconds"], strict=True)
        if pair not in stored.have
    ]
    leaving = {utterance for utterance, _ in stored.have} - set(wanted["utterance"])
    return Work(
        corpus, target, seen, path, wanted, jobs, failures,
        leaving=len(leaving), n_cached=len(pairs) - len(jobs),
        n_damaged=len(stored.damaged & set(wanted["utterance"])), force=force, stamp=stamp,
        damages=stored.damages,
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


def _stored(path: Path, target: Target, *, verify: bool) -> _Stored:
    """Look into a store, which has to be of the target's key."""
    damaged: set[str] = set()
    damages: list[str] = []
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
            damages.append(str(damage))
            damaged.update(damage.utterances)
        whole = store.index[~store.index["utterance"].isin(list(damaged))]
    have = set(zip(whole["utterance"], whole["audio_hash"], strict=True))
    return _Stored(have, damaged, damages)


def _failed_before(
    path: Path, target: Target, rows: pd.DataFrame, have: set[tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Failures of the same key and audio that are not tried again: utterance -> (reason, hash)."""
    by_hash = {u: h for u, h in zip(rows["utterance"], rows["audio_hash"], strict=True) if h}
    before = read_failures(path)
    before = before[before["key"] == key_hash(target.key)]
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
    parts = max((work.target.row_bytes * len(work.jobs) for work in works), default=0)
    return parts + sum(w.target.row_bytes * len(w.wanted) for w in works if not w.idle)


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
        raise StoreError(
            f"{stores}: the stores need {size(needed)}, the disk has {size(free)} free; "
            f"make room, extract fewer models at once, or store fewer layers with [extract] layers"
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
    text = f"{work.corpus}/{work.target.title}: {work.computed} computed, {work.n_cached} cached"
    if work.sealed_before:
        text += f", {work.sealed_before} sealed before"
    if work.leaving:
        text += f", {work.leaving} removed"
    if work.failures:
        text += f", {len(work.failures)} failed (see {failures_path(work.path)})"
    if work.computed:
        text += f", in {duration(work.elapsed_s)} ({rate:.{0 if rate >= 10 else 1}f}x real time)"
    return text
