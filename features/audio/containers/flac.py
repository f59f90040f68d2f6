"""FLAC files (RFC 9639): streams joined in one, and how long each is by its last frame.

Conventions
-----------
- A stream's header (STREAMINFO) may not know its length, or say a wrong one. Its last frame says
  which it is and how many samples it has.
- Nothing is decoded: a frame's header has a check sum of its own, and so has the whole frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from features.audio.containers.parts import WHOLE, Bytes, Part
from features.audio.containers.tags import after_tags, before_tags, zeros
from features.common.errors import AudioError

_INFO = 42
"""Bytes of the marker, STREAMINFO's header, and STREAMINFO."""
_STREAM = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)
_SYNC = re.compile(rb"\xff[\xf8\xf9]", re.DOTALL)
_WINDOW = 1 << 22
_LONGEST = 1 << 21
"""Bytes of a frame at most: 65535 samples of 8 channels, 32 bits each, as they are."""
_MOST_STREAMS = 10_000
_MOST_OTHERS = 100
"""Places within a frame that look like the head of another: usually there is none."""


def _table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) & 1 else 0)
            value &= 2**bits - 1
        table.append(value)
    return table


_CRC_8, _CRC_16 = _table(0x07, 8), _table(0x8005, 16)


def _crc_8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC_8[value ^ byte]
    return value


def _crc_16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 8 & 0xFFFF ^ _CRC_16[value >> 8 ^ byte]
    return value


def _may_end(data: bytes) -> list[int]:
    """Where a frame that begins here may end: its check sum is right, and one in 65,536 others."""
    value, found = 0, []
    for i, byte in enumerate(data, 1):
        value = value << 8 & 0xFFFF ^ _CRC_16[value >> 8 ^ byte]
        if not value:
            found.append(i)
    return found


def parts(file: Bytes, start: int, stop: int) -> list[Part]:
    """The streams of a file, each with its true length in its header.

    Raises
    ------
    AudioError
        A header promises more than is there, or there is less than the last frame.
    """
    starts = _starts(file, start, stop)
    found = [_part(file, *bounds) for bounds in zip(starts, [*starts[1:], stop], strict=True)]
    if len(found) == 1 and not found[0].head:
        return [WHOLE]
    return found


def _starts(file: Bytes, start: int, stop: int) -> list[int]:
    """Where the streams begin; what looks like one within the blocks of a header is none."""
    starts = [start]
    at = _frames_at(file, start, stop)
    while at < stop:
        window = file.at(at, min(_WINDOW, stop - at))
        found = window.find(b"fLaC")
        while found >= 0 and not _STREAM.match(window, found):
            found = window.find(b"fLaC", found + 1)
        if found >= 0:
            if len(starts) == _MOST_STREAMS:
                raise AudioError(f"more than {_MOST_STREAMS:,} FLAC streams joined in one file")
            starts.append(at + found)
            at = _frames_at(file, starts[-1], stop)
        elif at + len(window) >= stop or len(window) < 8:
            break
        else:
            at += len(window) - 7
    return starts


def _frames_at(file: Bytes, start: int, stop: int) -> int:
    """Where a stream's frames begin, behind the blocks of its header."""
    at = start + 4
    while at < stop:
        head = file.at(at, 4)
        if len(head) < 4:
            break
        at += 4 + int.from_bytes(head[1:])
        if head[0] & 0x80:
            break
    return min(at, stop)


def _part(file: Bytes, start: int, stop: int) -> Part:
    info = file.at(start, _INFO)
    if len(info) < _INFO:
        raise AudioError("cut short: its header is not there to its end")
    counted = int.from_bytes(info[21:26]) & 2**36 - 1
    first = _frames_at(file, start, stop)
    end = _before_next(file, first, before_tags(file, first, stop))
    n_frames, whole = _last_frame(file, first, end, info, counted)
    if whole:
        _refuse_holes(file, first, end, info, n_frames)
    elif n_frames <= counted:
        _refuse_behind(file, first, end, info, counted)
    if whole and n_frames < counted:
        raise AudioError(
            f"cut short: its header promises {counted} samples a channel, {n_frames} are there"
        )
    if not whole:
        # Libsndfile decodes what the header counts, or does not; there may be no more than that.
        if not counted or n_frames > counted:
            raise AudioError("cut short: its last frame is not there to its end")
        return Part(start, stop)
    head = _recounted(info, n_frames)
    return Part(start, stop) if head == info else Part(start + _INFO, stop, head)


def _recounted(info: bytes, n_frames: int) -> bytes:
    """Marker and STREAMINFO with another number of samples."""
    count = n_frames & 2**36 - 1 | (info[21] >> 4) << 36
    return info[:21] + count.to_bytes(5) + info[26:]


def _before_next(file: Bytes, start: int, stop: int) -> int:
    """Where the frames end: before zero bytes, and before a tag of the stream that follows."""
    tail = file.at(max(start, stop - _LONGEST), min(_LONGEST, stop - start))
    found = tail.rfind(b"ID3")
    if found >= 0:
        at = stop - len(tail) + found
        if after_tags(file, at, stop) == stop and at < stop:
            return before_tags(file, start, at)
    return stop


def _last_frame(file: Bytes, start: int, stop: int, info: bytes, counted: int) -> tuple[int, bool]:
    """Samples up to the end of the last frame, and whether that one is there to its end."""
    block = int.from_bytes(info[8:10])
    channels, bits = (info[20] >> 1 & 7) + 1, ((info[20] & 1) << 4 | info[21] >> 4) + 1
    most = int.from_bytes(info[10:12]) * channels * (bits + 7) // 8 + 256
    window = min(2 * min(most, _LONGEST), stop - start)
    whole = file.at(stop - window, window)
    tail = whole.rstrip(b"\0")
    # The check sum at a frame's end may be zero: up to two of the zeros are its own.
    tails = [whole[: len(tail) + n] for n in range(min(2, len(whole) - len(tail)) + 1)]
    first = file.at(start, 4)
    beyond = 0
    for match in reversed(list(_SYNC.finditer(tail))):
        head = tail[match.start() : match.start() + 16]
        end = _frame_end(head, block) if _of_kind(head, first) else None
        if end is None:
            continue
        if any(_crc_16(tail[match.start() :]) == 0 for tail in tails):
            return end, True
        beyond = max(beyond, end)
        if end < beyond:
            break
    return beyond, False


def _of_kind(head: bytes, first: bytes) -> bool:
    """Whether a frame is of the first one's kind: what is not is a piece that looks like a head."""
    like = len(head) >= 6 and head[1] == first[1]
    return like and not (head[2] ^ first[2]) & 15 and not (head[3] ^ first[3]) & 14


def _heads(file: Bytes, start: int, stop: int, block: int) -> Iterator[tuple[int, int, int, int]]:
    """Where frames may begin, and what `_frame` says of each."""
    first = file.at(start, 4)
    for at in range(start, stop, _WINDOW):
        window = file.at(at, min(_WINDOW + 16, stop - at))
        for match in _SYNC.finditer(window, 0, _WINDOW + 1):
            head = window[match.start() : match.start() + 16]
            if _of_kind(head, first) and (frame := _frame(head, block)):
                yield at + match.start(), *frame


def _refuse_holes(file: Bytes, start: int, stop: int, info: bytes, n_frames: int) -> None:
    """Refuse frames that do not follow one another.

    Libsndfile fills a hole with zeros, and leaves out as much at the end as there is twice.

    Raises
    ------
    AudioError
    """
    expected = reached = 0
    others: list[int] = []
    for place, number, after, end in _heads(file, start, stop, int.from_bytes(info[8:10])):
        if number == expected:
            _refuse_frames(file, others, place)
            others.clear()
            expected, reached = after, end
        else:
            others.append(place)
    if reached != n_frames:
        raise AudioError(f"damaged: the frame behind its first {reached:,} samples is missing")
    _refuse_frames(file, others, stop)


def _refuse_frames(file: Bytes, places: list[int], stop: int) -> None:
    """Refuse what begins within a frame and is one by its check sum, too."""
    for place in places[:_MOST_OTHERS]:
        if not _crc_16(file.at(place, min(_LONGEST, stop - place))):
            raise AudioError(
                f"damaged: its frame at byte {place:,} is there twice, or out of place"
            )


def _refuse_behind(file: Bytes, start: int, stop: int, info: bytes, counted: int) -> None:
    """Refuse what lies behind the frame that is the last by the header's count.

    Where there is no such frame, or a damaged one, libsndfile says it.

    Raises
    ------
    AudioError
    """
    for place, _, _, last in _heads(file, start, stop, int.from_bytes(info[8:10])):
        if last == counted:
            ends = [place + n for n in _may_end(file.at(place, min(_LONGEST, stop - place)))]
            if ends and all(end + zeros(file, end, stop) < stop for end in ends):
                raise AudioError(
                    f"{stop - ends[0]:,} bytes from byte {ends[0]:,} on, behind the last frame, "
                    "are no tag: sound of another kind, or damaged: cut them off"
                )


def _frame_end(head: bytes, block: int) -> int | None:
    """The sample behind a frame, by its header; None where it is none."""
    frame = _frame(head, block)
    return frame[2] if frame else None


def _frame(head: bytes, block: int) -> tuple[int, int, int] | None:
    """A frame's number, that of the next one, and the sample behind it; None where it is none."""
    if len(head) < 6 or head[3] & 1:
        return None
    size, rate = head[2] >> 4, head[2] & 15
    if not size or rate == 15:
        return None
    number, at = head[4], 5
    if number >= 0xC0:
        # As many bytes in all as the first has leading ones.
        n_more = 7 - (number ^ 0xFF).bit_length()
        number &= (1 << (6 - n_more)) - 1 if n_more < 6 else 0
        for byte in head[5 : 5 + n_more]:
            if byte >> 6 != 2:
                return None
            number = number << 6 | byte & 0x3F
        at += n_more
    elif number >= 0x80:
        return None
    extra = {6: 1, 7: 2}.get(size, 0)
    n = int.from_bytes(head[at : at + extra]) + 1
    if not extra:
        n = 192 if size == 1 else 576 << (size - 2) if size < 6 else 256 << (size - 8)
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if at >= len(head) or _crc_8(head[:at]) != head[at]:
        return None
    if head[1] & 1:
        return number, number + n, number + n
    return number, number + 1, number * block + n
