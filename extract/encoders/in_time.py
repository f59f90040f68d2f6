"""What a forward gives in time beside the means, on its way to the host: frames, sums of segments.

On CUDA all of it is queued: what is copied lies in pinned memory, and may be read when the event
behind the batch has come. An utterance that goes in windows has a piece a window; the frames of its
pieces tile its own, and `joined` puts together what came of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from extract.encoders.exact.packing import Packing, uploaded
from extract.frames import FrameOutput, UtteranceFrames, rounded, segment_bounds


class Excerpt(NamedTuple):
    """An utterance, or a window of one.

    Attributes
    ----------
    samples : float32 array, shape (n_samples,)
    first : int
        Which of the utterance's frames is its first.
    n_frames : int
        Its own.
    of : int
        Frames of the utterance.
    """

    samples: np.ndarray
    first: int
    n_frames: int
    of: int


class SegmentSums(NamedTuple):
    """What a piece has of the segments of its utterance.

    Attributes
    ----------
    bounds : int64, shape (n_segments + 1,)
        Of the utterance, as `segment_bounds` gives them.
    first : int
        Which of the segments is the first that the piece has frames of.
    values : float32, shape (n_layers, n, width)
        Sums over the piece's frames of each segment.
    """

    bounds: np.ndarray
    first: int
    values: np.ndarray


class Taken(Protocol):
    """What takes the frames of a forward, a layer at a time."""

    layers: tuple[int, ...]

    def add(self, layer: int, frames: torch.Tensor) -> None:
        """Queue what is wanted of a layer of `layers`; frames of all pieces, (n_frames, width)."""

    def pieces(self) -> list[Any]:
        """What came of each piece, once the copies are done; for `joined`."""


class OwnFrames:
    """The pieces' own frames of states that may be padded.

    Parameters
    ----------
    n_frames : sequence of int
        Of each piece, longest first.
    device : torch.device
    """

    def __init__(self, n_frames: Sequence[int], device: torch.device) -> None:
        self._n_frames, self._device = n_frames, device
        self._index: torch.Tensor | None = None

    def of(self, states: torch.Tensor, layout: Packing) -> torch.Tensor:
        """Frames of all pieces below one another, shape (n_frames, width)."""
        if len(states) == sum(self._n_frames):
            return states
        if self._index is None:
            (run,) = layout.runs
            own = [row * run.n_frames + np.arange(n) for row, n in enumerate(self._n_frames)]
            self._index = uploaded(np.concatenate(own), self._device)
        return states.index_select(0, self._index)


class _TakenFrames:
    """The frames of one forward."""

    def __init__(
        self, output: FrameOutput, pieces: Sequence[Excerpt], device: torch.device
    ) -> None:
        self.layers = output.layers
        self._n_frames = [piece.n_frames for piece in pieces]
        shape = len(output.layers), sum(self._n_frames)
        self._values = _host((*shape, output.width), getattr(torch, output.dtype), device)
        self._peaks = _host(shape, torch.float32, device)

    def add(self, layer: int, frames: torch.Tensor) -> None:
        position = self.layers.index(layer)
        peaks = torch.maximum(frames.amax(dim=1), -frames.amin(dim=1))
        # A copy even where the type is the same: the next block may write into the states.
        self._values[position].copy_(frames.to(self._values.dtype), non_blocking=True)
        self._peaks[position].copy_(peaks.to(torch.float32), non_blocking=True)

    def pieces(self) -> list[UtteranceFrames]:
        """The frames of each piece, in memory of their own."""
        values, peaks, start, found = self._values.numpy(), self._peaks.numpy(), 0, []
        for n in self._n_frames:
            own = slice(start, start + n)
            found.append(UtteranceFrames(values[:, own].copy(), peaks[:, own].max(axis=1)))
            start += n
        return found


class _TakenSegments:
    """Sums over the segments of the pieces of one forward, in float32."""

    def __init__(
        self, output: FrameOutput, pieces: Sequence[Excerpt], device: torch.device
    ) -> None:
        if output.n_segments is None:
            raise ValueError("frames are wanted, no segments")
        self.layers = output.layers
        self._bounds = [segment_bounds(piece.of, output.n_segments) for piece in pieces]
        lengths: list[np.ndarray] = []
        self._first: list[int] = []
        self._n: list[int] = []
        for piece, bounds in zip(pieces, self._bounds, strict=True):
            own = np.diff(bounds.clip(piece.first, piece.first + piece.n_frames))
            (having,) = np.nonzero(own)
            lengths.append(own[having])
            self._first.append(int(having[0]))
            self._n.append(len(having))
        # Not every device has the reduction.
        self._device = torch.device("cpu") if device.type == "mps" else device
        self._lengths = uploaded(np.concatenate(lengths), self._device)
        shape = len(output.layers), sum(self._n), output.width
        self._values = _host(shape, torch.float32, device)

    def add(self, layer: int, frames: torch.Tensor) -> None:
        # `unsafe`: the lengths are not looked at, which would wait for a GPU.
        sums = torch.segment_reduce(
            frames.to(self._device).float(), "sum", lengths=self._lengths, unsafe=True
        )
        self._values[self.layers.index(layer)].copy_(sums, non_blocking=True)

    def pieces(self) -> list[SegmentSums]:
        """The sums of each piece, in memory of their own."""
        values, start, found = self._values.numpy(), 0, []
        for bounds, first, n in zip(self._bounds, self._first, self._n, strict=True):
            found.append(SegmentSums(bounds, first, values[:, start : start + n].copy()))
            start += n
        return found


def _host(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Memory that a device copies to; for CUDA such as needs no waiting."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


def taken_of(output: FrameOutput, pieces: Sequence[Excerpt], device: torch.device) -> Taken:
    """What takes an output from a forward over pieces, sorted by length, longest first."""
    if output.n_segments is None:
        return _TakenFrames(output, pieces, device)
    return _TakenSegments(output, pieces, device)


def joined(output: FrameOutput, pieces: Sequence[Any]) -> UtteranceFrames:
    """The frames, or segments, of an utterance, by what came of its pieces in their order."""
    if output.n_segments is None:
        return _joined_frames(pieces)
    return _joined_segments(pieces, output.dtype)


def _joined_frames(pieces: Sequence[UtteranceFrames]) -> UtteranceFrames:
    """One behind the other."""
    if len(pieces) == 1:
        return pieces[0]
    return UtteranceFrames(
        np.concatenate([piece.values for piece in pieces], axis=1),
        np.max([piece.peaks for piece in pieces], axis=0),
    )


def _joined_segments(pieces: Sequence[SegmentSums], dtype: str) -> UtteranceFrames:
    """Sums over all windows, in float64, by the number of frames."""
    bounds, n_layers, width = pieces[0].bounds, len(pieces[0].values), pieces[0].values.shape[2]
    total = np.zeros((n_layers, len(bounds) - 1, width))
    # Of states that are not finite: `extract.frames.fault_of` says so.
    with np.errstate(invalid="ignore"):
        for _, first, values in pieces:
            total[:, first : first + values.shape[1]] += values
        return rounded(total / np.diff(bounds)[:, None], dtype)
