"""Features in and out: stores from other programs' files, and files for other programs.

An imported store is like any other model's (`FORMAT.md`, Imported stores): heads are trained on it,
`extract` leaves it alone.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import StoreError, UserError
from features.common.files import open_regular, replacing
from features.common.findings import some
from features.common.lock import WriterLock
from features.common.progress import Progress
from features.common.sections import names_folder
from features.common.text import clean
from features.common.words import counted
from features.exchange.feature_files import (
    PARQUET,
    Layout,
    read_features,
    read_layouts,
    require_parquet,
)
from features.stores.failures import failures_path, write_failures
from features.stores.guard import Float32
from features.stores.inventory import require_store, shown_source
from features.stores.key import (
    audio_hash,
    file_digest,
    full_key,
    parts_path,
    store_path,
)
from features.stores.read import Store
from features.stores.write import write_store
from features.survey import decoders_of
from features.utterances import read_table

STATISTIC = "functionals"
FORMATS = (".npz", ".csv", *PARQUET)


# -- import ------------------------------------------------------------------------------------


def import_features(
    files: Sequence[Path],
    corpus: str,
    model: str,
    *,
    stores: Path,
    root: Path,
    drop: Sequence[str] = (),
    allow_missing: int = 0,
    force: bool = False,
) -> int:
    """Make a store of features that other programs computed.

    Parameters
    ----------
    files : sequence of Path
        CSV or Parquet, stacked; see `feature_files`.
    corpus : str
        Its table, `STORES/<corpus>/utterances.csv`, names the utterances.
    model : str
        Name of the model in recipes.
    root : Path
        The corpus's folder. Read where the table has no audio hashes yet.
    drop : sequence of str
        Columns that are no features.
    allow_missing : int
        How many rows without an utterance and utterances without a row (or audio) are accepted.
    force : bool
        Replace an imported store of another key, or a file that cannot be read.

    Raises
    ------
    UserError
        The files have faults, or do not fit the table.
    CorpusError
        There is no table.
    StoreError
        A store that was extracted or has another key is there, or one is being written.
    """
    corpus, model, drop = clean(corpus), clean(model), [clean(one) for one in drop]
    if not names_folder(model):
        raise UserError(f"--as {model!r}: cannot name a file; no / \\ @ in a name")
    frame = read_table(stores / corpus).frame
    layouts = read_layouts(files, drop)
    key = _key(model, layouts)
    path = store_path(stores, corpus, model)
    _refuse_other(path, key, force)
    features = read_features(layouts, frame)
    known = set(features.utterances)
    files_named = some([str(file) for file in files], 3)
    reasons = {u: f"no row in {files_named}" for u in frame["utterance"] if u not in known}
    n_short = len(reasons) + len(features.unmatched)
    if n_short <= allow_missing:
        rows = frame[frame["utterance"].isin(known)].reset_index(drop=True)
        index, unheard = _index(rows, root)
        reasons |= unheard
        n_short += len(unheard)
    if n_short > allow_missing or len(reasons) == len(frame):
        raise UserError(
            _shortfall(corpus, reasons, features.unmatched, len(frame), root, allow_missing)
        )
    keep: NDArray[np.bool_] = ~index["utterance"].isin(list(reasons)).to_numpy(dtype=bool)
    X = features.X if keep.all() else features.X[keep]
    index, X = _sorted(index[keep], X)
    with WriterLock(path.with_suffix(".lock")):
        replaced = _refuse_other(path, key, force)

        def matrix(statistic: str, position: int, start: int, stop: int) -> Float32:
            return X[start:stop]

        write_store(
            path, key, index, [0], matrix,
            default=[STATISTIC], columns={STATISTIC: X.shape[1]},
            names={STATISTIC: layouts[0].names},
        )  # fmt: skip
        rows = frame.set_index("utterance").loc[sorted(reasons), ["path", "audio_hash"]]
        write_failures(
            path,
            [
                (corpus, utterance, audio, reasons[utterance], hashed)
                for utterance, audio, hashed in rows.itertuples()
            ],
        )
    shape = f"{counted(len(index), 'utterance')} x {counted(X.shape[1], 'feature')}"
    print(f"{path}: {shape}, {key['source']}")
    if replaced:
        print(f"replaced: {replaced}")
    if reasons:
        lacking = counted(len(reasons), "utterance lacks", "utterances lack")
        print(f"{lacking} features: see {failures_path(path)}")
    if features.unmatched:
        unmatched = counted(len(features.unmatched), "row")
        print(f"{unmatched} of no utterance: {some(features.unmatched, 3)}")
    if layouts[0].left_out:
        print(f"columns left out: {', '.join(layouts[0].left_out)}")
    return 0


def _key(model: str, layouts: Sequence[Layout]) -> dict[str, Any]:
    left_out = sorted({name for one in layouts for name in one.left_out})
    return full_key(
        {
            "model": model,
            "source": f"imported:sha256:{source_hash([one.path for one in layouts])}",
            "layers": [0],
            "n_layers": 0,
            "statistics": [STATISTIC],
            "precision": "float32",
            "sampling_rate": 0,
            "input_normalisation": "unknown",
            "parameters": {"left_out": left_out},
        }
    )


def source_hash(files: Sequence[Path]) -> str:
    """SHA-256 of a file's bytes; of several, of the sorted hashes, joined by line feeds.

    Neither the names of the files nor their order count.
    """
    hashes = []
    for path in files:
        with open_regular(path, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _refuse_other(path: Path, key: dict[str, Any], force: bool) -> str:
    """Say what will be replaced; empty where that is nothing, or the same.

    Raises
    ------
    StoreError
        A store is under way there, was extracted, or, without `force`, has another key.
    """
    if parts_path(path).is_dir():
        raise StoreError(
            f"{parts_path(path)}: an extraction of this name is under way; finish it, or choose "
            f"another name with --as"
        )
    if not path.exists():
        return ""
    try:
        with Store(path) as store:
            extracted = not store.imported
    except StoreError:
        if force:
            return "a file that could not be read"
        raise
    if extracted:
        raise StoreError(
            f"{path}: was extracted ({shown_source(store.key)}), and an import replaces no such "
            f"store; choose another name with --as, or delete the file first"
        )
    old = store.key
    differ = ", ".join(name for name in sorted({*key, *old}) if key.get(name) != old.get(name))
    if differ and not force:
        raise StoreError(
            f"{path}: made from something else ({differ}: {shown_source(old)} there, "
            f"{shown_source(key)} here); choose another name with --as, or replace it with --force"
        )
    return f"{shown_source(old)}, {counted(len(store.index), 'row')}" if differ else ""


def _index(rows: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Audio hashes: the table's, else of the files below `root`.

    Returns
    -------
    DataFrame
        utterance, audio_hash, size, mtime_ns in the order of `rows`; size and time are 0 where the
        table has the hash.
    dict
        Utterance -> reason, of those whose audio cannot be read.
    """
    columns = ("utterance", "path", "start", "end", "audio_hash")
    listed = list(zip(*(rows[name].tolist() for name in columns), strict=True))
    files: dict[str, list[int]] = {}
    for position, row in enumerate(listed):
        if not row[4]:
            files.setdefault(row[1], []).append(position)
    found = [(row[4], 0, 0) for row in listed]
    reasons: dict[str, str] = {}
    progress = Progress(f"{root}: hashing the audio", len(files), "files")
    for name, positions in files.items():
        progress.add(1)
        try:
            status, digest = (root / name).stat(), file_digest(root / name)
        except OSError as error:
            reasons |= {listed[i][0]: f"{root / name}: {error.strerror}" for i in positions}
            continue
        spans = [(listed[i][2], listed[i][3]) for i in positions]
        versions = decoders_of(root / name, spans)
        for i, span, version in zip(positions, spans, versions, strict=True):
            hashed = audio_hash(digest, *span, decoder=version)
            found[i] = (hashed, status.st_size, status.st_mtime_ns)
    progress.close()
    index = pd.DataFrame(found, columns=["audio_hash", "size", "mtime_ns"])
    index.insert(0, "utterance", rows["utterance"].to_numpy(object))
    return index, reasons


def _sorted(index: pd.DataFrame, X: Float32) -> tuple[pd.DataFrame, Float32]:
    """Rows in the order that FORMAT.md asks for; a table that was written here has it."""
    order = np.array(sorted(range(len(index)), key=index["utterance"].tolist().__getitem__))
    if (order == np.arange(len(order))).all():
        return index, X
    return index.iloc[order], X[order]


def _shortfall(
    corpus: str,
    reasons: dict[str, str],
    unmatched: Sequence[str],
    n_table: int,
    root: Path,
    allowed: int,
) -> str:
    """What is missing on either side, in lines."""
    without = [one for one, reason in reasons.items() if reason.startswith("no row")]
    unheard = [reason for reason in reasons.values() if not reason.startswith("no row")]
    way_out = ""
    if len(reasons) < n_table:
        n_short = len(reasons) + len(unmatched)
        way_out = f"; --allow-missing {n_short} takes what there is (now {allowed})"
    lines = [f"{corpus}: the files and the table do not fit{way_out}"]
    if unmatched:
        rows = counted(len(unmatched), "row")
        lines.append(f"{rows} of no utterance of the table: {some(unmatched)}")
    if without:
        of = counted(n_table, "utterance")
        lines.append(f"{len(without)} of {of} without features: {some(without)}")
    if unheard:
        lines.append(
            f"{counted(len(unheard), 'utterance')} whose audio has no hash yet and cannot be read "
            f"({some(unheard, 2)}): name its folder with --data or --root, or run make extract "
            f"for any model where the audio is"
        )
    return "\n  ".join(lines)


# -- export ------------------------------------------------------------------------------------


def export_features(
    path: Path, to: Path, *, layer: int | str = "last", statistics: Sequence[str] | None = None
) -> int:
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
        blocks = [store.read(layer, one, check=True) for one in wanted]
        names = _column_names(store, wanted)
        utterances = store.index["utterance"].to_numpy(str)
    X = np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]
    with replacing(to) as temporary:
        if suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, utterance=utterances, X=X, names=np.array(names, dtype=str))
        elif suffix == ".csv":
            _write_csv(temporary, utterances.tolist(), X, names)
        else:
            frame = pd.DataFrame(X, columns=names)
            frame.insert(0, "utterance", utterances)
            frame.to_parquet(temporary, engine="pyarrow", index=False)
    shape = f"{counted(X.shape[0], 'utterance')} x {counted(X.shape[1], 'column')}"
    print(f"{to}: {shape}, layer {layer} of {path}")
    return 0


def _column_names(store: Store, statistics: Sequence[str]) -> list[str]:
    """The store's own names, else `f0`...; of several statistics, with the statistic behind."""
    names: list[str] = []
    for one in statistics:
        own = store.names.get(one) or [f"f{i}" for i in range(store.columns(one))]
        names += own if len(statistics) == 1 else [f"{name}_{one}" for name in own]
    return names


def _write_csv(path: Path, utterances: Sequence[str], X: Float32, names: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", *names])
        for utterance, row in zip(utterances, X, strict=True):
            # Nine digits name a float32, also for a reader that goes by way of float64.
            writer.writerow([utterance, *(f"{value:.9g}" for value in row.tolist())])
