"""A recipe's file: TOML of a bounded size, every text in the one form."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.common.errors import RecipeError, nearest
from features.common.files import TOML_BYTES, read_text
from features.common.text import clean, clean_all

# A dotted key of so many parts: tomllib takes the square of their number in time and memory.
_DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]+[ \t]*\.[ \t]*){100}""")
PATHS = {"corpora": ("root", "file"), "models": ("path",), "split": ("emobox",)}
"""What names files in each section: looked up as it stands, in either form."""


def read_recipe(path: Path, twice: list[str]) -> dict[str, Any]:
    """Read the tables of a recipe.

    Parameters
    ----------
    path : Path
    twice : list of str
        Keys that stand twice, in spellings that are one, are appended.

    Raises
    ------
    RecipeError
        There is no such file, or it is no TOML.
    """
    return _clean(_read_toml(path), twice)


def _clean(raw: Mapping[str, Any], twice: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = clean(key)
        twice += [name] if name in found else []
        found[name] = clean_all(value, twice, PATHS.get(name, ()))
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, "utf-8-sig", TOML_BYTES)
        if _DEEP_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except FileNotFoundError:
        near = nearest(path.name, [other.name for other in path.parent.glob("*.toml")])
        raise RecipeError(
            f"{path}: no such recipe{near}; shipped ones are in recipes/, and "
            f"RECIPE=path names another"
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; RECIPE names a TOML file") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RecipeError(f"{path}: not valid TOML: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None
    except ValueError as error:  # no TOML, a number beyond all measure
        refused = _lists_and_tables(text) or [f"not valid TOML: {error}"]
        raise RecipeError("\n  ".join(f"{path}: {fault}" for fault in refused)) from None


def _lists_and_tables(text: str) -> list[str]:
    """What TOML refuses where `corpora` or `models` is a list and has tables, too."""
    faults = []
    for key in ("corpora", "models"):
        is_list = re.search(rf"^[ \t]*{key}[ \t]*=[ \t]*\[", text, re.MULTILINE)
        table = re.search(rf"^[ \t]*\[[ \t]*{key}[ \t]*\.[ \t]*([^\]\n.]+)", text, re.MULTILINE)
        if is_list and table:
            name = table[1].strip(" \t\"'")
            faults.append(
                f"{key} is a list and has [{key}.{name}] beside it; it is one or the other: leave "
                f"the list out and give every member a table of its own (empty where it needs no "
                f"settings), or write {{name = '{name}', ...}} into the list"
            )
    return faults
