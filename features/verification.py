"""Stores beside their checksums and the audio that they were made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from features.common.errors import StoreError, UserError, nearest
from features.recipe.known.frame_kinds import FRAME_KINDS
from features.stores.key import file_digest
from features.stores.kinds import corpus_folder, opened
from features.survey import forget, is_hash_of
from features.utterances import read_table


def choose(stores: Path, corpora: Sequence[str] | None, models: Sequence[str] | None) -> list[Path]:
    """Stores, and parts behind them, of the corpora and models that are asked for.

    Parameters
    ----------
    stores : Path
        Folder of the stores.
    corpora, models : sequence of str, optional
        None is all.

    Returns
    -------
    list of Path
        Stores first, then frames and segments, then parts of each, sorted by path.

    Raises
    ------
    UserError
        There is none, or none of a name that was asked for.
    """
    of = {path: (path.parent.name, path.stem) for path in sorted(stores.glob("*/[!.]*.h5"))}
    for kind in FRAME_KINDS:
        for path in sorted(stores.glob(f"*/{kind}/[!.]*.h5")):
            of[path] = path.parents[1].name, path.stem
    for pattern in ("part", *FRAME_KINDS):
        for path in sorted(stores.glob(f"*/*.parts/{pattern}-*.h5")):
            of[path] = path.parents[1].name, path.parent.stem
    if not of:
        raise UserError(f"{stores}: no store there; name the folder with --stores")
    for position, (what, asked) in enumerate((("corpus", corpora), ("model", models))):
        known = sorted({names[position] for names in of.values()})
        for name in asked or []:
            if name not in known:
                raise UserError(
                    f"{stores}: no store of {what} {name!r}; there are {', '.join(known)}"
                    f"{nearest(name, known)}"
                )
    chosen = [
        path
        for path, (corpus, model) in of.items()
        if corpus in (corpora or [corpus]) and model in (models or [model])
    ]
    if not chosen:
        raise UserError(f"{stores}: these corpora have no store of these models")
    return chosen


def damage_of(path: Path, *, names: bool = False) -> list[str]:
    """What is damaged in a store, and in the last line what mends it; nothing where it is sound.

    Parameters
    ----------
    path : Path
    names : bool
        Name all utterances of a damaged block.

    Returns
    -------
    list of str
    """
    try:
        with opened(path) as store:
            found = store.verify()
            lines = [
                f"damaged: {damage.naming(len(damage.utterances) if names else 3)}"
                for damage in found
            ]
            return [*lines, store.mending] if found else []
    except StoreError as error:
        return [str(error)]


def changed_audio(path: Path, root: Path) -> tuple[list[str], int]:
    """Hash the audio below `root` again, whatever size and time say, and compare with a store.

    Files that have changed are forgotten by the next survey: it would believe size and time.

    Parameters
    ----------
    path : Path
        Of the store; the table lies beside it.
    root : Path
        The corpus's folder.

    Returns
    -------
    list of str
        What is not as it was, a line an utterance.
    int
        Files that were hashed.
    """
    if not root.is_dir():
        text = f"{root}: no such folder to compare the audio of; name it with --data or --recipe"
        return [text], 0
    folder = corpus_folder(path)
    table = read_table(folder).rows.set_index("utterance")
    faults: list[str] = []
    changed: list[Path] = []
    digests: dict[Path, hashlib.blake2b] = {}
    with opened(path) as store:
        index = store.index
    for utterance, stored in zip(index["utterance"], index["audio_hash"], strict=True):
        if utterance not in table.index:
            faults.append(f"{utterance}: not in the table any more; run make extract")
            continue
        row = table.loc[utterance]
        file = root / row["path"]
        try:
            digest = digests.get(file) or digests.setdefault(file, file_digest(file))
        except OSError as error:
            faults.append(f"{utterance}: {file}: {error.strerror}")
            continue
        if not is_hash_of(stored, digest, row["start"], row["end"]):
            faults.append(f"{utterance}: {file}: its audio has changed; run make extract")
            changed.append(file)
    forget(folder, changed)
    return faults, len(digests)
