"""Linear support vector heads from Gram matrices: all cells and targets of a fold at once.

Conventions
-----------
- What is minimised is liblinear's objective, for each column v (a cell with a target or a class):
  1/2 |v|^2 + C * sum_i w_i loss(y_i, z_i v), with z = [scaled x, intercept_scaling]: the intercept
  is one more regularised weight. Losses: max(0, |y - f| - epsilon) and its square; for labels of
  +1 and -1 max(0, 1 - y f) and its square, one class against the rest.
- With epsilon = 0 the squared loss is ridge regression: (I + 2C Z'Z) v = 2C Z'y. The other squared
  losses are piecewise quadratic: Newton steps on the rows that count, by conjugate gradients that
  are preconditioned with that ridge regression, all columns in the same matrix products. The plain
  losses are a few such problems in a row: the augmented Lagrangian of the box on the dual.
- A scaler is affine, so Gram matrices of any scaling follow from one of the raw rows; those of
  disjoint parts add, so a pass over the rows serves all folds.
- Gram matrices and conjugate gradients use float32 products of centred columns of like size; they
  only steer. Gradients are summed in float64 from the rows as given and decide when to stop: the
  result is that of float64 throughout.
- Where rows are fewer than columns the same is done in the basis of the rows.
- Parallel work is threads over blocks of rows, or over folds, with one BLAS thread each; sums run
  in the order of the blocks, so no number depends on how many threads there are.

Sources: Ho and Lin 2012, "Large-scale linear support vector regression"; Li, Sun and Toh 2018, "On
efficiently solving the subproblems of a level-set method for fused lasso problems" (the semismooth
Newton augmented Lagrangian).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from numbers import Real
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_array, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from models.exact.gram import (
    NARROW,
    Base,
    Basis,
    Inverse,
    Matrix,
    RowPart,
    Scaled,
    Team,
    affine,
    sums,
)

EXACT, GAP, AIM = 1e-7, 1e-9, 1e-10
"""Squared losses: a column is done where the error that is left in the fitted values, relative to
them (root mean square, estimated from the gradient), is `EXACT`, and the relative duality gap is
`GAP`; the search goes on to an error of `AIM` where rounding lets it."""
SURE = 1e-4
"""Ridge regression from a float32 Gram matrix: where its error is measured to be less, it is less
than `EXACT` after one step more, which makes it as much smaller again (`solve`)."""
SPARSE = 0.75
"""Rows that count, for each column of Z, below which a step is found directly."""
LOOSE, RUNG, FITTED = 1e-3, 100.0, 0.1
"""Where ridge regression leaves less than `FITTED` of the truths' squares, hardly a row counts at
its solution, and Newton steps from there creep: a `RUNG` smaller C is solved first, to `LOOSE`."""
NEWTON_STEPS, CG_STEPS, HALVINGS, BOX_STEPS = 40, 100, 30, 25
"""Where the searches give up; `Solution.done` says for which columns."""
STEER = 1e-4
"""Losses that are not squared: the least relative gap that float32 passes can be steered to."""
HINGE_WIDTH, TUBE_WIDTH, GROWTH, STEEPER = 1.0, 0.3, 2.0, 10.0
"""The augmented Lagrangian: the width of the smoothed kink, in margins or in standard deviations of
the truths, what it shrinks by each round from there on, and by until it is that narrow."""
TINY = np.finfo(np.float64).tiny

Operator = Scaled | Basis


@dataclass(frozen=True)
class Columns:
    """What is minimised in each column.

    Attributes
    ----------
    Y : float64, shape (n, n_targets)
        Truths, or +1 and -1.
    target : int64, shape (k,)
        The column of Y that a column is fitted to.
    C, epsilon, positive, negative : float64, shape (k,)
        `positive` and `negative` weigh the rows of either label; 1 in a regression.
    hinge : bool
        Y holds labels.
    squared : bool
        The loss is squared.
    weights : float64, shape (n,), or None
        Of the rows.
    """

    Y: Matrix
    target: NDArray[np.int64]
    C: Matrix
    epsilon: Matrix
    positive: Matrix
    negative: Matrix
    hinge: bool
    squared: bool
    weights: Matrix | None = None

    def take(self, which: NDArray[Any]) -> Columns:
        """Some of the columns."""
        names = ("target", "C", "epsilon", "positive", "negative")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    @property
    def ridge(self) -> bool:
        """Whether every column is ridge regression."""
        plain = self.weights is None and not self.hinge and self.squared
        return plain and not self.epsilon.any()

    def penalty(self, rows: slice, Y: Matrix) -> Any:
        """C times the weights: shape (m, k), or (k,) where all rows have the same."""
        C: Any = self.C
        if self.hinge and not (np.all(self.positive == 1) and np.all(self.negative == 1)):
            C = C * np.where(Y > 0, self.positive, self.negative)
        return C if self.weights is None else C * self.weights[rows][:, None]


@dataclass(frozen=True)
class Solution:
    """Minima of columns.

    Attributes
    ----------
    V : float64, shape (width, k)
        For `coefficients` and `predict` of the operator.
    gap : float64, shape (k,)
        Duality gap relative to the objective: an upper bound of the relative error of the latter.
    done : bool, shape (k,)
        Where the search came to its end.
    """

    V: Matrix
    gap: Matrix
    done: NDArray[np.bool_]


def solve(
    operator: Operator, columns: Columns, tol: float = 1e-4, measured: bool = True
) -> Solution:
    """Minimise all columns.

    Parameters
    ----------
    operator : Scaled or Basis
        The rows.
    columns : Columns
    tol : float
        Losses that are not squared: the relative duality gap at which a column is done.
    measured : bool
        Whether `gap` has to be that of the end; else of ridge regression it is that before the last
        step, and a pass over the rows is saved.

    Returns
    -------
    Solution
        A column each, in the order of `columns`.
    """
    shifts = sorted(set((2 * columns.C).tolist())) if columns.ridge else None
    inverse = operator.inverse(shifts)
    if columns.squared:
        return _squared(operator, inverse, columns, measured)
    return _boxed(operator, inverse, columns, tol)


@dataclass
class _State:
    """Columns at one point.

    `tau` is the mean curvature of a row, `fitted` the sum of squares of Z V, `gap` that of duality.
    Where a smoothed problem is solved `objective` is its own, `primal` that of the problem itself,
    and `A` the dual point.
    """

    V: Matrix
    objective: Matrix
    gradient: Matrix
    M: NDArray[np.float32]
    tau: Matrix
    fitted: Matrix
    gap: Matrix
    primal: Matrix
    A: NDArray[Any]

    def take(self, which: NDArray[Any]) -> _State:
        """Some of the columns."""
        return _State(*(getattr(self, name)[..., which] for name in STATE))

    def put(self, which: NDArray[Any], other: _State) -> None:
        """Set some of the columns."""
        for name in STATE:
            getattr(self, name)[..., which] = getattr(other, name)


STATE = tuple(member.name for member in fields(_State))
Evaluate = Callable[[NDArray[np.int64], Matrix], _State]
Closed = Callable[[NDArray[np.int64], _State, Matrix], tuple[NDArray[np.bool_], Matrix]]


def _squared(operator: Operator, inverse: Inverse, columns: Columns, measured: bool) -> Solution:
    """Squared losses: Newton steps from the ridge regression."""
    V, rungs = _ridge(operator, inverse, columns, 2 * columns.C)
    if columns.ridge and not measured:
        state = _squared_state(operator, columns, V)
        step = inverse(state.gradient, state.tau)
        if (_missing(state, step) <= SURE).all():
            done = np.ones(len(columns.C), dtype=bool)
            return Solution(V - step, state.gap / np.maximum(state.primal, TINY), done)
    for rung in range(rungs.max(initial=0), 0, -1):
        which = np.flatnonzero(rungs >= rung)
        easier = columns.take(which)
        easier = replace(easier, C=easier.C / RUNG**rung)
        V[:, which] = _newtons(operator, inverse, easier, V[:, which], LOOSE)[0].V
    state, missing = _newtons(operator, inverse, columns, V, AIM)
    gap = state.gap / np.maximum(state.primal, TINY)
    return Solution(state.V, gap, (missing <= EXACT) & (gap <= GAP))


def _ridge(
    operator: Operator, inverse: Inverse, columns: Columns, shift: Matrix
) -> tuple[Matrix, NDArray[np.int64]]:
    """Ridge regression with `shift` for 2 C, or a smaller one where that leaves too little.

    Returns
    -------
    float64, shape (width, k)
    int64, shape (k,)
        How many rungs smaller it is; 0 where ridge regression itself is asked for.
    """
    cross = operator.cross()[:, columns.target]
    rungs = np.zeros(len(shift), dtype=np.int64)
    V = inverse(shift * cross, shift)
    if columns.ridge:
        return V, rungs
    squares = _dots(columns.Y, columns.Y)[columns.target]
    low = np.arange(len(shift))
    while True:
        left = squares[low] - _dots(V[:, low], cross[:, low])
        left -= _dots(V[:, low], V[:, low]) / shift[low]
        low = low[left < FITTED * squares[low]]
        if not len(low) or rungs.max() > 20:
            return V, rungs
        rungs[low] += 1
        shift = np.where(np.isin(np.arange(len(shift)), low), shift / RUNG, shift)
        V[:, low] = inverse(shift[low] * cross[:, low], shift[low])


def _newtons(
    operator: Operator, inverse: Inverse, columns: Columns, start: Matrix, aim: float
) -> tuple[_State, Matrix]:
    """Squared losses from `start` on; the error that is left of each column."""
    missing = np.full(len(columns.C), np.inf)

    def evaluate(live: NDArray[np.int64], V: Matrix) -> _State:
        return _squared_state(operator, columns.take(live), V)

    def closed(live: NDArray[np.int64], state: _State, reduced: Matrix) -> Any:
        missing[live] = _missing(state, reduced)
        # The error is as good as the preconditioner, the gap is a bound: it is asked for, too.
        near = (missing[live] <= aim) & (state.gap <= GAP * state.primal)
        return near, 0.3 * aim / np.maximum(missing[live], aim)

    state, _ = _newton(operator, inverse, evaluate, closed, start, 1e-14, columns.ridge)
    return state, missing


def _missing(state: _State, reduced: Matrix) -> Matrix:
    """Error of the fitted values, relative to them, by the preconditioned gradient."""
    size = _dots(state.V, state.V) + state.tau * state.fitted
    return np.sqrt(_dots(state.gradient, reduced) / np.maximum(size, TINY))


def _squared_state(operator: Operator, columns: Columns, V: Matrix) -> _State:
    """Squared losses at V: one pass over the rows, in float64."""
    constant = columns.ridge
    M = np.empty((1 if constant else operator.n, V.shape[1]), dtype=np.float32)
    if constant:
        M[0] = 2 * columns.C

    def dual(rows: slice, values: Matrix) -> tuple[Matrix, Matrix]:
        fitted = _dots(values, values)
        Y = columns.Y[rows][:, columns.target]
        S = 2 * columns.penalty(rows, Y)
        R = np.subtract(Y, values, out=values)
        if constant:
            A = S * R
            return A, np.stack([_dots(A, R) / 2, fitted, fitted])
        T = Y * R if columns.hinge else np.abs(R) - columns.epsilon
        np.maximum(T, 0, out=T)
        curvature = S * (T > 0)
        M[rows] = curvature
        A = S * T
        stats = np.stack([_dots(A, T) / 2, fitted, curvature.sum(axis=0)])
        A = A * Y if columns.hinge else np.copysign(A, R, out=A)
        return A, stats

    ZA, (loss, fitted, curvature) = operator.sweep(V, dual)
    gradient = V - ZA
    objective = _dots(V, V) / 2 + loss
    tau = 2.0 * columns.C if constant else curvature / operator.weight
    # The dual point that belongs to V is worth exactly |gradient|^2 / 2 less than V.
    gap = _dots(gradient, gradient) / 2
    return _State(V, objective, gradient, M, tau, fitted, gap, objective, M[:0])


def _boxed(operator: Operator, inverse: Inverse, columns: Columns, tol: float) -> Solution:
    """Losses that are not squared: augmented Lagrangian of the dual's box, Newton steps inside."""
    k = len(columns.C)
    steer = tol >= STEER and isinstance(operator, Scaled)
    width = np.full(k, HINGE_WIDTH)
    if not columns.hinge:
        spread = TUBE_WIDTH * columns.Y.std(axis=0)
        largest = np.abs(columns.Y).max(axis=0)
        spread = np.where(spread > 1e-12 * largest, spread, np.where(largest > 0, largest, 1))
        width = spread[columns.target]
    last = columns.C / width
    V, rungs = _ridge(operator, inverse, columns, last)
    sigma = last / RUNG**rungs
    A = np.zeros((operator.n, k), dtype=np.float32 if steer else np.float64)
    gap, primal = np.full(k, np.inf), np.zeros(k)
    live = np.arange(k)
    for _ in range(BOX_STEPS):
        problem = _Smooth(operator, columns.take(live), A[:, live], sigma[live], steer)
        # Before the first round its gap is not known: half a percent of the objective.
        known = np.isfinite(gap[live])
        bound = 0.1 * np.maximum(tol * primal[live], 0.2 * np.where(known, gap[live], 0))
        closed = partial(_near, bound=bound, share=np.where(known, 0, 5e-3))
        slack = 1e-6 if steer else 1e-14
        state, shut = _newton(operator, inverse, problem.evaluate, closed, V[:, live], slack)
        if steer and not shut:
            # Rounding stands in the way: the same round again, in float64.
            steer, A = False, A.astype(np.float64)
            continue
        V[:, live], A[:, live] = state.V, state.A
        gap[live], primal[live] = state.gap, state.primal
        sigma[live] *= np.where(sigma[live] < last[live], STEEPER, GROWTH)
        live = live[state.gap > 0.9 * tol * state.primal]
        if steer and not len(live):
            # What float32 calls done is asked again in float64.
            live = np.flatnonzero(_gap(operator, columns, V, A) > tol)
            steer, A = False, A.astype(np.float64)
        if not len(live):
            break
    relative = _gap(operator, columns, V, A)
    return Solution(V, relative, relative <= tol)


def _near(
    live: NDArray[np.int64], state: _State, reduced: Matrix, bound: Matrix, share: Matrix
) -> tuple[NDArray[np.bool_], Matrix]:
    """Which columns are within a bound, or a share of the objective, of a smoothed minimum."""
    left = _dots(state.gradient, state.gradient) / 2
    bound = np.maximum(bound[live], share[live] * state.primal)
    return left <= bound, np.sqrt(bound / np.maximum(left, TINY)) / 2


def _gap(operator: Operator, columns: Columns, V: Matrix, A: NDArray[Any]) -> Matrix:
    """Duality gap of V and A in float64, relative to the objective of V."""

    def dual(rows: slice, values: Matrix) -> tuple[Matrix, Matrix]:
        Y = columns.Y[rows][:, columns.target]
        box = np.broadcast_to(columns.penalty(rows, Y), Y.shape)
        R = np.subtract(Y, values, out=values)
        mine = np.clip(A[rows].astype(np.float64), -box, box)  # float32 rounds the box too
        loss = Y * R if columns.hinge else np.abs(R) - columns.epsilon
        worth = _dots(mine, Y) - columns.epsilon * np.abs(mine).sum(axis=0)
        return mine, np.stack([_dots(box, np.maximum(loss, 0)), worth])

    ZA, (loss, worth) = operator.sweep(V, dual)
    primal = _dots(V, V) / 2 + loss
    return (primal - worth + _dots(ZA, ZA) / 2) / np.maximum(primal, TINY)


@dataclass(frozen=True)
class _Smooth:
    """The problem of one round.

    The dual point of a row is `centre` + `sigma` times its residual, cut off at the box.
    """

    operator: Operator
    columns: Columns
    centre: NDArray[Any]
    sigma: Matrix
    steer: bool

    def evaluate(self, live: NDArray[np.int64], V: Matrix) -> _State:
        """One pass over the rows."""
        columns, sigma = self.columns.take(live), self.sigma[live]
        kind: Any = np.float32 if self.steer else np.float64
        M = np.empty((self.operator.n, V.shape[1]), dtype=np.float32)
        A = np.empty((self.operator.n, V.shape[1]), dtype=kind)
        steep, epsilon = sigma.astype(kind), columns.epsilon.astype(kind)
        tube = epsilon.any()

        def dual(rows: slice, values: NDArray[Any]) -> tuple[NDArray[Any], Matrix]:
            Y = columns.Y[rows].astype(kind)[:, columns.target]
            box = np.asarray(columns.penalty(rows, Y), dtype=kind)
            centre = self.centre[rows][:, live]
            R = np.subtract(Y, values, out=values)
            U = steep * R
            U += centre
            if columns.hinge:
                T, loss = Y * U, np.maximum(Y * R, 0)
            else:
                T, loss = np.abs(U), np.abs(R)
                if tube:
                    T -= steep * epsilon
                    np.maximum(loss - epsilon, 0, out=loss)
            np.maximum(T, 0, out=T)
            np.minimum(T, box, out=T)
            inside = box > T
            if tube or columns.hinge:
                inside &= T > 0
            np.multiply(steep, inside, out=M[rows])
            mine = A[rows]
            (np.multiply if columns.hinge else np.copysign)(T, Y if columns.hinge else U, out=mine)
            away = mine - centre
            width = epsilon * T.sum(axis=0)
            smooth = _dots(mine, R) - width - _dots(away, away) / (2 * sigma)
            loss *= box
            return mine, np.stack(
                [smooth, _dots(mine, Y) - width, loss.sum(axis=0), inside.sum(axis=0)]
            )

        ZA, (smooth, worth, loss, inside) = self.operator.sweep(V, dual, self.steer)
        gradient, half = V - ZA, _dots(V, V) / 2
        primal = half + loss
        gap = primal - worth + _dots(ZA, ZA) / 2
        tau = sigma * inside / self.operator.n
        return _State(V, half + smooth, gradient, M, tau, np.zeros_like(tau), gap, primal, A)


def _dots(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Inner products of columns."""
    return np.einsum("ij,ij->j", a, b)


def _newton(
    operator: Operator,
    inverse: Inverse,
    evaluate: Evaluate,
    closed: Closed,
    start: Matrix,
    slack: float,
    ridge: bool = False,
) -> tuple[_State, bool]:
    """Newton steps until every column is closed; whether all are.

    Parameters
    ----------
    evaluate : callable
        The state of some columns at some V.
    closed : callable
        Which of some columns need no further step, and how precisely the others want theirs.
    start : float64, shape (width, k)
    slack : float
        Relative rounding of an objective.
    ridge : bool
        The curvature is the preconditioner's own.
    """
    live = np.arange(start.shape[1])
    state = evaluate(live, start)
    result = state.take(live)
    for turn in range(NEWTON_STEPS):
        reduced = inverse(state.gradient, state.tau)
        shut, rtol = closed(live, state, reduced)
        if shut.all():
            result.put(live, state)
            return result, True
        if shut.any():
            result.put(live[shut], state.take(shut))
            live, state, reduced, rtol = (
                live[~shut],
                state.take(~shut),
                reduced[:, ~shut],
                rtol[~shut],
            )
        if ridge and not turn:
            step = -reduced
        else:
            step = _step(operator, inverse, state, reduced, np.clip(rtol, 1e-3, 0.1))
        state, moved = _descend(live, evaluate, state, step, slack)
        if not moved:
            break
    result.put(live, state)
    return result, False


def _descend(
    live: NDArray[np.int64], evaluate: Evaluate, state: _State, step: Matrix, slack: float
) -> tuple[_State, bool]:
    """Go along `step`, half as far where the objective does not fall; whether any column moved."""
    slope = _dots(state.gradient, step)
    left, length = np.arange(len(live)), 1.0
    for _ in range(HALVINGS):
        new = evaluate(live[left], state.V[:, left] + length * step[:, left])
        limit = state.objective[left] + 1e-4 * length * slope[left]
        lower = new.objective <= limit + slack * np.abs(state.objective[left])
        if lower.all() and len(left) == len(live):
            return new, True
        state.put(left[lower], new.take(lower))
        left = left[~lower]
        if not len(left):
            break
        length /= 2
    return state, len(left) < len(live)


def _step(
    operator: Operator, inverse: Inverse, state: _State, reduced: Matrix, rtol: Matrix
) -> Matrix:
    """(I + Z' M Z)^-1 (-gradient): by conjugate gradients, or directly where that is cheaper.

    `reduced` is the preconditioned gradient. A direct solution is cheaper where there are few
    columns of Z, and where so few rows count that the preconditioner, which is made of all of them,
    is of no help.
    """
    step = -reduced
    left = np.arange(step.shape[1])
    if operator.width > NARROW:
        few = isinstance(operator, Scaled) and len(state.M) > 1
        few = few & ((state.M > 0).sum(axis=0) < SPARSE * operator.width)
        many = np.flatnonzero(~np.broadcast_to(few, len(left)))
        if len(many):
            step[:, many], near = _conjugate_gradients(
                operator, inverse, state.take(many), reduced[:, many], rtol[many]
            )
            left = np.setdiff1d(left, many[near])

    def direct(j: int) -> Matrix | None:
        m = state.M[:, j] if len(state.M) > 1 else np.broadcast_to(state.M[0, j], operator.n)
        return operator.direct(m, -state.gradient[:, j])

    for j, solved in zip(left, operator.team.map(direct, left.tolist()), strict=True):
        if solved is not None:  # else lost in rounding: the step stays what it is
            step[:, j] = solved
    return step


def _conjugate_gradients(
    operator: Operator, inverse: Inverse, state: _State, reduced: Matrix, rtol: Matrix
) -> tuple[Matrix, NDArray[np.bool_]]:
    """(I + Z' M Z)^-1 (-gradient), to `rtol` in the norm of the preconditioner; what has it."""
    product = operator.curvature(state.M)
    result, tau = np.zeros_like(state.V), state.tau
    live = np.arange(result.shape[1])
    residual = -state.gradient
    reduced = -reduced
    direction, x = reduced, np.zeros_like(result)
    now = _dots(residual, reduced)
    goal = rtol**2 * now
    for _ in range(CG_STEPS):
        bent = direction + product(direction, live)
        length = now / _dots(direction, bent)
        x += length * direction
        residual -= length * bent
        reduced = inverse(residual, tau)
        before, now = now, _dots(residual, reduced)
        direction = reduced + now / before * direction
        left = now > goal
        if not left.all():
            result[:, live[~left]] = x[:, ~left]
            if not left.any():
                return result, np.ones(result.shape[1], dtype=bool)
            live, x, residual, direction = (
                live[left],
                x[:, left],
                residual[:, left],
                direction[:, left],
            )
            now, goal, tau = now[left], goal[left], tau[left]
    result[:, live] = x
    near = np.ones(result.shape[1], dtype=bool)
    near[live] = False
    return result, near


class _LinearPath(BaseEstimator):
    """What both estimators share."""

    def _solve(
        self, X: NDArray[Any], Y: Matrix, weights: Matrix | None, settings: NDArray[np.float64]
    ) -> tuple[Matrix, Matrix]:
        """Coefficients, shape (k, n_columns), and intercepts of one column a setting."""
        target, epsilon, positive, negative = settings
        hinge = isinstance(self, LinearPathSVC)
        squared = self.loss.startswith("squared")
        intercept = float(self.intercept_scaling) if self.fit_intercept else 0.0
        C = np.full(len(target), float(self.C))
        columns = Columns(
            Y, target.astype(np.int64), C, epsilon, positive, negative, hinge, squared, weights
        )
        jobs = joblib.effective_n_jobs(self.n_jobs)
        with threadpool_limits(1), Team(jobs) as team:
            operator: Operator
            if len(X) < X.shape[1]:
                operator = Basis(X.astype(np.float64), Y, intercept, team)
            else:
                part = RowPart(Base(X), np.arange(len(X)), team)
                known = sums(part, Y, weights)
                operator = Scaled(part, known, *affine("passthrough", X.shape[1]), intercept)
            solution = solve(operator, columns, self.tol)
        self.gap_ = solution.gap
        if not solution.done.all():
            warnings.warn(
                f"{(~solution.done).sum()} of {len(C)} columns are not at their minimum; scale the "
                f"columns of X, or take a smaller C",
                ConvergenceWarning,
                stacklevel=3,
            )
        coef, constant = operator.coefficients(solution.V)
        return np.ascontiguousarray(coef.T), constant

    def _weights(self, sample_weight: Any, n: int) -> Matrix | None:
        if sample_weight is None:
            return None
        if isinstance(sample_weight, Real):
            return np.full(n, float(sample_weight))
        weights = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
        if weights.shape != (n,):
            raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n},)")
        if (weights < 0).any():
            raise ValueError("sample_weight has negative values")
        if not weights.any():
            raise ValueError("sample_weight is zero for every row: nothing to fit to")
        return weights

    def _check(self, losses: tuple[str, ...]) -> None:
        """Refuse parameters that have no minimum to find."""
        if self.loss not in losses:
            raise ValueError(f"loss = {self.loss!r}, allowed: {', '.join(losses)}")
        for name in ("C", "tol"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} = {getattr(self, name)!r}, expected a positive number")
        if self.fit_intercept and not self.intercept_scaling > 0:
            raise ValueError(
                f"intercept_scaling = {self.intercept_scaling!r}, expected a positive number"
            )

    def _values(self, X: Any) -> Matrix:
        """Values of all columns, shape (n, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        values: Matrix = X @ np.atleast_2d(self.coef_).T + self.intercept_
        return values


class LinearPathSVR(RegressorMixin, _LinearPath):
    """Linear support vector regression of one or several targets, exact and all at once.

    Minimises, for each target, what liblinear and `sklearn.svm.LinearSVR` do:
    1/2 (|w|^2 + b^2) + C * sum_i s_i loss(max(0, |y_i - w x_i - b * intercept_scaling| - epsilon))
    with loss(t) = t, or t^2 for `"squared_epsilon_insensitive"`; s_i are the sample weights, and
    the intercept is `b * intercept_scaling`: it is regularised, the less the larger the scaling.

    Parameters
    ----------
    epsilon, tol, C, loss, fit_intercept, intercept_scaling
        As of `LinearSVR`, but for `tol`: the relative duality gap to end with where the loss is not
        squared; the squared loss is always minimised as far as float64 goes.
    n_jobs : int, optional
        Threads; None is 1, -1 is all cores. It changes no number.

    Attributes
    ----------
    coef_ : float64, shape (n_columns,) or (n_targets, n_columns)
    intercept_ : float64, shape (1,) or (n_targets,)
    gap_ : float64, shape (n_targets,)
        Relative duality gap: an upper bound of the relative error of the objective.

    Raises
    ------
    ValueError
        A parameter out of range; X or y empty, not finite, or of another length than the other.

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 2.0])
    >>> head = LinearPathSVR(C=1e4, loss="squared_epsilon_insensitive").fit(X, y)
    >>> np.round(head.predict(X), 3).tolist()
    [0.0, 1.0, 2.0]
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.0,
        tol: float = 1e-4,
        C: float = 1.0,
        loss: str = "epsilon_insensitive",
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        n_jobs: int | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.tol = tol
        self.C = C
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Tags:
        """Several targets are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearPathSVR:
        """Find the minimum for each target.

        Parameters
        ----------
        X : float32 or float64, shape (n, n_columns)
        y : float, shape (n,) or (n, n_targets)
        sample_weight : float, shape (n,), optional

        Returns
        -------
        self
            `coef_` has shape (n_columns,) or (n_targets, n_columns).

        Raises
        ------
        ValueError
            `loss`, `epsilon` or another parameter is none that it takes.
        """
        self._check(("epsilon_insensitive", "squared_epsilon_insensitive"))
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon = {self.epsilon!r}, expected 0 or more")
        X, y = validate_data(
            self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True
        )
        Y = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        k = Y.shape[1]
        settings = np.stack([np.arange(k), np.full(k, self.epsilon), np.ones(k), np.ones(k)])
        weights = self._weights(sample_weight, len(X))
        self.coef_, self.intercept_ = self._solve(X, Y, weights, settings)
        if np.ndim(y) == 1:
            self.coef_ = self.coef_.ravel()
        return self

    def predict(self, X: Any) -> Matrix:
        """Predicted targets, float64, shape (n,) or (n, n_targets)."""
        values = self._values(X)
        return values.ravel() if self.coef_.ndim == 1 else values


class LinearPathSVC(ClassifierMixin, _LinearPath):
    """Linear support vector classification, one class against the rest, exact and all at once.

    Minimises, for each class, what liblinear and `sklearn.svm.LinearSVC` do:
    1/2 (|w|^2 + b^2) + C * sum_i s_i loss(max(0, 1 - y_i (w x_i + b * intercept_scaling)))
    with y_i = +1 for the class and -1 for the others, loss(t) = t^2, or t for `"hinge"`; s_i is the
    sample weight, times the class weight where y_i = +1 (of two classes: of either).

    Parameters
    ----------
    loss, tol, C, fit_intercept, intercept_scaling, class_weight
        As of `LinearSVC`; `tol` as of `LinearPathSVR`.
    n_jobs : int, optional
        Threads; None is 1, -1 is all cores. It changes no number.

    Attributes
    ----------
    classes_ : shape (n_classes,)
    coef_ : float64, shape (1, n_columns) for two classes, else (n_classes, n_columns)
    intercept_ : float64, shape (1,) or (n_classes,)
    gap_ : float64, shape (1,) or (n_classes,)
        Relative duality gap: an upper bound of the relative error of the objective.

    Raises
    ------
    ValueError
        As of `LinearPathSVR`; or y has one class.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [3.0], [4.0]])
    >>> head = LinearPathSVC(C=100.0).fit(X, ["calm", "calm", "angry", "angry"])
    >>> head.predict([[0.5], [3.5]]).tolist()
    ['calm', 'angry']
    """

    def __init__(
        self,
        *,
        loss: str = "squared_hinge",
        tol: float = 1e-4,
        C: float = 1.0,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        class_weight: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.loss = loss
        self.tol = tol
        self.C = C
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearPathSVC:
        """Find the minimum for each class.

        Parameters
        ----------
        X : float32 or float64, shape (n, n_columns)
        y : shape (n,)
        sample_weight : float, shape (n,), optional

        Returns
        -------
        self
            `coef_` has a row a class; of two classes one row.

        Raises
        ------
        ValueError
            There is one class, or a parameter is none that it takes.
        """
        self._check(("hinge", "squared_hinge"))
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        k = len(self.classes_)
        if k < 2:
            raise ValueError(
                f"y has one class, {self.classes_.tolist()[0]!r}: a head needs two classes"
            )
        weights = self._weights(sample_weight, len(X))
        of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        Y = np.where(y[:, None] == self.classes_, 1.0, -1.0)
        if weights is not None and self.class_weight == "balanced":
            of_class = weights.sum() / (k * (weights @ (Y > 0)))
        settings = np.stack([np.arange(k), np.zeros(k), of_class, np.ones(k)])
        if k == 2:
            settings = np.array([[1.0], [0.0], [of_class[1]], [of_class[0]]])
        self.coef_, self.intercept_ = self._solve(X, Y, weights, settings)
        return self

    def decision_function(self, X: Any) -> Matrix:
        """Higher is likelier: float64, shape (n,) for two classes, else (n, n_classes)."""
        values = self._values(X)
        return values.ravel() if len(self.classes_) == 2 else values

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of the largest value of each row."""
        values = self.decision_function(X)
        chosen = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
        result: NDArray[Any] = self.classes_[chosen]
        return result
