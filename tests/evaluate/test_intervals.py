"""Bootstrap intervals: each resample equals the metric of the resampled rows."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from evaluate.metrics import metrics
from evaluate.statistics import resampling as intervals
from features.recipe.known.metrics import METRICS
from features.recipe.known.records import of_task

N = 40


@pytest.fixture
def regression(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Four targets: no ties, many ties, masked rows, and nearly always constant predictions."""
    truth = rng.normal(size=(N, 4)) + 100
    truth[:, 1] = rng.integers(0, 3, N)
    prediction = truth + rng.normal(size=(N, 4))
    prediction[:, 1] = rng.integers(0, 2, N)
    truth[rng.random(N) < 0.7, 2] = np.nan
    prediction[:, 3] = 0.1
    prediction[0, 3] = 0.2
    groups = [f"c/{i}" if i else "" for i in rng.integers(0, 7, N)]
    return truth, prediction, groups


def resampled_rows(drawn: intervals.Resamples, b: int) -> np.ndarray:
    return np.repeat(np.arange(len(drawn.unit)), drawn.counts[drawn.unit, b].astype(int))


def test_regression_equals_the_metrics_of_the_resampled_rows(regression) -> None:
    truth, prediction, groups = regression
    drawn = intervals.draw(groups, 60, seed=3)
    found = intervals.regression_resampled(truth, prediction, drawn)
    undefined = 0
    for b in range(60):
        rows = resampled_rows(drawn, b)
        for t in range(4):
            known = rows[~np.isnan(truth[rows, t])]
            for name, metric in metrics.REGRESSION.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    value = metric(truth[known, t], prediction[known, t]) if len(known) else np.nan
                undefined += np.isnan(value)
                assert found[name][t, b] == pytest.approx(value, abs=1e-12, rel=1e-11, nan_ok=True)
    assert undefined, "the case of a constant resample was not met"


def test_classification_equals_the_metrics_of_the_resampled_rows(rng: np.random.Generator) -> None:
    labels = ("a", "b", "c")
    truth, prediction = rng.choice(labels, N, p=[0.6, 0.38, 0.02]), rng.choice(labels, N)
    drawn = intervals.draw([""] * N, 60, seed=3)
    found = intervals.classification_resampled(truth, prediction, labels, drawn)
    lacked = 0
    for b in range(60):
        rows = resampled_rows(drawn, b)
        matrix = metrics.confusion(truth[rows], prediction[rows], labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = metrics.classification_scores(matrix)
        for metric in map(METRICS.__getitem__, of_task(METRICS, "classification")):
            whole = not metric.over_classes or set(truth[rows]) == set(truth)
            wanted = values[metric.field] if whole else np.nan
            lacked += not whole
            assert found[metric.field][b] == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert 0 < lacked < 120


def test_an_interval_of_the_uar_is_of_resamples_with_every_class() -> None:
    """By hand: of 3 speakers the 27 resamples, of which 8 have no row of the only sad one."""
    unit = np.array([0, 0, 1, 1, 2, 2])
    truth = np.array(["a", "b", "a", "b", "b", "c"])
    prediction = np.array(["a", "a", "b", "b", "b", "c"])
    draws = list(itertools.product(range(3), repeat=3))
    counts = np.array([[one.count(i) for one in draws] for i in range(3)], dtype=float)
    found = intervals.classification_resampled(
        truth, prediction, ("a", "b", "c", "never"), intervals.Resamples(unit, counts)
    )
    recalls, right = [], []
    for n0, n1, n2 in counts.T:
        right.append((n0 + n1 + 2 * n2) / 6)
        if n2 and n0 + n1:
            recalls.append((n0 / (n0 + n1) + (n1 + n2) / (n0 + n1 + n2) + 1) / 3)
    assert len(recalls) == 27 - 8 - 1
    uar = found["uar"]
    assert uar[~np.isnan(uar)] == pytest.approx(recalls)
    assert np.isnan(found["macro_f1"]).sum() == 9
    assert found["wa"] == pytest.approx(right)
    bounds = intervals.interval(uar, 0.9)
    assert bounds.undefined == 9
    assert (bounds.low, bounds.high) == pytest.approx(tuple(np.quantile(recalls, [0.05, 0.95])))


def test_an_interval_of_less_than_half_of_the_resamples_is_none() -> None:
    half = np.array([0.5, np.nan, 0.7, np.nan])
    assert intervals.interval(half, 1.0) == intervals.Interval(0.5, 0.7, 2)
    fewer = intervals.interval(np.append(half, np.nan), 1.0)
    assert np.isnan([fewer.low, fewer.high]).all()
    assert fewer.undefined == 3


def test_the_size_of_a_block_changes_nothing(regression, monkeypatch) -> None:
    truth, prediction, groups = regression
    drawn = intervals.draw(groups, 50, seed=0)
    whole = intervals.regression_resampled(truth, prediction, drawn)
    monkeypatch.setattr(intervals, "_BLOCK_VALUES", 7 * N)
    parts = intervals.regression_resampled(truth, prediction, drawn)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, atol=1e-12)


def test_a_draw_keeps_speakers_whole_and_depends_on_the_seed_alone() -> None:
    groups = ["c/1", "c/2", "c/1", "", "", "d/1"]
    drawn = intervals.draw(groups, 200, seed=1)
    assert drawn.unit.tolist() == [0, 1, 0, 2, 3, 4]
    assert (drawn.counts.sum(axis=0) == 5).all()
    assert (intervals.draw(groups, 200, seed=1).counts == drawn.counts).all()
    assert (intervals.draw(groups, 200, seed=2).counts != drawn.counts).any()
    assert drawn.counts.mean(axis=1) == pytest.approx(1, abs=0.25)


def test_few_speakers_make_wider_intervals_than_many_utterances(rng: np.random.Generator) -> None:
    speaker = np.arange(200) % 5
    bias = np.linspace(-2, 2, 5)[speaker]
    truth = rng.normal(size=(200, 1))
    prediction = truth + bias[:, None]
    widths = []
    for groups in ([f"c/{i}" for i in speaker], [""] * 200):
        drawn = intervals.draw(groups, 400, seed=0)
        found = intervals.regression_resampled(truth, prediction, drawn)["mse"][0]
        bounds = intervals.interval(found, 0.95)
        assert bounds.low < metrics.mse(truth[:, 0], prediction[:, 0]) < bounds.high
        widths.append(bounds.high - bounds.low)
    assert widths[0] > 2 * widths[1]


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(200):
        error = rng.normal(1.0, 1.0, 60)
        drawn = intervals.draw([""] * 60, 200, seed)
        found = intervals.regression_resampled(np.zeros((60, 1)), np.sqrt(error**2)[:, None], drawn)
        bounds = intervals.interval(found["mse"][0], 0.9)
        covered += bounds.low <= 2.0 <= bounds.high  # E[error^2] = 1 + 1
    assert 0.8 <= covered / 200 <= 0.96


def test_undefined_resamples_are_left_out_and_counted() -> None:
    values = np.array([np.nan, 3.0, 1.0, 2.0, np.nan])
    assert intervals.interval(values, 0.5) == intervals.Interval(1.5, 2.5, 2)
    nothing = intervals.interval(np.array([np.nan, np.nan]), 0.95)
    assert np.isnan(nothing.low)
    assert np.isnan(nothing.high)
    assert nothing.undefined == 2
