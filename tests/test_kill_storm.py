"""A short storm of SIGKILLs; `benchmarks/kill_storm.py` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kill_storm import Storm
from features.common import progress

TOP = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.process


@pytest.mark.parametrize("more", [[], ["--frames", "--segments"]])
def test_a_storm_of_kills_loses_nothing(more: list[str]) -> None:
    command = [sys.executable, "benchmarks/kill_storm.py", "--small", *more]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills 12: " in done.stdout
    assert "recomputed 0" in done.stdout
    assert "failures 0" in done.stdout


def test_a_line_tells_how_many_kills_there_were_and_what_is_left(
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    storm = Storm(tmp_path, rng, 200)
    for stage in ("start", "merge"):
        storm.hit(stage)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("kill storm: 2 of 200 kills, ")
    assert line.endswith(" left")
    assert storm.tally.kills == {"start": 1, "merge": 1}
