"""What a store is looked up by: its key, its name, the hash of audio."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from features.common.files import open_regular
from features.recipe.known.frame_kinds import FRAME_KINDS, FRAMES

FORMAT_VERSION = 1

FRAMES_VERSION = 1
"""Of the files that hold frames."""

NUMERICS = 2
"""Raised with every change that moves an extracted number; part of every key."""

NOT_KEY = ("format", "format_version", "statistics_default")
"""Root attributes that change no number."""


def store_path(stores: Path, corpus: str, model: str) -> Path:
    """Path of the store of a corpus and model."""
    return stores / corpus / f"{model}.h5"


def frames_path(stores: Path, corpus: str, model: str, kind: str = FRAMES) -> Path:
    """Path of the frames, or segments, of a corpus and model."""
    return stores / corpus / kind / f"{model}.h5"


def frames_beside(store: Path, kind: str = FRAMES) -> Path:
    """Path of the frames, or segments, that belong to a store, or to a sealed part."""
    if is_part(store):
        return store.with_name(store.name.replace("part-", f"{kind}-", 1))
    return store.parent / kind / store.name


def all_beside(store: Path) -> list[Path]:
    """Paths of all that may lie beside a store, or a sealed part, in the order of `FRAME_KINDS`."""
    return [frames_beside(store, kind) for kind in FRAME_KINDS]


def frame_kind(path: Path) -> str | None:
    """What lies there by its folder, or by its name among parts; None of a store.

    Examples
    --------
    >>> frame_kind(Path("stores/emodb/segments/mfcc.h5")), frame_kind(Path("stores/emodb/mfcc.h5"))
    ('segments', None)
    """
    word = path.name.split("-")[0] if is_part(path) else path.parent.name
    return word if word in FRAME_KINDS else None


def parts_path(store: Path) -> Path:
    """Folder of the plan and the sealed parts of an extraction under way."""
    return store.with_suffix(".parts")


def full_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a model's key with what belongs to every store, in JSON-able values."""
    return json.loads(json.dumps({**key, "numerics": NUMERICS}, sort_keys=True))


def key_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Name the first attributes in which two keys differ, with both values; None if equal."""
    named = [
        f"{name}: stored {theirs.get(name)!r}, asked {ours.get(name)!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    return "; ".join(named) if named else None


def key_hash(key: Mapping[str, Any]) -> str:
    """Hash of a key alone: BLAKE2b-128, hex."""
    return key_digest(key).hexdigest()


def key_digest(key: Mapping[str, Any]) -> hashlib.blake2b:
    """BLAKE2b-128 of a key as sorted JSON, to be updated further."""
    return hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16)


def identity(key: Mapping[str, Any], index: pd.DataFrame) -> str:
    """Hash of a key and of the sorted (utterance, audio hash): BLAKE2b-128, hex."""
    digest = key_digest(key)
    for utterance, audio_hash in sorted(zip(index["utterance"], index["audio_hash"], strict=True)):
        digest.update(f"\n{utterance}\t{audio_hash}".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> hashlib.blake2b:
    """BLAKE2b-128 over a file's bytes, as an object that can be copied and updated.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest


def audio_hash(digest: hashlib.blake2b, start: float, end: float, *, decoder: int = 1) -> str:
    """Hash of an utterance: its file's bytes, start and end (seconds) if any, who decodes it.

    Parameters
    ----------
    digest : hashlib object
        Over the file's bytes (`file_digest`); it is not used up.
    start, end : float
    decoder : int
        The decoder version whose samples they are (`features.audio.decode.Heard.decoder`). A row of
        another version is another row: its features are computed again.
    """
    part = digest.copy()
    if not (math.isnan(start) and math.isnan(end)):
        part.update(f"#{float(start)!r}-{float(end)!r}".encode())
    if decoder != 1:
        part.update(f"@decoder{decoder}".encode())
    return part.hexdigest()


def is_part(path: Path) -> bool:
    """Whether a file is a part of an extraction under way."""
    return path.parent.suffix == ".parts"


def anew(path: Path) -> str:
    """What replaces a file of which nothing can be used."""
    if is_part(path):
        return f"make extract MODEL={path.parent.stem} goes on, and computes it again"
    return (
        f"make extract MODEL={path.stem} FORCE=1 replaces it (one that was imported: import it "
        f"again with --force)"
    )


def frames_anew(path: Path) -> str:
    """What replaces a file of frames, or segments, of which nothing can be used."""
    if is_part(path):
        return anew(path)
    return f"delete it, and make extract MODEL={path.stem} makes it again"


def is_imported(key: Mapping[str, Any]) -> bool:
    """Whether other programs made the features (`python -m features import`)."""
    return str(key.get("source", "")).startswith("imported:")


def title(key: Mapping[str, Any]) -> str:
    """The model's name as it is shown: random weights say so.

    Examples
    --------
    >>> title({"model": "wav2vec2-tiny", "source": "untrained:wav2vec2"})
    'wav2vec2-tiny (untrained)'
    """
    untrained = str(key.get("source", "")).startswith("untrained:")
    return f"{key['model']} (untrained)" if untrained else str(key["model"])


def numerics_note(key: Mapping[str, Any], model: str) -> str:
    """What to know of a key that another version's numbers are of; empty for today's.

    An imported one has numbers of its own, which no version of this program computes.

    Parameters
    ----------
    key : mapping
        Of the store.
    model : str
        As `make extract` names it.

    Returns
    -------
    str
    """
    made = key.get("numerics")
    if is_imported(key) or made == NUMERICS:
        return ""
    return (
        f"made with numerics {made}, this version computes {NUMERICS}: scores can move; "
        f"make extract MODEL={model} FORCE=1 makes it anew"
    )
