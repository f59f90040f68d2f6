"""Files are there whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import re
import resource
import traceback
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.common.errors import RunError
from features.common.files import Sink, full_disk, reason_of, replacing, write_text


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "old\r\n")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_bytes() == b"old\r\n"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_body_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(error: BaseException) -> None:
        with replacing(path, RunError, 1234) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    with pytest.raises(RunError, match=r"a.txt: cannot be written: Permission denied"):
        fail(PermissionError(13, "Permission denied"))
    with pytest.raises(RunError, match=r"disk is full: 1,234 bytes needed, [\d,]+ free; .* again"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(RunError, match="disk is full"):
        fail(OSError("Can't write data (file write failed: errno = 28, error message = ...)"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_of_the_same_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    with replacing(path) as temporary:
        host = temporary.name.removeprefix(".a[1].txt.").partition("-")[0]
        temporary.write_text("new")
        left = tmp_path / f".a[1].txt.{host}-{gone}-00c0ffee.tmp"
        kept = [
            tmp_path / f".a[1].txt.{host}-{os.getppid()}-00c0ffee.tmp",  # its writer lives
            tmp_path / f".a[1].txt.0elsewhere-{gone}-00c0ffee.tmp",  # a process of another machine
            tmp_path / f".b.txt.{host}-{gone}-00c0ffee.tmp",
        ]
    for one in (left, *kept):
        one.write_text("half")
    write_text(path, "newer")
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


def in_a_child_with_a_limit(n_bytes: int, work: Callable[[], None]) -> None:
    """Run `work` where no file may be larger than `n_bytes`; it must not raise, nor crash."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
            work()
            ctypes.CDLL(None).exit(0)  # with what C libraries do at the end
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def write_hdf5(path: Path) -> None:
    with Sink(path) as sink, h5py.File(sink, "w", libver="earliest", locking=False) as file:
        file["names"] = [f"utterance {i}" for i in range(40)]
        values = file.create_dataset("values", (3, 100, 10), dtype="<f4")
        for i in range(3):
            values[i] = np.full((100, 10), i, dtype=np.float32)
            sink.check()
        file["last"] = np.arange(10)


def test_a_sink_holds_what_hdf5_writes(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["names"].asstr()[39] == "utterance 39"
        assert file["values"][2].tolist() == np.full((100, 10), 2).tolist()
        assert file["last"][:].tolist() == list(range(10))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_sink_brings_hdf5_through_a_full_disk(tmp_path: Path, share: float) -> None:
    write_hdf5(tmp_path / "whole.h5")
    path = tmp_path / "a.h5"

    def fails() -> None:
        with pytest.raises(OSError, match="File too large"):
            write_hdf5(path)
        gc.collect()  # what HDF5 kept of the file is written now, or as it ends

    in_a_child_with_a_limit(int(share * (tmp_path / "whole.h5").stat().st_size), fails)


def test_a_sink_reads_back_what_was_written_and_zeros_where_writing_failed(tmp_path: Path) -> None:
    def half() -> None:
        sink = Sink(tmp_path / "a")
        assert sink.write(b"0123456789") == 10
        assert sink.tell() == 10
        assert sink.seek(-8, os.SEEK_END) == 2
        assert sink.read(4) == b"23\0\0"
        assert sink.write(b"x") == 1
        assert sink.seek(0) == 0
        assert sink.read() == b"0123\0\0\0\0\0\0"
        with pytest.raises(OSError, match="File too large"):
            sink.check()
        sink.close()

    in_a_child_with_a_limit(4, half)


def test_a_sink_does_not_hide_what_stops_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), Sink(tmp_path / "a"):
        raise ValueError("ours")


def test_a_full_disk_is_found_behind_what_a_library_made_of_it() -> None:
    full = OSError(errno.EDQUOT, "Disk quota exceeded", "a.csv")

    def wrapped() -> None:
        try:
            raise full
        except OSError as error:
            raise ValueError("could not pickle") from error

    with pytest.raises(ValueError, match="pickle") as caught:
        wrapped()
    assert full_disk(caught.value) is full
    assert full_disk(PermissionError(13, "Permission denied")) is None


def test_the_room_that_a_folder_to_come_has_is_that_of_its_parent(tmp_path: Path) -> None:
    text = reason_of(tmp_path / "new" / "folder" / "a", OSError(errno.ENOSPC, "full"), 1234)
    assert re.search(r"a: the disk is full: 1,234 bytes needed, [1-9][\d,]+ free; what was", text)
