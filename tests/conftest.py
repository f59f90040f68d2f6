"""Fixtures that all rooms share."""

from __future__ import annotations

import functools
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

# A shell starts background jobs with Ctrl-C ignored, and children inherit that; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def write_tones(root: Path, rng: np.random.Generator, n: int) -> None:
    """Write a small manifest corpus of tones."""
    root.mkdir(parents=True)
    lines = ["path,speaker,emotion"]
    for i in range(n):
        length = int(rng.uniform(0.2, 1.2) * 16_000)
        tone = np.sin(2 * np.pi * (150 + 40 * i) / 16_000 * np.arange(length))
        samples = 0.3 * tone + 0.05 * rng.standard_normal(length)
        sf.write(root / f"u{i:02}.wav", samples, 16_000, subtype="PCM_16")
        lines.append(f"u{i:02}.wav,s{i % 4},{'high' if i >= n // 2 else 'low'}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def make_corpus(tmp_path: Path, rng: np.random.Generator):
    """Write a small manifest corpus of tones: returns its root."""

    def make(n: int = 12, name: str = "tones") -> Path:
        root = tmp_path / "data" / name
        write_tones(root, rng, n)
        return root

    return make


def write_recipe(path: Path, models: str = '["mfcc"]', extra: str = "") -> Path:
    """Write a recipe over the manifest corpus `tones`."""
    path.write_text(
        f"""
        models = {models}
        target = "emotion"
        [corpora.tones]
        reader = "manifest"
        [split]
        outer = "leave-one-speaker-out"
        inner = "speaker-k-fold"
        inner_folds = 3
        [head]
        kind = "linear-svc"
        select = "uar"
        [head.grid]
        C = [0.01, 1.0]
        {extra}
        """,
        encoding="utf-8",
    )
    return path


@pytest.fixture
def tones_recipe(tmp_path: Path):
    """Write a recipe over the manifest corpus `tones`: returns its path."""
    return functools.partial(write_recipe, tmp_path / "tones.toml")
