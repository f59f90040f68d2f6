"""Ctrl-C and SIGTERM at every stage: nothing is lost, nothing is damaged, nobody lives on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.kill_storm import contents, difference, members
from features.stores.read import Store
from tests.forked import Commands
from tests.test_processes import environment

pytestmark = pytest.mark.process

HOLDING = """
import runpy, sys, time
from pathlib import Path
import features.common.files as files, features.common.progress as progress
from benchmarks.kill_storm import seal_every_batch

at, after, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def hold(name):
    global after, times
    if times and name.startswith(at):
        after -= 1
        if after < 0:
            times -= 1
            Path(f"held-{times}").touch()
            time.sleep(600)

def sync(path, sync=files.sync):
    hold(path.name)
    sync(path)

def add(self, amount, add=progress.Progress.add):
    add(self, amount)
    if self.unit == "s of audio":
        hold("batch")

files.sync, progress.Progress.add = sync, add
seal_every_batch()
sys.argv = sys.argv[4:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
EXTRACT = ["extract", "tones.toml", "--stores", "stores"]
TRAIN = ["models", "tones.toml", "--stores", "done/stores", "--runs", "runs"]
BOTH = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as running:
        yield running


@pytest.fixture
def here(make_corpus, tones_recipe, tmp_path: Path, commands: Commands) -> Path:
    """A folder with a corpus, and in `done` what undisturbed commands make of it."""
    make_corpus(16)
    tones_recipe(extra="[extract]\nbatch_seconds = 2.0")
    for argv in (EXTRACT, TRAIN):
        where = [f"done/{one}" if one in ("stores", "runs") else one for one in argv]
        ended = commands(*where, cwd=tmp_path)
        assert ended.code == 0, ended
    return tmp_path


@pytest.fixture
def held(here: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command that stands still at a moment; gives it when it does.

    `at` is how the name of a file begins that is about to be renamed into place (or its folder's
    name: it was just renamed), or "batch"; `after` so many earlier ones; so many `times`.
    """
    started = []

    def start(argv: list[str], at: str, after: int = 0, times: int = 1) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, at, str(after), str(times), *argv],
            cwd=here, env=environment(), text=True, process_group=0,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(process)
        wait_until(lambda: (here / f"held-{times - 1}").exists(), process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not there():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_stopped(process: subprocess.Popen[str], code: int, here: Path) -> None:
    """It said how to go on, and has left neither processes nor files that are in the way."""
    text, _ = process.communicate(timeout=120)  # the command would stand still for longer
    assert process.returncode == code, text
    assert "what is finished is kept. The same command goes on from here" in text
    assert "Traceback" not in text
    assert "Exception ignored" not in text
    deadline = time.monotonic() + 60
    while members(process.pid):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.01)
    assert not list(here.glob("stores/**/.*.tmp"))
    assert not list(here.glob("runs/**/.*.tmp"))
    assert not list(here.glob("stores/**/*.lock"))


def parts(here: Path) -> dict[str, tuple[int, int]]:
    """Sealed parts, whose checksums hold, and how to see that they were touched."""
    found = {}
    for path in here.glob("stores/tones/mfcc.parts/part-*.h5"):
        with Store(path) as part:
            assert part.verify() == []
        found[path.name] = (path.stat().st_mtime_ns, path.stat().st_ino)
    return found


def goes_on(here: Path, commands: Commands, argv: list[str], which: str) -> None:
    ended = commands(*argv, cwd=here)
    assert (ended.code, ended.err) == (0, ""), ended
    assert difference(contents(here / which), contents(here / "done" / which)) is None


@BOTH
def test_while_batches_are_computed(
    held, here: Path, commands: Commands, number: int, code: int
) -> None:
    process = held(EXTRACT, "batch", after=2)
    before = parts(here)
    assert len(before) == 3
    assert len(members(process.pid)) > 1  # decoding processes
    process.send_signal(number)
    check_stopped(process, code, here)
    assert parts(here) == before
    goes_on(here, commands, EXTRACT, "stores")


@BOTH
def test_while_a_part_is_sealed(
    held, here: Path, commands: Commands, number: int, code: int
) -> None:
    process = held(EXTRACT, ".part-", after=1)
    before = parts(here)
    process.send_signal(number)
    check_stopped(process, code, here)
    now = parts(here)
    assert before.items() <= now.items()
    assert len(now) == len(before) + 1  # what was finished is kept
    goes_on(here, commands, EXTRACT, "stores")


def test_a_second_ctrl_c_while_a_part_is_sealed(held, here: Path, commands: Commands) -> None:
    process = held(EXTRACT, ".part-", after=1, times=2)
    before = parts(here)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: (here / "held-0").exists(), process)
    process.send_signal(signal.SIGINT)
    check_stopped(process, 130, here)
    assert parts(here) == before
    goes_on(here, commands, EXTRACT, "stores")


def test_when_a_part_has_just_been_sealed(held, here: Path, commands: Commands) -> None:
    process = held(EXTRACT, "mfcc.parts", after=2)  # the plan and a part came before
    before = parts(here)
    process.send_signal(signal.SIGTERM)
    check_stopped(process, 143, here)
    assert parts(here) == before
    goes_on(here, commands, EXTRACT, "stores")


@BOTH
def test_while_the_store_is_written(
    held, here: Path, commands: Commands, number: int, code: int
) -> None:
    process = held(EXTRACT, ".mfcc.h5.")
    before = parts(here)
    process.send_signal(number)
    check_stopped(process, code, here)
    assert parts(here) == before
    assert not (here / "stores/tones/mfcc.h5").exists()
    goes_on(here, commands, EXTRACT, "stores")


@BOTH
def test_while_a_run_is_written(
    held, here: Path, commands: Commands, number: int, code: int
) -> None:
    process = held(TRAIN, ".head.skops.")
    process.send_signal(number)
    check_stopped(process, code, here)
    assert not (here / "runs/tones/mfcc/run.json").exists()
    goes_on(here, commands, TRAIN, "runs")


def test_while_processes_fit(make_corpus, tones_recipe, tmp_path: Path, commands: Commands) -> None:
    make_corpus(16)
    recipe = tones_recipe('["log-mel"]')
    assert commands("extract", recipe.name, "--stores", "done/stores", cwd=tmp_path).code == 0
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("C = [0.01, 1.0]", f"C = {[1 + i / 1000 for i in range(1000)]}")
    text = text.replace('kind = "linear-svc"', 'kind = "linear-svc"\nengine = "sklearn"')
    recipe.write_text(text, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", *TRAIN, "--jobs", "2"], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
    ) as process:  # fmt: skip
        try:
            # The command, two processes that fit, and what looks after their shared memory.
            wait_until(lambda: len(members(process.pid)) >= 4, process)
            time.sleep(1.0)
            process.send_signal(signal.SIGTERM)
            check_stopped(process, 143, tmp_path)
        finally:
            process.kill()
    assert not (tmp_path / "runs").exists()
