"""The failures file beside a store: what lacks features, and why.

A failure is one of an utterance's audio under a store's key: the columns `audio_hash` and `key` (a
hash) say which. Where either is another one, the utterance is tried again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from features.common.errors import StoreError
from features.common.files import read_csv, write_text

FAILURE_COLUMNS = ["corpus", "utterance", "path", "reason", "audio_hash", "key"]
NAMED = 5
"""Failures that are named on the terminal; the failures files name all."""


def failures_path(store: Path) -> Path:
    """Path of the failures file of a store."""
    return store.with_suffix(".failures.csv")


def read_failures(store: Path) -> pd.DataFrame:
    """The failures file beside a store; empty where there is none that can be read.

    Without it, what failed is tried again, and the file written anew.

    Parameters
    ----------
    store : Path
        The store's own file.

    Returns
    -------
    DataFrame
        Columns `FAILURE_COLUMNS`, all of str.
    """
    try:
        table = read_csv(failures_path(store))
        if "key" not in table:
            table["key"] = ""  # written before the keys were kept
        return table[FAILURE_COLUMNS]
    except (OSError, KeyError, ValueError):
        return pd.DataFrame({column: [] for column in FAILURE_COLUMNS})


def write_failures(
    store: Path, rows: Iterable[tuple[str, str, str, str, str]], key: str = ""
) -> None:
    """Write the failures file of a store, or remove it where nothing failed.

    Parameters
    ----------
    store : Path
    rows : iterable of (corpus, utterance, path, reason, audio hash)
    key : str
        Hash of the store's key (`features.stores.key.key_hash`); without it nothing is looked up
        later.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    table = pd.DataFrame([(*row, key) for row in rows], columns=FAILURE_COLUMNS)
    if table.empty:
        failures_path(store).unlink(missing_ok=True)
        return
    text = table.to_csv(index=False, lineterminator="\n")
    write_text(failures_path(store), text, StoreError)


def named_failures(stores: Iterable[Path]) -> list[str]:
    """The first failures of stores of one corpus in words, and how many more their files list.

    Parameters
    ----------
    stores : iterable of Path
        The stores' own files.

    Returns
    -------
    list of str
        `path: reason` each, once where several models have it; the last line counts what is not
        named, and says which files name all.
    """
    reasons: dict[str, str] = {}
    listed = []
    for store in stores:
        table = read_failures(store)
        reasons = {**dict(zip(table["path"], table["reason"], strict=True)), **reasons}
        listed += [str(failures_path(store))] if len(table) else []
    lines = [f"{path}: {reason}" for path, reason in list(reasons.items())[:NAMED]]
    if len(reasons) > NAMED:
        lines.append(f"and {len(reasons) - NAMED} more: see {', '.join(listed)}")
    return lines
