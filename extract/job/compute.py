"""Batches in, sealed parts out: what one process of an extraction does.

Conventions
-----------
- A slab is a run of batches of one plan, with all that a process needs to compute it: in this one,
  or in a worker on another machine that sees the same folders.
- Finished batches are sealed into parts every 60 s or 256 MB. A kill loses at most the unsealed
  part; a slab that is begun again goes on behind what it has sealed.
- torch is imported here, not before.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract import acoustic
from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.costs import budget_s
from extract.encoders.registry import Model
from extract.job.ahead import Loaded, load_ahead
from extract.plan.work import CHANGED, Item, Target
from features.common.ending import in_full
from features.common.errors import ModelError, StoreError
from features.common.files import Stamp, file_stamp
from features.stores.read import Store, write_store

# Batches of other lengths have other shapes, and oneDNN keeps code for a thousand of them: memory
# that grows with the corpus. It looks once, when torch is imported.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
# A key says float32: what computes it in fewer digits behind the program's back is set to nothing.
for _name in (
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
):
    os.environ.pop(_name, None)

SEAL_AFTER_S = 60.0
SEAL_AFTER_BYTES = 256_000_000
BATCH_SECONDS = {"cpu": 16.0, "mps": 64.0}
"""Padded seconds a batch. On a CPU one file fills the cores and padding costs; see benchmarks/."""
MAX_GPU_WORKERS = 8

Features = dict[str, NDArray[np.float32]]
"""Statistic -> shape (n_layers, n_utterances, n_columns)."""
Embedded = tuple[Features, list[Item], list[tuple[Item, str]]]
"""Features of the good utterances of a batch, those utterances, and the others' reasons."""
Failed = dict[tuple[str, str], str]
"""(utterance, audio hash) -> reason."""


class Extractor(Protocol):
    """What turns a batch of audio into features."""

    @property
    def asynchronous(self) -> bool:
        """Whether `begin` returns before the batch is computed."""

    def begin(self, audio: list[Any]) -> Callable[[], Features]:
        """Begin a batch; what is given waits for its features."""


class _Stack:
    """The extractor of the acoustic sets: workers have computed, here is only stacked."""

    asynchronous = False

    def begin(self, audio: list[Any]) -> Callable[[], Features]:
        return lambda: {name: np.stack([one[name] for one in audio])[None] for name in audio[0]}


@dataclass(frozen=True)
class Machine:
    """Where and how an extraction computes; nothing here changes a number beyond rounding."""

    device: str = "auto"
    batch_seconds: float | None = None
    jobs: int = -1
    workers: int | None = None

    def n_workers(self, on_gpu: bool, is_acoustic: bool) -> int:
        """Decoders: all jobs for acoustic sets, none beside an encoder on the CPU.

        Decoding is well below a hundredth of a CPU encoder's work, whose cores are busy.
        """
        if self.workers is not None:
            return self.workers
        jobs = self.jobs if self.jobs > 0 else (os.cpu_count() or 1)
        if is_acoustic:
            return jobs
        return min(jobs, MAX_GPU_WORKERS) if on_gpu else 0


def place(machine: Machine, target: Target, longest_s: float) -> tuple[str, float]:
    """Where a model computes here, and how much at once.

    Parameters
    ----------
    machine : Machine
    target : Target
    longest_s : float
        The longest utterance, in seconds.

    Returns
    -------
    device : str
    budget_s : float
        Padded seconds a batch: as asked for, else, on CUDA, by the free memory.
    """
    device = resolve_device(machine.device, target.model)
    kind = device.split(":")[0]
    if machine.batch_seconds:
        return device, machine.batch_seconds
    if kind != "cuda" or isinstance(target.description, acoustic.AcousticDescription):
        return device, BATCH_SECONDS[kind]
    import torch

    free_bytes, _ = torch.cuda.mem_get_info(device)
    return device, budget_s(target.description, free_bytes, longest_s)


def resolve_device(asked: str, model: Model) -> str:
    """Resolve `auto`; the first import of torch.

    Raises
    ------
    ModelError
        There is no such device.
    """
    if model.kind == "acoustic":
        return "cpu"
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", asked):
        raise ModelError(f"DEVICE={asked}: allowed are auto, cpu, cuda, cuda:N, mps")
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = asked.split(":")[0]
    if (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    ):
        raise ModelError(f"DEVICE={asked}: torch sees no such device here; use DEVICE=auto or cpu")
    if kind == "cuda" and ":" in asked and int(asked.split(":")[1]) >= torch.cuda.device_count():
        raise ModelError(f"DEVICE={asked}: this machine has {torch.cuda.device_count()} of them")
    return asked


@dataclass(frozen=True)
class Slab:
    """Batches of a plan that one process computes and seals.

    Attributes
    ----------
    target : Target
    folder : Path
        Where the parts go.
    plan : str
        The plan's name: in the names of the parts.
    batches : list of (number, list of Item)
        Ascending numbers of the plan.
    """

    target: Target
    folder: Path
    plan: str
    batches: list[tuple[int, list[Item]]]

    @property
    def audio_s(self) -> float:
        """Seconds of audio."""
        return sum(item.job.seconds for _, batch in self.batches for item in batch)

    @property
    def title(self) -> str:
        """What errors call it."""
        numbers = [number for number, _ in self.batches]
        return (
            f"{self.target.title}: batches {numbers[0]} to {numbers[-1]} of {self.folder} (first "
            f"utterance {self.batches[0][1][0].job.utterance})"
        )

    def left(self) -> Slab:
        """The same without the batches that its parts hold already."""
        computed, failed = sealed_of(self.folder, self.plan, (n for n, _ in self.batches))
        done = computed | set(failed)
        left = [
            (number, batch)
            for number, batch in self.batches
            if any((item.job.utterance, item.job.audio_hash) not in done for item in batch)
        ]
        return Slab(self.target, self.folder, self.plan, left)


def sealed_of(
    folder: Path, plan: str = "*", numbers: Iterable[int] | None = None
) -> tuple[set[tuple[str, str]], Failed]:
    """What the parts of a plan (of all) hold, and what failed in them, as their indices say.

    Parameters
    ----------
    folder : Path
    plan : str
    numbers : iterable of int, optional
        Only the parts that begin with one of these batches; no other is looked for.
    """
    if numbers is None:
        paths = sorted(folder.glob(f"part-{plan}-*.h5"))
    else:
        paths = [path for path in (_part_path(folder, plan, n) for n in numbers) if path.exists()]
    done: set[tuple[str, str]] = set()
    failed: Failed = {}
    for path in paths:
        # A damaged part holds nothing: its batches are computed again, and replace it.
        with contextlib.suppress(StoreError), Store(path) as part:
            done.update(zip(part.index["utterance"], part.index["audio_hash"], strict=True))
            failed.update({(u, h): reason for u, h, reason in part.failed})
    return done, failed


def _part_path(folder: Path, plan: str, number: int) -> Path:
    return folder / f"part-{plan}-{number:06d}.h5"


@dataclass
class Outcome:
    """What came of a slab."""

    computed: int = 0
    computed_s: float = 0.0
    failed: Failed = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Take over another slab's."""
        self.computed += other.computed
        self.computed_s += other.computed_s
        self.failed |= other.failed


def compute(
    slab: Slab,
    machine: Machine,
    device: str,
    *,
    progress: Callable[[float], None] = lambda seconds: None,
    may_write: Callable[[], None] = lambda: None,
    extractor: Extractor | None = None,
    pool: Executor | None = None,
) -> Outcome:
    """Compute a slab's batches, sealing as it goes.

    Parameters
    ----------
    slab : Slab
    machine : Machine
    device : str
        As `resolve_device` gives it.
    progress : callable
        Gets the seconds of audio of every finished batch.
    may_write : callable
        Called before every seal; raises where the store is not ours any more.
    extractor : Extractor, optional
        A model that is loaded already.
    pool : Executor, optional
        Processes that decode, kept for the next slab.

    Raises
    ------
    StoreError
        A part cannot be written.
    """
    target, is_acoustic = slab.target, slab.target.model.kind == "acoustic"
    outcome = Outcome()
    part = _Part(slab, outcome, may_write)
    extractor = extractor or load_extractor(target, device)
    workers = machine.n_workers(device != "cpu", is_acoustic)
    loaded = load_items(target, [batch for _, batch in slab.batches], workers, pool)
    under_way: deque[tuple[int, list[Item], Callable[[], Embedded]]] = deque()

    def finish() -> None:
        number, batch, wait = under_way.popleft()
        part.add(number, *wait())
        if part.full:
            part.seal()
        progress(sum(item.job.seconds for item in batch))

    with contextlib.closing(loaded):
        try:
            for (number, batch), results in zip(slab.batches, loaded, strict=True):
                under_way.append((number, batch, begin_batch(extractor, batch, results)))
                # One batch lies queued behind the one that is waited for: the device never idles.
                if len(under_way) > extractor.asynchronous:
                    finish()
            while under_way:
                finish()
        finally:
            # Also on Ctrl-C and SIGTERM: what is finished is kept, what is under way is dropped.
            # Before the decoders are waited for: one that never ends is ended with the command.
            part.seal()
    return outcome


def load_items(
    target: Target, batches: list[list[Item]], workers: int, pool: Executor | None = None
) -> Generator[list[Loaded], None, None]:
    """Decode batches a few ahead of the one that is asked for; see `extract.job.ahead`."""
    return load_ahead(
        [[item.clip for item in batch] for batch in batches],
        min_samples=target.description.min_samples,
        feature_set=target.name if target.model.kind == "acoustic" else None,
        workers=workers,
        pool=pool,
    )


def load_extractor(target: Target, device: str, threads: int | None = None) -> Extractor:
    """Load a model's weights onto a device, to compute with so many threads on a CPU."""
    if isinstance(target.description, acoustic.AcousticDescription):
        return _Stack()
    from extract.encoders.encoder import Encoder

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return Encoder(target.description, device)


def begin_batch(
    extractor: Extractor, batch: list[Item], results: list[Loaded]
) -> Callable[[], Embedded]:
    """Begin a batch; what is given waits for it.

    On CUDA out-of-memory the batch is halved, down to single utterances, when it is waited for.

    Returns
    -------
    callable
        Gives the features of the good utterances, those utterances, and the others' reasons.
    """
    results = [r if one.unchanged else CHANGED for one, r in zip(batch, results, strict=True)]
    good = [(one, r) for one, r in zip(batch, results, strict=True) if not isinstance(r, str)]
    bad = [(one, r) for one, r in zip(batch, results, strict=True) if isinstance(r, str)]
    if not good:
        return lambda: ({}, [], bad)
    audio = [one for _, one in good]
    begun: Callable[[], Features] | None = None
    with _without_memory():
        begun = extractor.begin(audio)

    def wait() -> Embedded:
        features: Features | None = None
        if begun is not None:
            with _without_memory():
                features = begun()
        if features is None:
            features = _halved(extractor, audio)
        keep = np.ones(len(good), dtype=bool)
        for values in features.values():
            keep &= np.isfinite(values).all(axis=(0, 2))
        fine = [item for (item, _), one in zip(good, keep, strict=True) if one]
        if len(fine) == len(good):
            return features, fine, bad
        reason = "the model gives values that are not finite (PRECISION=float32 may help)"
        odd = [(item, reason) for (item, _), one in zip(good, keep, strict=True) if not one]
        return {name: values[:, keep] for name, values in features.items()}, fine, bad + odd

    return wait


@contextlib.contextmanager
def _without_memory() -> Iterator[None]:
    """Pass over CUDA out-of-memory, which is a RuntimeError; torch may not be imported here."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise


def _halved(extractor: Extractor, audio: list[Any]) -> Features:
    """Embed a batch that was too large, in halves."""
    if len(audio) == 1:
        raise ModelError(
            f"the device has not enough memory for one utterance of "
            f"{len(audio[0]) / SAMPLING_RATE_HZ:.1f} s; lower [extract] max_seconds, or use a "
            f"half precision with PRECISION=bfloat16"
        )
    import torch

    torch.cuda.empty_cache()
    half = len(audio) // 2
    print(
        f"warning: out of memory with {len(audio)} utterances at once, trying {half}; "
        f"lower [extract] batch_seconds to spare the attempts",
        file=sys.stderr,
    )
    parts = []
    for piece in (audio[:half], audio[half:]):
        features: Features | None = None
        with _without_memory():
            features = extractor.begin(piece)()
        parts.append(_halved(extractor, piece) if features is None else features)
    return {name: np.concatenate([one[name] for one in parts], axis=1) for name in parts[0]}


class _Part:
    """Finished batches that are not sealed yet."""

    def __init__(self, slab: Slab, outcome: Outcome, may_write: Callable[[], None]) -> None:
        self._slab, self._outcome, self._may_write = slab, outcome, may_write
        self._clear()

    def _clear(self) -> None:
        self._since = time.monotonic()
        self._batches: list[tuple[int, Features, list[Item], list[tuple[Item, str]]]] = []
        self._before: Stamp | None = None

    @property
    def full(self) -> bool:
        """Whether it is time to seal."""
        n_items = sum(len(good) for _, _, good, _ in self._batches)
        n_bytes = n_items * self._slab.target.row_bytes
        return n_bytes >= SEAL_AFTER_BYTES or time.monotonic() - self._since >= SEAL_AFTER_S

    def add(
        self, number: int, features: Features, good: list[Item], bad: list[tuple[Item, str]]
    ) -> None:
        """Take a finished batch; whole or not at all, should a signal come now."""
        if not self._batches:
            self._before = file_stamp(_part_path(self._slab.folder, self._slab.plan, number))
        self._batches.append((number, features, good, bad))

    def seal(self) -> None:
        """Write what is there as a part that is never touched again.

        A signal on the way leaves what is there to the next call, which writes nothing twice.
        """
        if not self._batches:
            return
        path = _part_path(self._slab.folder, self._slab.plan, self._batches[0][0])
        if file_stamp(path) == self._before:
            try:
                with in_full():
                    self._may_write()
                    self._write(path)
            except StoreError:
                self._clear()  # it fails once: whoever catches it finds nothing left to seal
                raise
        items = [item for _, _, good, _ in self._batches for item in good]
        self._outcome.computed += len(items)
        self._outcome.computed_s += sum(one.job.seconds for one in items)
        self._outcome.failed |= {
            (item.job.utterance, item.job.audio_hash): reason
            for _, _, _, bad in self._batches
            for item, reason in bad
        }
        self._clear()

    def _write(self, path: Path) -> None:
        target = self._slab.target
        items = [item for _, _, good, _ in self._batches for item in good]
        blocks = [features for _, features, good, _ in self._batches if good]
        index = pd.DataFrame(
            {
                "utterance": [one.job.utterance for one in items],
                "audio_hash": [one.job.audio_hash for one in items],
                "size": np.array([one.size for one in items], np.int64),
                "mtime_ns": np.array([one.mtime_ns for one in items], np.int64),
            }
        )

        def matrix(statistic: str, position: int, start: int, stop: int) -> NDArray[np.float32]:
            return np.concatenate([block[statistic][position] for block in blocks])[start:stop]

        write_store(
            path, target.key, index, target.layers, matrix,
            default=target.default, columns=target.columns,
            failed=[
                (item.job.utterance, item.job.audio_hash, reason)
                for _, _, _, bad in self._batches
                for item, reason in bad
            ],
        )  # fmt: skip
