"""Parts of an audio file that libsndfile is given one by one, as if each were a file of its own.

Conventions
-----------
- A file that libsndfile reads to its end is one part, the file as it is: `WHOLE`.
- Otherwise a part is a stretch of the file's bytes, with a head in front of it that says what the
  file's own does not, or says wrongly. Nothing is written, and no more is held than the head.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any

from features.common.files import open_regular


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `stop` of a file behind `head`; `stop` -1 is the file itself.

    Attributes
    ----------
    start, stop : int
    head : bytes
    tail : int
        Bytes that it says to be longer than it is.
    n_frames : int, optional
        Those that it has; None: as many as libsndfile says.
    """

    start: int
    stop: int
    head: bytes = b""
    tail: int = 0
    n_frames: int | None = None


_WINDOW = 1 << 16
"""Bytes that are read at once."""

_LAST = 128
"""Bytes at a file's end that are read for a tag."""

WHOLE = Part(0, -1)
"""The file as it is."""


@dataclass(frozen=True)
class Seen:
    """What libsndfile sees in a file as it is: the format's name, and how many frames it claims."""

    format: str
    n_frames: int


class View(io.RawIOBase):
    """A part of a file as a file to read."""

    def __init__(self, path: str, part: Part) -> None:
        super().__init__()
        # Unbuffered: libsndfile asks for blocks and keeps them itself.
        self._file = open_regular(path, "rb", buffering=0)
        self._path, self._part = path, part
        self._filled = len(part.head) + part.stop - part.start
        self._size = self._filled + part.tail
        self._at = 0
        self.error: OSError | None = None
        """What the system said when it did not read; libsndfile only sees an end."""

    def __repr__(self) -> str:
        return repr(self._path)  # what libsndfile's errors call it

    def readable(self) -> bool:
        """Views are to be read."""
        return True

    def seekable(self) -> bool:
        """Views are sought in."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; one outside the view is its nearest end, as libsndfile takes no error."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes.

        Parameters
        ----------
        buffer : writable buffer

        Returns
        -------
        int
            Bytes filled; 0 at the end, and where the system did not read (see `error`).
        """
        head = self._part.head
        with memoryview(buffer).cast("B") as whole:
            if self._part.tail and self._at >= self._size - _LAST:
                # A tag that is looked for at the end is not there; an error would be a fault.
                n = min(len(whole), self._size - self._at)
                whole[:n] = bytes(n)
                self._at += n
                return n
            wanted = min(len(whole), self._filled - self._at)
            done = 0
            while done < wanted:
                if self._at < len(head):
                    piece = head[self._at : self._at + wanted - done]
                    whole[done : done + len(piece)] = piece
                    n = len(piece)
                else:
                    try:
                        self._file.seek(self._part.start + self._at - len(head))
                        n = self._file.readinto(whole[done:wanted]) or 0
                    except OSError as error:
                        self.error = error
                        n = 0
                if not n:
                    break
                done += n
                self._at += n
        return done

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()


class Bytes:
    """A file's bytes, read where they are asked for."""

    def __init__(self, path: str) -> None:
        # Kept here: requests are small and go forward.
        self._file = open_regular(path, "rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self._window, self._start = b"", 0

    def __enter__(self) -> Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def at(self, start: int, n: int) -> bytes:
        """`n` bytes from `start`, fewer where the file ends.

        Parameters
        ----------
        start, n : int

        Returns
        -------
        bytes
            At most `n`.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        if start >= self.size:
            return b""  # headers point anywhere
        offset = start - self._start
        if offset >= 0 and offset + n <= len(self._window):
            return self._window[offset : offset + n]
        self._file.seek(start)
        self._window, self._start = self._file.read(max(n, _WINDOW)) or b"", start
        return self._window[:n]
