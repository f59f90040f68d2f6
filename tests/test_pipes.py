"""Pipes, sockets, devices and links to them, where a file should be: nobody waits for them."""

from __future__ import annotations

import argparse
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from evaluate.runs.files import file_hash, read_json
from evaluate.runs.predictions import read_predictions
from extract.plan.batches import read_plan
from features.common import files
from features.common.command import run_command
from features.common.errors import StoreError, UserError
from features.common.folders import Folders
from features.common.lock import WriterLock, check_held, live_holder
from features.common.workers import load_table
from features.corpora.base import read_rows
from features.exchange.feature_files import read_layouts
from features.exchange.incoming import source_hash
from features.recipe.load import load_recipe
from features.stores.failures import failures_path, read_failures
from features.stores.keepers import find_keepers
from features.stores.key import file_digest
from features.stores.read import Store, sealed_parts
from features.utterances import read_table
from models.outputs import load_head
from tests.forked import Commands

WAITS_S = 20


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """Who waits for a pipe is told so by a signal."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("waits for a pipe")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(WAITS_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 42)


KINDS = {
    pipe: "is a pipe", link_to_a_pipe: "is a pipe", a_socket: "is a socket",
    endless_device: "is a device",
}  # fmt: skip


def head(path: Path) -> Any:
    signal.alarm(0)
    pytest.importorskip("skops.io")  # and torch with it, where it is
    signal.alarm(WAITS_S)
    return load_head(path)


READERS: dict[str, Callable[[Path], Any]] = {
    "a.h5": Store,
    "a.toml": load_recipe,
    "cluster.toml": load_table,
    "labels.csv": read_rows,
    "run.json": read_json,
    "predictions.csv": read_predictions,
    "head.skops": head,
    "plan.json": lambda path: read_plan(path.parent),
    "utterances.json": lambda path: read_table(path.parent),
    "utterances.csv": lambda path: read_table(path.parent),
    "features.csv": lambda path: read_layouts([path]),
    "features.parquet": lambda path: read_layouts([path]),
    "a.lock": lambda path: WriterLock(path).__enter__(),
}
"""By the name of the file: what reads it, and refuses it with an error for the user."""


@pytest.mark.parametrize("make", KINDS, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.slow if one == "head.skops" else ()) for one in READERS],
)
def test_no_reader_waits(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    if name == "utterances.csv":
        about = '{"labels": {}, "targets": [], "findings": [], "corpus": "a"}'
        (tmp_path / "utterances.json").write_text(about)
    elif name == "utterances.json":
        (tmp_path / "utterances.csv").touch()
    with pytest.raises(UserError, match=name) as caught:
        READERS[name](tmp_path / name)
    assert "\n" not in str(caught.value)
    assert KINDS[make] in str(caught.value)


@pytest.mark.parametrize("make", KINDS, ids=lambda one: one.__name__)
def test_what_is_none_is_passed_over_where_a_missing_file_would_be(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.h5"
    make(failures_path(path))
    assert read_failures(path).empty
    (tmp_path / "lock").mkdir()
    make(tmp_path / "lock" / "a.lock")
    assert live_holder(tmp_path / "lock" / "a.lock") is None
    with pytest.raises(StoreError, match="lost to another process"):
        check_held(tmp_path / "lock" / "a.lock", "mine")
    parts = tmp_path / "a.parts"
    parts.mkdir()
    make(parts / "part-0-0.h5")
    assert list(sealed_parts(parts)) == [(parts / "part-0-0.h5", None)]


@pytest.mark.parametrize("make", KINDS, ids=lambda one: one.__name__)
def test_a_recipe_or_run_that_is_none_might_name_any_store(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "other.toml"
    if make in (pipe, a_socket):
        make(tmp_path / "recipes" / "it")
        path.symlink_to("it")
    else:
        make(path)
    (tmp_path / "runs").mkdir()
    make(tmp_path / "runs" / "run.json")
    recipe, run = find_keepers([], Folders(runs=tmp_path / "runs")).unread
    assert recipe.startswith("recipes/other.toml: cannot be read: " + KINDS[make])
    assert run.startswith(f"{tmp_path}/runs/run.json: {KINDS[make]}")


@pytest.mark.parametrize("read", [file_digest, file_hash, files.read_csv, files.read_text])
@pytest.mark.parametrize("make", KINDS, ids=lambda one: one.__name__)
def test_the_error_is_one_of_the_system_and_one_for_the_user(
    tmp_path: Path, make: Callable[[Path], None], read: Callable[[Path], Any]
) -> None:
    make(tmp_path / "a")
    with pytest.raises(OSError, match=KINDS[make]) as caught:
        read(tmp_path / "a")
    assert isinstance(caught.value, UserError)
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: {caught.value.strerror}")


@pytest.mark.parametrize("name", ["a.toml", "labels.csv", "run.json", "predictions.csv", "a.lock"])
def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, name: str) -> None:
    huge(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: .*at most [\d,]+ bytes of such a file are"):
        READERS[name](tmp_path / name)


def test_regular_files_are_read_as_open_reads_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("\ufeffä\r\nb\rc".encode())
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "link"):
        assert files.read_bytes(path) == path.read_bytes()
        assert files.read_text(path) == path.read_text("utf-8")
        assert files.read_text(path, "utf-8-sig") == "ä\nb\nc"
        with files.open_regular(path, newline="") as file:
            assert file.read() == "\ufeffä\r\nb\rc"
    assert files.read_bytes(tmp_path / "file", most=11) == (tmp_path / "file").read_bytes()
    with pytest.raises(UserError, match="at most 9 bytes"):
        files.read_bytes(tmp_path / "file", most=9)
    with pytest.raises(IsADirectoryError):
        files.read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.read_text(tmp_path / "nothing")
    assert files.read_text("/proc/self/comm").endswith("\n")  # no size, and yet a file


def test_a_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe(tmp_path / "a.csv")
    main = lambda args: print(source_hash([tmp_path / "a.csv"]))  # noqa: E731
    assert run_command(main, argparse.ArgumentParser("toy"), []) == 1
    told = f"toy: {tmp_path / 'a.csv'}: is a pipe: remove it or put the file there\n"
    assert capsys.readouterr().err == told


@pytest.mark.process
def test_whole_commands(make_corpus, tones_recipe, tmp_path: Path) -> None:
    signal.alarm(0)
    make_corpus(8)
    tones_recipe('["mfcc", "log-mel"]')
    folder = tmp_path / "stores" / "tones"
    with Commands() as run:
        assert run("extract", "tones.toml", "--jobs", "1", cwd=tmp_path).code == 0
        (folder / "mfcc.h5").unlink()
        link_to_a_pipe(folder / "mfcc.h5")
        pipe(folder / "log-mel.lock")
        (folder / "other.parts").mkdir()
        pipe(folder / "other.parts" / "part-0-0.h5")
        signal.alarm(200)
        found = run("features", "status", "tones.toml", cwd=tmp_path)
        assert found.code == 0
        assert "1 damaged, 1 complete" in found.out
        assert run("features", "list", cwd=tmp_path).code == 0
        found = run("features", "verify", cwd=tmp_path)
        assert found.code == 1
        assert "mfcc.h5: is a pipe: remove it or put the file there" in found.out + found.err
        for argv in (["features", "prune"], ["extract"], ["models"]):
            found = run(*argv, "tones.toml", cwd=tmp_path)
            assert "Traceback" not in found.err
            assert "mfcc.h5: is a pipe" in found.out + found.err, argv
