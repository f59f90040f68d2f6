"""What lies in the folder of the stores, and how it stands to the tables and a recipe.

Conventions
-----------
- A row of a store is *gone* where the table has no such utterance any more, *changed* where the
  audio hash of the table is another (an empty one says nothing); both are *stale*.
- A store is *under way* while it has a folder of parts, or a lock that a live process holds.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features.common.errors import CorpusError, StoreError, UserError, nearest
from features.common.lock import live_holder
from features.common.progress import size
from features.common.words import counted
from features.recipe.known.frame_kinds import FRAME_KINDS
from features.recipe.model import Recipe
from features.stores.frames import FrameStore
from features.stores.key import all_beside, frames_beside, parts_path, store_path
from features.stores.kinds import opened
from features.stores.read import Store, sealed_parts
from features.utterances import read_table


@dataclass(frozen=True)
class RowState:
    """A store's rows beside the table's.

    Attributes
    ----------
    n_table : int
        Rows of the table.
    lacking, gone, changed : tuple of str
        Utterances that the store lacks, that the table has no more, whose audio is another.
    """

    n_table: int
    lacking: tuple[str, ...]
    gone: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def stale(self) -> tuple[str, ...]:
        """Utterances whose rows are of no more use."""
        return (*self.gone, *self.changed)

    @property
    def n_current(self) -> int:
        """Rows of the table that the store has as they are."""
        return self.n_table - len(self.lacking) - len(self.changed)

    def __str__(self) -> str:
        """The state in words, for a column of `status`."""
        stale = [
            f"{len(rows)} {what}"
            for rows, what in ((self.gone, "gone"), (self.changed, "changed"))
            if rows
        ]
        partial = [f"partial (lacks {len(self.lacking)})"] if self.lacking else []
        return ", ".join([*partial, *([f"stale ({', '.join(stale)})"] if stale else [])]) or (
            "complete"
        )


def compare_rows(index: pd.DataFrame, table: pd.DataFrame) -> RowState:
    """Compare a store's index with a table.

    Parameters
    ----------
    index, table : DataFrame
        Both with columns utterance and audio_hash; an empty hash of the table says nothing.

    Returns
    -------
    RowState

    Examples
    --------
    >>> stored = pd.DataFrame({"utterance": ["a", "b"], "audio_hash": ["1", "2"]})
    >>> table = pd.DataFrame({"utterance": ["b", "c"], "audio_hash": ["3", ""]})
    >>> str(compare_rows(stored, table))
    'partial (lacks 1), stale (1 gone, 1 changed)'
    """
    stored = dict(zip(index["utterance"], index["audio_hash"], strict=True))
    known = dict(zip(table["utterance"], table["audio_hash"], strict=True))
    return RowState(
        len(known),
        tuple(utterance for utterance in known if utterance not in stored),
        tuple(utterance for utterance in stored if utterance not in known),
        tuple(
            utterance
            for utterance, hashed in stored.items()
            if known.get(utterance) not in (None, "", hashed)
        ),
    )


def under_way(store: Path) -> bool:
    """Whether a store is being written: it has parts, or a live process holds its lock."""
    if parts_path(store).is_dir():
        return True
    try:
        return live_holder(store.with_suffix(".lock")) is not None
    except OSError:
        return True


def require_store(path: Path) -> None:
    """Refuse the path of a store that is not there, and name those that are beside it.

    Raises
    ------
    StoreError
    """
    if path.exists() or parts_path(path).is_dir():
        return
    names = [store.stem for store in sorted(path.parent.glob("[!.]*.h5"))]
    there = f"there are {', '.join(names)}" if names else "nor any other in that folder"
    raise StoreError(f"{path}: no such store; {there}{nearest(path.stem, names)}")


def status(recipe: Recipe, stores: Path) -> list[str]:
    """Lines of corpus x model: state, utterances, layers, precision, size; what to know; a total.

    Parameters
    ----------
    recipe : Recipe
    stores : Path
        Folder of the stores; what is not there is a line, no error.

    Returns
    -------
    list of str
        Aligned columns under a header, notes, and a total.
    """
    head = ("corpus", "model", "state", "utterances", "layers", "precision", "size")
    rows: list[tuple[str, ...]] = [head]
    kinds: Counter[str] = Counter()
    notes: list[str] = []
    total = 0
    for corpus in recipe.corpora:
        try:
            table = read_table(stores / corpus).rows
        except CorpusError as error:
            table = None
            if any((stores / corpus / f"utterances.{kind}").exists() for kind in ("csv", "json")):
                notes.append(str(error))
        for model in recipe.single_models:
            path = store_path(stores, corpus, model)
            beside = {kind: frames_beside(path, kind) for kind in FRAME_KINDS}
            asked = recipe.framewise_of(model)
            files = {"": path} | {
                kind: file for kind, file in beside.items() if kind in asked or file.exists()
            }
            for kind, file in files.items():
                row, n_bytes = _status_row(file, path, kind, corpus, table, notes)
                rows.append(row)
                kinds[re.split(r"[:(,]", row[2])[0].strip()] += 1
                total += n_bytes
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    in_all = f"{counted(kinds.total(), 'store')}: {counts}; {size(total)}"
    return [*_columns(rows), *notes, in_all]


def _status_row(
    path: Path,
    pooled: Path,
    kind: str,
    corpus: str,
    table: pd.DataFrame | None,
    notes: list[str],
) -> tuple[tuple[str, ...], int]:
    """The line of a store, or of what lies beside it (its kind; "" of the store), and its bytes.

    What to know beyond the line is added to `notes`.
    """
    model = f"{pooled.stem} ({kind})" if kind else pooled.stem
    of = f" of {len(table)}" if table is not None else ""
    n_bytes = path.stat().st_size if path.exists() else 0
    if under_way(pooled):
        if kind:
            return (corpus, model, "under way", "", "", "", size(n_bytes)), n_bytes
        sealed, in_parts = _sealed(pooled)
        text = f"{sealed}{of} sealed"
        return (corpus, model, "under way", text, "", "", size(n_bytes + in_parts)), (
            n_bytes + in_parts
        )
    try:
        with opened(path) as store:
            if table is None:
                state, n = "no table", len(store.index)
            else:
                rows = compare_rows(store.index, table)
                state, n = str(rows), rows.n_current
            if store.imported:
                state = f"imported, {state}"
            if store.other_numerics:
                state += ", of a version with other numbers"
                notes.append(f"{path}: {store.other_numerics}")
            layers, precision = str(len(store.layers)), stored_precision(store)
            title = shown_title(store)
            shown = (corpus, title, state, f"{n}{of}", layers, precision, size(n_bytes))
            return shown, n_bytes
    except StoreError:
        state = "damaged: see verify" if path.exists() else "missing"
        return (corpus, model, state, f"0{of}", "", "", size(n_bytes) if n_bytes else ""), n_bytes


def _sealed(store: Path) -> tuple[int, int]:
    """Rows in the sealed parts of a store, and their bytes."""
    folder = parts_path(store)
    n = sum(len(part.index) for _, part in sealed_parts(folder) if part is not None)
    return n, sum(part.stat().st_size for part in folder.glob("*.h5"))


def models_of(folder: Path) -> list[str]:
    """Models of which a corpus's folder holds a store, what lies beside one, or parts."""
    found = {path.stem for suffix in (".h5", ".parts") for path in folder.glob(f"[!.]*{suffix}")}
    for kind in FRAME_KINDS:
        found |= {path.stem for path in folder.glob(f"{kind}/[!.]*.h5")}
    for pattern in ("*.failures.csv", *(f"{kind}/*.failures.csv" for kind in FRAME_KINDS)):
        found |= {path.name.removesuffix(".failures.csv") for path in folder.glob(pattern)}
    return sorted(found)


def shown_title(store: Store | FrameStore) -> str:
    """The model's key as it is shown; of frames and segments that it is these."""
    return f"{store.title} ({store.kind})" if isinstance(store, FrameStore) else store.title


def stored_precision(store: Store | FrameStore) -> str:
    """Of the model, and of its frames or segments as they are stored."""
    precision = str(store.key.get("precision"))
    return f"{precision}, {store.dtype.name}" if isinstance(store, FrameStore) else precision


def corpus_folders(stores: Path) -> list[Path]:
    """Folders of the corpora below STORES.

    Raises
    ------
    UserError
        STORES is no folder.
    """
    if not stores.is_dir():
        raise UserError(f"{stores}: no such folder; name the folder of the stores with --stores")
    return sorted(path for path in stores.iterdir() if path.is_dir())


def list_stores(stores: Path) -> list[str]:
    """A line for every store below STORES, whether a recipe names it or not, or in parts.

    Parameters
    ----------
    stores : Path
        Folder of the stores.

    Returns
    -------
    list of str
        Aligned columns under a header, and a total.

    Raises
    ------
    UserError
        STORES is no folder, or there is no store in it.
    """
    head = ("corpus", "model", "source", "precision", "layers", "rows", "size", "statistics", "of")
    rows: list[tuple[str, ...]] = [head]
    total = 0
    for folder in corpus_folders(stores):
        for model in models_of(folder):
            path = store_path(stores, folder.name, model)
            finished = [line for file in (path, *all_beside(path)) for line in _listed(file)]
            for row, n_bytes in (*finished, *_listed_parts(path)):
                rows.append((folder.name, *row))
                total += n_bytes
    if len(rows) == 1:
        raise UserError(f"{stores}: no store there; name the folder with --stores")
    return [*_columns(rows), f"{len(rows) - 1} in all, {size(total)}"]


def _listed(path: Path) -> list[tuple[tuple[str, ...], int]]:
    """The line of a finished store and its bytes; nothing where there is none."""
    if not path.exists():
        return []
    status = path.stat()
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
    try:
        with opened(path) as store:
            statistics = (
                f"{store.n_frames:,} {store.kind}"
                if isinstance(store, FrameStore)
                else ", ".join(store.statistics)
            )
            row: tuple[str, ...] = (
                shown_title(store), shown_source(store.key), stored_precision(store),
                str(len(store.layers)), str(len(store.index)), size(status.st_size),
                statistics, date,
            )  # fmt: skip
    except StoreError:
        what = "(cannot be read: see verify)"
        row = (path.stem, what, "", "", "", size(status.st_size), "", date)
    return [(row, status.st_size)]


def _listed_parts(path: Path) -> list[tuple[tuple[str, ...], int]]:
    """The line of an extraction under way and its bytes."""
    folder = parts_path(path)
    if not folder.is_dir():
        return []
    sealed, n_bytes = _sealed(path)
    key = next((part.key for _, part in sealed_parts(folder) if part is not None), {})
    times = [path.stat().st_mtime for path in (folder, *folder.glob("*.h5"))]
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times)))
    row = (
        f"{path.stem} (in parts)", shown_source(key), str(key.get("precision", "")),
        str(len(key["layers"])) if key else "", str(sealed), size(n_bytes),
        ", ".join(key.get("statistics", [])), date,
    )  # fmt: skip
    return [(row, n_bytes)]


def shown_source(key: dict[str, object]) -> str:
    """Where a store's features come from, long hashes cut short.

    Examples
    --------
    >>> shown_source({"source": "org/repo@" + "0123456789" * 4})
    'org/repo@012345678901'
    """
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1", str(key.get("source", "")))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
