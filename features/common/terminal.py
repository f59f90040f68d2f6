"""Text on a terminal: what would turn, move or hide the text around it is written out; its width.

Conventions
-----------
- Widths are columns: letters of East Asian scripts take two, accents and joiners none.
- A line is broken between words, never within a short `[...]` or `(...)`: intervals stay whole.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: a terminal's escape sequences begin so
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the direction
    "\u2028\u2029\ud800-\udfff]"  # line ends that are none in a file; bytes that were no text
)
_WORD = re.compile(r"(?:\[[^\[\]]{,30}\]|\([^()]{,30}\)|\S)+")
"""What a line is not broken in: no blank, but those within brackets that are close together."""
DEFAULT_WIDTH = 80
"""Columns of a terminal that does not say how many it has."""
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


def terminal_width() -> int:
    """Columns that there are: those of `COLUMNS` or of the terminal, 80 where neither is known."""
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


def width_of(text: str) -> int:
    r"""Columns that a text takes.

    Parameters
    ----------
    text : str

    Returns
    -------
    int

    Examples
    --------
    >>> width_of("calm"), width_of("\u6012\u308a"), width_of("Zoe\u0308")
    (4, 4, 3)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )  # fmt: skip


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text with blanks up to a width; at the right of them, or at their left."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def folded(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a text that is broken between words.

    Parameters
    ----------
    text : str
        Blanks in it are blanks of a line.
    width : int
        Columns of a line. A word, or an interval in brackets, that is wider has its own line.
    indent : str
        Begins every line but the first.

    Returns
    -------
    list of str
        One line, empty, where there is no text.

    Examples
    --------
    >>> folded("0.412 [0.380, 0.441] of 8 speakers", 16, "  ")
    ['0.412', '  [0.380, 0.441]', '  of 8 speakers']
    """
    lines = [""]
    for word in _WORD.findall(text):
        line = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and width_of(line) > width:
            lines.append(indent + word)
        else:
            lines[-1] = line
    return lines


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
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def shown_streams() -> Iterator[None]:
    """Show what the body prints; a progress bar may move the cursor of stderr."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, _Shown(out, False)), cast(TextIO, _Shown(err, True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
