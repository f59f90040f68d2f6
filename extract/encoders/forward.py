"""The parts of the speech models' forward, as matrix products over frames that are packed.

Conventions
-----------
- Frames of a batch stand below one another: states have shape (n_frames of all rows, hidden). A
  `Run` is a stretch of rows of equal length, so that attention over it needs no mask; a layout of
  one padded run has one (see `Layout`).
- Channels come last. A convolution of stride s over (frames, channels) is then a sum of matrix
  products over views of s neighbouring frames, and layer norms need no transposes.
- The group norm of the first convolution has one channel a group: its statistics over time follow
  from the covariance of the convolution's windows, a small matrix. It is folded into that
  convolution's weights, for each row over its own frames.

All of it is exact: what differs from transformers' own forward is the order of sums.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from extract.encoders.pooling import masked_mean

PADDED_INPUTS = 16  # of the first convolution on a GPU, whose kernels want multiples of 8
BLOCK = 8  # frames that one row of `GroupedProducts` gives
PRODUCT_ELEMENTS = 2**27  # of the windows that `GroupedProducts` copies at once


class Run(NamedTuple):
    """Rows of equal length: the first of their frames, how many rows, frames of each."""

    first: int
    n_rows: int
    n_frames: int

    def of(self, states: torch.Tensor) -> torch.Tensor:
        """View the run's rows of packed states, shape (n_rows, n_frames, width)."""
        last = self.first + self.n_rows * self.n_frames
        return states[self.first : last].view(self.n_rows, self.n_frames, states.shape[1])


class Layout(NamedTuple):
    """How the frames of a batch are packed.

    Attributes
    ----------
    runs : tuple of Run
    n_frames : int64 Tensor, shape (n_rows,), or None
        Frames that count for the mean, where not all do: there is one run then.
    mask : bool Tensor, shape (n_rows, n_frames), or None
        Frames that may be attended to, where not all may: there is one run then.
    """

    runs: tuple[Run, ...]
    n_frames: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def means(self, states: torch.Tensor) -> torch.Tensor:
        """Mean of each row over time, float32, shape (n_rows, hidden)."""
        if self.n_frames is not None:
            return masked_mean(self.runs[0].of(states), self.n_frames)
        means = [run.of(states).mean(dim=1, dtype=torch.float32) for run in self.runs]
        return means[0] if len(means) == 1 else torch.cat(means)


def equal_runs(n_frames: Sequence[int]) -> tuple[Run, ...]:
    """Runs of rows that are sorted by length.

    Examples
    --------
    >>> equal_runs([5, 5, 3])
    (Run(first=0, n_rows=2, n_frames=5), Run(first=10, n_rows=1, n_frames=3))
    """
    runs: list[Run] = []
    first = 0
    for n in n_frames:
        if runs and runs[-1].n_frames == n:
            runs[-1] = runs[-1]._replace(n_rows=runs[-1].n_rows + 1)
        else:
            runs.append(Run(first, 1, n))
        first += n
    return tuple(runs)


def linear(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, with_gelu: bool = False
) -> torch.Tensor:
    """Matrix product with bias, and the exact GELU of it where asked for.

    In float32 on a CPU it goes through oneDNN where PyTorch has it: the library that PyTorch takes
    otherwise, MKL, is slow on some makers' processors. `torch.compile` makes its own choice.
    """
    on_cpu = states.device.type == "cpu" and states.dtype == torch.float32
    # For a weight with gaps between its rows oneDNN has a plain loop, hundreds of times as slow.
    if on_cpu and weight.is_contiguous() and not torch.compiler.is_compiling() and has_onednn():
        return torch.ops.mkldnn._linear_pointwise(
            states, weight, bias, "gelu" if with_gelu else "none", [], "none"
        )
    product = torch.nn.functional.linear(states, weight, bias)
    return torch.ops.aten.gelu_(product) if with_gelu else product


@functools.cache
def has_onednn() -> bool:
    """Whether PyTorch's operator for oneDNN's matrix products is there and right.

    It is what `torch.compile` emits for a CPU, not a documented function: hence the look.
    """
    states, weight = torch.linspace(-2, 2, 15).view(3, 5), torch.linspace(-1, 1, 20).view(4, 5)
    bias = torch.linspace(0, 1, 4)
    try:
        found = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "gelu", [], "none")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, gelu(torch.nn.functional.linear(states, weight, bias)), atol=1e-5)


class Fold(NamedTuple):
    """A first convolution with its group norm in it, for each row of a batch.

    Attributes
    ----------
    mean : float32 Tensor, shape (n_rows, 1, n_inputs)
        Of the windows; taken off them before the product, so that no offset is rounded with it.
    weight : Tensor, shape (n_rows, n_channels, n_inputs)
    """

    mean: torch.Tensor
    weight: torch.Tensor


class FrontEnd(nn.Module):
    """A model's convolutions.

    Parameters
    ----------
    feature_extractor : Module
        transformers' `...FeatureEncoder`.
    dtype : torch.dtype
        Of the states.
    """

    def __init__(self, feature_extractor: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        convolutions: Any = feature_extractor.conv_layers
        self.dtype = dtype
        self.kernels = [one.conv.kernel_size[0] for one in convolutions]
        self.strides = [one.conv.stride[0] for one in convolutions]
        self.stride = math.prod(self.strides)
        norms = [getattr(one, "layer_norm", None) for one in convolutions]
        self.group_norm = norms[0] if isinstance(norms[0], nn.GroupNorm) else None
        self.norms = nn.ModuleList(
            nn.Identity() if one is None or one is self.group_norm else one for one in norms
        )
        self.normed = [isinstance(one, nn.LayerNorm) for one in norms]
        self.activation = convolutions[0].activation
        self.is_gelu = is_gelu(self.activation)
        # (channels out, kernel x channels in): a window's frames one after the other.
        self.weights = nn.ParameterList(
            frozen(one.conv.weight.transpose(1, 2).flatten(1)) for one in convolutions
        )
        self.biases = nn.ParameterList(
            frozen(torch.zeros_like(one.conv.weight[:, 0, 0]) if one.conv.bias is None
                   else one.conv.bias)
            for one in convolutions
        )  # fmt: skip

    def fold(self, windows: torch.Tensor, own: torch.Tensor | None = None) -> Fold | None:
        """Statistics of the group norm over each row's own windows; None without a group norm.

        Parameters
        ----------
        windows : float32 Tensor, shape (n_rows, n_windows, n_inputs)
        own : bool Tensor, shape (n_rows, n_windows), optional
            Windows that lie in the row's audio; default all.
        """
        norm = self.group_norm
        if norm is None:
            return None
        # In float64, as a channel that nearly cancels would be noise; not all devices have it.
        device = torch.device("cpu") if windows.device.type == "mps" else windows.device
        wide = windows.to(device).double()
        if own is None:
            count: Any = wide.shape[1]
            mean = wide.mean(dim=1, keepdim=True)
            centred = wide - mean
        else:
            keep = own.to(device)[..., None]
            count = keep.sum(dim=1, keepdim=True).double()
            mean = (wide * keep).sum(dim=1, keepdim=True) / count
            centred = (wide - mean) * keep
        covariance = centred.mT @ centred / count
        weight = pad(self.weights[0], (0, windows.shape[2] - self.weights[0].shape[1]))
        weight = weight.to(device).double()
        variance = ((weight @ covariance) * weight).sum(dim=-1)
        scale = norm.weight.to(device).double() * torch.rsqrt(variance + norm.eps)
        folded = (weight * scale[..., None]).to(self.dtype)
        return Fold(mean.float().to(windows.device), folded.to(windows.device))

    def alone(self, samples: torch.Tensor, n_frames: int, chunk: int) -> torch.Tensor:
        """Convolve one file, `chunk` frames at a time: what a CPU's caches hold.

        Parameters
        ----------
        samples : float32 Tensor, shape (n_samples,)
        n_frames, chunk : int

        Returns
        -------
        Tensor, shape (n_frames, n_channels)
        """
        windows = samples.unfold(0, self.kernels[0], self.strides[0])
        fold = self.fold(windows[None])
        least = self._n_windows()
        stride = self.stride // self.strides[0]
        chunks = []
        for first in range(0, n_frames, chunk):
            last = min(n_frames, first + chunk)
            states = windows[first * stride : (last - 1) * stride + least]
            states = self._first(states[None], fold)[0]
            for i in range(1, len(self.kernels)):
                width, step = self.kernels[i] * states.shape[1], self.strides[i] * states.shape[1]
                n_windows = (len(states) - self.kernels[i]) // self.strides[i] + 1
                # The windows overlap; the product copies them out, which costs less than two.
                states = states.as_strided((n_windows, width), (step, 1))
                states = self._product(states, i)
            chunks.append(states)
        return torch.cat(chunks)

    def rows(self, waveform: torch.Tensor, n_samples: torch.Tensor | None) -> torch.Tensor:
        """Convolve rows of one length together.

        Parameters
        ----------
        waveform : float32 Tensor, shape (n_rows, length)
            Zeros behind each row's own samples; the length is a multiple of the total stride.
        n_samples : int64 Tensor, shape (n_rows,), or None
            Own samples of each row; needed for group norms.

        Returns
        -------
        Tensor, shape (n_rows, length / stride, n_channels)
            What lies behind a row's own frames means nothing.
        """
        kernel, stride = self.kernels[0], self.strides[0]
        n_rows, length = waveform.shape
        n_windows = length // stride
        n_inputs = -(-kernel // PADDED_INPUTS) * PADDED_INPUTS
        windows = pad(waveform, (0, kernel - stride)).unfold(1, kernel, stride)
        windows = pad(windows, (0, n_inputs - kernel))
        own = None
        if self.group_norm is not None and n_samples is not None:
            counts = (n_samples - kernel).div(stride, rounding_mode="floor") + 1
            own = torch.arange(n_windows, device=waveform.device) < counts[:, None]
        states = self._first(windows, self.fold(windows, own)).flatten(0, 1)
        for i in range(1, len(self.kernels)):
            kernel, stride = self.kernels[i], self.strides[i]
            width = states.shape[1]
            states = states.view(-1, stride * width)
            parts = self.weights[i].split(stride * width, dim=1)
            product = linear(states[:, : parts[0].shape[1]], parts[0], self.biases[i])
            for shift, part in enumerate(parts[1:], 1):
                product[: len(product) - shift].addmm_(states[shift:, : part.shape[1]], part.T)
            states = self._activated(product, i)
        return states.view(n_rows, length // self.stride, -1)

    def _n_windows(self) -> int:
        """Windows of the first convolution that make one frame."""
        n = 1
        for kernel, stride in zip(self.kernels[:0:-1], self.strides[:0:-1], strict=True):
            n = (n - 1) * stride + kernel
        return n

    def _first(self, windows: torch.Tensor, fold: Fold | None) -> torch.Tensor:
        """First convolution, (n_rows, n_windows, n_inputs) to (n_rows, n_windows, n_channels)."""
        if fold is None or self.group_norm is None:
            weight = pad(self.weights[0], (0, windows.shape[2] - self.weights[0].shape[1]))
            return self._activated(linear(windows.to(self.dtype), weight, self.biases[0]), 0)
        bias = self.group_norm.bias
        centred = (windows - fold.mean).to(self.dtype)
        if len(windows) == 1 and self.is_gelu:
            return linear(centred[0], fold.weight[0], bias, with_gelu=True)[None]
        return self._activated(torch.baddbmm(bias, centred, fold.weight.mT), 0)

    def _product(self, windows: torch.Tensor, i: int) -> torch.Tensor:
        if self.is_gelu and not self.normed[i]:
            return linear(windows, self.weights[i], self.biases[i], with_gelu=True)
        return self._activated(linear(windows, self.weights[i], self.biases[i]), i)

    def _activated(self, states: torch.Tensor, i: int) -> torch.Tensor:
        states = self.norms[i](states)
        return torch.ops.aten.gelu_(states) if self.is_gelu else self.activation(states)


class GroupedProducts(nn.Module):
    """A grouped convolution over time as matrix products, `BLOCK` frames a row.

    A row of the products holds the kernel's frames and `BLOCK - 1` more, the matrix the kernel
    `BLOCK` times, each a frame further down: a sixteenth of the operations more at a kernel of 128,
    and a copy of 17 instead of 128 times the input.

    Parameters
    ----------
    convolution : Conv1d
        Stride and dilation 1, as many channels out as in.
    """

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self.n_groups, self.kernel = convolution.groups, weight.shape[2]
        self.padding = int(convolution.padding[0])
        width = weight.shape[1]
        # (groups, kernel, channels in, channels out)
        taps = weight.view(self.n_groups, -1, width, self.kernel).permute(0, 3, 2, 1)
        matrix = weight.new_zeros(self.n_groups, self.kernel + BLOCK - 1, width, BLOCK, width)
        for frame in range(BLOCK):
            matrix[:, frame : frame + self.kernel, :, frame] = taps
        self.matrix = frozen(matrix.flatten(3, 4).flatten(1, 2))
        bias = convolution.bias
        self.bias = frozen(weight.new_zeros(len(weight)) if bias is None else bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map (n_rows, hidden, n_frames) to the convolution's (n_rows, hidden, n_frames_out)."""
        n_rows, hidden, n_frames = states.shape
        n_out = n_frames + 2 * self.padding - self.kernel + 1
        n_blocks = -(-n_out // BLOCK)
        length = n_blocks * BLOCK + self.kernel - 1
        states = pad(states, (self.padding, length - n_frames - self.padding))
        width = hidden // self.n_groups
        # (groups, rows, frames, channels): a window is one stretch of memory.
        states = states.view(n_rows, self.n_groups, width, length).permute(1, 0, 3, 2).contiguous()
        window = (self.kernel + BLOCK - 1) * width
        size = (n_rows, n_blocks, window)
        steps = (length * width, BLOCK * width, 1)
        at_once = max(1, PRODUCT_ELEMENTS // math.prod(size))
        products = []
        for first in range(0, self.n_groups, at_once):
            some = states[first : first + at_once]
            windows = some.as_strided((len(some), *size), (some.stride(0), *steps))
            matrix = self.matrix[first : first + at_once]
            products.append(torch.bmm(windows.reshape(len(some), -1, window), matrix))
        product = torch.cat(products).view(self.n_groups, n_rows, n_blocks * BLOCK, width)
        product = product[:, :, :n_out].permute(1, 0, 3, 2).reshape(n_rows, hidden, n_out)
        return product + self.bias[:, None]


def plain_convolution(convolution: nn.Conv1d) -> nn.Conv1d:
    """Multiply a weight norm out, once instead of at every forward."""
    if nn.utils.parametrize.is_parametrized(convolution, "weight"):
        nn.utils.parametrize.remove_parametrizations(convolution, "weight")
        convolution.weight = frozen(convolution.weight)
    return convolution


def positional(convolution: nn.Conv1d, device: torch.device) -> nn.Module:
    """The convolution, or its products: on CUDA in half precision, where cuDNN's groups are slow.

    The choice is not timed on the spot: a run and the one that goes on with it have to agree. On a
    CPU neither was faster for files of usual length; there the products stand in half precision
    where the convolution is wrong, as oneDNN's with few channels a group is on processors with AMX.
    """
    half = convolution.weight.dtype != torch.float32
    if not half or convolution.groups == 1:
        return convolution
    if device.type == "cuda" or (device.type == "cpu" and not _is_right(convolution)):
        return GroupedProducts(convolution).to(device)
    return convolution


def _is_right(convolution: nn.Conv1d) -> bool:
    """Whether a convolution in half precision is near what it is in float32."""
    n_channels, kernel = convolution.in_channels, convolution.kernel_size[0]
    states = torch.linspace(-1, 1, n_channels * (kernel + 32)).sin().view(1, n_channels, -1)
    with torch.no_grad():
        wide = copy.deepcopy(convolution).float()(states.to(convolution.weight.dtype).float())
        found = convolution(states.to(convolution.weight.dtype)).float()
    return bool(torch.linalg.norm(found - wide) <= 0.05 * torch.linalg.norm(wide))


class Block(nn.Module):
    """One transformer block of any family, over packed frames.

    Parameters
    ----------
    layer : Module
        transformers' `...EncoderLayer`.
    norm_first : bool
        Whether the norms stand before attention and feed-forward, or behind them.
    """

    def __init__(self, layer: Any, norm_first: bool) -> None:
        super().__init__()
        whisper = hasattr(layer, "self_attn")
        attention = layer.self_attn if whisper else layer.attention
        self.norm_first = norm_first
        self.n_heads = attention.num_heads
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.weight = frozen(torch.cat([one.weight for one in projections]))
        biases = [
            torch.zeros_like(one.weight[:, 0]) if one.bias is None else one.bias
            for one in projections
        ]
        self.bias = frozen(torch.cat(biases))
        self.out = attention.out_proj
        if whisper:
            self.norms = nn.ModuleList([layer.self_attn_layer_norm, layer.final_layer_norm])
            self.inner, self.outer, self.activation = layer.fc1, layer.fc2, layer.activation_fn
        else:
            self.norms = nn.ModuleList([layer.layer_norm, layer.final_layer_norm])
            feed = layer.feed_forward
            self.inner, self.outer = feed.intermediate_dense, feed.output_dense
            self.activation = feed.intermediate_act_fn
        self.is_gelu = is_gelu(self.activation)
        self.clamped = whisper  # in float16, as transformers does
        self.adapter = getattr(layer, "adapter_layer", None)
        self.gate: Any = getattr(attention, "gru_rel_pos_linear", None)  # of wavlm
        if self.gate is not None:
            self.gate_constant = frozen(attention.gru_rel_pos_const.flatten())

    def forward(
        self, states: torch.Tensor, layout: Layout, position_bias: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Map packed states to packed states.

        Parameters
        ----------
        states : Tensor, shape (n_frames of all rows, hidden)
        layout : Layout
        position_bias : sequence of Tensor, optional
            One a run, shape (n_heads, n_frames, n_frames): of wavlm.
        """
        if self.norm_first:
            states = states + self._attention(self.norms[0](states), layout, position_bias)
            states = states + self._feed_forward(self.norms[1](states))
        else:
            states = self.norms[0](states + self._attention(states, layout, position_bias))
            states = self.norms[1](states + self._feed_forward(states))
        if self.adapter is not None:
            states = states + self.adapter(states)
        if self.clamped and states.dtype == torch.float16:
            most = torch.finfo(states.dtype).max - 1000
            states = states.clamp(-most, most)
        return states

    def _attention(
        self, states: torch.Tensor, layout: Layout, position_bias: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        gates = None if self.gate is None else self._gates(states)
        projected = linear(states, self.weight, self.bias)
        attended = []
        for i, run in enumerate(layout.runs):
            heads = run.of(projected).view(run.n_rows, run.n_frames, 3, self.n_heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            mask = None if layout.mask is None else layout.mask[:, None, None, :]
            if gates is not None:
                gate = run.of(gates).transpose(1, 2)[..., None]
                mask = gate * position_bias[i]
                if layout.mask is not None:
                    mask = mask.masked_fill(~layout.mask[:, None, None, :], -math.inf)
            output = scaled_dot_product_attention(query, key, value, attn_mask=mask)
            attended.append(output.transpose(1, 2).reshape(run.n_rows * run.n_frames, -1))
        together = attended[0] if len(attended) == 1 else torch.cat(attended)
        return linear(together, self.out.weight, self.out.bias)

    def _gates(self, states: torch.Tensor) -> torch.Tensor:
        """How much of the position bias each frame and head takes, shape (n_frames, n_heads)."""
        heads = states.view(len(states), self.n_heads, -1)
        projected = self.gate(heads).view(len(states), self.n_heads, 2, 4).sum(dim=-1)
        first, second = torch.sigmoid(projected).unbind(dim=-1)
        return first * (second * self.gate_constant - 1.0) + 2.0

    def _feed_forward(self, states: torch.Tensor) -> torch.Tensor:
        inner = linear(states, self.inner.weight, self.inner.bias, with_gelu=self.is_gelu)
        if not self.is_gelu:
            inner = self.activation(inner)
        return linear(inner, self.outer.weight, self.outer.bias)


def is_gelu(activation: Any) -> bool:
    """Whether an activation is the exact GELU."""
    values = torch.linspace(-3, 3, 7)
    return bool(torch.equal(activation(values), gelu(values)))


def frozen(values: torch.Tensor) -> nn.Parameter:
    """A contiguous parameter that is not trained."""
    return nn.Parameter(values.detach().contiguous(), requires_grad=False)
