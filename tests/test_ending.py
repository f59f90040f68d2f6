"""A command that is told to end does, whatever native code runs in it or in its processes."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from benchmarks.kill_storm import members
from features.common.watchdog import GRACE_S
from features.stores.read import Store
from tests.test_cluster import descendants, wait_until_gone
from tests.test_processes import TOP, environment, finish, wait_for_parts

pytestmark = pytest.mark.process

BOUND_S = 60.0
"""Far above what an end takes (`GRACE_S` and a little), far below what would go on for ever."""
PATIENCE_S = 240.0
"""For a line that comes after half a minute on a quiet machine."""
COMMAND = """
import argparse, ctypes, multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from features.common.command import run_command
from features.common.ending import in_full
from features.common.watchdog import GRACE_S

def endless(libc):
    "Never returns; a signal does not end it."
    barrier = ctypes.create_string_buffer(64)
    libc.pthread_barrier_init(barrier, None, 2)
    libc.pthread_barrier_wait(barrier)

def endless_holding(_=0):
    while True:  # an exception on the way is lost, as in a destructor
        try:
            endless(ctypes.PyDLL(None))
        except BaseException:
            pass

def endless_native(_=0):
    while True:
        try:
            endless(ctypes.CDLL(None))
        except BaseException:
            pass

def begun():
    print("begun", flush=True)

def main(args):
    how = sys.argv[1]
    if how == "holding":
        begun()
        endless_holding()
    if how == "native":
        begun()
        endless_native()
    if how == "lost":
        told = False
        while True:
            try:
                if not told:
                    told = True
                    begun()
                time.sleep(600)
            except BaseException:
                pass
    if how == "threads":
        with ThreadPoolExecutor(2) as pool:
            pool.submit(endless_native)
            begun()
            time.sleep(600)
    if how == "idle":
        pool = ThreadPoolExecutor(2)
        pool.submit(int).result()
        begun()
        time.sleep(600)
    if how == "processes":
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, context) as pool:
            pool.submit(int).result()
            pool.submit(endless_holding)
            begun()
            time.sleep(600)
    if how == "whole":
        with in_full():
            try:
                begun()
                time.sleep(600)
            finally:
                time.sleep(GRACE_S + 1)
                print("whole", flush=True)

if __name__ == "__main__":
    sys.exit(run_command(main, argparse.ArgumentParser("toy"), []))
"""
ORDERLY, HARD = "toy: stopped; what is finished is kept", "toy: stopped hard, 5 s after the signal"
CASES = {
    "holding": (signal.SIGINT, HARD),
    "native": (signal.SIGTERM, HARD),
    "lost": (signal.SIGHUP, HARD),
    "threads": (signal.SIGTERM, HARD),
    "idle": (signal.SIGINT, ORDERLY),
    "processes": (signal.SIGHUP, ORDERLY),
    "whole": (signal.SIGTERM, ORDERLY),
}


def begin(argv: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv if argv[0] == "make" else [sys.executable, *argv], cwd=cwd, env=environment(),
        text=True, process_group=0, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the output up to a line with `text`, and give it; a command that says none is killed."""
    assert process.stdout is not None
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        while text not in (line := process.stdout.readline()):
            assert line, f"the command has ended without {text!r}"
    finally:
        timer.cancel()
    return line


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Signal a command; its exit code and what it says. None of its processes is left."""
    pids = descendants(process.pid)
    process.send_signal(number)
    text, _ = process.communicate(timeout=BOUND_S)
    wait_until_gone(pids)
    assert not members(process.pid)
    return process.returncode, text


def test_whatever_runs_where(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(COMMAND, encoding="utf-8")
    running = {how: begin(["toy.py", how], tmp_path) for how in CASES}
    pids = {how: descendants(one.pid) for how, one in running.items()}
    try:
        for how, one in running.items():
            wait_for(one, "begun")
            pids[how] = descendants(one.pid)
            one.send_signal(CASES[how][0])
        said = {how: one.communicate(timeout=BOUND_S)[0] for how, one in running.items()}
    finally:
        for one in running.values():
            one.kill()
            one.communicate()
    codes = {how: one.returncode for how, one in running.items()}
    assert codes == {how: 128 + number for how, (number, _) in CASES.items()}, said
    for how, (_, expected) in CASES.items():
        assert expected in said[how], (how, said)
        assert said[how].count("The same command goes on from here") == 1
        assert "Traceback" not in said[how]
    assert "whole" in said["whole"]
    wait_until_gone([pid for one in pids.values() for pid in one])


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe over columns of very unequal size, on which libsvm iterates without end."""
    folder = tmp_path_factory.mktemp("endless")
    root = folder / "data/toy"
    root.mkdir(parents=True)
    rng = np.random.default_rng(11)
    size = np.array([1, 1, 1e3, 1e4, 1e5, 1e6, 1, 1, 1, 1])
    rows: list[list[str]] = [["path", "speaker", "emotion"]]
    features = [["name", *(f"f{i}" for i in range(10))]]
    for i in range(100):
        sf.write(root / f"u{i}.wav", 0.1 * rng.normal(size=800), 16_000)
        x = rng.normal(size=10)
        x[i % 3] += 1
        rows.append([f"u{i}.wav", f"s{i % 5}", "abc"[i % 3]])
        features.append([f"u{i}", *map(repr, map(float, x * size))])
    for path, table in ((root / "manifest.csv", rows), (folder / "a.csv", features)):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(table)
    # So many cells that processes are started for them; each is one too many.
    for engine, n_cells in (("auto", 1), ("sklearn", 1700)):
        (folder / f"{engine}.toml").write_text(
            f"""
            models = ["a"]
            target = "emotion"
            [corpora.toy]
            reader = "manifest"
            [split]
            outer = "leave-one-speaker-out"
            inner = "speaker-k-fold"
            inner_folds = 3
            [head]
            kind = "svc"
            scalers = ["none"]
            engine = "{engine}"
            select = "uar"
            [head.grid]
            C = {[1000.0 + i for i in range(n_cells)]}
            kernel = ["linear"]
            [head.fixed]
            max_iter = -1
            """,
            encoding="utf-8",
        )
    for argv in (["table", "toy", "--recipe", "auto.toml"],
                 ["import", "a.csv", "--corpus", "toy", "--as", "a"]):  # fmt: skip
        code, text = finish(begin(["-m", "features", *argv], folder))
        assert code == 0, text
    return folder


def train(engine: str, *how: str) -> list[str]:
    return ["-m", "models", f"{engine}.toml", "--runs", f"runs-{engine}", *how]


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        (train("auto", "--jobs", "1"), signal.SIGINT),
        (train("auto", "--jobs", "2"), signal.SIGTERM),
        (train("sklearn", "--jobs", "1"), signal.SIGTERM),
        (train("sklearn", "--jobs", "2"), signal.SIGINT),
    ],
    ids=lambda one: one.name if isinstance(one, signal.Signals) else " ".join(one[2::3]),
)
def test_a_fit_without_an_end(endless: Path, argv: list[str], number: signal.Signals) -> None:
    process = begin(argv, endless)
    # Which of the folds that were begun together comes first is nobody's to say.
    line = wait_for(process, "; fitting outer fold toy/s0, inner fold ")
    assert ": none, C 1000.0, kernel linear" in line
    code, text = ended(process, number)
    assert code == 128 + number, text
    assert "python -m models: stopped" in text
    assert "Traceback" not in text
    assert not list(endless.glob("runs-*/*"))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_make_passes_a_signal_on(endless: Path) -> None:
    variables = [f"PYTHON={sys.executable}", "RECIPE=auto.toml", "RUNS=runs-make", "JOBS=1"]
    argv = ["make", "-f", str(TOP / "Makefile"), "train", *variables]
    process = begin(argv, endless)
    wait_for(process, "; fitting outer fold")
    _, text = ended(process, signal.SIGTERM)
    assert "python -m models train: stopped" in text
    assert "Error 143" in text


def seconds_computed(pid: int) -> float:
    """Processor time of a process; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100


def wait_until_busy(process: subprocess.Popen[str], n: int) -> list[int]:
    """Wait until so many processes of a command have computed for longer than their start takes."""
    deadline = time.monotonic() + 300
    while True:
        pids = descendants(process.pid)
        if sum(seconds_computed(pid) > 8.0 for pid in pids) >= n:
            return pids
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_fit_without_an_end_on_a_worker(endless: Path) -> None:
    process = begin(train("auto", "--cluster", "local:1"), endless)
    wait_until_busy(process, 1)
    code, text = ended(process, signal.SIGINT)
    assert code == 130, text
    assert "python -m models: stopped" in text
    assert "Traceback" not in text


def test_fits_without_an_end_do_not_outlive_a_killed_command(endless: Path) -> None:
    process = begin(train("sklearn", "--jobs", "2"), endless)
    pids = wait_until_busy(process, 2)
    process.kill()
    process.communicate(timeout=BOUND_S)
    wait_until_gone(pids)


STUCK = """
import ctypes, sys
from extract import __main__ as command
from extract.job import compute, parts
from features.common.command import run_command
parts.SEAL_AFTER_S = 0.0
begin_batch, n = compute.begin_batch, 0
def stuck(*args):
    global n
    n += 1
    if n < 3:
        return begin_batch(*args)
    barrier = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_barrier_init(barrier, None, 2)
    told = False
    while True:  # a signal between the word and the call that never returns is lost
        try:
            if not told:
                told = True
                print("stuck", flush=True)
            ctypes.PyDLL(None).pthread_barrier_wait(barrier)
        except BaseException:
            pass
compute.begin_batch = stuck
sys.exit(run_command(command.main, command.parser()))
"""


@pytest.fixture
def stopped_hard(make_corpus: Callable[..., Path], tones_recipe: Callable[..., Path],
                 tmp_path: Path) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    make_corpus(12)
    tones_recipe(extra="[extract]\nbatch_seconds = 2.0")
    process = begin(["-c", STUCK, "tones.toml", "--stores", "stores", "--jobs", "2"], tmp_path)
    yield process
    process.kill()
    process.communicate()


def test_an_extraction_that_is_ended_hard_goes_on(
    stopped_hard: subprocess.Popen[str], tmp_path: Path
) -> None:
    parts = tmp_path / "stores/tones/mfcc.parts"
    wait_for(stopped_hard, "stuck")
    wait_for_parts(parts, 2, stopped_hard)
    code, text = ended(stopped_hard, signal.SIGTERM)
    assert code == 143, text
    assert f"stopped hard, {GRACE_S:g} s after the signal" in text
    n = 0
    for path in parts.glob("part-*.h5"):
        with Store(path) as part:
            assert part.verify() == []
            n += len(part.index)
    assert n
    # Its lock is there still, and counts as left behind.
    assert (tmp_path / "stores/tones/mfcc.lock").exists()
    code, text = finish(begin(["-m", "extract", "tones.toml", "--stores", "stores"], tmp_path))
    assert code == 0, text
    assert f"{12 - n} computed, 0 cached, {n} sealed before" in text
