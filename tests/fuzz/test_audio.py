"""Audio files: headers and samples damaged, absurd promises, segments at odd places."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path

import numpy as np
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.audio import Clip, load, seconds
from extract.job.ahead import load_one
from features.audio.decode import Heard, Span, listen
from features.common.errors import AudioError
from tests.fuzz.tools import damaged, read_or_refused

FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "float": {"format": "WAV", "subtype": "DOUBLE"},
    "adpcm": {"format": "WAV", "subtype": "IMA_ADPCM"},
    "flac": {"format": "FLAC"},
    "vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
    "w64": {"format": "W64", "subtype": "MS_ADPCM"},
    "caf": {"format": "CAF", "subtype": "ULAW"},
}


def _files() -> dict[str, bytes]:
    """A file of each format: 0.1 s of noise, two channels, 24 kHz (opus knows no 22050 Hz)."""
    noise = 0.2 * np.random.default_rng(0).standard_normal((2400, 2))
    files = {}
    for name, form in FORMATS.items():
        buffer = io.BytesIO()
        sf.write(buffer, noise.clip(-1, 1), 24_000, **form)
        files[name] = buffer.getvalue()
    return files


FILES = _files()
JOINED = {
    "wavs": FILES["wav"] * 2,
    "flacs": FILES["flac"] * 2,
    "chain": FILES["vorbis"] * 2,
    "mp3s": FILES["mp3"] * 2,
    "uncounted": FILES["mp3"].replace(b"Xing", bytes(4)).replace(b"Info", bytes(4)),
}


def read(path: Path, start: float = math.nan, end: float = math.nan) -> None:
    """Length by the header, then the samples: finite, mono, and as many as the header says."""
    clip = Clip("a", str(path), start, end)
    length, loaded = math.nan, None
    with read_or_refused(AudioError):
        length = seconds(clip)
        loaded = load_one(clip, 1, None)
    heard: Heard | None = None
    if math.isnan(start) and math.isnan(end):
        with read_or_refused(AudioError):
            heard = listen(str(path), [(start, end)])
    if isinstance(loaded, np.ndarray):
        if heard is not None:
            assert isinstance(heard.spans[0], Span)
            assert heard.spans[0].seconds == length
        assert heard is not None or not (math.isnan(start) and math.isnan(end))
        assert loaded.dtype == np.float32
        assert loaded.ndim == 1
        assert np.isfinite(loaded).all()
        assert abs(len(loaded) - length * 16_000) <= 1
    else:
        assert "allocate" not in str(loaded), "refused for want of memory alone"


@settings(max_examples=settings.default.max_examples * 8)
@given(data=damaged(*FILES.values(), *JOINED.values()))
def test_a_damaged_file(folder: Path, data: bytes) -> None:
    path = folder / "damaged"
    path.write_bytes(data)
    read(path)


def wav(rate: int, channels: int, bits: int, tag: int, promised: int, body: bytes) -> bytes:
    """A WAV file whose header says what it is told to."""
    block = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", tag, channels % 2**16, rate, rate * block % 2**32, block % 2**16, bits
    )
    data = b"data" + struct.pack("<I", promised) + body
    return b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt \x10\0\0\0" + form + data


@given(
    rate=st.sampled_from([0, 1, 7, 999, 8000, 44_101, 999_983, 2**31 - 1, 2**31, 2**32 - 1])
    | st.integers(0, 2**32 - 1),
    channels=st.sampled_from([0, 1, 2, 3, 1000, 1024, 1025, 65_535]),
    form=st.sampled_from([(1, 8), (1, 16), (1, 24), (1, 0), (3, 32), (3, 64), (7, 8), (0, 16)]),
    promised=st.sampled_from([None, 0, 1, 2**31 - 2, 2**31 - 1, 2**31, 2**32 - 1]),
    body=st.sampled_from([0, 1, 4, 3000, 200_000]),
    filling=st.sampled_from([b"\0", b"\xff", b"\0\x7f", b"\x80\x7f", b"\xff\xff\x7f\x7f"]),
)
def test_a_header_of_extremes(
    folder: Path,
    rate: int,
    channels: int,
    form: tuple[int, int],
    promised: int | None,
    body: int,
    filling: bytes,
) -> None:
    samples = (filling * body)[:body]
    promised = len(samples) if promised is None else promised
    path = folder / "extreme.wav"
    path.write_bytes(wav(rate, channels, form[1], form[0], promised, samples))
    read(path)


@given(
    start=st.floats() | st.sampled_from([0.0, -0.0, 0.05, 0.1, -1e-9, 1e308]),
    end=st.floats() | st.sampled_from([0.05, 0.1, 0.1004, 0.2, 0.0]),
    name=st.sampled_from(sorted(FORMATS)),
)
def test_a_segment_anywhere(folder: Path, start: float, end: float, name: str) -> None:
    (folder / "segment").write_bytes(FILES[name])
    read(folder / "segment", start, end)


@given(path=st.text(max_size=20) | st.sampled_from(["\0", "a\0b", ".", "/", "/dev/zero", "\ud800"]))
def test_a_path_of_any_text(path: str) -> None:
    with read_or_refused(AudioError):
        seconds(Clip("a", path))
    with read_or_refused(AudioError):
        load(Clip("a", path))
