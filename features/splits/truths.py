"""What the truths of a problem allow: rows that nothing can be fitted on or scored by, and why.

Conventions
-----------
- `names` are the targets of a regression (`y` is float64 of shape (n, n_targets), NaN where masked)
  or the ordered label list (`y` is text of shape (n,), empty where masked).
- A row counts as known where it has a truth for every target: what lacks one is fitted for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RunError
from features.common.findings import some
from features.common.words import counted
from features.splits.folds import Fold, Positions


def check_fold(y: NDArray[Any], names: Sequence[str], train: Positions, where: str) -> None:
    """Refuse training rows that no head can be fitted on.

    Parameters
    ----------
    y : str, shape (n,), or float64, shape (n, n_targets)
    names : sequence of str
        Classes or targets.
    train : int64, shape (n_train,)
        Positions of the rows to fit on.
    where : str
        What errors call the fold.

    Raises
    ------
    RunError
        No row, or of a classification rows of a single class.
    """
    if not len(train):
        raise RunError(f"{where}: no row to fit on has a truth{_lacking(y, names)}")
    if y.ndim == 1 and (y[train] == y[train[0]]).all():
        raise RunError(
            f"{where}: all {len(train)} rows to fit on are '{y[train[0]]}', a head needs two "
            f"classes; choose another [split]"
        )


def _lacking(y: NDArray[Any], names: Sequence[str]) -> str:
    """Name the targets that no row at all has, or that leave no row with all of them."""
    if y.ndim == 1:
        return ""
    masked = np.isnan(y)
    counts = zip(names, masked.sum(axis=0).tolist(), strict=True)
    lacking = ", ".join(f"{name} {n}" for name, n in counts if n)
    empty = [name for name, none in zip(names, masked.all(axis=0), strict=True) if none]
    if empty:
        return f" (in no row of the tables is there one of {', '.join(empty)}: leave it out)"
    if masked.any(axis=1).all() and lacking:
        return (
            f": no row has a truth of all targets; lacking of {counted(len(y), 'row')}: {lacking}; "
            "leave targets out, or give each a recipe of its own"
        )
    if lacking:
        whole = counted(int((~masked.any(axis=1)).sum()), "row has", "rows have")
        return (
            f" of all targets; of {counted(len(y), 'row')} in all {whole} one, lacking: {lacking}; "
            "leave targets out, or choose another [split]"
        )
    return ""


def constant(name: str, values: NDArray[np.float64]) -> str:
    """Say that the truths of a target, NaN where masked, do not vary; empty where they do.

    Parameters
    ----------
    name : str
        Of the target.
    values : float64, shape (n,)

    Returns
    -------
    str
    """
    known = values[~np.isnan(values)]
    if not len(known) or (known != known[0]).any():
        return ""
    return (
        f"{name} is {known[0]:g} in all {counted(len(known), 'row')} with a truth: "
        "nothing can be learned of it"
    )


def why_undefined(
    y: NDArray[Any],
    names: Sequence[str],
    folds: Sequence[tuple[str, Positions, Positions]],
    undefined: NDArray[np.bool_],
) -> str:
    """Say why scores of a regression are undefined: which target is constant, and where.

    Parameters
    ----------
    folds : sequence of (str, int64, int64)
        What an inner fold is called, the rows fitted on, the rows scored.
    undefined : bool, shape (n_folds, n_targets)

    Returns
    -------
    str
        A target a clause; empty where no truth is constant.
    """
    clauses = []
    for i, name in enumerate(names):
        found = next(
            (
                f"{name} is {y[rows[0], i]:g} in {what} of {where}"
                for (where, train, test), bad in zip(folds, undefined[:, i], strict=True)
                if bad
                for rows, what in ((test, f"all {counted(len(test), 'row')} that score the cells"),
                                   (train, f"all {counted(len(train), 'row')} to fit on"))
                if (y[rows, i] == y[rows[0], i]).all()
            ),
            "",
        )  # fmt: skip
        clauses += [found] if found else []
    return "; ".join(clauses)


def refuse_infinite(y: NDArray[Any], names: Sequence[str], rows: pd.DataFrame) -> None:
    """Refuse truths that are infinite: no head can be fitted to them, no score is one.

    Parameters
    ----------
    y : str, shape (n,), or float64, shape (n, n_targets)
    names : sequence of str
        Classes or targets.
    rows : DataFrame
        `corpus` and `utterance` of each row of `y`.

    Raises
    ------
    RunError
        Naming the targets and the first rows.
    """
    if y.ndim == 1 or not np.isinf(y).any():
        return
    bad = np.isinf(y)
    first = rows.iloc[np.flatnonzero(bad.any(axis=1))]
    named = some((first["corpus"] + "/" + first["utterance"]).tolist(), 3)
    targets = ", ".join(name for name, n in zip(names, bad.sum(axis=0), strict=True) if n)
    raise RunError(
        f"{targets}: the truth of {counted(len(first), 'row')} is infinite ({named}); a truth is a "
        "finite number, or empty where there is none"
    )


def notes(
    y: NDArray[Any],
    names: Sequence[str],
    rows: pd.DataFrame,
    known: NDArray[np.bool_],
    folds: Sequence[Fold],
) -> list[str]:
    """Say which rows are left out for one of their targets, and which truths do not vary.

    Parameters
    ----------
    y : str, shape (n,), or float64, shape (n, n_targets)
    names : sequence of str
        Classes or targets.
    rows : DataFrame
        `corpus` and `utterance` of each row of `y`.
    known : bool, shape (n,)
    folds : sequence of Fold
        The outer folds.

    Returns
    -------
    list of str
        A line a subject, for the notes of a run.
    """
    if y.ndim == 1:
        absent = [name for name in names if not (y == name).any()]
        return [f"no row at all is of {some(absent)}: never predicted"] if absent else []
    lines = []
    masked = np.isnan(y)
    partial = np.flatnonzero(masked.any(axis=1) & ~masked.all(axis=1))
    if len(partial):
        first = rows.iloc[partial[:3]]
        named = (first["corpus"] + "/" + first["utterance"]).tolist()
        more = f" and {len(partial) - 3} more" if len(partial) > 3 else ""
        counts = masked[partial].sum(axis=0)
        lack = ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True) if n)
        have = counted(len(partial), "row has", "rows have")
        lines.append(
            f"{have} a truth for some targets only; not fitted ({', '.join(named)}{more}; lacking: "
            f"{lack})"
        )
    for i, name in enumerate(names):
        flat_everywhere = constant(name, y[known, i])
        if flat_everywhere:
            lines.append(flat_everywhere)
            continue
        flat = [fold.name for fold in folds if _constant(y[fold.train, i])]
        if flat:
            lines.append(
                f"{name} does not vary in the rows to fit on of {len(flat)} of {len(folds)} folds "
                f"(first {flat[0] or 'the one'})"
            )
    return lines


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(len(values) and (values == values[0]).all())
