"""Files that are there whole or not at all, and reading back what others may have changed.

Whoever shares a folder can put a pipe, a device or a link to one into it, which keeps a reader
waiting or never ends. What is read from a folder is opened by `open_regular`, and by what stands on
it here: `read_bytes`, `read_text`, `read_csv`.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import hashlib
import io
import json
import os
import re
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from features.common.errors import UserError
from features.common.kept import content_of, is_held

Stamp = tuple[int, int, int, int]
"""See `stamp_of`."""
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "no file may be so large here (ulimit -f, or the file system's own limit)",
}
READ_BYTES = 1 << 30
"""Most that is read of a file which is read whole; a label file of 10 million rows is smaller."""
TOML_BYTES = 1 << 24
"""Most that is read of a recipe or another file that a person writes."""
_IRREGULAR = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class IrregularFileError(UserError, OSError):
    """What has a file's name is none that can be read to its end.

    An OSError for those who take a file that cannot be read for one that is not there or damaged;
    else one line for the user.
    """

    def __init__(self, path: str | Path, what: str, way_out: str) -> None:
        super().__init__(errno.EINVAL, f"is {what}: {way_out}", str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def open_regular(path: str | Path, mode: str = "r", **more: Any) -> Any:
    """Open a regular file for reading, as `open` does; never wait for a pipe or a device.

    The file object is of `open`'s type for that mode.

    What was opened is asked, not what the name led to a moment ago.

    Raises
    ------
    IrregularFileError
        It is a pipe, a socket or a device, or a link to one.
    OSError
        It is missing, a folder, or cannot be read.
    """
    return open(path, mode, opener=_only_regular, **more)


def _only_regular(path: str, flags: int) -> int:
    try:
        handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        # A socket cannot be opened, nor a device that nothing stands behind.
        what = _what(os.stat(path).st_mode) if error.errno in (errno.ENXIO, errno.ENODEV) else None
        if what is None:
            raise
        raise IrregularFileError(path, what, "remove it or put the file there") from None
    what = _what(os.fstat(handle).st_mode)
    if what is not None:
        os.close(handle)
        raise IrregularFileError(path, what, "remove it or put the file there")
    return handle


def file_stamp(path: str | Path) -> Stamp | None:
    """Tell a file from an earlier or later one of its name; None where there is none."""
    try:
        return stamp_of(os.stat(path))
    except FileNotFoundError:
        return None


def stamp_of(status: os.stat_result) -> Stamp:
    """Size, times of change of its bytes and of its entry (which is nobody's to set), inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _what(mode: int) -> str | None:
    """What it is instead of a file; None for a file, and for a folder, which `open` refuses."""
    return _IRREGULAR.get(stat.S_IFMT(mode))


def read_bytes(path: str | Path, most: int = READ_BYTES) -> bytes:
    """Read a regular file whole.

    Parameters
    ----------
    path : path
    most : int
        Bytes that it may have.

    Returns
    -------
    bytes

    Raises
    ------
    IrregularFileError
        It is no regular file, or has more than `most` bytes.
    OSError
        It is missing or cannot be read.
    """
    return content_of(path, lambda: _read_bytes(path, most))


def _read_bytes(path: str | Path, most: int) -> bytes:
    data = bytearray()
    with open_regular(path, "rb") as file:
        _check_size(path, os.fstat(file.fileno()).st_size, most)
        while piece := file.read(1 << 24):
            data += piece
            _check_size(path, len(data), most)
    return bytes(data)


def _check_size(path: str | Path, n_bytes: int, most: int = READ_BYTES) -> None:
    if n_bytes > most:
        way_out = f"at most {most:,} bytes of such a file are read: is it the right one?"
        raise IrregularFileError(path, "too large", way_out)


def read_text(path: str | Path, encoding: str = "utf-8", most: int = READ_BYTES) -> str:
    r"""Read a regular text file whole, every line end as `\n`; raises as `read_bytes` does.

    Raises
    ------
    UnicodeDecodeError
        It is not in that encoding.
    """
    return io.TextIOWrapper(io.BytesIO(read_bytes(path, most)), encoding).read()


@contextlib.contextmanager
def replacing(
    path: str | Path, error: type[UserError] = UserError, n_bytes: int | None = None
) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`, and rename it to `path` at the end.

    What a kill left of earlier attempts at the same file is removed first.

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
        `.<name>.<host>-<pid>-<random>.tmp`, to be written and closed by the body.

    Raises
    ------
    UserError
        Of the type `error`: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    mark = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.name}.{mark}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as caught:
        _remove(temporary)  # before the room that is left is measured
        raise error(reason_of(path, caught, n_bytes)) from caught
    finally:
        _remove(temporary)


def write_bytes(path: str | Path, data: bytes, error: type[UserError] = UserError) -> None:
    """Write a small file whole."""
    with replacing(path, error, len(data)) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str, error: type[UserError] = UserError) -> None:
    """Write a small text file whole, in UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"), error)


def parse_json(text: str) -> Any:
    """Read JSON text.

    Raises
    ------
    ValueError
        For whatever is wrong with it, nesting without end included.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a CSV file, every cell as text.

    Parameters
    ----------
    path : path
        UTF-8, comma-separated, with a header.

    Returns
    -------
    DataFrame
        Columns of str; an empty cell is an empty text, never NaN.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ValueError
        It is no CSV, no UTF-8, or has rows of another width than its header.
    """
    with _open_csv(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            header, *rows = [row for row in reader if row] or [[]]
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None
    # pandas' own reader fills a narrower row, and names a wider one by what it begins with.
    odd = next((n for n, row in enumerate(rows, 1) if len(row) != len(header)), None)
    if odd is not None:
        raise ValueError(f"row {odd} has {len(rows[odd - 1])} fields, the header {len(header)}")
    if not header or len(set(header)) != len(header):
        raise ValueError(f"the header is {header}, expected names that differ")
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return pd.DataFrame(
        {
            name: pd.Series(list(texts), dtype=str)
            for name, texts in zip(header, columns, strict=True)
        }
    )


def _open_csv(path: str | Path) -> io.TextIOWrapper:
    """A CSV file to be read line by line, whole in memory only where what is read is kept."""
    if is_held():
        return io.TextIOWrapper(io.BytesIO(read_bytes(path)), "utf-8-sig", newline="")
    file: io.TextIOWrapper = open_regular(path, encoding="utf-8-sig", newline="")
    try:
        _check_size(path, os.fstat(file.fileno()).st_size)
    except IrregularFileError:
        file.close()
        raise
    return file


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Sink(io.RawIOBase):
    """A new file whose writes never fail: the first failure is kept, and raised at the end.

    For libraries that do not survive a failed write. HDF5 keeps what it could not write, tries
    again as the interpreter ends, and takes the process down; given a `Sink` instead of a path, it
    never sees a full disk. A context manager: leaving it raises the failure, in place of whatever
    the library made of it.

    Parameters
    ----------
    path : path
        An older file is emptied.

    Raises
    ------
    OSError
        On leaving, and by `check`.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self._position = self._size = 0
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise the failure, if there was one: call it between large writes."""
        if self._failure is not None:
            raise self._failure

    def write(self, data: Any) -> int:
        """Write all of `data`, or none of it after a failure.

        Parameters
        ----------
        data : buffer

        Returns
        -------
        int
            Bytes of `data`, also where they were not written (`check` says why).
        """
        view = memoryview(data).cast("B")
        try:
            done = 0
            while done < len(view) and self._failure is None:
                done += os.pwrite(self._file.fileno(), view[done:], self._position + done)
        except OSError as error:
            self._failure = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read what was written; zeros where nothing was.

        Parameters
        ----------
        buffer : writable buffer

        Returns
        -------
        int
            Bytes filled, fewer at the end.
        """
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        self._file.seek(self._position)
        found = self._file.read(wanted) or b""
        view[:wanted] = found.ljust(wanted, b"\0")
        self._position += wanted
        return wanted

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move in the file as if every write had been done."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Where the next read or write happens."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file.

        Parameters
        ----------
        size : int, optional
            Bytes; to the position by default.

        Returns
        -------
        int
            Bytes the file has now.
        """
        self._size = self._position if size is None else size
        try:
            if self._failure is None:
                self._file.truncate(self._size)
        except OSError as error:
            self._failure = error
        return self._size

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Close the file, keeping a failure for `check`."""
        try:
            self._file.close()
        except OSError as error:
            self._failure = self._failure or error
        super().close()

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is None or isinstance(error, Exception):
            self.check()


def full_disk(error: BaseException) -> OSError | None:
    """The failed write behind an error, where a full disk, quota or file-size limit caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and _errno(cause) in _FULL:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def reason_of(path: str | Path | None, error: OSError, n_bytes: int | None = None) -> str:
    """One line on a failed write.

    Parameters
    ----------
    path : path, optional
        What was to be written; None where nobody knows: the terminal's file, a scratch file.
    error : OSError
    n_bytes : int, optional
        How much was to be written.

    Returns
    -------
    str
        What cannot be written and why; of a full disk also what is free, in bytes.
    """
    full = _FULL.get(_errno(error) or 0)
    if full is None:
        return f"{path}: cannot be written: {error.strerror or str(error).splitlines()[0]}"
    way_out = "what was written before stays valid: make room and run the same command again"
    if path is None:
        return f"the output or a scratch file cannot be written: {full}; {way_out}"
    needed = "" if n_bytes is None else f" {n_bytes:,} bytes needed,"
    folder = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    return f"{path}: {full}:{needed} {shutil.disk_usage(folder).free:,} free; {way_out}"


def _errno(error: OSError) -> int | None:
    """The system's number of an error; HDF5 hides it in its text."""
    hidden = re.search(r"errno = (\d+),", str(error))
    return int(hidden[1]) if error.errno is None and hidden else error.errno


def _host() -> str:
    """A short name of this machine that can stand in a file name."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_abandoned(path: Path) -> None:
    """Remove temporaries of `path` whose writers are processes of this machine that are gone."""
    prefix = f".{path.name}.{_host()}-"
    for left in path.parent.glob(f"{glob.escape(prefix)}*.tmp"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        if pid.isdecimal() and not process_lives(int(pid)):
            _remove(left)


def process_lives(pid: int) -> bool:
    """Whether this machine has a process of that number.

    Parameters
    ----------
    pid : int

    Returns
    -------
    bool
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
