"""How what is worth saying leaves a function of a library: as a line, to whoever asked for it.

A command passes `aloud`, a worker collects the lines and sends them, a notebook hears nothing
unless it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

Tell = Callable[[str], None]
"""Takes one line, or several with line breaks between them."""


def silent(line: str) -> None:
    """Let a line pass."""


def aloud(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def aside(line: str) -> None:
    """Print a line on stderr at once: a warning, or what is waited for."""
    print(line, file=sys.stderr, flush=True)
