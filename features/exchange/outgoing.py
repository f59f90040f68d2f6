"""Features out: one layer of a store as a file for other programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import UserError
from features.common.files import replacing
from features.common.words import counted
from features.exchange.feature_files import PARQUET, require_parquet
from features.recipe.known.frame_kinds import FRAMES
from features.stores.frames import FrameStore
from features.stores.guard import Float32
from features.stores.inventory import require_store
from features.stores.read import Store

FORMATS = (".npz", ".csv", *PARQUET)


def export_features(
    path: Path, to: Path, *, layer: int | str = "last", statistics: Sequence[str] | None = None
) -> str:
    """Write one layer of a store as npz, Parquet or CSV, by the suffix.

    npz: `utterance` (unicode), `X` (float32, shape (n_utterances, n_columns)) and `names`
    (unicode), no pickle. Parquet and CSV: `utterance`, then a float32 column a feature; the
    numbers of the CSV read back to the same float32. The file is there whole or not at all.

    Parameters
    ----------
    path, to : Path
        The store, and the file to be written.
    layer : int, "last" or "mean"
    statistics : sequence of str, optional
        Side by side; those that a recipe gets that names none.

    Returns
    -------
    str
        What was written, in a line.

    Raises
    ------
    UserError
        The suffix is none of the three, or Parquet is not installed.
    StoreError
        The store is missing or damaged, or has no such layer or statistic.
    """
    suffix = to.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"--to {to}: the suffix says what to write: {', '.join(FORMATS)}")
    if suffix in PARQUET:
        require_parquet(to)
    require_store(path)
    with Store(path) as store:
        wanted = list(statistics or store.default)
        blocks = [store.read(layer, statistic, check=True) for statistic in wanted]
        names = _column_names(store, wanted)
        utterances = store.index["utterance"].to_numpy(str)
    X = np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]
    with replacing(to) as temporary:
        _write(temporary, suffix, utterances, X, names)
    shape = f"{counted(X.shape[0], 'utterance')} x {counted(X.shape[1], 'column')}"
    return f"{to}: {shape}, layer {layer} of {path}"


def export_frames(path: Path, to: Path, *, layer: int | str = "last", kind: str = FRAMES) -> str:
    """Write the frames, or segments, of one layer as npz.

    `utterance` (unicode), `offsets` (int64, shape (n_utterances + 1,)) and `X` (as stored, shape
    (n_frames, hidden size)): frames of utterance i are `X[offsets[i]:offsets[i + 1]]`.

    Parameters
    ----------
    path, to : Path
        The file of frames or segments, and the file to be written.
    layer : int or "last"
    kind : {"frames", "segments"}
        What the file has to hold.

    Returns
    -------
    str
        What was written, in a line.

    Raises
    ------
    UserError
        The suffix is another.
    StoreError
        They are missing or damaged, of other layers, or of the other kind.
    """
    if to.suffix.lower() != ".npz":
        raise UserError(f"--to {to}: {kind} go out as .npz")
    with FrameStore(path) as store:
        store.require(kind)
        position = store.position(layer)
        store.check(position)
        X, offsets = store.mapped()[position], store.offsets
        utterances = store.index["utterance"].to_numpy(str)
    with replacing(to) as temporary, temporary.open("wb") as file:
        np.savez(file, utterance=utterances, offsets=offsets, X=X)
    shape = f"{counted(len(utterances), 'utterance')}, {len(X):,} {kind} x {X.shape[1]} columns"
    return f"{to}: {shape}, layer {layer} of {path}"


def _write(
    path: Path, suffix: str, utterances: NDArray[np.str_], X: Float32, names: Sequence[str]
) -> None:
    if suffix == ".npz":
        with path.open("wb") as file:
            np.savez(file, utterance=utterances, X=X, names=np.array(names, dtype=str))
    elif suffix == ".csv":
        _write_csv(path, utterances.tolist(), X, names)
    else:
        table = pd.DataFrame(X, columns=list(names))
        table.insert(0, "utterance", utterances)
        table.to_parquet(path, engine="pyarrow", index=False)


def _column_names(store: Store, statistics: Sequence[str]) -> list[str]:
    """The store's own names, else `f0`...; of several statistics, with the statistic behind."""
    names: list[str] = []
    for statistic in statistics:
        own = store.names.get(statistic) or [f"f{i}" for i in range(store.columns(statistic))]
        names += own if len(statistics) == 1 else [f"{name}_{statistic}" for name in own]
    return names


def _write_csv(path: Path, utterances: Sequence[str], X: Float32, names: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", *names])
        for utterance, row in zip(utterances, X, strict=True):
            # Nine digits name a float32, also for a reader that goes by way of float64.
            writer.writerow([utterance, *(f"{value:.9g}" for value in row.tolist())])
