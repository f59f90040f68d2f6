"""Features in: stores from other programs' files.

An imported store is like any other model's (`FORMAT.md`, Imported stores): heads are trained on it,
`extract` leaves it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.common.errors import StoreError, UserError
from features.common.files import open_regular
from features.common.findings import some
from features.common.lock import WriterLock
from features.common.progress import Progress
from features.common.sections import names_folder
from features.common.text import clean
from features.common.words import counted
from features.exchange.feature_files import (
    FeatureColumns,
    MatchedFeatures,
    read_features,
    read_layouts,
)
from features.stores.failures import failures_path, write_failures
from features.stores.guard import Float32
from features.stores.inventory import shown_source
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


@dataclass(frozen=True)
class Imported:
    """What an import has made.

    Attributes
    ----------
    path : Path
        The store.
    n_utterances, n_features : int
    source : str
        As the store's key has it.
    replaced : str
        What was there before; empty where that was nothing, or the same.
    n_lacking : int
        Utterances of the table without features; `failures_path` says why.
    unmatched : list of str
        Rows of the files that are of no utterance.
    left_out : tuple of str
        Columns of the files that are no features.
    """

    path: Path
    n_utterances: int
    n_features: int
    source: str
    replaced: str
    n_lacking: int
    unmatched: list[str]
    left_out: tuple[str, ...]

    def lines(self) -> list[str]:
        """What was made, and what is not in it, for people.

        Returns
        -------
        list of str
        """
        n_utterances = counted(self.n_utterances, "utterance")
        lines = [f"{self.path}: {n_utterances} x {counted(self.n_features, 'feature')}, "
                 f"{self.source}"]  # fmt: skip
        if self.replaced:
            lines.append(f"replaced: {self.replaced}")
        if self.n_lacking:
            lacking = counted(self.n_lacking, "utterance lacks", "utterances lack")
            lines.append(f"{lacking} features: see {failures_path(self.path)}")
        if self.unmatched:
            n_rows = counted(len(self.unmatched), "row")
            lines.append(f"{n_rows} of no utterance: {some(self.unmatched, 3)}")
        if self.left_out:
            lines.append(f"columns left out: {', '.join(self.left_out)}")
        return lines


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
) -> Imported:
    """Make a store of features that other programs computed.

    Parameters
    ----------
    files : sequence of Path
        CSV or Parquet, stacked; see `feature_files`.
    corpus : str
        Its table, `STORES/<corpus>/utterances.csv`, names the utterances.
    model : str
        Name of the model in recipes.
    stores : Path
        Folder of the stores.
    root : Path
        The corpus's folder. Read where the table has no audio hashes yet.
    drop : sequence of str
        Columns that are no features.
    allow_missing : int
        How many rows without an utterance and utterances without a row (or audio) are accepted.
    force : bool
        Replace an imported store of another key, or a file that cannot be read.

    Returns
    -------
    Imported

    Raises
    ------
    UserError
        The files have faults, or do not fit the table.
    CorpusError
        There is no table.
    StoreError
        A store that was extracted or has another key is there, or one is being written.
    """
    corpus, model, drop = clean(corpus), clean(model), [clean(name) for name in drop]
    if not names_folder(model):
        raise UserError(f"--as {model!r}: cannot name a file; no / \\ @ in a name")
    table = read_table(stores / corpus).rows
    layouts = read_layouts(files, drop)
    key = _key(model, layouts)
    path = store_path(stores, corpus, model)
    _refuse_other(path, key, force)
    features = read_features(layouts, table)
    index, X, reasons = _matched(features, table, files, corpus, root, allow_missing)
    with WriterLock(path.with_suffix(".lock")):
        replaced = _refuse_other(path, key, force)

        def matrix(statistic: str, position: int, start: int, stop: int) -> Float32:
            return X[start:stop]

        write_store(
            path, key, index, [0], matrix,
            default=[STATISTIC], columns={STATISTIC: X.shape[1]},
            names={STATISTIC: layouts[0].names},
        )  # fmt: skip
        rows = table.set_index("utterance").loc[sorted(reasons), ["path", "audio_hash"]]
        write_failures(
            path,
            [
                (corpus, utterance, audio, reasons[utterance], hashed)
                for utterance, audio, hashed in rows.itertuples()
            ],
        )
    n_utterances, n_features = X.shape
    return Imported(
        path, n_utterances, n_features, key["source"], replaced, len(reasons),
        features.unmatched, layouts[0].left_out,
    )  # fmt: skip


def _matched(
    features: MatchedFeatures,
    table: pd.DataFrame,
    files: Sequence[Path],
    corpus: str,
    root: Path,
    allow_missing: int,
) -> tuple[pd.DataFrame, Float32, dict[str, str]]:
    """The index and the matrix of the store, and why utterances of the table are not in it.

    Raises
    ------
    UserError
        More is missing on either side than is allowed.
    """
    known = set(features.utterances)
    named = some([str(file) for file in files], 3)
    reasons = {u: f"no row in {named}" for u in table["utterance"] if u not in known}
    n_short = len(reasons) + len(features.unmatched)
    if n_short <= allow_missing:
        rows = table[table["utterance"].isin(known)].reset_index(drop=True)
        index, unheard = _index(rows, root)
        reasons |= unheard
        n_short += len(unheard)
    if n_short > allow_missing or len(reasons) == len(table):
        raise UserError(
            _shortfall(corpus, reasons, features.unmatched, len(table), root, allow_missing)
        )
    keep: NDArray[np.bool_] = ~index["utterance"].isin(list(reasons)).to_numpy(dtype=bool)
    return *_sorted(index[keep], features.X if keep.all() else features.X[keep]), reasons


def _key(model: str, layouts: Sequence[FeatureColumns]) -> dict[str, Any]:
    left_out = sorted({name for layout in layouts for name in layout.left_out})
    return full_key(
        {
            "model": model,
            "source": f"imported:sha256:{source_hash([layout.path for layout in layouts])}",
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

    Parameters
    ----------
    files : sequence of Path
        One at least.

    Returns
    -------
    str
        Hexadecimal.
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
    without = [name for name, reason in reasons.items() if reason.startswith("no row")]
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
