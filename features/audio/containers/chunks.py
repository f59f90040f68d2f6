"""Files of chunks (WAV, RF64, Wave64, AIFF, CAF) and Sun's AU: where the samples end.

Conventions
-----------
- The header of the chunk of samples says how many bytes it has. Programs that write to a pipe do
  not know it, and write 0 or a number of their own beyond all files: then the samples go on to
  the file's end.
- Any other number that is larger than the file is a promise that was not kept: cut short.
- What lies behind the samples is chunks, tags, zeros, or the next file; else it may be samples that
  the header does not know, and the file is refused.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from features.audio.containers import mpeg
from features.audio.containers.parts import WHOLE, Bytes, Part
from features.audio.containers.tags import before_tags, tag_bytes, zeros
from features.common.errors import AudioError

_UNKNOWN = (
    range(0x7EFF_0000, 0x7F00_1000),  # sox, AIFF
    range(0x7FFF_0000, 0x8000_1000),  # sox, arecord, and what is 2**31 less a header
    range(0xFFFF_0000, 0x1_0000_0000),  # ffmpeg: -1
    range(2**62, 2**64),
)
"""Numbers of bytes that stand for one that nobody knows."""
_MOST_HEADER = 1 << 24
"""Bytes before the samples at most, where the header has to be written anew."""
_MOST_FILES = 10_000
_MOST_CHUNKS = 100_000
_WINDOW = 1 << 20
_ROUNDING = 8
"""Bytes behind the samples that are too few for a chunk."""
_MPEG = (0x50, 0x55)
"""Codings of WAV that are MPEG audio: layer 1 or 2, and 3."""
_GSM = (0x31, 65, 320)
"""Coding of WAV that is GSM 6.10: bytes and samples of a block."""
_KNOWN = frozenset(
    (b"LIST", b"fact", b"bext", b"cue ", b"smpl", b"inst", b"PEAK", b"iXML", b"axml", b"_PMX")
    + (b"ID3 ", b"id3 ", b"JUNK", b"junk", b"PAD ", b"FLLR", b"DISP", b"afsp", b"cart", b"umid")
    + (b"COMM", b"MARK", b"INST", b"NAME", b"AUTH", b"ANNO", b"COMT", b"APPL", b"(c) ", b"INFO")
)
"""Chunks that are taken for such even where their size is wrong."""
_OTHERS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b"OggS", b"fLaC")
"""How files of other kinds begin, too: no names of chunks."""
_HEADS = re.compile(
    rb"(?:RIFF|RIFX|RF64)....WAVE|FORM....(?:AIF[FC]|8SVX|16SV)|caff\x00\x01\x00\x00|\.snd\x00\x00..|dns\...\x00\x00"
    rb"|riff\x2e\x91\xcf\x11",
    re.DOTALL,
)
"""How these files begin."""
_HEAD_BYTES = 16

_Order = Literal["little", "big"]


@dataclass(frozen=True)
class _Form:
    """How a kind of file writes its chunks.

    Attributes
    ----------
    order : "little" or "big"
    first : int
        Where the first chunk begins.
    id_bytes, size_bytes : int
    all : bool
        Whether a chunk's size counts its header, too.
    align : int
        Chunks begin at multiples of it.
    samples : bytes
        Name of the chunk of samples.
    before : int
        Bytes of that chunk before the samples.
    """

    order: _Order
    first: int
    id_bytes: int
    size_bytes: int
    all: bool
    align: int
    samples: bytes
    before: int

    @property
    def head(self) -> int:
        return self.id_bytes + self.size_bytes


_WAV = _Form("little", 12, 4, 4, False, 2, b"data", 0)
_FORMS = {
    b"FORM8SVX": _Form("big", 12, 4, 4, False, 2, b"BODY", 0),
    b"FORM16SV": _Form("big", 12, 4, 4, False, 2, b"BODY", 0),
    b"RIFF": _WAV,
    b"RF64": _WAV,
    b"RIFX": _Form("big", 12, 4, 4, False, 2, b"data", 0),
    b"FORM": _Form("big", 12, 4, 4, False, 2, b"SSND", 8),
    b"caff": _Form("big", 8, 4, 8, False, 1, b"data", 4),
    b"riff": _Form(
        "little", 40, 16, 8, True, 8, b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0O\x8e\xdb\x8a", 0
    ),
}


def is_of_chunks(head: bytes) -> bool:
    """Whether a file that begins like this is one of these."""
    return _HEADS.match(head) is not None


def parts(file: Bytes, start: int, stop: int) -> list[Part]:
    """The files that lie in this one, each with a header that says its true length.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        First byte, and the one behind the last.

    Returns
    -------
    list of Part
        In the order of the file; `[WHOLE]` where it is to be decoded as it is.

    Raises
    ------
    AudioError
        Samples are missing, or behind the samples is something that may be samples.
    """
    found: list[Part] = []
    at = start
    while at < stop:
        if len(found) >= _MOST_FILES:
            raise AudioError(f"more than {_MOST_FILES:,} files joined in one")
        some, after = _next_parts(file, at, stop)
        found += some
        if (at, after) == (start, stop) and found == [Part(start, stop)]:
            return [WHOLE]
        at = after
    return found


@dataclass(frozen=True)
class _Samples:
    """Where a file's chunk of samples is, and what its header says.

    Attributes
    ----------
    at, place, begin : int
        First byte of the file, of the chunk's header, and of the samples.
    size : int
        As the chunk's header has it, or a 64-bit one that stands for it.
    tag : int
        Coding of a WAV file.
    long_sizes : int
        Where the sizes of 64 bits are (RF64); 0 where there are none.
    """

    magic: bytes
    form: _Form
    at: int
    place: int
    begin: int
    size: int
    tag: int
    long_sizes: int

    @property
    def promised(self) -> int:
        """Bytes of samples by the header."""
        return self.size - self.form.before - (self.form.head if self.form.all else 0)


def _next_parts(file: Bytes, at: int, stop: int) -> tuple[list[Part], int]:
    """The parts of the file that begins here, and where the next one does."""
    if file.at(at, 4) in (b".snd", b"dns."):
        return _sun(file, at, stop)
    samples = _samples(file, at, stop)
    if samples is None:
        return [Part(at, stop)], stop  # libsndfile says what is wrong
    form, begin = samples.form, samples.begin
    end, after = _end(file, begin, samples.promised, stop, form, at)
    if samples.tag in _MPEG and form.samples == b"data":
        return mpeg.parts(file, begin, min(end, stop)), after
    # Libsndfile takes the byte that makes a chunk's size even for one block more.
    is_gsm = samples.tag == _GSM[0] and form is _WAV
    n_frames = (end - begin) // _GSM[1] * _GSM[2] if is_gsm else None
    if end == begin + samples.promised:
        # Of some kinds libsndfile takes all that lies behind for samples, whatever the size says.
        open_ended = form.all or form.samples == b"BODY"
        last = end if open_ended and end > begin and after - end >= _ROUNDING else after
        return [Part(at, last, n_frames=n_frames)], after
    return [Part(begin, end, _header(file, samples, end), n_frames=n_frames)], after


def _samples(file: Bytes, at: int, stop: int) -> _Samples | None:
    """The chunk of samples of the file that begins here; None where there is none."""
    magic = file.at(at, 4)
    form = _FORMS.get(magic + file.at(at + 8, 4)) or _FORMS[magic]
    tag, long_sizes, place = 0, 0, at + form.first
    for _ in range(_MOST_CHUNKS):
        head = file.at(place, form.head)
        if place + form.head > stop or len(head) < form.head:
            return None
        name = head[: form.id_bytes]
        size = int.from_bytes(head[form.id_bytes :], form.order)
        if name == form.samples:
            break
        if name == b"fmt ":
            tag = int.from_bytes(file.at(place + form.head, 2), form.order)
        elif name == b"ds64":
            long_sizes = place + form.head
        n_bytes = size if form.all else size + form.head
        if n_bytes < form.head:
            return None
        place = _aligned(at, place + n_bytes, form.align)
    else:
        raise AudioError(f"more than {_MOST_CHUNKS:,} chunks before its samples")
    if magic == b"RF64" and long_sizes and size == 2**32 - 1:
        size = int.from_bytes(file.at(long_sizes + 8, 8), "little")
    begin = place + form.head + form.before
    return _Samples(magic, form, at, place, begin, size, tag, long_sizes)


def _header(file: Bytes, samples: _Samples, end: int) -> bytes:
    """The file's header with the true sizes of samples that end here."""
    form, at, begin = samples.form, samples.at, samples.begin
    if begin - at > _MOST_HEADER:
        raise AudioError(f"its length is unknown, and its header has {begin - at} bytes")
    new = bytearray(file.at(at, begin - at))

    def put(place: int, n: int, value: int) -> None:
        new[place - at : place - at + n] = min(value, 256**n - 1).to_bytes(n, form.order)

    n_bytes = end - begin + form.before + (form.head if form.all else 0)
    if form.first > 8:
        outer = (16, 8, end - at) if form.all else (4, 4, end - at - 8)
        put(at + outer[0], outer[1], outer[2])
    put(samples.place + form.id_bytes, form.size_bytes, n_bytes)
    if samples.magic == b"RF64" and samples.long_sizes:
        put(samples.place + form.id_bytes, 4, 2**32 - 1)
        put(samples.long_sizes, 8, end - at - 8)
        put(samples.long_sizes + 8, 8, n_bytes)
        put(samples.long_sizes + 16, 8, 0)
    elif end - at >= 2**32 and samples.magic == b"RIFF":
        # 32 bits cannot say it; the form of EBU Tech 3306 can.
        put(at + 4, 4, 2**32 - 1)
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, end - at + 28, n_bytes, 0, 0)
        new[:12] = b"RF64" + new[4:12] + sizes
    elif end - at >= 2**32 and form.size_bytes == 4:
        raise AudioError(
            "more than 4 GB, which its kind of file cannot say: make a FLAC file of it"
        )
    return bytes(new)


def _sun(file: Bytes, at: int, stop: int) -> tuple[list[Part], int]:
    order: _Order = "big" if file.at(at, 1) == b"." else "little"
    head = file.at(at, 12)
    begin = at + max(24, int.from_bytes(head[4:8], order))
    if len(head) < 12 or begin >= stop:
        return [Part(at, stop)], stop
    promised = int.from_bytes(head[8:12], order)
    end, after = _end(file, begin, promised, stop, None, at)
    if end == begin + promised:
        return [Part(at, after)], after
    counted = head[:8] + min(end - begin, 2**32 - 1).to_bytes(4, order)
    return [Part(at + 12, end, counted)], after


def _end(
    file: Bytes, begin: int, promised: int, stop: int, form: _Form | None, first: int
) -> tuple[int, int]:
    """Where samples end, and where the next file begins (or this one ends)."""
    there = stop - begin
    unknown = any(promised in numbers for numbers in _UNKNOWN)
    if 0 < promised <= there:
        after = _behind(file, begin + promised, stop, form, first)
        if after is not None:
            return begin + promised, after
        if not unknown:
            raise AudioError(
                f"its header promises {promised} bytes of samples, and behind them are "
                f"{there - promised} that are no chunk and may be samples, too: with sox "
                f"--ignore-length they are, else cut them off"
            )
    elif promised <= 0:
        after = _behind(file, begin, stop, form, first)
        head = file.at(begin, form.head if form else _ROUNDING)
        # Zeros may be silence, or filling: where no length was written, they are silence.
        if after == begin or (after is not None and (any(head) or there < _ROUNDING)):
            return begin + promised, after
    elif not unknown:
        raise AudioError(
            f"cut short: its header promises {promised} bytes of samples, {max(there, 0)} are there"
        )
    after = _next_file(file, first, begin, stop)
    return before_tags(file, begin, after), after


def _behind(file: Bytes, at: int, stop: int, form: _Form | None, first: int) -> int | None:
    """Where what lies behind samples ends: at the next file, or the end; None: nobody knows it."""
    places = [at]
    if form is not None and (aligned := _aligned(first, at, form.align)) != at:
        places = [aligned, at]  # the filling is forgotten by some
    for place in places:
        end = _walk(file, place, stop, form, first)
        if end is not None:
            return end
    return None


def _walk(file: Bytes, at: int, stop: int, form: _Form | None, first: int) -> int | None:
    for _ in range(_MOST_CHUNKS):
        if stop - at < _ROUNDING:
            return stop
        head = file.at(at, 32)
        if _HEADS.match(head):
            return at
        step = tag_bytes(file, at) or _zeros(file, at, stop)
        if not step:
            if form is None:
                return None
            name = head[: form.id_bytes]
            n_bytes = int.from_bytes(head[form.id_bytes : form.head], form.order)
            n_bytes += 0 if form.all else form.head
            if name == form.samples and n_bytes > form.head + form.before:
                raise AudioError("it has two chunks of samples: cut them apart")
            printable = all(32 <= byte < 127 for byte in name[:4])
            if not printable or n_bytes < form.head or name[:4] in _OTHERS:
                return None
            if at + n_bytes > stop and name[:4] not in _KNOWN:
                return None
            step = _aligned(first, at + n_bytes, form.align) - at
        at += step
    return None


def _zeros(file: Bytes, at: int, stop: int) -> int:
    """Zero bytes from here on, where there are as many as a chunk's header."""
    n = zeros(file, at, stop)
    return n if n >= _ROUNDING or at + n >= stop else 0


def _next_file(file: Bytes, first: int, at: int, stop: int) -> int:
    """Where another file of this kind begins in samples whose end nobody knows; else the end."""
    magic = file.at(first, 4)
    while at < stop:
        window = file.at(at, min(_WINDOW, stop - at))
        found = window.find(magic)
        while found >= 0:
            if _HEADS.match(window, found):
                return at + found
            found = window.find(magic, found + 1)
        if at + len(window) >= stop or len(window) < _HEAD_BYTES:
            break
        at += len(window) - _HEAD_BYTES
    return stop


def _aligned(first: int, at: int, align: int) -> int:
    return first + -(-(at - first) // align) * align
