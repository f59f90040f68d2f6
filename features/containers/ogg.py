"""Ogg files page by page (RFC 3533): the streams that are chained in them, one behind the other.

Conventions
-----------
- A page that begins a stream, behind one that does not, begins the next link of the chain.
- A stream should say its end by a flag on its last page. What Android records does not: a file
  without it is read as far as there are pages. One that ends within a page was cut short.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from features.containers.parts import WHOLE, Bytes, Part, Seen
from features.errors import AudioError

_MOST_LINKS = 10_000
_BEGINS = 2
_SOUND = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_RARE = {b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Link:
    """A link of the chain: where it lies, and its first stream of sound."""

    start: int
    stop: int
    serial: bytes = b""
    codec: bytes = b""
    last: tuple[int, int] = (0, 0)
    begun: bool = False


def parts(file: Bytes, start: int, stop: int, seen: Callable[[], Seen | None]) -> list[Part]:
    """The links of a file; a file of one is one part.

    Raises
    ------
    AudioError
        The last page is not there, or not to its end, or damaged; or the coding is one that
        libsndfile has not.
    """
    links: list[_Link] = []
    at = start
    while at < stop:
        head = file.at(at, 282)
        if head[:4] != b"OggS" or len(head) < 27:
            if b"OggS".startswith(head) or head[:4] == b"OggS":
                raise AudioError("cut short: its last page is not there to its end")
            at = _next_page(file, at, stop)
            continue
        n_bytes = 27 + head[26] + sum(head[27 : 27 + head[26]])
        if at + n_bytes > stop:
            raise AudioError("cut short: its last page is not there to its end")
        behind = file.at(at + n_bytes, 4)
        if behind not in (b"OggS", b"") and not _is_sound(file.at(at, n_bytes)):
            # The next may begin within what was left of this one.
            raise AudioError("damaged: a page has another check sum, or is not there to its end")
        flags, serial = head[5], head[14:18]
        if not links or (flags & _BEGINS and links[-1].begun):
            if len(links) == _MOST_LINKS:
                raise AudioError(f"more than {_MOST_LINKS:,} streams chained in one file")
            links.append(_Link(at, at))
        link = links[-1]
        if flags & _BEGINS:
            packet = file.at(at + 27 + head[26], 8)
            codec = next((one for one in _SOUND if packet.startswith(one)), b"")
            if codec and not link.codec:
                link.codec, link.serial = codec, serial
        else:
            link.begun = True
        if serial == link.serial:
            link.last = (at, n_bytes)
        at += n_bytes
        link.stop = at
    found = [link for link in links if link.codec]
    if not found:
        return [WHOLE]
    if found[0].codec in _RARE and not seen():
        name = _RARE[found[0].codec]
        raise AudioError(
            f"cannot be read as audio: {name} within Ogg, which libsndfile does not decode: make a "
            "FLAC file of it (ffmpeg -i FILE NEW.flac)"
        )
    for link in found:
        if not _is_sound(file.at(*link.last)):
            raise AudioError("damaged: the last page of a stream has another check sum")
    if len(found) == 1:
        return [WHOLE]
    return [Part(link.start, link.stop) for link in found]


def _next_page(file: Bytes, at: int, stop: int) -> int:
    """Where the next page begins, or the end."""
    while at < stop:
        window = file.at(at + 1, 1 << 16)
        found = window.find(b"OggS")
        if found >= 0:
            return at + 1 + found
        at += max(1, len(window) - 3)
    return stop


def _check_sum(page: bytes) -> int:
    """CRC-32 with the highest bit first, from 0; zlib's is the mirror image of it."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _is_sound(page: bytes) -> bool:
    return _check_sum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")
