"""Networks on frames: padded batches and lengths in, logits or values out.

Conventions
-----------
- `x` is float (n, longest, n_columns), `lengths` int64 (n,): what is behind an utterance's own
  frames, zeros or other numbers that are finite, changes nothing. Whatever looks at neighbours
  sees zeros there, as it would if the utterance were alone.
- A pooling is over an utterance's own frames.
- Modules draw their start and their dropout from torch's generator: seed it by (seed, fold, step).

Sources
-------
`emobox`: linear, ReLU, mean, linear, as EmoBox has it. `attention`: attentive statistics (Okabe,
Koshinaka and Shinoda 2018) behind a projection to 256, which is ours: on the columns themselves
Adam fits the training rows long before it finds what means tell. `fcn`, `cnn-attention`: the
networks of these names in s3prl, behind its projection to 256; s3prl pools its FCN over the
padding, too, so that its scores depend on the batch. `hgfm`: the multilingual XLSR-HGFM paper, eqs.
1 to 7; it has one vector an utterance where frames are meant. What is ours: the halves are the last
states of both directions, which are the queries of their attention, too; the linear output is the
mean over frames; widths are 128.
`cnn-lstm`: a row of the same paper's Table I, convolutions and an LSTM over log-mel frames under
HGFM, trained together; it states no size. Ours are two convolutions over five frames each, 128
wide, ReLU behind each, the first at every second frame (50 a second are left of 100, as wav2vec
2.0 has them), and an LSTM of 128, forward in time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.neural.masks import (
    attention_weights,
    cut,
    mean_over_frames,
    own_frames,
    weighted,
)
from models.neural.recurrent import hgfm_outputs

LEAST_VARIANCE = 1e-6
"""Below the square root of attentive statistics: its slope is infinite at 0."""
FCN_FRAMES = 57
"""The shortest that leaves a frame behind FCN's strides; less is padded with zeros to it."""
NORM_SCALE = 1e-4
"""Of FCN's normalisation over channels, as torch has it; its power is 3/4."""
CNN_LSTM_WIDTH = 128
"""Of the convolutions and the recurrent layer below HGFM."""


class EmoBox(nn.Module):
    """Linear, ReLU, the mean over frames, linear."""

    def __init__(self, n_columns: int, n_outputs: int, hidden: int = 256) -> None:
        super().__init__()
        self.first = nn.Linear(n_columns, hidden)
        self.out = nn.Linear(hidden, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs)."""
        pooled = mean_over_frames(self.first(x).relu(), lengths)
        found: Tensor = self.out(pooled)
        return found


class _Statistics(torch.autograd.Function):
    """Weighted mean and variance over frames; the weights of an utterance sum to 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.bmm(weights.unsqueeze(1), x)
        squares = (x - mean).square_()
        variance = torch.bmm(weights.unsqueeze(1), squares)
        ctx.save_for_backward(x, weights, mean, squares)
        return mean.squeeze(1), variance.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weights, mean, squares = ctx.saved_tensors
        to_mean, to_variance = grads
        # the variance does not move with the mean: deviations from it sum to 0
        to_weights = torch.bmm(x, to_mean.unsqueeze(2))
        to_weights.baddbmm_(squares, to_variance.unsqueeze(2))
        to_x = None
        if ctx.needs_input_grad[0]:
            slope = to_mean.unsqueeze(1) + 2 * (x - mean) * to_variance.unsqueeze(1)
            to_x = weights.unsqueeze(2) * slope
        return to_x, to_weights.squeeze(2)


class AttentiveStatistics(nn.Module):
    """Linear; mean and deviation over frames, weighted by a small network; linear."""

    def __init__(
        self, n_columns: int, n_outputs: int, projection: int = 256, hidden: int = 128
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(n_columns, projection)
        self.first = nn.Linear(projection, hidden)
        self.score = nn.Linear(hidden, 1)
        self.out = nn.Linear(2 * projection, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs)."""
        x = self.projection(x)
        scores = self.score(torch.tanh(self.first(x))).squeeze(2)
        weights = attention_weights(scores, lengths)
        with torch.autocast(x.device.type, enabled=False):
            mean, variance = _Statistics.apply(x, weights.to(x.dtype))
        deviation = variance.clamp_min(LEAST_VARIANCE).sqrt()
        found: Tensor = self.out(torch.cat([mean, deviation], dim=1))
        return found


class _Pooled(nn.Module):
    """Attention over what convolutions leave, and two linear layers."""

    def __init__(self, width: int, n_outputs: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        pooled = weighted(x, attention_weights(self.score(x).squeeze(2), lengths))
        found: Tensor = self.out(self.hidden(pooled).relu())
        return found


class CnnAttention(nn.Module):
    """Means of five frames, three convolutions, attention, two linear layers."""

    def __init__(
        self, n_columns: int, n_outputs: int, projection: int = 256, hidden: int = 80,
        dropout: float = 0.4,
    ) -> None:  # fmt: skip
        super().__init__()
        self.projection = nn.Linear(n_columns, projection)
        widths = [projection, hidden, hidden, hidden]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, 5, padding=2) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.pooled = _Pooled(hidden, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs)."""
        x, lengths = self._projected(x, lengths)
        for i, convolution in enumerate(self.convolutions):
            x = self.dropout(x)
            x = cut(convolution(x), lengths)
            x = x.relu() if i < len(self.convolutions) - 1 else x
        found: Tensor = self.pooled(x, lengths)
        return found

    def _projected(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Means of five frames of the projection, (n, projection, fewer), and how many are own.

        The mean commutes with what is linear, and goes first: a fifth of the frames is projected.
        """
        longest = x.shape[1]
        at = torch.arange(longest, device=x.device)
        middle = torch.arange(0, longest, 5, device=x.device).unsqueeze(1)
        near = ((at - middle).abs() <= 2) & own_frames(lengths, longest).unsqueeze(1)
        shares = near.to(x.dtype) / 5  # zeros beside the utterance count
        weight, bias = self.projection.weight, self.projection.bias
        means = functional.linear(torch.bmm(shares, x), weight) + shares.sum(2, keepdim=True) * bias
        lengths = (lengths + 4) // 5
        return cut(means.transpose(1, 2), lengths), lengths


@functools.lru_cache(maxsize=32)
def _window(n_channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Which channels count for the norm of one, as the weight of a convolution over a frame.

    As many as there are, half of them on each side.
    """
    channel = torch.arange(n_channels, device=device)
    behind = channel.unsqueeze(1) - channel  # of the channel that is normalised
    near = (behind <= n_channels // 2) & (-behind <= (n_channels - 1) // 2)
    return (near.to(dtype) * (NORM_SCALE / n_channels)).unsqueeze(2)


def local_norm(x: Tensor) -> Tensor:
    """Local response normalisation over as many channels as there are, as torch has it.

    `torch.nn.functional.local_response_norm` goes over the window of every channel; this is a
    matrix product, many times as fast.

    Parameters
    ----------
    x : float, shape (n, n_channels, longest)

    Returns
    -------
    float, shape (n, n_channels, longest)
        float32 where half of it comes in.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        window = _window(x.shape[1], x.dtype, x.device)
        root = (1.0 + functional.conv1d(x.square(), window)).sqrt()
        return x / (root * root.sqrt())  # to the power of 3/4


class Fcn(nn.Module):
    """Five convolutions with normalisation over channels, attention, two linear layers."""

    def __init__(
        self, n_columns: int, n_outputs: int, projection: int = 256, dropout: float = 0.4
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(n_columns, projection)
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(projection, 96, 11, stride=4, padding=5),
                nn.Conv1d(96, 256, 5, padding=2),
                nn.Conv1d(256, 384, 3, padding=1),
                nn.Conv1d(384, 384, 3, padding=1),
                nn.Conv1d(384, 256, 3, padding=1),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.pooled = _Pooled(256, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs)."""
        x = cut(self.projection(x).transpose(1, 2), lengths)
        x = functional.pad(x, (0, max(0, FCN_FRAMES - x.shape[2])))
        lengths = lengths.clamp_min(FCN_FRAMES)
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if i == 0:
                lengths = (lengths - 1) // 4 + 1
            x = local_norm(x)
            if i < 4:
                x = x.relu()
            if i in (0, 1, 4):
                x = functional.max_pool1d(x, 3, 2)
                lengths = (lengths - 3) // 2 + 1
            if i < 3:
                x = self.dropout(x)
            x = cut(x, lengths)
        found: Tensor = self.pooled(x, lengths)
        return found


class Hgfm(nn.Module):
    """Linear, a recurrent layer both ways, attention on each half, linear on all side by side."""

    def __init__(
        self, n_columns: int, n_outputs: int, projection: int = 128, hidden: int = 128
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(n_columns, projection)
        self.recurrent = nn.GRU(projection, hidden, batch_first=True, bidirectional=True)
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.query = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.score = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(2))
        self.out = nn.Linear(4 * hidden + projection, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs), by `models.neural.recurrent`."""
        p = {name: value.unsqueeze(0) for name, value in self.named_parameters()}
        return hgfm_outputs(p, [x], [lengths])[0]


class CnnLstm(nn.Module):
    """Two convolutions over frames, a recurrent layer forward in time, HGFM on its states."""

    def __init__(
        self, n_columns: int, n_outputs: int, projection: int = 128, hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv1d(n_columns, CNN_LSTM_WIDTH, 5, stride=2, padding=2),
                nn.Conv1d(CNN_LSTM_WIDTH, CNN_LSTM_WIDTH, 5, padding=2),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.LSTM(CNN_LSTM_WIDTH, CNN_LSTM_WIDTH, batch_first=True)
        self.hgfm = Hgfm(CNN_LSTM_WIDTH, n_outputs, projection, hidden)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs)."""
        x = cut(x.transpose(1, 2), lengths)
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x).relu()
            if i == 0:
                lengths = (lengths + 1) // 2
            x = cut(self.dropout(x), lengths)
        states, _ = self.recurrent(x.transpose(1, 2))
        found: Tensor = self.hgfm(states, lengths)
        return found


FRAME_HEADS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        "emobox": EmoBox,
        "attention": AttentiveStatistics,
        "fcn": Fcn,
        "cnn-attention": CnnAttention,
        "hgfm": Hgfm,
        "cnn-lstm": CnnLstm,
    }
)
"""By the names of recipes; each takes columns and outputs."""
