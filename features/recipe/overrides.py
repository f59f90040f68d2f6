"""`SET=`: keys of a recipe that the command line sets, as `head.layer=best models.x.path=/w/x`.

Conventions
-----------
- Assignments stand between blanks; blanks inside quotes and brackets belong to a value.
- A key is dotted, as in TOML; a part that holds a dot or a blank is quoted. Of `corpora` and
  `models` that are lists, the second part is the name of a member, which is added where it is new;
  one that is nearly the name of another is a slip, unless it stands in the list.
- A kind of head that is set goes with its own default grid, unless a grid is set, too: that of the
  file is of another kind.
- A value is TOML's. What TOML does not know is a text as it stands, in a list, too: `[uar, wa]`.
- A value takes the place of the whole one that it sets, and is checked as if it stood in the file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Sequence
from datetime import date, datetime, time
from typing import Any

from features.common.errors import nearest
from features.common.text import clean, clean_all
from features.recipe.reading import PATHS

_OPEN, _CLOSED = "[{", "]}"
_KEY = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s."'=\[\]{}]+)""")
_NAMED = ("corpora", "models")
_HEADS = {2: "head", 3: "heads"}
"""What the key of a kind begins with, by its number of parts: `head.kind`, `heads.svm.kind`."""
_NEAR = 0.8
"""From here on (`difflib`'s ratio) a new name is taken for a slip: `egemap`, `wavml-large`."""


def apply(
    raw: dict[str, Any], given: Sequence[str], keys: Sequence[str], notes: list[str]
) -> list[str]:
    """Set keys of a recipe's tables in place.

    Parameters
    ----------
    raw : dict
        The tables of the file.
    given : sequence of str
        Each one or several assignments.
    keys : sequence of str
        What may stand at the top of a recipe.
    notes : list of str
        Is added to: what else changed by what is set.

    Returns
    -------
    list of str
        The faults of what could not be set.

    Examples
    --------
    >>> tables = {"models": ["a", "b"], "head": {"layer": "last"}}
    >>> apply(tables, ["head.layer=best models.b.path=/w"], ["models", "head"], [])
    []
    >>> tables
    {'models': {'a': {}, 'b': {'path': '/w'}}, 'head': {'layer': 'best'}}
    """
    faults: list[str] = []
    former: dict[tuple[str, ...], Any] = {}
    done: list[list[str]] = []
    for text in given:
        for assignment in _divided(text, None):
            try:
                key, value = _parsed(assignment)
                if key[0] not in keys:
                    raise ValueError(f"'{key[0]}' is no key of a recipe{nearest(key[0], keys)}")
                if key[-1] == "kind" and key[0] == _HEADS.get(len(key)):
                    former.setdefault(tuple(key[:-1]), _table(raw, key[:-1]).get("kind"))
                _set(raw, key, value)
                done.append(key)
            except ValueError as error:
                faults.append(f"SET={assignment}: {error}")
    for table, kind in former.items():
        grid = [*table, "grid"]
        if not any(key == list(table) or key[: len(grid)] == grid for key in done):
            notes += _without_grid(raw, table, kind)
    return faults


def _table(raw: Any, table: Sequence[str]) -> dict[str, Any]:
    """A table of a recipe that may be faulty; empty where it is not there."""
    for name in table:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def _without_grid(raw: dict[str, Any], table: Sequence[str], former: Any) -> list[str]:
    """Leave out the grid of the kind before, and say so; nothing where the kind is the same."""
    head, name = _table(raw, table), ".".join(table)
    kind = head.get("kind")
    if kind == former or not head.get("grid"):
        return []
    del head["grid"]
    return [
        f"[{name}] kind is set to {kind}: the recipe's grid, of {former}, is left out, and the "
        f"default grid of {kind} taken; SET='{name}.grid={{...}}' gives another"
    ]


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
        What lies on the way is no table, or a new member is nearly named as another.
    """
    table = raw
    for depth, part in enumerate(key[:-1], 1):
        below = table.setdefault(part, {})
        if depth == 1 and part in _NAMED and isinstance(below, list):
            below = table[part] = _by_name(below, part)
        if not isinstance(below, dict):
            raise ValueError(f"{'.'.join(key[:depth])} is {below!r}, no table")
        if depth == 1 and part in _NAMED and len(key) > 2:
            _refuse_slip(key[1], below, part)
        table = below
    table[key[-1]] = value


def _refuse_slip(name: str, members: Collection[str], key: str) -> None:
    """Refuse a new member that is nearly named as one of the list.

    Raises
    ------
    ValueError
        Naming the nearest, and how one of such a name is added.
    """
    near = difflib.get_close_matches(name, members, n=2, cutoff=_NEAR)
    if name not in members and near:
        raise ValueError(
            f"'{name}' is not among {key} ({', '.join(members)}); did you mean "
            f"{' or '.join(map(repr, near))}? To add it, name it first: "
            f'"{key}=[{", ".join([*members, name])}] {key}.{name}...="'
        )


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
