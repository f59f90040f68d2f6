"""Memory that runs out is one line, whatever noticed it."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.common.command import run_command
from features.common.memory import out_of_memory
from features.utterances import Table, write_table
from tests.models import synthetic

TOP = Path(__file__).resolve().parents[2]


def beyond() -> None:
    np.empty(2**60, dtype=np.int8)


def wrapped() -> None:
    try:
        beyond()
    except MemoryError as error:
        raise RuntimeError("a library's own words") from error


def refused() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (beyond, "in tests/features/test_memory.py, beyond: Unable to allocate 1.00 EiB"),
        (wrapped, "in tests/features/test_memory.py, beyond: Unable to allocate 1.00 EiB"),
        (refused, "in tests/features/test_memory.py, refused: Cannot allocate memory"),
    ],
)
def test_a_command_that_runs_out_of_memory_says_so_in_a_line(
    cause: Callable[[], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(lambda _: cause(), argparse.ArgumentParser(prog="python -m this"), [])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 1
    assert line.startswith(f"python -m this: out of memory {said}")
    assert "JOBS=1" in line


def test_other_errors_keep_their_traceback() -> None:
    assert out_of_memory(RuntimeError("of another kind")) is None
    assert out_of_memory(OSError(errno.ENOENT, "no such file")) is None


@pytest.mark.process
def test_a_command_under_a_limit_ends_in_one_line(tmp_path: Path) -> None:
    frame = synthetic.rows(
        60_000, speaker=[f"{i % 300}" for i in range(60_000)], emotion=["calm", "sad"] * 30_000
    )
    table = Table(frame, {"emotion": ("calm", "sad")}, (), [], {"key": "made"})
    write_table(tmp_path / "stores/made", Table(frame[table.columns], table.labels, (), [],
                                                table.corpus))  # fmt: skip
    text = 'target = "emotion"\n[split]\nouter = "leave-one-speaker-out"\n[head]\nkind = "svc"\n'
    recipe = synthetic.recipe(tmp_path, f'{text}select = "uar"\n')
    script = """
import resource, sys
from features.__main__ import parser
from features.common.command import run_chosen, run_command
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000, used + 30_000_000))
sys.exit(run_command(run_chosen, parser(), sys.argv[1:]))
"""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", script, "lint", recipe.path, "--stores", str(tmp_path / "stores")],
        env={**os.environ, **single}, cwd=TOP, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m features lint: out of memory")
    assert "the process may take 0." in line or "the process may take 1." in line
