"""What a store says of itself, read once for all who ask, and again where its file changed."""

from __future__ import annotations

import functools
from pathlib import Path

from features.common.files import Stamp, file_stamp
from features.stores.frames import FrameStore
from features.stores.key import frames_path, store_path
from features.stores.read import Store

MOST = 64
"""Stores that are remembered: each has its index in memory."""


def source_of(stores: Path, corpus: str, model: str, kind: str | None = None) -> Store | FrameStore:
    """What a head is fitted on, as `seen` gives it.

    Parameters
    ----------
    stores : Path
    corpus, model : str
    kind : {"frames", "segments"}, optional
        Without it pooled features.

    Raises
    ------
    StoreError
        As of `Store` and `FrameStore`; a file holds the other kind.
    """
    if kind is None:
        return seen(store_path(stores, corpus, model))
    path = frames_path(stores, corpus, model, kind)
    store = _seen_frames(path, file_stamp(path))
    store.require(kind)
    return store


def seen(path: Path) -> Store:
    """A store that was opened, read but for its features, and closed.

    Parameters
    ----------
    path : Path

    Raises
    ------
    StoreError
        As of `Store`.
    """
    return _seen(path, file_stamp(path))


@functools.lru_cache(MOST)
def _seen(path: Path, stamp: Stamp | None) -> Store:
    with Store(path) as store:
        return store


@functools.lru_cache(MOST)
def _seen_frames(path: Path, stamp: Stamp | None) -> FrameStore:
    with FrameStore(path) as store:
        return store
