"""Listeners' votes as shares of classes: `[head.training] shares`, read for the rows of a table.

Conventions
-----------
- A class has one column of numbers of the utterance tables, votes or shares alike: whoever fits
  divides each row by its sum over the classes that are fitted.
- A row that has no number in any of the columns, or 0 in all of them, has no votes and uses its
  label; so has every row of a corpus whose table lacks the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RecipeError, RunError, nearest
from features.common.findings import some
from features.common.words import counted
from features.utterances import TIMES


def read_shares(
    rows: pd.DataFrame, labels: Sequence[str], columns: Mapping[str, str], table: str = "head"
) -> NDArray[np.float64]:
    """The votes of rows, a column a class.

    Parameters
    ----------
    rows : DataFrame
        Of the utterance tables.
    labels : sequence of str
        The class list.
    columns : mapping
        Class -> its column.
    table : str
        What the head's table is called.

    Returns
    -------
    float64, shape (n_rows, n_labels)
        NaN throughout where a row has none.

    Raises
    ------
    RecipeError
        A class has no column, or a name is no class or no column of numbers; all are named.
    RunError
        A row has a number below 0 or an infinite one, or lacks some of its numbers.
    """
    known = [str(name) for name in rows.select_dtypes("float64") if name not in TIMES]
    faults = [
        f"'{label}' is no class ({', '.join(labels)}){nearest(label, labels)}"
        for label in columns
        if label not in labels
    ]
    lacking = [label for label in labels if label not in columns]
    if lacking:
        faults.append(f"no column of {', '.join(lacking)}; each class of the list needs one")
    faults += [
        f"{label} = '{name}': no column of numbers of the tables; they have "
        f"{', '.join(known) or 'none'}{nearest(name, known)}"
        for label, name in columns.items()
        if name not in known
    ]
    if faults:
        where = f"[{table}.training] shares: "
        raise RecipeError("\n  ".join(where + fault for fault in faults))
    found = rows[[columns[label] for label in labels]].to_numpy(dtype=np.float64)
    nothing = np.isnan(found).all(axis=1)
    odd = np.asarray(~nothing & (~np.isfinite(found) | (found < 0)).any(axis=1))
    if odd.any():
        named = [
            f"{row.corpus}/{row.utterance} ({', '.join(f'{value:g}' for value in values)})"
            for row, values in zip(rows[odd].itertuples(), found[odd], strict=True)
        ]
        raise RunError(
            f"[{table}.training] shares: {counted(len(named), 'row has', 'rows have')} no votes to "
            f"fit to, expected 0 or more in each of {', '.join(columns[name] for name in labels)}, "
            f"or nothing in any: {some(named)}"
        )
    return found


def votes_note(
    shares: NDArray[np.float64], known: NDArray[np.bool_], columns: Mapping[str, str]
) -> str:
    """How many rows are fitted to votes, and how many to their label.

    Parameters
    ----------
    shares : float64, shape (n_rows, n_labels)
    known : bool, shape (n_rows,)
        Rows with a label.
    columns : mapping
        Class -> its column.

    Returns
    -------
    str
    """
    voted = np.asarray((np.nan_to_num(shares[known]) > 0).any(axis=1))
    n = int(voted.sum())
    text = f"{counted(n, 'row has', 'rows have')} votes ({', '.join(columns.values())})"
    left = len(voted) - n
    return f"shares: {text}" + (
        f"; {counted(left, 'row has', 'rows have')} none and use their label" if left else ""
    )
