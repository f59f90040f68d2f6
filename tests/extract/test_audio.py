"""Decoding, channels, resampling, segments, and every reason for a refusal."""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from extract.audio import Clip, load, seconds
from extract.job.ahead import load_ahead, load_one
from features.common.errors import AudioError


def tone(rate: int, hz: float = 440.0, length_s: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz / rate * np.arange(round(rate * length_s)))


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)]
)
def test_formats(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"a.{suffix}"
    sf.write(path, tone(16_000), 16_000)
    audio = load(Clip("a", str(path)))
    assert audio.dtype == np.float32
    middle = slice(4_000, 12_000)
    assert np.abs(audio[middle] - tone(16_000)[middle]).max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone_and_its_length(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(rate), rate, subtype="FLOAT")
    audio = load(Clip("a", str(path)))
    assert len(audio) == pytest.approx(16_000, abs=1)
    middle = slice(4_000, 12_000)
    np.testing.assert_allclose(audio[middle], tone(16_000)[middle], atol=2e-3)


def test_what_lies_above_8_khz_does_not_alias(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(48_000, hz=9_000), 48_000, subtype="FLOAT")
    audio = load(Clip("a", str(path)))
    assert np.abs(audio[2_000:14_000]).max() < 0.5 * 10 ** (-80 / 20)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left = tone(16_000)
    sf.write(path, np.stack([left, np.zeros_like(left)], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load(Clip("a", str(path))), left / 2, atol=1e-6)


def test_segments(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    ramp = np.linspace(0, 0.9, 32_000)
    sf.write(path, ramp, 16_000, subtype="FLOAT")
    clip = Clip("a#500-1250", str(path), 0.5, 1.25)
    np.testing.assert_allclose(load(clip), ramp[8_000:20_000], atol=1e-6)
    assert seconds(clip) == 0.75
    assert seconds(Clip("a", str(path))) == 2.0
    assert seconds(Clip("a", str(path), 1.5, math.nan)) == 0.5
    assert seconds(Clip("a", str(path), 1.5, 2.0004)) == 0.5  # rounded to a millisecond
    with pytest.raises(AudioError, match=r"segment 1-2.5 s is not inside the file's 2 s"):
        load(Clip("a", str(path), 1.0, 2.5))


def spoilt(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    samples = tone(16_000)
    if kind == "nan":
        samples[10] = np.nan
    if kind == "infinite":
        samples[10] = np.inf
    if kind == "short":
        samples = samples[:212]
    if kind == "no-samples":
        samples = samples[:0]
    if kind != "missing":
        sf.write(path, samples, 16_000, subtype="FLOAT")
    if kind == "no-bytes":
        path.write_bytes(b"")
    if kind == "text":
        path.write_text("this is no audio")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    if kind == "cut-header":
        path.write_bytes(path.read_bytes()[:20])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("no-bytes", "empty: the file has no bytes"),
        ("no-samples", "empty: no samples"),
        ("text", "cannot be read as audio"),
        ("cut-header", "cannot be read as audio"),
        ("cut", r"cut short: its header promises 64000 bytes of samples, 199\d\d are there"),
        ("nan", "1 samples are NaN or infinite"),
        ("infinite", "1 samples are NaN or infinite"),
        ("short", "no frame: 212 samples at 16000 Hz, the model needs 400"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(
    tmp_path: Path, kind: str, reason: str
) -> None:
    clip = Clip("u", str(spoilt(tmp_path, kind)))
    with pytest.raises(AudioError, match=reason):
        load(clip, 400)
    assert re.search(reason, str(load_one(clip, 400, None)))


def test_a_stream_s_header_of_unknown_length_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(16_000), 16_000, subtype="PCM_16")
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    raw[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    assert len(load(Clip("a", str(path)))) == 16_000


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_ahead_keeps_the_order_and_the_good(tmp_path: Path, workers: int) -> None:
    clips = []
    for i in range(9):
        path = tmp_path / f"{i}.wav"
        sf.write(path, np.full(1_000 + i, 0.1), 16_000)
        clips.append(Clip(str(i), str(path)))
    clips.insert(4, Clip("gone", str(tmp_path / "gone.wav")))
    batches = [clips[i : i + 3] for i in range(0, 10, 3)]
    result = list(load_ahead(batches, min_samples=400, feature_set=None, workers=workers))
    assert [len(batch) for batch in result] == [3, 3, 3, 1]
    flat = [samples for batch in result for samples in batch]
    assert flat[4] == "no such file"
    assert [len(one) for i, one in enumerate(flat) if i != 4] == list(range(1_000, 1_009))


def cut_file(folder: Path, suffix: str, share: float) -> Path:
    path = folder / f"cut.{suffix}"
    noise = np.random.default_rng(0).standard_normal(32_000).clip(-1, 1)
    sf.write(path, 0.3 * noise, 16_000)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("suffix", ["mp3", "flac", "aiff", "au"])
def test_a_file_that_was_cut_short_is_no_shorter_utterance(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(AudioError, match="cut short|cannot be decoded"):
        load(Clip("a", str(cut_file(tmp_path, suffix, 0.6))))


def wav_file(path: Path, rate: int, promised: int, body: bytes, channels: int = 1) -> Clip:
    """A 16-bit WAV file whose header says what it is told to."""
    size, block = len(body), 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block % 2**32, block, 16)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt \x10\0\0\0" + form
        + b"data" + struct.pack("<I", promised) + body
    )  # fmt: skip
    return Clip("a", str(path))


@pytest.mark.parametrize("rate", [1, 3_999, 768_001, 2**31 - 1])
def test_a_rate_that_no_recorder_has(tmp_path: Path, rate: int) -> None:
    # From 1 Hz, a second of 16-bit samples would become 4.5 h.
    clip = wav_file(tmp_path / "a.wav", rate, 32_000, bytes(32_000))
    for look in (seconds, load):
        with pytest.raises(AudioError, match=rf"sampling rate {rate} Hz; expected 4000 to 768000"):
            look(clip)


def test_a_length_that_no_utterance_has(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, np.zeros(16_000), 16_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"fLaC") + 8 + 13  # of STREAMINFO: the low 36 bits are the number of samples
    data[at : at + 5] = bytes([data[at] | 0x0F, 255, 255, 255, 255])
    path.write_bytes(data)
    assert sf.info(path).frames == 2**36 - 1
    for look in (seconds, load):
        with pytest.raises(AudioError, match="promises 68719476735 samples a channel, 16000 are"):
            look(Clip("a", str(path)))
    clip = wav_file(tmp_path / "a.wav", 4_000, 2 * 14_401 * 4_000, b"")
    os.truncate(clip.path, 44 + 2 * 14_401 * 4_000)  # zeros that take no disk
    with pytest.raises(AudioError, match=r"14,401 s long by its header; .* list segments of it"):
        load(clip)
    assert seconds(Clip("a", clip.path, 14_399.0)) == 2.0


def test_many_channels_in_several_blocks(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.wav"
    samples = rng.uniform(-0.5, 0.5, (5_000, 1_024)).astype(np.float32)
    sf.write(path, samples, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(load(Clip("a", str(path))), samples.mean(axis=1))


def test_samples_beyond_all_scale(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.full((4_000, 2), 3e38), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="4000 samples are NaN or infinite"):
        load(Clip("a", str(path)))
    loud = 3.4e38 * np.sign(np.random.default_rng(0).standard_normal(4_000))
    sf.write(path, loud, 8_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="too large to be resampled"):
        load(Clip("a", str(path)))


@pytest.mark.parametrize("times", [(0.0, math.inf), (-math.inf, 0.5), (1e308, 1e308), (-1.0, 0.5)])
def test_a_segment_without_end(tmp_path: Path, times: tuple[float, float]) -> None:
    sf.write(tmp_path / "a.wav", tone(16_000), 16_000)
    with pytest.raises(AudioError, match="is not inside the file's 1 s"):
        load(Clip("a", str(tmp_path / "a.wav"), *times))


@pytest.mark.parametrize("path", ["/dev/zero", "a\0b", "\ud800.wav"])
def test_what_is_no_file_is_not_opened(path: str) -> None:
    with pytest.raises(AudioError, match="no such file|cannot be read as audio"):
        seconds(Clip("a", path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="no such file"):
        load(Clip("a", str(tmp_path / "a.wav")))


def test_a_file_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.wav")
    sf.write(tmp_path / "a.wav", tone(16_000), 16_000)
    os.rename(tmp_path / "a.wav", path)
    with pytest.raises(AudioError, match="cannot be read as audio"):
        load(Clip("a", path))
