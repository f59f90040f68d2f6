"""Files that a command reads once, however many of its steps look at them.

A `Kept` belongs to who makes it. While it is held, `features.common.files` and the hashes of
`evaluate.runs.files` look into it before they open a file; outside, every reader opens its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

_HELD: ContextVar[Kept | None] = ContextVar("held", default=None)
"""That of the command at work; a command within it may hold one of its own."""


class Kept:
    """Contents and hashes of files, each as it was when it was first read.

    Examples
    --------
    >>> kept = Kept()
    >>> with kept.held():
    ...     [content_of("a", lambda: text) for text in (b"first", b"later")]
    [b'first', b'first']
    >>> content_of("a", lambda: b"later")
    b'later'
    """

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let every reader within look here first; nothing that is kept is to be written there."""
        token = _HELD.set(self)
        try:
            yield
        finally:
            _HELD.reset(token)

    def content(self, path: str | Path, read: Callable[[], bytes]) -> bytes:
        """What a file holds; it is read where that was not done yet."""
        key = os.path.abspath(path)
        if key not in self._contents:
            self._contents[key] = read()
        return self._contents[key]

    def hash(self, path: str | Path, make: Callable[[], str]) -> str:
        """The hash of a file; it is made where that was not done yet."""
        key = os.path.abspath(path)
        if key not in self._hashes:
            self._hashes[key] = make()
        return self._hashes[key]


def is_held() -> bool:
    """Whether what is read is kept."""
    return _HELD.get() is not None


def content_of(path: str | Path, read: Callable[[], bytes]) -> bytes:
    """What a file holds, from what is kept where something is."""
    held = _HELD.get()
    return read() if held is None else held.content(path, read)


def hash_of(path: str | Path, make: Callable[[], str]) -> str:
    """The hash of a file, from what is kept where something is."""
    held = _HELD.get()
    return make() if held is None else held.hash(path, make)
