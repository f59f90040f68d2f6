"""Losses against their formulas row by row, against torch where it has them, and by gradcheck."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluate.metrics.metrics import ccc as ccc_metric
from models.neural.losses import ccc, cross_entropy, focal, kl, mean_squared_error, mixed

N_MODELS, ROWS, N = 2, 8, 6
"""The last rows are padding."""
C = 4
CLASSES = torch.tensor([[1.0, 1, 1, 1], [0.5, 2, 1.5, 3]], dtype=torch.float64)
WEIGHT = torch.tensor([[1.0] * N + [0.0] * (ROWS - N)] * N_MODELS, dtype=torch.float64)
GAMMA = torch.tensor([0.0, 2.0], dtype=torch.float64)


@pytest.fixture
def outputs(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(2 * rng.normal(size=(N_MODELS, ROWS, C))).requires_grad_()


@pytest.fixture
def labels(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.integers(0, C, (N_MODELS, ROWS)))


@pytest.fixture
def votes(rng: np.random.Generator) -> Tensor:
    """Shares of votes; some classes have none."""
    counts = rng.integers(0, 3, (N_MODELS, ROWS, C)).astype(float)
    counts[..., 0] += 1
    return torch.from_numpy(counts / counts.sum(2, keepdims=True))


def by_hand(
    outputs: Tensor, shares: Tensor, term: Callable[[float, float, float], float]
) -> list[float]:
    """Means over classes of a term of share, probability and gamma, in plain numbers."""
    found = []
    for k in range(N_MODELS):
        above = below = 0.0
        for i in range(N):
            exps = [math.exp(value) for value in outputs[k, i].tolist()]
            for j in range(C):
                scaled = CLASSES[k, j].item() * shares[k, i, j].item()
                above += scaled * term(shares[k, i, j].item(), exps[j] / sum(exps), GAMMA[k].item())
                below += scaled
        found.append(above / below)
    return found


def one_hot(labels: Tensor) -> Tensor:
    return nn.functional.one_hot(labels, C).double()


def test_cross_entropy_of_labels_is_torchs_weighted_mean(outputs: Tensor, labels: Tensor) -> None:
    found = cross_entropy(outputs, one_hot(labels), WEIGHT, CLASSES)
    for k in range(N_MODELS):
        expected = nn.functional.cross_entropy(outputs[k, :N], labels[k, :N], CLASSES[k])
        torch.testing.assert_close(found[k], expected)


def test_cross_entropy_of_shares_by_hand(outputs: Tensor, votes: Tensor) -> None:
    found = cross_entropy(outputs, votes, WEIGHT, CLASSES).tolist()
    assert found == pytest.approx(by_hand(outputs, votes, lambda q, p, g: -math.log(p)))


def test_focal_by_hand(outputs: Tensor, votes: Tensor) -> None:
    found = focal(outputs, votes, WEIGHT, CLASSES, GAMMA).tolist()
    expected = by_hand(outputs, votes, lambda q, p, g: -((1 - p) ** g) * math.log(p))
    assert found == pytest.approx(expected)


def test_focal_without_gamma_is_cross_entropy(outputs: Tensor, labels: Tensor) -> None:
    found = focal(outputs, one_hot(labels), WEIGHT, CLASSES, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(found, cross_entropy(outputs, one_hot(labels), WEIGHT, CLASSES))


def test_focal_is_finite_where_a_class_is_certain() -> None:
    sure = torch.tensor([[[200.0, 0.0], [0.0, 200.0]]], requires_grad=True)
    loss = focal(sure, torch.eye(2)[None], torch.ones(1, 2), torch.ones(1, 2), torch.tensor([2.0]))
    (grad,) = torch.autograd.grad(loss.sum(), sure)
    assert loss.item() == 0
    assert (grad == 0).all()


def test_kl_is_torchs_mean_over_rows(outputs: Tensor, votes: Tensor) -> None:
    found = kl(outputs, votes, WEIGHT, CLASSES)
    for k in range(N_MODELS):
        logs = outputs[k, :N].log_softmax(1)
        rows = nn.functional.kl_div(logs, votes[k, :N], reduction="none").sum(1)
        weights = (votes[k, :N] * CLASSES[k]).sum(1)
        torch.testing.assert_close(found[k], (rows * weights).sum() / weights.sum())
    plain = kl(outputs, votes, WEIGHT, torch.ones_like(CLASSES))
    expected = nn.functional.kl_div(
        outputs[0, :N].log_softmax(1), votes[0, :N], reduction="batchmean"
    )
    torch.testing.assert_close(plain[0], expected)


def test_kl_is_zero_where_the_softmax_is_the_shares(votes: Tensor) -> None:
    found = kl(votes.clamp_min(1e-300).log(), votes, WEIGHT, CLASSES)
    torch.testing.assert_close(found, torch.zeros(2, dtype=torch.float64))


def test_kl_of_a_label_is_cross_entropy(outputs: Tensor, labels: Tensor) -> None:
    torch.testing.assert_close(
        kl(outputs, one_hot(labels), WEIGHT, CLASSES),
        cross_entropy(outputs, one_hot(labels), WEIGHT, CLASSES),
    )


def test_mean_squared_error_is_torchs(outputs: Tensor, rng: np.random.Generator) -> None:
    values = torch.from_numpy(rng.normal(size=(N_MODELS, ROWS, C)))
    found = mean_squared_error(outputs, values, WEIGHT)
    for k in range(N_MODELS):
        expected = nn.functional.mse_loss(outputs[k, :N], values[k, :N])
        torch.testing.assert_close(found[k], expected)


def test_ccc_is_the_metric(outputs: Tensor, rng: np.random.Generator) -> None:
    values = torch.from_numpy(rng.normal(size=(N_MODELS, ROWS, C)))
    found = ccc(outputs, values, WEIGHT)
    for k in range(N_MODELS):
        pairs = zip(values[k, :N].T, outputs[k, :N].detach().T, strict=True)
        expected = 1 - np.mean([ccc_metric(y.numpy(), x.numpy()) for y, x in pairs])
        assert found[k].item() == pytest.approx(expected)


def test_ccc_by_hand() -> None:
    # x 0 2, y 1 5: means 1 3, variances 1 4, covariance 2: 2 * 2 / (1 + 4 + 4).
    x, y = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[1.0], [5.0]]])
    assert ccc(x, y, torch.ones(1, 2)).item() == pytest.approx(1 - 4 / 9)
    assert ccc(y, y, torch.ones(1, 2)).item() == pytest.approx(0)


def test_ccc_of_two_constants_is_zero_and_has_a_gradient() -> None:
    x = torch.ones(1, 3, 1, requires_grad=True)
    loss = ccc(x, torch.ones(1, 3, 1), torch.ones(1, 3))
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert loss.item() == 1
    assert grad.isfinite().all()


def test_gradients(outputs: Tensor, votes: Tensor, rng: np.random.Generator) -> None:
    values = torch.from_numpy(rng.normal(size=(N_MODELS, ROWS, C)))
    for loss, more in (
        (cross_entropy, (votes, WEIGHT, CLASSES)),
        (focal, (votes, WEIGHT, CLASSES, GAMMA)),
        (kl, (votes, WEIGHT, CLASSES)),
        (mean_squared_error, (values, WEIGHT)),
        (ccc, (values, WEIGHT)),
    ):
        assert torch.autograd.gradcheck(lambda x, loss=loss, more=more: loss(x, *more), outputs)


def test_rows_of_the_padding_have_no_gradient(outputs: Tensor, votes: Tensor) -> None:
    for loss, more in (
        (focal, (votes, WEIGHT, CLASSES, GAMMA)),
        (kl, (votes, WEIGHT, CLASSES)),
        (ccc, (votes, WEIGHT)),
    ):
        (grad,) = torch.autograd.grad(loss(outputs, *more).sum(), outputs)
        assert (grad[:, N:] == 0).all()
        assert (grad[:, :N] != 0).any()


def test_mixup_by_hand() -> None:
    rows = torch.tensor([[[0.0, 4.0], [8.0, 2.0]], [[1.0, 1.0], [3.0, 5.0]]])
    partner = torch.tensor([[1, 0], [0, 1]])
    found = mixed(rows, partner, torch.tensor([0.75, 0.25]))
    assert found.tolist() == [[[2.0, 3.5], [6.0, 2.5]], [[1.0, 1.0], [3.0, 5.0]]]
    assert torch.equal(mixed(rows, partner, torch.tensor([1.0, 1.0])), rows)
