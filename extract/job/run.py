"""The extraction of one model for one corpus: lock, plan, compute, merge.

Where frames or segments are asked for, one plan covers what any of the files lacks, one forward
gives all of them, and a file that lacks nothing is left as it is.

Conventions
-----------
- Killing the process at any moment loses at most the unsealed part; the same command goes on with
  the same plan, and the store comes out the same bit for bit.
- One bad utterance stops nothing: it is left out, and listed with its reason in
  `<model>.failures.csv`.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.frames import FrameOutput
from extract.job import cluster
from extract.job.compute import compute
from extract.job.device import Machine, place
from extract.job.parts import Failed, Slab
from extract.plan.batches import (
    Pending,
    current_plan,
    padded_seconds,
    read_plan,
    refuse_other_key,
)
from extract.plan.work import FileState, Target, Work, items_of
from features.common.errors import StoreError
from features.common.lock import WriterLock
from features.common.progress import Progress
from features.common.telling import Tell, silent
from features.common.words import counted
from features.common.workers import Workers
from features.stores.failures import write_failures
from features.stores.frames import FrameStore, gathered
from features.stores.key import all_beside, frames_beside, key_difference, key_hash, parts_path
from features.stores.read import Store, sealed_parts
from features.stores.write import write_frames, write_store

OPEN_PARTS = 200
"""Parts that are kept open during the merge; systems allow a process about a thousand files."""


def run(
    work: Work,
    machine: Machine,
    *,
    workers: Workers | None = None,
    wait: bool = False,
    break_lock: bool = False,
    tell: Tell = silent,
    warn: Tell = silent,
) -> Work:
    """Compute what is missing, and write the finished store.

    Parameters
    ----------
    work : Work
    machine : Machine
    workers : Workers, optional
        Who computes; without them this process.
    wait : bool
        Wait where another process holds the store, instead of raising.
    break_lock : bool
        Take the store from whoever holds it.
    tell, warn : callable
        Get a line on what is begun or damaged; on a batch that was too large.

    Returns
    -------
    Work
        What was done: the same, or planned again where another process has replaced the store
        meanwhile. What could not be computed is added to `failures`.

    Raises
    ------
    StoreError
        Another process holds the store, an extraction with other settings is under way, or a part
        cannot be written.
    ClusterError
        Workers were lost, or do not see the folders.
    """
    with WriterLock(work.path.with_suffix(".lock"), wait=wait, take=break_lock) as lock:
        began = time.monotonic()
        work = work.renewed()
        _remove_leftovers(work.path)
        folder = parts_path(work.path)
        if work.jobs:
            failed = _compute_missing(work, folder, machine, lock, workers, (tell, warn))
            work.pooled.failed(failed)
            for output, side in work.framewise:
                side.failed(failed | _frames_failed(folder, output.kind))
        lock.check()
        for output, side in work.framewise:
            if not side.idle:
                merge_frames(work, output, side, folder, tell)
                lock.check()
        if not work.pooled.idle:
            _merge(work, folder, tell)
        _write_failures(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.elapsed_s = time.monotonic() - began
    return work


def _compute_missing(
    work: Work,
    folder: Path,
    machine: Machine,
    lock: WriterLock,
    workers: Workers | None,
    tells: tuple[Tell, Tell],
) -> Failed:
    """Compute what neither the store nor sealed parts hold; return what failed, then or before."""
    tell, warn = tells
    done, failed = _sealed(folder, work.target, tell)
    settled = done | set(failed)
    work.sealed_before = len(done & {(j.utterance, j.audio_hash) for j in work.jobs})
    longest_s = max(job.seconds for job in work.jobs)
    if workers is None:
        device, budget_s = place(machine, work.target, longest_s)
    else:
        device, budget_s = cluster.place(workers, machine, work.target, longest_s)
    key, least_s = work.target.plan_key, work.target.least_s
    plan = current_plan(folder, key, work.jobs, settled, budget_s, least_s)
    left = plan.left(settled)
    if not left:
        return failed
    batches = [plan.batches[number] for number in left]
    audio_s = sum(job.seconds for batch in batches for job in batch)
    if work.sealed_before or device != "cpu":
        tell(_begun(work, batches, audio_s, device))
    whole = Slab(work.target, folder, plan.name, [])
    items = functools.partial(items_of, work.survey)
    progress = Progress(f"{work.corpus}/{work.target.title}", audio_s, "s of audio")
    try:
        if workers is None:
            slab = replace(
                whole, batches=[(number, items(plan.batches[number])) for number in left]
            )
            outcome = compute(
                slab,
                machine,
                device,
                progress=progress.add,
                may_write=lock.check,
                warn=warn,
            )
        else:
            outcome = cluster.compute(
                workers, whole, plan, items, settled, machine, device, lock, progress.add
            )
    finally:
        progress.close()
    work.computed, work.computed_s = outcome.computed, outcome.computed_s
    return failed | outcome.failed


def _begun(work: Work, batches: list[list[Pending]], audio_s: float, device: str) -> str:
    """What is computed now, in a line."""
    padded_s = padded_seconds(batches, work.target.least_s)
    before = counted(work.sealed_before, "utterance")
    sealed = f", {before} sealed before" if work.sealed_before else ""
    batches_on = f"{counted(len(batches), 'batch', 'batches')} on {device}"
    padded = f"{padded_s / max(audio_s, 1e-9):.2f}x padded"
    name = f"{work.corpus}/{work.target.title}"
    return f"{name}: {batches_on}, {audio_s:,.0f} s of audio, {padded}{sealed}"


def _write_failures(work: Work) -> None:
    """Write what could not be computed beside each file."""
    write_failures(work.path, work.failure_rows(work.pooled), key_hash(work.target.key))
    for output, side in work.framewise:
        write_failures(side.path, work.failure_rows(side), key_hash(output.key(work.target.key)))


def _sealed(folder: Path, target: Target, tell: Tell) -> tuple[set[tuple[str, str]], Failed]:
    """What the parts hold, and what failed in them; damaged parts are removed.

    Raises
    ------
    StoreError
        A part was made under another key.
    """
    plan = read_plan(folder)
    if plan is not None:
        refuse_other_key(folder, target.plan_key, plan.key)
    done: set[tuple[str, str]] = set()
    failed: Failed = {}
    for path, part in sealed_parts(folder):
        damaged = [] if part is not None and not part.verify() else [path]
        damaged += [
            beside
            for output in target.framewise
            for beside in [frames_beside(path, output.kind)]
            if not _is_sound(beside, output.key(target.key))
        ]
        if part is None or damaged:
            tell(f"{damaged[0]}: damaged; its batches are computed again")
            path.unlink()
            for beside in all_beside(path):
                beside.unlink(missing_ok=True)
            continue
        refuse_other_key(folder, target.key, part.key)
        done.update(zip(part.index["utterance"], part.index["audio_hash"], strict=True))
        failed.update({(u, h): reason for u, h, reason in part.failed})
    return done, failed


def _is_sound(path: Path, key: dict[str, Any]) -> bool:
    """Whether a part of frames or segments is there whole, and of that key."""
    try:
        with FrameStore(path) as part:
            return key_difference(key, part.key) is None and not part.verify()
    except StoreError:
        return False


def _frames_failed(folder: Path, kind: str) -> Failed:
    """Why frames, or segments, could not be stored, as the sealed parts say."""
    failed: Failed = {}
    for path in sorted(folder.glob("part-*.h5")):
        with FrameStore(frames_beside(path, kind)) as part:
            failed.update({(u, h): reason for u, h, reason in part.failed})
    return failed


def wanted_rows(side: FileState) -> pd.DataFrame:
    """The rows of the finished file, sorted: those that could be computed."""
    wanted = side.wanted[~side.wanted["utterance"].isin(list(side.failures))]
    return wanted.sort_values("utterance").reset_index(drop=True)


def _merge(work: Work, folder: Path, tell: Tell) -> None:
    """Write the finished store from the old one and the parts, a layer at a time."""
    target = work.target
    wanted = wanted_rows(work.pooled)
    if wanted.empty:
        tell(f"{work.corpus}/{target.title}: no utterance could be computed; no store is written")
        return
    sources = sources_of(work.pooled, sorted(folder.glob("part-*.h5")), wanted, folder, Store)
    with contextlib.ExitStack() as stack:
        first = [source.path for source in sources[:OPEN_PARTS]]
        kept = {path: stack.enter_context(Store(path)) for path in first}

        def read(path: Path, *what: Any) -> NDArray[np.float32]:
            if path in kept:
                return kept[path].read_rows(*what)
            with Store(path) as store:
                return store.read_rows(*what)

        def matrix(statistic: str, position: int, start: int, stop: int) -> NDArray[np.float32]:
            result = np.empty((stop - start, target.columns[statistic]), dtype=np.float32)
            for source in sources:
                inside = (source.to >= start) & (source.to < stop)
                if inside.any():
                    rows = read(source.path, position, statistic, source.rows[inside])
                    result[source.to[inside] - start] = rows
            return result

        write_store(
            work.path, target.key, wanted[["utterance", "audio_hash", "size", "mtime_ns"]],
            target.layers, matrix,
            default=target.default, columns=target.columns, names=target.names(),
        )  # fmt: skip


def merge_frames(
    work: Work, output: FrameOutput, side: FileState, folder: Path, tell: Tell
) -> None:
    """Write the finished frames, or segments, from the old ones and the parts, a layer at a time.

    At most `guard.FRAME_STEP_BYTES` of frames are in memory, however many there are.
    """
    wanted, name = wanted_rows(side), f"{work.corpus}/{work.target.title}"
    if wanted.empty:
        tell(f"{name}: no {output.kind} could be computed; none are written")
        return
    parts = [frames_beside(path, output.kind) for path in sorted(folder.glob("part-*.h5"))]
    sources = sources_of(side, parts, wanted, folder, FrameStore)
    lengths = np.zeros(len(wanted), np.int64)
    source_of, first_of = np.zeros((2, len(wanted)), np.int64)
    with contextlib.ExitStack() as stack:
        stores: list[FrameStore] = []
        for number, source in enumerate(sources):
            store = FrameStore(source.path)
            stores.append(store)
            if number < OPEN_PARTS:
                stack.enter_context(store)
            else:
                store.close()  # each read opens it again
            source_of[source.to] = number
            first_of[source.to] = store.offsets[source.rows]
            lengths[source.to] = store.lengths[source.rows]
        offsets = np.append(0, np.cumsum(lengths))

        def frames(position: int, start: int, stop: int) -> NDArray[Any]:
            def part_of(row: int, first: int, last: int) -> NDArray[Any]:
                begin = int(first_of[row])
                return stores[source_of[row]].read(position, begin + first, begin + last)

            return gathered(offsets, start, stop, part_of)

        write_frames(
            side.path, output.key(work.target.key),
            wanted[["utterance", "audio_hash", "size", "mtime_ns"]],
            offsets, output.layers, frames, width=output.width,
        )  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Rows of a part or of the old file that the finished file takes.

    Attributes
    ----------
    path : Path
    rows : int64, shape (n,)
        Their positions there.
    to : int64, shape (n,)
        Their positions in the finished file.
    """

    path: Path
    rows: NDArray[np.int64]
    to: NDArray[np.int64]


def sources_of(
    side: FileState,
    parts: list[Path],
    wanted: pd.DataFrame,
    folder: Path,
    kind: type[Store] | type[FrameStore],
) -> list[Source]:
    """Where every wanted row is read: in the old file if it is whole there, else in the first part.

    Raises
    ------
    StoreError
        None has it.
    """
    paths = [side.path, *parts] if side.have else parts
    pairs = zip(wanted["utterance"], wanted["audio_hash"], strict=True)
    row_of = {pair: row for row, pair in enumerate(pairs)}
    sources = []
    filled: set[int] = set()
    for path in paths:
        with kind(path) as store:
            stored = list(zip(store.index["utterance"], store.index["audio_hash"], strict=True))
        usable = side.have if path == side.path else row_of
        places = [
            (i, row_of[pair]) for i, pair in enumerate(stored) if pair in row_of and pair in usable
        ]
        places = [(i, row) for i, row in places if row not in filled]
        filled.update(row for _, row in places)
        if places:
            sources.append(Source(path, *np.array(places, dtype=np.int64).T))
    if len(filled) != len(wanted):
        lacking = wanted["utterance"][[i for i in range(len(wanted)) if i not in filled]].tolist()
        raise StoreError(
            f"{folder}: parts lack {counted(len(lacking), 'utterance')}, first {lacking[0]}"
        )
    return sources


def _remove_leftovers(path: Path) -> None:
    """Remove what a kill in the middle of a write has left; the lock is held."""
    folder = parts_path(path)
    leftovers = [
        *path.parent.glob(f".{path.name}.*.tmp"),
        *(one for file in all_beside(path) for one in file.parent.glob(f".{path.name}.*.tmp")),
        *folder.glob(".*.tmp"),
    ]
    for leftover in leftovers:
        with contextlib.suppress(FileNotFoundError):
            leftover.unlink()
