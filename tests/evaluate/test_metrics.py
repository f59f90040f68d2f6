"""Metrics: worked by hand, against scipy and scikit-learn, and on degenerate input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from evaluate.metrics import metrics
from evaluate.metrics.metrics import ScoreWarning

LABELS = ("a", "b", "c", "d")


def samples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs without ties, with many ties, tiny, huge and far from zero, by seed."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    if seed % 4 == 1:
        return rng.integers(0, 4, 50).astype(float), rng.integers(0, 3, 50).astype(float)
    scale = {0: 1.0, 2: 1e-150, 3: 1e4}[seed % 4]
    return scale * x, scale * y + (1e6 if seed % 4 == 3 else 0)


@pytest.mark.parametrize("seed", range(8))
def test_correlations_equal_scipy(seed: int) -> None:
    x, y = samples(seed)
    assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    assert metrics.pearson(x, y) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_errors_equal_scikit_learn(seed: int) -> None:
    x, y = samples(seed)
    assert metrics.mae(x, y) == pytest.approx(oracle.mean_absolute_error(x, y), rel=1e-12)
    assert metrics.mse(x, y) == pytest.approx(oracle.mean_squared_error(x, y), rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_ranks_equal_scipy(seed: int) -> None:
    x, _ = samples(seed)
    assert metrics.average_ranks(x).tolist() == stats.rankdata(x).tolist()


def test_ccc_by_hand() -> None:
    # truth 1 2 3, prediction 2 2 5: means 2 and 3, variances 2/3 and 2, covariance 1.
    assert metrics.ccc([1, 2, 3], [2, 2, 5]) == pytest.approx(2 * 1 / (2 / 3 + 2 + 1))


def test_ccc_of_a_constant_side_is_zero_and_of_two_is_undefined() -> None:
    assert metrics.ccc([1, 2, 3], [2, 2, 2]) == 0.0
    assert metrics.ccc([2, 2, 2], [1, 2, 3]) == 0.0
    with pytest.warns(ScoreWarning, match="constant truth and prediction"):
        assert np.isnan(metrics.ccc([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]))


@pytest.mark.parametrize("metric", [metrics.spearman, metrics.pearson])
def test_correlation_with_a_constant_is_undefined_and_not_zero(metric) -> None:
    with pytest.warns(ScoreWarning, match="constant prediction over 3 rows"):
        assert np.isnan(metric([1, 2, 3], [0.1, 0.1, 0.1]))
    with pytest.warns(ScoreWarning, match="constant truth"):
        assert np.isnan(metric([0.1, 0.1, 0.1], [1, 2, 3]))


@pytest.mark.parametrize("metric", metrics.REGRESSION.values())
def test_regression_metrics_refuse_what_is_no_pair_of_numbers(metric) -> None:
    with pytest.raises(ValueError, match="n > 0"):
        metric([], [])
    with pytest.raises(ValueError, match=r"truth \(2,\) and prediction \(3,\)"):
        metric([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="prediction: 1 of 2 values are NaN"):
        metric([1, 2], [1, np.nan])
    with pytest.raises(ValueError, match="truth: 1 of 2 values are NaN or infinite"):
        metric([np.inf, 2], [1, 2])


@pytest.mark.parametrize("metric", metrics.REGRESSION.values())
def test_order_of_rows_does_not_matter(metric, rng: np.random.Generator) -> None:
    x, y = samples(1)
    order = rng.permutation(len(x))
    assert metric(x[order], y[order]) == pytest.approx(metric(x, y), abs=1e-12)


def test_regression_scores_leave_masked_rows_out_target_by_target() -> None:
    truth = np.array([[0.0, np.nan], [1.0, 0.5], [0.5, 1.0], [np.nan, 0.0]])
    prediction = np.array([[0.1, 9.0], [0.8, 0.5], [0.9, 0.7], [9.0, 0.1]])
    scores = metrics.regression_scores(truth, prediction, ["x", "y"])
    for i, name, rows in ((0, "x", [0, 1, 2]), (1, "y", [1, 2, 3])):
        for metric, function in metrics.REGRESSION.items():
            assert scores[name][metric] == function(truth[rows, i], prediction[rows, i])


def test_a_target_without_truth_is_undefined() -> None:
    truth = np.array([[np.nan, 1.0], [np.nan, 0.0]])
    with pytest.warns(ScoreWarning, match="x: no row has a truth"):
        scores = metrics.regression_scores(truth, [[1, 1], [2, 0]], ["x", "y"])
    assert np.isnan(list(scores["x"].values())).all()
    assert scores["y"]["spearman"] == 1


def test_regression_scores_refuse_undefined_predictions() -> None:
    with pytest.raises(ValueError, match="1 values are NaN"):
        metrics.regression_scores([[1.0], [2.0]], [[1.0], [np.nan]], ["x"])
    with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
        metrics.regression_scores([[1.0], [2.0]], [[1.0], [2.0]], ["x", "y"])


def test_confusion_by_hand() -> None:
    truth = ["a", "a", "a", "b", "c"]
    prediction = ["a", "b", "d", "b", "a"]
    expected = [[1, 1, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert metrics.confusion(truth, prediction, LABELS).tolist() == expected


def test_classification_scores_by_hand() -> None:
    truth = ["a", "a", "a", "b", "c"]
    prediction = ["a", "b", "d", "b", "a"]
    with pytest.warns(ScoreWarning, match="1 of 4 classes have no true sample"):
        assert metrics.uar(truth, prediction, LABELS) == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert metrics.wa(truth, prediction, LABELS) == 2 / 5
    # F1: a 2/5, b 2/3, c 0, d 0 (predicted, never true).
    assert metrics.macro_f1(truth, prediction, LABELS) == pytest.approx((2 / 5 + 2 / 3) / 4)
    table = metrics.per_class(metrics.confusion(truth, prediction, LABELS), LABELS)
    assert table["a"] == {"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5, "support": 3}
    assert np.isnan(table["c"]["precision"])
    assert np.isnan(table["d"]["recall"])
    assert table["d"]["support"] == 0


@pytest.mark.parametrize("occurring", [LABELS, LABELS[:3], LABELS[:1]])
@pytest.mark.parametrize("seed", range(3))
def test_classification_equals_scikit_learn(seed: int, occurring: tuple[str, ...]) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.choice(occurring, 40), rng.choice(LABELS[:3], 40)
    matrix = oracle.confusion_matrix(truth, prediction, labels=LABELS)
    assert (metrics.confusion(truth, prediction, LABELS) == matrix).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = metrics.uar(truth, prediction, LABELS)
        theirs = oracle.balanced_accuracy_score(truth, prediction)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert metrics.wa(truth, prediction, LABELS) == oracle.accuracy_score(truth, prediction)
    f1 = oracle.f1_score(truth, prediction, labels=LABELS, average="macro", zero_division=np.nan)
    assert metrics.macro_f1(truth, prediction, LABELS) == pytest.approx(f1, abs=1e-12)
    parts = oracle.precision_recall_fscore_support(
        truth, prediction, labels=LABELS, zero_division=np.nan
    )
    table = metrics.per_class(metrics.confusion(truth, prediction, LABELS), LABELS)
    for name, values in zip(("precision", "recall", "f1", "support"), parts, strict=True):
        assert [table[label][name] for label in LABELS] == pytest.approx(
            values.tolist(), abs=1e-12, nan_ok=True
        )


def test_the_perfect_prediction_scores_one() -> None:
    truth = np.array(LABELS * 3)
    assert metrics.uar(truth, truth, LABELS) == metrics.wa(truth, truth, LABELS) == 1
    assert metrics.macro_f1(truth, truth, LABELS) == 1
    x = np.arange(5.0)
    assert metrics.spearman(x, x**3) == pytest.approx(1)
    assert metrics.ccc(x, x) == pytest.approx(1)


@pytest.mark.parametrize("metric", [metrics.confusion, metrics.uar, metrics.wa, metrics.macro_f1])
def test_classification_refuses_unknown_labels_and_empty_input(metric) -> None:
    with pytest.raises(ValueError, match=r"prediction: \['z'\] not among the labels"):
        metric(["a", "b"], ["a", "z"], LABELS)
    with pytest.raises(ValueError, match=r"truth: \[''\] not among"):
        metric(["", "b"], ["a", "b"], LABELS)
    with pytest.raises(ValueError, match="n > 0"):
        metric([], [], LABELS)
    with pytest.raises(ValueError, match="repeated"):
        metric(["a"], ["a"], ["a", "a"])
