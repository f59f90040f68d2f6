"""A file heard once: its hash, those of its spans, silence, and what is wrong with a span alone."""

from __future__ import annotations

import hashlib
import math
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from features.audio.decode import Clip, Heard, Span, decode, listen, seconds
from features.common.errors import AudioError
from tests.extract.test_video import write_avi
from tests.features.sounds import mp3_without_count, noise, put, wav, written

WHOLE = (math.nan, math.nan)


def hash_of(samples: np.ndarray, rate: int = 16_000) -> str:
    """The hash of samples that have no negative zeros, written out."""
    data = f"{rate}\n".encode() + samples.astype("<f4").tobytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def hear(path: Path, data: bytes, *spans: tuple[float, float]) -> Heard:
    path.write_bytes(data)
    return listen(str(path), spans or [WHOLE])


def test_the_hash_is_of_the_samples_not_of_the_file(tmp_path: Path) -> None:
    samples = noise(5_000, 2)
    expected = hash_of(samples.mean(axis=1))
    containers = {}
    for form, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("AU", "PCM_24"),
    ):
        found = hear(tmp_path / "a", written(samples, form, subtype))
        assert found.recording_hash == expected
        assert found.spans == (Span(5_000 / 16_000, expected, silent=False),)
        assert (found.rate_hz, found.n_frames, found.decoder) == (16_000, 5_000, 1)
        containers[form] = found.container
    assert containers == {"WAV": "WAV/FLOAT", "FLAC": "FLAC/PCM_16", "AU": "AU/PCM_24"}
    assert hear(tmp_path / "a", written(samples, "MP3")).container == "MP3"
    other_rate = hear(tmp_path / "a", written(samples, "WAV", rate=8_000))
    assert other_rate.recording_hash == hash_of(samples.mean(axis=1), 8_000)
    changed = samples.copy()
    changed[4_999, 1] += 2**-15
    assert hear(tmp_path / "a", written(changed, "WAV", "FLOAT")).recording_hash != expected


def test_negative_zeros_are_zeros(tmp_path: Path) -> None:
    found = hear(tmp_path / "a.wav", written(np.full(900, -0.0, np.float32), "WAV", "FLOAT"))
    assert found.recording_hash == hash_of(np.zeros(900))


def test_spans_that_overlap_and_spans_that_cannot_be_used(tmp_path: Path) -> None:
    samples = noise(16_000)[:, 0]
    samples[8_000:9_000] = 0
    data = written(samples, "WAV", "PCM_16")
    spans = [(0.25, 0.75), (0.3, 1.0), (0.5, 0.55), WHOLE, (0.9, 1.2), (0.5, 0.5), (0.5, 1.0004)]
    found = hear(tmp_path / "a.wav", data, *spans, (math.nan, 0.25), (0.25, 0.75))
    by_hand = [samples[4_000:12_000], samples[4_800:], samples[8_000:8_800], samples]
    for span, expected in zip(found.spans, by_hand, strict=False):
        assert isinstance(span, Span)
        assert span.samples_hash == hash_of(expected)
        assert span.seconds == len(expected) / 16_000
    assert [isinstance(one, Span) and one.silent for one in found.spans[:4]] == [0, 0, 1, 0]
    outside, empty, rounded, beginning, again = found.spans[4:]
    assert str(outside) == "segment 0.9-1.2 s is not inside the file's 1 s"
    assert str(empty) == "empty: no samples"
    assert rounded == Span(0.5, hash_of(samples[8_000:]), silent=False)
    assert beginning == Span(0.25, hash_of(samples[:4_000]), silent=False)
    assert again == found.spans[0]


def test_channels_that_cancel_are_silence(tmp_path: Path) -> None:
    left = noise(3_000)[:, 0]
    (span,) = hear(tmp_path / "a.wav", written(np.stack([left, -left], axis=1), "WAV")).spans
    assert span == Span(3_000 / 16_000, hash_of(np.zeros(3_000)), silent=True)


def test_numbers_that_are_none_are_a_fault_of_the_spans_that_have_them(tmp_path: Path) -> None:
    samples = noise(16_000)[:, 0]
    samples[100], samples[101] = np.nan, np.inf
    spans = [WHOLE, (0.0, 101 / 16_000), (0.5, 1.0)]
    found = hear(tmp_path / "a.wav", written(samples, "WAV", "FLOAT"), *spans)
    for span, n in zip(found.spans, (2, 1), strict=False):
        assert str(span) == f"{n} samples are NaN or infinite"
    assert found.spans[2] == Span(0.5, hash_of(samples[8_000:]), silent=False)


def test_a_long_file_takes_the_memory_of_a_block(tmp_path: Path) -> None:
    n = 20 * 60 * 16_000
    with sf.SoundFile(tmp_path / "a.flac", "w", 16_000, 1, "PCM_16") as file:
        for _ in range(20):
            file.write(np.zeros(60 * 16_000, np.int16))
    tracemalloc.start()
    found = listen(str(tmp_path / "a.flac"), [WHOLE, (1.0, 1_000.0), (500.0, 1_199.0)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.n_frames == n
    assert peak < n  # a quarter of what its samples are as float32


@pytest.mark.parametrize("same_time", [False, True])
def test_a_file_that_was_replaced_is_looked_at_again(tmp_path: Path, same_time: bool) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(bytes(8_000)))
    before = path.stat()
    clip = Clip("a", str(path))
    assert seconds(clip) == 0.25
    path.write_bytes(put(wav(bytes(8_000)), 24, 8_000, 4))
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert seconds(clip) == 0.5
    assert decode(clip)[1] == 8_000


def test_versions_of_the_decoding(tmp_path: Path) -> None:
    samples = noise(8_000)
    right = written(samples, "WAV", "PCM_16")
    size = right.index(b"data") + 4
    for data, decoder in (
        (right, 1),
        (written(samples, "FLAC"), 1),
        (written(samples, "AIFF"), 1),
        (written(samples, "MP3"), 1),
        (written(samples, "OGG"), 1),
        (put(right, size, 2**32 - 1, 4), 1),  # read to its end before, too
        (put(right, size, 0x7FFF_F000, 4), 2),  # refused before
        (right + right, 2),
        (written(samples, "WAV", "GSM610"), 2),
        (mp3_without_count(samples)[0], 2),
    ):
        assert hear(tmp_path / "a", data).decoder == decoder


def test_a_video_is_heard(tmp_path: Path) -> None:
    samples = noise(48_000, 2)
    path = write_avi(tmp_path / "a.avi", samples, 16_000, pictures=False)
    found = listen(str(path), [WHOLE, (1.0, 2.0)])
    assert (found.container, found.decoder, found.n_frames) == ("AVI/PCM_S16LE", 1, 48_000)
    assert found.recording_hash == hash_of(samples.mean(axis=1))
    assert found.spans[1] == Span(1.0, hash_of(samples[16_000:32_000].mean(axis=1)), silent=False)


def test_a_file_that_cannot_be_decoded(tmp_path: Path) -> None:
    for data, why in ((b"", "no bytes"), (b"text" * 99, "cannot be read as audio")):
        with pytest.raises(AudioError, match=why):
            hear(tmp_path / "a.wav", data)
    with pytest.raises(AudioError, match="no such file"):
        listen(str(tmp_path / "b.wav"), [WHOLE])


@pytest.mark.parametrize(
    ("name", "more", "within", "decoder"),
    [
        ("a.wav", {}, 0.0, 1),
        ("a.flac", {}, 0.0, 1),
        ("a.ogg", {}, 0.0, 1),
        ("a.mp3", {"bitrate_mode": "CONSTANT"}, 1e-6, 2),
        ("a.mp3", {"bitrate_mode": "VARIABLE", "compression_level": 0.3}, 1e-6, 2),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.0, 2),
    ],
)
def test_a_segment_has_the_samples_that_the_whole_file_has_there(
    tmp_path: Path, name: str, more: dict[str, object], within: float, decoder: int
) -> None:
    time = np.arange(16_000 * 12) / 16_000
    glide = np.sin(2 * np.pi * (150 * time + 90 * time**2)) * (0.2 + 0.3 * np.sin(3 * time) ** 2)
    noise = np.random.default_rng(0).normal(0, 0.05, len(time)) * (time % 2 < 1)
    path = str(tmp_path / name)
    sf.write(path, glide + noise, 16_000, **more)
    whole, rate = decode(Clip("u", path))
    spans = [(0.3, 0.9), (1.37, 2.0), (5.01, 5.77), (8.3, 11.9)]
    for start, end in spans:
        found, _ = decode(Clip("u", path, start, end))
        expected = whole[round(start * rate) : round(end * rate)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=within)
    heard = listen(path, [(math.nan, math.nan), (0.0, 1.0), *spans])
    versions = [one.decoder for one in heard.spans if isinstance(one, Span)]
    assert versions == [1, 1, *[decoder] * 4]


@pytest.mark.parametrize("level", [0.0, -0.0, 0.25])
def test_samples_that_never_change_are_silence(tmp_path: Path, level: float) -> None:
    path = str(tmp_path / "a.wav")
    sound = np.full(16_000, level, dtype=np.float32)
    sound[12_000:] = np.sin(np.arange(4_000)) / 2
    sf.write(path, sound, 16_000, subtype="FLOAT")
    found = listen(path, [(0.0, 0.75), (0.0, 0.7501), (0.75, 1.0)]).spans
    assert [one.silent for one in found if isinstance(one, Span)] == [True, False, False]


def test_a_silent_telephone_line_is_silent(tmp_path: Path) -> None:
    for subtype in ("ALAW", "ULAW"):  # their least level is not zero
        path = str(tmp_path / f"{subtype}.wav")
        sf.write(path, np.zeros(8_000), 8_000, subtype=subtype)
        (span,) = listen(path, [(math.nan, math.nan)]).spans
        assert isinstance(span, Span)
        assert span.silent
