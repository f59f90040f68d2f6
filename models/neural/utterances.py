"""Frames of utterances as networks take them: what gives them, and a batch of a stack.

Conventions
-----------
- A source has rows of different lengths, at least one frame each; what it gives is float32, with
  zeros behind each utterance's own frames, before and after columns are brought to a scale.
- A batch of a stack has as many rows of every model; those that fill it up have one frame of zeros
  and do not count. Each model's batch is as long as its own longest utterance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.sequences import Padded, plan_batches
from models.neural.draws import Part, hashed
from models.neural.scales import Affine

Positions = NDArray[np.int64]


@runtime_checkable
class FrameSource(Protocol):
    """Whatever gives frames of rows: `features.sequences.Sequences`, `HeldFrames`."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each row, shape (n,)."""

    @property
    def n_columns(self) -> int:
        """Columns of a frame."""

    @property
    def fingerprint(self) -> str:
        """What they are, hashed."""

    def padded(self, rows: NDArray[np.int64]) -> Padded:
        """Rows as one batch, in the order given; at least one."""


class HeldFrames:
    """Frames that are in memory.

    Parameters
    ----------
    frames : iterable of array_like, each of shape (n_frames, n_columns)

    Attributes
    ----------
    lengths : int64, shape (n,)
    n_columns : int

    Raises
    ------
    ValueError
        Naming the row that is not two-dimensional, has no frames, other columns than the first, or
        values that are not finite; or there is no row.

    Examples
    --------
    >>> held = HeldFrames([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]])
    >>> held.padded(np.array([0, 1])).X.tolist()
    [[[1.0, 2.0], [0.0, 0.0]], [[3.0, 4.0], [5.0, 6.0]]]
    """

    def __init__(self, frames: Iterable[Any]) -> None:
        self._frames = [np.ascontiguousarray(each, dtype=np.float32) for each in frames]
        if not self._frames:
            raise ValueError("X has no utterances")
        for row, each in enumerate(self._frames):
            if each.ndim != 2 or not len(each):
                raise ValueError(
                    f"X: row {row} has shape {each.shape}, expected (n_frames, n_columns)"
                )
            if each.shape[1] != self._frames[0].shape[1]:
                raise ValueError(
                    f"X: row {row} has {each.shape[1]} columns, the first {self.n_columns}"
                )
            if not np.isfinite(each).all():
                raise ValueError(f"X: row {row} has values that are not finite")
        self.lengths = np.array([len(each) for each in self._frames], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def n_columns(self) -> int:
        """Columns of a frame."""
        return int(self._frames[0].shape[1])

    @property
    def fingerprint(self) -> str:
        """A hash of all values."""
        found = hashlib.blake2b(digest_size=16)
        for each in self._frames:
            found.update(str(each.shape).encode() + each.tobytes())
        return found.hexdigest()

    def padded(self, rows: NDArray[np.int64]) -> Padded:
        """Rows as one batch, in the order given; at least one."""
        lengths = self.lengths[rows]
        X = np.zeros((len(rows), int(lengths.max()), self.n_columns), dtype=np.float32)
        for values, row in zip(X, rows, strict=True):
            values[: self.lengths[row]] = self._frames[row]
        return Padded(np.asarray(rows), X, lengths)


@dataclass(frozen=True)
class FrameBatch:
    """Rows of every model of a stack.

    Attributes
    ----------
    x : list of float32, shape (rows, longest of the model, n_columns)
        One a model.
    lengths : list of int64, shape (rows,)
    """

    x: list[Tensor]
    lengths: list[Tensor]


def scaled(padded: Padded, inputs: Affine | None) -> NDArray[np.float32]:
    """Frames brought to the scale of a network; `padded` is written to."""
    X = padded.X
    if inputs is not None:
        X -= inputs.centre
        X /= inputs.scale
        X[~padded.mask] = 0
    return X


def frame_batch(
    source: FrameSource,
    chosen: Sequence[Positions],
    inputs: Sequence[Affine | None],
    n_rows: int,
    device: torch.device | str = "cpu",
) -> FrameBatch:
    """The batch of a stack.

    Parameters
    ----------
    source : FrameSource
    chosen : sequence of int64
        Rows of each model, at least one, at most `n_rows`.
    inputs : sequence of Affine or None
        Scale of each model.
    n_rows : int
        What every model's rows are filled up to.
    device : device

    Returns
    -------
    FrameBatch
    """
    x, lengths = [], []
    for rows, affine in zip(chosen, inputs, strict=True):
        padded = source.padded(rows)
        X, n = scaled(padded, affine), padded.lengths
        if len(rows) < n_rows:
            more = n_rows - len(rows)
            X = np.concatenate([X, np.zeros((more, *X.shape[1:]), dtype=np.float32)])
            n = np.concatenate([n, np.ones(more, dtype=np.int64)])
        x.append(torch.from_numpy(X).to(device))
        lengths.append(torch.from_numpy(n).to(device))
    return FrameBatch(x, lengths)


def drawn_batches(lengths: NDArray[np.int64], size: int, epoch: int, *key: Part) -> list[Positions]:
    """The batches of an epoch, of utterances of about one length; one of a single row is left out.

    Parameters
    ----------
    lengths : int64, shape (n,)
    size : int
    epoch : int
    key
        What they are a function of, beside the epoch.

    Returns
    -------
    list of int64
        Positions in `lengths`.
    """
    batches = plan_batches(lengths, size, seed=hashed(key), epoch=epoch)
    return [batch for batch in batches if len(batch) > 1] or batches


def moments(source: FrameSource, size: int = 32) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and sums of squares over the frames of each row.

    Parameters
    ----------
    source : FrameSource
    size : int
        Rows that are read at a time.

    Returns
    -------
    sums, squares : float64, shape (n, n_columns)
    """
    n = len(source.lengths)
    sums, squares = (np.empty((n, source.n_columns)) for _ in range(2))
    for batch in plan_batches(source.lengths, size):
        X = source.padded(batch).X  # zeros behind an utterance add nothing
        sums[batch] = X.sum(1, dtype=np.float64)
        squares[batch] = np.einsum("btc,btc->bc", X, X, dtype=np.float64)
    return sums, squares


def scale_of(sums: NDArray[np.float64], squares: NDArray[np.float64], n_frames: int) -> Affine:
    """Mean 0 and deviation 1 over all frames of some rows; a constant column is centred alone.

    Parameters
    ----------
    sums, squares : float64, shape (n_columns,)
        Over the rows, of `moments`.
    n_frames : int
        How many frames they have.

    Returns
    -------
    Affine
    """
    centre = sums / n_frames
    mean_square = squares / n_frames
    variance = mean_square - centre**2
    constant = variance <= 1e-12 * mean_square
    scale = np.sqrt(np.where(constant, 1.0, variance))
    return Affine(centre.astype(np.float32), scale.astype(np.float32))
