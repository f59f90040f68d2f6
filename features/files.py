"""Files that are there whole or not at all: temporary name, sync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from features.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(
    path: str | Path, error: type[UserError] = UserError, n_bytes: int | None = None
) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, and rename it to `path` at the end.

    Parameters
    ----------
    path : path
        The file to be written; its folder is made. An older file stays until the end, and stays
        where the body fails.
    error : type
        What an OSError of the body becomes.
    n_bytes : int, optional
        What is to be written, for the message of a full disk.

    Yields
    ------
    Path
        `.<name>.<pid>-<random>.tmp`, to be written and closed by the body.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as caught:
        raise error(reason_of(path, caught, n_bytes)) from caught
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes(path: str | Path, data: bytes, error: type[UserError] = UserError) -> None:
    """Write a small file whole."""
    with replacing(path, error, len(data)) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str, error: type[UserError] = UserError) -> None:
    """Write a small text file whole, in UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"), error)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason_of(path: Path, error: OSError, n_bytes: int | None = None) -> str:
    """Give one line on a failed write; HDF5 hides errno in its text."""
    full = error.errno in _FULL or any(f"errno = {one}," in str(error) for one in _FULL)
    if full:
        needed = "" if n_bytes is None else f" {n_bytes:,} bytes needed,"
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            return (
                f"{path}: the disk is full:{needed} {free:,} free; what was written before stays "
                f"valid: make room and run the same command again"
            )
    return f"{path}: cannot be written: {error.strerror or str(error).splitlines()[0]}"
