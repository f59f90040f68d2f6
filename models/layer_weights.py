"""One matrix out of all layers of a store: a convex weighting that is learned on training rows.

Conventions
-----------
- The columns of `X` are the layers side by side, each `n_columns / n_layers` wide.
- The weights w >= 0 with sum 1 are found by turns with coefficients B, from equal weights: B by
  ridge regression of the targets on the mixture sum_l w_l Z_l, its columns brought to unit
  deviation; w by non-negative least squares of the targets on what the layers predict with B,
  Z_l B, brought to sum 1 afterwards. (With the sum held at 1, what ridge regression shrinks would
  have to be made good by the weights, and the layer whose states spread most would win.)
- `Z_l` is layer l centred and brought to the size of the others. The targets are in units of their
  deviation, or one indicator a class. The strength of the ridge is chosen once, for equal weights,
  by generalised cross-validation over the training rows.
- SUPERB (Yang et al. 2021, section 3) learns such weights by gradient descent on frames; here the
  layers are pooled already, and nothing has a learning rate.
- Weights are learned on the rows that a head is fitted to and on no others: every outer and inner
  fold has its own.
- Must not import `models.train`, which calls this.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.linear_model import Ridge, RidgeCV

from models.exact.gram import Team
from models.exact.linear_fits import threads
from models.fits import Counting, Fits
from models.problem import Fit, Positions, Problem
from models.single import Fitted

MAX_ROUNDS = 30
CHANGE = 1e-3
"""Of a weight, below which a round is the last."""
ALPHAS = np.logspace(-4, 2, 13)
"""Of which alpha is chosen, times the number of rows."""

Floats = NDArray[np.float64]
Float32 = NDArray[np.float32]


def learn(X: Float32, Y: Floats, rows: Positions, n_layers: int) -> Floats:
    """Learn the weights of layers on some rows.

    Parameters
    ----------
    X : float32, shape (n, n_layers * width)
        Layers side by side; a layer's training rows are copied, never those of all of them.
    Y : float64, shape (n, n_targets)
    rows : int64, shape (n_rows,)
    n_layers : int

    Returns
    -------
    float64, shape (n_layers,)
        Factors of the layers as they are, for `mix`: w over the layer's size, 0 of a layer that is
        constant.

    Examples
    --------
    The first layer tells the target, the second is noise.

    >>> rng = np.random.default_rng(0)
    >>> told, noise = rng.normal(size=(2, 50, 3))
    >>> X = np.hstack([told, noise]).astype(np.float32)
    >>> factors = learn(X, told[:, :1], np.arange(50), 2)
    >>> bool(factors[0] > 20 * factors[1])
    True
    """
    stack = X.reshape(len(X), n_layers, -1)
    centre = np.stack([stack[rows, i].mean(axis=0, dtype=np.float64) for i in range(n_layers)])
    size = np.sqrt([((stack[rows, i] - centre[i]) ** 2).mean() for i in range(n_layers)])
    known = np.flatnonzero(size > 1e-7 * np.abs(centre).max(axis=1))
    factors = np.zeros(n_layers)
    if len(known) < 2:
        factors[known] = 1.0
        return factors

    def mixture(weights: Floats) -> Floats:
        factors[known] = weights / size[known]
        return np.asarray(mix(X, factors, rows) - factors @ centre)

    Y = Y[rows] - Y[rows].mean(axis=0)
    Y = Y / _deviation(Y)
    weights = np.full(len(known), 1 / len(known))
    mixed = mixture(weights)
    strength = RidgeCV(ALPHAS * len(rows), fit_intercept=False).fit(mixed / _deviation(mixed), Y)
    for _ in range(MAX_ROUNDS):
        units = _deviation(mixed)
        ridge = Ridge(strength.alpha_, fit_intercept=False).fit(mixed / units, Y)
        B = ridge.coef_.reshape(Y.shape[1], -1).T / units[:, None]
        told = np.stack([(stack[rows, i] @ B - centre[i] @ B) / size[i] for i in known])
        found, _ = nnls(told.reshape(len(known), -1).T, Y.ravel())
        if not found.any():
            break  # nothing tells the targets
        before, weights = weights, found / found.sum()
        mixed = mixture(weights)
        if np.abs(weights - before).max() < CHANGE:
            break
    return factors


def _deviation(values: Floats) -> Floats:
    """Of each column, 1 where it is constant."""
    deviation = values.std(axis=0)
    return np.where(deviation == 0, 1.0, deviation)


def mix(X: Float32, factors: Floats, rows: Positions | None = None) -> Floats:
    """Layers that lie side by side, each times its factor, summed.

    Parameters
    ----------
    X : float32, shape (n, n_layers * width)
    factors : float64, shape (n_layers,)
    rows : int64, shape (n_rows,), optional
        All where none are given.

    Returns
    -------
    float64, shape (n_rows, width)
    """
    stack = X.reshape(len(X), len(factors), -1)
    total = np.zeros((len(X) if rows is None else len(rows), stack.shape[2]))
    for i in np.flatnonzero(factors):
        total += factors[i] * (stack[:, i] if rows is None else stack[rows, i])
    return total


class WeightedFits:
    """As `models.fits.Fits`, on a matrix of its own for every training part.

    It keeps no process from call to call, so there is nothing to close.

    Parameters
    ----------
    problem : Problem
        Its `X` has the layers side by side.
    n_layers : int
    jobs, n_fits, progress
        As of `Fits`.

    Attributes
    ----------
    warned, done
        As of `Fits`.
    """

    def __init__(
        self,
        problem: Problem,
        n_layers: int,
        jobs: int,
        n_fits: int,
        progress: Counting | None = None,
    ) -> None:
        self.problem, self.n_layers, self.jobs, self.progress = problem, n_layers, jobs, progress
        self.n_fits = n_fits
        self.warned: Counter[str] = Counter()
        self.done = 0
        labels = np.array(problem.labels)
        self._Y = (problem.y[:, None] == labels).astype(float) if problem.labels else problem.y
        self._learned: dict[bytes, Floats] = {}

    def __call__(self, fits: Sequence[Fit]) -> list[Fitted]:
        """Run fits; results in their order."""
        groups: dict[bytes, list[int]] = {}
        for i, fit in enumerate(fits):
            groups.setdefault(_digest(fit.train), []).append(i)
        results: dict[int, Fitted] = {}
        trains = [fits[group[0]].train for group in groups.values()]
        for group, factors in zip(groups.values(), self.factors(trains), strict=True):
            X = mix(self.problem.X, factors).astype(np.float32)
            problem = Problem(X, self.problem.y, self.problem.names, self.problem.head)
            with Fits(problem, self.jobs, self.n_fits, self.progress) as inner:
                results |= zip(group, inner([fits[i] for i in group]), strict=True)
            self.warned += inner.warned
            self.done += inner.done
        return [results[i] for i in range(len(fits))]

    def factors(self, trains: Sequence[Positions]) -> list[Floats]:
        """What is learned on each training part, in their order; a thread a part.

        Parameters
        ----------
        trains : sequence of int64, shape (n_train,)
            Positions of rows; a part that came before is not learned again.

        Returns
        -------
        list of float64, shape (n_layers,)
            As `learn` gives them.
        """
        digests = [_digest(train) for train in trains]
        left = {
            digest: train
            for digest, train in zip(digests, trains, strict=True)
            if digest not in self._learned
        }
        with threads().limit(limits=1), Team(joblib.effective_n_jobs(self.jobs)) as team:
            learned = team.map(
                lambda rows: learn(self.problem.X, self._Y, rows, self.n_layers), left.values()
            )
            self._learned |= zip(left, learned, strict=True)
        return [self._learned[digest] for digest in digests]


def _digest(rows: Positions) -> bytes:
    """What stands for training rows: themselves they would be kept for every fold."""
    return hashlib.blake2b(rows.tobytes(), digest_size=16).digest()
