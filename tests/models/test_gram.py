"""Sums over blocks of rows are those of dense scaled matrices, for every scaler and any threads."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from models.exact import gram
from models.exact.gram import (
    BLOCK,
    Base,
    Basis,
    RowPart,
    Scaled,
    Sums,
    Team,
    affine,
    fit_scaler,
    sums,
)

SCALERS = [StandardScaler(), MinMaxScaler(), RobustScaler(), "passthrough"]
SIZES = [5, 300, 5000]


@pytest.fixture(params=["little", "much"])
def amount(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float64 rows that are kept, and blocks of a sixteenth of the rows that are not."""
    if request.param == "much":
        monkeypatch.setattr(gram, "LITTLE", 1)


def matrix(n: int = 300, d: int = 7, dtype: type = np.float64) -> np.ndarray:
    rng = np.random.default_rng(n + d)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 5, d) + 3 * rng.normal(size=d)
    return X.astype(dtype)


def truths(n: int, k: int = 2) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, k))


def awkward(n: int = 400, dtype: type = np.float64) -> np.ndarray:
    """Columns that are constant, nearly constant, tiny, huge, or far from the origin."""
    X = matrix(n, 10).astype(np.float64)
    X[:, 0] = 0.1
    X[:, 1] = 7.0
    X[:, 1] += np.where(np.arange(n) == 3, 1e-4, 0)
    X[:, 2] *= 1e6
    X[:, 3] *= 1e-6
    X[:, 4] = 1e4 + X[:, 4]
    X[:, 5] = X[:, 6]
    X[:, 7] = 0.0
    X[:, 8] = np.where(np.arange(n) == 1, 1.0, 0.0)  # not among the rows that give the unit
    return X.astype(dtype)


def whole(X: np.ndarray, team: Team | None = None) -> RowPart:
    return RowPart(Base(X), np.arange(len(X)), team or Team(1))


def dense(X: np.ndarray, centre: np.ndarray, scale: np.ndarray, intercept: float) -> np.ndarray:
    Z = (X.astype(np.float64) - centre) / scale
    return np.column_stack([Z, np.full(len(Z), intercept)]) if intercept else Z


def made(
    X: np.ndarray, intercept: float, weights: np.ndarray | None = None, n_threads: int = 1
) -> tuple[Scaled, np.ndarray]:
    """The standard-scaled rows, and the same as a dense matrix."""
    part = whole(X, Team(n_threads))
    known = sums(part, truths(len(X)), weights)
    centre, scale = affine(
        fit_scaler(StandardScaler(), part, sums(part, truths(len(X)))), X.shape[1]
    )
    return Scaled(part, known, centre, scale, intercept), dense(X, centre, scale, intercept)


def close(ours: np.ndarray, theirs: np.ndarray, rtol: float) -> None:
    """Equal to `rtol` of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * max(np.abs(theirs).max(), 1e-300))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_a_team_gives_results_in_the_order_of_the_pieces(n_threads: int) -> None:
    def work(i: int) -> tuple[int, int]:
        time.sleep(0.01 * (i == 0))  # the first is the last to end
        return i, threading.get_ident()

    with Team(n_threads) as team:
        results = list(team.map(work, range(12)))
    assert [i for i, _ in results] == list(range(12))
    assert (threading.get_ident() in {thread for _, thread in results}) == (n_threads == 1)


def test_an_error_of_a_piece_is_raised() -> None:
    with Team(2) as team, pytest.raises(ZeroDivisionError):
        list(team.map(lambda i: 1 // i, [1, 0, 2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_base_centres_and_scales_without_rounding(dtype: type) -> None:
    X = awkward(3000, dtype)
    base = Base(X)
    assert (np.log2(base.unit) == np.round(np.log2(base.unit))).all()
    assert (base.shift.astype(dtype) == base.shift).all()
    rows = base.rows(np.array([3, 4, 900]))
    assert rows.dtype == np.float64
    difference = X[[3, 4, 900]].astype(np.float64) - base.shift
    np.testing.assert_array_equal(rows / base.unit, difference)  # a power of two loses nothing
    np.testing.assert_array_equal(base.rows(slice(3, 5)), rows[:2])
    live = [2, 3, 4, 5, 6, 9]
    spread = np.abs(base.rows(slice(None)))[:, live].max(axis=0)
    assert (spread > 0.5).all()
    assert (spread < 3).all()
    np.testing.assert_array_equal(base.rows(slice(None))[:, 7], 0)


def test_a_column_that_is_constant_among_the_rows_that_give_its_unit() -> None:
    X = matrix(3000, 2)
    X[:, 0] = 0.1
    X[1::100, 0] = 1e5
    part = whole(X)
    known = sums(part, truths(3000))
    assert np.isfinite(known.gram).all()
    centre, scale = affine(fit_scaler(StandardScaler(), part, known), X.shape[1])
    fitted = StandardScaler().fit(X)
    np.testing.assert_allclose(centre, fitted.mean_, rtol=1e-12)
    np.testing.assert_allclose(scale, fitted.scale_, rtol=1e-12)
    ours = Scaled(part, known, centre, scale, 1.0)
    Z = dense(X, centre, scale, 1.0)
    close(ours.gram(), Z.T @ Z, 1e-6)


@pytest.mark.parametrize("n_columns", [1, 300, 70_000])
@pytest.mark.parametrize("n", [0, 1, 256, 257, 4096, 4113, 40_000])
def test_blocks_cover_the_rows_in_order(n: int, n_columns: int) -> None:
    part = RowPart(Base(np.zeros((1, n_columns))), np.arange(n), Team(1))
    ends = [(one.start, one.stop) for one in part.slices]
    assert [a for a, _ in ends] == [0, *[b for _, b in ends[:-1]]][: len(ends)]
    assert (ends[-1][1] if ends else 0) == n
    assert all(0 < b - a <= BLOCK for a, b in ends)
    assert n < 40_000 or len(ends) >= 16


@pytest.mark.usefixtures("amount")
def test_rows_that_follow_each_other_and_rows_that_do_not() -> None:
    X = matrix(1000, 3)
    base = Base(X)
    for positions in (np.arange(200, 900), np.flatnonzero(np.arange(1000) % 3)):
        part = RowPart(base, positions, Team(1))
        rows = np.concatenate([part.block(one) for one in part.slices])
        np.testing.assert_array_equal(rows, base.rows(positions))
        np.testing.assert_array_equal(part.steering, rows.astype(np.float32))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.usefixtures("amount")
def test_sums(n: int, weighted: bool) -> None:
    X, Y = matrix(n, 6, np.float32), truths(n)
    weights = np.random.default_rng(1).integers(0, 3, n).astype(float) if weighted else None
    part = whole(X)
    one = sums(part, Y, weights)
    w = np.ones(n) if weights is None else weights
    rows = part.base.rows(np.arange(n))
    assert one.n == w.sum()
    close(one.gram, rows.T @ (w[:, None] * rows), 1e-6)
    close(np.diag(one.gram), (w[:, None] * rows**2).sum(axis=0), 1e-13)
    np.testing.assert_allclose(one.total, w @ rows, rtol=1e-12, atol=1e-14 * n)
    close(one.cross, rows.T @ (w[:, None] * Y), 1e-13)
    close(one.truth, w @ Y, 1e-13)
    np.testing.assert_array_equal(one.low, X.min(axis=0))
    np.testing.assert_array_equal(one.high, X.max(axis=0))


def test_sums_of_disjoint_rows_add_and_take_off() -> None:
    X, Y = matrix(900, 5), truths(900)
    base, first = Base(X), np.arange(900) % 3 > 0
    parts = [np.flatnonzero(first), np.flatnonzero(~first), np.arange(900)]
    some, rest, every = (sums(RowPart(base, one, Team(1)), Y[one]) for one in parts)
    together = some.copy()
    together.add(rest)
    less = every.copy()
    less.add(rest, -1)
    for name, atol in {"gram": 1e-3, "total": 1e-11, "cross": 1e-11, "truth": 1e-11}.items():
        for ours, theirs in ((together, every), (less, some)):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), rtol=1e-12, atol=atol
            )
    np.testing.assert_array_equal(together.low, every.low)
    np.testing.assert_array_equal(together.high, every.high)
    assert (together.n, less.n) == (900, 600)
    np.testing.assert_array_equal(less.low, every.low)
    assert every.size == 8 * (25 + 5 + 10 + 2 + 5 + 5)
    assert not np.shares_memory(some.copy().gram, some.gram)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaler", SCALERS[:3], ids=lambda one: type(one).__name__)
def test_scalers_are_scikit_learns(scaler: Any, dtype: type) -> None:
    X = awkward(3000, dtype)
    part = whole(X)
    ours = fit_scaler(scaler, part, sums(part, truths(len(X))))
    centre, scale = affine(ours, X.shape[1])
    fitted = clone(scaler).fit(X.astype(np.float64))
    assert vars(ours).keys() == vars(fitted).keys()
    rows = fitted.transform(X.astype(np.float64))
    size = np.maximum(np.abs(rows), np.abs(centre / scale))
    assert (np.abs(ours.transform(X.astype(np.float64)) - rows) <= 1e-11 * size).all()
    if isinstance(fitted, StandardScaler):
        theirs = fitted.mean_, fitted.scale_
    elif isinstance(fitted, MinMaxScaler):
        theirs = fitted.data_min_, 1 / fitted.scale_
    else:
        theirs = fitted.center_, fitted.scale_
    assert (np.abs(centre - theirs[0]) <= 1e-12 * np.maximum(np.abs(theirs[0]), scale)).all()
    np.testing.assert_allclose(scale, theirs[1], rtol=1e-12)


@pytest.mark.parametrize("value", [0.1, -7.3, 1e6 + 0.1, 1e-6, 0.0, 1e20])
@pytest.mark.parametrize("scaler", SCALERS[:3], ids=lambda one: type(one).__name__)
def test_a_constant_column_is_not_divided(scaler: Any, value: float) -> None:
    X = matrix(301, 2)
    X[:, 0] = value
    part = RowPart(Base(X), np.arange(1, 301), Team(1))
    centre, scale = affine(fit_scaler(scaler, part, sums(part, truths(300))), X.shape[1])
    assert scale[0] == 1
    assert abs(centre[0] - value) <= 1e-14 * abs(value)


def test_a_column_that_is_constant_in_the_part_alone_is_not_divided() -> None:
    X = matrix(400, 2)
    X[100:, 0] = 0.3
    base, part = Base(X), np.arange(100, 400)
    known = sums(RowPart(base, part, Team(1)), truths(300))
    for scaler in SCALERS[:3]:
        assert (
            affine(fit_scaler(scaler, RowPart(base, part, Team(1)), known), X.shape[1])[1][0] == 1
        )


def test_the_range_is_not_read_off_sums_that_rows_were_taken_from() -> None:
    X = matrix(600, 3)
    X[0] = 100
    base, rest = Base(X), np.arange(200, 600)
    known = sums(whole(X), truths(600))
    known.add(sums(RowPart(base, np.arange(200), Team(1)), truths(600)[:200]), -1)
    known.low, known.high = X[rest].min(axis=0), X[rest].max(axis=0)
    for scaler in SCALERS[:3]:
        centre, scale = affine(fit_scaler(scaler, RowPart(base, rest, Team(1)), known), X.shape[1])
        transformed = clone(scaler).fit_transform(X[rest])
        np.testing.assert_allclose((X[rest] - centre) / scale, transformed, atol=1e-11)


@pytest.mark.parametrize("intercept", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.usefixtures("amount")
def test_scaled_rows_are_the_dense_matrix(n: int, weighted: bool, intercept: float) -> None:
    X, rng = matrix(n, 4), np.random.default_rng(n)
    weights = rng.uniform(0, 2, n) if weighted else None
    ours, Z = made(X, intercept, weights)
    w = np.ones(n) if weights is None else weights
    assert (ours.n, ours.width) == Z.shape
    assert ours.weight == pytest.approx(w.sum(), rel=1e-14)
    gram = Z.T @ (w[:, None] * Z)
    close(ours.gram(), gram, 1e-6)
    close(ours.cross(), Z.T @ (w[:, None] * truths(n)), 1e-12)
    V = rng.normal(size=(ours.width, 3))
    A = rng.normal(size=(n, 3))
    seen = np.full((n, 3), np.nan)

    def dual(rows: slice, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen[rows] = values
        return A[rows].astype(values.dtype), (values**2).sum(axis=0).astype(np.float64)

    for steer, rtol in ((False, 1e-12), (True, 2e-6)):
        product, squares = ours.sweep(V, dual, steer)
        close(seen, Z @ V, rtol)
        close(product, Z.T @ A, rtol * np.sqrt(n))
        close(squares, ((Z @ V) ** 2).sum(axis=0), rtol)
        assert product.dtype == squares.dtype == np.float64
    close(ours.predict(ours.part, V), Z @ V, 1e-12)
    coef, constant = ours.coefficients(V)
    np.testing.assert_array_equal(coef, V[:4])
    close(Z[:, :4] @ coef + constant, Z @ V, 1e-13)


@pytest.mark.parametrize("intercept", [0.0, 1.0])
@pytest.mark.parametrize("used", [0.0, 0.1, 1.0])
@pytest.mark.usefixtures("amount")
def test_curvature(used: float, intercept: float) -> None:
    n = 2000
    ours, Z = made(matrix(n, 4), intercept)
    rng = np.random.default_rng(0)
    M = (rng.uniform(1, 2, (n, 3)) * (rng.uniform(size=(n, 1)) < used)).astype(np.float32)
    P, columns = rng.normal(size=(Z.shape[1], 2)), np.array([2, 0])
    product = ours.curvature(M)(P, columns)
    close(product, Z.T @ (M[:, columns] * (Z @ P)), 1e-5)
    same_for_all = ours.curvature(M[:1] + 1)(P, columns)
    close(same_for_all, Z.T @ ((M[:1] + 1)[:, columns] * (Z @ P)), 1e-5)


@pytest.mark.parametrize("intercept", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(700, 4), (700, 150), (3000, 150)])
@pytest.mark.usefixtures("amount")
def test_a_step_over_the_rows_that_count(shape: tuple[int, int], intercept: float) -> None:
    ours, Z = made(matrix(*shape), intercept)
    rng = np.random.default_rng(0)
    m = (rng.uniform(1, 2, shape[0]) * (rng.uniform(size=shape[0]) < 0.6)).astype(np.float32)
    few = m * (np.arange(shape[0]) % (shape[0] // 3) == 0)  # by their own matrix
    r = rng.normal(size=Z.shape[1])
    for weights in (m, np.full(shape[0], 2, np.float32), few, np.zeros(shape[0], np.float32)):
        square = np.eye(Z.shape[1]) + Z.T @ (weights[:, None] * Z)
        found = ours.direct(weights, r)
        assert found is not None
        close(square @ found, r, 1e-6)


@pytest.mark.parametrize("intercept", [0.0, 2.0])
@pytest.mark.parametrize("shifts", [[0.01, 0.5, 30.0], None], ids=["factors", "vectors"])
def test_the_inverse(shifts: list[float] | None, intercept: float) -> None:
    ours, Z = made(matrix(900, 6), intercept)
    R, tau = truths(Z.shape[1], 4), np.array([0.5, 0.01, 30.0, 0.5])
    dense_inverse = [
        np.linalg.solve(np.eye(len(R)) + t * Z.T @ Z, r) for t, r in zip(tau, R.T, strict=True)
    ]
    close(ours.inverse(shifts)(R, tau), np.transpose(dense_inverse), 1e-6)


def test_a_singular_matrix_with_a_large_shift_has_an_inverse() -> None:
    X = matrix(500, 6)
    X[:, 3:] = X[:, :3]
    ours, Z = made(X, 1.0)
    R = Z.T @ truths(500)
    result = ours.inverse([1e12])(R, np.full(2, 1e12))
    assert np.isfinite(result).all()
    close(1e12 * Z @ result, Z @ np.linalg.lstsq(Z, truths(500))[0], 1e-4)


def test_the_rows_of_another_part() -> None:
    X = matrix(700, 4)
    base, train, test = Base(X), np.arange(300), np.flatnonzero(np.arange(700) % 5 == 0)
    part = RowPart(base, train, Team(1))
    known = sums(part, truths(300))
    centre, scale = affine(fit_scaler(MinMaxScaler(), part, known), X.shape[1])
    ours = Scaled(part, known, centre, scale, 3.0)
    V = truths(5)
    other = RowPart(base, test, Team(1))
    close(ours.predict(other, V), dense(X[test], centre, scale, 3.0) @ V, 1e-12)
    assert ours.predict(RowPart(base, test[:0], Team(1)), V).shape == (0, 2)


def everything(n_threads: int) -> list[np.ndarray]:
    """Each number that a part gives."""
    X = matrix(5000, 60, np.float32)
    ours, _ = made(X, 1.0, np.linspace(0, 2, 5000), n_threads)
    assert len(ours.part.slices) >= 3
    V, M = truths(61), np.abs(truths(5000)).astype(np.float32)
    results: list[np.ndarray] = [
        ours.cross(),
        ours.gram(),
        ours.predict(ours.part, V),
        ours.part.steering,
    ]
    results += [ours.inverse(one)(V, np.array([0.5, 1.0])) for one in (None, [0.5, 1.0])]
    results += [ours.curvature(M)(V, np.arange(2)), ours.direct(M[:, 0], V[:, 0])]
    for steer in (False, True):
        results += ours.sweep(V, lambda _, values: (values, (values**2).sum(axis=0)), steer)
    return results


@pytest.mark.usefixtures("amount")
def test_no_number_depends_on_the_threads() -> None:
    alone = everything(1)
    assert len(alone) == 12
    for n_threads in (2, 3):
        for ours, theirs in zip(everything(n_threads), alone, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("intercept", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("rank", [30, 12])
def test_a_basis_is_the_dense_matrix(rank: int, intercept: float) -> None:
    rng = np.random.default_rng(rank)
    rows = rng.normal(size=(rank, 50))[np.arange(30) % rank]  # duplicate rows lower the rank
    Y = truths(30)
    Z = np.column_stack([rows, np.full(30, intercept)]) if intercept else rows
    ours = Basis(rows, Y, intercept, Team(1))
    assert (ours.n, ours.width, ours.weight) == (30, rank, 30.0)
    close(np.sort(ours.values), np.linalg.svd(Z)[1][:rank][::-1] ** 2, 1e-12)
    inner = rng.normal(size=(rank, 3))
    coef, constant = ours.coefficients(inner)
    fitted = rows @ coef + constant
    A = rng.normal(size=(30, 3))
    M = rng.uniform(1, 2, (30, 3)).astype(np.float32)

    def dual(rows: slice, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert rows == slice(0, 30)
        close(values, fitted, 1e-11)
        return A, (values**2).sum(axis=0)

    product, squares = ours.sweep(inner, dual)
    close(squares, (fitted**2).sum(axis=0), 1e-11)
    # Inner products in the basis are those of the coefficients, that of the intercept included.
    v = np.vstack([coef, constant / intercept]) if intercept else coef
    close(inner.T @ inner, v.T @ v, 1e-10)
    close(inner.T @ product, v.T @ Z.T @ A, 1e-10)
    close(inner.T @ ours.cross(), v.T @ Z.T @ Y, 1e-10)
    columns = np.array([2, 0])
    bent = ours.curvature(M)(inner[:, columns], columns)
    close(inner.T @ bent, v.T @ Z.T @ (M[:, columns] * (Z @ v[:, columns])), 1e-5)
    found = ours.direct(M[:, 0], inner[:, 0])
    assert found is not None
    curved = ours.curvature(M)(found[:, None], np.array([0]))[:, 0]
    close(found + curved, inner[:, 0], 1e-5)
    tau = np.array([0.01, 1.0, 1e6])
    solved = ours.inverse(None)(inner, tau)
    bent, _ = ours.sweep(solved, lambda rows, values: (tau * values, values[0]))
    close(solved + bent, inner, 1e-9)


def test_a_basis_of_rows_of_nothing_is_empty() -> None:
    ours = Basis(np.zeros((4, 6)), truths(4), 0.0, Team(1))
    assert ours.width == 0
    coef, constant = ours.coefficients(np.empty((0, 2)))
    np.testing.assert_array_equal(coef, np.zeros((6, 2)))
    np.testing.assert_array_equal(constant, [0, 0])


def test_sums_keep_no_view_of_each_other() -> None:
    one = Sums(1.0, *(np.ones((2, 2)) for _ in range(6)))
    two = one.copy()
    two.add(one)
    assert (one.n, two.n) == (1.0, 2.0)
    np.testing.assert_array_equal(one.gram, 1)
    np.testing.assert_array_equal(two.gram, 2)
