"""How long a fit may take: a limit where scikit-learn sets none, and what is being fitted now.

Conventions
-----------
- scikit-learn's SVC and SVR iterate until they converge, on columns of very unequal size for days.
  Here they have a limit that no fit of the recipes comes near, unless the recipe gives `max_iter`:
  `[head.fixed] max_iter = -1` is without one. The other heads have limits of their own
  (`models.heads`, and scikit-learn's).
- The limit is set for the fit alone: heads, recipes and fingerprints do not know it. Predictions of
  a fit that converges do not depend on it.
- A fit that has stopped at a limit is used, counted and said.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.svm import SVC, SVR

from features.common.progress import duration

LEAST_ITERATIONS = 10_000_000
"""Of each two classes or target; that of libsvm's own `svm.cpp`, which scikit-learn takes out."""
ITERATIONS_A_ROW = 20_000
"""Of the recipes here the longest fit takes 3,400: 4.4 million (1,300 rows of TurEV-DB, egemaps,
C = 10). An iteration looks at every row."""
MOST_LOOKS = 10**12
"""Iterations times rows, about an hour; from 100,000 rows on the limit is libsvm's 100 a row."""
LIBSVM_A_ROW = 100
MOST_ITERATIONS = 2**31 - 1
LONG_S = 5.0
"""A fit that takes longer is named in the line of progress."""
HEADS = (SVC, SVR)
REACHED = (
    "stopped at the limit of iterations before the minimum; scale the columns ([head] scalers), "
    "lower C, or raise [head.fixed] max_iter"
)


def limit_of(n_rows: int) -> int:
    """Iterations that an SVC or SVR of so many rows may take.

    Examples
    --------
    >>> limit_of(80), limit_of(1_300), limit_of(50_000), limit_of(200_000)
    (10000000, 26000000, 20000000, 20000000)
    """
    generous = min(ITERATIONS_A_ROW * n_rows, MOST_LOOKS // max(n_rows, 1))
    return min(max(LEAST_ITERATIONS, generous, LIBSVM_A_ROW * n_rows), MOST_ITERATIONS)


@contextlib.contextmanager
def limited(head: Any, n_rows: int, default: bool = True) -> Iterator[None]:
    """Have a head without a limit fitted within the default one.

    Parameters
    ----------
    head : estimator
        Its `max_iter` is afterwards what it was.
    n_rows : int
    default : bool
        Whether the limit is not the recipe's own.

    Yields
    ------
    None
    """
    endless = default and isinstance(head, HEADS) and head.max_iter == -1
    if endless:
        head.set_params(max_iter=limit_of(n_rows))
    try:
        yield
    finally:
        if endless:
            head.set_params(max_iter=-1)


def reached(head: Any) -> bool:
    """Whether a fitted SVC or SVR has stopped at the limit that it has now."""
    if not isinstance(head, HEADS) or head.max_iter == -1:
        return False
    return bool(np.max(head.n_iter_) >= head.max_iter)


class UnderWay:
    """The fits that are under way, for the line of progress; used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._fits: dict[int, tuple[str, float]] = {}

    @contextlib.contextmanager
    def fitting(self, title: str) -> Iterator[None]:
        """Count a fit as under way while the body runs.

        Parameters
        ----------
        title : str
            What the fit is called where one is slow.

        Yields
        ------
        None
        """
        with self._lock:
            number = next(self._numbers)
            self._fits[number] = title, time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._fits[number]

    def text(self, least_s: float = LONG_S) -> str:
        """The fit that has been under way the longest; empty without one of `least_s` seconds.

        Examples
        --------
        >>> now = UnderWay()
        >>> with now.fitting("fold s0: none, C 1.0"), now.fitting("fold s1: none, C 1.0"):
        ...     now.text(), now.text(0)
        ('', 'fitting fold s0: none, C 1.0 for 0 s, and 1 more')
        """
        with self._lock:
            fits = list(self._fits.values())
        if not fits or (waited_s := time.monotonic() - fits[0][1]) < least_s:
            return ""
        more = f", and {len(fits) - 1} more" if len(fits) > 1 else ""
        return f"fitting {fits[0][0]} for {duration(waited_s)}{more}"
