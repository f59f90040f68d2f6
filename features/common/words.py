"""Words for people: counts with what is counted."""

from __future__ import annotations


def counted(n: int, one: str, many: str = "") -> str:
    """A count and its noun, which may bring a verb along.

    Parameters
    ----------
    n : int
    one, many : str
        What stands behind 1, and behind all other counts; without `many` it takes an s.

    Examples
    --------
    >>> counted(1, "speaker"), counted(0, "speaker")
    ('1 speaker', '0 speakers')
    >>> counted(1, "row has", "rows have"), counted(2, "row has", "rows have")
    ('1 row has', '2 rows have')
    """
    return f"{n} {one if n == 1 else many or f'{one}s'}"
