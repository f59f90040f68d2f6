"""Grid searches over linear and kernel heads: scikit-learn's way and ours, in one run.

The data are made: features of low rank with noise and columns of unlike size; shares as in
Hume-Prosody (nine targets, a quarter to two thirds zeros, Spearman's rho about 0.5) and classes
that overlap, in corpora of the size of EmoDB and IEMOCAP. Both sides search the same cells on the
same folds with the same number of processes or threads. Where heads are fitted again for
predictions, both sides do that within the time.

- Every run is a process of its own. Imports, data and the start of joblib's processes are not
  timed for the reference; of ours the start of processes is. Of ours the median of the repeats
  counts, the first of them before the reference and the others after it.
- Peak memory is the most resident memory of the process plus that of its largest worker.
- Speed is taken with default tolerances. Agreement is judged with scikit-learn at tol = 1e-8, or by
  the duality gap: the objective less a lower bound of it, both computed here in float64.

The exit code is 1 where a side disagrees; a missed goal of speed is printed and decides nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import joblib
import numpy as np
import pandas as pd
import scipy.linalg
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, LinearSVR
from threadpoolctl import threadpool_limits

from benchmarks.common import fresh, goal_verdict, machine, peak_bytes, say, say_short, spread
from evaluate.metrics import metrics
from features.recipe.head import HeadSpec
from features.recipe.split import SplitSpec
from features.splits.plan import Fold, inner_folds, outer_folds
from models.fits import Fits
from models.heads import cells, pipeline
from models.problem import Fit, Positions, Problem
from models.search import (
    Inner,
    Refit,
    decide,
    refit,
)
from models.search import searches as searched

Matrix = NDArray[np.float64]

SAME_SCORE = 1e-6
"""Two cells whose scores differ by less count as one choice."""
RHO, SHARES, TUBE, PLAIN, TIE = 1e-4, 1e-5, 1e-9, 1e-4, 1e-6
"""What agreement allows: mean rho and predicted shares; relative duality gap of the squared and of
the plain loss; distance of the two largest class scores where predictions may differ."""
TIGHT = 1e-8
N_TARGETS = 9
CLASS, SPEAKER = 0.3, 0.25
"""Spread of class centres and of speakers, where that of rows is 1: UAR is 0.6 to 0.9."""
SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}


@dataclass(frozen=True)
class Data:
    """A made corpus.

    Attributes
    ----------
    sizes : tuple of int
        Rows of train, devel and test; or of each class.
    n_outer : int
        Outer folds that are run; 0 for shares.
    """

    name: str
    sizes: tuple[int, ...]
    n_columns: int
    n_outer: int = 0
    outer: Any = "leave-one-speaker-out"
    n_inner: int = 5


EMODB, IEMOCAP = (127, 81, 46, 69, 71, 79, 62), (1103, 1636, 1708, 1084)
FULL = [
    Data("shares", (30133, 12241, 9507), 1024),
    Data("emodb", EMODB, 1024, 10),
    Data("compare", EMODB, 6373, 10),
    Data("iemocap", IEMOCAP, 1024, 1, "leave-one-session-out", 4),
]
SMALL = [
    Data("shares", (3000, 1200, 950), 256),
    Data("emodb", EMODB, 256, 2),
    Data("compare", EMODB, 1000, 2),
    Data("iemocap", (220, 330, 340, 220), 128, 1, "leave-one-session-out", 4),
]


@dataclass(frozen=True)
class Case:
    """One line of the table; `goal` is how many times faster than the reference."""

    name: str
    what: str
    against: str
    goal: float
    data: str
    kind: Any
    grid: Mapping[str, list[Any]]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refits(self) -> bool:
        """Whether the chosen cell is fitted again, for predictions."""
        return self.kind != "linear-svr" or not self.fixed

    @property
    def head(self) -> HeadSpec:
        """The recipe's `[head]`."""
        shares = self.data == "shares"
        return HeadSpec(
            kind=self.kind,
            select="nmse" if shares else "uar",
            scalers=["standard", "minmax"] if shares else ["standard"],
            grid=dict(self.grid),
            fixed=dict(self.fixed),
            engine="exact-path",
        )


PAPER: dict[str, list[Any]] = {"C": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]}
SMALLER: dict[str, list[Any]] = {"C": PAPER["C"][1:]}
ALPHAS: dict[str, list[Any]] = {"alpha": [1 / (2 * C) for C in PAPER["C"]]}
DECADES: dict[str, list[Any]] = {"C": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
KERNELS: dict[str, list[Any]] = {"kernel": ["linear", "rbf"], "C": [0.01, 0.1, 1.0, 10.0]}
SHRINKAGES: dict[str, list[Any]] = {"shrinkage": ["auto", 1e-3, 1e-2, 0.1, 0.3, 0.6, 0.9]}
SVR = "linear-svr"
BALANCED = {"class_weight": "balanced", "gamma": "scale"}
ABSOLUTE = {"loss": "epsilon_insensitive"}
RIDGE_GRID, SVR_GRID = "GridSearchCV of Ridge", "GridSearchCV of LinearSVR"
SVC_GRID, LINEAR_GRID = "GridSearchCV of SVC", "GridSearchCV of LinearSVC"
LDA_GRID = "GridSearchCV of LinearDiscriminantAnalysis"
LOSO, EXACT = "SVC, linear and rbf, leave one speaker out", "epsilon = 0, both refits"
OVR, ONE = "LinearSVC, leave one speaker out", "LinearSVC, one session held out"
CASES = [
    Case("shares", EXACT, "authors' procedure", 200, "shares", SVR, PAPER),
    Case("ridge", EXACT + ", as ridge", RIDGE_GRID, 8, "shares", "ridge", ALPHAS),
    *(
        Case(f"tube-{e}", f"epsilon = {e}", SVR_GRID, 30, "shares", SVR, PAPER, {"epsilon": e})
        for e in (0.02, 0.1)
    ),
    Case("plain", "L1 loss, C <= 1e-3", SVR_GRID, 5, "shares", SVR, SMALLER, ABSOLUTE),
    Case("svc-emodb", LOSO, SVC_GRID, 5, "emodb", "svc", KERNELS, BALANCED),
    Case("svc-compare", LOSO, SVC_GRID, 12, "compare", "svc", KERNELS, BALANCED),
    Case("linear-svc-emodb", OVR, LINEAR_GRID, 10, "emodb", "linear-svc", DECADES),
    Case("linear-svc-iemocap", ONE, LINEAR_GRID, 10, "iemocap", "linear-svc", DECADES),
    Case("lda-emodb", "LDA, leave one speaker out", LDA_GRID, 5, "emodb", "lda", SHRINKAGES),
    Case("lda-iemocap", "LDA, one session held out", LDA_GRID, 5, "iemocap", "lda", SHRINKAGES),
]
GROWTH, MEMORY = "growth", "memory"
PACKAGES = ("scikit-learn", "numpy", "scipy", "joblib")
MOST_GB = 8.0


# What is searched


def make(corpora: Sequence[Data], folder: Path) -> None:
    """Write features, truths and speakers."""
    for data in corpora:
        arrays: tuple[NDArray[Any], ...] = made(data)
        for name, array in zip(("X", "y", "speakers"), arrays, strict=True):
            np.save(folder / f"{data.name}-{name}.npy", array)


def made(data: Data) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.int64]]:
    """Features of low rank with noise, truths, and the speaker of each row."""
    rng = np.random.default_rng(0)
    n, rank = sum(data.sizes), 64
    decay = np.arange(1, rank + 1)[:, None] ** -0.5
    mixing = (rng.normal(size=(rank, data.n_columns)) * decay).astype(np.float32)
    hidden = rng.normal(size=(n, rank))
    speakers = rng.integers(0, 10, n)
    if data.n_outer:
        truth = rng.permutation(np.repeat(np.arange(len(data.sizes)), data.sizes))
        y = np.array([f"class {i}" for i in range(len(data.sizes))])[truth]
        hidden += CLASS * rng.normal(size=(len(data.sizes), rank))[truth]
        hidden += SPEAKER * rng.normal(size=(10, rank))[speakers]
    else:
        weights = rng.normal(size=(rank, N_TARGETS)) * np.arange(1, rank + 1)[:, None] ** -0.3
        y = hidden @ weights
        y = y / y.std(axis=0) + 1.2 * rng.normal(size=y.shape)
        zeros = np.linspace(0.25, 0.65, N_TARGETS)
        y = np.clip(y - [np.quantile(one, q) for one, q in zip(y.T, zeros, strict=True)], 0, None)
        y = np.minimum(y / np.quantile(y, 0.99, axis=0), 1)
    X = hidden.astype(np.float32) @ mixing
    X += 0.5 * rng.standard_normal(X.shape, dtype=np.float32)
    X *= rng.uniform(0.05, 2, data.n_columns).astype(np.float32)
    X += rng.normal(size=data.n_columns).astype(np.float32)
    return X, y, speakers


@dataclass(frozen=True)
class Search:
    """A search over folds, and a fit of the chosen cell to `learn` that predicts `held`."""

    name: str
    folds: list[Fold]
    learn: Positions
    held: Positions


def load(data: Data, folder: Path) -> tuple[NDArray[np.float32], NDArray[Any], list[Search], Any]:
    """Features (left on the disk), truths, searches, and the parts that rows are made of."""
    X = np.load(folder / f"{data.name}-X.npy", mmap_mode="r")
    y, speakers = (np.load(folder / f"{data.name}-{i}.npy") for i in ("y", "speakers"))
    if not data.n_outer:
        parts = np.split(np.arange(len(X)), np.cumsum(data.sizes)[:-1])
        train, devel, test = parts
        learn = np.concatenate([train, devel])
        return X, y, [Search("devel", [Fold("devel", train, devel)], learn, test)], parts
    rows = pd.DataFrame({"speaker": speakers.astype(str), "session": (speakers // 2).astype(str)})
    rows = rows.assign(corpus="made", utterance=[f"{i:05}" for i in range(len(X))])
    split = SplitSpec(outer=data.outer, inner_folds=data.n_inner)
    outer = outer_folds(rows, split, y)
    searches = [
        Search(one.name, inner_folds(rows, one.train, y, split), one.train, one.test)
        for one in outer[: data.n_outer]
    ]
    return X, y, searches, [one.test for one in outer]


@dataclass(frozen=True)
class Run:
    """What a side gives.

    Attributes
    ----------
    peak : int
        Bytes.
    scores : float64, shape (n_searches, n_cells)
        NaN for a cell that was left out.
    cells : list of int
        The choice of each search.
    predictions : list of arrays
        Of `held` of each search; of shares then of devel, by the cell fitted to train.
    """

    seconds: float
    peak: int
    scores: Matrix
    cells: list[int]
    predictions: list[NDArray[Any]]
    warned: int = 0


def peak_memory() -> int:
    """Most resident bytes of this process, plus those of its largest worker."""
    get_reusable_executor(reuse=True).shutdown(wait=True)  # only what has ended is counted
    return peak_bytes() + peak_bytes(of_children=True)


# Both sides


def reference(case: Case, tight: bool, jobs: int | None) -> tuple[Pipeline, list[dict[str, Any]]]:
    """What a user of scikit-learn types: a pipeline, and its grid in the order of our cells."""
    tol = {"tol": TIGHT} if tight else {}
    prefix = "head__"
    head: Any
    if case.kind == "linear-svr":
        settings = {"loss": "squared_epsilon_insensitive", "epsilon": 0.0, **case.fixed}
        dual = settings["loss"] == "epsilon_insensitive"
        head = LinearSVR(dual=dual, max_iter=50000, random_state=42, **settings, **tol)
        head, prefix = MultiOutputRegressor(head, n_jobs=jobs), "head__estimator__"
    elif case.kind == "ridge":
        head = Ridge()
    elif case.kind == "lda":
        head = LinearDiscriminantAnalysis(solver="lsqr")
    elif case.kind == "linear-svc":
        head = LinearSVC(max_iter=50000, random_state=42, **tol)
    else:
        head = SVC(break_ties=True, random_state=42, **case.fixed)
    grid = [
        {"scaler": [SCALERS[cell.scaler]()]}
        | {f"{prefix}{name}": [value] for name, value in cell.params.items()}
        for cell in cells(case.head)
    ]
    return Pipeline([("scaler", StandardScaler()), ("head", head)]), grid


def theirs(
    case: Case,
    data: Data,
    folder: Path,
    jobs: int,
    tight: bool = False,
    only: Sequence[int] | None = None,
) -> Run:
    """scikit-learn's grid search, over all cells or some."""
    # Where few cells are left, the cores go to the targets.
    estimator, grid = reference(case, tight, jobs if only else None)
    chosen = list(range(len(grid))) if only is None else list(only)
    joblib.Parallel(jobs)(joblib.delayed(clone)(estimator) for _ in range(4 * jobs))
    X, y, searches, _ = load(data, folder)
    # Ridge is quicker in float32, and not exact; the others make float64 of it in every fit.
    X = np.array(X, dtype=np.float32 if case.kind == "ridge" and not tight else np.float64)
    scoring = make_scorer(metrics.uar, labels=tuple(np.unique(y))) if data.n_outer else None
    scores, picked, predictions = np.full((len(searches), len(grid)), np.nan), [], []
    start = time.perf_counter()
    for i, one in enumerate(searches):
        rows = one.learn
        folds = [[np.searchsorted(rows, part) for part in (f.train, f.test)] for f in one.folds]
        found = GridSearchCV(
            estimator,
            [grid[j] for j in chosen],
            scoring=scoring or "neg_mean_squared_error",
            cv=folds,
            refit=case.refits,
            n_jobs=1 if only else jobs,
        ).fit(X[rows], y[rows])
        scores[i, chosen] = found.cv_results_["mean_test_score"]
        picked.append(chosen[found.best_index_])
        if case.refits:
            predictions.append(found.predict(X[one.held]))
            if not data.n_outer:
                train, devel = one.folds[0].train, one.folds[0].test
                head = clone(found.best_estimator_).fit(X[train], y[train])
                predictions.append(head.predict(X[devel]))
    seconds = time.perf_counter() - start
    return Run(seconds, peak_memory(), scores, picked, predictions)


def ours(case: Case, data: Data, folder: Path, jobs: int) -> Run:
    """The project's search and refits, as `models.train` has them."""
    X, y, searches, parts = load(data, folder)
    problem = _problem(case, np.array(X), y)
    n_fits = sum(len(one.folds) for one in searches) * len(cells(case.head)) + len(searches)
    start = time.perf_counter()
    with Fits(problem, jobs, n_fits * len(problem.columns), parts=parts) as fits:
        choices = searched(problem, [Inner(one.folds, one.name) for one in searches], fits)
        # The head that `train` keeps is fitted to all rows with a truth: here to train + devel.
        wanted = [
            Refit(choice.cells, one.learn, (one.held,), one.name, keep=not data.n_outer)
            for one, choice in zip(searches, choices, strict=True)
        ]
        done = refit(problem, wanted, fits) if case.refits else []
    seconds = time.perf_counter() - start
    predictions = [values[0] for values, _ in done]
    if done and not data.n_outer:
        predictions.append(choices[0].values)  # by the cell as the search fitted it
    scores = np.array([choice.table["score"] for choice in choices])
    picked = [choice.cells[0].index for choice in choices]
    return Run(seconds, peak_memory(), scores, picked, predictions, fits.warned.total())


def _problem(case: Case, X: NDArray[np.float32], y: NDArray[Any]) -> Problem:
    names = [f"share {i}" for i in range(N_TARGETS)] if y.ndim == 2 else np.unique(y).tolist()
    return Problem(X, y, tuple(names), case.head)


# Agreement


@dataclass
class Verdict:
    """Figures of an agreement, and whether all that decide hold."""

    holds: bool = True
    figures: list[str] = field(default_factory=list)

    def note(self, text: str, holds: bool = True) -> None:
        """Add a figure; `holds` is False where it is a disagreement."""
        self.holds &= bool(holds)
        self.figures.append(text if holds else f"**{text}: DISAGREES**")


def compare_cells(verdict: Verdict, mine: Run, other: Run, name: str, decides: bool = True) -> None:
    """Compare choices and scores."""
    away = [
        abs(scores[a] - scores[b])
        for scores, a, b in zip(mine.scores, mine.cells, other.cells, strict=True)
        if a != b
    ]
    same = all(one < SAME_SCORE for one in away)
    ties = f" (scores tie to {max(away):.0e} in {len(away)})" if away and same else ""
    verdict.note(f"{'same cells' if same else 'other cells'} as {name}{ties}", same or not decides)
    verdict.note(f"scores {np.nanmax(np.abs(mine.scores - other.scores)):.1e} from {name}")


def mean_rho(truth: Matrix, values: Matrix) -> float:
    """Mean over the targets."""
    pairs = zip(truth.T, values.T, strict=True)
    return float(np.mean([metrics.spearman(one, other) for one, other in pairs]))


def compare_shares(
    verdict: Verdict, mine: Run, other: Run, truths: Sequence[Matrix], name: str, most: float
) -> None:
    """Compare predicted shares of test and devel, by rho and one by one."""
    pairs = list(zip(truths, mine.predictions, other.predictions, strict=True))
    rho = max(abs(mean_rho(y, a) - mean_rho(y, b)) for y, a, b in pairs)
    verdict.note(f"mean rho {rho:.1e} from {name}", rho <= max(RHO, most))
    apart = max(float(np.abs(a - b).max()) for _, a, b in pairs)
    verdict.note(f"predictions {apart:.1e}", apart <= most)


def compare_classes(
    verdict: Verdict, mine: Run, other: Run, labels: Sequence[str], tie: float
) -> None:
    """Compare predicted classes; where the two largest scores are within `tie` they may differ."""
    n = differ = tied = 0
    for scores, predicted in zip(mine.predictions, other.predictions, strict=True):
        other_class = decide(scores, labels) != predicted
        top = np.sort(np.where(np.isnan(scores), -np.inf, scores), axis=1)[:, -2:]
        close = top[:, 1] - top[:, 0] <= tie if tie else np.zeros(len(top), dtype=bool)
        n, differ = n + len(scores), differ + int(other_class.sum())
        tied += int((other_class & close).sum())
    text = f"{differ} of {n} predictions differ" + (f", {tied} at ties" if tied else "")
    verdict.note(text, differ == tied)


def squared_bound(Z: Matrix, Y: Matrix, A: Matrix, C: float, epsilon: float) -> Matrix:
    """Value of a dual point of the squared loss, of each column: no objective is lower."""
    value = (A * Y).sum(axis=0) - epsilon * np.abs(A).sum(axis=0) - (A**2).sum(axis=0) / (4 * C)
    bound: Matrix = value - ((Z.T @ A) ** 2).sum(axis=0) / 2
    return bound


def plain_bound(Z: Matrix, y: Matrix, v: Matrix, C: float, enough: float) -> float:
    """A lower bound of the plain loss with epsilon = 0, of at least `enough` where that is found.

    The kink is rounded off over a width that shrinks. Newton steps from v lead to the minimum, and
    the slopes there are a dual point. It bounds wherever the steps end.
    """
    best, rest = -np.inf, np.abs(y - Z @ v).sum()
    for share in (1e-4, 1e-5):
        width = 2 * share * rest / Z.shape[1]

        def value(v: Matrix, width: float = width) -> tuple[float, Matrix]:
            r = y - Z @ v
            size = np.abs(r)
            loss = np.where(size < width, r**2 / (2 * width) + width / 2, size).sum()
            return float(v @ v / 2 + C * loss), r

        now, r = value(v)
        for _ in range(40):
            slopes = C * np.clip(r / width, -1, 1)
            back = Z.T @ slopes
            best = max(best, float(slopes @ y - back @ back / 2))
            gradient = v - back
            if best >= enough or gradient @ gradient <= 1e-6 * now:
                break
            near = Z[np.abs(r) < width]
            hessian = C / width * (near.T @ near)
            hessian.flat[:: len(hessian) + 1] += 1
            step = -scipy.linalg.solve(hessian, gradient, assume_a="pos", overwrite_a=True)
            length = 1.0
            while (new := value(v + length * step))[0] > now + 1e-4 * length * gradient @ step:
                length /= 2
                if length < 1e-6:
                    return best
            v, (now, r) = v + length * step, new
    return best


def gaps(case: Case, data: Data, folder: Path, jobs: int, run: Run) -> tuple[float, float]:
    """Largest relative duality gap of all heads of a search, and how far they are from its scores.

    The heads are those that the search makes, kept; rows are scaled by scikit-learn.
    """
    X, y, searches, parts = load(data, folder)
    (fold,) = searches[0].folds
    problem, grid = _problem(case, X, y), cells(case.head)
    tests = (fold.test,)
    plan = [
        Fit(pipeline(case.head, cell), column, fold.train, tests, keep=True)
        for cell in grid
        for column in problem.columns
    ]
    with Fits(problem, jobs, len(plan), parts=parts) as fits:
        heads = [one.pipeline for one in fits(plan)]
    epsilon = float(case.fixed.get("epsilon", 0.0))
    squared = case.fixed.get("loss") != "epsilon_insensitive"
    held, Y = X[fold.test].astype(np.float64), y[fold.train]
    largest = away = 0.0
    for scaler in case.head.scalers:
        fitted = SCALERS[scaler]().fit(X[fold.train].astype(np.float64))
        Z = np.column_stack([fitted.transform(X[fold.train].astype(np.float64)), np.ones(len(Y))])
        Z_held = np.column_stack([fitted.transform(held), np.ones(len(held))])
        for cell in (one for one in grid if one.scaler == scaler):
            mine = [one["head"] for one in heads[cell.index * N_TARGETS :][:N_TARGETS] if one]
            V = np.column_stack([np.append(one.coef_, one.intercept_) for one in mine])
            score = -((y[fold.test] - Z_held @ V) ** 2).mean()
            away = max(away, abs(float(score) - run.scores[0, cell.index]))
            C, R = cell.params["C"], Y - Z @ V
            loss = np.maximum(np.abs(R) - epsilon, 0)
            primal = (V**2).sum(axis=0) / 2 + C * (loss**2 if squared else loss).sum(axis=0)
            if squared:
                lower = squared_bound(Z, Y, 2 * C * np.sign(R) * loss, C, epsilon)
            else:
                # More than one BLAS thread makes small products slow where cores are busy.
                enough = (1 - PLAIN / 2) * primal
                with threadpool_limits(1), ThreadPoolExecutor(jobs) as pool:
                    each = pool.map(plain_bound, [Z] * N_TARGETS, Y.T, V.T, [C] * N_TARGETS, enough)
                    lower = np.array(list(each))
            largest = max(largest, float(((primal - lower) / primal).max()))
    return largest, away


def judge(
    case: Case, data: Data, folder: Path, jobs: int, mine: Run, default: Run, small: bool
) -> Verdict:
    """Compare what both sides found, with further runs of the reference where that takes them."""
    verdict = Verdict()
    _, y, searches, _ = load(data, folder)
    if case.kind in ("svc", "lda"):
        compare_cells(verdict, mine, default, "the reference")
        compare_classes(verdict, mine, default, np.unique(y).tolist(), 0.0)
    elif case.kind == "linear-svc":
        tight = fresh(theirs, case, data, folder, jobs, True)
        say(f"{case.name}: tol = {TIGHT:g} in {tight.seconds:.1f} s")
        compare_cells(verdict, mine, default, "the reference", decides=False)
        compare_cells(verdict, mine, tight, f"tol {TIGHT:g}")
        compare_classes(verdict, mine, tight, np.unique(y).tolist(), TIE)
    elif not case.refits:
        compare_cells(verdict, mine, default, "the reference", decides=False)
        allowed = PLAIN if "loss" in case.fixed else TUBE
        largest, away = fresh(gaps, case, data, folder, jobs, mine)
        verdict.note(f"largest duality gap {largest:.1e}", largest <= allowed)
        verdict.note(f"of heads {away:.0e} from the scores", away <= 1e-9)
    else:
        # At full size liblinear takes minutes a cell at this tolerance.
        some = None if small or case.kind == "ridge" else sorted({*mine.cells, *default.cells})
        tight = fresh(theirs, case, data, folder, jobs, True, some)
        name = "float64" if case.kind == "ridge" else f"tol {TIGHT:g}"
        say(f"{case.name}: {name} in {tight.seconds:.1f} s")
        compare_cells(verdict, mine, default, "the reference")
        compare_cells(verdict, mine, tight, name)
        truths = [y[searches[0].held], y[searches[0].folds[0].test]]
        values = zip(truths, mine.predictions, strict=True)
        rho = ", ".join(f"{mean_rho(truth, one):.4f}" for truth, one in values)
        verdict.note(f"rho of test, devel {rho}")
        compare_shares(verdict, mine, default, truths, "the reference", np.inf)
        compare_shares(verdict, mine, tight, truths, name, SHARES)
    if mine.warned:
        verdict.note(f"{mine.warned} warnings of ours")
    return verdict


# Running and reporting


def measure(case: Case, data: Data, folder: Path, jobs: int, repeats: int, small: bool) -> bool:
    """Print one line of the table; whether both sides agree."""
    runs = [fresh(ours, case, data, folder, jobs)]
    say(f"{case.name}: ours {runs[0].seconds:.2f} s")
    other = fresh(theirs, case, data, folder, jobs)
    say(f"{case.name}: reference {other.seconds:.1f} s")
    runs += [fresh(ours, case, data, folder, jobs) for _ in range(repeats - 1)]
    verdict = judge(case, data, folder, jobs, runs[0], other, small)
    if any(not np.array_equal(one.scores, runs[0].scores) for one in runs):
        verdict.note("scores differ between repeats", False)
    took = [one.seconds for one in runs]
    ratio = other.seconds / statistics.median(took)
    met = goal_verdict(ratio >= case.goal, small)
    peak = max(one.peak for one in runs)
    print(
        f"| {case.what}; {sum(data.sizes):,} x {data.n_columns:,} | {case.against} "
        f"| {other.seconds:.1f} | {spread(took)} | {ratio:.1f} | {case.goal:g}x: {met} "
        f"| {other.peak / 1e9:.2f} / {peak / 1e9:.2f} | {'; '.join(verdict.figures)} |",
        flush=True,
    )
    return verdict.holds


def grow(data: Data, folder: Path, jobs: int, repeats: int, small: bool) -> None:
    """Print what twice the rows and twice the cells take of the first case."""
    case, half = CASES[0], replace(data, name="half", sizes=tuple(n // 2 for n in data.sizes))
    twice = replace(case, grid={"C": np.logspace(-2, -6, 10).tolist()})
    fresh(make, [half], folder)
    took: dict[str, list[float]] = {"half": [], "whole": [], "cells": []}
    for _ in range(repeats):
        for name, one, rows in (
            ("half", case, half),
            ("whole", case, data),
            ("cells", twice, data),
        ):
            took[name].append(fresh(ours, one, rows, folder, jobs).seconds)
            say(f"{GROWTH}: {name} {took[name][-1]:.2f} s")
    print("\n| ours, epsilon = 0 | from s | to s | ratio | goal |\n|---|---|---|---|---|")
    for what, a, b, limit, goal in (
        (f"{sum(half.sizes):,} to {sum(data.sizes):,} rows", "half", "whole", 2.2, "2x, to 10 %"),
        ("10 to 20 cells", "whole", "cells", 4 / 3, "less than a third more"),
    ):
        ratio = statistics.median(took[b]) / statistics.median(took[a])
        met = goal_verdict(ratio <= limit, small)
        print(f"| {what} | {spread(took[a])} | {spread(took[b])} | {ratio:.2f} | {goal}: {met} |")


def bound(data: Data, folder: Path, jobs: int, small: bool) -> None:
    """Print the peak memory of the searches over shares with the columns of the widest model."""
    wide = replace(data, name="wide", n_columns=data.n_columns * 15 // 8)
    fresh(make, [wide], folder)
    rows = f"{sum(wide.sizes):,} x {wide.n_columns:,}, {N_TARGETS} targets"
    print(f"\n| ours, {rows} | s | peak memory in GB | goal |\n|---|---|---|---|")
    for case in CASES:
        if case.data == data.name:
            run = fresh(ours, case, wide, folder, jobs)
            met = goal_verdict(run.peak / 1e9 <= MOST_GB, small)
            print(
                f"| {case.what} | {run.seconds:.2f} | {run.peak / 1e9:.2f} | {MOST_GB:g}: {met} |",
                flush=True,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the cases that are asked for, one after the other."""
    names = [*(case.name for case in CASES), GROWTH, MEMORY]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--small", action="store_true", help="one repeat, two minutes")
    parser.add_argument("--only", default=",".join(names), metavar="NAME,NAME", help="some cases")
    parser.add_argument("--repeats", type=int, help="of ours; default 3, with --small 1")
    parser.add_argument("--jobs", type=int, default=2, help="n_jobs of both sides; default 2")
    args = parser.parse_args(argv)
    wanted = args.only.split(",")
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; have {', '.join(names)}")
    repeats = args.repeats or (1 if args.small else 3)
    corpora = {data.name: data for data in (SMALL if args.small else FULL)}
    print(machine(*PACKAGES), end=" ")
    print(f"Both sides with n_jobs = {args.jobs}; medians of {repeats} of ours.\n")
    print(
        "| what | against | reference s | ours s | ratio | goal | peak memory in GB, reference / "
        "ours | agreement |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    exact = True
    chosen = [case for case in CASES if case.name in wanted]
    used = {case.data for case in chosen} | ({"shares"} if GROWTH in wanted else set())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh(make, [one for one in corpora.values() if one.name in used], folder)
        for case in chosen:
            exact &= measure(case, corpora[case.data], folder, args.jobs, repeats, args.small)
        if GROWTH in wanted:
            grow(corpora["shares"], folder, args.jobs, repeats, args.small)
        if MEMORY in wanted:
            bound(corpora["shares"], folder, args.jobs, args.small)
    say_short(args.small)
    print(f"\n{'Both sides agree.' if exact else 'THE SIDES DISAGREE.'}")
    return 0 if exact else 1


if __name__ == "__main__":
    raise SystemExit(main())
