"""A short storm of SIGKILLs on trainings; `benchmarks/neural_storm.py` is the long one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.process


def test_killed_and_resumed_trainings_have_the_bits_of_an_unbroken_one() -> None:
    command = [sys.executable, "benchmarks/neural_storm.py", "--small"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"kills 5: (\d) of .* ended (\d+); .* unbroken one 0;", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 1
    assert int(found[2]) >= 1
