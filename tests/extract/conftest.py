"""A small checkpoint, and copies of it to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkpoints import save


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wav2vec 2.0 with layer norms: not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save(folder, "wav2vec2-layer-stable")
    return folder


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))
