"""What is stored in time: states of single frames, or means of segments; and what cannot be.

The K segments of an utterance of n frames are its frames cut into K parts, as equal as they can be;
of one with fewer than K frames each frame is a segment. A value is rounded once: that of a frame
from the precision of the model's activations to `dtype`, that of a segment from the mean of such
frames, taken in float32 or float64. Before that the largest absolute value of each utterance and
layer is taken: it says whether all of them fit. Imports neither torch nor transformers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from extract.audio import SAMPLING_RATE_HZ
from features.common.errors import ModelError
from features.recipe.known.frame_kinds import FRAMES, SEGMENTS
from features.stores.layers import ranges

NOT_FINITE = "the model gives values that are not finite (PRECISION=float32 may help)"
"""Why an utterance has no features."""
FASTEST_HZ = 100.0
"""Frames a second where a model does not say how many: more than any encoder has."""


@dataclass(frozen=True)
class FrameOutput:
    """What of every frame, or of every segment, is stored.

    Attributes
    ----------
    layers : tuple of int
        Ascending.
    dtype : {"float16", "float32"}
    width : int
        Hidden size.
    hz : float
        Frames a second, for sizes beforehand.
    n_segments : int or None
        Parts of an utterance whose means are stored; None: its frames are.
    """

    layers: tuple[int, ...]
    dtype: str
    width: int
    hz: float
    n_segments: int | None = None

    @property
    def kind(self) -> str:
        """`frames` or `segments`."""
        return FRAMES if self.n_segments is None else SEGMENTS

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame or segment, all layers together."""
        return len(self.layers) * self.width * np.dtype(self.dtype).itemsize

    def bytes_of(self, seconds: ArrayLike) -> int:
        """About how many bytes utterances of such lengths take."""
        n_frames = np.ceil(np.asarray(seconds, dtype=np.float64) * self.hz)
        if self.n_segments is not None:
            n_frames = np.minimum(n_frames, self.n_segments)
        return self.frame_bytes * int(n_frames.sum())

    @property
    def asked(self) -> dict[str, Any]:
        """What a plan of batches says of it, and what its key has beside the store's."""
        own = {} if self.n_segments is None else {SEGMENTS: self.n_segments}
        return {"layers": list(self.layers), "dtype": self.dtype, **own}

    def key(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """The key of the frames or segments, by the key of the store beside them."""
        shared = {name: value for name, value in pooled.items() if name != "statistics"}
        return {**shared, **self.asked, "kind": self.kind}

    def __str__(self) -> str:
        parts = "" if self.n_segments is None else f"{self.n_segments} an utterance, "
        return f"{self.kind} ({parts}{self.dtype}, layers {ranges(self.layers)})"


class UtteranceFrames(NamedTuple):
    """The frames, or segments, of one utterance.

    Attributes
    ----------
    values : float16 or float32, shape (n_layers, n_frames, width)
    peaks : float32, shape (n_layers,)
        Largest absolute value of each layer, before it was rounded; NaN where one is.
    """

    values: NDArray[Any]
    peaks: NDArray[np.float32]


class Computed(NamedTuple):
    """What comes of a batch: statistic -> array; kind -> the frames, or segments, by utterance."""

    features: dict[str, NDArray[np.float32]]
    framewise: dict[str, list[UtteranceFrames]]


def frame_layers(where: str, asked: Sequence[int | str], n_layers: int) -> tuple[int, ...]:
    """The layers that `[extract] frames` names, ascending, each once.

    Parameters
    ----------
    where : str
        What errors call the model.
    asked : sequence of int or "last"
    n_layers : int
        Number of blocks; the last layer.

    Raises
    ------
    ModelError
        The model does not have one of them.

    Examples
    --------
    >>> frame_layers("m", ["last", 6, 12], 12)
    (6, 12)
    """
    layers = sorted({n_layers if layer == "last" else int(layer) for layer in asked})
    outside = [layer for layer in layers if layer > n_layers]
    if outside:
        raise ModelError(f"{where}: [extract] frames {outside}: the model has 0 to {n_layers}")
    return tuple(layers)


def frame_outputs(
    frames: Sequence[int],
    n_segments: int | None,
    *,
    stored: Sequence[int],
    dtype: str,
    width: int,
    hz: float,
) -> tuple[FrameOutput, ...]:
    """What is stored in time, as `[extract]` asks for it.

    Parameters
    ----------
    frames : sequence of int
        As `frame_layers` gives them; none are wanted where there is none.
    n_segments : int or None
    stored : sequence of int
        The layers that the store has: segments are of all of them.
    dtype, width, hz
        As of `FrameOutput`.

    Returns
    -------
    tuple of FrameOutput
        Of frames, then of segments, of those that are wanted.
    """
    found = [FrameOutput(tuple(frames), dtype, width, hz)] if frames else []
    if n_segments is not None:
        found.append(FrameOutput(tuple(stored), dtype, width, hz, n_segments))
    return tuple(found)


def segment_bounds(n_frames: int, n_segments: int) -> NDArray[np.int64]:
    """Where the segments of an utterance begin, and where the last one ends.

    Parameters
    ----------
    n_frames : int
        At least 1.
    n_segments : int
        As asked for; of fewer frames each is a segment.

    Returns
    -------
    int64, shape (min(n_segments, n_frames) + 1,)
        Segment i has the frames from bounds[i] to bounds[i + 1].

    Examples
    --------
    >>> segment_bounds(11, 4).tolist(), segment_bounds(2, 4).tolist()
    ([0, 2, 5, 8, 11], [0, 1, 2])
    """
    n = min(n_segments, n_frames)
    return np.arange(n + 1, dtype=np.int64) * n_frames // n


def segment_means(
    frames: Sequence[NDArray[Any]] | NDArray[Any], n_segments: int, dtype: str
) -> UtteranceFrames:
    """Segments of one utterance as they are stored, by frames in memory.

    Parameters
    ----------
    frames : sequence of arrays, shape (n_frames, width)
        Of each layer, unrounded.
    n_segments : int
    dtype : {"float16", "float32"}

    Returns
    -------
    UtteranceFrames
        Means in float64, rounded once. Where layers differ in how many frames they have, each has
        its own cut into as many parts as the one with the fewest allows.
    """
    n = min(n_segments, *(len(layer) for layer in frames))
    means = [
        [layer[a:b].mean(axis=0, dtype=np.float64) for a, b in itertools.pairwise(bounds)]
        for layer in frames
        for bounds in [segment_bounds(len(layer), n).tolist()]
    ]
    return rounded(np.array(means), dtype)


def frames_hz(stride: int) -> float:
    """Frames a second, by the samples from one to the next; 0 where that is not known."""
    return SAMPLING_RATE_HZ / stride if stride else FASTEST_HZ


def rounded(values: NDArray[Any], dtype: str) -> UtteranceFrames:
    """Frames of numpy as they are stored, values of shape (n_layers, n_frames, width)."""
    with np.errstate(over="ignore"):  # `fault_of` says so
        return UtteranceFrames(
            values.astype(dtype), np.abs(values).max(axis=(1, 2)).astype(np.float32)
        )


def fault_of(frames: UtteranceFrames, output: FrameOutput) -> str | None:
    """Why the frames, or segments, of an utterance cannot be stored; None where they can.

    Examples
    --------
    >>> output = FrameOutput((0, 12), "float16", 1, 50.0)
    >>> fault_of(rounded(np.array([[[1.0]], [[65_519.0]]]), "float16"), output)
    >>> fault_of(rounded(np.array([[[1.0]], [[65_520.0]]]), "float16"), output)
    'layer 12 reaches 65,520, float16 holds at most 65,504: set [extract] frames_dtype = "float32"'
    """
    most = float(np.finfo(output.dtype).max)
    for layer, peak in zip(output.layers, frames.peaks.tolist(), strict=True):
        if not math.isfinite(peak):
            return NOT_FINITE
        with np.errstate(over="ignore"):
            fits = np.isfinite(np.float32(peak).astype(output.dtype))
        if not fits:
            return (
                f"layer {layer} reaches {peak:,.0f}, {output.dtype} holds at most {most:,.0f}: "
                'set [extract] frames_dtype = "float32"'
            )
    return None
