"""A disk that is full at any write of any command: one line, nothing lost, and it goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from benchmarks.kill_storm import contents, difference
from features.stores.read import Store
from tests.forked import TOP, Commands, Ended

pytestmark = pytest.mark.process

PAGE = 4096
TOO_LARGE = re.escape("no file may be so large here (ulimit -f, or the file system's own limit)")
RECIPE = """
models = ["mfcc", "log-mel"]
target = "emotion"
[corpora.tones]
reader = "manifest"
[extract]
batch_seconds = 2.0
workers = 0
[split]
outer = "leave-one-speaker-out"
inner = "speaker-k-fold"
inner_folds = 2
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [0.01, 1.0]
[fusion.mean]
method = "mean"
"""
STORES, RUNS = ["--stores", "room/disk/stores"], ["--runs", "room/disk/runs"]
EXTRACT = ["extract", "tones.toml", *STORES, "--allow-failures", "1", "--model"]
TRAIN = ["models", "tones.toml", *STORES, *RUNS, "--allow-failures", "1", "--model"]
COMMANDS = {
    "table": ["features", "table", "tones", *STORES],
    "extract": [*EXTRACT, "mfcc"],
    "models": [*TRAIN, "mfcc"],
    "fusion": ["fusion", "tones.toml", *STORES, *RUNS],
    "score": ["evaluate", "score", "tones.toml", *RUNS],
    "report": ["evaluate", "report", "tones.toml", *STORES, *RUNS],
}
OTHERS = {"models": [[*EXTRACT, "log-mel"], [*TRAIN, "log-mel"]]}
"""What is done before a command, so that there is something to combine."""
WRITES = {
    "table": {"utterances.json", "utterances.csv", "files.json"},
    "extract": {"utterances.csv", "part-", "mfcc.h5"},
    "models": {"predictions.csv", "inner.csv", "head.skops"},
    "fusion": {"predictions.csv", "inner.csv", "run.json"},
    "score": {"scores.json"},
    "report": {"comparisons.html"},
}
"""What every sweep must have hit."""
PAGES_ONLY = {
    "extract": {"utterances.json", "plan.json", "mfcc.failures.csv"},
    "models": {"search.csv", "run.json"},
}
"""What only a full disk can hit: larger files stand before them."""
CHANGING = ("run.json", "head.skops")
"""Times and numbers of objects are in them: no two runs write the same, nor as many bytes."""
MOST_CHANGE = 200
"""Far above the bytes by which such a file is longer or shorter the next time."""
CASES = list(COMMANDS)


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as running:
        yield running


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder in which the whole job was done; `before-X` is the disk as command X found it."""
    folder = tmp_path_factory.mktemp("full")
    root = folder / "data/tones"
    root.mkdir(parents=True)
    rng = np.random.default_rng(3)
    lines = ["path,speaker,emotion"]
    for i in range(9):
        length = 200 if i == 8 else int(rng.uniform(0.5, 1.2) * 16_000)  # the last is too short
        samples = 0.3 * np.sin(np.arange(length) * (0.1 + 0.02 * i)) + 0.02 * rng.normal(
            size=length
        )
        sf.write(root / f"u{i}.wav", samples, 16_000)
        lines.append(f"u{i}.wav,s{i % 4},{'high' if i >= 4 else 'low'}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tones.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "room/disk").mkdir(parents=True)
    for name, argv in COMMANDS.items():
        for other in OTHERS.get(name, []):
            assert commands(*other, cwd=folder).code == 0
        shutil.copytree(folder / "room/disk", folder / f"before-{name}")
        done = commands(*argv, cwd=folder)
        assert (done.code, done.err) == (0, ""), done
        shutil.copytree(folder / "room/disk", folder / f"after-{name}")
        if name == "table":  # so that the extraction writes it, too
            shutil.rmtree(folder / "room/disk/stores")
    return folder


def put(top: Path, name: str) -> None:
    """Let the disk hold what it held before a command."""
    shutil.rmtree(top / "room/disk")
    shutil.copytree(top / f"before-{name}", top / "room/disk")


def check_refused(top: Path, name: str, ended: Ended, says: str) -> str:
    """Look at what a command has left on a full disk; return what it could not write."""
    assert ended.code == 1, ended
    assert "Traceback" not in ended.out
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err  # HDF5 prints stacks of errors when it cannot flush
    line = lines[0]
    typed = [word for word in COMMANDS[name][:2] if word.isalpha()]  # a recipe is none of them
    assert line.startswith(f"python -m {' '.join(typed)}: room/disk/")
    if "the stores need" in line:
        assert re.search(r"the disk has [\d.]+ k?B free; make room", line)
        written = "check"
    else:
        found = re.search(
            rf"/([^/]+): {says}: [\d,]+ bytes needed, [\d,]+ free; what was written before stays "
            r"valid: make room and run the same command again$",
            line,
        )
        assert found, line
        written = found[1]
    disk = top / "room/disk"
    whole = {**files(top / f"before-{name}"), **files(top / f"after-{name}")}
    for path, data in files(disk).items():
        if ".parts/" not in path:
            one_of = [files(top / f"{when}-{name}").get(path) for when in ("before", "after")]
            assert data in one_of or (path.endswith(CHANGING) and path in whole), path
        elif path.endswith(".h5"):
            with Store(disk / path) as part:
                assert part.verify() == []
    return written


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()
    }


def check_finished(
    top: Path, name: str, commands: Commands, sealed: dict[Path, tuple[int, int]]
) -> None:
    """With room again the same command ends as if nothing had happened, and from what is sealed."""
    n_sealed = 0
    for path, mark in sealed.items():
        assert mark == marked(path)
        with Store(path) as part:
            n_sealed += len(part.index)
    ended = commands(*COMMANDS[name], cwd=top)
    assert (ended.code, ended.err) == (0, ""), ended
    if n_sealed:
        assert f"{8 - n_sealed} computed, " in ended.out
    assert difference(contents(top / "room/disk"), contents(top / f"after-{name}")) is None


def marked(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_ino


def sealed_parts(top: Path) -> dict[Path, tuple[int, int]]:
    return {one: marked(one) for one in top.glob("room/disk/stores/tones/*.parts/part-*.h5")}


def sweep(
    top: Path, name: str, commands: Commands, says: str, squeezes: Iterable[Any],
    squeeze: Callable[[Any], int | None], release: Callable[[], object],
) -> set[str]:  # fmt: skip
    """Run a command under each squeeze and again without, until it has room.

    Returns what could not be written.
    """
    hit = set()
    for one in squeezes:
        release()
        put(top, name)
        limit = squeeze(one)
        ended = commands(*COMMANDS[name], cwd=top, limit=limit)
        if ended.code:
            hit.add(check_refused(top, name, ended, says))
            assert not list(top.glob("room/disk/**/.*.tmp"))
            # The same again, before there is room: leftovers are not in the way.
            sealed = sealed_parts(top)
            again = commands(*COMMANDS[name], cwd=top, limit=limit)
            assert again.code == 1, again
            check_refused(top, name, again, says)
            assert sealed.items() <= sealed_parts(top).items()
        sealed = sealed_parts(top)
        release()
        check_finished(top, name, commands, sealed)
        if ended.code == 0:
            return hit
    raise AssertionError("there never was room")


def covers(hit: set[str], wanted: set[str]) -> bool:
    return all(any(one.startswith(start) for one in hit) for start in wanted)


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_may_not_grow(top: Path, commands: Commands, name: str) -> None:
    new = {k: v for k, v in files(top / f"after-{name}").items()
           if files(top / f"before-{name}").get(k) != v}  # fmt: skip
    # A file that is too large once has to be so again.
    limits = {len(v) - (MOST_CHANGE if k.endswith(CHANGING) else 1) for k, v in new.items()}
    most = max(map(len, new.values()))
    limits |= {0, most // 2}
    if name == "extract":
        limits |= {int(share * most) for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9)}
    if name == "report":  # of its dozens of files, a few
        limits = set(sorted(limits)[:: len(limits) // 3])
    hit = sweep(
        top, name, commands, TOO_LARGE,
        [*sorted(limits), 1 << 20], lambda limit: limit, lambda: None,
    )  # fmt: skip
    assert covers(hit, WRITES[name]), hit


def test_a_lock_that_cannot_be_written(top: Path, commands: Commands) -> None:
    put(top, "extract")
    shutil.copytree(top / "after-extract", top / "room/disk", dirs_exist_ok=True)
    (top / "room/disk/stores/tones/mfcc.failures.csv").unlink()  # else there is nothing to do
    ended = commands(*COMMANDS["extract"], cwd=top, limit=20)
    assert check_refused(top, "extract", ended, TOO_LARGE) == "mfcc.lock"
    assert not (top / "room/disk/stores/tones/mfcc.lock").exists()
    check_finished(top, "extract", commands, {})


@pytest.fixture
def room(top: Path) -> Iterator[Path]:
    """What is around the disk as a file system of its own, in memory."""
    path = top / "room"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)],
        capture_output=True, text=True, check=False,
    ) if os.geteuid() == 0 and shutil.which("mount") else None  # fmt: skip
    if done is None or done.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip() if done else 'not root'}")
    (path / "disk").mkdir()
    (path / "ballast").write_bytes(bytes(PAGE))  # a tmpfs of 0 bytes would have no limit
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("name", CASES)
def test_a_disk_that_is_full_after_some_pages(
    top: Path, room: Path, commands: Commands, name: str
) -> None:
    def resize(n_bytes: int) -> None:
        options = f"remount,size={n_bytes}"
        subprocess.run(["mount", "-o", options, str(room)], check=True)

    def squeeze(pages: int) -> None:
        now = os.statvfs(room)
        resize((now.f_blocks - now.f_bfree) * now.f_frsize + pages * PAGE)

    # A page more each time, until there is room; a report is dozens of small files.
    steps = range(0, 900, 60) if name == "report" else range(100)
    hit = sweep(top, name, commands, "the disk is full", steps, squeeze, lambda: resize(8 << 20))
    assert covers(hit, WRITES[name] | PAGES_ONLY.get(name, set())), hit


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("redirected", "said"), [("> /dev/full", 1), ("> /dev/full 2>&1", 0)])
def test_output_that_cannot_be_written(top: Path, redirected: str, said: int) -> None:
    put(top, "fusion")
    ended = subprocess.run(
        ["bash", "-c", f'exec "$@" {redirected}', "-", sys.executable, "-m", *COMMANDS["fusion"]],
        cwd=top, env={**os.environ, "PYTHONPATH": str(TOP)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == said, ended.stderr
    if said:
        assert "the output or a scratch file cannot be written: the disk is full" in ended.stderr
    assert difference(contents(top / "room/disk"), contents(top / "after-fusion")) is None
