"""Rows of a CSV file that come fold by fold and may be more than memory holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from evaluate.runs.predictions import predictions_text
from features.common.errors import RunError
from features.common.files import replacing

ROOM = 2**26
"""Bytes that are kept in memory; more go to a file without a name."""
COPIED = 2**20
"""Bytes that are copied at a time."""


class Spool:
    """Predictions of one fold after the other, written in the order of the folds' names.

    A context manager: leaving it gives memory and disk back.

    Parameters
    ----------
    path : Path
        Of the file to come. Its folder is made when memory does not hold the rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = ""
        self._at: dict[str, tuple[int, int]] = {}
        self._file = tempfile.SpooledTemporaryFile(ROOM, dir=str(path.parent))  # noqa: SIM115

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, fold: str, rows: pd.DataFrame) -> None:
        """Take the rows of a fold, in their order.

        Parameters
        ----------
        fold : str
        rows : DataFrame
            As `read_predictions` gives them.

        Raises
        ------
        RunError
            Where `read_predictions` would refuse them.
        """
        header, rest = predictions_text(self.path, rows).split("\n", 1)
        data = rest.encode()
        self._header = header
        start = self._file.tell()
        if start + len(data) > ROOM:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file.write(data)
        self._at[fold] = start, len(data)

    def write(self) -> None:
        """Write the file whole or not at all."""
        n_bytes = self._file.tell()
        with replacing(self.path, RunError, n_bytes) as temporary, open(temporary, "wb") as out:
            out.write(f"{self._header}\n".encode())
            for fold in sorted(self._at):
                start, length = self._at[fold]
                self._file.seek(start)
                for left in range(length, 0, -COPIED):
                    out.write(self._file.read(min(left, COPIED)))
