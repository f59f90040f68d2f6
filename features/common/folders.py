"""Where corpora, stores and runs lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from features.common.errors import StoreError


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders that commands read and write; runs and data are those of a command by default.

    Attributes
    ----------
    stores : Path, optional
        The tables lie beside the stores; None where neither is to be looked at.
    runs : Path
    data : Path
        A corpus without a root of its own lies in `data/<name>`.
    """

    stores: Path | None = None
    runs: Path = Path("runs")
    data: Path = Path("data")

    def need_stores(self) -> Path:
        """The folder of the stores, for what cannot do without it.

        Raises
        ------
        StoreError
            None is named.

        >>> Folders(stores=Path("stores")).need_stores().name
        'stores'
        """
        if self.stores is None:
            raise StoreError("no folder of stores is named")
        return self.stores
