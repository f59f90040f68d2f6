"""Temperatures and reliability: by hand, against scikit-learn, and at their edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from evaluate.metrics.calibration import KINDS, of_run, probabilities, reliability, temperature


def logits(rng: np.random.Generator, n: int = 2000, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax is the truth's distribution."""
    scores = 2 * rng.normal(size=(n, k))
    truth = np.array([rng.choice(k, p=one) for one in softmax(scores, axis=1)])
    return scores, truth


@pytest.mark.parametrize("factor", [0.01, 1.0, 300.0])
def test_temperature_finds_the_scale(rng: np.random.Generator, factor: float) -> None:
    scores, truth = logits(rng)
    found = temperature(factor * scores, truth)
    assert found == pytest.approx(factor, rel=0.1)
    near = [log_loss(truth, probabilities(factor * scores, found * one)) for one in (0.97, 1, 1.03)]
    assert near[1] == min(near)


def test_temperature_leaves_out_what_has_no_score(rng: np.random.Generator) -> None:
    scores, truth = logits(rng, n=300)
    absent = scores.copy()
    absent[:, 3] = np.nan
    known = truth != 3
    assert temperature(absent, truth) == pytest.approx(
        temperature(scores[known][:, :3], truth[known]), rel=1e-5
    )
    assert temperature(np.full((3, 2), np.nan), np.array([0, 1, 0])) == 1.0
    assert temperature(np.ones((3, 2)), np.array([0, 1, 0])) == 1.0


def test_rows_that_are_all_right_are_believed() -> None:
    scores = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert temperature(scores, np.array([0, 1])) < 1e-2
    assert temperature(scores, np.array([1, 0])) > 1e2


def test_probabilities_of_absent_classes_are_zero(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(5, 3))
    scores[:, 1] = np.nan
    found = probabilities(scores)
    np.testing.assert_allclose(found[:, [0, 2]], softmax(scores[:, [0, 2]], axis=1))
    assert (found[:, 1] == 0).all()


def test_reliability_is_scikit_learn_s_curve(rng: np.random.Generator) -> None:
    scores, truth = logits(rng)
    probability = softmax(2 * scores, axis=1)
    found = reliability(probability, truth, n_bins=10)
    right = probability.argmax(axis=1) == truth
    confidence = probability.max(axis=1)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy, atol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], mean, atol=1e-12)
    weights = found.counts[filled] / len(truth)
    assert found.error == pytest.approx((weights * np.abs(accuracy - mean)).sum(), abs=1e-12)
    assert np.isnan(found.accuracy[~filled]).all()


def test_what_is_certain_and_right_has_no_error() -> None:
    found = reliability(np.eye(3), np.arange(3))
    assert found.error == 0
    assert found.counts[-1] == 3
    assert np.isnan(reliability(np.empty((0, 3)), np.empty(0, dtype=np.int64)).error)


def frame(scores: np.ndarray, truth: np.ndarray, partition: str, fold: list[str]) -> pd.DataFrame:
    names = np.array(["a", "b", "c", "d"], dtype=object)
    columns = {f"score_{name}": scores[:, i] for i, name in enumerate(names)}
    return pd.DataFrame(
        {"partition": partition, "fold": fold, "true": names[truth], **columns}
    ).reset_index(drop=True)


@pytest.mark.parametrize("kind", ["score", "probability", "share"])
def test_every_fold_has_the_temperature_of_its_inner_rows(
    rng: np.random.Generator, kind: str
) -> None:
    scores, truth = logits(rng, n=400)
    fold = np.repeat(["x", "y"], 200)
    scores[fold == "y"] *= 5  # too sure of itself
    other, other_truth = logits(rng, n=300)
    of = np.repeat(["x", "y"], 150)
    other[of == "y"] *= 5
    probability = kind != "score"
    if probability:
        scores, other = softmax(scores, axis=1), softmax(other, axis=1)
    factors = (1 + rng.random((400, 1)), 1 + rng.random((300, 1))) if kind == "share" else (1, 1)
    held = frame(scores * factors[0], truth, "test", fold.tolist())
    held.loc[7, "true"] = ""
    inner = frame(other * factors[1], other_truth, "inner", of.tolist())
    found = of_run(held, inner, ["a", "b", "c", "d"], kind=kind)
    logs = np.log if probability else np.asarray
    wanted = {one: temperature(logs(other[of == one]), other_truth[of == one]) for one in "xy"}
    assert found["test"].temperatures == pytest.approx(wanted, rel=1e-6)
    assert wanted["y"] > 3 * wanted["x"]
    divide = np.array([wanted[one] for one in fold])[:, None]
    known = np.arange(400) != 7
    tempered = reliability(probabilities(logs(scores), divide)[known], truth[known])
    assert found["test"].tempered.error == pytest.approx(tempered.error, abs=1e-6)
    assert found["test"].tempered.counts.sum() == 399
    assert found["test"].tempered.error < found["test"].plain.error


def test_devel_is_no_judge_of_what_it_fitted(rng: np.random.Generator) -> None:
    scores, truth = logits(rng, n=40)
    devel = frame(scores, truth, "devel", [""] * 40)
    test = frame(scores, truth, "test", [""] * 40)
    both = pd.concat([devel, test])
    assert list(of_run(both, devel, ["a", "b", "c", "d"])) == ["test"]
    test["true"] = ""
    assert of_run(pd.concat([devel, test]), devel, list("abcd")) == {}


@pytest.mark.parametrize("kind", ["votes", "mean ranks", "least-squares values"])
def test_what_only_orders_the_classes_has_no_calibration(
    rng: np.random.Generator, kind: str
) -> None:
    held = frame(*logits(rng, n=40), "test", [""] * 40)
    assert kind in KINDS
    assert of_run(held, held.assign(partition="inner"), list("abcd"), kind=kind) == {}


def test_shares_are_divided_by_their_sum() -> None:
    """By hand: 1.2 of 1.6 is 0.75, and every second row is right."""
    shares = np.array([[1.2, 0.4]] * 4)
    held = frame(
        np.hstack([shares, np.full((4, 2), np.nan)]), np.array([0, 1] * 2), "test", [""] * 4
    )
    found = of_run(held, held.assign(partition="inner"), list("abcd"), kind="share")["test"]
    assert found.plain.error == pytest.approx(0.25)
    assert found.tempered.error == pytest.approx(0, abs=1e-4)
