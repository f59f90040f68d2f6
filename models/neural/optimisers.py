"""Steps of gradient descent, stacked: each model by its own settings.

Conventions
-----------
- Parameters, gradients and moments are flat, (n_models, size); what differs between models is a
  column (n_models, 1).
- Adam and AdamW are torch's, with betas 0.9 and 0.999 and epsilon 1e-8; SGD has torch's momentum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.neural.settings import NeuralSettings

BETAS = (0.9, 0.999)
EPSILON = 1e-8
TINY = 1e-6
"""What torch adds to a norm that it divides by."""


def moments(optimiser: str) -> tuple[str, ...]:
    """What an optimiser keeps of earlier gradients."""
    return ("velocity",) if optimiser == "sgd" else ("first", "second")


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)


def clip(grad: Tensor, spare: Tensor, settings: Sequence[NeuralSettings]) -> None:
    """Shorten gradients, in place, to each model's longest; the norm is over all its parameters."""
    if any(each.clip_norm for each in settings):
        longest = _column([each.clip_norm or float("inf") for each in settings], grad)
        norm = torch.mul(grad, grad, out=spare).sum(1, keepdim=True).sqrt_()
        grad.mul_((longest / (norm + TINY)).clamp_max_(1.0))


def update(
    flat: Tensor,
    grad: Tensor,
    kept: dict[str, Tensor],
    spare: Tensor,
    settings: Sequence[NeuralSettings],
    steps: Sequence[int],
) -> None:
    """One step, in place.

    Parameters
    ----------
    flat, grad : float, shape (n_models, size)
        `grad` is used up.
    kept : dict
        The `moments`, each of that shape.
    spare : float, shape (n_models, size)
        Room for what is between: what is large is not asked of the system at every step.
    settings : sequence of NeuralSettings
        Of one optimiser.
    steps : sequence of int
        How many each model has made, with this one.
    """
    optimiser = settings[0].optimiser
    rates = [each.learning_rate for each in settings]
    decay = [each.weight_decay for each in settings]
    if any(decay):
        if optimiser == "adamw":
            pairs = zip(rates, decay, strict=True)
            flat.mul_(_column([1 - rate * share for rate, share in pairs], flat))
        else:
            grad.addcmul_(flat, _column(decay, flat))
    if optimiser == "sgd":
        velocity = kept["velocity"]
        velocity.mul_(_column([each.momentum for each in settings], flat)).add_(grad)
        flat.sub_(torch.mul(velocity, _column(rates, flat), out=spare))
        return
    first, second = BETAS
    kept["first"].lerp_(grad, 1 - first)
    kept["second"].mul_(second).addcmul_(grad, grad, value=1 - second)
    below = [(1 - second**step) ** 0.5 for step in steps]
    lengths = [
        rate * root / (1 - first**step)
        for rate, root, step in zip(rates, below, steps, strict=True)
    ]
    spread = torch.sqrt(kept["second"], out=spare)
    spread.add_(_column([EPSILON * root for root in below], flat))
    flat.sub_(torch.mul(kept["first"], _column(lengths, flat), out=grad).div_(spread))
