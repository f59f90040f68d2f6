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
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.description import Description
from extract.frames import NOT_FINITE, Computed, FrameOutput, fault_of
from extract.job.ahead import Loaded, load_ahead
from extract.job.device import Machine
from extract.job.parts import Embedded, Features, Outcome, Slab, _Part
from extract.plan.work import CHANGED, Item, Target
from features.common.errors import AudioError, ModelError
from features.common.telling import Tell, silent

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


class Extractor(Protocol):
    """What turns a batch of audio into features."""

    @property
    def asynchronous(self) -> bool:
        """Whether `begin` returns before the batch is computed."""

    def begin(self, audio: list[Any]) -> Callable[[], Features]:
        """Begin a batch; what is given waits for its features."""

    def begin_framewise(self, audio: list[Any]) -> Callable[[], Computed]:
        """The same, and of each utterance in time what the model was described with."""


class _Stack:
    """The extractor of the acoustic sets: workers have computed, here is only stacked."""

    asynchronous = False

    def begin(self, audio: list[Any]) -> Callable[[], Features]:
        return lambda: {
            name: np.stack([features[name] for features in audio])[None] for name in audio[0]
        }

    def begin_framewise(self, audio: list[Any]) -> Callable[[], Computed]:
        features = self.begin([features for features, _ in audio])
        kinds = audio[0][1]
        return lambda: Computed(
            features(), {kind: [own[kind] for _, own in audio] for kind in kinds}
        )


def compute(
    slab: Slab,
    machine: Machine,
    device: str,
    *,
    progress: Callable[[float], None] = lambda seconds: None,
    may_write: Callable[[], None] = lambda: None,
    extractor: Extractor | None = None,
    pool: Executor | None = None,
    warn: Tell = silent,
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
    warn : callable
        Gets a line on every batch that was too large.

    Returns
    -------
    Outcome
        Counts, and what failed with its reasons; the features are in the parts.

    Raises
    ------
    StoreError
        A part cannot be written.
    """
    target = slab.target
    outcome = Outcome()
    part = _Part(slab, outcome, may_write)
    extractor = extractor or load_extractor(target, device)
    workers = machine.n_workers(device != "cpu", target.in_decoders)
    loaded = load_items(target, [batch for _, batch in slab.batches], workers, pool)
    under_way: deque[tuple[int, list[Item], Callable[[], Embedded]]] = deque()

    def finish() -> None:
        number, batch, wait = under_way.popleft()
        part.add(number, wait())
        if part.full:
            part.seal()
        progress(sum(item.job.seconds for item in batch))

    with contextlib.closing(loaded):
        try:
            for (number, batch), results in zip(slab.batches, loaded, strict=True):
                begun = begin_batch(extractor, batch, results, warn, target.framewise)
                under_way.append((number, batch, begun))
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
    """Decode batches a few ahead of the one that is asked for; see `extract.job.ahead`.

    Parameters
    ----------
    target : Target
    batches : list of lists of Item
    workers : int
        Threads or processes; 0 decodes in the caller's.
    pool : Executor, optional
        Left running.

    Yields
    ------
    list of Loaded
        One an item, in the order of the batch.
    """
    return load_ahead(
        [[item.clip for item in batch] for batch in batches],
        min_samples=target.description.min_samples,
        feature_set=target.description.feature_set,
        workers=workers,
        pool=pool,
        framewise=target.framewise if target.in_decoders else (),
    )


def load_extractor(target: Target, device: str, threads: int | None = None) -> Extractor:
    """Load a model's weights onto a device, to compute with so many threads on a CPU.

    Parameters
    ----------
    target : Target
    device : str
        As `resolve_device` gives it.
    threads : int, optional
        Of torch; without it as torch has them.

    Returns
    -------
    Extractor
        Of an acoustic set, whose workers compute, one that stacks.
    """
    description = target.description
    if not isinstance(description, Description):
        return _Stack()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if description.engine == "reference":
        from extract.encoders.reference import ReferenceEncoder

        return ReferenceEncoder(description, device)
    from extract.encoders.encoder import Encoder

    return Encoder(description, device)


def begin_batch(
    extractor: Extractor,
    batch: list[Item],
    results: list[Loaded],
    warn: Tell = silent,
    framewise: Sequence[FrameOutput] = (),
) -> Callable[[], Embedded]:
    """Begin a batch; what is given waits for it.

    On CUDA out-of-memory the batch is halved, down to single utterances, when it is waited for.

    Parameters
    ----------
    extractor : Extractor
    batch : list of Item
    results : list of Loaded
        One an item: its audio, or why there is none. Items whose file has changed are bad, too.
    warn : callable
        Gets a line on a batch that was too large.
    framewise : sequence of FrameOutput
        What is wanted in time, too.

    Returns
    -------
    callable
        Gives the features of the good utterances, those utterances, and the others' reasons.

    Raises
    ------
    AudioError
        An engine that takes file by file refuses one of several.
    """
    results = [r if item.unchanged else CHANGED for item, r in zip(batch, results, strict=True)]
    good = [(item, r) for item, r in zip(batch, results, strict=True) if not isinstance(r, str)]
    bad = [(item, r) for item, r in zip(batch, results, strict=True) if isinstance(r, str)]
    if not good:
        return lambda: Embedded({}, [], bad, {})
    audio = [loaded for _, loaded in good]
    begun: Callable[[], Computed] | None = None
    try:
        with _without_memory():
            begun = _begin(extractor, audio, framewise)
    except AudioError as error:  # of an engine that takes file by file
        if len(good) > 1:
            raise
        reason = str(error)
        return lambda: Embedded({}, [], [*bad, (good[0][0], reason)], {})

    def wait() -> Embedded:
        computed: Computed | None = None
        if begun is not None:
            with _without_memory():
                computed = begun()
        if computed is None:
            computed = _halved(extractor, audio, warn, framewise)
        features = computed.features
        keep = np.ones(len(good), dtype=bool)
        for values in features.values():
            keep &= np.isfinite(values).all(axis=(0, 2))
        fine = [item for (item, _), kept in zip(good, keep, strict=True) if kept]
        stored: dict[str, list[NDArray[Any] | str]] = {}
        for output in framewise:
            of = zip(computed.framewise[output.kind], keep, strict=True)
            own = [values for values, kept in of if kept]
            stored[output.kind] = [fault_of(values, output) or values.values for values in own]
        if len(fine) == len(good):
            return Embedded(features, fine, bad, stored)
        odd = [(item, NOT_FINITE) for (item, _), kept in zip(good, keep, strict=True) if not kept]
        kept_features = {name: values[:, keep] for name, values in features.items()}
        return Embedded(kept_features, fine, bad + odd, stored)

    return wait


def _begin(
    extractor: Extractor, audio: list[Any], framewise: Sequence[FrameOutput]
) -> Callable[[], Computed]:
    """Begin a batch, with what is wanted in time."""
    if framewise:
        return extractor.begin_framewise(audio)
    wait = extractor.begin(audio)
    return lambda: Computed(wait(), {})


@contextlib.contextmanager
def _without_memory() -> Iterator[None]:
    """Pass over CUDA out-of-memory, which is a RuntimeError; torch may not be imported here."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise


def _halved(
    extractor: Extractor, audio: list[Any], warn: Tell, framewise: Sequence[FrameOutput]
) -> Computed:
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
    warn(
        f"warning: out of memory with {len(audio)} utterances at once, trying {half}; "
        f"lower [extract] batch_seconds to spare the attempts"
    )
    parts = []
    for piece in (audio[:half], audio[half:]):
        computed: Computed | None = None
        with _without_memory():
            computed = _begin(extractor, piece, framewise)()
        parts.append(computed or _halved(extractor, piece, warn, framewise))
    first, second = parts
    features = {
        name: np.concatenate([values, second.features[name]], axis=1)
        for name, values in first.features.items()
    }
    in_time = {kind: [*values, *second.framewise[kind]] for kind, values in first.framewise.items()}
    return Computed(features, in_time)
