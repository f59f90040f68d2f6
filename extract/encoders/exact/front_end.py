"""The convolutions of a family that takes waveforms.

Channels come last. A convolution of stride s over (frames, channels) is then a sum of matrix
products over views of s neighbouring frames, and layer norms need no transposes. The group norm of
the first convolution has one channel a group: its statistics over time follow from the covariance
of the convolution's windows, a small matrix. It is folded into that convolution's weights, for each
row over its own frames.

All of it is exact: what differs from transformers' own forward is the order of sums.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import pad

from extract.encoders.exact.products import frozen, gelu_in_place, is_gelu, linear

PADDED_INPUTS = 16
"""Of the first convolution on a GPU, whose kernels want multiples of 8."""


class FoldedConvolution(NamedTuple):
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
        self.kernels = [each.conv.kernel_size[0] for each in convolutions]
        self.strides = [each.conv.stride[0] for each in convolutions]
        self.stride = math.prod(self.strides)
        norms = [getattr(each, "layer_norm", None) for each in convolutions]
        self.group_norm = norms[0] if isinstance(norms[0], nn.GroupNorm) else None
        self.norms = nn.ModuleList(
            nn.Identity() if each is None or each is self.group_norm else each for each in norms
        )
        self.normed = [isinstance(each, nn.LayerNorm) for each in norms]
        self.activation = convolutions[0].activation
        self.is_gelu = is_gelu(self.activation)
        # (channels out, kernel x channels in): a window's frames one after the other.
        self.weights = nn.ParameterList(
            frozen(each.conv.weight.transpose(1, 2).flatten(1)) for each in convolutions
        )
        self.biases = nn.ParameterList(
            frozen(torch.zeros_like(each.conv.weight[:, 0, 0]) if each.conv.bias is None
                   else each.conv.bias)
            for each in convolutions
        )  # fmt: skip

    def fold(
        self, windows: torch.Tensor, own: torch.Tensor | None = None
    ) -> FoldedConvolution | None:
        """Statistics of the group norm over each row's own windows; None without a group norm.

        Parameters
        ----------
        windows : float32 Tensor, shape (n_rows, n_windows, n_inputs)
        own : bool Tensor, shape (n_rows, n_windows), optional
            Windows that lie in the row's audio; default all.

        Returns
        -------
        FoldedConvolution or None
            The mean window of each row, float32, and the first convolution with the norm's scale in
            it, in the type of the weights.
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
        return FoldedConvolution(mean.float().to(windows.device), folded.to(windows.device))

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

    @property
    def min_samples(self) -> int:
        """Fewest samples that give a frame."""
        return (self._n_windows() - 1) * self.strides[0] + self.kernels[0]

    def _n_windows(self) -> int:
        """Windows of the first convolution that make one frame."""
        n = 1
        for kernel, stride in zip(self.kernels[:0:-1], self.strides[:0:-1], strict=True):
            n = (n - 1) * stride + kernel
        return n

    def _first(self, windows: torch.Tensor, fold: FoldedConvolution | None) -> torch.Tensor:
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
        return gelu_in_place(states) if self.is_gelu else self.activation(states)
