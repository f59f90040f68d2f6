"""Weights of layers: the minimum, scale, what is left out, and fits on a matrix a fold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from features.recipe.head import HeadSpec
from models.fits import Fits
from models.heads import cells, pipeline
from models.layer_weights import WeightedFits, learn, mix
from models.problem import Fit, Problem


def layers(n: int = 80, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Three layers side by side, of sizes 1, 50 and 0.1, and targets that the first two tell."""
    rng = np.random.default_rng(3)
    stack = rng.normal(size=(n, 3, width))
    B = rng.normal(size=(width, 2))
    Y = (0.7 * stack[:, 0] + 0.3 * stack[:, 1]) @ B + 0.1 * rng.normal(size=(n, 2))
    X = (stack * np.array([1, 50, 0.1])[:, None] + 3).reshape(n, -1)
    return X.astype(np.float32), Y


def test_weights_are_those_the_targets_were_made_with() -> None:
    X, Y = layers()
    factors = learn(X, Y, np.arange(len(X)), 3)
    share = factors * [1, 50, 0.1]
    assert share / share.sum() == pytest.approx([0.7, 0.3, 0.0], abs=0.03)


def test_the_units_of_a_layer_and_of_a_target_do_not_matter() -> None:
    X, Y = layers()
    rows = np.arange(len(X))
    factors = learn(X, Y, rows, 3)
    other = X.copy()
    other[:, :4] = 1000 * X[:, :4] - 7
    moved = learn(other, Y, rows, 3)
    assert moved * [1000, 1, 1] == pytest.approx(factors, rel=1e-3, abs=1e-6)
    assert learn(X, 5 * Y + 2, rows, 3) == pytest.approx(factors, rel=1e-6, abs=1e-9)


def test_only_the_given_rows_count() -> None:
    X, Y = layers()
    rows = np.arange(50)
    factors = learn(X, Y, rows, 3)
    X[50:], Y[50:] = 1e3, -1e3
    assert (learn(X, Y, rows, 3) == factors).all()
    assert learn(X[:50], Y[:50], rows, 3) == pytest.approx(factors, rel=1e-12)


def test_constant_layers_have_no_weight() -> None:
    X, Y = layers()
    X[:, :4] = 3.0
    factors = learn(X, Y, np.arange(len(X)), 3)
    assert factors[0] == 0
    assert factors[1] > 0
    X[:, 8:] = 0.0
    assert learn(X, Y, np.arange(len(X)), 3).tolist() == [0, 1, 0]


def test_targets_that_nothing_tells_leave_the_weights_equal() -> None:
    X, Y = layers()
    constant = np.zeros_like(Y)
    factors = learn(X, constant, np.arange(len(X)), 3)
    sizes = X.reshape(len(X), 3, 4).std(axis=0)
    assert (factors * np.sqrt((sizes**2).mean(axis=1))).round(4).tolist() == [0.3333] * 3


def test_noise_does_not_win_by_its_spread() -> None:
    """Ridge shrinks where targets are noisy; a layer of larger spread must not make up for it."""
    rng = np.random.default_rng(0)
    told = rng.normal(size=(200, 6))
    Y = told @ rng.normal(size=(6, 1)) + 8 * rng.normal(size=(200, 1))
    copies = [told + 0.05 * rng.normal(size=told.shape) for _ in range(3)]
    wide = told + 1.5 * rng.normal(size=told.shape)
    X = np.hstack([*copies, wide]).astype(np.float32)
    factors = learn(X, Y, np.arange(200), 4)
    shares = factors * X.reshape(200, 4, 6).std(axis=(0, 2))
    assert shares[3] < 0.5 * shares.sum()


def test_mix_sums_layers() -> None:
    X, _ = layers(n=5)
    expected = 2 * X[:, :4] + 0.5 * X[:, 8:]
    assert mix(X, np.array([2, 0, 0.5])) == pytest.approx(expected, rel=1e-6)
    assert mix(X, np.array([2, 0, 0.5]), np.array([3, 1])) == pytest.approx(
        expected[[3, 1]], rel=1e-6
    )


@pytest.mark.parametrize("kind", ["ridge", "linear-svc"])
def test_every_training_part_has_a_matrix_of_its_own(kind: str) -> None:
    X, Y = layers()
    y = np.where(Y[:, 0] > 0, "glad", "sad") if kind == "linear-svc" else Y
    select = "uar" if kind == "linear-svc" else "nmse"
    names = ("glad", "sad") if kind == "linear-svc" else ("a", "b")
    spec = HeadSpec.model_validate({"kind": kind, "select": select})
    problem = Problem(X, y, names, spec)
    (cell, *_) = cells(spec)
    columns = problem.columns[0]
    parts = [(np.arange(40), np.arange(40, 80)), (np.arange(40, 80), np.arange(40))]
    fits = [Fit(pipeline(spec, cell), columns, train, (test,)) for train, test in parts]
    weighted = WeightedFits(problem, 3, 1, 2)
    found = weighted([*fits, fits[0]])
    factors = weighted.factors([parts[0][0]])[0]
    truth = (y[:, None] == np.array(names)).astype(float) if kind == "linear-svc" else y
    assert (factors == learn(X, truth, parts[0][0], 3)).all()
    alone = Problem(mix(X, factors).astype(np.float32), y, names, spec)
    with Fits(alone, 1, 1) as plain:
        (expected,) = plain(fits[:1])
    for one in (found[0], found[2]):
        assert one.outputs[0] == pytest.approx(expected.outputs[0], rel=1e-6)
    assert found[1].outputs[0] != pytest.approx(expected.outputs[0], rel=1e-2)
    assert weighted.done == 3


def test_weights_agree_with_the_ridge_that_they_come_from() -> None:
    """A step away from them, on the simplex, tells the targets no better."""
    X, Y = layers(n=200)
    rows = np.arange(len(X))
    factors = learn(X, Y, rows, 3)
    sizes = X.reshape(200, 3, 4).std(axis=(0, 2))
    weights = factors * sizes / (factors * sizes).sum()

    def rest(weights: np.ndarray) -> float:
        M = mix(X, weights / sizes)
        return float(((Y - Ridge(1e-3).fit(M, Y).predict(M)) ** 2).sum())

    best = rest(weights)
    for i in range(3):
        step = weights + 0.1 * (np.eye(3)[i] - weights)
        assert rest(step) > 0.999 * best
