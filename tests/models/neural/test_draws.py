"""Draws without a state: the stream against its definition, and what is asked of chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from models.neural.draws import beta, hashed, order, stream, uniform
from models.neural.stacks import kept

MASK = 2**64 - 1


def splitmix(state: int, n: int) -> list[int]:
    """SplitMix64 in whole numbers, one after the other."""
    found = []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(z ^ (z >> 31))
    return found


@pytest.mark.parametrize("start", [0, 1, 1234567, MASK])
def test_the_stream_is_splitmix(start: int) -> None:
    assert stream(start, 40).tolist() == splitmix(start, 40)


def test_uniform_numbers_are_uniform_and_of_their_key_alone() -> None:
    found = uniform(20_000, 3, "fold", "start", 7)
    assert stats.kstest(found, "uniform").pvalue > 1e-3
    assert (uniform(50, 3, "fold", "start", 7) == found[:50]).all()
    keys = ((4, "fold", "start", 7), (3, "fold2", "start", 7), (3, "fold", "start", 8))
    others = [uniform(20_000, *key) for key in keys]
    assert all(abs(np.corrcoef(found, other)[0, 1]) < 0.03 for other in others)


def test_orders_are_permutations_and_even() -> None:
    orders = np.array([order(7, 1, "f", "order", epoch) for epoch in range(4_000)])
    assert (np.sort(orders, axis=1) == np.arange(7)).all()
    counts = np.array([np.bincount(orders[:, place], minlength=7) for place in range(7)])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_the_beta_draw_follows_its_distribution() -> None:
    found = [beta(0.4, 1, "f", "mixup", step) for step in range(2_000)]
    assert stats.kstest(found, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_masks_drop_at_their_rate(rate: float) -> None:
    mask = kept(160, 256, [hashed((0, "f", step), 4) for step in range(6)], torch.full((6,), rate))
    values = mask.unique()
    expected = [0.0, 1 / (1 - rate)] if rate else [1.0]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    share = (mask == 0).double().mean((1, 2)).numpy()
    assert (np.abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / (160 * 256)) + 1e-12).all()


def test_masks_of_other_steps_rows_and_columns_are_independent() -> None:
    keys = [hashed((0, "f", step), 4) for step in range(40)]
    mask = (kept(64, 96, keys, torch.full((40,), 0.5)) > 0).double().numpy() * 2 - 1
    flat = mask.reshape(40, -1)
    between = np.corrcoef(flat)[~np.eye(40, dtype=bool)]
    assert np.abs(between).max() < 5.5 / np.sqrt(flat.shape[1])
    assert between.std() == pytest.approx(1 / np.sqrt(flat.shape[1]), rel=0.1)
    for shifted in (mask[:, 1:] * mask[:, :-1], mask[:, :, 1:] * mask[:, :, :-1]):
        assert abs(shifted.mean()) < 5 / np.sqrt(shifted.size)


def test_a_mask_is_of_its_own_key_alone() -> None:
    keys, rates = [5, 2**32 - 1, 77], torch.tensor([0.2, 0.0, 0.7])
    together = kept(32, 48, keys, rates)
    for i, key in enumerate(keys):
        assert torch.equal(kept(32, 48, [key], rates[i : i + 1])[0], together[i])
