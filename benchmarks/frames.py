"""Frames as padded batches: one file that is mapped, beside an `.npy` an utterance.

Frames of made-up utterances, whose lengths are as IEMOCAP's (log-normal, 4.5 s in the mean, at most
34 s, 50 frames a second), are written in two ways, and read in batches of 32 for several epochs:

- `serfuse`: one file (`features.stores.write.write_frames`), read by `features.sequences`: batches
  of pools of 64 that are sorted by length;
- `npy`: an `.npy` an utterance, of the same type (EmoBox's way), read by `numpy.load`, batches in
  an order drawn at random, padded with zeros.

Both pad to the longest of a batch, in float32. Rates are bytes of stored frames a second of the
process's CPU time, warm: the files were read just before. The ways take turns. Padding is padded
frames over frames. `check` is what opening costs: every block compared with its checksum, once.

The exit code is 1 where a way gives other values than were written.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.common import machine, say, say_short, spread
from features.sequences import Padded, load_frames, plan_batches
from features.stores.frames import FrameStore
from features.stores.key import frames_path, full_key
from features.stores.write import write_frames
from features.utterances import Table, columns_of, write_table

UTTERANCES, SMALL_UTTERANCES = 5_531, 150
COLUMNS, BATCH, HZ = 1024, 32, 50
MEAN_S, SIGMA, MOST_S, LEAST_S = 4.5, 0.62, 34.0, 0.6


def main(argv: Sequence[str] | None = None) -> int:
    """Write and read the same frames in two ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--utterances", type=int, help=f"default {UTTERANCES:,}")
    parser.add_argument("--columns", type=int, default=COLUMNS, help=f"default {COLUMNS}")
    parser.add_argument("--repeats", type=int, default=3, help="default 3")
    parser.add_argument("--folder", type=Path, help="where to write; default the system's own")
    parser.add_argument("--small", action="store_true", help=f"{SMALL_UTTERANCES} utterances")
    args = parser.parse_args(argv)
    n = args.utterances or (SMALL_UTTERANCES if args.small else UTTERANCES)
    lengths = made_lengths(n)
    n_bytes = int(lengths.sum()) * args.columns * 2
    print(f"{machine('h5py', 'numpy')} {n:,} utterances, {lengths.sum():,} frames x "
          f"{args.columns:,} columns, float16, {n_bytes / 1e9:.2f} GB; medians of "
          f"{args.repeats}.\n")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        same = measure(Path(folder), lengths, args.columns, args.repeats)
    say_short(args.small)
    print(f"\n{'Both ways give what was written.' if same else 'OTHER VALUES THAN WERE WRITTEN.'}")
    return 0 if same else 1


def made_lengths(n: int) -> NDArray[np.int64]:
    """Frames of each utterance, int64, shape (n,)."""
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(np.log(MEAN_S) - SIGMA**2 / 2, SIGMA, n).clip(LEAST_S, MOST_S)
    return (seconds * HZ).astype(np.int64)


def frames_of(row: int, n: int, columns: int) -> NDArray[np.float16]:
    """The frames of one utterance; a cheap pattern that says whose they are."""
    start = (np.arange(n, dtype=np.int64)[:, None] * 7 + np.arange(columns) + row * 13) % 2_039
    return (start - 1_000).astype(np.float16)


def measure(folder: Path, lengths: NDArray[np.int64], columns: int, repeats: int) -> bool:
    """Write and read; print the table; whether all values are right."""
    each = [frames_of(row, int(n), columns) for row, n in enumerate(lengths)]
    n_bytes = sum(one.nbytes for one in each)
    stores = folder / "stores"
    writing: dict[str, list[tuple[float, float]]] = {"serfuse": [], "npy": []}
    for _ in range(repeats):
        writing["serfuse"].append(clocked(lambda: write_ours(stores, each)))
        writing["npy"].append(clocked(lambda: write_npy(folder / "npy", each)))
        say(f"written: {writing['serfuse'][-1]}, {writing['npy'][-1]}")
    sequences = load_frames(stores, "made", "made", check=False)
    reading: dict[str, list[float]] = {"serfuse": [], "npy": []}
    padding: dict[str, float] = {}
    ways: dict[str, Callable[[int], Iterator[Padded]]] = {
        "serfuse": lambda epoch: sequences.batches(BATCH, seed=0, epoch=epoch),
        "npy": lambda epoch: npy_batches(folder / "npy", len(each), columns, epoch),
    }
    same = True
    for epoch in range(repeats + 1):
        for way, batches in ways.items():
            began, padded = time.process_time(), 0
            for batch in batches(epoch):
                padded += batch.X.shape[0] * batch.X.shape[1]
                if epoch == 0:  # the cold one is compared, and not timed
                    same &= right(batch, each)
            if epoch:
                reading[way].append(time.process_time() - began)
                padding[way] = padded / int(lengths.sum())
    checking = []
    for _ in range(repeats):
        with FrameStore(frames_path(stores, "made", "made")) as store:
            checking.append(clocked(lambda store=store: store.check(0))[1])  # type: ignore[misc]
    print("| way | write: CPU s | write: s by the clock | read: GB a CPU second | utterances a CPU "
          "second | padding |\n|---|---|---|---|---|---|")  # fmt: skip
    for way, times in reading.items():
        cpu, clock = zip(*writing[way], strict=True)
        rates = [n_bytes / 1e9 / took for took in times]
        print(f"| {way} | {spread(cpu)} | {spread(clock)} | {spread(rates)} "
              f"| {len(each) / statistics.median(times):,.0f} | {padding[way]:.2f}x |")  # fmt: skip
    random = sum(
        int(lengths[batch].max()) * len(batch)
        for batch in plan_batches(lengths, BATCH, seed=0, epoch=1)
    )
    print(
        f"\ncheck: {n_bytes / 1e9 / statistics.median(checking):.2f} GB a second by the clock. "
        f"Batches of the plan alone: {random / int(lengths.sum()):.3f}x padded."
    )
    return same


def clocked(function: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of this process, and seconds by the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - clock


def write_ours(stores: Path, each: Sequence[NDArray[np.float16]]) -> None:
    """One file, and the table that it is found by."""
    ids = [f"u{row:06}" for row in range(len(each))]
    table = pd.DataFrame("", index=range(len(ids)), columns=columns_of({}, ())).astype(object)
    table["corpus"], table["utterance"] = "made", ids
    for column in ("start", "end", "seconds"):
        table[column] = np.nan
    write_table(stores / "made", Table(table, {}, ()))
    index = pd.DataFrame({"utterance": ids, "audio_hash": "00" * 16, "size": 1, "mtime_ns": 1})
    key = full_key({"model": "made", "source": "made", "layers": [0], "n_layers": 0,
                    "precision": "float32", "kind": "frames", "dtype": "float16"})  # fmt: skip
    offsets = np.append(0, np.cumsum([len(one) for one in each]))

    def frames(position: int, start: int, stop: int) -> NDArray[np.float16]:
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        last = int(np.searchsorted(offsets, stop, side="left"))
        skipped = start - int(offsets[first])
        return np.concatenate(each[first:last])[skipped : skipped + stop - start]

    write_frames(
        frames_path(stores, "made", "made"), key, index, offsets, [0], frames,
        width=each[0].shape[1],
    )  # fmt: skip


def write_npy(folder: Path, each: Sequence[NDArray[np.float16]]) -> None:
    """A file an utterance."""
    folder.mkdir(exist_ok=True)
    for row, frames in enumerate(each):
        np.save(folder / f"u{row:06}.npy", frames)


def npy_batches(folder: Path, n: int, columns: int, epoch: int) -> Iterator[Padded]:
    """Batches in an order drawn at random, a file an utterance."""
    order = np.random.default_rng([0, epoch]).permutation(n)
    for first in range(0, n, BATCH):
        rows = order[first : first + BATCH]
        frames = [np.load(folder / f"u{row:06}.npy") for row in rows]
        lengths = np.array([len(one) for one in frames])
        X = np.zeros((len(rows), int(lengths.max()), columns), np.float32)
        for values, one in zip(X, frames, strict=True):
            values[: len(one)] = one
        yield Padded(rows, X, lengths)


def right(batch: Padded, each: Sequence[NDArray[np.float16]]) -> bool:
    """Whether a batch has the frames that were written, and zeros behind them."""
    return all(
        np.array_equal(values[:n], each[row]) and not values[n:].any()
        for row, values, n in zip(batch.rows, batch.X, batch.lengths, strict=True)
    )


if __name__ == "__main__":
    raise SystemExit(main())
