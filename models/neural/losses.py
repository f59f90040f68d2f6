"""What a network is fitted by: means over the rows of a batch, one a model.

Conventions
-----------
- `outputs` are (n_models, rows, n_outputs), `weight` (n_models, rows): 0 in the padding. A result
  is (n_models,).
- Classes are given as shares (n_models, rows, n_classes) that sum to 1 over a row; a label is a
  share of 1. Mixed rows have mixed shares.
- Class weights c multiply a row's terms by class, and the mean is over them: sum over rows of
  sum_j c_j q_j l_j, divided by that of c_j q_j. For labels this is torch's weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

LEAST = 1e-12
"""Below every denominator of the CCC that is not 0."""


def _mean_over_classes(terms: Tensor, shares: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    scaled = shares * classes.unsqueeze(1) * weight.unsqueeze(2)
    return (scaled * terms).sum((1, 2)) / scaled.sum((1, 2))


def cross_entropy(outputs: Tensor, shares: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """The negative logarithm of the probability of the true class.

    Parameters
    ----------
    outputs : float, shape (n_models, rows, n_classes)
        Logits.
    shares : float, shape (n_models, rows, n_classes)
    weight : float, shape (n_models, rows)
    classes : float, shape (n_models, n_classes)
        Weights of the classes.

    Returns
    -------
    float, shape (n_models,)
    """
    return _mean_over_classes(-torch.log_softmax(outputs, 2), shares, weight, classes)


def focal(
    outputs: Tensor, shares: Tensor, weight: Tensor, classes: Tensor, gamma: Tensor
) -> Tensor:
    """Cross-entropy with each term times (1 - p)**gamma (Lin et al. 2017).

    Parameters
    ----------
    outputs, shares, weight, classes
        As of `cross_entropy`.
    gamma : float, shape (n_models,)
        0 is cross-entropy.

    Returns
    -------
    float, shape (n_models,)
    """
    logs = torch.log_softmax(outputs, 2)
    # The logarithm of 1 - p: its gradient stays finite where p rounds to 1.
    rest = torch.log1p(-logs.exp().clamp_max(1 - torch.finfo(logs.dtype).eps))
    terms = -logs * torch.exp(gamma.view(-1, 1, 1) * rest)
    return _mean_over_classes(terms, shares, weight, classes)


def kl(outputs: Tensor, shares: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """The divergence of the softmax from the shares, sum_j q_j log(q_j / p_j).

    A class without a share adds nothing. Class weights weigh rows, by their shares.

    Parameters
    ----------
    outputs, shares, weight, classes
        As of `cross_entropy`.

    Returns
    -------
    float, shape (n_models,)
    """
    logs = torch.log_softmax(outputs, 2)
    terms = (torch.special.xlogy(shares, shares) - shares * logs).sum(2)
    rows = (shares * classes.unsqueeze(1)).sum(2) * weight
    return (terms * rows).sum(1) / rows.sum(1)


def mean_squared_error(outputs: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """The mean over rows and targets of the squared error.

    Parameters
    ----------
    outputs, values : float, shape (n_models, rows, n_targets)
    weight : float, shape (n_models, rows)

    Returns
    -------
    float, shape (n_models,)
    """
    return ((outputs - values).square().mean(2) * weight).sum(1) / weight.sum(1)


def ccc(outputs: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """1 less the mean over targets of Lin's concordance, over the rows of the batch.

    A concordance is 2 cov / (var_x + var_y + (mean_x - mean_y)**2), with n below the sums; 0 where
    both sides are constant and equal.

    Parameters
    ----------
    outputs, values : float, shape (n_models, rows, n_targets)
    weight : float, shape (n_models, rows)

    Returns
    -------
    float, shape (n_models,)
        From 0 to 2.
    """
    rows = weight.unsqueeze(2)
    n = rows.sum(1, keepdim=True)
    x_mean = (outputs * rows).sum(1, keepdim=True) / n
    y_mean = (values * rows).sum(1, keepdim=True) / n
    x, y = (outputs - x_mean) * rows, (values - y_mean) * rows
    covariance = (x * y).sum(1) / n.squeeze(1)
    spread = (x.square() + y.square()).sum(1) / n.squeeze(1)
    below = spread + (x_mean - y_mean).squeeze(1).square()
    return 1 - (2 * covariance / below.clamp_min(LEAST)).mean(1)


CLASS_LOSSES: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"cross-entropy": cross_entropy, "focal": focal, "kl": kl}
)
VALUE_LOSSES: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"mse": mean_squared_error, "ccc": ccc}
)


def mixed(rows: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Mixup (Zhang et al. 2018): each row with another of its batch, or its targets alike.

    Parameters
    ----------
    rows : float, shape (n_models, rows, n)
    partner : int64, shape (n_models, rows)
        Positions of the other rows.
    share : float, shape (n_models,)
        Of the row itself.

    Returns
    -------
    float, shape (n_models, rows, n)
    """
    other = torch.take_along_dim(rows, partner.unsqueeze(2), dim=1)
    share = share.view(-1, 1, 1)
    return rows * share + other * (1 - share)
