"""`corpora` and `models`: lists of keys, or tables where a member has settings of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from features.common.sections import S, check_section, names_folder

RUN_FOLDERS = ("fusion", "predict", "protocols", "report", "submission")
"""What stands in `runs/<recipe>/` beside the models' runs."""


def members_of(kind: type[S], raw: Mapping[str, Any], key: str, faults: list[str]) -> dict[str, S]:
    """Read `corpora` or `models`: a list of keys and inline tables, or a table of tables.

    Parameters
    ----------
    kind : type
        Of a table.
    raw : mapping
        The recipe as TOML gives it.
    key : {"corpora", "models"}
    faults : list of str
        Is added to.

    Returns
    -------
    dict
        Name -> instance of `kind`, in the order of the recipe; a table with faults is left out.
    """
    given = raw.get(key)
    if not given:
        faults.append(f'{key}: missing; give a list: {key} = ["..."]')
        return {}
    result: dict[str, S] = {}
    for name, values in _pairs(given, key, faults):
        if name in result:
            faults.append(f"{key}: {name} is named twice")
        if not names_folder(name):
            faults.append(f"{key}: {name!r} cannot name a folder; no / \\ @ in a name")
        if key == "models" and name in RUN_FOLDERS:
            faults.append(f"models: '{name}' is a folder beside the runs; choose another name")
        checked = check_section(kind, values, f"[{key}.{name}] ", faults)
        if checked is not None:
            result[name] = checked
    return result


def _pairs(given: Any, key: str, faults: list[str]) -> Iterable[tuple[str, Any]]:
    """The names of members, each with its settings."""
    if isinstance(given, dict):
        return list(given.items())
    if not isinstance(given, list):
        faults.append(f"{key}: got {given!r}, allowed: a list of keys, or [{key}.NAME] tables")
        return []
    pairs: list[tuple[str, Any]] = []
    for member in given:
        if isinstance(member, str):
            pairs.append((member, {}))
        elif isinstance(member, dict) and isinstance(member.get("name"), str):
            pairs.append((member["name"], {k: v for k, v in member.items() if k != "name"}))
        else:
            faults.append(f"{key}: got {member!r}, allowed: a key, or a table with a name")
    return pairs
