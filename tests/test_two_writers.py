"""Two commands on one store at once: the second says who holds it, or waits, or takes over."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from features.stores.read import Store
from tests.test_processes import finish, job, wait_for_parts  # noqa: F401  (job is a fixture)

pytestmark = pytest.mark.process


@pytest.fixture
def first(job, tmp_path: Path):  # noqa: F811
    """An extraction that has begun, and takes a few seconds more."""
    process = job("mfcc", delay=0.3)
    wait_for_parts(tmp_path / "stores/tones/mfcc.parts", 1, process)
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


def test_the_second_says_who_holds_the_store(first, job, tmp_path: Path) -> None:  # noqa: F811
    code, text = finish(job("mfcc"))
    assert code == 1
    assert f"mfcc.lock: held by process {first.pid} on {socket.gethostname()} since 20" in text
    assert "WAIT=1" in text
    assert finish(first)[0] == 0


def test_the_second_waits_and_finds_nothing_left_to_do(first, job, tmp_path: Path) -> None:  # noqa: F811
    second = job("mfcc", more=("--wait",))
    code, text = finish(first)
    assert (code, "24 computed, 0 cached" in text) == (0, True), text
    stamp = (tmp_path / "stores/tones/mfcc.h5").stat().st_mtime_ns
    code, text = finish(second)
    assert code == 0, text
    assert f"held by process {first.pid} on" in text
    assert "waiting" in text
    assert "0 computed, 24 cached" in text
    assert (tmp_path / "stores/tones/mfcc.h5").stat().st_mtime_ns == stamp


def test_the_one_that_waits_goes_on_behind_a_killed_one(first, job, tmp_path: Path) -> None:  # noqa: F811
    second = job("mfcc", more=("--wait",))
    assert "held by process" in second.stdout.readline() + second.stdout.readline()
    first.kill()
    first.communicate()
    code, text = finish(second)
    assert code == 0, text
    assert "sealed before" in text
    with Store(tmp_path / "stores/tones/mfcc.h5") as store:
        assert len(store.index) == 24
        assert store.verify() == []


def test_a_lock_that_was_broken_stops_its_old_holder_before_it_writes(
    first,
    job,  # noqa: F811
    tmp_path: Path,
) -> None:
    # Standing still: what a laptop does that sleeps, or a node that hangs.
    os.kill(first.pid, signal.SIGSTOP)
    code, text = finish(job("mfcc", more=("--break-lock",)))
    assert code == 0, text
    store = tmp_path / "stores/tones/mfcc.h5"
    finished = store.read_bytes()
    os.kill(first.pid, signal.SIGCONT)
    code, text = finish(first)
    assert code == 1
    assert "mfcc.lock: lost to another process while this one stood still" in text
    assert store.read_bytes() == finished
    assert not list(store.parent.glob("*.parts"))


def test_a_lock_of_a_host_that_is_silent_is_taken_over(job, tmp_path: Path) -> None:  # noqa: F811
    lock = tmp_path / "stores/tones/mfcc.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "then"}))
    code, text = finish(job("mfcc"))
    assert (code, "held by process 1 on elsewhere since then" in text) == (1, True)
    os.utime(lock, (0, 0))
    assert finish(job("mfcc"))[0] == 0
    assert not lock.exists()
