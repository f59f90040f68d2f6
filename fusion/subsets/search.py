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
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from evaluate.metrics import metrics
from features.common.errors import RunError
from fusion.combine import METHODS, mean, mean_probability

ADDITIVE = ("mean", "logit-sum", "vote")
"""Methods of classes whose winner is that of a sum over the members."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Subset = tuple[int, ...]

TIES_KEPT = 20
"""Of the subsets that are equally good, so many are named; all are counted."""
NEAR = 1e-9
"""More than the rounding of a float64 score, less than a difference that anybody would report."""

_TAIL, _TABLE_BYTES = 10, 1 << 27
"""Most members of a tail, and most bytes of its table."""
_HEADS, _BLOCK = 64, 1 << 13
"""Most heads and subsets of a block: a few hundredths of a second, so that a stop is soon."""
_TILE_BYTES = 1 << 19
"""Of the table, what is added to a head at one stroke: half of a core's cache."""
_SORTED, _PIECE = 1 << 24, 1 << 17
"""Values that are sorted at most in a block, and those that are sorted together."""
_BINNED, _BINNED_ROWS = 1 << 27, 1 << 20
"""Where all subsets have more values, bins spare more time than it takes to compile them; of more
rows the numbers of a bin would not fit."""
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Block:
    """Subsets of one size that are scored together.

    Attributes
    ----------
    heads : int64, shape (n_heads, head_size)
        Members of the head, each row rising, rows in lexicographic order.
    tails : slice
        Positions in the table of the tail: all its subsets of one size.
    """

    heads: Ints
    tails: slice


class Problem(ABC):
    """Predictions of several models for rows with a truth, and how they are combined.

    Attributes
    ----------
    n_members : int
    metrics : tuple of str
        Keys of `evaluate.metrics.metrics`.
    parts : Parts
        Members in a head and a tail.
    """

    n_members: int
    metrics: tuple[str, ...]
    parts: Parts

    @abstractmethod
    def screen(self, block: Block, known: Mapping[str, float]) -> dict[str, Floats]:
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
            metric: [repr(one.key), one.value, one.count, [str(mask) for mask in one.masks]]
            for metric, one in self.best.items()
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
    problem: Problem,
    k: int,
    state: State | None = None,
    *,
    jobs: int = -1,
    done: Callable[[State, int], None] | None = None,
) -> State:
    """Score all subsets of `k` members.

    Parameters
    ----------
    problem : Problem
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
    known = {metric: one.value for metric, one in current.best.items()}
    threads = joblib.effective_n_jobs(jobs)
    waiting: deque[tuple[int, Future[dict[str, Best]]]] = deque()

    def collect() -> None:
        nonlocal current
        n_subsets, future = waiting.popleft()
        found = future.result()
        best = {metric: one.merged(found[metric]) for metric, one in current.best.items()}
        current = State(current.n_blocks + 1, current.n_subsets + n_subsets, best)
        known.update({metric: one.value for metric, one in best.items()})
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


def _best_of(problem: Problem, k: int, block: Block, known: Mapping[str, float]) -> dict[str, Best]:
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
                top, float(values[tied[0]]), len(tied), tuple(int(one) for one in kept)
            )
    return result


@dataclass(frozen=True)
class Step:
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


def greedy(problem: Problem, metric: str, n_steps: int, *, replacement: bool) -> list[Step]:
    """Forward selection: the member that gives the best score is added, step by step.

    Parameters
    ----------
    problem : Problem
    metric : str
    n_steps : int
        Size of the last subset.
    replacement : bool
        Whether a member may be added again, which gives it more weight.

    Returns
    -------
    list of Step
        One a size, from 1; shorter where no further step has a score.
    """
    path: list[Step] = []
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
        path.append(Step(current, keys[best], float(values[best])))
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


def _combinations(n: int, k: int) -> Ints:
    flat = itertools.chain.from_iterable(itertools.combinations(range(n), k))
    return np.fromiter(flat, np.int64).reshape(math.comb(n, k), k)


class Parts:
    """Members in a head and a tail, and the subsets of the tail in order of their size.

    Parameters
    ----------
    n_members : int
    bytes_of_one : int
        What the table takes for one subset of the tail.
    block : int
        Most subsets of a block, where the tail has no more.

    Attributes
    ----------
    head, tail : int
        How many members; the head's come first.
    tails : list of tuple
        Subsets of the tail's members, counted from 0.
    """

    def __init__(self, n_members: int, bytes_of_one: int, block: int = _BLOCK) -> None:
        self.n_members, self.block = n_members, block
        self.tail = min(n_members, _TAIL)
        while self.tail > 1 and bytes_of_one << self.tail > _TABLE_BYTES:
            self.tail -= 1
        self.head = n_members - self.tail
        sizes = [list(itertools.combinations(range(self.tail), s)) for s in range(self.tail + 1)]
        self.starts = np.cumsum([0, *map(len, sizes)])
        self.tails = [one for size in sizes for one in size]
        self.position = {one: i for i, one in enumerate(self.tails)}
        self.tail_masks = np.array([sum(1 << self.tail - 1 - i for i in t) for t in self.tails])

    def blocks(self, k: int) -> Iterator[Block]:
        """All subsets of `k` members."""
        for size in range(max(0, k - self.tail), min(k, self.head) + 1):
            tails = slice(int(self.starts[k - size]), int(self.starts[k - size + 1]))
            n_heads = max(1, min(_HEADS, self.block // (tails.stop - tails.start)))
            heads = _combinations(self.head, size)
            for start in range(0, len(heads), n_heads):
                yield Block(heads[start : start + n_heads], tails)

    def masks(self, block: Block) -> Ints:
        """The subsets of a block, shape (n_heads, n_tails)."""
        bits = np.int64(1) << (self.n_members - 1 - block.heads)
        return bits.sum(axis=1, dtype=np.int64)[:, None] + self.tail_masks[block.tails]

    def table(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums of all subsets of the tail: shape (..., n_members, n) -> (..., n_tails, n)."""
        last = values[..., self.head :, :]
        table = np.zeros((*values.shape[:-2], len(self.tails), values.shape[-1]), values.dtype)
        for i, one in enumerate(self.tails[1:], 1):
            rest = self.position[one[:-1]]
            np.add(table[..., rest, :], last[..., one[-1], :], out=table[..., i, :])
        return table

    def head_sums(self, values: NDArray[Any], heads: Ints, start: int = 0) -> NDArray[Any]:
        """Sums of the heads on top of `start`: (..., n_members, n) -> (..., n_heads, n).

        Heads that follow each other share their first members, and the sum of these.
        """
        *outer, _, n = values.shape
        sums = np.empty((*outer, len(heads), n), values.dtype)
        partial = np.full((heads.shape[1] + 1, *outer, n), start, values.dtype)
        previous: Sequence[int] = [-1] * heads.shape[1]
        for h, one in enumerate(heads.tolist()):
            same = next((i for i, j in enumerate(one) if previous[i] != j), len(one))
            for i in range(same, len(one)):
                np.add(partial[i], values[..., one[i], :], out=partial[i + 1])
            sums[..., h, :] = partial[-1]
            previous = one
        return sums


# -- classes ---------------------------------------------------------------------------------


class Classes(Problem):
    """Class scores of several models, combined by one method.

    Parameters
    ----------
    truth : int64, shape (n,)
        Positions in the label list; rows without a truth are left out by the caller.
    scores : float64, shape (n_members, n, n_labels)
        NaN where the fold of a row lacked a class, in which members agree.
    method : str
        Of `ADDITIVE`.
    metrics : sequence of str
        Of `uar` and `wa`.

    Raises
    ------
    RunError
        Where members lack different classes.
    """

    def __init__(self, truth: Ints, scores: Floats, method: str, metrics: Sequence[str]) -> None:
        self.n_members, _, self.n_labels = scores.shape
        self.metrics = tuple(metrics)
        self.truth, self.values, self.method = truth, scores, method
        # Half a unit a member that rounding takes, and as much that float64 may lose in its sums.
        self.slack = 2 * self.n_members + 2
        self.support = np.bincount(truth, minlength=self.n_labels)
        self._present = np.flatnonzero(self.support)
        rows = [truth == label for label in self._present]
        margins = _margins(truth, scores, method, self.slack, _LARGEST)
        self._margins = [margins[:, :, one] for one in rows]
        self._fields = _Fields(2 if method == "vote" else 3, self.slack)
        margins = _margins(truth, scores, method, self.slack, self._fields.largest)
        self._packed = [self._fields.packed(margins[:, :, one]) for one in rows]
        size = sum(one[:, 0].nbytes for one in self._packed)
        self.parts = Parts(self.n_members, size)
        self._tables = [self.parts.table(one) for one in self._packed]
        whole = math.lcm(*(int(n) for n in self.support[self._present]))
        # In units of 1 / whole, recalls are whole numbers.
        self._units = {
            "uar": [whole // int(n) for n in self.support[self._present]],
            "wa": [1] * len(self._present),
        }

    def screen(self, block: Block, known: Mapping[str, float]) -> dict[str, Floats]:
        """Bounds from above of every metric: shape (n_heads, n_tails)."""
        right = np.zeros(
            (len(self._present), len(block.heads), block.tails.stop - block.tails.start), np.int64
        )
        for c, (packed, table) in enumerate(zip(self._packed, self._tables, strict=True)):
            sums = self.parts.head_sums(packed, block.heads, self._fields.start)
            _count(sums, table[:, block.tails], self._fields.signs, right[c])
        return {
            metric: np.tensordot(self._weights(metric), right, axes=1) for metric in self.metrics
        }

    def _weights(self, metric: str) -> Floats:
        if metric == "wa":
            return np.full(len(self._present), 1 / self.support.sum())
        return 1 / self.support[self._present] / len(self._present)

    def exact(self, subsets: Ints, metric: str) -> tuple[list[int], Floats]:
        """Whole numbers that order subsets of one size, and their scores."""
        right = self.right(subsets)
        units = np.array(self._units[metric], dtype=object)
        keys = (right.astype(object) * units).sum(axis=1).tolist()
        # A confusion matrix with as many right ones has the same scores, wherever the wrong are.
        matrices = np.zeros((len(right), self.n_labels, self.n_labels), np.int64)
        wrong = self.support[self._present] - right
        matrices[:, self._present, self._present] = right
        matrices[:, self._present, (self._present + 1) % self.n_labels] += wrong
        return keys, metrics.scores_of(matrices)[metric]

    def right(self, subsets: Ints) -> Ints:
        """Right rows of each class that occurs, exactly: shape (q, k) -> (q, n_present)."""
        result = np.empty((len(subsets), len(self._present)), np.int64)
        step = max(1, _TABLE_BYTES // 64 // len(self.truth) // self.n_labels)
        for start in range(0, len(subsets), step):
            some = subsets[start : start + step]
            upper, lower = result[start : start + step], np.empty((len(some), len(self._present)))
            for c, margins in enumerate(self._margins):
                sums = np.zeros((len(margins), len(some), margins.shape[-1]), np.int32)
                for members in some.T:
                    sums += margins[:, members]
                least = sums.min(axis=0)
                upper[:, c] = (least >= -self.slack).sum(axis=1)
                lower[:, c] = (least > self.slack).sum(axis=1)
            for i in np.flatnonzero((upper != lower).any(axis=1)):
                chosen = np.nanargmax(self.combined(some[i]), axis=1)
                counts = np.bincount(self.truth[chosen == self.truth], minlength=self.n_labels)
                upper[i] = counts[self._present]
        return result

    def scores(self, subsets: Ints, metric: str) -> Floats:
        """Scores of subsets of one size, shape (q, k)."""
        return self.exact(subsets, metric)[1]

    def combined(self, subset: Sequence[int]) -> Floats:
        """Combined class scores, float64, shape (n, n_labels)."""
        return METHODS[self.method](self.values[np.asarray(subset)])


def _margins(
    truth: Ints, scores: Floats, method: str, slack: int, largest: int
) -> NDArray[np.int32]:
    """Margins of the true class over each other one, rounded.

    Sums of them over any subset stay within `largest`, even with `slack` more; they are above
    `slack` only where the true class wins, and below `-slack` only where it does not.

    Returns
    -------
    int32, shape (n_labels - 1, n_members, n)
    """
    n_members, n, n_labels = scores.shape
    absent = np.isnan(scores)
    if (absent != absent[0]).any():
        row = int(np.argwhere((absent != absent[0]).any(axis=(0, 2)))[0, 0])
        raise RunError(
            f"members lack the scores of different classes, first in row {row + 1} of those with a "
            f"truth; train them anew on the same rows"
        )
    values = scores
    if method == "mean":
        values = np.stack([mean_probability(one[None]) for one in scores])
    others = np.array([[c for c in range(n_labels) if c != t] for t in range(n_labels)])[truth]
    rows = np.arange(n)
    margin = values[:, rows, truth][:, :, None] - values[:, rows[:, None], others]
    # Against scores that are 2**20 times as large, what float64 loses in their sums would show.
    size = np.nanmax(np.abs(values), axis=(0, 2)) * 2.0**-20
    size = np.fmax(size, np.nanmax(np.abs(np.nan_to_num(margin)), axis=(0, 2)))
    if method == "vote":
        unit = (largest - (2 * n_members + 1) * slack) // (n_members * (n_members + 1))
    else:
        unit = (largest - slack) // n_members
    scaled = np.rint(np.nan_to_num(margin / np.where(size > 0, size, 1)[None, :, None]) * unit)
    if method == "vote":
        vote = np.nanargmax(scores, axis=2)[:, :, None]
        ahead = (vote == truth[:, None]).astype(np.int64) - (vote == others)
        scaled += ahead * (n_members * unit + 2 * slack)
    scaled = np.where(absent[:, rows[:, None], others], unit, scaled)
    scaled[:, absent[0, rows, truth]] = -unit
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)).astype(np.int32)


class _Fields:
    """Margins side by side in one int64, added at one stroke; they never reach into each other.

    Parameters
    ----------
    n_fields : int
        How many in one number.
    slack : int
        How far below 0 a sum of margins still counts as right.

    Attributes
    ----------
    largest : int
        What sums of margins, with the slack, stay within.
    start : int
        What a sum of packed margins starts from: then the highest bit of a field is set where its
        margin is at least `-slack`.
    signs : int
        These bits.
    """

    def __init__(self, n_fields: int, slack: int) -> None:
        self.n_fields, self.bits = n_fields, 63 // n_fields
        self.largest = 2 ** (self.bits - 1) - 1
        ones = sum(1 << self.bits * i for i in range(n_fields))
        self.signs = ones << self.bits - 1
        self.start = self.signs + ones * slack

    def packed(self, margins: NDArray[np.int32]) -> Ints:
        """Shape (n_labels - 1, n_members, n) -> (n_words, n_members, n), n a multiple of 64.

        Rows that are added are never right.
        """
        n_others, n_members, n = margins.shape
        # The last margin stands as often as there are fields left.
        fields = np.pad(margins, ((0, -n_others % self.n_fields), (0, 0), (0, 0)), mode="edge")
        never = -(self.largest // (2 * n_members))
        fields = np.pad(fields, ((0, 0), (0, 0), (0, -n % 64)), constant_values=never)
        words = fields.astype(np.int64).reshape(-1, self.n_fields, *fields.shape[1:])
        shifts = self.bits * np.arange(self.n_fields)
        return (words << shifts[:, None, None]).sum(axis=1)


def _count(heads: Ints, tails: Ints, signs: int, right: Ints) -> None:
    """Count the rows in which all margins have their sign bits, for each head with each tail.

    Parameters
    ----------
    heads : int64, shape (n_words, n_heads, n)
    tails : int64, shape (n_words, n_tails, n)
    signs : int
    right : int64, shape (n_heads, n_tails)
        Filled.
    """
    n_words, n_tails, n = tails.shape
    tile = max(1, min(n_tails, _TILE_BYTES // (8 * n * n_words)))
    margin, other = np.empty((2, tile, n), np.int64)
    wins = np.empty((tile, n), np.bool_)
    bits = np.empty((heads.shape[1], tile, n // 8), np.uint8)
    for start in range(0, n_tails, tile):
        part = tails[:, start : start + tile]
        m = part.shape[1]
        a, b, w = margin[:m], other[:m], wins[:m]
        for h in range(heads.shape[1]):
            np.add(part[0], heads[0, h], out=a)
            for i in range(1, n_words):
                np.add(part[i], heads[i, h], out=b)
                np.bitwise_and(a, b, out=a)
            np.bitwise_and(a, signs, out=a)
            np.equal(a, signs, out=w)
            bits[h, :m] = np.packbits(w, axis=1)
        words = np.bitwise_count(bits[:, :m].view(np.uint64))
        right[:, start : start + m] = words.sum(axis=2, dtype=np.int64)


# -- shares ----------------------------------------------------------------------------------


class Shares(Problem):
    """Regression values of several models, combined by their mean; Spearman's rho.

    Not additive: every subset has ranks of its own. In a large search those of bins bound rho from
    above (`fusion.subsets.rank_bins`), and only what can reach the best is sorted. A sum carries
    the rank of the truth in its last bits, so that one sort of whole numbers gives all that rho
    needs. Where two sums are so near that rounding could change their order, or equal, rho is
    computed from the values themselves.

    Parameters
    ----------
    truth : float64, shape (n, n_targets)
        NaN where masked; such a row is left out for that target.
    values : float64, shape (n_members, n, n_targets)
    binned : bool, optional
        Whether bins are used; by default where they are worth their compiling.
    """

    def __init__(self, truth: Floats, values: Floats, *, binned: bool | None = None) -> None:
        self.metrics = ("spearman",)
        self.n_members = len(values)
        self.truth, self.values = truth, values
        scored = np.flatnonzero(~np.isnan(truth).all(axis=0))
        self._targets = [_Target(truth[:, t], values[:, :, t]) for t in scored]
        size = sum(len(one.ranks) for one in self._targets)
        self.parts = Parts(self.n_members, 8 * size, max(1, min(_BLOCK, _SORTED // size)))
        worth = len(truth) <= _BINNED_ROWS and size << self.n_members > _BINNED
        self.binned = worth if binned is None else binned
        self._tables = [self.parts.table(one.units) for one in self._targets if self.binned]

    def screen(self, block: Block, known: Mapping[str, float]) -> dict[str, Floats]:
        """Bounds from above of the mean rho over targets: shape (n_heads, n_tails)."""
        masks = self.parts.masks(block)
        size = block.heads.shape[1] + len(self.parts.tails[block.tails.start])
        subsets = members_of(masks.ravel(), self.n_members, size)
        if self.binned:
            upper = self._bounds(block).ravel()
            self._tighten(upper, subsets, known["spearman"])
        else:
            upper = self.scores(subsets, "spearman")
        return {"spearman": upper.reshape(masks.shape)}

    def _bounds(self, block: Block) -> Floats:
        """Bounds by the ranks of bins: shape (n_heads, n_tails)."""
        from fusion.subsets.rank_bins import rho_bounds  # compiles: not for small searches

        bounds = [
            rho_bounds(one.units, block.heads, table[block.tails], one.ranks, one.slack << one.bits)
            for one, table in zip(self._targets, self._tables, strict=True)
        ]
        return np.mean(bounds, axis=0)

    def _tighten(self, upper: Floats, subsets: Ints, known: float) -> None:
        """Put scores for bounds, from the largest, until none can reach the best score."""
        floor = np.fmax(known, -np.inf)
        left, step = np.argsort(-upper), 1
        while len(some := left[:step][upper[left[:step]] >= floor - NEAR]):
            upper[some] = self.scores(subsets[some], "spearman")
            floor = np.fmax.reduce(upper[some], initial=floor)
            left, step = left[step:], 2 * step

    def scores(self, subsets: Ints, metric: str) -> Floats:
        """Scores of subsets of one size, shape (q, k), within `NEAR`."""
        total = np.zeros(len(subsets))
        for target in self._targets:
            step = max(1, _PIECE // len(target.ranks))
            for start in range(0, len(subsets), step):
                some = subsets[start : start + step]
                sums = target.units[some[:, 0]]
                for members in some.T[1:]:
                    sums += target.units[members]
                total[start : start + step] += target.rho(sums, some)
        return total / len(self._targets)

    def exact(self, subsets: Ints, metric: str) -> tuple[list[float], Floats]:
        """Scores of subsets of one size, shape (q, k), as `evaluate.metrics.metrics` gives them."""
        values = np.array([np.mean([t.exact(one) for t in self._targets]) for one in subsets])
        return values.tolist(), values

    def combined(self, subset: Sequence[int]) -> Floats:
        """Mean of the values, float64, shape (n, n_targets)."""
        return mean(self.values[np.asarray(subset)])


class _Target:
    """One target: its rows with a truth, in whole numbers that leave room for a rank.

    Attributes
    ----------
    ranks : int64, shape (n,)
        Twice the average rank of the truth.
    units : int64, shape (n_members, n)
        Values in steps so small that sums of all members fill an int64, moved left by the bits
        that a rank takes.
    """

    def __init__(self, truth: Floats, values: Floats) -> None:
        known = ~np.isnan(truth)
        self.truth, self.values = truth[known], values[:, known]
        n_members, n = self.values.shape
        self.ranks = np.rint(2 * metrics.average_ranks(self.truth)).astype(np.int64)
        self.bits = int(2 * n).bit_length()
        low, high = float(self.values.min()), float(self.values.max())
        width = (high - low) or 1.0
        steps = 2 ** (62 - self.bits) // n_members
        units = np.rint((self.values - low) / width * steps).astype(np.int64)
        self.units = units << self.bits
        # Two sums are off by half a step a member each, and by what float64 loses: three roundings
        # a member here, those of the partial sums of a mean and of its division there.
        largest = max(abs(low), abs(high)) / width * steps
        lost = n_members * (n_members + 14) * 2.0**-53 * largest
        self.slack = n_members + 1 + math.ceil(lost)
        centred = self.ranks / 2 - (n + 1) / 2
        self.size = math.sqrt(n * (n * n - 1) / 12 * float(centred @ centred))

    def rho(self, sums: Ints, subsets: Ints) -> Floats:
        """Spearman's rho of sums of units, shape (q, n), that belong to subsets, shape (q, k).

        The sums are changed.
        """
        n = len(self.ranks)
        sums += self.ranks
        sums.sort(axis=1)
        products = (sums & ((1 << self.bits) - 1)) @ np.arange(1, n + 1)
        sums >>= self.bits
        near = (np.diff(sums, axis=1) <= self.slack).any(axis=1)
        if self.size == 0:
            return np.full(len(sums), np.nan)
        rho = (products / 2 - n * (n + 1) * (n + 1) / 4) / self.size
        rho[near] = [self.exact(one) for one in subsets[near]]
        return rho

    def exact(self, subset: Sequence[int]) -> float:
        """Spearman's rho of a subset, as `evaluate.metrics.metrics` gives it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", metrics.ScoreWarning)
            prediction = mean(self.values[np.asarray(subset)][:, :, None])[:, 0]
            return metrics.spearman(self.truth, prediction)
