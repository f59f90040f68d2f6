"""What of a padded batch is an utterance's own: masks, means, weighted sums over its frames.

Conventions
-----------
- `lengths` are int64, shape (n,), 1 or more; nothing here depends on what is behind them, as long
  as it is finite.
- Sums over frames are products of matrices, in the type of their weights under autocast, too.
"""

from __future__ import annotations

import torch
from torch import Tensor


def own_frames(lengths: Tensor, longest: int) -> Tensor:
    """Which frames are an utterance's own; bool, shape (n, longest)."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)


def cut(x: Tensor, lengths: Tensor) -> Tensor:
    """Zeros behind each utterance's own frames; x is (n, n_columns, longest)."""
    return x.masked_fill(~own_frames(lengths, x.shape[2]).unsqueeze(1), 0.0)


def mean_over_frames(x: Tensor, lengths: Tensor) -> Tensor:
    """The mean over each utterance's own frames.

    Parameters
    ----------
    x : float, shape (n, longest, n_columns)
    lengths : int64, shape (n,)

    Returns
    -------
    float, shape (n, n_columns)
    """
    own = own_frames(lengths, x.shape[1])
    dtype = torch.promote_types(x.dtype, torch.float32)
    return weighted(x, own.to(dtype) / lengths.unsqueeze(1))


def attention_weights(scores: Tensor, lengths: Tensor) -> Tensor:
    """A softmax over each utterance's own frames; scores are (n, longest)."""
    own = own_frames(lengths, scores.shape[1])
    return torch.softmax(scores.masked_fill(~own, float("-inf")), dim=1)


def weighted(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums over frames; weights, (n, longest), are 0 behind an utterance."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.bmm(weights.unsqueeze(1), x.to(weights.dtype)).squeeze(1)
