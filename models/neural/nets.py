"""A fitted network: what it is made of, and what it gives for rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.neural.networks import Mlp, Network, Pass, Superb
from models.neural.settings import NeuralSettings
from models.neural.threads import one_thread

Vector = NDArray[np.float32]

BLOCK_ROWS = 256
"""Rows that go through a network at once when it is applied; fewer are filled up with zeros, so
that on a CPU a prediction does not depend on which rows stand beside it."""


@dataclass(frozen=True)
class Affine:
    """Columns as (x - centre) / scale; both float32, shape (n_columns,)."""

    centre: Vector
    scale: Vector

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Affine:
        """Mean 0 and deviation 1 (with n) over rows; a constant column is centred alone."""
        scale = np.asarray(np.std(rows, axis=0, dtype=np.float64))
        scale[scale == 0] = 1
        centre = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
        return cls(centre.astype(np.float32), scale.astype(np.float32))


def network_of(settings: NeuralSettings) -> Network:
    """The network that settings name."""
    if settings.network == "superb":
        return Superb(settings.n_layers, settings.projection)
    return Mlp(settings.hidden, settings.batch_norm)


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

    def outputs(self, X: Vector) -> NDArray[np.float64]:
        """Logits, or values on the scale of the targets.

        Parameters
        ----------
        X : float32, shape (n, n_columns)

        Returns
        -------
        float64, shape (n, n_outputs)
        """
        if self.inputs is not None:
            X = (X - self.inputs.centre) / self.inputs.scale
        p = {name: torch.tensor(value).unsqueeze(0) for name, value in self.parameters.items()}
        running = {name: torch.tensor(value).unsqueeze(0) for name, value in self.running.items()}
        with one_thread():
            found = apply(network_of(self.settings), p, running, X)
        if self.targets is not None:
            found = found * self.targets.scale + self.targets.centre
        return found
