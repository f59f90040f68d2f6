"""States of single frames: of which layers, how they are stored, and what cannot be.

A value is rounded once, from the precision of the model's activations to `dtype`. Before that the
largest absolute value of each utterance and layer is taken: it says whether all of them fit.
Imports neither torch nor transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.audio import SAMPLING_RATE_HZ
from features.common.errors import ModelError
from features.stores.key import FRAMES
from features.stores.layers import ranges

NOT_FINITE = "the model gives values that are not finite (PRECISION=float32 may help)"
"""Why an utterance has no features."""
FASTEST_HZ = 100.0
"""Frames a second where a model does not say how many: more than any encoder has."""


@dataclass(frozen=True)
class FrameOutput:
    """What of every frame is stored.

    Attributes
    ----------
    layers : tuple of int
        Ascending.
    dtype : {"float16", "float32"}
    width : int
        Hidden size.
    hz : float
        Frames a second, for sizes beforehand.
    """

    layers: tuple[int, ...]
    dtype: str
    width: int
    hz: float

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame, all layers together."""
        return len(self.layers) * self.width * np.dtype(self.dtype).itemsize

    def bytes_of(self, seconds: float) -> int:
        """About how many bytes so much audio takes."""
        return self.frame_bytes * math.ceil(seconds * self.hz)

    def key(self, pooled: Mapping[str, Any]) -> dict[str, Any]:
        """The key of the frames, by the key of the store beside them."""
        shared = {name: value for name, value in pooled.items() if name != "statistics"}
        return {**shared, "layers": list(self.layers), "kind": FRAMES, "dtype": self.dtype}

    def __str__(self) -> str:
        return f"frames ({self.dtype}, layers {ranges(self.layers)})"


class UtteranceFrames(NamedTuple):
    """The frames of one utterance.

    Attributes
    ----------
    values : float16 or float32, shape (n_layers, n_frames, width)
    peaks : float32, shape (n_layers,)
        Largest absolute value of each layer, before it was rounded; NaN where one is.
    """

    values: NDArray[Any]
    peaks: NDArray[np.float32]


class Computed(NamedTuple):
    """What comes of a batch: statistic -> array, and the frames of each utterance."""

    features: dict[str, NDArray[np.float32]]
    frames: list[UtteranceFrames] | None


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
    """Why the frames of an utterance cannot be stored; None where they can.

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
