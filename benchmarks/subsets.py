"""The best k of n models: `fusion.subsets.search` beside a subset after the other.

Class scores of many models and shares of several are made; three ways score subsets of them:

- `scikit-learn`: the members' scores are summed (their softmax was taken before the clock runs) or
  voted on, and `recall_score(average="macro")` is called; for shares scipy's `spearmanr` a target.
- `numpy`: the same combination, then recalls from counts; for shares ranks by `argsort`.
- `ours`: `fusion.subsets.search.search` over all subsets of the size, on all cores and on one.

The references score random subsets of the size one after the other, as many as the time allows, and
so does ours but for the first row, which is searched to its end. The ways take turns; ratios are of
rates in one run. Whether the winners are the same is decided on a smaller number of models, where
the numpy way scores every subset of every size, with all that are equally good.

The exit code is 1 where a winner differs; a missed goal of speed is printed and decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import spearmanr
from sklearn.metrics import recall_score

from benchmarks.common import goal_verdict, machine, say, say_short
from features.recipe.known.fusion_methods import SUBSET_METHODS
from fusion.methods import logit_sum, mean, vote
from fusion.subsets.classes import Classes
from fusion.subsets.search import (
    State,
    SubsetProblem,
    members_of,
    search,
)
from fusion.subsets.targets import Shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Way = Callable[[list[int]], float]

ROWS, LABELS, MODELS, SIZE = 5531, 4, 30, 9
"""IEMOCAP's four classes; the sizes of the largest published search."""
SHARE_ROWS, TARGETS, SHARE_MODELS, SHARE_SIZE = 12_241, 9, 20, 9
"""Hume-Prosody's devel part."""
SMALL_ROWS, SMALL_SHARE_ROWS, SMALL_MODELS, SMALL_SIZE = 1000, 500, 18, 9
EXHAUSTED, SMALL_EXHAUSTED = 14, 8
"""Models where every subset of every size is scored by the numpy way, too."""
GOALS = {"numpy": 50, "scikit-learn": 500}
"""How many times the rate of a reference is wanted; of shares, numpy's."""


class Enough(Exception):
    """The time is over."""


def main(argv: Sequence[str] | None = None) -> int:
    """Time all ways, then compare their winners."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="a way and turn; default 6")
    parser.add_argument("--turns", type=int, default=3, help="default 3")
    parser.add_argument("--small", action="store_true", help="less data, half a second a way")
    args = parser.parse_args(argv)
    seconds, turns = (0.5, 1) if args.small else (args.seconds, args.turns)
    n_models, size = (SMALL_MODELS, SMALL_SIZE) if args.small else (MODELS, SIZE)
    truth, scores = made_classes(n_models, SMALL_ROWS if args.small else ROWS)
    share_models, share_size = (8, 4) if args.small else (SHARE_MODELS, SHARE_SIZE)
    shares = made_shares(share_models, SMALL_SHARE_ROWS if args.small else SHARE_ROWS)
    cores = joblib.cpu_count()
    print(
        f"{machine('numpy', 'scikit-learn', 'scipy')} Medians of {turns}, {seconds:g} s each; "
        f"{cores} threads.\n\n"
        "| what | scikit-learn or scipy | numpy | ours, one thread | ours "
        "| x scikit-learn or scipy | x numpy |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    ratios: dict[str, list[float]] = {name: [] for name in GOALS}
    for method in SUBSET_METHODS:
        problem = Classes(truth, scores, method, ["uar"])
        ways = class_ways(truth, scores, method)
        name = f"UAR, {method}: {n_models} choose {size}, {len(truth):,} x {LABELS}"
        found = time_all(name, problem, size, ways, seconds, turns)
        ratios["scikit-learn"].append(found["ours"] / found["library"])
        ratios["numpy"].append(found["ours"] / found["numpy"])
    name = f"Spearman, mean: {share_models} choose {share_size}, {len(shares[0]):,} x {TARGETS}"
    search(Shares(*made_shares(2, 50), binned=True), 1, jobs=1)  # compiles
    problem_of_shares = Shares(*shares)
    found = time_all(name, problem_of_shares, share_size, share_ways(*shares), seconds, turns)
    for name, goal in GOALS.items():
        say_goal(f"Classes against {name}", min(ratios[name]), goal, args.small)
    say_goal("Shares against numpy", found["ours"] / found["numpy"], GOALS["numpy"], args.small)
    say_short(args.small)
    if not args.small:
        print(f"\n{whole(Classes(truth, scores, 'logit-sum', ['uar']), size)}")
        print(f"\n{whole(problem_of_shares, share_size)}")
    n_exhausted = SMALL_EXHAUSTED if args.small else EXHAUSTED
    same = compare(*made_classes(n_exhausted, len(truth)), *made_shares(n_exhausted, 500))
    print(f"\n{'All winners and ties are the same.' if same else 'OTHER WINNERS.'}")
    return 0 if same else 1


# -- data and ways ---------------------------------------------------------------------------


def made_classes(n_models: int, n: int) -> tuple[Ints, Floats]:
    """Truths, and class scores of models that are right in about half of the rows."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, LABELS, n)
    scores = rng.normal(size=(n_models, n, LABELS))
    scores[:, np.arange(n), truth] += 0.8
    return truth, scores


def made_shares(n_models: int, n: int) -> tuple[Floats, Floats]:
    """Shares of which many are equal, and noisy values of them."""
    rng = np.random.default_rng(1)
    truth = np.maximum(0, rng.normal(size=(n, TARGETS)).round(1))
    return truth, truth + 2 * rng.normal(size=(n_models, n, TARGETS))


def class_ways(truth: Ints, scores: Floats, method: str) -> dict[str, Way]:
    """UAR of one subset."""
    masks = [truth == label for label in range(LABELS)]
    combine = vote if method == "vote" else logit_sum
    values = softmax(scores, axis=2) if method == "mean" else scores

    def predicted(subset: list[int]) -> Ints:
        return np.asarray(combine(values[subset]).argmax(axis=1))

    def library(subset: list[int]) -> float:
        return float(recall_score(truth, predicted(subset), average="macro"))

    def numpy(subset: list[int]) -> float:
        right = predicted(subset) == truth
        return float(np.mean([right[mask].mean() for mask in masks]))

    return {"library": library, "numpy": numpy}


def share_ways(truth: Floats, values: Floats) -> dict[str, Way]:
    """Mean rho of one subset."""

    def library(subset: list[int]) -> float:
        combined = mean(values[subset])
        pairs = zip(truth.T, combined.T, strict=True)
        return float(np.mean([spearmanr(x, y).statistic for x, y in pairs]))

    ranks = truth.argsort(axis=0).argsort(axis=0).astype(np.float64)
    ranks -= ranks.mean(axis=0)

    def numpy(subset: list[int]) -> float:
        found = mean(values[subset]).argsort(axis=0).argsort(axis=0)
        product = (ranks * (found - found.mean(axis=0))).sum(axis=0)
        return float(np.mean(product / (ranks**2).sum(axis=0)))

    return {"library": library, "numpy": numpy}


# -- speed -----------------------------------------------------------------------------------


def time_all(
    name: str, problem: SubsetProblem, k: int, ways: dict[str, Way], seconds: float, turns: int
) -> dict[str, float]:
    """Print a row of subsets a second, and return them."""
    rates: dict[str, list[float]] = {"library": [], "numpy": [], "one thread": [], "ours": []}
    for turn in range(turns):
        for way, function in ways.items():
            rates[way].append(rate_of(function, problem.n_members, k, seconds, turn))
        rates["one thread"].append(rate_of_search(problem, k, seconds, 1))
        rates["ours"].append(rate_of_search(problem, k, seconds, -1))
    found = {way: statistics.median(values) for way, values in rates.items()}
    each = " | ".join(f"{value:,.0f}" for value in found.values())
    by_library, by_numpy = (found["ours"] / found[way] for way in ("library", "numpy"))
    print(f"| {name} | {each} | {by_library:.0f} | {by_numpy:.0f} |", flush=True)
    return found


def say_goal(what: str, ratio: float, goal: float, small: bool) -> None:
    """Print a ratio, and whether it reaches its goal."""
    print(f"\n{what}: {ratio:.0f} x at least; goal {goal} x: {goal_verdict(ratio >= goal, small)}")


def rate_of(way: Way, n_members: int, k: int, seconds: float, seed: int) -> float:
    """Random subsets a second."""
    rng = np.random.default_rng(seed)
    start, n_done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        way(sorted(rng.choice(n_members, k, replace=False).tolist()))
        n_done += 1
    return n_done / (time.perf_counter() - start)


def rate_of_search(problem: SubsetProblem, k: int, seconds: float, jobs: int) -> float:
    """Subsets a second of a search that is broken off when the time is over."""
    start = time.perf_counter()
    rate = 0.0

    def done(state: State, n_subsets: int) -> None:
        nonlocal rate
        took = time.perf_counter() - start
        rate = state.n_subsets / took
        if took > seconds:
            raise Enough

    with contextlib.suppress(Enough):
        search(problem, k, jobs=jobs, done=done)
    return rate


def whole(problem: SubsetProblem, k: int) -> str:
    """Say how long all subsets of a size take."""
    start = time.perf_counter()
    state = search(problem, k)
    took = time.perf_counter() - start
    ((metric, best),) = state.best.items()
    return (
        f"All {state.n_subsets:,} subsets: {took:.1f} s, {state.n_subsets / took:,.0f} a second; "
        f"best {metric} {best.value:.6f}, {best.count} with it."
    )


# -- winners ---------------------------------------------------------------------------------


def compare(truth: Ints, scores: Floats, shares: Floats, values: Floats) -> bool:
    """Whether every subset's score by the numpy way has the same winners and ties."""
    n = len(scores)
    same = True
    for method in SUBSET_METHODS:
        way = class_ways(truth, scores, method)["numpy"]
        problem = Classes(truth, scores, method, ["uar"])
        same &= all(agrees(problem, way, "uar", k) for k in range(1, n + 1))
        say(f"winners of {2**n - 1:,} subsets by {method}: {'the same' if same else 'OTHERS'}")
    way = share_ways(shares, values)["library"]
    for binned in (False, True):
        problem_of_shares = Shares(shares, values, binned=binned)
        same &= all(agrees(problem_of_shares, way, "spearman", k) for k in (1, 2, 3, n - 1, n))
    return same


def agrees(problem: SubsetProblem, way: Way, metric: str, k: int) -> bool:
    """Whether a search has the winners of a way that scores every subset."""
    subsets = list(itertools.combinations(range(problem.n_members), k))
    scores = np.array([way(list(one)) for one in subsets])
    winners = [subsets[i] for i in np.flatnonzero(scores > scores.max() - 1e-12)]
    best = search(problem, k).best[metric]
    named = members_of(np.array(best.masks), problem.n_members, k).tolist()
    return (
        best.count == len(winners)
        and math.isclose(best.value, scores.max(), rel_tol=0, abs_tol=1e-12)
        and [tuple(one) for one in named] == winners[: len(named)]
    )


if __name__ == "__main__":
    sys.exit(main())
