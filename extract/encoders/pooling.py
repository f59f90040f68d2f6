"""Statistics over time that know how long each utterance is, on the device where the states are."""

from __future__ import annotations

import torch


def masked_mean(states: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
    """Mean over each row's own frames, summed in float32 whatever the states' precision.

    Parameters
    ----------
    states : Tensor, shape (batch, frames, hidden)
        What lies behind a row's frames is not read, be it NaN.
    n_frames : int64 Tensor, shape (batch,)
        Valid frames of each row, at least 1, on the states' device.

    Returns
    -------
    float32 Tensor, shape (batch, hidden)

    Examples
    --------
    >>> states = torch.tensor([[[1.0], [3.0], [9.0]], [[1.0], [3.0], [9.0]]])
    >>> masked_mean(states, torch.tensor([2, 3])).tolist()
    [[2.0], [4.333333492279053]]
    """
    frames = torch.arange(states.shape[1], device=states.device)
    padding = frames[None, :, None] >= n_frames[:, None, None]
    total = states.masked_fill(padding, 0).sum(dim=1, dtype=torch.float32)
    return total / n_frames[:, None]
