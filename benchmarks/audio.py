"""Decoding and resampling to 16 kHz: files a second, beside `librosa.load(sr=16000)`.

Files of speech-like noise, 16 bit, mono, at 16, 44.1 and 48 kHz as WAV, FLAC, OGG and MP3 (what
soundfile can write here) go through

- `librosa`: `librosa.load(path, sr=16000)`, whose resampler is soxr's HQ by default;
- `load`: `extract.audio.load`, file by file in this process;
- `ahead 1`, `ahead 2`: `extract.job.ahead.load_ahead` with one and two worker processes, in batches
  of eight. A first round over the files is not timed: the start of processes is paid once an
  extraction. This process takes the audio and does nothing with it.

The ways take turns, each repeat in another order; rates are medians. Without librosa the others are
measured alone, and compared with soundfile and soxr called directly.

Where the number of samples at 16 kHz is no whole one, librosa rounds it up and appends a zero if
soxr gives one sample less; that zero is not compared.

The exit code is 1 where a sample of any way differs by more than 1e-6 from librosa's (from soxr's
where there is no librosa), or samples are missing; speed decides nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from benchmarks.common import machine, speechlike
from extract.audio import SAMPLING_RATE_HZ, Clip, load
from extract.job.ahead import load_ahead

KINDS = [(one, rate) for one in ("WAV", "FLAC", "OGG", "MP3") for rate in (16_000, 44_100, 48_000)]
SMALL_KINDS = [("WAV", 44_100), ("FLAC", 48_000), ("MP3", 16_000)]
SHORTEST_S, LONGEST_S = 1.2, 6.0
BATCH = 8
TOLERANCE = 1e-6
WORKERS = (1, 2)
ROUNDS = 4
"""Of the files through workers, timed together: one is over in hundredths of a second."""
HOW = "python -m pip install -c constraints.txt librosa"

Audio = NDArray[np.float32]
Way = Callable[[Sequence[Clip]], tuple[float, list[Audio]]]
"""Clips -> seconds by the clock, and their audio."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every format and rate, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--files", type=int, default=96, help="of each kind; default 96")
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument(
        "--small", action="store_true", help="three kinds, 16 files each, one repeat"
    )
    args = parser.parse_args(argv)
    n_files, repeats = (16, 1) if args.small else (args.files, args.repeats)
    peer = importlib.util.find_spec("librosa") is not None
    packages = ["soundfile", "soxr", "numpy"] + ["librosa"] * peer
    print(f"{machine(*packages)} {sf.__libsndfile_version__} is libsndfile's version.")
    if not peer:
        print(f"librosa is not installed: the rest is measured without it; `{HOW}` gets it.")
    reference = "librosa" if peer else "soxr"
    ours = ["load", *(f"ahead {one}" for one in WORKERS)]
    print(
        f"{n_files} files of each kind, {SHORTEST_S} to {LONGEST_S} s; files a second, medians of "
        f"{repeats}; beside them how many times as fast as {reference}.\n\n"
        f"| kind | {reference} | {' | '.join(ours)} | largest difference |\n"
        f"|---|{'---|' * (len(ours) + 2)}",
        flush=True,
    )
    exact = True
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Way] = {reference: librosa_way() if peer else soxr_way, "load": load_way}
        ways |= {f"ahead {one}": ahead_way(one) for one in WORKERS}
        for kind, rate_hz in SMALL_KINDS if args.small else KINDS:
            title = f"{kind}, {rate_hz / 1000:g} kHz"
            if kind not in sf.available_formats():
                print(f"| {title} | libsndfile cannot write it here |{' |' * (len(ours) + 1)}")
                continue
            clips = make_audio(Path(folder), kind, rate_hz, n_files)
            exact &= measure(title, clips, ways, repeats)
    verdict = "All ways give" if exact else "NOT ALL WAYS GIVE"
    print(f"\n{verdict} samples within {TOLERANCE:g} of {reference}'s.")
    return 0 if exact else 1


def make_audio(folder: Path, kind: str, rate_hz: int, n_files: int) -> list[Clip]:
    """Write files of one kind; the same speech for every kind."""
    rng = np.random.default_rng(0)
    clips = []
    for number in range(n_files):
        samples = speechlike(rng, round(rng.uniform(SHORTEST_S, LONGEST_S) * rate_hz), rate_hz)
        clip = Clip(f"{number:05}", str(folder / f"{rate_hz}-{number:05}.{kind.lower()}"))
        sf.write(clip.path, samples, rate_hz, format=kind)
        clips.append(clip)
    return clips


def librosa_way() -> Way:
    """The peer; its import and the first call, which compiles, are not timed."""
    import librosa

    return one_by_one(lambda clip: librosa.load(clip.path, sr=SAMPLING_RATE_HZ)[0])


def soxr_way(clips: Sequence[Clip]) -> tuple[float, list[Audio]]:
    """What stands for the peer where it is not installed."""

    def decode(clip: Clip) -> Audio:
        samples, rate_hz = sf.read(clip.path, dtype="float32")
        return soxr.resample(samples, rate_hz, SAMPLING_RATE_HZ, quality="HQ")

    return one_by_one(decode)(clips)


def load_way(clips: Sequence[Clip]) -> tuple[float, list[Audio]]:
    """The project's own, file by file."""
    return one_by_one(load)(clips)


def one_by_one(decode: Callable[[Clip], Audio]) -> Way:
    """Time a function that takes a clip."""

    def way(clips: Sequence[Clip]) -> tuple[float, list[Audio]]:
        began = time.perf_counter()
        audio = [decode(clip) for clip in clips]
        return time.perf_counter() - began, audio

    return way


def ahead_way(workers: int) -> Way:
    """The project's own, in worker processes, once these are at work."""

    def way(clips: Sequence[Clip]) -> tuple[float, list[Audio]]:
        batches = [clips[first : first + BATCH] for first in range(0, len(clips), BATCH)]
        rounds = [batches] * (1 + ROUNDS)
        every = [batch for one in rounds for batch in one]
        loaded = load_ahead(every, min_samples=1, feature_set=None, workers=workers)
        results = [one for _ in batches for one in next(loaded)]
        began = time.perf_counter()
        for _ in loaded:
            pass
        elapsed_s = (time.perf_counter() - began) / ROUNDS
        return elapsed_s, [one for one in results if isinstance(one, np.ndarray)]

    return way


def measure(kind: str, clips: Sequence[Clip], ways: dict[str, Way], repeats: int) -> bool:
    """Print one line of the table; whether all ways give the first one's samples."""
    names = list(ways)
    ways[names[0]](clips[:1])  # what is compiled or loaded once, is now
    took: dict[str, list[float]] = {name: [] for name in names}
    audio: dict[str, list[Audio]] = {}
    for repeat in range(repeats):
        shift = repeat % len(names)
        for name in (*names[shift:], *names[:shift]):
            elapsed_s, audio[name] = ways[name](clips)
            took[name].append(elapsed_s)
    expected = audio[names[0]]
    apart = max(difference(audio[name], expected) for name in names[1:])
    median = {name: statistics.median(one) for name, one in took.items()}
    reference = median[names[0]]
    rates = [f"{len(clips) / reference:,.0f}"] + [
        f"{len(clips) / median[name]:,.0f} = {reference / median[name]:.2f}x" for name in names[1:]
    ]
    print(f"| {kind} | {' | '.join(rates)} | {apart:.1g} |", flush=True)
    return apart <= TOLERANCE


def difference(found: Sequence[Audio], expected: Sequence[Audio]) -> float:
    """Largest of a sample; infinite where a file is missing, or more than librosa's zero."""
    if len(found) != len(expected):
        return float("inf")
    largest = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        rest = theirs[len(ours) :]
        if len(ours) > len(theirs) or len(rest) > 1 or rest.any():
            return float("inf")
        largest = max(largest, float(np.abs(ours - theirs[: len(ours)]).max()))
    return largest


if __name__ == "__main__":
    raise SystemExit(main())
