"""What the samples of an audio file are: decoded to their end, or a reason why not.

Conventions
-----------
- Decoding is soundfile's (whatever libsndfile reads: WAV, FLAC, Ogg, MP3, ...) and, of the sound of
  `.avi` videos, PyAV's (extra `video`); channels are averaged, the rate stays.
- What cannot be used raises `AudioError` with the reason; nothing is replaced by zeros.
- A header is a claim, in both directions: memory is taken for what is decoded, not for what a
  header promises; what lies behind a promised end is decoded, too, or refused by name.
- `start` and `end` are seconds into the file; NaN means its beginning or end.

Worker processes import this module: it imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from features.audio.containers import parts_of
from features.audio.containers.parts import WHOLE, Part, Seen, View
from features.audio.containers.video import OPEN_ENDED, is_video, reason, sound_of_video
from features.common.errors import AudioError
from features.common.files import Stamp, stamp_of

DECODER = 2
"""Version of the decoding: raised when a file's samples come to be others than before.

1. The number of frames that libsndfile claims for the file, all of them.
2. Decoded to the end: files whose header claims less than is there, or a length that nobody knew
   when it was written, and formats that cannot be sought in; segments of MP3 and Opus with what
   their coding remembers of the samples before them.

A file has the lowest version that gives its samples (`Heard.decoder`).
"""

RATES_HZ = (4_000, 768_000)
"""Lowest and highest rate that is taken for one: below is no speech, above no recorder."""
MAX_SECONDS = 4 * 3600.0
"""Longest clip. Whoever has longer recordings means segments of them."""

OPUS_WHOLE_S = 600.0
"""A segment of Opus that begins up to here is decoded from the file's beginning: its coder
remembers without end. A later one may differ from the whole by some 1e-3 of full scale."""
_WARM_UP_S = {"OPUS": 3.0, "MPEG_LAYER_I": 1.0, "MPEG_LAYER_II": 1.0, "MPEG_LAYER_III": 1.0}
"""What is decoded before a segment: an MP3 frame borrows bits of those before it. After a second
its samples are those of the whole file but for the last bit of float32."""
_COLD = ("MP3", "OGG/OPUS")
"""Containers whose segments were formerly decoded without."""
_KINDS = frozenset(
    ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "SVX", "NIST", "FLAC", "OGG", "MP3")
)
"""Formats whose ends are looked for (`features.audio.containers`); others are refused."""
_CONVERT = "ffmpeg -i FILE NEW.wav"
_UNKNOWN = (1, 18)
"""Libsndfile's errors for a format that it does not know, or not in this form."""
_BLOCK = 1 << 20
"""Values (frames x channels) that are decoded at once."""
_PROMISED = re.compile(r"^ *(?:data|SSND|Data Size) +: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile reports a WAV, AIFF or AU file whose samples end before its header says so."""
_FAULTS = (sf.SoundFileError, OSError, ValueError, TypeError, MemoryError)

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


@dataclass(frozen=True)
class Span:
    """A stretch of a file as it was heard.

    Attributes
    ----------
    seconds : float
    samples_hash : str
        As `Heard.recording_hash`, of these samples alone.
    silent : bool
        Whether all samples are the same once the channels are averaged: zero, or what a coding
        makes of it.
    decoder : int
        As `Heard.decoder`, of this stretch: one of MP3 or Opus that begins later than its file was
        formerly decoded without what its coding remembers of the samples before it.
    """

    seconds: float
    samples_hash: str
    silent: bool
    decoder: int = 1


@dataclass(frozen=True)
class Heard:
    """A file that was decoded to its end.

    Attributes
    ----------
    rate_hz : int
    n_frames : int
        As decoded, whatever the header claims.
    container : str
        Such as `WAV/PCM_16`, `MP3`, `OGG/OPUS`.
    decoder : int
        1 where the samples are those that libsndfile gives by the header's claim alone, else the
        version of the decoding (`DECODER`) that first gave them.
    recording_hash : str
        BLAKE2b-128, in hexadecimal, of the rate as text, a line feed, and the mono samples as
        little-endian float32 (no negative zeros): a WAV file and its FLAC copy have the same.
    spans : tuple of Span or AudioError
        One for each that was asked for; an error where that one cannot be used.
    """

    rate_hz: int
    n_frames: int
    container: str
    decoder: int
    recording_hash: str
    spans: tuple[Span | AudioError, ...]


def seconds(clip: Clip) -> float:
    """Length of a clip, in seconds, without decoding more than its length takes.

    Raises
    ------
    AudioError
        The file is missing, its header cannot be read, or it is a video and there is no PyAV.
    """
    sound = _sound(clip.path)
    start, stop = _bounds(clip.start, clip.end, sound.rate_hz, sound.n_frames)
    return (stop - start) / sound.rate_hz


def decode(clip: Clip) -> tuple[Audio, int]:
    """Decode a clip and average its channels.

    Parameters
    ----------
    clip : Clip
        Start and end in seconds; NaN is the file's own.

    Returns
    -------
    mono : float32, shape (n_frames,)
        Whatever it holds: NaN and infinity are not looked for.
    rate_hz : int

    Raises
    ------
    AudioError
        Unreadable, empty, cut short, or a segment that is not inside the file.
    """
    if is_video(clip.path):
        # Its length is not known before it is decoded: once is enough.
        _stamp(clip.path)
        heard = list(_of_video(clip.path))
        mono, rate = np.concatenate([block for _, _, block in heard]), heard[0][0]
        start, stop = _bounds(clip.start, clip.end, rate, len(mono))
        return mono[start:stop], rate
    sound = _sound(clip.path)
    start, stop = _bounds(clip.start, clip.end, sound.rate_hz, sound.n_frames)
    blocks = list(_blocks(clip.path, sound, start, stop))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), sound.rate_hz


def listen(path: str, spans: Sequence[tuple[float, float]]) -> Heard:
    """Decode a file once, from its beginning to its end, in bounded memory.

    Parameters
    ----------
    path : str
    spans : sequence of (start, end)
        Seconds, NaN for the file's beginning or end; they may overlap.

    Returns
    -------
    Heard

    Raises
    ------
    AudioError
        The file as a whole cannot be decoded. What is wrong with a span alone (outside the file,
        empty, too long, samples that are NaN or infinite) is returned in its place.

    Examples
    --------
    >>> import math, tempfile, numpy as np, soundfile as sf
    >>> name = tempfile.mkdtemp() + "/a.wav"
    >>> sf.write(name, np.zeros(8000), 16000)
    >>> heard = listen(name, [(math.nan, math.nan), (0.1, 9.0)])
    >>> heard.container, heard.decoder, heard.spans[0].seconds, heard.spans[0].silent
    ('WAV/PCM_16', 1, 0.5, True)
    >>> heard.recording_hash == heard.spans[0].samples_hash
    True
    >>> heard.spans[1]
    AudioError("segment 0.1-9 s is not inside the file's 0.5 s")
    """
    sound = _sound(path)
    bounds = (0, sound.n_frames)
    running = {bounds: _Running(sound.rate_hz, *bounds)}
    asked: list[tuple[int, int] | AudioError] = []
    for start, end in spans:
        try:
            asked.append(span := _bounds(start, end, sound.rate_hz, sound.n_frames))
            running.setdefault(span, _Running(sound.rate_hz, *span))
        except AudioError as error:
            asked.append(error)
    at = 0
    for block in _blocks(path, sound, 0, sound.n_frames):
        for heard in running.values():
            heard.hear(block, at)
        at += len(block)
    recording_hash = running[bounds].digest.hexdigest()
    decoder = _decoder(path, sound, recording_hash)
    found: list[Span | AudioError] = []
    for place in asked:
        if isinstance(place, AudioError):
            found.append(place)
            continue
        cold = place[0] > 0 and sound.container.startswith(_COLD)
        found.append(running[place].heard(DECODER if cold else decoder))
    return Heard(
        sound.rate_hz, sound.n_frames, sound.container, decoder, recording_hash, tuple(found)
    )


def _bounds(start_s: float, end_s: float, rate: int, n_frames: int) -> tuple[int, int]:
    """First and last frame of a span; one that leaves the file is refused, not cut."""

    def frame(seconds: float) -> int:
        # Far outside is outside: infinity has no frame.
        return round(min(max(seconds * rate, -1.0), n_frames + rate))

    start = 0 if math.isnan(start_s) else frame(start_s)
    stop = n_frames if math.isnan(end_s) else frame(end_s)
    # A segment table rounds to milliseconds: one more at the end of the file is no fault.
    if stop > n_frames and stop - n_frames <= math.ceil(rate / 1000):
        stop = n_frames
    if start < 0 or stop > n_frames:
        raise AudioError(
            f"segment {start_s:g}-{end_s:g} s is not inside the file's {n_frames / rate:g} s"
        )
    if stop <= start:
        raise AudioError("empty: no samples")
    if stop - start > MAX_SECONDS * rate:
        raise AudioError(
            f"{(stop - start) / rate:,.0f} s long by its header; an utterance has at most "
            f"{MAX_SECONDS:,.0f} s: list segments of it"
        )
    return start, stop


class _Running:
    """What is known of frames `start` to `stop` as far as they were heard."""

    def __init__(self, rate_hz: int, start: int, stop: int) -> None:
        self.rate_hz, self.start, self.stop = rate_hz, start, stop
        self.digest = hashlib.blake2b(f"{rate_hz}\n".encode(), digest_size=16)
        self.silent, self.n_not_finite = True, 0
        self.level: float | None = None

    def hear(self, block: Audio, at: int) -> None:
        """Take what concerns it of a block that begins at frame `at`."""
        mine = block[max(0, self.start - at) : max(0, self.stop - at)]
        if len(mine):
            self.n_not_finite += len(mine) - int(np.isfinite(mine).sum())
            self.level = float(mine[0]) if self.level is None else self.level
            self.silent = self.silent and bool((mine == self.level).all())
            # Adding zero makes negative zeros positive ones.
            self.digest.update((mine + np.float32(0)).astype("<f4").data)

    def heard(self, decoder: int) -> Span | AudioError:
        """The record, once all was heard."""
        if self.n_not_finite:
            return not_finite(self.n_not_finite)
        length_s = (self.stop - self.start) / self.rate_hz
        return Span(length_s, self.digest.hexdigest(), self.silent, decoder)


def not_finite(n_samples: int) -> AudioError:
    """What is said of samples that are no numbers."""
    return AudioError(f"{n_samples} samples are NaN or infinite")


@dataclass(frozen=True)
class _Sound:
    """A file's sound: its parts, and how many frames each has."""

    rate_hz: int
    container: str
    parts: tuple[tuple[Part, int], ...]

    @property
    def n_frames(self) -> int:
        return sum(n for _, n in self.parts)


def _sound(path: str) -> _Sound:
    """Look at a file as far as its length takes.

    Raises
    ------
    AudioError
    """
    try:
        return _look(path, _stamp(path))
    except _FAULTS as error:
        unknown = isinstance(error, sf.LibsndfileError) and error.code in _UNKNOWN
        way_out = f" (where it is sound, {_CONVERT} converts it)" if unknown else ""
        raise AudioError(f"cannot be read as audio: {reason(error)}{way_out}") from None


def _stamp(path: str) -> Stamp:
    """What changes when somebody writes to a file.

    Raises
    ------
    AudioError
        There is no file, or nothing in it.
    """
    try:
        # Not opened before: what is no plain file (a pipe) may never answer.
        if not Path(path).is_file():
            raise AudioError("no such file")
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be read as audio: {reason(error)}") from None
    if status.st_size == 0:
        raise AudioError("empty: the file has no bytes")
    return stamp_of(status)


def _of_video(path: str) -> Iterator[tuple[int, str, Audio]]:
    """Rate, coding and next block of a video's sound; refused where it is none or too long."""
    n_frames = 0
    for rate, codec, block in sound_of_video(path):
        n_frames += len(block)
        if n_frames > MAX_SECONDS * _usual_rate(rate):
            raise AudioError(
                f"longer than {MAX_SECONDS:,.0f} s, which an utterance has at most: cut it"
            )
        yield rate, codec, block
    if not n_frames:
        raise AudioError("empty: no samples")


@functools.lru_cache(maxsize=10_000)
def _look(path: str, stamp: Stamp) -> _Sound:
    """Remember what the files are: every segment asks, and some kinds are read through for it."""
    if is_video(path):
        rate, codec, n_frames = 0, "", 0
        for rate_hz, coding, block in _of_video(path):
            rate, codec, n_frames = rate_hz, coding, n_frames + len(block)
        return _Sound(rate, f"AVI/{codec}", ((WHOLE, n_frames),))
    found = []
    rates, containers = [], []
    for part in parts_of(path, lambda: _seen(path)):
        with _opened(path, part) as file:
            if file.format not in _KINDS:
                raise AudioError(
                    f"{file.format} files do not tell where they end: convert it, {_CONVERT} or "
                    "sox FILE NEW.wav"
                )
            _refuse_cut(file.extra_info)
            rates.append(_usual_rate(int(file.samplerate)))
            containers.append(_container(file))
            n_frames = int(file.frames) if part.n_frames is None else part.n_frames
            if n_frames > file.frames:
                raise AudioError(f"its header promises {file.frames} frames, {n_frames} are there")
            found.append((part, n_frames))
    for rate in rates:
        if rate != rates[0]:
            raise AudioError(f"recordings of {rates[0]} and {rate} Hz joined in one: part them")
    return _Sound(rates[0], containers[0], tuple(found))


def _container(file: sf.SoundFile) -> str:
    return "MP3" if file.subtype == "MPEG_LAYER_III" else f"{file.format}/{file.subtype}"


def _seen(path: str) -> Seen | None:
    """What libsndfile sees in a file as it is; None where it does not know it."""
    try:
        with sf.SoundFile(path) as file:
            return Seen(file.format, int(file.frames))
    except (sf.SoundFileError, TypeError):
        return None


def _usual_rate(rate: int) -> int:
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise AudioError(f"sampling rate {rate} Hz; expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    return rate


def _refuse_cut(log: str) -> None:
    promised = _PROMISED.search(log)
    if promised and int(promised[2]) < int(promised[1]) < OPEN_ENDED:
        raise AudioError(
            f"cut short: its header promises {promised[1]} bytes of samples, {promised[2]} are "
            f"there"
        )


@contextlib.contextmanager
def _opened(path: str, part: Part) -> Iterator[sf.SoundFile]:
    """One part, as libsndfile sees it."""
    if part == WHOLE:
        with sf.SoundFile(path) as file:
            yield file
        return
    with View(path, part) as view:
        with sf.SoundFile(view) as file:
            yield file
        if view.error is not None:
            raise view.error


def _blocks(path: str, sound: _Sound, start: int, stop: int) -> Iterator[Audio]:
    """Frames `start` to `stop`, channels averaged, block by block.

    Yields
    ------
    float32, shape (n_frames,)

    Raises
    ------
    AudioError
        They cannot be decoded, or are not there.
    """
    if is_video(path):
        at = 0
        for _, _, block in sound_of_video(path):
            if (mine := block[max(0, start - at) : max(0, stop - at)]).size:
                yield mine
            at += len(block)
        return
    first = 0
    try:
        for part, n_frames in sound.parts:
            begin, end = max(start - first, 0), min(stop - first, n_frames)
            if begin < end:
                with _opened(path, part) as file:
                    yield from _frames(file, begin, end)
            first += n_frames
    except _FAULTS as error:
        raise AudioError(f"cannot be decoded: {reason(error)}") from None


def _warm_up(file: sf.SoundFile, start: int) -> int:
    """Frames that are decoded before `start` and passed over, for what the coding remembers."""
    if file.subtype == "OPUS" and start <= OPUS_WHOLE_S * file.samplerate:
        return start
    return round(_WARM_UP_S.get(file.subtype, 0.0) * file.samplerate)


def _frames(file: sf.SoundFile, start: int, stop: int) -> Iterator[Audio]:
    at_once = max(1, _BLOCK // file.channels)
    skip = start
    if file.seekable():
        skip = min(start, _warm_up(file, start))
        file.seek(start - skip)  # to 0, too: MP3 comes out otherwise in its last bit
    at = start - skip
    while at < stop:
        asked = min(at_once, stop - at)
        block = file.read(asked, dtype="float32", always_2d=True)
        at += len(block)
        if len(block) < asked:
            # Asked again, libsndfile gives the last frames of a damaged Ogg file once more.
            raise AudioError(
                f"cut short or damaged: it promises {stop - at} frames more than can be decoded"
            )
        block = block[max(0, len(block) - max(0, at - start)) :]
        if len(block):
            with np.errstate(over="ignore", invalid="ignore"):
                yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


def _decoder(path: str, sound: _Sound, recording_hash: str) -> int:
    """The lowest version of the decoding that gives what was heard."""
    if is_video(path):
        return 1
    if len(sound.parts) > 1:
        return DECODER
    try:
        with sf.SoundFile(path) as file:
            _refuse_cut(file.extra_info)
            claimed, seekable = int(file.frames), file.seekable()
    except (*_FAULTS, AudioError):
        return DECODER
    if not seekable or claimed != sound.n_frames:
        return DECODER
    if sound.parts[0][0] == WHOLE:
        return 1
    formerly = _Running(sound.rate_hz, 0, claimed)
    at = 0
    try:
        for block in _blocks(path, _Sound(sound.rate_hz, "", ((WHOLE, claimed),)), 0, claimed):
            formerly.hear(block, at)
            at += len(block)
    except AudioError:
        return DECODER
    return 1 if formerly.digest.hexdigest() == recording_hash else DECODER
