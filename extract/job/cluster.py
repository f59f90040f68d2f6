"""An extraction on many workers, by Dask: slabs of the plan out, sealed parts in the shared folder.

Conventions
-----------
- The client plans, holds the lock and merges. A worker loads a model once, and seals what it
  computes itself; no feature goes over the wire.
- What was computed is read from the parts, not from what tasks return: a slab whose worker died is
  begun again elsewhere, behind what is sealed. Two workers that compute the same batches write the
  same rows.
- A few slabs a worker are under way at a time, so that messages do not grow with the corpus.
- A task that is cancelled, be it by its client's death, stops at its next batch; it seals only
  while the lock is its client's.
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from extract.job import ahead
from extract.job import compute as local
from extract.job import device as device_module
from extract.job.compute import Extractor, Item
from extract.job.device import Machine, device_of
from extract.job.parts import SEAL_AFTER_BYTES, Outcome, Slab, sealed_of
from extract.plan.batches import BatchPlan, Pending
from extract.plan.work import Target
from features.common.errors import ClusterError, StoreError
from features.common.lock import WriterLock, check_held
from features.common.telling import aloud
from features.common.workers import Workers, task

SLABS_UNDER_WAY = 2
"""Slabs a worker that are computed or wait at it."""
SLABS_A_WORKER = 8
"""Least slabs a worker of an extraction, so that all end at about the same time."""
SLAB_UTTERANCES = 4_000
"""Bounds the message of a slab: about a megabyte."""
ROUNDS = 3
"""How often what the parts lack is asked for: network file systems may show them late."""
LOOK_AGAIN_S = 5.0


def place(
    workers: Workers, machine: Machine, target: Target, longest_s: float
) -> tuple[str, float]:
    """Device and padded seconds a batch, as a worker sees them: the client may have no device.

    Parameters
    ----------
    workers : Workers
    machine : Machine
    target : Target
    longest_s : float
        Seconds of the longest utterance.

    Returns
    -------
    device : str
    budget_s : float

    Raises
    ------
    ModelError
        The worker has no such device.
    """
    future = workers.client.submit(
        device_module.place, machine, _portable(target), longest_s, pure=False
    )
    device, budget_s = future.result()
    return str(device), float(budget_s)


def compute(
    workers: Workers,
    whole: Slab,
    plan: BatchPlan,
    items: Callable[[Sequence[Pending]], list[Item]],
    settled: set[tuple[str, str]],
    machine: Machine,
    device: str,
    lock: WriterLock,
    progress: Callable[[float], None],
) -> Outcome:
    """Compute what is left of a plan on workers.

    Parameters
    ----------
    workers : Workers
    whole : Slab
        Without batches.
    plan : BatchPlan
    items : callable
        Completes the jobs of a batch.
    settled : set of (utterance, audio hash)
        What needs not be computed.
    machine : Machine
    device : str
        As `place` gives it.
    lock : WriterLock
        Held; its text goes to the workers.
    progress : callable
        Gets the seconds of audio of every finished slab.

    Returns
    -------
    Outcome
        Of all workers together.

    Raises
    ------
    ClusterError
        A slab's workers died, one after the other; workers see other folders; the scheduler is
        gone.
    StoreError, ModelError, AudioError
        As `extract.job.compute.compute` raises them, on a worker.
    """
    whole = replace(whole, target=_portable(whole.target), folder=whole.folder.absolute())
    if machine.jobs < 0:
        machine = replace(machine, jobs=workers.threads)
    outcome = Outcome()
    computed: set[tuple[str, str]] = set()
    for round_ in range(ROUNDS):
        if round_:
            time.sleep(LOOK_AGAIN_S)
        left = plan.left(settled | computed | set(outcome.failed))
        if not left:
            break
        slabs = cut(whole, plan, left, items, workers.n)
        _run(workers, slabs, (machine, device, workers.threads), lock, progress)
        kinds = whole.target.kinds
        computed, outcome.failed = sealed_of(whole.folder, plan.name, kinds=kinds)
        progress = _nothing
    lacking = plan.left(settled | computed | set(outcome.failed))
    if lacking:
        raise StoreError(
            f"{whole.folder}: the workers have computed all batches, but {len(lacking)} are not "
            f"here; this machine and the workers must see the same folder"
        )
    new = [job for batch in plan.batches for job in batch]
    new = [job for job in new if (job.utterance, job.audio_hash) in computed - settled]
    outcome.computed, outcome.computed_s = len(new), sum(job.seconds for job in new)
    return outcome


def _nothing(seconds: float) -> None:
    """Count no seconds of audio twice."""


def cut(
    whole: Slab,
    plan: BatchPlan,
    numbers: Sequence[int],
    items: Callable[[Sequence[Pending]], list[Item]],
    n_workers: int,
) -> Iterator[Slab]:
    """Cut batches into slabs of about one part, and several a worker.

    Parameters
    ----------
    whole : Slab
        Without batches.
    plan : BatchPlan
    numbers : sequence of int
        Batches of the plan that are to be computed, ascending.
    items : callable
        Completes the jobs of a batch.
    n_workers : int

    Yields
    ------
    Slab
        With the next batches.
    """
    audio_s = sum(job.seconds for number in numbers for job in plan.batches[number])
    most_s = (audio_s + 1e-3) / (SLABS_A_WORKER * n_workers)
    target = whole.target
    batches: list[tuple[int, list[Item]]] = []
    n_bytes, n, seconds = 0, 0, 0.0
    for number in numbers:
        batch = plan.batches[number]
        lengths = [job.seconds for job in batch]
        batch_s, batch_bytes = sum(lengths), target.bytes_of(lengths)
        full = n + len(batch) > SLAB_UTTERANCES or n_bytes + batch_bytes > SEAL_AFTER_BYTES
        if batches and (full or seconds + batch_s > most_s):
            yield replace(whole, batches=batches)
            batches, n_bytes, n, seconds = [], 0, 0, 0.0
        batches.append((number, items(batch)))
        n_bytes, n, seconds = n_bytes + batch_bytes, n + len(batch), seconds + batch_s
    if batches:
        yield replace(whole, batches=batches)


def _run(
    workers: Workers,
    slabs: Iterator[Slab],
    how: tuple[Machine, str, int],
    lock: WriterLock,
    progress: Callable[[float], None],
) -> None:
    """Send slabs and wait for them, a few under way at a time."""
    from distributed import as_completed

    client, folder = workers.client, ""
    under_way: dict[Any, tuple[str, float]] = {}
    finished = as_completed(loop=client.loop)
    try:
        while True:
            most = SLABS_UNDER_WAY * max(workers.n, workers.count())
            while len(under_way) < most and (slab := next(slabs, None)) is not None:
                folder = str(slab.folder)
                key = f"{slab.target.name}-{slab.batches[0][0]:06d}-{uuid.uuid4().hex[:8]}"
                future = client.submit(
                    compute_slab, slab, *how, lock.path.absolute(), lock.text, key=key
                )
                under_way[future] = slab.title, slab.audio_s
                finished.add(future)
            if not under_way:
                return
            future = next(finished)
            title, audio_s = under_way[future]
            workers.result(future, title)
            del under_way[future]
            progress(audio_s)
            lock.check()
    finally:
        if under_way:
            workers.stop(list(under_way), folder)


def _portable(target: Target) -> Target:
    """The same, with a checkpoint's folder as other working directories call it."""
    return replace(target, description=target.description.portable())


# What follows runs in the workers.

_extractors: dict[str, Extractor] = {}
_pools: dict[int, Executor] = {}


class _Cancelled(Exception):
    """Nobody waits for the slab any more."""


def compute_slab(
    slab: Slab, machine: Machine, device: str, threads: int, lock: Path, held: str
) -> None:
    """Compute what is left of a slab, in a worker.

    Parameters
    ----------
    slab : Slab
    machine : Machine
    device : str
    threads : int
        For torch.
    lock : Path
        The client's lock file.
    held : str
        What it says while the store is the client's.

    Raises
    ------
    ClusterError
        The worker does not see the lock or the audio.
    StoreError
        The store is not the client's any more, or a part cannot be written.
    """
    with task(str(slab.folder)) as cancelled:

        def go_on(seconds: float = 0.0) -> None:
            if cancelled():
                raise _Cancelled

        go_on()
        _check_seen(lock)
        check_held(lock, held)
        slab = slab.left()
        if not slab.batches:
            return
        # Of audio one file may be gone since; where all of a batch are, the folder is not seen.
        paths = [Path(item.clip.path) for item in slab.batches[0][1]]
        _check_seen(next((path for path in paths if path.exists()), paths[0]))
        extractor = _extractor(slab.target, device, threads)
        feature_set = slab.target.description.feature_set
        n = machine.n_workers(device != "cpu", slab.target.in_decoders)
        try:
            local.compute(
                slab,
                machine,
                device,
                progress=go_on,
                may_write=lambda: check_held(lock, held),
                extractor=extractor,
                warn=aloud,  # in the worker's own log
                pool=_pool(n, feature_set) if n else None,
            )
        except _Cancelled:
            return
        except BaseException:
            _close_pools()
            raise


def _check_seen(path: Path) -> None:
    """Refuse to work where the client's folders are not.

    Raises
    ------
    ClusterError
    """
    if not path.exists():
        raise ClusterError(
            f"the worker on {socket.gethostname()} does not see {path}: stores, audio and weights "
            f"must lie in folders that all workers see under the same names"
        )


def _extractor(target: Target, device: str, threads: int) -> Extractor:
    """The model of the last slab, or another in its place."""
    folder = target.description.folder
    identity = json.dumps([target.plan_key, str(folder), device, threads], sort_keys=True)
    if identity not in _extractors:
        _extractors.clear()
        _close_pools()
        if folder is not None:
            _check_seen(folder)
        device_of(device, target)
        _extractors[identity] = local.load_extractor(target, device, threads)
    return _extractors[identity]


def _pool(n: int, feature_set: str | None) -> Executor:
    """What decodes for this worker, kept from slab to slab of a model."""
    if n not in _pools:
        _close_pools()
        _pools[n] = ahead.decoders(n, feature_set)
    return _pools[n]


def _close_pools() -> None:
    while _pools:
        _pools.popitem()[1].shutdown(wait=False, cancel_futures=True)
