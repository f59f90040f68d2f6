"""Tags of other programs around a sound (ID3v1, ID3v2, APEv2, Lyrics3): no part of it."""

from __future__ import annotations

from features.audio.containers.parts import Bytes


def tag_bytes(file: Bytes, at: int) -> int:
    """Bytes of a tag that begins here; 0 where none does.

    Parameters
    ----------
    file : Bytes
    at : int
        Where in the file to look.

    Returns
    -------
    int
        As the tag says; it may reach beyond the file.
    """
    head = file.at(at, 32)
    if head[:3] == b"TAG":
        return 128
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
        return 10 + _synchsafe(head[6:10]) + (10 if head[5] & 16 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        # The size leaves the header out, which is there where the footer's flag says so.
        return 32 + int.from_bytes(head[12:16], "little") * (head[23] >> 5 & 1)
    if head[:11] == b"LYRICSBEGIN":
        end = file.at(at, 1 << 16).find(b"LYRICS200")
        return end + 9 if end > 0 else 0
    return 0


def after_tags(file: Bytes, start: int, stop: int) -> int:
    """Where what lies behind the tags at the beginning begins."""
    while start < stop and (n := tag_bytes(file, start)):
        start += n
    return min(start, stop)


def before_tags(file: Bytes, start: int, stop: int) -> int:
    """Where the tags at the end begin.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        The stretch whose end is looked at.

    Returns
    -------
    int
        Between `start` and `stop`; `stop` where no tag ends there.
    """
    while True:
        before = stop
        if stop - start >= 128 and file.at(stop - 128, 3) == b"TAG":
            stop -= 128
        foot = file.at(max(start, stop - 32), min(32, stop - start))
        if foot[:8] == b"APETAGEX" and len(foot) == 32 and not foot[23] >> 5 & 1:
            stop -= int.from_bytes(foot[12:16], "little") + 32 * (foot[23] >> 7)
        elif foot[-9:] == b"LYRICS200" and foot[-15:-9].isdigit():
            stop -= int(foot[-15:-9]) + 15
        elif foot[-10:-7] == b"3DI" and max(foot[-4:]) < 128:
            stop -= 20 + _synchsafe(foot[-4:])
        stop = max(stop, start)
        if stop == before:
            return stop


def zeros(file: Bytes, start: int, stop: int) -> int:
    """Zero bytes from here on.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        The stretch that is looked at.

    Returns
    -------
    int
        Bytes before the first that is not 0.
    """
    at = start
    while at < stop:
        window = file.at(at, min(1 << 16, stop - at))
        rest = window.lstrip(b"\0")
        at += len(window) - len(rest)
        if rest or not window:
            break
    return at - start


def _synchsafe(size: bytes) -> int:
    return size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]
