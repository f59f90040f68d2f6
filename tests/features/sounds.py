"""Audio files made byte by byte: what programs write to pipes, and what `cat` makes of two."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import soundfile as sf

RATE_HZ = 16_000


def noise(n: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise on the steps of 16 bits, shape (n, channels)."""
    steps = np.random.default_rng(seed).integers(-(2**13), 2**13, (n, channels))
    return (steps / 2**15).astype(np.float32)


def written(
    samples: np.ndarray, form: str, subtype: str | None = None, rate: int = RATE_HZ, **more: Any
) -> bytes:
    """A whole file, as libsndfile writes it."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=form, subtype=subtype, **more)
    return buffer.getvalue()


def wav(
    body: bytes, data: int | None = None, *, riff: int | None = None, tail: bytes = b""
) -> bytes:
    """A 16-bit mono WAV file whose header says what it is told to."""
    data = len(body) if data is None else data
    riff = 36 + len(body) + len(tail) if riff is None else riff
    form = struct.pack("<HHIIHH", 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt \x10\0\0\0" + form
    return head + b"data" + struct.pack("<I", data) + body + tail


def pcm(samples: np.ndarray) -> bytes:
    """16-bit samples, little-endian."""
    return np.round(samples * 2**15).astype("<i2").tobytes()


def put(data: bytes, at: int, value: int, n: int, order: str = "little") -> bytes:
    """The bytes with a number in place of others."""
    return data[:at] + value.to_bytes(n, order) + data[at + n :]  # type: ignore[arg-type]


def flac_of_length(data: bytes, n_frames: int) -> bytes:
    """A FLAC file whose header says how long it is; 0: unknown."""
    return (
        data[:21]
        + bytes([data[21] & 0xF0 | n_frames >> 32])
        + put(data, 22, n_frames % 2**32, 4, "big")[22:]
    )


def mp3_frames(data: bytes) -> list[bytes]:
    """The frames of an MP3 of MPEG 2, layer III, 16 kHz, without tags."""
    kbit = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    frames, at = [], 0
    while at < len(data):
        assert data[at] == 0xFF
        assert data[at + 1] & 0xFE == 0xF2
        n = 72 * 1000 * kbit[data[at + 2] >> 4] // RATE_HZ + (data[at + 2] >> 1 & 1)
        frames.append(data[at : at + n])
        at += n
    return frames


def mp3_without_count(samples: np.ndarray, **more: Any) -> tuple[bytes, int]:
    """An MP3 file without the frame that counts the others, and the samples that it decodes to."""
    first, *frames = mp3_frames(written(samples, "MP3", **more))
    assert b"Xing" in first or b"Info" in first
    return b"".join(frames), 576 * len(frames)


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    pages, at = [], 0
    while at < len(data):
        n = 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
        pages.append(data[at : at + n])
        at += n
    return pages


ID3V1 = b"TAG" + b"x" * 125
ID3V2 = b"ID3\x04\0\0\0\0\0\x10" + bytes(16)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 40, 0, 0) + bytes(8)
"""The footer; eight bytes of the tag itself stand before it."""


def whole_ape(items: bytes = b"text" * 9) -> bytes:
    """An APEv2 tag with the header that its size leaves out."""
    header, footer = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(items) + 32, 1, flags << 28) + bytes(8)
        for flags in (0b1010, 0b1000)
    )
    return header + items + footer


_LYRICS = b"LYRICSBEGIN" + b"IND00002" + b"10" + b"LYR00005" + b"words"
WHOLE_TAGS = {
    "ID3v2 with a footer": ID3V2[:5] + b"\x10" + ID3V2[6:] + b"3DI\x04\0\x10\0\0\0\x10",
    "APEv2": whole_ape(),
    "Lyrics3v2": _LYRICS + f"{len(_LYRICS):06}".encode() + b"LYRICS200",
}
"""Tags that tell their size at both ends."""
