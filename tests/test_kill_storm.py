"""A short storm of SIGKILLs; `benchmarks/kill_storm.py` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.process


def test_a_storm_of_kills_loses_nothing() -> None:
    command = [sys.executable, "benchmarks/kill_storm.py", "--small"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills 12: " in done.stdout
    assert "recomputed 0" in done.stdout
    assert "failures 0" in done.stdout
