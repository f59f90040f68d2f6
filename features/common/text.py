"""One form for every text that enters: composed accents, plain single blanks, nothing invisible.

Conventions
-----------
- Speakers, labels, sessions, sentences, ids, names of columns, corpora, models and fusions are
  `clean` wherever they come in: from corpora, recipes, the command line, files of features. What is
  written is clean, so that nothing has to be folded where names are compared.
- Clean is Unicode NFC; every run of blanks (no-break, thin, ideographic, tabs, line breaks) is one
  blank, and there is none at either end; what shows nowhere and says nothing is gone: soft hyphens,
  zero-width blanks, word joiners, byte-order marks, marks of direction.
- Joiners and non-joiners (U+200C, U+200D) stay: Persian and Indic words differ by them. So do
  direction overrides, which change what is seen. Names that differ by such alone are odd (`alike`).
- Case stays: `Anger` and `anger` are two labels, and odd.
- File names are the user's: on disk nothing is renamed, and they are compared under `nfc` alone
  (`features.common.walk`); the ids that are made of them are clean.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from features.common.words import counted

DROPPED = dict.fromkeys(map(ord, "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060\ufeff"))
"""What shows nowhere: soft hyphen, Arabic letter mark, Mongolian vowel separator, zero-width blank,
left-to-right and right-to-left mark, word joiner, byte-order mark."""
_IGNORED = re.compile(r"[\s\u200c\u200d\u202a-\u202e\u2066-\u2069]+")


def nfc(text: str) -> str:
    """Compose a name's accents, so that it is the same text on every file system."""
    return unicodedata.normalize("NFC", text)


def clean(text: str) -> str:
    r"""Bring a text into the one form.

    Examples
    --------
    >>> clean("Zoe\u0308") == clean("Zo\u00eb"), clean("\u200b very\u00a0 \tcalm\u202f")
    (True, 'very calm')
    """
    if not text.isascii():
        # First: an accent behind an invisible character is composed once that is gone.
        text = nfc(text.translate(DROPPED))
    return " ".join(text.split())


def alike(text: str) -> str:
    """What two names share that differ in case, in blanks, or in what cannot be seen alone.

    Examples
    --------
    >>> alike("Anger") == alike("anger "), alike("s 1") == alike("s1"), alike("s1") == alike("s2")
    (True, True, False)
    """
    return _IGNORED.sub("", clean(text)).casefold()


def merged(column: str, texts: Iterable[str]) -> list[str]:
    r"""Say which values became one as they were made clean, and from what.

    Parameters
    ----------
    column : str
        What the values are called.
    texts : iterable of str
        One a row.

    Returns
    -------
    list of str
        A line for each value that had more than one form, the forms counted.

    Examples
    --------
    >>> merged("speaker", ["Zo\u00eb", "Zoe\u0308", "Zoe\u0308", "Bo"])
    ["speaker 'Zoe\\u0308' (2 rows) = 'Zo\\xeb' (1 row)"]
    """
    counts = Counter(texts)
    groups: dict[str, list[str]] = defaultdict(list)
    for text in counts:
        groups[clean(text)].append(text)
    return [
        f"{column} "
        + " = ".join(f"{ascii(form)} ({counted(counts[form], 'row')})" for form in sorted(group))
        for name, group in groups.items()
        if len(group) > 1 and name
    ]


def told_apart(texts: Iterable[str]) -> list[str]:
    r"""Write names so that a reader can tell them apart.

    Examples
    --------
    >>> told_apart(["a", "b"]), told_apart(["Zo\u00eb", "Zoe\u0308"])
    (['a', 'b'], ["'Zo\\xeb'", "'Zoe\\u0308'"])
    """
    texts = list(texts)
    apart = len({clean(text) for text in texts}) == len(set(texts))
    return texts if apart else [ascii(text) for text in texts]


def one_letter_apart(name: str, other: str) -> bool:
    """Whether one letter less, more or else, or two neighbours swapped, makes one name the other.

    Parameters
    ----------
    name, other : str

    Returns
    -------
    bool
        False where they are equal.

    Examples
    --------
    >>> one_letter_apart("speakr", "speaker"), one_letter_apart("emotoin", "emotion")
    (True, True)
    >>> one_letter_apart("path", "path"), one_letter_apart("arousal", "valence")
    (False, False)
    """
    if len(name) > len(other):
        name, other = other, name
    if name == other or len(other) - len(name) > 1:
        return False
    pairs = enumerate(zip(name, other, strict=False))
    start = next((i for i, (a, b) in pairs if a != b), len(name))
    rest, more = name[start:], other[start:]
    if len(name) < len(other):
        return rest == more[1:]
    swapped = len(rest) > 1 and rest[:2] == more[1::-1] and rest[2:] == more[2:]
    return rest[1:] == more[1:] or swapped


def clean_all(value: Any, twice: list[str], paths: Collection[str] = ()) -> Any:
    r"""Bring all texts of nested lists and tables into the one form, keys as well.

    Parameters
    ----------
    value : any
        As TOML gives it; what is no text, list or table stays.
    twice : list of str
        Gets the keys of one table that become one and have different values.
    paths : collection of str
        Keys whose texts name files, and stay as they are written.

    Returns
    -------
    any
        A new value of the same shape.

    Examples
    --------
    >>> clean_all({"a\u00a0b": [" c ", 1]}, [])
    {'a b': ['c', 1]}
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return type(value)(clean_all(item, twice, paths) for item in value)
    if not isinstance(value, Mapping):
        return value
    found: dict[Any, Any] = {}
    for key, item in value.items():
        name = clean_all(key, twice)
        if not (name in paths and isinstance(item, str)):
            item = clean_all(item, twice, paths)
        if name in found and found[name] != item:
            twice.append(str(name))
        found[name] = item
    return found
