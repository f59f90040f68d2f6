"""Acoustic feature sets against formulas written a second way, and against the packages."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy.fft import dct

from extract import acoustic
from features.common.errors import AudioError

needs_opensmile = pytest.mark.skipif(
    importlib.util.find_spec("opensmile") is None, reason="opensmile is not installed"
)


@pytest.fixture
def audio(rng: np.random.Generator) -> np.ndarray:
    t = np.arange(20_000) / 16_000
    return (0.3 * np.sin(2 * np.pi * 300 * t) + 0.02 * rng.standard_normal(20_000)).astype("f4")


def reference_log_mel(audio: np.ndarray) -> np.ndarray:
    """Log mel spectrum from the definitions: HTK mel, triangles linear in Hz, Hamming."""
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(float), 400)[::160]
    power = np.abs(np.fft.rfft(frames * np.hamming(400), 512)) ** 2
    mel = np.linspace(*(2595 * np.log10(1 + np.array([20.0, 8000.0]) / 700)), 82)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hz = np.arange(257) * 16_000 / 512
    rising = (hz[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hz[:, None]) / np.diff(edges)[1:]
    return np.log(np.maximum(power @ np.clip(np.minimum(rising, falling), 0, None), 1e-10))


def test_log_mel_is_its_definition(audio: np.ndarray) -> None:
    ours = acoustic.log_mel(audio)
    assert ours.shape == (1 + (20_000 - 400) // 160, 80)
    # transformers' mel scale has a rounder constant; 1e-3 of a logarithm is a thousandth of power.
    np.testing.assert_allclose(ours, reference_log_mel(audio), atol=5e-3)


def test_mfcc_is_the_cosine_transform_of_log_mel(audio: np.ndarray) -> None:
    cepstra = dct(acoustic.log_mel(audio), type=2, norm="ortho", axis=1)[:, :13]
    features = acoustic.compute("mfcc", audio)
    np.testing.assert_allclose(features["mean"], cepstra.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(features["std"], cepstra.std(axis=0), rtol=1e-6)


def test_twice_the_amplitude_adds_log_4(audio: np.ndarray) -> None:
    once, twice = acoustic.log_mel(audio), acoustic.log_mel(2 * audio)
    np.testing.assert_allclose(twice - once, np.log(4), atol=1e-4)


def test_digital_silence_is_finite() -> None:
    features = acoustic.compute("log-mel", np.zeros(16_000, dtype=np.float32))
    np.testing.assert_allclose(features["mean"], np.log(1e-10), rtol=1e-6)
    np.testing.assert_allclose(features["std"], 0, atol=1e-12)


@pytest.mark.parametrize("name", ["mfcc", "log-mel"])
def test_description_and_shortest_audio(name: str) -> None:
    description = acoustic.describe(name)
    features = acoustic.compute(name, np.ones(description.min_samples, dtype=np.float32))
    assert {k: len(v) for k, v in features.items()} == description.columns
    assert {k: len(v) for k, v in acoustic.column_names(name).items()} == description.columns


@needs_opensmile
@pytest.mark.parametrize(("name", "width"), [("egemaps", 88), ("compare", 6373)])
def test_opensmile_sets(name: str, width: int, audio: np.ndarray) -> None:
    import opensmile

    features = acoustic.compute(name, audio)["functionals"]
    assert features.shape == (width,)
    assert np.isfinite(features).all()
    frame = opensmile.Smile(
        feature_set=opensmile.FeatureSet[acoustic._OPENSMILE[name][0]],
        feature_level=opensmile.FeatureLevel.Functionals,
    ).process_signal(audio, 16_000)
    np.testing.assert_array_equal(features, frame.to_numpy()[0].astype(np.float32))
    assert acoustic.column_names(name)["functionals"] == list(frame.columns)
    assert acoustic.describe(name).columns == {"functionals": width}


@needs_opensmile
def test_what_opensmile_cannot_compute_is_refused() -> None:
    with pytest.raises(AudioError, match="no value for 88 of 88 features"):
        acoustic.compute("egemaps", np.ones(300, dtype=np.float32))
