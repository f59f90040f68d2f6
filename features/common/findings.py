"""What was found while files were read: counted, with the first few named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from features.common.words import counted

EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """Something about a corpus's files that does not stop the work but has to be known.

    Attributes
    ----------
    kind : str
        For programs, e.g. `labels-without-audio`.
    count : int
        How many files, rows or values it concerns.
    examples : tuple of str
        The first few of them.
    text : str
        One line for people, which names the examples.
    """

    kind: str
    count: int
    examples: tuple[str, ...]
    text: str


def finding(kind: str, items: Iterable[str], text: str, singular: str = "") -> list[Finding]:
    """Make a list of one finding, or of none where there is no item.

    Parameters
    ----------
    kind : str
    items : iterable of str
    text : str
        What stands behind their count.
    singular : str
        The same behind 1, where it differs.

    Examples
    --------
    >>> finding("labels-without-audio", ["a", "b"], "label rows without audio")[0].text
    '2 label rows without audio: a, b'
    """
    items = list(items)
    if not items:
        return []
    line = f"{counted(len(items), singular or text, text)}: {some(items)}"
    return [Finding(kind, len(items), tuple(items[:EXAMPLES]), line)]


def some(items: Sequence[str], n: int = EXAMPLES) -> str:
    """Name the first `n` items and count the rest.

    Examples
    --------
    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    rest = len(items) - n
    return ", ".join(items[:n]) + (f" and {rest} more" if rest > 0 else "")
