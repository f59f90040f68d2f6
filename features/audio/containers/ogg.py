"""Ogg files page by page (RFC 3533): the streams that are chained in them, one behind the other.

Conventions
-----------
- A page that begins a stream, behind one that does not, begins the next link of the chain.
- Every page is looked at: a decoder leaves a damaged one out, and goes on with the next.
- A stream should say its end by a flag on its last page. What Android records does not: a file
  without it is read as far as there are pages. One that ends within a page was cut short.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from features.audio.containers.parts import WHOLE, Bytes, Part, Seen
from features.audio.containers.tags import before_tags, tag_bytes, zeros
from features.common.errors import AudioError

_MOST_LINKS = 10_000
_BEGINS, _ENDS = 2, 4
_SOUND = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_RARE = {b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Link:
    """A link of the chain: where it lies, and its first stream of sound.

    Attributes
    ----------
    start, stop : int
    serial, codec : bytes
    begun : bool
        Whether a page was met that begins no stream.
    number : int
        That of the stream's last page.
    head : bool
        Whether that page has no sound yet.
    ended : bool
        Whether it says to be the last.
    """

    start: int
    stop: int
    serial: bytes = b""
    codec: bytes = b""
    begun: bool = False
    number: int = -1
    head: bool = True
    ended: bool = False

    def take(self, page: bytes, at: int) -> None:
        """One more page of its sound.

        Raises
        ------
        AudioError
            The pages before it are missing, or it was there before.
        """
        number = int.from_bytes(page[18:22], "little")
        # A live stream is recorded from its middle, behind the pages of its head.
        follows = number > self.number if self.head else number == self.number + 1
        if self.number >= 0 and not follows:
            raise AudioError(
                f"damaged: its page at byte {at:,} is numbered {number:,}, the one before it "
                f"{self.number:,}: pages are missing, or there twice"
            )
        self.number, self.ended = number, bool(page[5] & _ENDS)
        self.head = not int.from_bytes(page[6:14], "little")


def parts(file: Bytes, start: int, stop: int, seen: Callable[[], Seen | None]) -> list[Part]:
    """The links of a file; a file of one is one part.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        First byte, and the one behind the last.
    seen : callable
        Gives what libsndfile sees in the file as it is; None where it cannot read it.

    Returns
    -------
    list of Part
        In the order of the file; `[WHOLE]` where it is to be decoded as it is.

    Raises
    ------
    AudioError
        A page is not there, or not to its end, or damaged, or there is something else; or the
        coding is one that libsndfile has not.
    """
    links = _links(file, start, stop)
    found = [link for link in links if link.codec]
    if not found:
        return [WHOLE]
    if found[0].codec in _RARE and not seen():
        name = _RARE[found[0].codec]
        raise AudioError(
            f"cannot be read as audio: {name} within Ogg, which libsndfile does not decode: make a "
            "FLAC file of it (ffmpeg -i FILE NEW.flac)"
        )
    for link in links:
        if not link.codec:
            raise AudioError(
                f"the stream at byte {link.start:,} is chained to others and none of sound that is "
                "known: part them"
            )
    if len(found) == 1:
        return [WHOLE]
    return [Part(link.start, link.stop) for link in found]


def _links(file: Bytes, start: int, stop: int) -> list[_Link]:
    """The links of the chain, from page to page."""
    links: list[_Link] = []
    at = start
    while at < stop:
        page = _page(file, at, stop)
        if not page:
            at = _next_page(file, at, stop, links[-1].ended)
            continue
        flags, serial = page[5], page[14:18]
        if not links or (flags & _BEGINS and links[-1].begun):
            if len(links) == _MOST_LINKS:
                raise AudioError(f"more than {_MOST_LINKS:,} streams chained in one file")
            links.append(_Link(at, at))
        link = links[-1]
        if flags & _BEGINS:
            packet = page[27 + page[26] :][:8]
            codec = next((head for head in _SOUND if packet.startswith(head)), b"")
            if codec and not link.codec:
                link.codec, link.serial = codec, serial
        else:
            link.begun = True
        if link.codec and serial == link.serial:
            link.take(page, at)
        at += len(page)
        link.stop = at
    return links


def _page(file: Bytes, at: int, stop: int) -> bytes:
    """The page that begins here; empty where something else does.

    Raises
    ------
    AudioError
        The page is not there to its end, or damaged.
    """
    head = file.at(at, 282)
    if head[:4] != b"OggS" or len(head) < 27:
        if b"OggS".startswith(head) or head[:4] == b"OggS":
            raise AudioError("cut short: its last page is not there to its end")
        return b""
    n_bytes = 27 + head[26] + sum(head[27 : 27 + head[26]])
    if at + n_bytes > stop:
        raise AudioError("cut short: its last page is not there to its end")
    page = file.at(at, n_bytes)
    if not _is_sound(page):
        # The next may begin within what was left of this one.
        raise AudioError(
            f"damaged: its page at byte {at:,} has another check sum, or is not there to its end"
        )
    return page


def _next_page(file: Bytes, at: int, stop: int, ended: bool) -> int:
    """Where the page behind tags and zeros begins, or the end.

    Raises
    ------
    AudioError
        There is something else, or zeros where the stream may have more pages.
    """
    first = at
    while at < stop and (step := tag_bytes(file, at) or zeros(file, at, stop)):
        at += step
    at = min(at, stop)
    rest = before_tags(file, at, stop) - at
    if not ended and not any(file.at(first, 1)):
        raise AudioError(f"damaged: zeros from byte {first:,} on, and its stream did not end there")
    if rest and file.at(at, 4) != b"OggS":
        raise AudioError(
            f"{rest:,} bytes from byte {at:,} on, behind a page, are neither pages nor a tag: "
            "sound of another kind, or damaged: cut them off"
        )
    return at if rest else stop


def _check_sum(page: bytes) -> int:
    """CRC-32 with the highest bit first, from 0; zlib's is the mirror image of it."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _is_sound(page: bytes) -> bool:
    return _check_sum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")
