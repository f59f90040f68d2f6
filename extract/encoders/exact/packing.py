"""How the frames of a batch are packed.

Frames of a batch stand below one another: states have shape (n_frames of all rows, hidden). A
`EqualRows` is a stretch of rows of equal length, so that attention over it needs no mask; a layout
of one padded run has one (see `Packing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from extract.encoders.pooling import masked_mean


class EqualRows(NamedTuple):
    """Rows of equal length: the first of their frames, how many rows, frames of each."""

    first: int
    n_rows: int
    n_frames: int

    def of(self, states: torch.Tensor) -> torch.Tensor:
        """View the run's rows of packed states, shape (n_rows, n_frames, width)."""
        last = self.first + self.n_rows * self.n_frames
        return states[self.first : last].view(self.n_rows, self.n_frames, states.shape[1])


class Packing(NamedTuple):
    """How the frames of a batch are packed.

    Attributes
    ----------
    runs : tuple of EqualRows
    n_frames : int64 Tensor, shape (n_rows,), or None
        Frames that count for the mean, where not all do: there is one run then.
    mask : bool Tensor, shape (n_rows, n_frames), or None
        Frames that may be attended to, where not all may: there is one run then.
    """

    runs: tuple[EqualRows, ...]
    n_frames: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def means(self, states: torch.Tensor) -> torch.Tensor:
        """Mean of each row over time, float32, shape (n_rows, hidden)."""
        if self.n_frames is not None:
            return masked_mean(self.runs[0].of(states), self.n_frames)
        means = [run.of(states).mean(dim=1, dtype=torch.float32) for run in self.runs]
        return means[0] if len(means) == 1 else torch.cat(means)


def equal_runs(n_frames: Sequence[int]) -> tuple[EqualRows, ...]:
    """Runs of rows that are sorted by length.

    Parameters
    ----------
    n_frames : sequence of int
        Of each row, longest first.

    Returns
    -------
    tuple of EqualRows
        A run for each length; `first` counts frames, not rows.

    Examples
    --------
    >>> equal_runs([5, 5, 3])
    (EqualRows(first=0, n_rows=2, n_frames=5), EqualRows(first=10, n_rows=1, n_frames=3))
    """
    runs: list[EqualRows] = []
    first = 0
    for n in n_frames:
        if runs and runs[-1].n_frames == n:
            runs[-1] = runs[-1]._replace(n_rows=runs[-1].n_rows + 1)
        else:
            runs.append(EqualRows(first, 1, n))
        first += n
    return tuple(runs)


def uploaded(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy to a device, on CUDA from pinned memory and without waiting."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def waveforms(
    pieces: Sequence[np.ndarray], length: int, device: torch.device, padding: float = 0
) -> torch.Tensor:
    """Rows with zeros, or `padding`, behind their samples, float32, shape (n_pieces, length).

    Parameters
    ----------
    pieces : sequence of float32 arrays, shape (n_samples,)
    length : int
        Samples of a row, at least those of the longest piece.
    device : torch.device
    padding : float
        What stands behind the samples.

    Returns
    -------
    float32 Tensor, shape (n_pieces, length)
    """
    on_cuda = device.type == "cuda"
    rows = torch.empty(len(pieces), length, dtype=torch.float32, pin_memory=on_cuda)
    for row, piece in zip(rows.numpy(), pieces, strict=True):
        row[: len(piece)] = piece
        row[len(piece) :] = padding
    return rows.to(device, non_blocking=on_cuda)
