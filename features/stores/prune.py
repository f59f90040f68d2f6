"""What can go from the folder of the stores, and its removal.

Conventions
-----------
- A store goes where no recipe names its corpus and model and no finished run was made from it
  (`keepers`), and its failures file with it. From a store that a given recipe names, the stale rows
  go (see `inventory`): it is written anew without them.
- What another recipe or a run keeps goes where its file is named. Where one of them cannot be read,
  or there is no folder of runs, nothing else goes: it might name any store.
- Temporary files of writes that were killed go. One that no model's lock guards is taken for such
  after an hour.
- What is under way stays, as does what cannot be read: it may be somebody else's file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.common.errors import CorpusError, StoreError
from features.common.folders import Folders
from features.common.lock import WriterLock
from features.common.progress import size
from features.common.words import counted
from features.recipe.known.frame_kinds import FRAME_KINDS
from features.recipe.model import Recipe
from features.stores.frames import Frames, FrameStore, gathered
from features.stores.guard import Float32
from features.stores.inventory import (
    compare_rows,
    corpus_folders,
    models_of,
    require_store,
    shown_source,
    under_way,
)
from features.stores.keepers import find_keepers
from features.stores.key import all_beside, parts_path, store_path
from features.stores.kinds import corpus_folder, opened
from features.stores.read import Store
from features.stores.write import write_frames, write_store
from features.utterances import read_table

LEFT_AFTER_S = 3600.0
"""Age from which a temporary file counts as left behind, where no lock tells."""
_TEMPORARY = re.compile(r"\.(?P<target>.+)\.[0-9a-f-]+\.tmp")


@dataclass(frozen=True)
class Step:
    """A file that goes, or (`stale`) a store that is written anew without some rows.

    Attributes
    ----------
    guard : Path or None
        The store whose lock has to be held.
    """

    path: Path
    guard: Path | None
    why: str
    freed: int
    stale: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {size(self.freed)}, {self.why}"


def plan(
    recipes: Sequence[Recipe], folders: Folders, wanted: Sequence[Path] = ()
) -> tuple[list[Step], list[str]]:
    """What would go, and a line for each thing that stays although no given recipe names it.

    Parameters
    ----------
    recipes : sequence of Recipe
        What they name stays, as does what the recipes beside them name.
    folders : Folders
        What the finished runs were made from stays, as does what those in `runs/` beside the
        stores were made from.
    wanted : sequence of Path
        Stores that go whoever names them.

    Returns
    -------
    steps : list of Step
    kept : list of str

    Raises
    ------
    StoreError
        One that is wanted is no store there.
    """
    named = {
        (corpus, model)
        for recipe in recipes
        for corpus in recipe.corpora
        for model in recipe.single_models
    }
    stores = folders.need_stores()
    keepers = find_keepers(recipes, folders)
    nobody = f"no recipe names it and no run was made from it ({keepers.searched})"
    asked = _asked(wanted, stores)
    steps: list[Step] = []
    kept = [
        f"every store that no given recipe names, but for those named with --store: {fault}"
        for fault in keepers.unread
    ]
    for folder in corpus_folders(stores):
        for model in models_of(folder):
            pooled = store_path(stores, folder.name, model)
            given, keeper = (folder.name, model) in named, keepers.why(folder.name, model)
            if under_way(pooled):
                kept.append(f"{pooled}: under way")
                continue
            for path in (pooled, *all_beside(pooled)):
                if path in asked:
                    who = "a given recipe names it" if given else keeper or nobody
                    steps += _unnamed(path, pooled, kept, f"asked for, {who}")
                elif given:
                    steps += _stale(path, pooled, kept)
                elif keeper and (path == pooled or path.exists()):
                    kept.append(f"{path}: {keeper}; --store {path} takes it all the same")
                elif not keeper and not keepers.unread:
                    steps += _unnamed(path, pooled, kept, nobody)
        steps += _leftovers(folder, folder)
        for kind in FRAME_KINDS:
            steps += _leftovers(folder / kind, folder)
    return steps, kept


def _asked(wanted: Sequence[Path], stores: Path) -> list[Path]:
    """The paths of wanted stores as they stand below the folder of the stores.

    Raises
    ------
    StoreError
        One is not there, or lies elsewhere.
    """
    found = []
    for given in wanted:
        require_store(given)
        path = stores / given.parent.name / given.name
        kind = given.parent.name
        if kind in FRAME_KINDS and not path.exists():
            path = stores / given.parents[1].name / kind / given.name
        if given.suffix != ".h5" or not path.exists() or not path.samefile(given):
            raise StoreError(
                f"{given}: no store of a corpus below {stores}; --stores names another"
            )
        found.append(path)
    return found


def _unnamed(path: Path, pooled: Path, kept: list[str], reason: str) -> list[Step]:
    """A store, or what lies beside it, that goes for a reason, and its failures file."""
    steps = []
    failures = path.with_suffix(".failures.csv")
    if path.exists():
        try:
            with opened(path) as store:
                again = ", only an import brings it back" if store.imported else ""
                why = f"{reason} (source {shown_source(store.key)}{again})"
        except StoreError as error:
            kept.append(f"{error} ({reason})")
            return []
        steps.append(Step(path, pooled, why, path.stat().st_size))
    if failures.exists():
        why = f"beside a store that goes: {reason}" if path.exists() else "its store is gone"
        steps.append(Step(failures, pooled, why, failures.stat().st_size))
    return steps


def _stale(path: Path, pooled: Path, kept: list[str]) -> list[Step]:
    """The rows of a store that are of no more use: all of them is the file."""
    if not path.exists():
        return []
    try:
        table = read_table(pooled.parent).rows
        with opened(path) as store:
            stale = compare_rows(store.index, table)
            n, freed = len(store.index), _bytes_of(store, stale.stale)
    except (CorpusError, StoreError) as error:
        kept.append(str(error))
        return []
    if not stale.stale:
        return []
    gone = counted(len(stale.gone), "row")
    why = f"{gone} that the table has no more, {len(stale.changed)} of other audio"
    if len(stale.stale) == n:
        return [Step(path, pooled, f"{why}: all of its rows", path.stat().st_size)]
    why += f", of {n}"
    return [Step(path, pooled, why, freed, stale=True)]


def _bytes_of(store: Store | FrameStore, utterances: Sequence[str]) -> int:
    """What the values of some rows take."""
    if isinstance(store, FrameStore):
        of_rows = store.index["utterance"].isin(list(utterances)).to_numpy(dtype=bool)
        n_frames = int(store.lengths[of_rows].sum())
        return n_frames * len(store.layers) * store.width * store.dtype.itemsize
    return 4 * len(utterances) * len(store.layers) * sum(map(store.columns, store.statistics))


def _leftovers(folder: Path, guarded: Path) -> list[Step]:
    """Temporary files that a kill in the middle of a write has left; locks lie in `guarded`."""
    steps = []
    for path in sorted(folder.glob(".*.tmp")):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        model = re.fullmatch(r"(.+)\.(h5|failures\.csv|lock)", match["target"])
        guard = guarded / f"{model[1]}.h5" if model else None
        status = path.stat()
        if guard is None:
            left = time.time() - status.st_mtime > LEFT_AFTER_S
        else:
            left = not under_way(guard)
        if left:
            steps.append(Step(path, guard, "left by a write that was stopped", status.st_size))
    return steps


def carry_out(step: Step) -> None:
    """Remove or rewrite; the lock is taken first, and what began meanwhile is left alone.

    Parameters
    ----------
    step : Step

    Raises
    ------
    StoreError
        Another process holds the store, or the file cannot be removed or written.
    """
    if step.guard is None:
        _unlink(step.path)
        return
    with WriterLock(step.guard.with_suffix(".lock")):
        if parts_path(step.guard).is_dir():
            raise StoreError(f"{step.path}: an extraction has begun meanwhile")
        if step.stale:
            _drop_stale(step.path)
        else:
            _unlink(step.path)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed: {error.strerror}") from None


def _drop_stale(path: Path) -> None:
    """Write a store anew without its stale rows; the caller holds its lock.

    Raises
    ------
    StoreError
        A block that is read is damaged (the old store stays), or the disk is full.
    """
    with opened(path) as store:
        if isinstance(store, FrameStore):
            _drop_frames(path, store)
            return
        table = read_table(path.parent).rows
        gone = set(compare_rows(store.index, table).stale)
        keep = np.flatnonzero(~store.index["utterance"].isin(gone).to_numpy(dtype=bool))

        def matrix(statistic: str, position: int, start: int, stop: int) -> Float32:
            return store.read_rows(position, statistic, keep[start:stop])

        write_store(
            path, store.key, store.index.iloc[keep], store.layers, matrix,
            default=store.default, columns={name: store.columns(name) for name in store.statistics},
            names=store.names,
        )  # fmt: skip


def _drop_frames(path: Path, store: FrameStore) -> None:
    """Write frames, or segments, anew without their stale rows."""
    table = read_table(corpus_folder(path)).rows
    gone = set(compare_rows(store.index, table).stale)
    keep = np.flatnonzero(~store.index["utterance"].isin(gone).to_numpy(dtype=bool))
    offsets = np.append(0, np.cumsum(store.lengths[keep]))

    def frames(position: int, start: int, stop: int) -> Frames:
        def part_of(row: int, first: int, last: int) -> Frames:
            begin = int(store.offsets[keep[row]])
            return store.read(position, begin + first, begin + last)

        return gathered(offsets, start, stop, part_of)

    write_frames(
        path, store.key, store.index.iloc[keep], offsets, store.layers, frames, width=store.width
    )
