"""Matrix products, and grouped convolutions that are made of them.

What PyTorch does not document is looked at once, and has a documented function in its place where
it is missing or wrong: `has_onednn`, `gelu_in_place`. What differs is the order of sums at most.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, pad

BLOCK = 8
"""Frames that one row of `GroupedProducts` gives."""
PRODUCT_ELEMENTS = 2**27
"""Of the windows that `GroupedProducts` copies at once."""


def linear(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, with_gelu: bool = False
) -> torch.Tensor:
    """Matrix product with bias, and the exact GELU of it where asked for.

    In float32 on a CPU it goes through oneDNN where PyTorch has it: the library that PyTorch takes
    otherwise, MKL, is slow on some makers' processors. `torch.compile` makes its own choice.

    Parameters
    ----------
    states : Tensor, shape (..., n_inputs)
    weight : Tensor, shape (n_outputs, n_inputs)
    bias : Tensor, shape (n_outputs,), optional
    with_gelu : bool
        Apply the exact GELU, in place where that is another step.

    Returns
    -------
    Tensor, shape (..., n_outputs)
    """
    on_cpu = states.device.type == "cpu" and states.dtype == torch.float32
    # For a weight with gaps between its rows oneDNN has a plain loop, hundreds of times as slow.
    if on_cpu and weight.is_contiguous() and not torch.compiler.is_compiling() and has_onednn():
        return torch.ops.mkldnn._linear_pointwise(
            states, weight, bias, "gelu" if with_gelu else "none", [], "none"
        )
    product = torch.nn.functional.linear(states, weight, bias)
    return gelu_in_place(product) if with_gelu else product


@functools.cache
def has_onednn() -> bool:
    """Whether PyTorch's operator for oneDNN's matrix products is there and right.

    It is what `torch.compile` emits for a CPU, not a documented function: hence the look.

    Returns
    -------
    bool
    """
    states, weight = torch.linspace(-2, 2, 15).view(3, 5), torch.linspace(-1, 1, 20).view(4, 5)
    bias = torch.linspace(0, 1, 4)
    try:
        found = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "gelu", [], "none")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, gelu(torch.nn.functional.linear(states, weight, bias)), atol=1e-5)


def gelu_in_place(states: torch.Tensor) -> torch.Tensor:
    """The exact GELU, in the memory of its input where PyTorch can do so."""
    if torch.compiler.is_compiling():
        return gelu(states)
    return _overwriting_gelu()(states)


@functools.cache
def _overwriting_gelu() -> Callable[[torch.Tensor], torch.Tensor]:
    """PyTorch's operator that has no documented function, if it is there and right."""
    states = torch.linspace(-3, 3, 7)
    try:
        found = torch.ops.aten.gelu_(states.clone())
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return gelu
    return torch.ops.aten.gelu_ if torch.equal(found, gelu(states)) else gelu


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
        """Map (n_rows, hidden, n_frames) to the convolution's (n_rows, hidden, n_frames_out).

        Parameters
        ----------
        states : Tensor, shape (n_rows, hidden, n_frames)

        Returns
        -------
        Tensor, shape (n_rows, hidden, n_frames_out)
            n_frames_out is n_frames + 2 padding - kernel + 1.
        """
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


def is_gelu(activation: Any) -> bool:
    """Whether an activation is the exact GELU."""
    values = torch.linspace(-3, 3, 7)
    return bool(torch.equal(activation(values), gelu(values)))


def frozen(values: torch.Tensor) -> nn.Parameter:
    """A contiguous parameter that is not trained."""
    return nn.Parameter(values.detach().contiguous(), requires_grad=False)
