"""Reading one layer of a store: `Store.read` beside `numpy.fromfile` over the same bytes.

Stores of several sizes are written by `features.stores.write.write_store`, a layer at a time, and
their first, middle and last layer read in three ways: `numpy.fromfile` (same offset and count of
the same file), `Store.read`, and `Store.read` with `check=True`, which compares every block with
its checksum and is what training does.

- `cold`: the file's pages are dropped from the page cache before each read (after fsync, by
  posix_fadvise); what the disk or the host beneath it caches is out of reach. How much then came
  from the disk, of the layer's bytes, is printed: more than all where the system reads ahead.
- `warm`: the layer was read just before.
- The ways take turns, each repeat in another order; every read gets fresh memory, and what it gives
  is dropped before the next. Ratios are those of the medians, rate by rate: 1 is as fast as
  fromfile.
- With `check=True` the bytes are also summed: `zlib.crc32` of one thread over the same layer in
  memory stands beside the table.

The exit code is 1 where a way gives other values than were written; a missed goal of speed is
printed and decides nothing.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.common import goal_verdict, machine, say, say_short
from features.stores.key import full_key
from features.stores.read import Store
from features.stores.write import write_store

ROWS, LAYERS, COLUMNS = (1_000, 10_000, 50_000), 25, 1024
SMALL_ROWS, SMALL_LAYERS = (500, 4_000), 5
GOAL = 0.8
"""Of fromfile's rate."""
WAYS = ("fromfile", "read", "check")
BLOCK_BYTES = 512
"""What getrusage counts in."""

Float32 = NDArray[np.float32]
Way = Callable[[int], Float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Write and read stores of every size, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=counts, metavar="N,N", help=f"default {_text(ROWS)}")
    parser.add_argument("--layers", type=int, help=f"default {LAYERS}")
    parser.add_argument("--columns", type=int, default=COLUMNS, help=f"default {COLUMNS}")
    parser.add_argument("--repeats", type=int, default=5, help="default 5")
    parser.add_argument("--folder", type=Path, help="where to write; default the system's own")
    parser.add_argument(
        "--small", action="store_true", help=f"{_text(SMALL_ROWS)} rows, {SMALL_LAYERS} layers"
    )
    args = parser.parse_args(argv)
    sizes = args.rows or (SMALL_ROWS if args.small else ROWS)
    n_layers = args.layers or (SMALL_LAYERS if args.small else LAYERS)
    print(f"{machine('h5py', 'numpy')} {args.columns:,} columns; medians of {args.repeats}.\n")
    if not hasattr(os, "posix_fadvise"):
        print("No posix_fadvise on this system: the page cache stays, only warm reads are timed.\n")
    print(
        "| rows x layers | layer | page cache | from the disk | fromfile GB/s | `Store.read` GB/s "
        "| ratio | with `check=True` GB/s | ratio |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    exact, ratios = True, []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for rows in sizes:
            path = Path(folder) / "made.h5"
            began = time.perf_counter()
            write(path, rows, n_layers, args.columns)
            took = time.perf_counter() - began
            say(f"{rows:,} x {n_layers}: {path.stat().st_size / 1e9:.2f} GB in {took:.1f} s")
            same, found = measure(path, rows, n_layers, args.columns, args.repeats)
            exact &= same
            ratios += found
            path.unlink()
    for name, values in zip(WAYS[1:], zip(*ratios, strict=True), strict=True):
        met = goal_verdict(min(values) >= GOAL, args.small)
        print(
            f"\n{name}: {min(values):.0%} to {max(values):.0%} of fromfile's rate, median "
            f"{statistics.median(values):.0%}; goal {GOAL:.0%} everywhere: {met}"
        )
    say_short(args.small)
    print(f"\nzlib.crc32, one thread: {crc_rate(args.columns):.2f} GB/s.")
    print(f"{'All ways give what was written.' if exact else 'OTHER VALUES THAN WERE WRITTEN.'}")
    return 0 if exact else 1


def counts(text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    return tuple(int(one) for one in text.split(","))


def _text(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def made(position: int, rows: int, columns: int) -> Float32:
    """The values of one layer, float32, shape (rows, columns)."""
    return np.random.default_rng(position).standard_normal((rows, columns), dtype=np.float32)


def write(path: Path, rows: int, n_layers: int, columns: int) -> None:
    """Write a store of made values; no more than a layer is in memory."""
    layers = list(range(n_layers))
    key = {
        "model": "made",
        "source": "made",
        "layers": layers,
        "n_layers": n_layers - 1,
        "statistics": ["mean"],
    }
    index = pd.DataFrame(
        {
            "utterance": [f"{i:08}" for i in range(rows)],
            "audio_hash": [f"{i:032x}" for i in range(rows)],
            "size": np.arange(rows),
            "mtime_ns": np.arange(rows),
        }
    )

    def matrix(statistic: str, position: int, start: int, stop: int) -> Float32:
        return made(position, rows, columns)[start:stop]

    write_store(
        path, full_key(key), index, layers, matrix,
        default=["mean"], columns={"mean": columns},
    )  # fmt: skip


def offset_of(path: Path, values: Float32) -> int:
    """Where in a file these values stand, in bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(values.tobytes())


def drop(path: Path) -> None:
    """Drop a file's pages from the page cache; only pages that are on the disk can be."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def measure(
    path: Path, rows: int, n_layers: int, columns: int, repeats: int
) -> tuple[bool, list[tuple[float, float]]]:
    """Print a line for each layer, cold and warm.

    Returns
    -------
    bool
        Whether all reads gave what was written.
    list of (float, float)
        Rates of `read` and `check` for 1 of fromfile.
    """
    n_bytes = 4 * rows * columns
    first = offset_of(path, made(0, rows, columns)[:1])
    exact, ratios = True, []
    with Store(path) as store:
        ways: dict[str, Way] = {
            "fromfile": lambda layer: np.fromfile(
                path, "<f4", rows * columns, offset=first + layer * n_bytes
            ).reshape(rows, columns),
            "read": lambda layer: store.read(layer, "mean"),
            "check": lambda layer: store.read(layer, "mean", check=True),
        }
        for layer in sorted({0, n_layers // 2, n_layers - 1}):
            expected = made(layer, rows, columns)
            for cold in (True, False) if hasattr(os, "posix_fadvise") else (False,):
                took: dict[str, list[float]] = {way: [] for way in WAYS}
                from_disk: dict[str, list[float]] = {way: [] for way in WAYS}
                for repeat in range(repeats):
                    shift = repeat % len(WAYS)
                    for way in (*WAYS[shift:], *WAYS[:shift]):
                        if cold:
                            drop(path)
                        elif not repeat:
                            ways[way](layer)
                        before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
                        began = time.perf_counter()
                        values = ways[way](layer)
                        took[way].append(time.perf_counter() - began)
                        after = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
                        from_disk[way].append((after - before) * BLOCK_BYTES / n_bytes)
                        if not np.array_equal(values, expected):
                            exact = False
                            say(f"{rows:,} x {n_layers}, layer {layer}: {way} gives other values")
                        del values
                rate = {way: n_bytes / 1e9 / statistics.median(one) for way, one in took.items()}
                share = [statistics.median(one) for one in from_disk.values()]
                ratios.append((rate["read"] / rate["fromfile"], rate["check"] / rate["fromfile"]))
                print(
                    f"| {rows:,} x {n_layers} | {layer} | {'cold' if cold else 'warm'} "
                    f"| {min(share):.0%} to {max(share):.0%} | {rate['fromfile']:.2f} "
                    f"| {rate['read']:.2f} | {ratios[-1][0]:.2f} "
                    f"| {rate['check']:.2f} | {ratios[-1][1]:.2f} |",
                    flush=True,
                )
    return exact, ratios


def crc_rate(columns: int) -> float:
    """GB/s of one thread over the blocks of a layer of 64 MB in memory, median of 5."""
    content = made(0, 16_000_000 // columns, columns)
    block, took = 64, []
    for _ in range(5):
        began = time.perf_counter()
        for first in range(0, len(content), block):
            zlib.crc32(content[first : first + block].data)
        took.append(time.perf_counter() - began)
    return content.nbytes / 1e9 / statistics.median(took)


if __name__ == "__main__":
    raise SystemExit(main())
