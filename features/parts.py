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
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `stop` of a file behind `head`; `stop` -1 is the file itself."""

    start: int
    stop: int
    head: bytes = b""


WHOLE = Part(0, -1)
"""The file as it is."""


class View(io.RawIOBase):
    """A part of a file as a file to read."""

    def __init__(self, path: str, part: Part) -> None:
        super().__init__()
        # Unbuffered: libsndfile asks for blocks and keeps them itself.
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._part = part
        self._size = len(part.head) + part.stop - part.start
        self._at = 0
        self.error: OSError | None = None
        """What the system said when it did not read; libsndfile only sees an end."""

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
        """Fill a buffer as far as there are bytes."""
        head = self._part.head
        with memoryview(buffer).cast("B") as whole:
            wanted = min(len(whole), self._size - self._at)
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


def parts_of(path: Path) -> list[Part]:
    """The parts of a file by its own framing; one that is not known here is one part."""
    return [WHOLE]
