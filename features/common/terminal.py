"""Names as they are shown: what would turn, move or hide the text around it is written out."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: a terminal's escape sequences begin so
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the direction
    "\u2028\u2029\ud800-\udfff]"  # line ends that are none in a file; bytes that were no text
)
_MOVES = re.compile(r"(?:[\r\n]|\x1b\[A)*")
"""What a progress bar writes between its lines."""


def shown(text: str) -> str:
    r"""Text with every character written out that is not seen but does something.

    Control characters (but tabs and line feeds), marks of the direction of writing, and what is no
    character, as Python writes them in a literal. Letters of every script stay as they are.

    Examples
    --------
    >>> print(shown("anger\u202egnp.wav \x1b[2J é"))
    anger\u202egnp.wav \x1b[2J é
    """
    return _HIDDEN.sub(lambda found: ascii(found.group())[1:-1], text)


class _Shown:
    """A stream that gets all text as it is `shown`; bytes and everything else are the stream's."""

    def __init__(self, stream: TextIO, moves: bool) -> None:
        self._stream, self._moves = stream, moves

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self._moves and _MOVES.fullmatch(text):
            self._stream.write(text)
        elif self._moves and text.startswith("\r"):
            ending = "\r" if text.endswith("\r") and len(text) > 1 else ""
            body = text[1 : len(text) - len(ending)]
            self._stream.write(f"\r{shown(body)}{ending}")
        else:
            self._stream.write(shown(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for one in lines:
            self.write(one)


@contextlib.contextmanager
def shown_streams() -> Iterator[None]:
    """Show what the body prints; a progress bar may move the cursor of stderr."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, _Shown(out, False)), cast(TextIO, _Shown(err, True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
