"""Tensors and a record in one file: safetensors with JSON in its header. Nothing is pickled.

Conventions
-----------
- The header's metadata has one entry, `serfuse`: JSON with `format` (what kind of file), `version`
  and `record`. (Several would stand in an order that changes from run to run.)
- A file is written under a temporary name, synced and renamed (`features.common.files`): it is
  there whole or not at all, and tensors and record are always of one moment.
- Imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.common.errors import RunError, first_line
from features.common.files import parse_json, read_bytes, write_bytes

ENTRY = "serfuse"
MOST_BYTES = 1 << 34
HEADER_BYTES = 8
"""The length of the header, little-endian."""


def write_tensors(
    path: Path, kind: str, version: int, tensors: dict[str, NDArray[Any]], record: dict[str, Any]
) -> None:
    """Write a file whole.

    Parameters
    ----------
    path : Path
    kind : str
    version : int
    tensors : dict
        Name -> array of floats.
    record : dict
        JSON-able.

    Raises
    ------
    RunError
        It cannot be written.
    """
    from safetensors.numpy import save

    text = json.dumps({"format": kind, "version": version, "record": record})
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_bytes(path, save(arrays, metadata={ENTRY: text}), RunError)


def read_tensors(
    path: Path, kind: str, version: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file that `write_tensors` wrote.

    Parameters
    ----------
    path : Path
    kind : str
    version : int

    Returns
    -------
    tensors : dict
    record : dict

    Raises
    ------
    RunError
        It is missing, damaged, or of another kind or version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = read_bytes(path, MOST_BYTES)
        size = int.from_bytes(data[:HEADER_BYTES], "little")
        header = parse_json(data[HEADER_BYTES : HEADER_BYTES + size].decode())
        metadata = header.get("__metadata__") or {}
        if ENTRY not in metadata:
            raise ValueError("not of this project")
        said = parse_json(metadata[ENTRY])
        found, record = (said["format"], said["version"]), said["record"]
        if found != (kind, version):
            raise ValueError(
                f"format {found[0]!r}, version {found[1]!r}: expected {kind!r}, {version}"
            )
        return load(data), record
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read: {first_line(error)}") from None
