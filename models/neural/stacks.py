"""Many networks of one shape, stacked on a leading axis, each with the bits that it has alone.

Conventions
-----------
- Tensors are (n_models, ...); no operation mixes models. `n_models` may be 1: training alone.
- The bits of a float32 result depend on the instructions that made it, and those on shapes and on
  where memory begins. So the number of rows of a batch is padded to a multiple of `ROWS`, every
  parameter begins at a multiple of `ROWS` numbers, and on a CPU a product is made model by model:
  nothing that one model computes sees how many others there are.
- Rows of the padding have weight 0.
- On other devices a product is one batched call; there the bits may depend on the stack.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.neural.draws import stream

ROWS = 32
"""Two registers of 512 bits of float32: no vectorised loop has a rest that is done otherwise."""
MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
"""Of the mixing of 32 bits; odd, so that nothing is lost."""
SHIFT = 15


def padded(n: int) -> int:
    """The least multiple of `ROWS` that is n or more.

    Examples
    --------
    >>> padded(1), padded(32), padded(150)
    (32, 32, 160)
    """
    return -(-n // ROWS) * ROWS


def aligned(n_models: int, rows: int, columns: int, like: Tensor) -> Tensor:
    """An empty (n_models, rows, columns), each model's part beginning at a multiple of `ROWS`."""
    step = padded(rows * columns)
    whole = torch.empty((n_models, step), dtype=like.dtype, device=like.device)
    return whole[:, : rows * columns].view(n_models, rows, columns)


@dataclass(frozen=True)
class Layout:
    """Where each parameter of a network lies in one flat vector.

    Attributes
    ----------
    shapes : mapping
        Name -> shape, without the axis of models.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @functools.cached_property
    def offsets(self) -> dict[str, int]:
        """Where each begins."""
        found, at = {}, 0
        for name, shape in self.shapes.items():
            found[name] = at
            at += padded(math.prod(shape))
        return found

    @property
    def size(self) -> int:
        """Length of the vector; what lies between the parameters stays 0."""
        return sum(padded(math.prod(shape)) for shape in self.shapes.values())

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters of every model.

        Parameters
        ----------
        flat : float, shape (n_models, size)

        Returns
        -------
        dict
            Name -> shape (n_models, ...), of the memory of `flat`.
        """
        found = {}
        for name, shape in self.shapes.items():
            start = self.offsets[name]
            part = flat[:, start : start + math.prod(shape)]
            found[name] = part.view(len(flat), *shape)
        return found


class _Product(torch.autograd.Function):
    """x @ weight.T + bias, model by model."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        result = aligned(len(x), x.shape[1], weight.shape[1], x)
        for out, rows, w, b in zip(result, x, weight, bias, strict=True):
            torch.mm(rows, w.t(), out=out)
            out += b
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_weight = aligned(len(x), weight.shape[1], weight.shape[2], x)
        for out, g, rows in zip(to_weight, grad, x, strict=True):
            torch.mm(g.t(), rows, out=out)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = aligned(len(x), x.shape[1], x.shape[2], x)
            for out, g, w in zip(to_x, grad, weight, strict=True):
                torch.mm(g, w, out=out)
        return to_x, to_weight, grad.sum(1)


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The linear layer of every model.

    Parameters
    ----------
    x : float, shape (n_models, rows, n_in)
    weight : float, shape (n_models, n_out, n_in)
    bias : float, shape (n_models, n_out)

    Returns
    -------
    float, shape (n_models, rows, n_out)
    """
    if x.device.type == "cpu":
        result: Tensor = _Product.apply(x, weight, bias)
        return result
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


class _Normed(torch.autograd.Function):
    """Columns of mean 0 and variance 1 over the rows that count; the statistics, too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, n: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = (x * weight).sum(1, keepdim=True) / n
        centred = x - mean
        variance = (centred.square() * weight).sum(1, keepdim=True) / n
        scale = torch.rsqrt(variance + epsilon)
        result = centred.mul_(scale)
        ctx.save_for_backward(result, scale, weight, n)
        mean, variance = mean.squeeze(1), variance.squeeze(1)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        normed, scale, weight, n = ctx.saved_tensors
        grad = grads[0]
        mean = grad.sum(1, keepdim=True) / n
        slope = (grad * normed).sum(1, keepdim=True) / n
        inner = (normed * slope).add_(mean).mul_(weight)
        return (grad - inner).mul_(scale), None, None, None


def normed(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise columns over the rows that count.

    Parameters
    ----------
    x : float, shape (n_models, rows, n_columns)
    weight : float, shape (n_models, rows)
        1 where a row counts, 0 in the padding.
    epsilon : float
        What is added to the variance.

    Returns
    -------
    float, shape (n_models, rows, n_columns)
    mean, variance : float, shape (n_models, n_columns)
        Of the rows that count; no gradient runs through them alone.
    """
    n = weight.sum(1).view(-1, 1, 1)
    result: tuple[Tensor, Tensor, Tensor] = _Normed.apply(x, weight.unsqueeze(2), n, epsilon)
    return result


@functools.lru_cache(maxsize=64)
def _places(rows: int, columns: int, device: str) -> Tensor:
    """A mixed number for each place of a mask; int32, shape (rows, columns)."""
    low = (stream(0, rows * columns) & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32)
    return torch.from_numpy(low.reshape(rows, columns)).to(device)


def kept(rows: int, columns: int, keys: list[int], rates: Tensor) -> Tensor:
    """What dropout multiplies by: 0 with the rate as its probability, else 1 / (1 - rate).

    Parameters
    ----------
    rows, columns : int
    keys : list of int
        From 0 to 2**32 - 1, one a model: a hash of seed, fold, layer and step. (Of 65,000 steps
        two may share one.)
    rates : float32, shape (n_models,)
        In [0, 1).

    Returns
    -------
    float32, shape (n_models, rows, columns)
    """
    device = rates.device
    signed = [key - (key >> 31 << 32) for key in keys]
    key = torch.tensor(signed, dtype=torch.int32, device=device).view(-1, 1, 1)
    first, second = (factor - (factor >> 31 << 32) for factor in MULTIPLIERS)
    mixed = _places(rows, columns, str(device)) ^ key
    mixed.mul_(first)
    mixed.bitwise_xor_((mixed >> SHIFT).bitwise_and_((1 << (32 - SHIFT)) - 1))
    mixed.mul_(second)
    least = (rates.double() * 2**32 - 2**31).to(torch.int32).view(-1, 1, 1)
    scale = (1 / (1 - rates)).view(-1, 1, 1)
    return (mixed >= least) * scale
