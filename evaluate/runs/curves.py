"""`curves.csv` of a network's run: what its fits lost and scored while they were trained.

Conventions
-----------
- A row is a point of the curve of one fit. `score` is on the inner rows of a search, by the
  recipe's `select`; what is fitted by a chosen cell has none, and ends at the epoch that was chosen
  for it.
- A curve is drawn against epochs where trainings last for epochs: what was fitted by a chosen cell
  ended at whole ones. Else they last for steps, and an epoch of more rows has more of them.
- `LearningCurve` sums up the cells that were chosen: the fits of their searches, and how long
  what was fitted by them went on. The search over all rows, which serves new audio, is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluate.runs.folders import ALL
from features.common.errors import RunError
from features.common.files import IrregularFileError, read_csv

COLUMNS = ("fit", "search", "cell", "inner", "step", "epoch", "loss", "score")
"""Title of the fit; the search that its cell is of, the cell's number in it (as `search.csv` has
it), and whether it is fitted to choose; steps made, the same in epochs; mean loss since the point
before; score."""
_BOOLS = ("True", "False")
_NUMBERS = ("cell", "step", "epoch", "loss", "score")
MOST_POINTS = 400
"""Places at which curves are compared, where fits have points at places of their own."""


@dataclass(frozen=True)
class LearningCurve:
    """Loss and score of the fits of chosen cells against how long they were trained.

    Attributes
    ----------
    unit : {"epoch", "step"}
    at : float64, shape (n,)
        In that unit, ascending; what half of the fits have reached.
    loss, score : float64, shape (2, n)
        Mean and deviation (with n) over the fits that go on to there. A score is NaN where no fit
        has one.
    n_fits : int
    kept : tuple of float
        After how many of the unit what was fitted by each choice ended, in the order of the file.
    """

    unit: str
    at: NDArray[np.float64]
    loss: NDArray[np.float64]
    score: NDArray[np.float64]
    n_fits: int
    kept: tuple[float, ...]

    @property
    def median_kept(self) -> float:
        """The median of `kept`."""
        return float(np.median(self.kept))


def read_curve(path: Path) -> LearningCurve | None:
    """Read the curves of a run and sum up those of the chosen cells.

    Parameters
    ----------
    path : Path

    Returns
    -------
    LearningCurve or None
        None where the file does not say which search a fit is of, as files of early versions.

    Raises
    ------
    RunError
        It is missing, or is not as it was written.
    """
    try:
        table = read_csv(path)
        if "search" not in table.columns:
            return None
        if missing := [name for name in COLUMNS if name not in table.columns]:
            raise ValueError(f"no column {', '.join(missing)}")
        for name in _NUMBERS:
            cells = table[name].to_numpy(dtype=object)
            table[name] = np.array([float(cell) if cell else np.nan for cell in cells], float)
        return _summary(table)
    except FileNotFoundError:
        raise RunError(f"{path}: missing from a finished run; run make train again") from None
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: not readable as learning curves: {error}; train anew") from None


def _summary(table: pd.DataFrame) -> LearningCurve:
    """The chosen cells of all searches but that over all rows, where there is another."""
    if (table["search"] != ALL).any():
        table = table[table["search"] != ALL]
    fits = [rows for _, rows in table.groupby("fit", sort=False)]
    inner, refits = ([rows for rows in fits if rows["inner"].iloc[0] == is_] for is_ in _BOOLS)
    chosen = {(rows["search"].iloc[0], rows["cell"].iloc[0]) for rows in refits}
    curves = [rows for rows in inner if (rows["search"].iloc[0], rows["cell"].iloc[0]) in chosen]
    if not curves:
        raise ValueError("no fit of a chosen cell")
    ends = np.array([rows["epoch"].max() for rows in refits])
    unit = "epoch" if np.allclose(ends, np.round(ends), rtol=0, atol=1e-6) else "step"
    at = _places(curves, unit)
    loss, score = (
        _mean_and_deviation([_value(rows, unit, name, at) for rows in curves])
        for name in ("loss", "score")
    )
    kept = tuple(float(rows[unit].max()) for rows in refits)
    return LearningCurve(unit, at, loss, score, len(curves), kept)


def _places(curves: Sequence[pd.DataFrame], unit: str) -> NDArray[np.float64]:
    """Where the curves are compared: at their own points, as long as half of them go on."""
    ends = sorted((rows[unit].max() for rows in curves), reverse=True)
    last = ends[(len(ends) - 1) // 2]
    found = np.unique(np.concatenate([rows[unit].to_numpy() for rows in curves]))
    found = found[found <= last]
    if len(found) > MOST_POINTS:
        found = np.linspace(found[0], found[-1], MOST_POINTS)
    return np.asarray(found, dtype=np.float64)


def _value(
    rows: pd.DataFrame, unit: str, name: str, at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A column of a curve: on the line between its points, NaN before and behind."""
    rows = rows[rows[name].notna()]
    found = np.interp(at, rows[unit], rows[name], left=np.nan, right=np.nan)
    return np.asarray(found, dtype=np.float64)


def _mean_and_deviation(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Over the fits that have a value, shape (2, n); NaN where none has."""
    stack = np.stack(values)
    there = np.isfinite(stack)
    n = np.where(there.any(0), there.sum(0), np.nan)
    mean = np.where(there, stack, 0).sum(0) / n
    spread = np.sqrt((np.where(there, stack - mean, 0) ** 2).sum(0) / n)
    return np.stack([mean, spread])
