"""JSON files of a run, hashes and versions."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.runs.folders import INNER
from features.common.errors import RunError
from features.common.files import (
    IrregularFileError,
    open_regular,
    parse_json,
    read_bytes,
    read_text,
    write_text,
)
from features.common.kept import hash_of, is_held

if TYPE_CHECKING:
    pass


_PACKAGES = ("serfuse", "numpy", "scipy", "scikit-learn", "pandas", "joblib", "h5py")


def read_run(folder: str | Path) -> dict[str, Any] | None:
    """Read `run.json`; None where the run is missing or unfinished."""
    return read_json(Path(folder) / "run.json")


def fingerprint(settings: Any) -> str:
    """BLAKE2b-128 of the canonical JSON of `settings`, as hex.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": (2,)}) == fingerprint({"b": [2], "a": 1})
    True
    """
    text = json.dumps(plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_hash(path: str | Path) -> str:
    """BLAKE2b-128 of a file's bytes, as hex."""
    return hash_of(path, lambda: _file_hash(path))


def _file_hash(path: str | Path) -> str:
    """The hash; what is kept of a file serves it, but of inner predictions (large) no more is."""
    if is_held() and Path(path).name != INNER:
        return hashlib.blake2b(read_bytes(path), digest_size=16).hexdigest()
    with open_regular(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, without importing them.

    Parameters
    ----------
    more : str
        Packages that these numbers depend on beside those of all.

    Returns
    -------
    dict
        Package -> version, "not installed" where it is not.
    """
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write an object as JSON whole or not at all, NaN as null, with a digest of the rest."""
    whole = {**plain(value), "digest": fingerprint(value)}
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", RunError)


def read_json(path: str | Path, again: str = "the command") -> dict[str, Any] | None:
    """Read what `write_json` wrote; None where there is no such file.

    Parameters
    ----------
    path : path
    again : str
        The command that writes it, for errors.

    Returns
    -------
    dict or None
        Without the digest.

    Raises
    ------
    RunError
        Where the file is damaged, or is not what was written.
    """
    try:
        value = parse_json(read_text(path))
        if not isinstance(value, dict) or value.pop("digest", None) != fingerprint(value):
            raise ValueError("not as it was written")
        return value
    except FileNotFoundError:
        return None
    except IrregularFileError as error:
        raise RunError(str(error)) from None
    except (ValueError, OSError, RecursionError) as error:
        raise RunError(f"{path}: damaged: {error}; remove it and run {again} again") from None


def plain(value: Any) -> Any:
    """Turn mappings, sequences, paths, numpy scalars and NaN into JSON's own types.

    Parameters
    ----------
    value : any

    Returns
    -------
    any
        Of dict, list, str, int, float, bool and None alone; NaN and infinities are None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(inside) for inside in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
