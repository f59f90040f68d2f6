"""Words for people: counts with what is counted."""

from __future__ import annotations


def counted(n: int, singular: str, plural: str = "") -> str:
    """A count and its noun, which may bring a verb along.

    Parameters
    ----------
    n : int
    singular, plural : str
        What stands behind 1, and behind all other counts; without `plural` it takes an s.

    Examples
    --------
    >>> counted(1, "speaker"), counted(0, "speaker")
    ('1 speaker', '0 speakers')
    >>> counted(1, "row has", "rows have"), counted(2, "row has", "rows have")
    ('1 row has', '2 rows have')
    """
    return f"{n} {singular if n == 1 else plural or f'{singular}s'}"
