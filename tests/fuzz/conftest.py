"""Hypothesis' profile: repeatable in the suite, wide with `SERFUSE_FUZZ`; nothing is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

HUNT = os.environ.get("SERFUSE_FUZZ")

# Tables of Unicode that hypothesis makes for itself, too, stay out of the tree.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "serfuse-hypothesis")
settings.register_profile(
    "serfuse",
    max_examples=int(HUNT or 60),
    derandomize=HUNT is None,
    deadline=None,
    database=None,
    # How fast examples are made says nothing about the program on a machine that others share.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("serfuse")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a module: each overwrites the last."""
    return tmp_path_factory.mktemp("fuzz")
