"""The best k of n models: every subset of a size scored, or a greedy path where they are too many.

Conventions
-----------
- Members are numbers from 0, in the recipe's order. A subset is a tuple of them that rises, or its
  mask: an int64 with bit `n_members - 1 - i` set for member i. Of two subsets of one size that are
  equally good the one with the larger mask comes first, which is the order of the recipe.
- Scores are those of `fusion.combine` and `evaluate.metrics.metrics` to the last bit. An exhaustive
  search first bounds the score of every subset from above: margins of the true class over each
  other one are rounded to few bits, several stand in one int64, and a row counts as right unless
  rounding cannot have made it wrong. What reaches the best score known is counted again by margins
  of 32 bits, and in float64 where those leave it open.
- UAR and WA are compared as whole numbers, so that equal means equal. Spearman's rho is bounded by
  the ranks of bins; where that reaches the best, the sums are sorted; and everything within `NEAR`
  of the best is computed again.
- Members are parted into a head and a tail. The sums of all subsets of the tail are a table, those
  of the head's are made from each other by one addition, and each subset of both costs one more.
  The work goes in blocks, over threads, one class of rows at a time, in pieces that fit the cache.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

from fusion.subsets.parts import (
    Floats,
    Ints,
    Subset,
    SubsetBlock,
    SubsetParts,
    _combinations,
)

TIES_KEPT = 20
"""Of the subsets that are equally good, so many are named; all are counted."""
NEAR = 1e-9
"""More than the rounding of a float64 score, less than a difference that anybody would report."""
_LARGEST = 2**31 - 1


class SubsetProblem(ABC):
    """Predictions of several models for rows with a truth, and how they are combined.

    Attributes
    ----------
    n_members : int
    metrics : tuple of str
        Keys of `evaluate.metrics.metrics`.
    parts : SubsetParts
        Members in a head and a tail.
    """

    n_members: int
    metrics: tuple[str, ...]
    parts: SubsetParts

    @abstractmethod
    def screen(self, block: SubsetBlock, known: Mapping[str, float]) -> dict[str, Floats]:
        """Bounds from above of every metric, within `NEAR`: shape (n_heads, n_tails).

        Those that are below the best score of the block or the best `known` may be wider.
        """

    @abstractmethod
    def exact(self, subsets: Ints, metric: str) -> tuple[list[Any], Floats]:
        """What subsets of one size, shape (q, k), are compared by, and their scores.

        A subset may hold a member twice. The score of one that has none is NaN.
        """

    @abstractmethod
    def scores(self, subsets: Ints, metric: str) -> Floats:
        """Scores of subsets of one size, shape (q, k), within `NEAR`."""

    @abstractmethod
    def combined(self, subset: Sequence[int]) -> Floats:
        """Combined values of a subset, as `fusion.combine` gives them."""


@dataclass(frozen=True)
class Best:
    """The best subsets seen.

    Attributes
    ----------
    key : int, float or None
        What subsets are compared by; None before the first that has a score.
    value : float
        The score; NaN before the first.
    count : int
        How many subsets have it.
    masks : tuple of int
        The first `TIES_KEPT` of them.
    """

    key: Any = None
    value: float = float("nan")
    count: int = 0
    masks: tuple[int, ...] = ()

    def merged(self, other: Best) -> Best:
        """The best of both, which have no subset in common."""
        if other.key is None or (self.key is not None and self.key > other.key):
            return self
        if self.key is None or other.key > self.key:
            return other
        masks = sorted({*self.masks, *other.masks}, reverse=True)[:TIES_KEPT]
        return replace(self, count=self.count + other.count, masks=tuple(masks))


@dataclass(frozen=True)
class State:
    """How far a search is: JSON-able by `record`, and read back by `State.of`.

    It is replaced whole: one that is kept never holds half of a block.
    """

    n_blocks: int = 0
    n_subsets: int = 0
    best: dict[str, Best] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As JSON's own types; whole numbers as text, since JSON's readers may round them."""
        best = {
            metric: [repr(best.key), best.value, best.count, [str(mask) for mask in best.masks]]
            for metric, best in self.best.items()
        }
        return {"n_blocks": self.n_blocks, "n_subsets": self.n_subsets, "best": best}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> State:
        """The inverse of `record`."""
        best = {}
        for metric, (key, value, count, masks) in record["best"].items():
            number = None if key == "None" else float(key) if set(key) & set(".en") else int(key)
            known = float("nan") if value is None else value
            best[metric] = Best(number, known, count, tuple(int(mask) for mask in masks))
        return cls(record["n_blocks"], record["n_subsets"], best)


def search(
    problem: SubsetProblem,
    k: int,
    state: State | None = None,
    *,
    jobs: int = -1,
    done: Callable[[State, int], None] | None = None,
) -> State:
    """Score all subsets of `k` members.

    Parameters
    ----------
    problem : SubsetProblem
    k : int
    state : State, optional
        Of a search of the same problem that was stopped: goes on from there.
    jobs : int
        Threads; -1 is all cores. They change no result.
    done : callable, optional
        Called after each block with the new state and the number of subsets in the block.

    Returns
    -------
    State
        With the best subsets of each metric of the problem.
    """
    current = state or State(best={metric: Best() for metric in problem.metrics})
    known = {metric: best.value for metric, best in current.best.items()}
    threads = joblib.effective_n_jobs(jobs)
    waiting: deque[tuple[int, Future[dict[str, Best]]]] = deque()

    def collect() -> None:
        nonlocal current
        n_subsets, future = waiting.popleft()
        found = future.result()
        best = {metric: best.merged(found[metric]) for metric, best in current.best.items()}
        current = State(current.n_blocks + 1, current.n_subsets + n_subsets, best)
        known.update({metric: top.value for metric, top in best.items()})
        if done is not None:
            done(current, n_subsets)

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        try:
            for block in itertools.islice(problem.parts.blocks(k), current.n_blocks, None):
                n_subsets = len(block.heads) * (block.tails.stop - block.tails.start)
                waiting.append((n_subsets, pool.submit(_best_of, problem, k, block, known)))
                if len(waiting) > 2 * threads:
                    collect()
            while waiting:
                collect()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return current


def _best_of(
    problem: SubsetProblem, k: int, block: SubsetBlock, known: Mapping[str, float]
) -> dict[str, Best]:
    """The best subsets of a block, of those that are not below the best scores known."""
    result = dict.fromkeys(problem.metrics, Best())
    masks = problem.parts.masks(block).ravel()
    for metric, bounds in problem.screen(block, known).items():
        upper = bounds.ravel()
        floor = known[metric]
        reached = ~(upper < floor - NEAR) & ~np.isnan(upper)
        if not reached.any():
            continue
        # One exact score leaves few subsets that can reach it.
        first = masks[[int(np.nanargmax(upper))]]
        (found,) = problem.exact(members_of(first, problem.n_members, k), metric)[1]
        chosen = masks[reached & ~(upper < np.fmax(floor, found) - NEAR)]
        keys, values = problem.exact(members_of(chosen, problem.n_members, k), metric)
        scored = np.flatnonzero(~np.isnan(values))
        if len(scored):
            top = max(keys[i] for i in scored)
            tied = np.array([i for i in scored if keys[i] == top])
            kept = np.sort(chosen[tied])[::-1][:TIES_KEPT]
            result[metric] = Best(
                top, float(values[tied[0]]), len(tied), tuple(int(mask) for mask in kept)
            )
    return result


@dataclass(frozen=True)
class GreedyStep:
    """A subset of a greedy path.

    Attributes
    ----------
    members : tuple of int
        Rising; a member may stand several times where replacement is allowed.
    key : int or float
        What steps are compared by, as in `Best`.
    value : float
    """

    members: Subset
    key: Any
    value: float


def greedy(
    problem: SubsetProblem, metric: str, n_steps: int, *, replacement: bool
) -> list[GreedyStep]:
    """Forward selection: the member that gives the best score is added, step by step.

    Parameters
    ----------
    problem : SubsetProblem
    metric : str
    n_steps : int
        Size of the last subset.
    replacement : bool
        Whether a member may be added again, which gives it more weight.

    Returns
    -------
    list of GreedyStep
        One a size, from 1; shorter where no further step has a score.
    """
    path: list[GreedyStep] = []
    current: Subset = ()
    for _ in range(n_steps):
        free = [i for i in range(problem.n_members) if replacement or i not in current]
        subsets = [tuple(sorted((*current, i))) for i in free]
        keys, values = problem.exact(np.array(subsets, dtype=np.int64), metric)
        scored = [i for i, value in enumerate(values) if not np.isnan(value)]
        if not scored:
            break
        best = max(scored, key=lambda i: (keys[i], -i))
        current = subsets[best]
        path.append(GreedyStep(current, keys[best], float(values[best])))
    return path


def draw(n_members: int, k: int, n_wanted: int, seed: int) -> Ints:
    """Random subsets of `k` members, or all of them in order where there are no more.

    Returns
    -------
    int64, shape (n_wanted or fewer, k)

    Examples
    --------
    >>> draw(3, 2, n_wanted=10, seed=0).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    if math.comb(n_members, k) <= n_wanted:
        return _combinations(n_members, k)
    rng = np.random.default_rng([seed, n_members, k])
    order = rng.random((n_wanted, n_members)).argsort(axis=1)
    return np.sort(order[:, :k], axis=1)


def members_of(masks: Ints, n_members: int, k: int) -> Ints:
    """Members of masks that all have `k`: int64, shape (q, k).

    Examples
    --------
    >>> members_of(np.array([0b101, 0b110]), 3, 2).tolist()
    [[0, 2], [0, 1]]
    """
    bits = masks[:, None] >> np.arange(n_members - 1, -1, -1) & 1
    return np.nonzero(bits)[1].reshape(len(masks), k)
