"""The sound of `.avi` videos, by PyAV (extra `video`); the pictures are passed over.

All of the sound is decoded even where only its length is asked for, since what headers say about it
depends on who wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.common.errors import AudioError
from features.common.files import open_regular

OPEN_ENDED = 2**31 - 1
"""Length that streaming programs write who do not know it."""


def is_video(path: str) -> bool:
    """Whether a file is read as a video."""
    return path.lower().endswith(".avi")


def sound_of_video(path: str) -> Iterator[tuple[int, str, NDArray[np.float32]]]:
    """Decode a video's first sound track, channels averaged.

    Parameters
    ----------
    path : str

    Yields
    ------
    rate_hz : int
    codec : str
    mono : float32, shape (n_frames,)
        The next block.

    Raises
    ------
    AudioError
        The file is damaged, cut short, has no sound or one that FFmpeg does not know, or there is
        no PyAV.
    """
    try:
        _refuse_cut(Path(path))
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read as video: {reason(error)}") from None
    try:
        import av
    except ImportError:
        raise AudioError(
            "the sound of a video needs PyAV: install serfuse[video] (make EXTRAS=...,video), or "
            "put the sound beside it as WAV"
        ) from None
    try:
        with av.open(path, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError("the video has no sound")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError("the video's sound is coded in a way that FFmpeg does not know")
            codec = str(stream.codec_context.name).upper()
            convert = av.AudioResampler(format="fltp")  # planar float32; the rate stays
            for frame in container.decode(stream):
                for piece in convert.resample(frame):
                    block = piece.to_ndarray().mean(axis=0, dtype=np.float32)
                    yield int(stream.rate), codec, block
    except (av.FFmpegError, ValueError, MemoryError) as error:
        text = getattr(error, "strerror", None) or reason(error)
        raise AudioError(f"cannot be read as video: {text}") from None


def _refuse_cut(path: Path) -> None:
    """FFmpeg reads what is left of a cut file without a word; its chunks say their sizes."""
    n_bytes, at = path.stat().st_size, 0
    with open_regular(path, "rb") as file:
        while at + 12 <= n_bytes:
            file.seek(at)
            head = file.read(12)
            size = 8 + int.from_bytes(head[4:8], "little")
            if head[:4] != b"RIFF":
                break
            if n_bytes < at + size < OPEN_ENDED:
                raise AudioError(
                    f"cut short: its header promises {at + size} bytes, {n_bytes} are there"
                )
            at += size + size % 2


def reason(error: BaseException) -> str:
    """The last line of an error, without its full stop."""
    text = str(error).strip().splitlines()
    return (text[-1] if text else type(error).__name__).rstrip(".")
