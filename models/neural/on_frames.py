"""The networks on frames as the engine takes them: parameters from outside, draws by step.

Conventions
-----------
- A network of `models.neural.frame_heads` is applied model by model, but for HGFM: its recurrent
  layers are one scan over all models (`models.neural.recurrent`). In either way no bit of a model
  depends on which others are in its stack.
- Parameters start as torch's modules do: uniform within 1 / sqrt of what a linear map or a
  convolution sums over; those of a recurrent layer within 1 / sqrt of its width.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from features.sequences import plan_batches
from models.neural.draws import hashed
from models.neural.frame_heads import FRAME_HEADS
from models.neural.networks import Parameter, Pass
from models.neural.recurrent import hgfm_outputs
from models.neural.scales import Affine
from models.neural.utterances import FrameBatch, FrameSource, frame_batch

Values = TypeVar("Values")
"""Tensors or arrays."""
STACKED = "hgfm"
"""The network of which many models are computed in one scan."""
BATCH = 32
"""Utterances that go through a network at once when it is applied."""


@dataclass(frozen=True)
class OnFrames:
    """A network on frames.

    Attributes
    ----------
    name : str
        Of `FRAME_HEADS`.
    hidden, projection : int
        Widths; one that the network does not have goes unused.
    """

    name: str
    hidden: int
    projection: int

    def module(self, n_columns: int, n_outputs: int) -> nn.Module:
        """The network without values."""
        make = FRAME_HEADS[self.name]
        known = inspect.signature(make).parameters
        widths = {"hidden": self.hidden, "projection": self.projection}
        with torch.device("meta"):
            found = make(n_columns, n_outputs, **{k: v for k, v in widths.items() if k in known})
        return found

    def parameters(self, n_columns: int, n_outputs: int) -> dict[str, Parameter]:
        """Of each of its layers, by torch's names."""
        module = self.module(n_columns, n_outputs)
        found = {}
        for name, tensor in module.named_parameters():
            owner = module.get_submodule(name.rpartition(".")[0])
            found[name] = Parameter(tuple(tensor.shape), _spread(owner))
        return found

    def running(self) -> dict[str, Parameter]:
        """Nothing."""
        return {}

    def forward(self, p: Mapping[str, Tensor], x: FrameBatch, run: Pass) -> Tensor:
        """Outputs, shape (n_models, rows, n_outputs), of the batch of a stack."""
        if self.name == STACKED:
            return hgfm_outputs(p, x.x, x.lengths)
        outputs = []
        for k, (frames, lengths) in enumerate(zip(x.x, x.lengths, strict=True)):
            own = {name: value[k] for name, value in p.items()}
            with _drawing(run, k):
                outputs.append(self.apply(own, frames, lengths, run.rate(k)))
        return torch.stack(outputs)

    def apply(
        self, p: dict[str, Tensor], x: Tensor, lengths: Tensor, dropout: float = 0.0
    ) -> Tensor:
        """Outputs of one model.

        Parameters
        ----------
        p : dict
            By `parameters`' names.
        x : float, shape (rows, longest, n_columns)
        lengths : int64, shape (rows,)
        dropout : float
            Its rate; 0 where the network is applied, not fitted.

        Returns
        -------
        float, shape (rows, n_outputs)
        """
        module = _module(self, x.shape[2], len(last_bias(p)))
        module.train(dropout > 0)
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = dropout
        found: Tensor = functional_call(module, p, (x, lengths))
        return found


def last_bias(p: Mapping[str, Values]) -> Values:
    """The bias of a network's outputs, one number each, by the names of its parameters."""
    return next(value for name, value in p.items() if name.endswith("out.bias"))


@functools.lru_cache(maxsize=32)
def _module(network: OnFrames, n_columns: int, n_outputs: int) -> nn.Module:
    return network.module(n_columns, n_outputs)


def _spread(owner: nn.Module) -> float:
    """How far from 0 the parameters of a layer start."""
    if isinstance(owner, nn.RNNBase):
        return float(owner.hidden_size) ** -0.5
    weight: Any = owner.weight
    return float(math.prod(weight.shape[1:])) ** -0.5


@contextlib.contextmanager
def _drawing(run: Pass, k: int) -> Iterator[None]:
    """Torch's generator at the start of a model's own draws, and as it was behind them."""
    if run.weight is None or not run.rate(k):
        yield
        return
    device = run.weight.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(hashed((*(run.keys or [])[k], "frames")))
        yield


def apply_to_frames(
    network: OnFrames,
    p: dict[str, Tensor],
    source: FrameSource,
    rows: NDArray[np.int64],
    inputs: Affine | None,
) -> NDArray[np.float64]:
    """Outputs of one model, in batches of utterances of about one length.

    Parameters
    ----------
    network : OnFrames
    p : dict
        Of a stack of one.
    source : FrameSource
    rows : int64, shape (n,)
    inputs : Affine or None
        What columns are brought to first.

    Returns
    -------
    float64, shape (n, n_outputs)
    """
    own = {name: value[0] for name, value in p.items()}
    last = last_bias(own)
    found = np.empty((len(rows), len(last)))
    with torch.no_grad():
        for batch in plan_batches(source.lengths[rows], BATCH):
            x = frame_batch(source, [rows[batch]], [inputs], len(batch), last.device)
            outputs = network.apply(own, x.x[0], x.lengths[0])
            found[batch] = outputs.double().cpu().numpy()
    return found
