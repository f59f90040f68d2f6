"""Values in a checkpoint's JSON files, which hold anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from features.common.errors import ModelError
from features.common.files import parse_json, read_text

MOST = 1_000_000
"""Of any size in config.json: what is larger is no model's."""


def read_json(key: str, path: Path) -> dict[str, Any]:
    """Read an object from a checkpoint's JSON file.

    Parameters
    ----------
    key : str
        The model's, for errors.
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    ModelError
        It cannot be read or holds something else.
    """
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise ModelError(f"{key}: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{key}: {path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{key}: {path} holds a {type(content).__name__}, expected an object")
    return content


def checked_size(where: str, name: str, value: Any) -> int:
    """A size in config.json.

    Raises
    ------
    ModelError
        It is no integer from 1 to `MOST`.
    """
    if not is_count(value) or value > MOST:
        raise ModelError(
            f"{where}: {name} is {as_json(value)} in config.json; expected an integer from 1 to "
            f"{MOST}"
        )
    return int(value)


def is_count(value: Any) -> bool:
    """Whether a value of a JSON file is a positive integer.

    Examples
    --------
    >>> is_count(3), is_count(True), is_count(0)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: Any) -> bool:
    """Whether a value is a number of any use: JSON has integers without end, too."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def as_json(value: Any) -> str:
    """Give a value as a JSON file has it, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
