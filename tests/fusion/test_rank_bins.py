"""scipy's rho is never above the bound, whatever the values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from fusion.subsets.rank_bins import rho_bounds

Rng = np.random.Generator
SLACK = 9
CASES: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n) * 2**40,
    "uniform": lambda rng, n: rng.random(n) * 2**55,
    "heavy tails": lambda rng, n: rng.standard_cauchy(n) * 2**30,
    "exponents": lambda rng, n: 2.0 ** rng.integers(0, 58, n),
    "one outlier": lambda rng, n: np.where(np.arange(n) == n // 2, 2**59, rng.normal(size=n) * 1e6),
    "whole numbers": lambda rng, n: rng.integers(0, 9, n) * 2**40,
    "small numbers": lambda rng, n: rng.integers(0, 300, n),
    "two values": lambda rng, n: rng.integers(0, 2, n) * 2**40,
    "constant": lambda rng, n: np.full(n, 2**50),
}
SHAPES = [(2, 1), (3, 2), (10, 3), (300, 3), (5000, 2)]


def made(rng: Rng, case: str, n: int, agreement: float) -> tuple[np.ndarray, ...]:
    """Units of two members, tails, and truths that agree more or less with their sums."""
    values = np.stack([np.rint(CASES[case](rng, n)).astype(np.int64) for _ in range(4)])
    values -= values.min()
    values = np.minimum(values, 2**60)
    noise = rng.permutation(n) * (1 - agreement)
    truth = (agreement * rankdata(values[:3].sum(axis=0)) + noise).round(-1 if n > 100 else 0)
    return values[:2], values[2:], truth


@pytest.mark.parametrize("agreement", [-1.0, 0.0, 0.7, 1.0])
@pytest.mark.parametrize(("n", "repeats"), SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_rho_is_never_above_its_bound(
    rng: Rng, case: str, n: int, repeats: int, agreement: float
) -> None:
    for _ in range(repeats):
        units, tails, truth = made(rng, case, n, agreement)
        heads = np.array([[0], [1]])
        ranks = np.rint(2 * rankdata(truth)).astype(np.int64)
        bounds = rho_bounds(units, heads, tails, ranks, SLACK)
        if np.ptp(truth) == 0:
            assert np.isnan(bounds).all()
            continue
        for (h, t), bound in np.ndenumerate(bounds):
            sums = units[h] + tails[t]
            assert bound <= 1
            for moved in (0, rng.integers(0, SLACK // 2 + 1, n)):  # what rounding may have hidden
                if np.ptp(sums + moved):
                    assert bound >= spearmanr(truth, rankdata(sums + moved)).statistic - 1e-12


def test_the_bound_is_near_where_bins_are_many(rng: Rng) -> None:
    truth = rng.normal(size=5000)
    units = np.rint((truth + rng.normal(size=(2, 5000)) + 50) * 2**50).astype(np.int64)
    units[0, 7] = 2**60
    ranks = np.rint(2 * rankdata(truth)).astype(np.int64)
    (bound,) = rho_bounds(units[:1], np.array([[0]]), units[1:], ranks, SLACK).ravel()
    exact = spearmanr(truth, units.sum(axis=0)).statistic
    assert exact <= bound < exact + 0.002
    # A bin a row, without a doubt: nothing is left open.
    order = np.arange(8) << 50
    ranks = 2 + 2 * rng.permutation(8)
    (bound,) = rho_bounds(order[None], np.array([[0]]), np.zeros((1, 8), int), ranks, 1).ravel()
    assert bound == pytest.approx(spearmanr(order, ranks).statistic, abs=1e-15)


def test_the_bound_by_hand() -> None:
    # Rows 0 to 2 share a bin, 3 and 4 have their own. Of doubled ranks around their mean, c is
    # 4, -4, -2, 2, 0 and m is -2, -2, -2, 2, 4: N = 8, C^2 = 40, M = 32 and V = 8.
    units = np.array([[0, 1, 2, 1000, 2000]]) << 48
    ranks = np.array([10, 2, 4, 8, 6])
    bounds = rho_bounds(units, np.array([[0]]), np.zeros((1, 5), int), ranks, 2**46)
    assert bounds[0, 0] == pytest.approx((8 + math.sqrt(40 * 8)) / 40, abs=1e-15)


def test_two_rows_on_both_sides_of_a_border_may_be_the_other_way_round() -> None:
    slack = 2**20
    pair = 2**39 + slack * np.arange(4096)[:, None] + np.array([0, slack])  # over a border or two
    tails = np.concatenate([np.tile(np.arange(4) << 40, (4096, 1)), pair], axis=1)
    truth = np.array([1, 4, 5, 6, 3, 2])
    bounds = rho_bounds(np.zeros((1, 6), int), np.array([[0]]), tails, 2 * truth, slack)
    assert (bounds >= 1 - 1e-15).all()


def test_a_slack_wider_than_any_bin_claims_nothing() -> None:
    units = np.array([[0, 2, 1]]) << 58
    ranks = np.array([2, 4, 6])
    bounds = rho_bounds(units, np.array([[0]]), np.zeros((2, 3), int), ranks, 2**51)
    assert bounds.tolist() == [[1.0, 1.0]]
