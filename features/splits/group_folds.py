"""Whole groups (speakers, sessions, sentences) given to folds, from counts alone.

Conventions
-----------
- `member` is the group of each row, 0..n_groups-1, in the order of the groups' names; `stratum` is
  the class of each row, 0..n_strata-1, in the order of the labels. Each occurs.
- What is given is the fold of each group: int64, shape (n_groups,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.splits.folds import Positions

# numpy.isclose's tolerances, which scikit-learn compares with.
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8


def dense(codes: NDArray[np.signedinteger]) -> tuple[Positions, Positions]:
    """The codes that occur, ascending, and which of them each entry is.

    Examples
    --------
    >>> present, member = dense(np.array([7, 2, 7]))
    >>> present.tolist(), member.tolist()
    ([2, 7], [1, 0, 1])
    """
    there = np.bincount(codes) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]


def stratified_groups(stratum: Positions, member: Positions, k: int, seed: int) -> Positions:
    """Give each group to the fold that it leaves the most balanced, as scikit-learn does.

    The folds are those of `sklearn.model_selection.StratifiedGroupKFold(k, shuffle=True,
    random_state=seed)`, which looks at every row where counts are enough.

    Parameters
    ----------
    stratum : int64, shape (n,)
        The class of each row, 0 to n_strata - 1.
    member : int64, shape (n,)
        The group of each row, 0 to n_groups - 1.
    k : int
        Folds.
    seed : int
        Decides between equals.

    Returns
    -------
    int64, shape (n_groups,)
        The fold of each group, 0 to k - 1.

    Raises
    ------
    ValueError
        No class has as many rows as there are folds.
    """
    n_groups, total = int(member.max()) + 1, np.bincount(stratum)
    if (k > total).all():
        raise ValueError(
            f"n_splits={k} cannot be greater than the number of members in each class."
        )
    counts = np.bincount(member * len(total) + stratum, minlength=n_groups * len(total))
    of_group = counts.reshape(n_groups, len(total)).astype(np.float64)
    shuffled = np.arange(n_groups)
    np.random.RandomState(seed).shuffle(shuffled)  # noqa: NPY002
    of_group = of_group[shuffled]
    held = np.zeros((k, len(total)))
    sizes = np.zeros(k)
    fold = np.empty(n_groups, dtype=np.int64)
    each = np.eye(k)[:, :, None]
    # Reductions run over the axes of scikit-learn's arrays in their order: sums round as there.
    for group in np.argsort(-np.std(of_group, axis=1), kind="stable"):
        given = (held + each * of_group[group]) / total
        best = _least(_unevenness(given).tolist(), sizes.tolist())
        fold[shuffled[group]] = best
        held[best] += of_group[group]
        sizes[best] = held[best].sum()
    return fold


def _unevenness(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """`given.std(axis=1).mean(axis=1)`, bit for bit, without what these look at first."""
    n, n_strata = given.shape[1:]
    given -= np.add.reduce(given, axis=1, keepdims=True) / n
    given *= given
    return np.add.reduce(np.sqrt(np.add.reduce(given, axis=1) / n), axis=1) / n_strata


def _least(uneven: list[float], sizes: list[float]) -> int:
    """The fold with the least value; of those about as small the one with the fewest rows."""
    best, least, fewest = 0, np.inf, np.inf
    for i, (value, n) in enumerate(zip(uneven, sizes, strict=True)):
        near = abs(value - least) <= _ABSOLUTE + _RELATIVE * abs(least) < np.inf
        if value < least or (near and n < fewest):
            best, least, fewest = i, value, n
    return best


def even_groups(member: Positions, k: int, seed: int) -> Positions:
    """Shuffle groups, then give each, the largest first, to the smallest fold so far.

    Parameters
    ----------
    member : int64, shape (n,)
        The group of each row, 0 to n_groups - 1.
    k : int
        Folds.
    seed : int
        Of the order, and so of ties.

    Returns
    -------
    int64, shape (n_groups,)
        The fold of each group, 0 to k - 1.
    """
    counts = np.bincount(member)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes = np.zeros(k, dtype=np.int64)
    fold = np.empty(len(counts), dtype=np.int64)
    for group in order:
        fold[group] = np.argmin(sizes)
        sizes[fold[group]] += counts[group]
    return fold


def drawn_groups(stratum: Positions, member: Positions, k: int, seed: int) -> Positions:
    """Give each group, in an order that is drawn, to the fold that it leaves the most balanced.

    That is where the shares that folds have of each stratum deviate least, on average over strata;
    of equals the fold with the fewest rows. With k groups or more no fold is empty.

    Parameters
    ----------
    stratum : int64, shape (n,)
        The class of each row, 0 to n_strata - 1.
    member : int64, shape (n,)
        The group of each row, 0 to n_groups - 1.
    k : int
        Folds.
    seed : int
        Of the order.

    Returns
    -------
    int64, shape (n_groups,)
        The fold of each group, 0 to k - 1.
    """
    sizes = np.bincount(member)
    shares = np.zeros((len(sizes), stratum.max() + 1))
    np.add.at(shares, (member, stratum), 1 / np.bincount(stratum)[stratum])
    held, rows = np.zeros((k, shares.shape[1])), np.zeros(k, dtype=np.int64)
    fold = np.empty(len(sizes), dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        given = held + np.eye(k)[:, :, None] * shares[group]
        uneven = given.std(axis=1).mean(axis=1).round(12)
        best = np.lexsort((rows, uneven))[0]
        fold[group] = best
        held[best] += shares[group]
        rows[best] += sizes[group]
    return fold
