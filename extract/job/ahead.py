"""Decoding ahead of the device: audio in threads, acoustic sets in processes.

Decoding and resampling let other threads run, and what they give needs not be sent; an acoustic set
is Python's work, and goes to processes, which die with their parent. Those import this module: it
imports neither torch nor transformers.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.audio import Clip, load
from extract.frames import FrameOutput, UtteranceFrames
from features.common.errors import AudioError

BATCHES_AHEAD_A_WORKER = 3

Loaded = (
    NDArray[np.float32]
    | dict[str, NDArray[np.float32]]
    | tuple[dict[str, NDArray[np.float32]], dict[str, UtteranceFrames]]
    | str
)
"""Audio, or the features of an acoustic set, alone or with frames by their kind, or why neither."""


def load_ahead(
    batches: Sequence[Sequence[Clip]],
    *,
    min_samples: int,
    feature_set: str | None,
    workers: int,
    pool: Executor | None = None,
    framewise: Sequence[FrameOutput] = (),
) -> Generator[list[Loaded], None, None]:
    """Decode batches in order, a few ahead of the one that is asked for.

    Parameters
    ----------
    batches : sequence of sequences of Clip
    min_samples : int
        What the model's first frame needs, at 16 kHz.
    feature_set : str, optional
        Acoustic set to compute in the worker; without it the audio itself is given.
    workers : int
        Threads or processes; 0 decodes in the caller's.
    pool : Executor, optional
        As `decoders` gives it, to be used and left running.
    framewise : sequence of FrameOutput
        What of the set is wanted in time.

    Yields
    ------
    list of Loaded
        One a clip, in the order of the batch.

    Raises
    ------
    AudioError
        A decoding process was killed; that of a clip is given in its place instead.
    """
    what = min_samples, feature_set, framewise
    # One batch here costs less than starting others.
    if workers == 0 or len(batches) == 1:
        for batch in batches:
            yield [load_one(clip, *what) for clip in batch]
        return
    executor = pool or decoders(workers, feature_set)
    ahead: deque[list[Future[Loaded]]] = deque()
    remaining = iter(batches)
    try:
        for batch in remaining:
            ahead.append([executor.submit(load_one, clip, *what) for clip in batch])
            if len(ahead) > workers * BATCHES_AHEAD_A_WORKER:
                yield [future.result() for future in ahead.popleft()]
        while ahead:
            yield [future.result() for future in ahead.popleft()]
    except BrokenProcessPool:
        raise AudioError(
            "a decoding process was killed (out of memory?); the same command goes on from here, "
            "with fewer processes if you pass JOBS=1"
        ) from None
    finally:
        for future in itertools.chain.from_iterable(ahead):
            future.cancel()
        if pool is None:
            # Waiting costs the clips under way; not waiting races with the interpreter's end.
            executor.shutdown(wait=True, cancel_futures=True)


def decoders(workers: int, feature_set: str | None) -> Executor:
    """Threads for audio, processes for an acoustic set where this one may have children."""
    if feature_set is None or multiprocessing.current_process().daemon:
        return ThreadPoolExecutor(workers)
    # Not forked: the parent may have threads and a CUDA context.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)


def load_one(
    clip: Clip, min_samples: int, feature_set: str | None, framewise: Sequence[FrameOutput] = ()
) -> Loaded:
    """Load a clip, or compute its features; a reason instead of an `AudioError`.

    Parameters
    ----------
    clip : Clip
    min_samples : int
        At 16 kHz; a shorter clip is refused.
    feature_set : str or None
        Acoustic set to compute; None gives the audio.
    framewise : sequence of FrameOutput
        What of the set is wanted in time.

    Returns
    -------
    float32 array, shape (n_samples,), dict of arrays, the same and a dict of frames, or str
        The audio, the set's statistics by name, or why there is neither.
    """
    try:
        audio = load(clip, min_samples)
        if feature_set is None:
            return audio
        from extract import acoustic

        if framewise:
            return acoustic.compute_framewise(feature_set, audio, framewise)
        return acoustic.compute(feature_set, audio)
    except AudioError as error:
        return str(error)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, use one thread, and die with the parent, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent: Any = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
