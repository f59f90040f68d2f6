"""Sums over rows that serve every scaler, fold and cell: Gram matrices, cross products, ranges.

Conventions
-----------
- A `Base` is a matrix whose columns are seen shifted by a common vector and multiplied by powers of
  two, so that they are centred and of like size: x^ = (x - shift) * unit. Every scaler is affine,
  z = c * x^ + e, so whatever is asked of scaled rows follows from sums over x^.
- Gram matrices are float32 products of blocks of rows, added up in float64: twice as fast as
  float64, and good for steering. What decides is summed by `Scaled.sweep` in float64, from x^
  without rounding.
- Sums of disjoint rows add. Statistics of scalers are those of scikit-learn to rounding, constant
  columns included.
- Sums run in the order of the rows: no number depends on the number of threads of a `Team`.
- Factorisations are numpy's, which let other threads run; scipy's hold the interpreter.
- Memory: a block of rows a thread; Gram matrices of (n_columns, n_columns) float64; where
  `Scaled.curvature` is asked for, one float32 copy of the part's rows; and the float64 rows of a
  part of at most `LITTLE` entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler, StandardScaler

BLOCK = 1024
"""Most rows that are worked on at once: 8 MB of float64 at 1,024 columns."""
LITTLE = 2**22
"""Entries of a part up to which its float64 rows are kept: 32 MB."""
LOST_DIGITS = 1e-10
"""Least share of the largest eigenvalue of Z Z' at which the others have digits enough."""
NARROW = 256
"""Columns up to which a curvature is made in float64: that costs less than conjugate gradients."""
FEW = 8
"""Up to this many factorisations are cheaper than one eigendecomposition."""

Matrix = NDArray[np.float64]
Positions = NDArray[np.int64]
Inverse = Callable[[Matrix, Matrix], Matrix]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Team:
    """Threads that work on pieces; a context manager. Results come in the order of the pieces."""

    def __init__(self, n_threads: int) -> None:
        self._pool = ThreadPoolExecutor(n_threads) if n_threads > 1 else None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Item], Result], pieces: Iterable[Item]) -> Iterator[Result]:
        """Results of `work`, in the order of `pieces`."""
        return self._pool.map(work, pieces) if self._pool else map(work, pieces)


class Base:
    """A matrix, and the shift and unit that each of its columns is seen with.

    Parameters
    ----------
    X : float32 or float64, shape (n, n_columns)
        Finite. Kept, not copied.

    Attributes
    ----------
    shift, unit : float64, shape (n_columns,)
        From a sample of the rows; units are powers of two.
    """

    def __init__(self, X: NDArray[Any]) -> None:
        self.X = X
        sample = X[:: max(len(X) // 1024, 1)].astype(np.float64)
        self.shift = sample.mean(axis=0).astype(X.dtype).astype(np.float64)
        spread = np.abs(sample - self.shift).max(axis=0)
        # What rounding leaves of a column that is constant in the sample is no size to go by.
        spread[spread <= 1e-10 * np.abs(self.shift)] = 1.0
        spread[spread == 0] = 1.0
        self.unit = np.exp2(-np.round(np.log2(spread)))

    def rows(self, positions: Positions | slice) -> Matrix:
        """x^ of some rows, float64."""
        block = self.X[positions].astype(np.float64)
        block -= self.shift
        block *= self.unit
        return block


class RowPart:
    """Some rows of a base, read in blocks.

    Parameters
    ----------
    base : Base
    positions : int64, shape (n,), ascending
    team : Team
    """

    def __init__(self, base: Base, positions: Positions, team: Team) -> None:
        self.base, self.positions, self.team, self.n = base, positions, team, len(positions)
        # The size depends on the shape alone; more blocks than threads keep all of them busy.
        n_columns = base.X.shape[1]
        size = min(max(-(-self.n // 16), LITTLE // n_columns // 8, 1), BLOCK)
        self.slices = [slice(i, min(i + size, self.n)) for i in range(0, self.n, size)]
        whole = self.n and positions[-1] - positions[0] + 1 == self.n
        self._start = int(positions[0]) if whole else None

    @cached_property
    def _all(self) -> Matrix | None:
        """x^ of all rows, where they are so little that making them anew costs more."""
        little = self.n * self.base.X.shape[1] <= LITTLE
        return self.base.rows(self.positions) if little else None

    def block(self, rows: slice) -> Matrix:
        """x^ of the rows of one block, float64; not to be written to."""
        if self._all is not None:
            return self._all[rows]
        if self._start is None:
            return self.base.rows(self.positions[rows])
        stop = min(rows.stop, self.n)
        return self.base.rows(slice(self._start + rows.start, self._start + stop))

    def some(self, which: NDArray[np.int64]) -> Matrix:
        """x^ of some rows of the part, float64, in an array of its own."""
        if self._all is not None:
            return self._all[which]
        return self.base.rows(self.positions[which])

    @cached_property
    def steering(self) -> NDArray[np.float32]:
        """x^ of all rows in float32: a copy, made when it is first asked for.

        Returns
        -------
        float32, shape (n, n_columns)
        """
        copy = np.empty((self.n, self.base.X.shape[1]), dtype=np.float32)

        def fill(rows: slice) -> None:
            copy[rows] = self.block(rows)

        for _ in self.team.map(fill, self.slices):
            pass
        return copy


@dataclass
class Sums:
    """Sums over some rows of x^ and of truths.

    Attributes
    ----------
    n : float
        Number of rows, or sum of their weights.
    gram : float64, shape (n_columns, n_columns)
        Of x^; from float32 products but for its diagonal.
    total : float64, shape (n_columns,)
        Of x^.
    cross : float64, shape (n_columns, n_targets)
        Of x^ with the truths.
    truth : float64, shape (n_targets,)
        Of the truths.
    low, high : float64, shape (n_columns,)
        Of x itself.
    """

    n: float
    gram: Matrix
    total: Matrix
    cross: Matrix
    truth: Matrix
    low: Matrix
    high: Matrix

    def add(self, other: Sums, sign: int = 1) -> None:
        """Add the sums of other rows, or take them off; what is taken off leaves the range.

        Parameters
        ----------
        other : Sums
        sign : {1, -1}
            -1 takes off; `low` and `high` then stay those of all.
        """
        self.n += sign * other.n
        for name in ("gram", "total", "cross", "truth"):
            mine, theirs = getattr(self, name), getattr(other, name)
            (np.add if sign > 0 else np.subtract)(mine, theirs, out=mine)
        if sign > 0:
            np.minimum(self.low, other.low, out=self.low)
            np.maximum(self.high, other.high, out=self.high)

    def copy(self) -> Sums:
        """The same sums in arrays of their own."""
        return Sums(self.n, *(getattr(self, name).copy() for name in ARRAYS))

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)


ARRAYS = ("gram", "total", "cross", "truth", "low", "high")


def sums(part: RowPart, Y: Matrix, weights: Matrix | None = None) -> Sums:
    """Sum over the rows of a part, in one pass.

    Parameters
    ----------
    part : RowPart
    Y : float64, shape (n, n_targets)
        Truths of the rows of the part.
    weights : float64, shape (n,), optional

    Returns
    -------
    Sums
        The Gram matrix is of float32 products, its diagonal float64.
    """

    def over(rows: slice) -> tuple[Any, ...]:
        block, truth = part.block(rows), Y[rows]
        weighted, root, n = block, block, float(len(block))
        if weights is not None:
            w = weights[rows][:, None]
            weighted, root, n = block * w, block * np.sqrt(w), float(w.sum())
            truth = truth * w
        steering = root.astype(np.float32)
        return (
            steering.T @ steering,
            np.einsum("ij,ij->j", weighted, block),
            (weighted.sum(axis=0), block.T @ truth, truth.sum(axis=0)),
            (block.min(axis=0), block.max(axis=0), n),
        )

    # Twice as many rows at once as elsewhere: a product of them is added up half as often.
    size = 2 * part.slices[0].stop
    pieces = part.team.map(over, [slice(i, i + size) for i in range(0, part.n, size)])
    gram, squares, added, (low, high, n) = next(pieces)
    gram = gram.astype(np.float64)
    for next_gram, next_squares, next_added, (next_low, next_high, next_n) in pieces:
        gram += next_gram
        squares += next_squares
        n += next_n
        for mine, theirs in zip(added, next_added, strict=True):
            mine += theirs
        np.minimum(low, next_low, out=low)
        np.maximum(high, next_high, out=high)
    np.fill_diagonal(gram, squares)
    total, cross, truth = added
    shift, unit = part.base.shift, part.base.unit
    return Sums(n, gram, total, cross, truth, shift + low / unit, shift + high / unit)


def fit_scaler(scaler: Any, part: RowPart, known: Sums) -> Any:
    """Fit a scaler on a part, from its sums where they are enough.

    Parameters
    ----------
    scaler : StandardScaler, MinMaxScaler, RobustScaler or "passthrough"
        Unfitted, with scikit-learn's defaults; not changed.
    part : RowPart
    known : Sums
        Of the part, without weights.

    Returns
    -------
    scaler of the same type, fitted, or "passthrough"
    """
    base, n, tiny = part.base, known.n, np.finfo(np.float64).eps
    if isinstance(scaler, str):
        return scaler
    fitted = clone(scaler)
    if type(scaler) is StandardScaler:
        centred = known.total / n
        mean = base.shift + centred / base.unit
        variance = np.maximum(np.diag(known.gram) / n - centred**2, 0) / base.unit**2
        # scikit-learn's bound on what rounding alone makes of a constant column
        constant = variance <= n * tiny * variance + (n * mean * tiny) ** 2
        constant |= known.high == known.low
        fitted.mean_, fitted.var_ = mean, variance
        fitted.scale_ = np.where(constant, 1.0, np.sqrt(variance))
    elif type(scaler) is MinMaxScaler:
        width = known.high - known.low
        fitted.data_min_, fitted.data_max_, fitted.data_range_ = known.low, known.high, width
        fitted.scale_ = 1 / np.where(width < 10 * tiny, 1.0, width)
        fitted.min_ = -known.low * fitted.scale_
    else:
        return fitted.fit(base.X[part.positions].astype(np.float64))
    fitted.n_samples_seen_, fitted.n_features_in_ = part.n, len(base.shift)
    return fitted


def affine(fitted: Any, n_columns: int) -> tuple[Matrix, Matrix]:
    """What a fitted scaler, or "passthrough", subtracts from and divides each column by.

    Returns
    -------
    centre, scale : float64, shape (n_columns,)
    """
    if isinstance(fitted, str):
        return np.zeros(n_columns), np.ones(n_columns)
    if type(fitted) is MinMaxScaler:
        return fitted.data_min_, 1 / fitted.scale_
    return (fitted.mean_ if type(fitted) is StandardScaler else fitted.center_), fitted.scale_


class Scaled:
    """Rows z of a part: scaled, with a constant column where there is an intercept.

    Parameters
    ----------
    part : RowPart
    known : Sums
        Of the part.
    centre, scale : float64, shape (n_columns,)
        z = (x - centre) / scale.
    intercept : float
        The value of the constant column; 0 for none.

    Attributes
    ----------
    n, width : int
        Shape of Z.
    weight : float
        Sum of the weights that `known` was made with.
    """

    def __init__(
        self, part: RowPart, known: Sums, centre: Matrix, scale: Matrix, intercept: float
    ) -> None:
        self.part, self.intercept, self.team = part, intercept, part.team
        self.n, self.width, self.weight = part.n, len(centre) + bool(intercept), known.n
        self._c = 1 / (part.base.unit * scale)
        self._e = (part.base.shift - centre) / scale
        self._known = known

    def cross(self) -> Matrix:
        """Z'Y, shape (width, n_targets), float64."""
        return self._lower(self._known.cross, self._known.truth)

    def gram(self) -> Matrix:
        """Z'Z to float32, shape (width, width), float64."""
        return self._square(self._known.gram, self._known.total, self._known.n)

    def direct(self, m: NDArray[np.float32], r: Matrix) -> Matrix | None:
        """(I + Z' diag(m) Z)^-1 r, by a factorisation of the smaller side.

        Parameters
        ----------
        m : float32, shape (n,)
            Not negative.
        r : float64, shape (width,)

        Returns
        -------
        float64, shape (width,), or None
            None where rounding makes the matrix one that has no factor.
        """
        used = np.flatnonzero(m)
        if len(used) < self.width:
            W = np.empty((len(used), self.width))
            d = len(self._c)
            np.multiply(self.part.some(used), self._c, out=W[:, :d])
            W[:, :d] += self._e
            W[:, d:] = self.intercept
            W *= np.sqrt(m[used].astype(np.float64))[:, None]
            inner = _solved(W @ W.T, W @ r)
            return None if inner is None else r - W.T @ inner
        if self.width <= NARROW or len(used) * self.width <= LITTLE:
            rows: Any = self.part.some(used)
            root: Any = np.sqrt(m[used].astype(np.float64))
        else:
            rows, root = self.part.steering[used], np.sqrt(m[used])
        rows *= root[:, None]
        total = (root @ rows).astype(np.float64)
        square = self._square((rows.T @ rows).astype(np.float64), total, float(root @ root))
        return _solved(square, r)

    def _square(self, gram: Matrix, total: Matrix, n: float) -> Matrix:
        """Z'Z from X^'X^, the sums of X^ and the number of rows."""
        c, e = self._c, self._e
        d = len(c)
        full = np.empty((self.width, self.width))
        square = full[:d, :d]
        np.multiply(gram, c[:, None] * c, out=square)
        mixed = c * total + n * e / 2
        square += np.column_stack([mixed, e]) @ np.stack([e, mixed])
        if self.intercept:
            full[d, :d] = full[:d, d] = self.intercept * (c * total + n * e)
            full[d, d] = self.intercept**2 * n
        return full

    def inverse(self, shifts: Sequence[float] | None) -> Inverse:
        """The map R, tau -> (I + tau Z'Z)^-1 R, a tau for each column of R.

        Parameters
        ----------
        shifts : sequence of float, or None
            All that tau can be, where they are known: few are cheaper than all.

        Returns
        -------
        callable
            R, shape (width, k), and tau, shape (k,) -> shape (width, k).
        """
        gram = self.gram()
        if shifts is not None and len(shifts) <= FEW:

            def factor(tau: float) -> Any:
                full = tau * gram
                full.flat[:: len(full) + 1] += 1
                return np.linalg.cholesky(full).T, False  # in LAPACK's order: not copied

            try:
                factors = dict(zip(shifts, self.part.team.map(factor, shifts), strict=True))
            except np.linalg.LinAlgError:
                pass  # a float32 matrix need not be positive where tau is large
            else:
                return _by_factors(factors)
        values, vectors = np.linalg.eigh(gram)
        return _by_vectors(np.maximum(values, 0), vectors)

    def sweep(
        self,
        V: Matrix,
        dual: Callable[[slice, Any], tuple[Any, Matrix]],
        steer: bool = False,
    ) -> tuple[Matrix, Matrix]:
        """Z V, what `dual` makes of it, and Z' of that, in one pass.

        Parameters
        ----------
        V : float64, shape (width, k)
        dual : callable
            Gets a slice of the rows and Z V there, float64 of shape (m, k), which it may
            overwrite; returns an array of the same shape and a float64 array of sums.
        steer : bool
            In float32 throughout, but for the sums over blocks.

        Returns
        -------
        float64, shape (width, k)
            Z' of what `dual` gave.
        float64
            Sum over blocks of its second result.
        """
        U, shift = self._lift(V)
        if steer:
            U, shift = U.astype(np.float32), shift.astype(np.float32)
        steering = self.part.steering if steer else None

        def over(rows: slice) -> tuple[Any, Any, Matrix]:
            block = self.part.block(rows) if steering is None else steering[rows]
            values = block @ U
            values += shift
            A, stats = dual(rows, values)
            return block.T @ A, A.sum(axis=0), stats

        XA, total, stats = _added(self.part.team.map(over, self.part.slices))
        return self._lower(XA, total), stats

    def curvature(self, M: NDArray[np.float32]) -> Callable[[Matrix, NDArray[Any]], Matrix]:
        """The map P -> Z' (M * (Z P)) in float32, over the rows where M is not zero.

        Parameters
        ----------
        M : float32, shape (n, k), or (1, k) where all rows have the same

        Returns
        -------
        callable
            Of P, float64 of shape (width, m), and the m columns of M that it goes with.
        """
        X = self.part.steering
        if len(M) > 1:
            used = np.flatnonzero(M.any(axis=1))
            if len(used) < 0.7 * len(M):
                X, M = X[used], M[used]
        size = self.part.slices[0].stop
        slices = [slice(i, i + size) for i in range(0, len(X), size)]

        def product(P: Matrix, columns: NDArray[Any]) -> Matrix:
            lifted, offset = self._lift(P)
            U, shift = lifted.astype(np.float32), offset.astype(np.float32)
            mine = M[:, columns]
            if not len(X):
                return np.zeros_like(P)

            def over(rows: slice) -> tuple[Any, Any]:
                values = X[rows] @ U
                values += shift
                values *= mine[rows] if len(mine) > 1 else mine
                return X[rows].T @ values, values.sum(axis=0)

            return self._lower(*_added(self.part.team.map(over, slices)))

        return product

    def coefficients(self, V: Matrix) -> tuple[Matrix, Matrix]:
        """Coefficients on scaled columns, shape (n_columns, k), and intercepts, shape (k,)."""
        d = len(self._c)
        return V[:d], (self.intercept * V[d] if self.intercept else np.zeros(V.shape[1]))

    def predict(self, part: RowPart, V: Matrix) -> Matrix:
        """Z V of the rows of another part of the same base, float64, shape (n, k).

        Parameters
        ----------
        part : RowPart
        V : float64, shape (width, k)

        Returns
        -------
        float64, shape (n, k)
        """
        U, shift = self._lift(V)
        values = np.empty((part.n, V.shape[1]))

        def over(rows: slice) -> None:
            np.matmul(part.block(rows), U, out=values[rows])

        for _ in part.team.map(over, part.slices):
            pass
        values += shift
        return values

    def _lift(self, V: Matrix) -> tuple[Matrix, Matrix]:
        """U and s with Z V = X^ U + s."""
        d = len(self._c)
        shift = self._e @ V[:d]
        if self.intercept:
            shift += self.intercept * V[d]
        return self._c[:, None] * V[:d], shift

    def _lower(self, XA: Matrix, total: Matrix) -> Matrix:
        """Z'A from X^'A and the sums of A."""
        d = len(self._c)
        product = np.empty((self.width, XA.shape[1]))
        np.multiply(self._c[:, None], XA, out=product[:d])
        product[:d] += np.outer(self._e, total)
        if self.intercept:
            product[d] = self.intercept * total
        return product


class Basis:
    """Rows z in the basis of their own span: for fewer rows than columns.

    Parameters
    ----------
    Z : float64, shape (n, n_columns)
        Scaled rows.
    Y : float64, shape (n, n_targets)
    intercept : float
        As in `Scaled`.
    team : Team
    """

    def __init__(self, Z: Matrix, Y: Matrix, intercept: float, team: Team) -> None:
        self.team = team
        self.intercept, self.n, self.weight = intercept, len(Z), float(len(Z))
        kernel = Z @ Z.T
        kernel += intercept**2
        values, vectors = np.linalg.eigh(kernel)
        tiny = self.n * np.finfo(np.float64).eps
        keep = values > max(values[-1], 0) * tiny
        self._right: Matrix | None = None
        if keep.any() and values[keep][0] < LOST_DIGITS * values[-1]:
            # The products have the condition of Z squared: too much for columns of unlike size.
            full = np.column_stack([Z, np.full(self.n, intercept)])
            vectors, roots, right = np.linalg.svd(full, full_matrices=False)
            values, keep = roots**2, roots > roots[0] * tiny
            self._right = right[keep]
        self.values = values[keep]
        root = np.sqrt(self.values)
        self._rows = np.ascontiguousarray(vectors[:, keep] * root)
        self._back = vectors[:, keep] / root
        self._Z, self._Y = Z, Y
        self.width = int(keep.sum())

    def cross(self) -> Matrix:
        """Z'Y, shape (width, n_targets), float64."""
        return self._rows.T @ self._Y

    def inverse(self, shifts: Sequence[float] | None) -> Inverse:
        """As `Scaled.inverse`; any shift is cheap."""
        values = self.values[:, None]
        return lambda R, tau: R / (1 + tau * values)

    def sweep(
        self,
        V: Matrix,
        dual: Callable[[slice, Any], tuple[Any, Matrix]],
        steer: bool = False,
    ) -> tuple[Matrix, Matrix]:
        """As `Scaled.sweep`, always in float64."""
        A, stats = dual(slice(0, self.n), self._rows @ V)
        return self._rows.T @ A, stats

    @cached_property
    def _steering(self) -> NDArray[np.float32]:
        return self._rows.astype(np.float32)

    def curvature(self, M: NDArray[np.float32]) -> Callable[[Matrix, NDArray[Any]], Matrix]:
        """As `Scaled.curvature`."""
        rows = self._steering

        def product(P: Matrix, columns: NDArray[Any]) -> Matrix:
            values = rows @ P.astype(np.float32)
            values *= M[:, columns]
            return (rows.T @ values).astype(np.float64)

        return product

    def direct(self, m: NDArray[np.float32], r: Matrix) -> Matrix | None:
        """As `Scaled.direct`."""
        used = np.flatnonzero(m)
        W = self._rows[used] * np.sqrt(m[used].astype(np.float64))[:, None]
        return _solved(W.T @ W, r)

    def coefficients(self, V: Matrix) -> tuple[Matrix, Matrix]:
        """As `Scaled.coefficients`."""
        if self._right is not None:
            full = self._right.T @ V
            return full[:-1], self.intercept * full[-1]
        dual = self._back @ V
        return self._Z.T @ dual, self.intercept**2 * dual.sum(axis=0)


def _solved(square: Matrix, r: Matrix) -> Matrix | None:
    """(I + square)^-1 r; `square` is overwritten."""
    square.flat[:: len(square) + 1] += 1
    try:
        factor = np.linalg.cholesky(square).T, False
    except np.linalg.LinAlgError:
        return None
    result: Matrix = scipy.linalg.cho_solve(factor, r, check_finite=False)
    return result


def _by_factors(factors: dict[float, Any]) -> Inverse:
    def solve(R: Matrix, tau: Matrix) -> Matrix:
        result = np.empty_like(R)
        for strength in np.unique(tau):
            mine = tau == strength
            result[:, mine] = scipy.linalg.cho_solve(
                factors[strength], R[:, mine], check_finite=False
            )
        return result

    return solve


def _by_vectors(values: Matrix, vectors: Matrix) -> Inverse:
    return lambda R, tau: vectors @ ((vectors.T @ R) / (1 + tau * values[:, None]))


def _added(pieces: Iterator[tuple[Any, ...]]) -> list[Matrix]:
    """Sums of each member of the tuples, in float64 and in order."""
    result = [piece.astype(np.float64) for piece in next(pieces)]
    for piece in pieces:
        for mine, theirs in zip(result, piece, strict=True):
            mine += theirs
    return result
