"""From audio files to a complete store: survey, plan, parts, merge.

Conventions
-----------
- The store is a cache: only utterances that it lacks, or whose audio changed, are computed. What
  the table no longer has leaves the store.
- Finished batches are sealed into parts every 60 s or 256 MB. Killing the process at any moment
  loses at most the unsealed part; the same command goes on with the same plan.
- One bad utterance stops nothing: it is left out, and listed with its reason in
  `<model>.failures.csv`. While its audio stays as it is, it is not tried again.
- torch is imported after the planning, and only where there is something to compute.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract import acoustic
from extract.ahead import Loaded, load_ahead
from extract.audio import SAMPLING_RATE_HZ, Clip, seconds
from extract.batches import Job, Plan, current_plan, padded_seconds
from extract.registry import Description, Model
from features.command import Progress, duration, size
from features.errors import AudioError, ModelError, StoreError
from features.files import write_text
from features.store import (
    Store,
    WriterLock,
    audio_hash,
    file_digest,
    full_key,
    key_difference,
    parts_path,
    sealed_parts,
    store_path,
    write_store,
)
from features.utterances import Table

SEAL_AFTER_S = 60.0
SEAL_AFTER_BYTES = 256_000_000
BATCH_SECONDS = {"cpu": 16.0, "mps": 64.0, "cuda": 240.0}
"""Padded seconds a batch. On a CPU one file fills the cores and padding costs; see benchmarks/."""
MAX_GPU_WORKERS = 8

FAILURE_COLUMNS = ["corpus", "utterance", "path", "reason", "audio_hash"]


class Extractor(Protocol):
    """What turns a batch of audio into features."""

    def embed(self, audio: list[Any]) -> dict[str, NDArray[np.float32]]:
        """Statistic -> float32, shape (n_layers, n_utterances, n_columns)."""


class _Stack:
    """The extractor of the acoustic sets: workers have computed, here is only stacked."""

    def embed(self, audio: list[Any]) -> dict[str, NDArray[np.float32]]:
        return {name: np.stack([one[name] for one in audio])[None] for name in audio[0]}


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

    def clip(self, utterance: str) -> Clip:
        """Where an utterance's audio is."""
        return self._clips[utterance]

    def __post_init__(self) -> None:
        self._clips = {clip.utterance: clip for clip in _clips(self.frame, self.root)}


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

    files: dict[str, list[tuple[int, Clip]]] = {}
    for position, clip in enumerate(_clips(frame, root)):
        files.setdefault(clip.path, []).append((position, clip))
    audio_hashes = np.full(len(frame), "", dtype=object)
    audio_s = np.full(len(frame), np.nan)
    sizes, times = np.zeros(len(frame), np.int64), np.zeros(len(frame), np.int64)
    failures = {}
    progress = Progress(f"{root}: looking at the audio", len(files), "files")
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for rows in pool.map(look, files.values()):
            progress.add(1)
            for position, hashed, length, n_bytes, mtime_ns, reason in rows:
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
    computed: int = 0
    computed_s: float = 0.0
    sealed_before: int = 0
    elapsed_s: float = 0.0

    @property
    def audio_s(self) -> float:
        """Seconds of audio to be computed."""
        return sum(job.seconds for job in self.jobs)

    @property
    def idle(self) -> bool:
        """Whether the store is as it should be."""
        return not self.jobs and not self.leaving and self.path.exists()

    @property
    def bytes_needed(self) -> int:
        """Bytes on disk at the peak: the new parts, and the finished file beside the old one."""
        if self.idle:
            return 0
        return self.target.row_bytes * (len(self.jobs) + len(self.wanted))

    def __str__(self) -> str:
        head = f"{self.corpus}/{self.target.title}: {self.n_cached} of {len(self.wanted)} cached"
        if self.idle:
            return f"{head}, nothing to do"
        leaving = f", {self.leaving} to be removed" if self.leaving else ""
        return (
            f"{head}{leaving}, {len(self.jobs)} to do ({self.audio_s:,.0f} s of audio), "
            f"needs {size(self.bytes_needed)} of disk"
        )


def plan_work(corpus: str, target: Target, seen: Survey, stores: Path, *, force: bool) -> Work:
    """Compare a store with the table and the audio.

    Raises
    ------
    StoreError
        The store was made under another key: both values are named, and the way out.
    """
    path = store_path(stores, corpus, target.name)
    frame = seen.frame
    old = pd.DataFrame({"utterance": [], "audio_hash": []})
    if path.exists() and not force:
        with Store(path) as store:
            difference = key_difference(target.key, store.key)
            if difference:
                raise StoreError(
                    f"{path}: made with other settings: {difference}; ask for the same settings, "
                    f"choose another folder with STORES=, or replace it with FORCE=1"
                )
            old = store.index
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
    )  # fmt: skip


def read_failures(store: Path) -> pd.DataFrame:
    """The failures file beside a store; empty where there is none."""
    path = store.with_suffix(".failures.csv")
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)[FAILURE_COLUMNS]
    except (FileNotFoundError, KeyError, pd.errors.ParserError, pd.errors.EmptyDataError):
        return pd.DataFrame({column: [] for column in FAILURE_COLUMNS})


def check_disk(works: Sequence[Work], stores: Path) -> None:
    """Refuse to start where the disk has less than what all stores will take.

    Raises
    ------
    StoreError
    """
    # Parts go when their store is finished: the peak is all finished files and the largest parts.
    parts = max((w.target.row_bytes * len(w.jobs) for w in works), default=0)
    finished = sum(w.target.row_bytes * len(w.wanted) for w in works if not w.idle)
    stores.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(stores).free
    if parts + finished > free:
        raise StoreError(
            f"{stores}: the stores need {size(parts + finished)}, the disk has {size(free)} free; "
            f"make room, extract fewer models at once, or store fewer layers with [extract] layers"
        )


@dataclass(frozen=True)
class Machine:
    """Where and how an extraction computes; nothing here changes a number beyond rounding."""

    device: str = "auto"
    batch_seconds: float | None = None
    jobs: int = -1
    workers: int | None = None

    def n_workers(self, on_gpu: bool, is_acoustic: bool) -> int:
        """Decoding processes: all jobs for acoustic sets, none beside an encoder on the CPU.

        Decoding is well below a hundredth of a CPU encoder's work, less than starting a process.
        """
        if self.workers is not None:
            return self.workers
        jobs = self.jobs if self.jobs > 0 else (os.cpu_count() or 1)
        if is_acoustic:
            return jobs
        return min(jobs, MAX_GPU_WORKERS) if on_gpu else 0


def run(work: Work, machine: Machine) -> Work:
    """Compute what is missing, and write the finished store.

    Returns
    -------
    Work
        The same, with what could not be computed added to `failures`.

    Raises
    ------
    StoreError
        Another process holds the store, an extraction with other settings is under way, or a part
        cannot be written.
    """
    began = time.monotonic()
    with WriterLock(work.path.with_suffix(".lock")):
        _remove_leftovers(work.path)
        folder = parts_path(work.path)
        if not work.jobs:
            shutil.rmtree(folder, ignore_errors=True)
        if work.jobs:
            done, failed = _sealed(folder, work.target.key)
            settled = done | set(failed)
            work.sealed_before = len(done & {(j.utterance, j.audio_hash) for j in work.jobs})
            device = _device(machine.device, work.target.model)
            budget = machine.batch_seconds or BATCH_SECONDS[device.split(":")[0]]
            plan = current_plan(
                folder, work.target.key, work.jobs, settled, budget, work.target.least_s
            )
            todo = [
                (number, batch)
                for number, batch in enumerate(plan.batches)
                if any((j.utterance, j.audio_hash) not in settled for j in batch)
            ]
            if todo:
                failed |= _compute(work, plan, todo, folder, machine, device)
            _fail(work, failed)
        if work.jobs or work.leaving or not work.path.exists():
            _merge(work, folder)
        _write_failures(work)
        shutil.rmtree(folder, ignore_errors=True)
    work.elapsed_s = time.monotonic() - began
    return work


def _device(asked: str, model: Model) -> str:
    """Resolve `auto`; the first import of torch."""
    if model.kind == "acoustic":
        return "cpu"
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = asked.split(":")[0]
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked):
        raise ModelError(f"DEVICE={asked}: allowed are auto, cpu, cuda, cuda:N, mps")
    if (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    ):
        raise ModelError(f"DEVICE={asked}: torch sees no such device here; use DEVICE=auto or cpu")
    if kind == "cuda" and ":" in asked and int(asked.split(":")[1]) >= torch.cuda.device_count():
        raise ModelError(f"DEVICE={asked}: this machine has {torch.cuda.device_count()} of them")
    return asked


def _sealed(
    folder: Path, key: dict[str, Any]
) -> tuple[set[tuple[str, str]], dict[tuple[str, str], str]]:
    """What the parts hold, and what failed in them; damaged parts are removed.

    Raises
    ------
    StoreError
        A part was made under another key.
    """
    done: set[tuple[str, str]] = set()
    failed: dict[tuple[str, str], str] = {}
    for path, part in sealed_parts(folder):
        if part is None or part.verify():
            print(f"{path}: damaged; its batches are computed again", flush=True)
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


def _compute(
    work: Work,
    plan: Plan,
    todo: list[tuple[int, list[Job]]],
    folder: Path,
    machine: Machine,
    device: str,
) -> dict[tuple[str, str], str]:
    """Run the batches of the plan that are not sealed, sealing as it goes.

    Returns
    -------
    dict
        (utterance, audio hash) -> reason, of those that failed.
    """
    target, is_acoustic = work.target, work.target.model.kind == "acoustic"
    batches = [batch for _, batch in todo]
    audio_s = sum(job.seconds for batch in batches for job in batch)
    padded = padded_seconds(batches, target.least_s) / max(audio_s, 1e-9)
    print(
        f"{work.corpus}/{target.title}: {len(batches)} batches on {device}, "
        f"{audio_s:,.0f} s of audio, {padded:.2f}x padded"
        + (f", {work.sealed_before} utterances sealed before" if work.sealed_before else ""),
        flush=True,
    )
    extractor = _extractor(target, device)
    clips = [[work.survey.clip(job.utterance) for job in batch] for batch in batches]
    loaded = load_ahead(
        clips,
        min_samples=target.description.min_samples,
        feature_set=target.name if is_acoustic else None,
        workers=machine.n_workers(device != "cpu", is_acoustic),
    )
    progress = Progress(f"{work.corpus}/{target.title}", audio_s, "s of audio")
    part = _Part(work, plan, folder)
    try:
        with contextlib.closing(loaded):
            for (number, batch), results in zip(todo, loaded, strict=True):
                part.add(number, batch, *_embed(extractor, batch, results))
                if part.full:
                    part.seal()
                progress.add(sum(job.seconds for job in batch))
    finally:
        # Also on Ctrl-C and SIGTERM: what is finished is kept, the batch under way is dropped.
        part.seal()
        progress.close()
    return part.failed


def _extractor(target: Target, device: str) -> Extractor:
    if isinstance(target.description, acoustic.AcousticDescription):
        return _Stack()
    from extract.encoder import Encoder

    return Encoder(target.description, device)


def _embed(
    extractor: Extractor, batch: list[Job], results: list[Loaded]
) -> tuple[dict[str, NDArray[np.float32]], list[Job], list[tuple[Job, str]]]:
    """Features of the good utterances of a batch, those utterances, and the others' reasons."""
    good = [(j, r) for j, r in zip(batch, results, strict=True) if not isinstance(r, str)]
    bad = [(j, r) for j, r in zip(batch, results, strict=True) if isinstance(r, str)]
    if not good:
        return {}, [], bad
    features = _halving(extractor, [one for _, one in good])
    keep = np.ones(len(good), dtype=bool)
    for values in features.values():
        keep &= np.isfinite(values).all(axis=(0, 2))
    if not keep.all():
        reason = "the model gives values that are not finite (PRECISION=float32 may help)"
        bad += [(job, reason) for (job, _), fine in zip(good, keep, strict=True) if not fine]
        features = {name: values[:, keep] for name, values in features.items()}
    return features, [job for (job, _), fine in zip(good, keep, strict=True) if fine], bad


def _halving(extractor: Extractor, audio: list[Any]) -> dict[str, NDArray[np.float32]]:
    """Embed a batch; on CUDA out-of-memory halve it, down to single utterances."""
    try:
        return extractor.embed(audio)
    except RuntimeError as error:  # torch.OutOfMemoryError is one; torch may not be imported here
        if type(error).__name__ != "OutOfMemoryError":
            raise
        if len(audio) == 1:
            raise ModelError(
                f"the device has not enough memory for one utterance of "
                f"{len(audio[0]) / SAMPLING_RATE_HZ:.1f} s; lower [extract] max_seconds, or use a "
                f"half precision with PRECISION=bfloat16"
            ) from None
    import torch

    torch.cuda.empty_cache()
    print(
        f"warning: out of memory with {len(audio)} utterances at once, trying {len(audio) // 2}; "
        f"lower [extract] batch_seconds to spare the attempts",
        file=sys.stderr,
    )
    half = len(audio) // 2
    first, second = _halving(extractor, audio[:half]), _halving(extractor, audio[half:])
    return {name: np.concatenate([first[name], second[name]], axis=1) for name in first}


class _Part:
    """Finished batches that are not sealed yet."""

    def __init__(self, work: Work, plan: Plan, folder: Path) -> None:
        self._work, self._plan, self._folder = work, plan, folder
        self._rows = work.wanted.set_index("utterance")
        self.failed: dict[tuple[str, str], str] = {}
        self._clear()

    def _clear(self) -> None:
        self._number = -1
        self._since = time.monotonic()
        self._blocks: list[dict[str, NDArray[np.float32]]] = []
        self._jobs: list[Job] = []
        self._failed: list[tuple[str, str, str]] = []

    @property
    def full(self) -> bool:
        """Whether it is time to seal."""
        n_bytes = len(self._jobs) * self._work.target.row_bytes
        return n_bytes >= SEAL_AFTER_BYTES or time.monotonic() - self._since >= SEAL_AFTER_S

    def add(
        self,
        number: int,
        batch: list[Job],
        features: dict[str, NDArray[np.float32]],
        good: list[Job],
        bad: list[tuple[Job, str]],
    ) -> None:
        """Take a finished batch."""
        if self._number < 0:
            self._number = number
        if good:
            self._blocks.append(features)
            self._jobs += good
        self._failed += [(job.utterance, job.audio_hash, reason) for job, reason in bad]
        self.failed |= {(job.utterance, job.audio_hash): reason for job, reason in bad}

    def seal(self) -> None:
        """Write what is there as a part that is never touched again."""
        if self._number < 0:
            return
        target = self._work.target
        index = self._rows.loc[[job.utterance for job in self._jobs], ["size", "mtime_ns"]]
        index = index.reset_index().assign(audio_hash=[job.audio_hash for job in self._jobs])

        def matrix(statistic: str, position: int) -> NDArray[np.float32]:
            if not self._blocks:
                return np.empty((0, target.columns[statistic]), dtype=np.float32)
            return np.concatenate([block[statistic][position] for block in self._blocks])

        write_store(
            self._folder / f"part-{self._plan.name}-{self._number:06d}.h5",
            target.key, index, target.layers, matrix,
            default=target.default, columns=target.columns, failed=self._failed,
        )  # fmt: skip
        self._work.computed += len(self._jobs)
        self._work.computed_s += sum(job.seconds for job in self._jobs)
        self._clear()


def _merge(work: Work, folder: Path) -> None:
    """Write the finished store from the old one and the parts, a layer at a time."""
    target = work.target
    failed = set(work.failures)
    wanted = work.wanted[~work.wanted["utterance"].isin(list(failed))]
    wanted = wanted.sort_values("utterance").reset_index(drop=True)
    if wanted.empty:
        print(f"{work.corpus}/{target.title}: no utterance could be computed; no store is written")
        return
    row_of = {pair: i for i, pair in enumerate(
        zip(wanted["utterance"], wanted["audio_hash"], strict=True)
    )}  # fmt: skip
    sources: list[tuple[Path, NDArray[np.int64], NDArray[np.int64]]] = []
    filled: set[int] = set()
    paths = [*sorted(folder.glob("part-*.h5"))]
    if work.n_cached:
        paths.append(work.path)
    for path in paths:
        with Store(path) as source:
            pairs = list(zip(source.index["utterance"], source.index["audio_hash"], strict=True))
        places = [(i, row_of[p]) for i, p in enumerate(pairs) if p in row_of]
        places = [(i, row) for i, row in places if row not in filled]
        filled.update(row for _, row in places)
        if places:
            here, there = np.array(places, dtype=np.int64).T
            sources.append((path, here, there))
    if len(filled) != len(wanted):
        lacking = wanted["utterance"][[i for i in range(len(wanted)) if i not in filled]].tolist()
        raise StoreError(f"{folder}: parts lack {len(lacking)} utterances, first {lacking[0]}")

    def matrix(statistic: str, position: int) -> NDArray[np.float32]:
        result = np.empty((len(wanted), target.columns[statistic]), dtype=np.float32)
        for path, here, there in sources:
            with Store(path) as source:
                result[there] = source.read_position(position, statistic, check=True)[here]
        return result

    write_store(
        work.path, target.key, wanted[["utterance", "audio_hash", "size", "mtime_ns"]],
        target.layers, matrix,
        default=target.default, columns=target.columns, names=target.names(),
    )  # fmt: skip


def _fail(work: Work, failed: dict[tuple[str, str], str]) -> None:
    """Take over the failures of the parts that still concern the audio as it is."""
    for job in work.jobs:
        reason = failed.get((job.utterance, job.audio_hash))
        if reason is not None:
            work.failures[job.utterance] = (reason, job.audio_hash)


def _write_failures(work: Work) -> None:
    path = work.path.with_suffix(".failures.csv")
    if not work.failures:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    rows = [
        (work.corpus, utterance, work.survey.clip(utterance).path, reason, hashed)
        for utterance, (reason, hashed) in sorted(work.failures.items())
    ]
    frame = pd.DataFrame(rows, columns=FAILURE_COLUMNS)
    write_text(path, frame.to_csv(index=False, lineterminator="\n"), StoreError)


def _remove_leftovers(path: Path) -> None:
    """Remove what a kill in the middle of a write has left; the lock is held."""
    folder = parts_path(path)
    leftovers: Iterator[Path] = path.parent.glob(f".{path.name}.*.tmp")
    for one in [*leftovers, *folder.glob(".*.tmp")]:
        with contextlib.suppress(FileNotFoundError):
            one.unlink()


def summary(work: Work) -> str:
    """One line on what was done."""
    rate = work.computed_s / work.elapsed_s if work.elapsed_s else 0.0
    text = f"{work.corpus}/{work.target.title}: {work.computed} computed, {work.n_cached} cached"
    if work.sealed_before:
        text += f", {work.sealed_before} sealed before"
    if work.leaving:
        text += f", {work.leaving} removed"
    if work.failures:
        text += f", {len(work.failures)} failed (see {work.path.with_suffix('.failures.csv')})"
    if work.computed:
        text += f", in {duration(work.elapsed_s)} ({rate:.1f} s of audio a second)"
    return text
