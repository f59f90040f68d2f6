"""Audio files to what a model takes: mono float32 at 16 kHz, or a reason why not.

Conventions
-----------
- Decoding is soundfile's (WAV, FLAC, OGG, MP3) and, of the sound of `.avi` videos, PyAV's (extra
  `video`); channels are averaged, resampling is soxr's `HQ`.
- What cannot be used raises `AudioError` with the reason; nothing is replaced by zeros.
- A header is a claim: memory is taken for what is decoded, not for what a header promises.
- `start` and `end` are seconds into the file; NaN means its beginning or end.

Worker processes import this module: it imports neither torch nor transformers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from features.errors import AudioError

SAMPLING_RATE_HZ = 16_000
"""What every model of the registry takes."""

RATES_HZ = (4_000, 768_000)
"""Lowest and highest rate that is taken for one: below is no speech, above no recorder."""
MAX_SECONDS = 4 * 3600.0
"""Longest clip. Whoever has longer recordings means segments of them."""

_BLOCK = 1 << 20
"""Values (frames x channels) that are decoded at once."""
_PROMISED = re.compile(r"^ *(?:data|SSND|Data Size) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile reports a WAV, AIFF or AU file whose samples end before its header says so."""
_OPEN_ENDED = 2**31 - 1
"""Length that streaming programs write who do not know it."""

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """One utterance's place in a file.

    Attributes
    ----------
    utterance : str
    path : str
        The audio file.
    start, end : float
        Seconds; NaN for the file's beginning or end.
    """

    utterance: str
    path: str
    start: float = math.nan
    end: float = math.nan


def seconds(clip: Clip) -> float:
    """Length of a clip by the file's header, in seconds.

    Raises
    ------
    AudioError
        The file is missing, its header cannot be read, or it is a video and there is no PyAV.
    """
    if _is_video(clip):
        mono, rate = _of_video(clip)
        n_frames = len(mono)
    else:
        rate, n_frames = _header(clip)
    start, stop = _bounds(clip, rate, n_frames)
    return (stop - start) / rate


def load(clip: Clip, min_samples: int = 1) -> Audio:
    """Decode a clip, average its channels, resample it to 16 kHz.

    Parameters
    ----------
    clip : Clip
    min_samples : int
        What the model's first frame needs, at 16 kHz.

    Returns
    -------
    float32, shape (n_samples,)

    Raises
    ------
    AudioError
        Unreadable, empty, NaN or infinite samples, or fewer samples than one frame needs.
    """
    if _is_video(clip):
        mono, rate = _of_video(clip)
        start, stop = _bounds(clip, rate, len(mono))
        mono = mono[start:stop]
    else:
        rate, n_frames = _header(clip)
        start, stop = _bounds(clip, rate, n_frames)
        try:
            mono = _decode(clip.path, start, stop)
        except (sf.SoundFileError, OSError, ValueError, TypeError, MemoryError) as error:
            raise AudioError(f"cannot be decoded: {_reason(error)}") from None
    if not np.isfinite(mono).all():
        raise AudioError(f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite")
    if rate != SAMPLING_RATE_HZ:
        mono = soxr.resample(mono, rate, SAMPLING_RATE_HZ, quality="HQ")
        if not np.isfinite(mono).all():
            raise AudioError("samples too large to be resampled; full scale is 1")
    if len(mono) < min_samples:
        raise AudioError(
            f"no frame: {len(mono)} samples at {SAMPLING_RATE_HZ} Hz, the model needs "
            f"{min_samples}; drop it from the corpus or pass ALLOW_FAILURES"
        )
    return np.ascontiguousarray(mono, dtype=np.float32)


def _header(clip: Clip) -> tuple[int, int]:
    """Sampling rate and number of frames, as the header has them."""
    try:
        _refuse_no_bytes(Path(clip.path))
        info = sf.info(clip.path)
    except (sf.SoundFileError, OSError, TypeError, ValueError) as error:
        raise AudioError(f"cannot be read as audio: {_reason(error)}") from None
    promised = _PROMISED.search(info.extra_info)
    if promised and int(promised[2]) < int(promised[1]) < _OPEN_ENDED:
        raise AudioError(
            f"cut short: its header promises {promised[1]} bytes of samples, {promised[2]} are "
            f"there"
        )
    return _usual_rate(int(info.samplerate)), int(info.frames)


def _refuse_no_bytes(path: Path) -> None:
    # Not opened before: what is no plain file (a pipe) may never answer.
    if not path.is_file():
        raise AudioError("no such file")
    if path.stat().st_size == 0:
        raise AudioError("empty: the file has no bytes")


def _usual_rate(rate: int) -> int:
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise AudioError(f"sampling rate {rate} Hz; expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    return rate


def _is_video(clip: Clip) -> bool:
    return clip.path.lower().endswith(".avi")


def _of_video(clip: Clip) -> tuple[Audio, int]:
    """Decode a video's first sound track, channels averaged: float32, shape (n_frames,); its rate.

    The pictures are passed over. All of the sound is decoded even where only its length is asked
    for, since what headers say about it depends on who wrote them.
    """
    path = Path(clip.path)
    try:
        _refuse_no_bytes(path)
        _refuse_cut_video(path)
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read as video: {_reason(error)}") from None
    try:
        import av
    except ImportError:
        raise AudioError(
            "the sound of a video needs PyAV: install serfuse[video] (make EXTRAS=...,video), or "
            "put the sound beside it as WAV"
        ) from None
    blocks, n_frames = [], 0
    try:
        with av.open(clip.path, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError("the video has no sound")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError("the video's sound is coded in a way that FFmpeg does not know")
            rate = _usual_rate(stream.rate)
            convert = av.AudioResampler(format="fltp")  # planar float32; the rate stays
            for frame in container.decode(stream):
                for piece in convert.resample(frame):
                    blocks.append(piece.to_ndarray().mean(axis=0, dtype=np.float32))
                    n_frames += len(blocks[-1])
                if n_frames > MAX_SECONDS * rate:
                    raise AudioError(
                        f"longer than {MAX_SECONDS:,.0f} s, which an utterance has at most: cut it"
                    )
    except (av.FFmpegError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or _reason(error)
        raise AudioError(f"cannot be read as video: {reason}") from None
    if not blocks:
        raise AudioError("empty: no samples")
    return np.concatenate(blocks), rate


def _refuse_cut_video(path: Path) -> None:
    """FFmpeg reads what is left of a cut file without a word; its first chunk says its size."""
    with path.open("rb") as file:
        head = file.read(8)
    n_bytes, promised = path.stat().st_size, 8 + int.from_bytes(head[4:], "little")
    if head[:4] == b"RIFF" and n_bytes < promised < _OPEN_ENDED:
        raise AudioError(f"cut short: its header promises {promised} bytes, {n_bytes} are there")


def _decode(path: str, start: int, stop: int) -> Audio:
    """Frames `start` to `stop`, channels averaged; float32, shape (stop - start,)."""
    blocks = []
    with sf.SoundFile(path) as file:
        file.seek(start)
        at_once = max(1, _BLOCK // file.channels)
        while start < stop:
            block = file.read(min(at_once, stop - start), dtype="float32", always_2d=True)
            if not len(block):
                raise AudioError(
                    f"cut short: its header promises {stop - start} frames more than are there"
                )
            with np.errstate(over="ignore", invalid="ignore"):
                blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
            start += len(block)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _bounds(clip: Clip, rate: int, n_frames: int) -> tuple[int, int]:
    """First and last frame of a clip; a segment that leaves the file is refused, not cut."""

    def frame(seconds: float) -> int:
        # Far outside is outside: infinity has no frame.
        return round(min(max(seconds * rate, -1.0), n_frames + rate))

    start = 0 if math.isnan(clip.start) else frame(clip.start)
    stop = n_frames if math.isnan(clip.end) else frame(clip.end)
    # A segment table rounds to milliseconds: one more at the end of the file is no fault.
    if stop > n_frames and stop - n_frames <= math.ceil(rate / 1000):
        stop = n_frames
    if start < 0 or stop > n_frames:
        raise AudioError(
            f"segment {clip.start:g}-{clip.end:g} s is not inside the file's {n_frames / rate:g} s"
        )
    if stop <= start:
        raise AudioError("empty: no samples")
    if stop - start > MAX_SECONDS * rate:
        raise AudioError(
            f"{(stop - start) / rate:,.0f} s long by its header; an utterance has at most "
            f"{MAX_SECONDS:,.0f} s: list segments of it"
        )
    return start, stop


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[-1] if text else type(error).__name__).rstrip(".")
