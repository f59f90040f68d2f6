"""Whole commands in processes of their own: kills, signals, planning without torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.stores.read import Store

TOP = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.process

SLOWLY = """
import sys, time
from extract import __main__ as command
from extract.job import compute as run, parts
parts.SEAL_AFTER_S = 0.0
embed = run.begin_batch
def slowly(*args):
    time.sleep({delay})
    return embed(*args)
run.begin_batch = slowly
from features.common.command import run_command
sys.exit(run_command(command.main, command.parser()))
"""

WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked in this test")
sys.meta_path.insert(0, Without())
import runpy
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}


def start(
    code: str, *argv: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv], cwd=cwd, env=environment() | (env or {}), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


def wait_for_parts(folder: Path, n: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("part-*.h5"))) < n:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no part was sealed"
        time.sleep(0.01)


@pytest.fixture
def job(make_corpus, tones_recipe, tmp_path: Path):
    """Start the extraction of a model over `tones`, slowed down by `delay` seconds a batch."""
    make_corpus(24)

    def begin(
        model: str, stores: str = "stores", delay: float = 0.0, more: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        recipe = tones_recipe(f'["{model}"]', "[extract]\nbatch_seconds = 2.0")
        argv = [str(recipe), "--data", "data", "--stores", stores, "--jobs", "1", *more]
        return start(SLOWLY.format(delay=delay), *argv, cwd=tmp_path)

    return begin


@pytest.mark.parametrize("model", ["mfcc", "wav2vec2-tiny"])
def test_kill_9_in_the_middle_loses_nothing_sealed(job, tmp_path: Path, model: str) -> None:
    assert finish(job(model, "undisturbed"))[0] == 0
    parts = tmp_path / f"stores/tones/{model}.parts"
    sealed: dict[Path, int] = {}
    for n in (2, 4):
        process = job(model, delay=0.15)
        wait_for_parts(parts, n, process)
        process.kill()
        process.communicate()
        now = {path: path.stat().st_mtime_ns for path in parts.glob("part-*.h5")}
        assert sealed.items() <= now.items()  # never touched again
        sealed = now
    n_sealed = 0
    for path in sealed:
        with Store(path) as part:
            n_sealed += len(part.index)
    code, text = finish(job(model))
    assert code == 0, text
    assert f"{24 - n_sealed} computed, 0 cached, {n_sealed} sealed before" in text
    store = tmp_path / f"stores/tones/{model}.h5"
    other = tmp_path / f"undisturbed/tones/{model}.h5"
    assert store.read_bytes() == other.read_bytes()
    left = {path.name for path in store.parent.iterdir()}
    assert left == {f"{model}.h5", "utterances.csv", "utterances.json", "files.json"}
    verify = subprocess.run(
        [sys.executable, "-m", "features", "verify", "--stores", "stores"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verify.returncode == 0, verify.stdout + verify.stderr
    assert f"{model}.h5: ok" in verify.stdout


def test_workers_die_with_a_killed_parent(job, tmp_path: Path) -> None:
    process = job("mfcc", delay=0.3)
    wait_for_parts(tmp_path / "stores/tones/mfcc.parts", 1, process)
    children = [int(one) for one in children_of(process.pid)]
    assert children
    process.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/stat").exists() and not is_zombie(pid) for pid in children):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)
    process.communicate()


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_extraction_seals_says_how_to_go_on_and_goes_on(
    job, tmp_path: Path, number: int, code: int
) -> None:
    process = job("mfcc", delay=0.3)
    parts = tmp_path / "stores/tones/mfcc.parts"
    wait_for_parts(parts, 2, process)
    process.send_signal(number)
    began = time.monotonic()
    exit_code, text = finish(process)
    assert exit_code == code, text
    assert time.monotonic() - began < 10
    assert "The same command goes on from here" in text
    assert "Traceback" not in text
    assert not (tmp_path / "stores/tones/mfcc.lock").exists()
    exit_code, text = finish(job("mfcc"))
    assert (exit_code, "sealed before" in text) == (0, True)


def test_nothing_to_do_costs_no_torch(job, tmp_path: Path) -> None:
    assert finish(job("wav2vec2-tiny"))[0] == 0
    code = WITHOUT.format(blocked=("torch", "transformers"))
    argv = ["extract", "tones.toml", "--data", "data", "--stores", "stores"]
    exit_code, text = finish(start(code, *argv, cwd=tmp_path))
    assert exit_code == 0, text
    assert "24 of 24 cached, nothing to do" in text


def test_train_and_fuse_run_without_torch_and_without_audio(
    make_corpus, tones_recipe, tmp_path: Path
) -> None:
    make_corpus(24)
    recipe = tones_recipe('["mfcc", "log-mel"]', '[fusion.mean]\nmethod = "mean"')
    argv = [recipe.name, "--data", "data", "--stores", "stores"]
    run = [sys.executable, "-m", "extract", *argv]
    subprocess.run(run, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    (tmp_path / "data").rename(tmp_path / "gone")
    code = WITHOUT.format(blocked=("torch", "transformers"))
    for command in (
        ["models", *argv, "--force"],
        ["fusion", recipe.name, "--stores", "stores", "--force"],
        ["evaluate", "score", recipe.name],
        ["evaluate", "report", recipe.name, "--stores", "stores"],
    ):
        exit_code, text = finish(start(code, *command, cwd=tmp_path))
        assert exit_code == 0, text
    record = json.loads((tmp_path / "runs/tones/fusion/mean/run.json").read_text())
    assert record
    assert (tmp_path / "runs/tones/report/index.html").exists()
