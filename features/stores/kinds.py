"""The two kinds of files below STORES, opened whichever it is."""

from __future__ import annotations

from pathlib import Path

from features.stores.contents import OtherKindError
from features.stores.frames import FrameStore
from features.stores.key import FRAMES, is_part
from features.stores.read import Store


def in_frames(path: Path) -> bool:
    """Whether a file lies where frames lie: in their folder, or by its name among parts."""
    return path.name.startswith("frames-") if is_part(path) else path.parent.name == FRAMES


def opened(path: Path) -> Store | FrameStore:
    """A store or a file of frames, opened for reading.

    Raises
    ------
    StoreError
        It is neither, or damaged.
    """
    # A corpus may have the name of the folder of frames: what the file says decides.
    first, second = (FrameStore, Store) if in_frames(path) else (Store, FrameStore)
    try:
        return first(path)
    except OtherKindError:
        return second(path)


def corpus_folder(path: Path) -> Path:
    """The folder of a corpus, by a finished file of either kind."""
    above = path.parent.parent
    framed = path.parent.name == FRAMES and (above / "utterances.csv").exists()
    return above if framed else path.parent
