"""Complementarity: counted by hand, against scipy and scikit-learn, and by the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from evaluate.metrics import complementarity
from evaluate.metrics.complementarity import contributions


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_pairs_counted_one_by_one(seed: int) -> None:
    right = np.random.default_rng(seed).random((3, 50)) < [[0.8], [0.5], [0.6]]
    found = complementarity.agreement(right)
    for i, j in itertools.combinations(range(3), 2):
        a = np.sum(right[i] & right[j])
        b = np.sum(right[i] & ~right[j])
        c = np.sum(~right[i] & right[j])
        d = np.sum(~right[i] & ~right[j])
        assert found.q[i, j] == pytest.approx((a * d - b * c) / (a * d + b * c), abs=1e-12)
        assert found.disagreement[i, j] == pytest.approx((b + c) / 50, abs=1e-12)
        assert found.double_fault[i, j] == pytest.approx(d / 50, abs=1e-12)
        expected = matthews_corrcoef(right[i], right[j])
        assert found.correlation[i, j] == pytest.approx(expected, abs=1e-12)
        assert found.correlation[j, i] == found.correlation[i, j]


def test_errors_of_a_model_that_makes_none() -> None:
    found = complementarity.agreement(np.array([[True] * 4, [True, True, False, False]]))
    assert np.isnan(found.correlation[0, 1])
    assert np.isnan(found.q[0, 1])
    assert found.disagreement[0, 1] == 0.5
    assert found.double_fault[0, 1] == 0


def test_residuals_equal_scipy(rng: np.random.Generator) -> None:
    truth, shared = rng.random((40, 3)), rng.normal(size=(40, 3))
    predictions = truth + shared + rng.normal(size=(4, 40, 3))
    truth[::5, 0] = np.nan
    truth[:, 2] = np.nan
    found = complementarity.residual_correlation(truth, predictions)
    for i, j in itertools.combinations(range(4), 2):
        known = ~np.isnan(truth[:, 0])
        each = [
            stats.pearsonr(
                predictions[i, rows, t] - truth[rows, t], predictions[j, rows, t] - truth[rows, t]
            )[0]
            for t, rows in ((0, known), (1, np.full(40, True)))
        ]
        assert found[i, j] == pytest.approx(np.mean(each), abs=1e-12)
    predictions[0] = np.nan_to_num(truth) + 0.25
    truth[:, 2] = 0.0
    found = complementarity.residual_correlation(truth, predictions)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1, 2])


def test_no_model_is_nearer_than_the_oracle(rng: np.random.Generator) -> None:
    truth = rng.random((30, 2))
    truth[3, 1] = np.nan
    predictions = rng.random((4, 30, 2))
    found = complementarity.oracle_values(truth, predictions)
    assert found[3, 1] == predictions[0, 3, 1]
    known = ~np.isnan(truth)
    apart = np.abs(predictions - truth)
    assert (np.abs(found - truth)[known] == apart.min(axis=0)[known]).all()


def game(n: int, seed: int):
    """A worth of every subset with nothing simple about it: two metrics."""
    weights = np.random.default_rng(seed).random((1 << n, 2))

    def value(subsets: np.ndarray) -> np.ndarray:
        assert subsets.any(axis=1).all()
        return weights[subsets @ (1 << np.arange(n))]

    return value


def shapley_over_all_orders(value, n: int, empty: np.ndarray) -> np.ndarray:
    """The definition: the mean of what a model adds, over all orders."""
    total = np.zeros((n, 2))
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        before, subset = empty, np.zeros(n, dtype=bool)
        for model in order:
            subset[model] = True
            now = value(subset[None])[0]
            total[model] += now - before
            before = now
    return total / len(orders)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_shapley_values_are_those_of_the_definition(n: int) -> None:
    value, empty = game(n, n), np.array([0.25, 0.0])
    found = contributions(value, n, empty, seed=0)
    expected = shapley_over_all_orders(value, n, empty)
    np.testing.assert_allclose(found.shapley, expected, atol=1e-12)
    np.testing.assert_allclose(found.shapley.sum(axis=0), found.whole - empty, atol=1e-12)
    assert found.error is None
    assert found.n_subsets == 2**n - 1
    everyone = np.ones(n, dtype=bool)
    for model in range(n):
        only = np.arange(n) == model
        assert (found.alone[model] == value(only[None])[0]).all()
        lost = value(everyone[None])[0] - value((everyone & ~only)[None])[0]
        np.testing.assert_allclose(found.left_out[model], lost, atol=1e-12)


def test_sampled_shapley_values_are_within_their_errors(monkeypatch) -> None:
    value, empty = game(8, 1), np.array([0.1, 0.2])
    exact = contributions(value, 8, empty, seed=0)
    monkeypatch.setattr(complementarity, "EXACT_UP_TO", 7)
    sampled = contributions(value, 8, empty, seed=0)
    apart = np.abs(sampled.shapley - exact.shapley)
    assert (apart < 4 * sampled.error).all()
    assert (sampled.error > 0).all()
    np.testing.assert_allclose(sampled.shapley.sum(axis=0), sampled.whole - empty, atol=1e-12)
    for name in ("whole", "alone", "left_out"):
        assert (getattr(sampled, name) == getattr(exact, name)).all()
    again = contributions(value, 8, empty, seed=0)
    assert (again.shapley == sampled.shapley).all()
