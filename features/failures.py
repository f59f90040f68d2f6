"""The failures file beside a store: what lacks features, and why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from features.errors import StoreError
from features.files import read_csv, write_text

FAILURE_COLUMNS = ["corpus", "utterance", "path", "reason", "audio_hash"]


def failures_path(store: Path) -> Path:
    """Path of the failures file of a store."""
    return store.with_suffix(".failures.csv")


def read_failures(store: Path) -> pd.DataFrame:
    """The failures file beside a store; empty where there is none that can be read.

    Without it, what failed is tried again, and the file written anew.
    """
    try:
        return read_csv(failures_path(store))[FAILURE_COLUMNS]
    except (OSError, KeyError, ValueError):
        return pd.DataFrame({column: [] for column in FAILURE_COLUMNS})


def write_failures(store: Path, rows: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Write the failures file of a store, or remove it where nothing failed.

    Parameters
    ----------
    store : Path
    rows : iterable of (corpus, utterance, path, reason, audio hash)

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    frame = pd.DataFrame(list(rows), columns=FAILURE_COLUMNS)
    if frame.empty:
        failures_path(store).unlink(missing_ok=True)
        return
    text = frame.to_csv(index=False, lineterminator="\n")
    write_text(failures_path(store), text, StoreError)
