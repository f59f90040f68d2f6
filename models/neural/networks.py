"""Networks on pooled embeddings, stacked: many of one shape in one pass.

Conventions
-----------
- A network is a record of its shape; parameters are tensors with a leading axis of models.
- Linear layers start as torch's do: weights and biases uniform within 1 / sqrt(n_in). Layer weights
  start at 0, so that every layer counts the same.
- Outputs are logits, or values; no softmax.
- Running statistics of batch norm follow torch: momentum 0.1, the variance with n - 1.

Sources
-------
`mlp`: the base model of the personalised heads on CREMA-D: 256-64-C, and the deeper
1024-256-64-64-C, each ReLU, dropout, batch norm. Its rate of dropout is not stated. `superb`: the
emotion head of SUPERB as s3prl has it: softmax over layer weights, a projection to 256 without an
activation, the mean over time, a linear layer. All of it commutes with the mean, so that pooled
embeddings give the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.neural.draws import Part, hashed, uniform
from models.neural.stacks import Layout, aligned, kept, normed, product

EPSILON = 1e-5
MOMENTUM = 0.1
"""Of batch norm, as torch has them."""


@dataclass(frozen=True)
class Parameter:
    """How a parameter begins: uniform within `spread` of `middle`."""

    shape: tuple[int, ...]
    spread: float = 0.0
    middle: float = 0.0


@dataclass
class Pass:
    """What a forward pass knows beside rows and parameters.

    Attributes
    ----------
    running : dict
        Statistics of batch norm by name, shape (n_models, n_columns). A fitting pass replaces them.
    weight : float32, shape (n_models, rows), or None
        1 where a row counts; None where a network is applied, not fitted.
    keys : list of tuple
        What the masks of each model are a function of.
    dropout : float32, shape (n_models,), or None
        Rates; None where no model drops.
    """

    running: dict[str, Tensor]
    weight: Tensor | None = None
    keys: list[tuple[Part, ...]] | None = None
    dropout: Tensor | None = None

    def rate(self, k: int) -> float:
        """The rate of dropout of a model; 0 where a network is applied."""
        if self.dropout is None or self.weight is None:
            return 0.0
        return float(self.dropout[k])

    def drop(self, x: Tensor, name: str) -> Tensor:
        """Dropout, where a network is fitted."""
        if self.dropout is None or self.weight is None:
            return x
        keys = [hashed((*key, name), 4) for key in self.keys or []]
        return x * kept(x.shape[1], x.shape[2], keys, self.dropout)

    def norm(self, x: Tensor, name: str, gain: Tensor, bias: Tensor) -> Tensor:
        """Batch norm: by the rows of the batch while fitting, else by the running statistics."""
        mean, variance = f"{name}.mean", f"{name}.variance"
        if self.weight is None:
            scale = torch.rsqrt(self.running[variance] + EPSILON)
            result = (x - self.running[mean].unsqueeze(1)) * scale.unsqueeze(1)
        else:
            result, seen_mean, seen_variance = normed(x, self.weight, EPSILON)
            n = self.weight.sum(1, keepdim=True)
            unbiased = seen_variance * (n / (n - 1).clamp_min(1))
            for key, seen in ((mean, seen_mean), (variance, unbiased)):
                self.running[key] = self.running[key] * (1 - MOMENTUM) + seen * MOMENTUM
        return result * gain.unsqueeze(1) + bias.unsqueeze(1)


class Network(Protocol):
    """The shape of a network, and its forward pass."""

    def parameters(self, n_columns: int, n_outputs: int) -> dict[str, Parameter]:
        """What is fitted by gradients."""

    def running(self) -> dict[str, Parameter]:
        """What is kept of batches: statistics of batch norm, by the names that `Pass` uses."""

    def forward(self, p: Mapping[str, Tensor], x: Tensor, run: Pass) -> Tensor:
        """Outputs, shape (n_models, rows, n_outputs), of rows (n_models, rows, n_columns)."""


def _linear(name: str, n_in: int, n_out: int) -> dict[str, Parameter]:
    spread = n_in**-0.5
    return {
        f"{name}.weight": Parameter((n_out, n_in), spread),
        f"{name}.bias": Parameter((n_out,), spread),
    }


@dataclass(frozen=True)
class Mlp:
    """Linear, ReLU, dropout, batch norm a hidden layer, and a linear layer.

    Attributes
    ----------
    hidden : tuple of int
        Widths; () is a linear model.
    batch_norm : bool
    """

    hidden: tuple[int, ...] = (256, 64)
    batch_norm: bool = True

    def parameters(self, n_columns: int, n_outputs: int) -> dict[str, Parameter]:
        """Of each linear layer, and gain and bias of each batch norm."""
        found: dict[str, Parameter] = {}
        n_in = n_columns
        for i, width in enumerate(self.hidden):
            found |= _linear(f"{i}", n_in, width)
            if self.batch_norm:
                found[f"{i}.norm.gain"] = Parameter((width,), middle=1.0)
                found[f"{i}.norm.bias"] = Parameter((width,))
            n_in = width
        return found | _linear("out", n_in, n_outputs)

    def running(self) -> dict[str, Parameter]:
        """Mean and variance of each batch norm."""
        found = {}
        for i, width in enumerate(self.hidden if self.batch_norm else ()):
            found[f"{i}.norm.mean"] = Parameter((width,))
            found[f"{i}.norm.variance"] = Parameter((width,), middle=1.0)
        return found

    def forward(self, p: Mapping[str, Tensor], x: Tensor, run: Pass) -> Tensor:
        """Outputs of rows."""
        for i in range(len(self.hidden)):
            x = product(x, p[f"{i}.weight"], p[f"{i}.bias"]).relu()
            x = run.drop(x, f"{i}")
            if self.batch_norm:
                x = run.norm(x, f"{i}.norm", p[f"{i}.norm.gain"], p[f"{i}.norm.bias"])
        return product(x, p["out.weight"], p["out.bias"])


class _Mixed(torch.autograd.Function):
    """The weighted sum over layers, model by model; rows get no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        n_models, rows, n_layers, width = x.shape
        result = aligned(n_models, rows, width, x)
        for out, states, w in zip(result, x, weights, strict=True):
            torch.bmm(w.expand(rows, 1, n_layers), states, out=out.unsqueeze(1))
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        grad = grads[0].unsqueeze(2)
        sums = [(states * g).sum((0, 2)) for states, g in zip(x, grad, strict=True)]
        return None, torch.stack(sums)


@dataclass(frozen=True)
class Superb:
    """Layers weighted by a softmax, a projection without an activation, a linear layer.

    Attributes
    ----------
    n_layers : int
        Columns are those of the layers side by side.
    projection : int
        Width of the projection.
    """

    n_layers: int = 1
    projection: int = 256

    def parameters(self, n_columns: int, n_outputs: int) -> dict[str, Parameter]:
        """The logits of the layers' weights, and both linear layers."""
        return {
            "layers": Parameter((self.n_layers,)),
            **_linear("projection", n_columns // self.n_layers, self.projection),
            **_linear("out", self.projection, n_outputs),
        }

    def running(self) -> dict[str, Parameter]:
        """Nothing."""
        return {}

    def forward(self, p: Mapping[str, Tensor], x: Tensor, run: Pass) -> Tensor:
        """Outputs of rows."""
        states = x.view(*x.shape[:2], self.n_layers, -1)
        weights = torch.softmax(p["layers"], dim=1)
        if x.device.type == "cpu":
            mixed: Tensor = _Mixed.apply(states, weights)
        else:
            mixed = torch.einsum("kbld,kl->kbd", states, weights)
        hidden = product(mixed, p["projection.weight"], p["projection.bias"])
        return product(hidden, p["out.weight"], p["out.bias"])


def layout(parameters: Mapping[str, Parameter]) -> Layout:
    """Where parameters lie in a flat vector."""
    return Layout({name: parameter.shape for name, parameter in parameters.items()})


def initial(parameters: Mapping[str, Parameter], seed: int, fold: str) -> NDArray[np.float32]:
    """The parameters that a training starts from.

    Parameters
    ----------
    parameters : mapping
    seed : int
    fold : str

    Returns
    -------
    float32, shape (layout.size,)
        A function of seed, fold and each parameter's name.
    """
    places = layout(parameters)
    flat = np.zeros(places.size, dtype=np.float32)
    for name, parameter in parameters.items():
        n = int(np.prod(parameter.shape))
        values = np.full(n, parameter.middle)
        if parameter.spread:
            drawn = uniform(n, seed, fold, "start", name)
            values += parameter.spread * (2 * drawn - 1)
        flat[places.offsets[name] : places.offsets[name] + n] = values
    return flat
