"""Files are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import RunError
from features.files import replacing, write_text


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
