"""A fitted network: what it is made of, and what it gives for rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.neural.networks import Mlp, Network, Pass, Superb
from models.neural.on_frames import OnFrames, apply_to_frames
from models.neural.scales import Affine
from models.neural.settings import NeuralSettings
from models.neural.speakers import with_speakers
from models.neural.threads import one_thread
from models.neural.utterances import FrameSource

Vector = NDArray[np.float32]

BLOCK_ROWS = 256
"""Rows that go through a network at once when it is applied; fewer are filled up with zeros, so
that on a CPU a prediction does not depend on which rows stand beside it."""


def network_of(settings: NeuralSettings) -> Network | OnFrames:
    """The network that settings name."""
    if settings.on_frames:
        return OnFrames(settings.network, settings.hidden[0], settings.projection)
    if settings.network == "superb":
        return Superb(settings.n_layers, settings.projection)
    mlp = Mlp(settings.hidden, settings.batch_norm)
    return with_speakers(mlp, settings) if settings.speaker else mlp


def apply(
    network: Network, p: dict[str, Tensor], running: dict[str, Tensor], X: Vector
) -> NDArray[np.float64]:
    """Outputs of one model, in blocks of rows.

    Parameters
    ----------
    network : Network
    p, running : dict
        Of a stack of one.
    X : float32, shape (n, n_columns)

    Returns
    -------
    float64, shape (n, n_outputs)
    """
    device = p["out.weight"].device
    found = [np.empty((0, p["out.weight"].shape[1]))]
    with torch.no_grad():
        for start in range(0, len(X), BLOCK_ROWS):
            block = X[start : start + BLOCK_ROWS]
            rows = torch.zeros((1, BLOCK_ROWS, X.shape[1]), dtype=torch.float32)
            rows[0, : len(block)].numpy()[:] = block
            outputs = network.forward(p, rows.to(device), Pass(running))
            found.append(outputs[0, : len(block)].double().cpu().numpy())
    return np.concatenate(found)


def outputs_of(
    network: Network | OnFrames,
    p: dict[str, Tensor],
    running: dict[str, Tensor],
    X: Vector | FrameSource,
    rows: NDArray[np.int64] | None,
    inputs: Affine | None,
) -> NDArray[np.float64]:
    """Outputs of one model for some rows of either sort; None is all of them."""
    if isinstance(network, OnFrames):
        if isinstance(X, np.ndarray):
            raise ValueError(f"{network.name} takes frames of utterances, not pooled rows")
        every = np.arange(len(X.lengths)) if rows is None else rows
        return apply_to_frames(network, p, X, every, inputs)
    if not isinstance(X, np.ndarray):
        raise ValueError("frames of utterances were given; this network takes pooled rows")
    part = X if rows is None else X[rows]
    return apply(network, p, running, part if inputs is None else inputs.applied(part))


@dataclass(frozen=True)
class FittedNet:
    """A network with its parameters, on the CPU.

    Attributes
    ----------
    settings : NeuralSettings
    parameters : dict
        Name -> float32.
    running : dict
        Statistics of batch norm, name -> float32.
    inputs, targets : Affine or None
        What columns are brought to before the network, and what its outputs are values of.
    """

    settings: NeuralSettings
    parameters: dict[str, Vector]
    running: dict[str, Vector]
    inputs: Affine | None = None
    targets: Affine | None = None

    def outputs(
        self, X: Vector | FrameSource, rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Logits, or values on the scale of the targets.

        Parameters
        ----------
        X : float32, shape (n_all, n_columns), or FrameSource
        rows : int64, shape (n,), or None
            Which of them; None is all. On frames the last bits depend on which are asked for
            together.

        Returns
        -------
        float64, shape (n, n_outputs)
        """
        p = {name: torch.tensor(value).unsqueeze(0) for name, value in self.parameters.items()}
        running = {name: torch.tensor(value).unsqueeze(0) for name, value in self.running.items()}
        with one_thread():
            found = outputs_of(network_of(self.settings), p, running, X, rows, self.inputs)
        if self.targets is not None:
            found = self.targets.undone(found)
        return found
