"""The kinds of files below STORES, opened whichever it is."""

from __future__ import annotations

from pathlib import Path

from features.recipe.known.frame_kinds import FRAME_KINDS
from features.stores.contents import OtherKindError
from features.stores.frames import FrameStore
from features.stores.key import frame_kind
from features.stores.read import Store


def opened(path: Path) -> Store | FrameStore:
    """A store or a file of frames or segments, opened for reading.

    Raises
    ------
    StoreError
        It is neither, or damaged.
    """
    # A corpus may have the name of the folder of frames: what the file says decides.
    first, second = (FrameStore, Store) if frame_kind(path) else (Store, FrameStore)
    try:
        return first(path)
    except OtherKindError:
        return second(path)


def corpus_folder(path: Path) -> Path:
    """The folder of a corpus, by a finished file of any kind."""
    above = path.parent.parent
    framed = path.parent.name in FRAME_KINDS and (above / "utterances.csv").exists()
    return above if framed else path.parent
