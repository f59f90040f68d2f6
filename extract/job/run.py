"""The extraction of one model for one corpus: lock, plan, compute, merge.

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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.job import cluster
from extract.job.compute import compute
from extract.job.device import Machine, place
from extract.job.parts import Failed, Slab
from extract.plan.batches import Pending, current_plan, padded_seconds
from extract.plan.work import Work, items_of
from features.common.errors import StoreError
from features.common.lock import WriterLock
from features.common.progress import Progress
from features.common.telling import Tell, silent
from features.common.words import counted
from features.common.workers import Workers
from features.stores.failures import write_failures
from features.stores.key import key_difference, key_hash, parts_path
from features.stores.read import Store, sealed_parts
from features.stores.write import write_store

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
            for job in work.jobs:
                reason = failed.get((job.utterance, job.audio_hash))
                if reason is not None:
                    work.failures[job.utterance] = (reason, job.audio_hash)
        lock.check()
        if not work.idle:
            _merge(work, folder, tell)
        write_failures(work.path, work.failure_rows, key_hash(work.target.key))
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
    done, failed = _sealed(folder, work.target.key, tell)
    settled = done | set(failed)
    work.sealed_before = len(done & {(j.utterance, j.audio_hash) for j in work.jobs})
    longest_s = max(job.seconds for job in work.jobs)
    if workers is None:
        device, budget_s = place(machine, work.target, longest_s)
    else:
        device, budget_s = cluster.place(workers, machine, work.target, longest_s)
    plan = current_plan(folder, work.target.key, work.jobs, settled, budget_s, work.target.least_s)
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


def _sealed(folder: Path, key: dict[str, Any], tell: Tell) -> tuple[set[tuple[str, str]], Failed]:
    """What the parts hold, and what failed in them; damaged parts are removed.

    Raises
    ------
    StoreError
        A part was made under another key.
    """
    done: set[tuple[str, str]] = set()
    failed: Failed = {}
    for path, part in sealed_parts(folder):
        if part is None or part.verify():
            tell(f"{path}: damaged; its batches are computed again")
            path.unlink()
            continue
        difference = key_difference(key, part.key)
        if difference:
            raise StoreError(
                f"{folder}: an extraction with other settings is under way ({difference}); finish "
                f"it with those settings, or delete the folder"
            )
        done.update(zip(part.index["utterance"], part.index["audio_hash"], strict=True))
        failed.update({(u, h): reason for u, h, reason in part.failed})
    return done, failed


def _merge(work: Work, folder: Path, tell: Tell) -> None:
    """Write the finished store from the old one and the parts, a layer at a time."""
    target = work.target
    failed = set(work.failures)
    wanted = work.wanted[~work.wanted["utterance"].isin(list(failed))]
    wanted = wanted.sort_values("utterance").reset_index(drop=True)
    if wanted.empty:
        tell(f"{work.corpus}/{target.title}: no utterance could be computed; no store is written")
        return
    paths = [*sorted(folder.glob("part-*.h5"))]
    if work.n_cached:
        paths.append(work.path)
    sources = _sources(paths, wanted, folder)
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


@dataclass(frozen=True)
class _Source:
    """Rows of a part or of the old store that the finished store takes.

    Attributes
    ----------
    path : Path
    rows : int64, shape (n,)
        Their positions there.
    to : int64, shape (n,)
        Their positions in the finished store.
    """

    path: Path
    rows: NDArray[np.int64]
    to: NDArray[np.int64]


def _sources(paths: list[Path], wanted: pd.DataFrame, folder: Path) -> list[_Source]:
    """Where every wanted row is read: in the first file that has it.

    Raises
    ------
    StoreError
        None has it.
    """
    pairs = zip(wanted["utterance"], wanted["audio_hash"], strict=True)
    row_of = {pair: row for row, pair in enumerate(pairs)}
    sources = []
    filled: set[int] = set()
    for path in paths:
        with Store(path) as store:
            stored = list(zip(store.index["utterance"], store.index["audio_hash"], strict=True))
        places = [(i, row_of[pair]) for i, pair in enumerate(stored) if pair in row_of]
        places = [(i, row) for i, row in places if row not in filled]
        filled.update(row for _, row in places)
        if places:
            sources.append(_Source(path, *np.array(places, dtype=np.int64).T))
    if len(filled) != len(wanted):
        lacking = wanted["utterance"][[i for i in range(len(wanted)) if i not in filled]].tolist()
        raise StoreError(
            f"{folder}: parts lack {counted(len(lacking), 'utterance')}, first {lacking[0]}"
        )
    return sources


def _remove_leftovers(path: Path) -> None:
    """Remove what a kill in the middle of a write has left; the lock is held."""
    folder = parts_path(path)
    leftovers: Iterator[Path] = path.parent.glob(f".{path.name}.*.tmp")
    for leftover in [*leftovers, *folder.glob(".*.tmp")]:
        with contextlib.suppress(FileNotFoundError):
            leftover.unlink()
