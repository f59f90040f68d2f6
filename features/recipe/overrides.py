"""`SET=`: keys of a recipe that the command line sets, as `head.layer=best models.x.path=/w/x`.

Conventions
-----------
- Assignments stand between blanks; blanks inside quotes and brackets belong to a value.
- A key is dotted, as in TOML; a part that holds a dot or a blank is quoted. Of `corpora` and
  `models` that are lists, the second part is the name of a member, which is added where it is new.
- A value is TOML's. What TOML does not know is a text as it stands, in a list, too: `[uar, wa]`.
- A value takes the place of the whole one that it sets, and is checked as if it stood in the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

from features.common.errors import nearest
from features.common.text import clean, clean_all
from features.recipe.reading import PATHS

_OPEN, _CLOSED = "[{", "]}"
_KEY = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s."'=\[\]{}]+)""")
_NAMED = ("corpora", "models")


def apply(raw: dict[str, Any], given: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Set keys of a recipe's tables in place.

    Parameters
    ----------
    raw : dict
        The tables of the file.
    given : sequence of str
        Each one or several assignments.
    keys : sequence of str
        What may stand at the top of a recipe.

    Returns
    -------
    list of str
        The faults of what could not be set.

    Examples
    --------
    >>> tables = {"models": ["a", "b"], "head": {"layer": "last"}}
    >>> apply(tables, ["head.layer=best models.b.path=/w"], ["models", "head"])
    []
    >>> tables
    {'models': {'a': {}, 'b': {'path': '/w'}}, 'head': {'layer': 'best'}}
    """
    faults: list[str] = []
    for text in given:
        for assignment in _divided(text, None):
            try:
                key, value = _parsed(assignment)
                if key[0] not in keys:
                    raise ValueError(f"'{key[0]}' is no key of a recipe{nearest(key[0], keys)}")
                _set(raw, key, value)
            except ValueError as error:
                faults.append(f"SET={assignment}: {error}")
    return faults


def _parsed(assignment: str) -> tuple[list[str], Any]:
    """The parts of the key, and the value, in the one form of texts."""
    parts, at = [], 0
    while found := _KEY.match(assignment, at):
        parts.append(clean(found[0].strip("\"'")))
        at = found.end()
        if assignment[at : at + 1] != ".":
            break
        at += 1
    if not parts or assignment[at : at + 1] != "=" or not assignment[at + 1 :]:
        raise ValueError("expected key=value, as in head.layer=best")
    value = _value(assignment[at + 1 :])
    if parts[-1] not in PATHS.get(parts[0], ()):
        value = clean_all([value], [], PATHS.get(parts[0], ()))[0]
    return parts, value


def _value(text: str) -> Any:
    """What TOML makes of a text; else a list of such, or the text as it stands."""
    try:
        found = tomllib.loads(f"value = {text}")
        if set(found) == {"value"} and not isinstance(found["value"], (date, datetime, time)):
            return found["value"]
        return text
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        if text[0] == "[" and text[-1] == "]":
            return [_value(part.strip()) for part in _divided(text[1:-1], ",") if part.strip()]
        if text[0] in "[{\"'":
            raise ValueError("not a value of TOML") from None
        return text


def _divided(text: str, mark: str | None) -> list[str]:
    """The parts between marks (None: blanks) that stand in no quotes or brackets."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and (not parts[-1] or parts[-1][-1] in "=,[{. "):
            quote = letter
        else:
            depth += (letter in _OPEN) - (letter in _CLOSED)
        between = letter == mark if mark else letter.isspace()
        if between and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def _set(raw: dict[str, Any], key: Sequence[str], value: Any) -> None:
    """Set a key in place; tables on the way are made.

    Raises
    ------
    ValueError
        What lies on the way is no table.
    """
    table = raw
    for depth, part in enumerate(key[:-1], 1):
        below = table.setdefault(part, {})
        if depth == 1 and part in _NAMED and isinstance(below, list):
            below = table[part] = _by_name(below, part)
        if not isinstance(below, dict):
            raise ValueError(f"{'.'.join(key[:depth])} is {below!r}, no table")
        table = below
    table[key[-1]] = value


def _by_name(members: list[Any], key: str) -> dict[str, Any]:
    """A list of names and inline tables as a table of tables."""
    found: dict[str, Any] = {}
    for member in members:
        values = dict(member) if isinstance(member, dict) else {}
        name = values.pop("name", None) if values else member
        if not isinstance(name, str) or name in found:
            raise ValueError(f"{key} is {members!r}, no list of names")
        found[name] = values
    return found
