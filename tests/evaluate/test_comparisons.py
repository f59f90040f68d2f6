"""Paired comparisons: against scipy's permutation test, by hand, and by closed testing."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from evaluate.metrics import metrics
from evaluate.statistics import permutations as comparisons
from evaluate.statistics import resampling as intervals

LABELS = ("a", "b", "c")


def judged(function, *args) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.ScoreWarning)
        return function(*args)


def systems(rng: np.random.Generator, n: int = 24) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three systems of unlike quality on six speakers, two targets, one of them with ties."""
    truth = rng.normal(size=(n, 2)) + 3
    truth[:, 1] = rng.integers(0, 3, n)
    predictions = np.stack([truth + noise * rng.normal(size=(n, 2)) for noise in (0.3, 1, 3)])
    predictions[1, :, 1] = predictions[1, :, 1].round()
    truth[rng.random(n) < 0.2, 0] = np.nan
    return truth, predictions, [f"c/{i % 6}" for i in range(n)]


def swapped(first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> tuple:
    one, two = first.copy(), second.copy()
    one[rows], two[rows] = second[rows], first[rows]
    return one, two


def p_by_hand(difference, first: np.ndarray, second: np.ndarray, groups: list[str]) -> float:
    """All choices of speakers, one after the other."""
    names = sorted(set(groups))
    seen = abs(difference(first, second))
    found = []
    for choice in itertools.product([False, True], repeat=len(names)):
        rows = np.isin(groups, [name for name, on in zip(names, choice, strict=True) if on])
        found.append(abs(difference(*swapped(first, second, rows))) >= seen - 1e-12)
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
def test_swaps_of_speakers_in_a_classification(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS, 30, p=[0.6, 0.3, 0.1])
    predictions = [np.where(rng.random(30) < p, truth, "a") for p in (0.9, 0.7, 0.3)]
    groups = [f"c/{i}" for i in rng.integers(0, 6, 30)]
    swaps = comparisons.draw_swaps(groups, 1000, seed=0)
    assert swaps.exact
    found = comparisons.classification_p(truth, predictions, LABELS, swaps)
    for name, p in found.items():
        metric = getattr(metrics, name)
        for i, j in itertools.combinations(range(3), 2):
            expected = p_by_hand(
                lambda a, b, metric=metric: (
                    judged(metric, truth, a, LABELS) - judged(metric, truth, b, LABELS)
                ),
                predictions[i], predictions[j], groups,
            )  # fmt: skip
            assert p[i, j] == p[j, i] == pytest.approx(expected)
        assert np.diag(p).tolist() == [1, 1, 1]


def scaled(metric: str, values: np.ndarray) -> np.ndarray:
    """What is swapped for a metric."""
    if metric == "spearman":
        return stats.rankdata(values)
    return stats.zscore(values) if metric == "pearson" else values


@pytest.mark.parametrize("metric", metrics.REGRESSION)
def test_swaps_of_speakers_in_a_regression(metric: str, rng: np.random.Generator) -> None:
    truth, predictions, groups = systems(rng)
    # Swapped ranks are not ranked again: their correlation with the truth's ranks is Pearson's.
    score = metrics.pearson if metric == "spearman" else metrics.REGRESSION[metric]
    known = [~np.isnan(truth[:, t]) for t in range(2)]
    values = np.full(predictions.shape, np.nan)
    for s, t in itertools.product(range(3), range(2)):
        values[s, known[t], t] = scaled(metric, predictions[s, known[t], t])
    sides = [truth[known[t], t] for t in range(2)]
    if metric == "spearman":
        sides = [stats.rankdata(one) for one in sides]

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return np.mean(
            [score(sides[t], a[known[t], t]) - score(sides[t], b[known[t], t]) for t in range(2)]
        )

    swaps = comparisons.draw_swaps(groups, 1000, seed=0)
    found = comparisons.regression_p(truth, predictions, metric, swaps)
    for i, j in itertools.combinations(range(3), 2):
        assert found[i, j] == pytest.approx(p_by_hand(difference, values[i], values[j], groups))


def test_lone_rows_equal_scipy(rng: np.random.Generator) -> None:
    x = rng.normal(size=9)
    first, second = x + rng.normal(size=9), x + 2 * rng.normal(size=9)
    swaps = comparisons.draw_swaps([""] * 9, 1000, seed=0)
    assert (swaps.n, swaps.exact, swaps.smallest_p) == (256, True, 1 / 256)
    found = comparisons.regression_p(x[:, None], np.stack([first, second])[..., None], "mse", swaps)
    theirs = stats.permutation_test(
        (first, second), lambda a, b: metrics.mse(x, a) - metrics.mse(x, b),
        permutation_type="samples", vectorized=False, n_resamples=np.inf,
    )  # fmt: skip
    assert found[0, 1] == pytest.approx(theirs.pvalue, abs=1e-12)


def test_drawn_swaps_come_near_to_all_of_them(rng: np.random.Generator) -> None:
    truth, predictions, groups = systems(rng, 60)
    groups = [f"c/{i % 10}" for i in range(60)]
    exact = comparisons.draw_swaps(groups, 1000, seed=0)
    drawn = comparisons.draw_swaps(groups, 300, seed=0)
    assert (exact.exact, drawn.exact, drawn.n, drawn.smallest_p) == (True, False, 300, 1 / 301)
    one = comparisons.regression_p(truth, predictions, "spearman", exact)
    other = comparisons.regression_p(truth, predictions, "spearman", drawn)
    np.testing.assert_allclose(one, other, atol=0.08)
    again = comparisons.regression_p(truth, predictions, "spearman", drawn)
    assert (other == again).all()
    np.testing.assert_allclose(other * 301, np.rint(other * 301), atol=1e-9)


def test_no_difference_is_found_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(200):
        x = rng.normal(size=(40, 1))
        pair = x + rng.normal(size=(2, 40, 1))
        swaps = comparisons.draw_swaps([f"c/{i % 9}" for i in range(40)], 1000, seed=0)
        found += comparisons.regression_p(x, pair, "spearman", swaps)[0, 1] <= 0.05
    assert 2 <= found <= 20


def test_scales_of_the_systems_do_not_matter_to_correlations(rng: np.random.Generator) -> None:
    truth = rng.normal(size=(40, 1))
    predictions = truth + rng.normal(size=(2, 40, 1))
    swaps = comparisons.draw_swaps([f"c/{i % 9}" for i in range(40)], 1000, seed=0)
    shrunken = predictions * [[[1e-3]], [[1]]] - 4
    found = {
        metric: [
            comparisons.regression_p(truth, one, metric, swaps)[0, 1]
            for one in (predictions, shrunken)
        ]
        for metric in ("spearman", "pearson", "ccc")
    }
    assert found["spearman"][0] == found["spearman"][1] > 2 * swaps.smallest_p
    assert found["pearson"][0] == found["pearson"][1] > 2 * swaps.smallest_p
    assert found["ccc"][0] != found["ccc"][1]


def test_undefined_scores_have_no_p_value(rng: np.random.Generator) -> None:
    truth, predictions, groups = systems(rng)
    predictions[1, :, 0] = 0.1
    swaps = comparisons.draw_swaps(groups, 1000, seed=0)
    for metric in ("spearman", "pearson"):
        p = comparisons.regression_p(truth, predictions, metric, swaps)
        assert np.isnan(p[1]).all()
        assert np.isnan(p[:, 1]).all()
        assert 0 < p[0, 2] <= 1
    truth[:] = np.nan
    assert np.isnan(comparisons.regression_p(truth, predictions, "mae", swaps)).all()
    with pytest.raises(ValueError, match="n > 0"):
        comparisons.draw_swaps([], 10, seed=0)


@pytest.mark.parametrize("seed", range(3))
def test_mcnemar_equals_the_binomial_test(seed: int) -> None:
    right = np.random.default_rng(seed).random((4, 60)) < [[0.9], [0.6], [0.6], [0.2]]
    right[2] = right[1]
    only, p = comparisons.mcnemar_p(right)
    for i, j in itertools.permutations(range(4), 2):
        count = int((right[i] & ~right[j]).sum())
        total = int((right[i] ^ right[j]).sum())
        assert only[i, j] == count
        expected = stats.binomtest(count, total).pvalue if total else 1.0
        assert p[i, j] == pytest.approx(expected, abs=1e-12)
    assert p[1, 2] == 1


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_closed_testing_by_bonferroni(seed: int) -> None:
    p = np.random.default_rng(seed).random(5).round(1) ** 2
    adjusted = comparisons.holm(p)
    for i in range(5):
        sets = [s for k in range(1, 6) for s in itertools.combinations(range(5), k) if i in s]
        expected = max(min(1, len(s) * p[list(s)].min()) for s in sets)
        assert adjusted[i] == pytest.approx(expected)
    assert comparisons.holm([]).tolist() == []


def test_the_best_and_those_not_worse() -> None:
    p_values = np.array([[1, 0.04, np.nan], [0.04, 1, np.nan], [np.nan] * 3])
    best, mask = comparisons.not_worse(np.array([0.5, 0.7, np.nan]), p_values, 0.05)
    assert (best, mask.tolist()) == (1, [False, True, False])
    best, mask = comparisons.not_worse(np.array([0.5, 0.7, np.nan]), p_values, 0.01)
    assert mask.tolist() == [True, True, False]
    third = np.array([[1, 0.04, 0.9], [0.04, 1, 0.02], [0.9, 0.02, 1]])
    best, mask = comparisons.not_worse(np.array([0.5, 0.7, 0.4]), third, 0.05)
    assert mask.tolist() == [True, True, False]  # 0.04 and 0.02, each in two comparisons
    best, mask = comparisons.not_worse(np.full(2, np.nan), np.full((2, 2), np.nan), 0.05)
    assert best is None
    assert not mask.any()


def test_the_system_that_is_best_in_truth_is_seldom_left_out() -> None:
    rng = np.random.default_rng(5)
    left_out = 0
    for _ in range(2000):
        scores = rng.normal(size=6)  # all are as good as the first
        p_values = 2 * stats.norm.sf(abs(np.subtract.outer(scores, scores)) / np.sqrt(2))
        left_out += not comparisons.not_worse(scores, p_values, 0.05)[1][0]
    assert 0 < left_out / 2000 < 0.05


def test_the_detectable_difference_is_found_in_four_of_five_test_sets() -> None:
    rng = np.random.default_rng(2)
    n, found = 30, 0
    drawn = intervals.draw([""] * n, 200, seed=0)
    for _ in range(200):
        apart = rng.normal(size=n)
        resampled = drawn.counts.T @ apart / n
        size = comparisons.minimum_detectable(resampled, n, 0.05)
        assert size == pytest.approx(
            (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)) * resampled.std(ddof=1)
        )
        found += stats.ttest_1samp(apart + size, 0).pvalue <= 0.05
    assert 0.7 < found / 200 < 0.9
    assert np.isnan(comparisons.minimum_detectable(np.array([1.0, 2.0]), 1, 0.05))
    assert np.isnan(comparisons.minimum_detectable(np.array([1.0, np.nan]), 9, 0.05))
