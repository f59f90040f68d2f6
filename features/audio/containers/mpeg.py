"""MPEG audio (MP3 and its elders) frame by frame: where its streams lie, and how long each is.

Conventions
-----------
- Nothing is decoded: a frame's header says how many bytes and samples it has (ISO 11172-3 and
  13818-3; version 2.5 for rates below 16 kHz).
- A stream may begin with a frame without sound that counts the others, "Xing" or "Info" (LAME's
  with the encoder's delay), or "VBRI". The next such frame begins the next stream: files joined.
- Tags (ID3v1, ID3v2, APEv2, Lyrics3) and zeros lie before, between and behind the streams. Of other
  bytes there may be fewer than the longest frame has: a recorder begins and ends within a frame.
  More than that may be sound of another kind, which no decoder of MPEG takes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from features.audio.containers.parts import WHOLE, Bytes, Part, Seen
from features.audio.containers.tags import before_tags, tag_bytes, zeros
from features.common.errors import AudioError

_KBIT = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBIT[False, 3] = _KBIT[False, 2]
"""By (whether it is MPEG 1, layer) and the header's index; 0 is "free format"."""
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By the two bits of the version: MPEG 1, 2, 2.5."""
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)
_NEXT = re.compile(_SYNC.pattern + rb"|ID3[\x02-\x04]\x00", re.DOTALL)
_FREE_BYTES = 1 << 13
"""Longest frame of free format that is looked for."""
_JUNK = 1 << 20
"""Bytes that are looked through for the next frame."""
_LONGEST = 1441
"""Bytes of the longest frame that is not of free format."""
_RATIO = 40
"""More than any frame's bytes are of any other's."""
_SURE = 4
"""Frames that have to follow one where none is expected."""
_MOST_STREAMS = 10_000


@dataclass(frozen=True)
class _Frame:
    """What a frame's header says; `n_bytes` 0 is free format."""

    version: int
    layer: int
    rate_hz: int
    channels: int
    n_bytes: int
    padding: int
    n_samples: int
    protected: bool

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """What does not change within a stream."""
        return self.version, self.layer, self.rate_hz, self.channels


@functools.lru_cache(maxsize=4096)
def _frame(head: bytes) -> _Frame | None:
    """Read a header of four bytes; None where it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbit, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or kbit == 15 or rate == 3:
        return None
    first = version == 3
    rate_hz = _RATES_HZ[version][rate]
    n_samples = 384 if layer == 1 else 1152 if layer == 2 or first else 576
    unit = 4 if layer == 1 else 1
    n_bytes = n_samples // 8 * 1000 * _KBIT[first, layer][kbit] // (rate_hz * unit) * unit
    if n_bytes:
        n_bytes += padding * unit
    channels = 1 if head[3] >> 6 == 3 else 2
    return _Frame(
        version, layer, rate_hz, channels, n_bytes, padding * unit, n_samples, not head[1] & 1
    )


def is_frame(head: bytes) -> bool:
    """Whether a file that begins like this is MPEG audio."""
    return _frame(head[:4]) is not None


@dataclass
class Stream:
    """Frames of one encoder, one behind the other.

    Attributes
    ----------
    start, stop : int
        Its bytes, with the frame that counts.
    n_frames : int
        Frames with sound.
    counted : int or None
        Frames that the first one counts; None where there is no such frame.
    counter : bytes
        The frame that counts.
    head : bytes
        The header of the first frame with sound.
    broken : int
        Bytes between its frames that are none.
    longest : int
        Bytes of its longest frame.
    """

    start: int
    stop: int
    kind: tuple[int, int, int, int]
    n_samples: int
    n_frames: int = 0
    counted: int | None = None
    counter: bytes = b""
    head: bytes = b""
    broken: int = 0
    longest: int = 0


@dataclass(frozen=True)
class OddBytes:
    """Bytes around streams that are neither zeros nor a tag: where they begin, and how many."""

    start: int
    n_bytes: int


def streams(file: Bytes, start: int, stop: int) -> tuple[list[Stream], list[OddBytes]]:
    """Find the streams between two places of a file, and what else lies around them.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        First byte, and the one behind the last.

    Returns
    -------
    list of Stream
        Frames of one kind, one behind the other.
    list of OddBytes
        What lies between and around them and is neither zeros nor a tag.

    Raises
    ------
    AudioError
        The last frame is not there to its end.
    """
    found: list[Stream] = []
    gaps: list[OddBytes] = []
    at, stop = start, before_tags(file, start, stop)
    free: dict[tuple[int, int, int, int], int] = {}
    junk, gap = 0, OddBytes(0, 0)
    while at < stop:
        current = found[-1] if found else None
        frame = _frame(file.at(at, 4))
        n_bytes = _length(file, at, stop, frame, free) if frame else 0
        known = (
            current is not None and not junk and frame is not None and frame.kind == current.kind
        )
        if (
            frame is None
            or not n_bytes
            or not (known or _goes_on(file, at + n_bytes, stop, frame, free))
        ):
            if current is not None and not junk:
                _refuse_cut_header(file.at(at, 4), current, stop - at)
            step = tag_bytes(file, at)
            if not step:
                step = zeros(file, at, stop)
                if not step:
                    step = _to_next(file, at, stop)
                    gap = OddBytes(gap.start if gap.n_bytes else at, gap.n_bytes + step)
                junk += step
            at += step
            continue
        if at + n_bytes > stop:
            raise _cut(n_bytes, stop - at)
        counted = _counted(file, at, n_bytes, frame)
        if current is None or frame.kind != current.kind or counted is not None:
            if len(found) == _MOST_STREAMS:
                raise AudioError(f"more than {_MOST_STREAMS:,} MPEG streams joined in one file")
            current = Stream(at, at, frame.kind, frame.n_samples)
            found.append(current)
            gaps.append(gap)
            if counted is not None:
                current.counted, current.counter = counted, file.at(at, n_bytes)
        else:
            current.broken += junk
        junk, gap = 0, OddBytes(0, 0)
        if counted is None:
            current.n_frames += 1
            current.head = current.head or file.at(at, 4)
        at += n_bytes
        current.stop, current.longest = at, max(current.longest, n_bytes)
    return found, [some for some in (*gaps, gap) if some.n_bytes]


def _cut(promised: int, there: int) -> AudioError:
    return AudioError(
        f"cut short: its last MPEG frame promises {promised} bytes, {there} are there"
    )


def _refuse_cut_header(rest: bytes, current: Stream, n_bytes: int) -> None:
    if n_bytes < 4 and current.head.startswith(rest[:2]):
        raise _cut(4, n_bytes)


def _length(file: Bytes, at: int, stop: int, frame: _Frame, free: dict[Any, int]) -> int:
    """Bytes of a frame; those of free format are as long as its first one; 0: cannot be told."""
    if frame.n_bytes:
        return frame.n_bytes
    if frame.kind not in free:
        head = file.at(at, 4)
        after = file.at(at + 4, min(_FREE_BYTES, stop - at - 4))
        for match in _SYNC.finditer(after):
            other = _frame(after[match.start() : match.start() + 4])
            if (
                other
                and not other.n_bytes
                and other.kind == frame.kind
                and head[1] == after[match.start() + 1]
            ):
                free[frame.kind] = 4 + match.start() - frame.padding
                break
        else:
            return 0
    return free[frame.kind] + frame.padding


def _goes_on(file: Bytes, at: int, stop: int, frame: _Frame, free: dict[Any, int]) -> bool:
    """Whether a frame that ends here is one: more of its kind follow, or a tag or the end does."""
    for _ in range(_SURE):
        after = _frame(file.at(at, 4))
        if after is None:
            return at == stop or (at < stop and tag_bytes(file, at) > 0)
        n_bytes = _length(file, at, stop, after, free)
        if after.kind[:3] != frame.kind[:3] or not n_bytes:
            return False
        at += n_bytes
    return True


def _to_next(file: Bytes, at: int, stop: int) -> int:
    """Bytes to the next place where a frame may begin, or a tag."""
    window = file.at(at + 1, min(_JUNK, stop - at - 1))
    match = _NEXT.search(window)
    return 1 + (match.start() if match else len(window))


def _counted(file: Bytes, at: int, n_bytes: int, frame: _Frame) -> int | None:
    """Frames that a frame counts instead of having sound; None where it has sound; -1: unsaid."""
    if frame.layer != 3:
        return None
    version_1, mono = frame.version == 3, frame.channels == 1
    side = (17 if mono else 32) if version_1 else (9 if mono else 17)
    body = file.at(at + 4, min(n_bytes - 4, 64))
    for offset in (side, side + 2) if frame.protected else (side,):
        if body[offset : offset + 4] in (b"Xing", b"Info") and len(body) >= offset + 12:
            flags = int.from_bytes(body[offset + 4 : offset + 8])
            return int.from_bytes(body[offset + 8 : offset + 12]) if flags & 1 else -1
    if body[32:36] == b"VBRI" and len(body) >= 50:
        return int.from_bytes(body[46:50])
    return None


def parts(
    file: Bytes, start: int, stop: int, seen: Callable[[], Seen | None] | None = None
) -> list[Part]:
    """The parts to decode, each behind a frame that counts its frames where its own does not.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        Where its MPEG audio lies, tags and all.
    seen : callable, optional
        Gives what libsndfile sees in the file as it is; None where it cannot read it. Without it
        the file is of another kind, and MPEG audio is what it holds.

    Returns
    -------
    list of Part
        In the order of the file; `[WHOLE]` where it is to be decoded as it is.

    Raises
    ------
    AudioError
        Frames are missing, or there is something between them that is none.
    """
    all_streams, gaps = streams(file, start, stop)
    found = [stream for stream in all_streams if stream.n_frames]
    if not found and seen is None:
        raise AudioError("cannot be read as audio: no MPEG frame")
    inside = sum(stream.stop - stream.start for stream in found)
    outside = sum(gap.n_bytes for gap in gaps)
    if not found or (seen and inside < outside):
        # Two bytes in four thousand look like a head: this may be another kind of file.
        as_it_is = seen() if seen else None
        if as_it_is is None or as_it_is.format != "MP3":
            return [WHOLE]
    _refuse_gaps(gaps, max((stream.longest for stream in found), default=_SURE * _LONGEST))
    if not found:
        return [WHOLE]
    parts = [_part(stream) for stream in found]
    if len(found) == 1 and seen is not None:
        (stream,), (part,) = found, parts
        lengths = (part.n_frames, (stream.n_frames + bool(stream.counter)) * stream.n_samples)
        # A frame that counts rightly libsndfile takes itself.
        if part == Part(stream.start, stream.stop):
            return [WHOLE] if stream.start == start or seen() else parts
        as_it_is = None if part.head else seen()
        if as_it_is is not None and as_it_is.n_frames in lengths:
            return [WHOLE]
    return parts


def _refuse_gaps(gaps: list[OddBytes], most: int) -> None:
    for gap in gaps:
        if gap.n_bytes > most:
            raise AudioError(
                f"{gap.n_bytes:,} bytes from byte {gap.start:,} on are neither MPEG frames nor a "
                "tag: sound of another kind, or damaged: cut them off"
            )


def _part(stream: Stream) -> Part:
    if stream.counted is not None and stream.counted > stream.n_frames and not _complete(stream):
        raise AudioError(
            f"cut short: its header promises {stream.counted} MPEG frames, {stream.n_frames} are "
            "there"
        )
    if stream.broken:
        raise AudioError(f"damaged: {stream.broken} bytes between its MPEG frames are none")
    if stream.counted == stream.n_frames and b"VBRI" not in stream.counter[36:40]:
        return Part(stream.start, stream.stop)
    if stream.counted is not None and stream.counted >= 0 and (head := _recounted(stream)):
        return Part(stream.start + len(head), stream.stop, head)
    # Without a count libsndfile takes the length from the number of bytes and the first frame's,
    # and stops there. A file that says to be longer is decoded as far as there are frames.
    n_samples = stream.n_frames * stream.n_samples
    start = stream.start + len(stream.counter)
    return Part(start, stream.stop, tail=_RATIO * (stream.stop - start), n_frames=n_samples)


def _complete(stream: Stream) -> bool:
    """Whether all bytes are there that the first frame counts: it counts itself as sound, then."""
    at = max(stream.counter.find(b"Xing", 0, 48), stream.counter.find(b"Info", 0, 48))
    n_bytes = int.from_bytes(stream.counter[at + 12 : at + 16])
    return at > 0 and stream.counter[at + 7] & 3 == 3 and n_bytes == stream.stop - stream.start


def _recounted(stream: Stream) -> bytes:
    """A frame that counts, with the right numbers and no padding at the end; empty: unknown."""
    head = bytearray(stream.counter)
    at = max(head.find(b"Xing", 0, 48), head.find(b"Info", 0, 48))
    if at < 0:
        return b""
    flags = head[at + 7]
    head[at + 8 : at + 12] = stream.n_frames.to_bytes(4)
    if flags & 2:
        head[at + 12 : at + 16] = min(stream.stop - stream.start, 2**32 - 1).to_bytes(4)
    # LAME's part: 21 bytes, then 12 bits of the encoder's delay and 12 of its padding.
    padding = at + 12 + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1) + 22
    if padding + 2 <= len(head):
        head[padding] &= 0xF0
        head[padding + 1] = 0
    return bytes(head)
