"""What no division of rows can be made of, said in one line each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import RunError
from features.splits.folds import Codes, Positions


def coded(values: NDArray[Any]) -> Positions:
    """Which of the sorted values each one is."""
    return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)


def refuse_unknown(
    rows: pd.DataFrame, codes: Codes, positions: Positions, column: str, where: str
) -> None:
    """Refuse rows whose code is below 0: they belong to no group.

    Parameters
    ----------
    rows : DataFrame
        `corpus` and `utterance` name what is refused.
    codes : int, shape (n,)
        Of the group of each row.
    positions : int64, shape (n_positions,)
        The rows that are divided.
    column, where : str
        What the groups are, and what the split is called.

    Raises
    ------
    RunError
    """
    unknown = positions[codes[positions] < 0]
    if len(unknown):
        first = rows.iloc[unknown[:3]]
        some = ", ".join(first["corpus"] + "/" + first["utterance"])
        raise RunError(
            f"{where}: the {column} of {len(unknown)} of {len(positions)} utterances is unknown "
            f"({some}{', ...' if len(unknown) > 3 else ''}); choose a split that needs none"
        )


def refuse_empty(where: str, corpus: str, sizes: NDArray[np.signedinteger[Any]]) -> None:
    """Refuse a fold without a row."""
    if not sizes.all():
        fold = int(np.argmin(sizes))
        raise RunError(f"{where}: {corpus}: fold {fold} is empty; ask for fewer folds")
