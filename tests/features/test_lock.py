"""The lock of a store: one writer, on this machine or another, and what is left behind."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from features.common import lock as lock_module
from features.common.errors import StoreError
from features.common.lock import WriterLock, live_holder

GONE = 99_999_999  # above any pid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toy.lock"


def hold(path: Path, **more: object) -> None:
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": "then", **more}
    path.write_text(json.dumps(holder), encoding="utf-8")


def untouched_for(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def taken_over(path: Path) -> bool:
    with WriterLock(path):
        return json.loads(path.read_text(encoding="utf-8"))["since"] != "then"


def test_the_second_writer_is_told_who_holds_the_store(path: Path) -> None:
    name = f"held by process {os.getpid()} on {socket.gethostname()} since 20"
    with WriterLock(path), pytest.raises(StoreError, match=name), WriterLock(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_look_changes_nothing(path: Path) -> None:
    assert live_holder(path) is None
    with WriterLock(path):
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(live_holder(path))
    path.write_text("")
    assert live_holder(path) == "a process that has just begun"
    untouched_for(path, 60)
    assert live_holder(path) is None
    hold(path, pid=GONE)
    assert live_holder(path) is None
    hold(path, host="elsewhere")
    assert live_holder(path) == f"process {os.getpid()} on elsewhere since then"
    untouched_for(path, lock_module.DEAD_AFTER_S + 60)
    assert live_holder(path) is None
    assert path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\xff"])
def test_a_lock_that_a_kill_left_half_written_is_taken_over(path: Path, text: str) -> None:
    path.write_bytes(text.encode("latin-1"))
    assert taken_over(path)
    assert list(path.parent.iterdir()) == []


def test_a_lock_of_a_process_that_is_gone_is_taken_over(path: Path) -> None:
    hold(path, pid=GONE)
    assert taken_over(path)


def test_a_later_process_of_the_same_number_holds_nothing(path: Path) -> None:
    hold(path, started="1")  # this process's number, but not its start
    assert taken_over(path)


def test_a_killed_process_that_nobody_reaped_holds_nothing(path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    hold(path, pid=child)
    deadline = time.monotonic() + 10
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        assert time.monotonic() < deadline
    assert taken_over(path)
    os.waitpid(child, 0)


def test_a_lock_of_another_host_counts_as_dead_after_ten_minutes_without_a_heartbeat(
    path: Path,
) -> None:
    hold(path, host="elsewhere", pid=1)
    untouched_for(path, 590)
    with pytest.raises(StoreError, match="held by process 1 on elsewhere since then"):
        WriterLock(path).__enter__()
    untouched_for(path, 610)
    assert taken_over(path)


def test_break_lock_takes_it_from_a_living_holder_who_notices(path: Path) -> None:
    with WriterLock(path) as first:
        first.check()
        with WriterLock(path, take=True) as second:
            second.check()
            with pytest.raises(StoreError, match="lost to another process"):
                first.check()
    # The first left the second's lock alone; the second removed its own.
    assert not path.exists()


def test_a_holder_keeps_the_lock_of_another(path: Path) -> None:
    first = WriterLock(path).__enter__()
    with WriterLock(path, take=True) as second:
        first.__exit__(None, None, None)
        second.check()


def test_the_heartbeat_touches_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.01)
    with WriterLock(path):
        untouched_for(path, 3600)
        deadline = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 1800:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.01)


def test_waiting_goes_on_when_the_holder_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lock_module, "LOOK_EVERY_S", 0.01)
    order = []
    first = WriterLock(path).__enter__()

    def second() -> None:
        with WriterLock(path, wait=True):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    deadline = time.monotonic() + 10
    text = ""
    while "; waiting" not in text:
        assert time.monotonic() < deadline
        text += capsys.readouterr().err
        time.sleep(0.01)
    order.append("first")
    first.__exit__(None, None, None)
    thread.join(timeout=10)
    assert order == ["first", "second"]
    assert text.count("; waiting") == 1


def test_many_at_once_after_a_dead_holder_give_one_writer_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "LOOK_EVERY_S", 0.001)
    hold(path, pid=GONE)
    inside, most, lost, done = [0], [0], [0], [0]

    def work() -> None:
        with WriterLock(path, wait=True) as lock:
            inside[0] += 1
            try:
                time.sleep(0.005)
                lock.check()
                most[0] = max(most[0], inside[0])
                done[0] += 1
            except StoreError:
                lost[0] += 1
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert done[0] + lost[0] == 8
    assert done[0] >= 1
    assert not path.exists()
